//! `run`: runs all configured sources in parallel, until nothing is left to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::log;
use crate::app::progress::ProgressBars;
use crate::app::run::{SourceReporter, WorkerProcess};
use crate::app::session_summary::session_summary;
use crate::app::source_selection::SourceSelection;
use crate::app::sources::SourceRef;
use crate::app::trace_writer::TraceWriter;
use crate::cli::args::{CommonArgs, RunArgs};
use crate::cli::commands::run_summary;
use crate::cli::print::{print_best_effort, print_error, print_note};
use crate::config::{SourceName, SourceSettings};
use crate::env::{Env, RealEnv};
use crate::state::StateFolder;
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

/// Runs the sources, prints the outcome of each as soon as it ends, and a note about the trace. A
/// session that was completed is summarized before.
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
    let reporter = RunReporter {
        progress_bars,
        mode,
        is_only_source: selection.names().len() == 1,
        sources: context.loaded.settings.sources.clone(),
        state_folder: context.state_folder(),
        archive_dir: context.loaded.settings.archive.dir.clone(),
    };
    let exit = process.run_sources(context, selection, mode, recorder, progress_bars, &reporter);
    let note = trace_writer.and_then(TraceWriter::finish).filter(|_| progress_bars.is_enabled());
    note.into_iter().for_each(print_note);
    exit
}

/// Reporter of a run: prints the summaries of sessions, and the outcome of each source.
struct RunReporter<'a> {
    progress_bars: &'a ProgressBars,
    mode: RunMode,
    is_only_source: bool,
    sources: BTreeMap<SourceName, SourceSettings>,
    state_folder: StateFolder,
    archive_dir: PathBuf,
}

impl SourceReporter for RunReporter<'_> {
    fn on_session_completed(&self, source: &SourceName) {
        // Runs of another mode end with the session, and print the summary then. A log needs none.
        if self.mode == RunMode::Continuous && self.progress_bars.is_drawing() {
            self.progress_bars.suspend(|| self.print_summary(source));
        }
    }

    fn on_end(&self, source: &SourceName, outcome: &SourceOutcome) -> ProgramExit {
        let auth = self.sources.get(source).map(|settings| &settings.auth);
        let refused_remedy = run_summary::refused_credential_remedy(source, auth);
        let (exit, sentence) = run_summary::run_summary(source.as_str(), outcome, &refused_remedy);
        let sentence = match self.label(source) {
            Some(label) => format!("{label}: {sentence}"),
            None => sentence,
        };
        self.progress_bars.suspend(|| match exit {
            ProgramExit::Success | ProgramExit::SomeQuarantined | ProgramExit::Restart => {
                if self.progress_bars.is_enabled() && run_summary::has_completed_session(outcome) {
                    self.print_summary(source);
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
}

impl RunReporter<'_> {
    /// Returns the name of a source, if there are several.
    fn label<'n>(&self, source: &'n SourceName) -> Option<&'n str> {
        (!self.is_only_source).then(|| source.as_str())
    }

    /// Prints the summary of the source's last completed session.
    fn print_summary(&self, source: &SourceName) {
        let source_ref = SourceRef {
            name: source.clone(),
            folder: self.state_folder.source(source.as_str()),
            settings: self.sources.get(source).cloned(),
            is_config_uncertain: false,
        };
        match session_summary(&source_ref, &self.archive_dir, RealEnv.now()) {
            Ok(lines) if lines.is_empty() => {}
            Ok(lines) => print_note(run_summary::summary_table(self.label(source), lines)),
            Err(error) => {
                let message = error.message();
                print_note(format!("cynosure: {source} has no summary: {message}"));
            }
        }
    }
}
