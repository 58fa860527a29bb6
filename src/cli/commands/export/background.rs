//! Runs an export on a thread, while signals are received and progress is drawn.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cynosure_engine::{Timestamp, format_bytes};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::runtime::block_on_new_runtime;
use crate::cli::args::CommonArgs;
use crate::cli::print::print_note;
use crate::disk::RealDisk;
use crate::env::{Env, RealEnv};
use crate::export::{
    ExportControl, ExportFailure, ExportJob, ExportOptions, ExportOutcome, ExportProgress,
    ExportSource, GroupSize,
};
use crate::human::pluralize;

/// Redraw interval of the progress line.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// End of an export.
#[derive(Debug)]
pub(super) enum ExportEnd {
    /// The export ended, by itself or because a signal stopped it. `stop_exit` is the exit code for
    /// that signal.
    Ended { outcome: Result<ExportOutcome, ExportFailure>, stop_exit: ProgramExit },
    /// A second signal was received, and the export is not waited for.
    Aborted(ProgramExit),
}

/// Control of the export by signals, with its progress line.
struct TerminalControl {
    stop: Arc<AtomicBool>,
    bar: ProgressBar,
}

/// Runs the export to its end, or until a signal stops it.
///
/// # Errors
/// The runtime cannot be created.
pub(super) fn run_in_background(
    common: &CommonArgs,
    dir: PathBuf,
    archive: PathBuf,
    options: ExportOptions,
    sources: Vec<ExportSource>,
) -> Result<ExportEnd, ProgramError> {
    let stop = Arc::new(AtomicBool::new(false));
    let bar = progress_bar(common);
    let mut control = TerminalControl { stop: Arc::clone(&stop), bar: bar.clone() };
    let work = move || {
        let job = ExportJob {
            disk: &RealDisk,
            dir: &dir,
            archive: &archive,
            options,
            sources,
            group_max: GroupSize::MAX,
        };
        job.run(&mut control)
    };
    let end = block_on_new_runtime(run_until_signal(work, &stop, &bar));
    bar.finish_and_clear();
    end
}

/// The first signal stops the export after the current message, the second ends the process.
async fn run_until_signal(
    work: impl FnOnce() -> Result<ExportOutcome, ExportFailure> + Send + 'static,
    stop: &AtomicBool,
    bar: &ProgressBar,
) -> ExportEnd {
    let env = RealEnv;
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let mut work = pin!(env.spawn_blocking(work));
    let mut stop_exit = ProgramExit::Success;
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        // A signal then ends the process, after which the export can be continued as well.
        return ExportEnd::Ended { outcome: work.await, stop_exit };
    };
    loop {
        let exit = tokio::select! {
            outcome = &mut work => return ExportEnd::Ended { outcome, stop_exit },
            _ = interrupt.recv() => ProgramExit::Interrupted,
            _ = terminate.recv() => ProgramExit::Terminated,
        };
        if stop.swap(true, Ordering::Relaxed) {
            return ExportEnd::Aborted(exit);
        }
        stop_exit = exit;
        bar.suspend(|| {
            print_note("cynosure: stopping the export; a second signal exits immediately");
        });
    }
}

/// Returns a progress bar if standard error is a terminal, else a hidden one.
fn progress_bar(common: &CommonArgs) -> ProgressBar {
    if common.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    // Fails only if the constant template is invalid; the default style is then good enough.
    let style = ProgressStyle::with_template("{bar:18} {percent:>3} %  {wide_msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("█░"));
    bar.enable_steady_tick(DRAW_INTERVAL);
    bar
}

impl ExportControl for TerminalControl {
    fn now(&self) -> Timestamp {
        RealEnv.now()
    }

    fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn show_progress(&mut self, progress: &ExportProgress<'_>) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_length(progress.newest_row);
        self.bar.set_position(progress.row);
        self.bar.set_message(format!(
            "{}: {} exported, {}",
            progress.source,
            pluralize(progress.counts.messages, "message"),
            format_bytes(progress.counts.bytes)
        ));
    }
}
