//! Progress lines of `run` on a terminal: state, progress and reason of each source.

use std::io::IsTerminal;
use std::time::Duration;

use cynosure_engine::{Status, Timestamp, format_count, format_duration};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

use crate::env::{Env, RealEnv};
use crate::human::{
    estimate_remaining, format_byte_progress, format_deadline, format_rate, humanize,
};
use crate::worker::SourceProgress;

/// Redraw interval: short enough to look live, long enough to need almost no CPU time.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// Width of a bar, in cells.
const BAR_CELLS: u64 = 18;

/// Progress lines on standard error. Not drawn if it is not a terminal, or if they are not wanted.
#[derive(Clone, Debug)]
pub(crate) struct ProgressBars {
    show_progress: ShowProgress,
    bars: Option<MultiProgress>,
}

impl ProgressBars {
    /// Creates the progress lines. Draws only if standard error is a terminal.
    #[must_use]
    pub(crate) fn new(show_progress: ShowProgress) -> Self {
        let is_drawing = show_progress == ShowProgress::Yes && std::io::stderr().is_terminal();
        let bars =
            is_drawing.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { show_progress, bars }
    }

    #[must_use]
    pub(crate) fn is_drawing(&self) -> bool {
        self.bars.is_some()
    }

    /// True if the user wants more output than the result, on a terminal or elsewhere.
    #[must_use]
    pub(crate) fn is_enabled(&self) -> bool {
        self.show_progress == ShowProgress::Yes
    }

    /// Runs `write`, which may print, while the lines are hidden.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    /// Draws the line of one source until the sender of its progress is dropped.
    pub(crate) async fn track(&self, name: String, progress: watch::Receiver<SourceProgress>) {
        let Some(bars) = &self.bars else { return };
        let bar = bars.add(ProgressBar::no_length());
        // Fails only if the constant template is invalid; the default style is then good enough.
        let style = ProgressStyle::with_template("{wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        while progress.has_changed().is_ok() {
            let line = progress_line(&name, &progress.borrow(), RealEnv.now());
            bar.set_message(line);
            tokio::time::sleep(DRAW_INTERVAL).await;
        }
        bar.finish_and_clear();
    }
}

/// Selects whether progress is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ShowProgress {
    Yes,
    No,
}

/// Returns the progress line of one source.
#[must_use]
pub(crate) fn progress_line(name: &str, progress: &SourceProgress, now: Timestamp) -> String {
    let status = humanize(progress.status.name());
    let mut parts = match progress.status {
        Status::Downloading => download_parts(progress),
        Status::Collecting => vec![format!("{} listed", format_count(progress.listed_items))],
        Status::Idle if progress.until <= now => vec!["checking for changes".to_owned()],
        Status::Idle => vec![format!("next check {}", format_deadline(progress.until, now))],
        Status::Completed => vec![format!("{} settled", format_count(progress.settled_items))],
        Status::Error | Status::RateLimited | Status::AuthFailed => vec![
            format!(
                "{}/{}",
                format_count(progress.settled_items),
                format_count(progress.listed_items)
            ),
            format!("until {}", format_deadline(progress.until, now)),
            progress.reason.clone(),
        ],
    };
    if progress.waiting_items > 0 {
        parts.push(format!("{} waiting for a retry", format_count(progress.waiting_items)));
    }
    format!("{name}  {status}  {}", parts.join("  "))
}

fn download_parts(progress: &SourceProgress) -> Vec<String> {
    let mut parts = vec![
        bar_text(progress.settled_items, progress.listed_items),
        format!("{}/{}", format_count(progress.settled_items), format_count(progress.listed_items)),
    ];
    parts.extend(format_byte_progress(progress.fetched_bytes, progress.expected_bytes));
    if let Some(per_second) = progress.items_per_second {
        parts.push(format_rate(per_second));
    }
    let remaining = progress.listed_items.saturating_sub(progress.settled_items);
    if let Some(duration) = estimate_remaining(remaining, progress.items_per_second) {
        parts.push(format!("{} left", format_duration(duration)));
    }
    parts
}

fn bar_text(done: u64, total: u64) -> String {
    let full = (done * BAR_CELLS).checked_div(total).unwrap_or(0).min(BAR_CELLS);
    let cells = |cell: &str, count: u64| cell.repeat(usize::try_from(count).unwrap_or(0));
    cells("█", full) + &cells("░", BAR_CELLS - full)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn progress(status: Status) -> SourceProgress {
        SourceProgress {
            status,
            settled_items: 812,
            listed_items: 2000,
            waiting_items: 0,
            fetched_bytes: 1_234_567_890,
            expected_bytes: Some(3_400_000_000),
            items_per_second: Some(14.2),
            completed_at: None,
            reason: "the server said: retry after 300 s".to_owned(),
            until: Timestamp(NOW.0 + 240_000),
        }
    }

    #[test]
    fn a_download_shows_its_progress_and_time_left() {
        let downloading = SourceProgress { waiting_items: 3, ..progress(Status::Downloading) };

        assert_eq!(
            progress_line("work", &downloading, NOW),
            "work  downloading  ███████░░░░░░░░░░░  812/2,000  1.2 of about 3.4 GB  14.2/s  \
             1 min 24 s left  3 waiting for a retry"
        );
    }

    #[test]
    fn a_wait_shows_its_deadline_and_reason() {
        let line = progress_line("work", &progress(Status::RateLimited), NOW);

        assert!(line.starts_with("work  rate limited  812/2,000  until "), "{line}");
        assert!(line.ends_with(" (in 4 min)  the server said: retry after 300 s"), "{line}");
    }
}
