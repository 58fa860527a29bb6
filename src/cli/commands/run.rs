//! `run`: runs all configured sources in parallel, until nothing is left to do.

use std::path::Path;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::log;
use crate::app::progress::ProgressBars;
use crate::app::run::WorkerProcess;
use crate::app::source_selection::SourceSelection;
use crate::app::trace_writer::TraceWriter;
use crate::cli::args::{CommonArgs, RunArgs};
use crate::cli::commands::run_summary;
use crate::cli::print::{print_best_effort, print_error, print_note};
use crate::config::{SourceName, SourceSettings};
use crate::worker::{RunMode, SourceOutcome};

pub(super) fn run(common: &CommonArgs, args: &RunArgs) -> Result<ProgramExit, ProgramError> {
    // First, because a SIGHUP must not end a process that is about to read its configuration.
    let process = WorkerProcess::start()?;
    let context = AppContext::load(&common.config_location())?;
    let selection = SourceSelection::new(&context.loaded.settings, &args.sources)
        .map_err(|message| ProgramError::new(ProgramExit::Configuration, message))?;
    let trace_writer = start_trace_writer(args.record.as_deref(), &selection)?;
    let progress_bars = ProgressBars::new(common.show_progress());
    log::start(common.log_options(), &context.environment, &progress_bars);
    let mode = if args.once { RunMode::Once } else { RunMode::Continuous };
    Ok(run_and_report(process, context, selection, mode, trace_writer, &progress_bars))
}

/// Starts the trace writer for `--record`, if given. A trace records the responses of one server to
/// one client, so only one source may run.
fn start_trace_writer(
    path: Option<&Path>,
    selection: &SourceSelection,
) -> Result<Option<TraceWriter>, ProgramError> {
    let Some(path) = path else { return Ok(None) };
    if let [first, _, ..] = selection.names() {
        return Err(ProgramError::Usage(format!(
            "a trace records one source, but {} would run; name one, such as \
             `cynosure run {first} --record {}`",
            selection.names().len(),
            path.display()
        )));
    }
    TraceWriter::start(path)
        .map(Some)
        .map_err(|message| ProgramError::new(ProgramExit::Other, message))
}

/// Returns a note for each source of which a trace records nothing.
fn unrecorded_notes(context: &AppContext, selection: &SourceSelection) -> Vec<String> {
    let sources = &context.loaded.settings.sources;
    let selected = selection.names().iter().filter_map(|name| Some((name, sources.get(name)?)));
    let unrecorded = selected.filter(|(_, source)| !source.kind.uses_http());
    let note = |(name, source): (&SourceName, &SourceSettings)| {
        let kind = source.kind.name();
        format!(
            "cynosure: nothing of source {name} is recorded: a trace holds responses over HTTP, \
             and a source of kind \"{kind}\" gets none; leave out `--record`"
        )
    };
    unrecorded.map(note).collect()
}

/// Runs the sources, prints the outcome of each as soon as it ends, and a note about the trace.
pub(super) fn run_and_report(
    process: WorkerProcess,
    context: AppContext,
    selection: SourceSelection,
    mode: RunMode,
    trace_writer: Option<TraceWriter>,
    progress_bars: &ProgressBars,
) -> ProgramExit {
    if trace_writer.is_some() && progress_bars.is_enabled() {
        unrecorded_notes(&context, &selection).into_iter().for_each(print_note);
    }
    let recorder = trace_writer.as_ref().map(TraceWriter::recorder).unwrap_or_default();
    let is_only_source = selection.names().len() == 1;
    let sources = context.loaded.settings.sources.clone();
    let report = |name: &SourceName, outcome: &SourceOutcome| {
        let label = if is_only_source { None } else { Some(name.as_str()) };
        let auth = sources.get(name).map(|source| &source.auth);
        let refused_remedy = run_summary::refused_credential_remedy(name, auth);
        let summary = run_summary::run_summary(name.as_str(), outcome, &refused_remedy);
        report_outcome(progress_bars, label, summary, outcome)
    };
    let exit = process.run_sources(context, selection, mode, recorder, progress_bars, report);
    let note = trace_writer.and_then(TraceWriter::finish).filter(|_| progress_bars.is_enabled());
    note.into_iter().for_each(print_note);
    exit
}

/// Prints the summary of a source's outcome in one sentence, and returns its exit.
fn report_outcome(
    progress_bars: &ProgressBars,
    label: Option<&str>,
    (exit, sentence): (ProgramExit, String),
    outcome: &SourceOutcome,
) -> ProgramExit {
    let sentence = match label {
        Some(label) => format!("{label}: {sentence}"),
        None => sentence,
    };
    progress_bars.suspend(|| match exit {
        ProgramExit::Success | ProgramExit::SomeQuarantined | ProgramExit::Restart => {
            let transfer = run_summary::transfer_summary(outcome);
            if let Some(transfer) = transfer.filter(|_| progress_bars.is_enabled()) {
                print_note(transfer);
            }
            print_best_effort(sentence);
            exit
        }
        ProgramExit::Other
        | ProgramExit::Storage
        | ProgramExit::Authentication
        | ProgramExit::Configuration
        | ProgramExit::Terminated
        | ProgramExit::Interrupted => print_error(exit, sentence),
    })
}
