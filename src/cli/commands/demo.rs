//! `demo`: runs the complete program against the embedded mailbox service, or only the service.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cynosure_lab::demo::{self, DemoServer, ITEMS_MAX};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::context::AppContext;
use crate::app::exit::ProgramExit;
use crate::app::log;
use crate::app::progress::ProgressBars;
use crate::app::run::WorkerProcess;
use crate::app::source_selection::SourceSelection;
use crate::app::trace_writer::TraceWriter;
use crate::cli::args::{CommonArgs, DemoArgs, DemoKindArg, FaultsArg};
use crate::cli::commands::init::next_steps::TypedProgram;
use crate::cli::commands::run::run_and_report;
use crate::cli::error::report_error;
use crate::cli::print::{print_best_effort, print_error, print_note};
use crate::config::{EnvVars, load};
use crate::disk::{RealDisk, ensure_folder, write_durable};
use crate::state::StateFolder;
use crate::worker::RunMode;

/// Name of the only source in the demo's configuration.
const SOURCE_NAME: &str = "demo";

pub(super) fn demo(common: &CommonArgs, args: &DemoArgs) -> ExitCode {
    let outcome = if args.serve { serve(args) } else { serve_and_extract(common, args) };
    match outcome {
        Ok(exit) => exit.into(),
        Err(message) => print_error(ProgramExit::Other, message).into(),
    }
}

/// Serves the mailbox and extracts it, the same way as a real one.
fn serve_and_extract(common: &CommonArgs, args: &DemoArgs) -> Result<ProgramExit, String> {
    let trace_writer = args.record.as_deref().map(TraceWriter::start).transpose()?;
    let dir = create_folder(&args.dir)?;
    let demo = start_server(args, &dir)?;
    let config_file = dir.join("config.toml");
    let text = demo::demo_config(&demo, Path::new("downloads"));
    write_durable(&RealDisk, &config_file, text.as_bytes())
        .map_err(|error| format!("cannot write {}: {error}", config_file.display()))?;

    let environment = EnvVars::from_process();
    let loaded = load(&config_file, &environment).map_err(|diagnostics| diagnostics.to_string())?;
    let state_dir = common.state_dir.clone().unwrap_or_else(|| dir.join("state"));
    delete_state(StateFolder::new(&state_dir).source(SOURCE_NAME).path())?;

    let progress_bars = ProgressBars::new(common.show_progress());
    log::start(common.log_options(), &environment, &progress_bars);
    let archive = loaded.settings.archive.dir.clone();
    let name = loaded.settings.find_source(SOURCE_NAME).map(|(name, _)| name.clone());
    let name = name.map_err(|error| error.to_string())?;
    let context = AppContext { config_file, state_dir, environment, loaded, diagnostics: None };
    let (selection, mode) = (SourceSelection::Named(vec![name]), RunMode::UntilComplete);
    let exit = match WorkerProcess::start() {
        Ok(process) => {
            run_and_report(process, context, selection, mode, trace_writer, &progress_bars)
        }
        Err(error) => report_error(Err(error)),
    };
    demo.shut_down();

    print_best_effort(format!("\nThe mail is in {}.", archive.display()));
    print_best_effort(next_steps_text(&args.dir.join("config.toml")));
    Ok(exit)
}

/// Serves the mailbox until SIGINT or SIGTERM. Prints a configuration that extracts it.
fn serve(args: &DemoArgs) -> Result<ProgramExit, String> {
    let dir = create_folder(&args.dir)?;
    let demo = start_server(args, &dir)?;
    print_best_effort(demo::demo_config(&demo, Path::new("downloads")));
    print_note(format!("serving {} items on {}; press Ctrl-C to stop", args.items, demo.address()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot create the runtime: {error}"))?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())
            .map_err(|error| format!("cannot listen for signals: {error}"))?;
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        Ok(ProgramExit::Success)
    })
}

fn start_server(args: &DemoArgs, dir: &Path) -> Result<DemoServer, String> {
    let items = u32::try_from(args.items)
        .ok()
        .filter(|items| *items <= ITEMS_MAX)
        .ok_or_else(|| format!("--items {}: at most {ITEMS_MAX}", args.items))?;
    let (kind, credential) = match args.kind {
        DemoKindArg::Jmap => (demo::DemoKind::Jmap, "token"),
        DemoKindArg::Imap => (demo::DemoKind::Imap, "token"),
        DemoKindArg::Gmail => (demo::DemoKind::Gmail, "token"),
        DemoKindArg::Graph => (demo::DemoKind::Graph, "token"),
        DemoKindArg::Mailru => (demo::DemoKind::Mailru, "mailru.session"),
    };
    let options = demo::DemoOptions {
        kind,
        items,
        seed: args.seed,
        faults: match args.faults {
            FaultsArg::None => demo::FaultLevel::None,
            FaultsArg::Some => demo::FaultLevel::Some,
            FaultsArg::Storm => demo::FaultLevel::Storm,
        },
        listen: args.listen,
        token_file: Some(dir.join(credential)),
        ..demo::DemoOptions::default()
    };
    demo::start(options).map_err(|error| error.to_string())
}

/// Creates the demo's folder and returns its absolute path.
fn create_folder(dir: &Path) -> Result<PathBuf, String> {
    let absolute = std::path::absolute(dir)
        .map_err(|error| format!("cannot use {}: {error}", dir.display()))?;
    ensure_folder(&RealDisk, &absolute)
        .map_err(|error| format!("cannot create {}: {error}", absolute.display()))?;
    Ok(absolute)
}

/// Deletes the state of an earlier demo, because the server starts with new content each time.
fn delete_state(state: &Path) -> Result<(), String> {
    match fs_err::remove_dir_all(state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns the next commands to try, as they must be typed in this environment.
fn next_steps_text(config: &Path) -> String {
    TypedProgram::new(&EnvVars::from_process(), Some(config)).next_steps(&[
        ("status", "show the state and its reason"),
        ("history", "show the state history, with reasons"),
        ("failures", "show the failed items"),
        ("verify", "check every file against the ledger, byte for byte"),
    ])
}
