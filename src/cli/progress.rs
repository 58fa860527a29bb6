//! The live lines of `run` on a terminal: one per source, what it does, how far it is, and why.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

use crate::engine::{Status, Timestamp};
use crate::human::{
    estimate_remaining, format_count, format_deadline, format_duration, format_rate,
};
use crate::worker::{Env, RealEnv, SourceProgress};

/// How often the lines are drawn: quick enough to look alive, slow enough to cost nothing.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// The cells of a bar.
const BAR_CELLS: u64 = 18;

/// The terminal, or its absence.
#[derive(Clone, Debug)]
pub(super) struct ProgressBars {
    show_progress: ShowProgress,
    bars: Option<MultiProgress>,
}

impl ProgressBars {
    /// Takes the terminal on standard error, if there is one and it is wanted.
    #[must_use]
    pub(super) fn new(wanted: ShowProgress) -> Self {
        let live = wanted == ShowProgress::Yes && std::io::stderr().is_terminal();
        let lines = live.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { show_progress: wanted, bars: lines }
    }

    #[must_use]
    pub(super) fn is_drawing(&self) -> bool {
        self.bars.is_some()
    }

    /// Whether a person wants to be told more than the result.
    #[must_use]
    pub(super) fn is_enabled(&self) -> bool {
        self.show_progress == ShowProgress::Yes
    }

    /// Writes something else to the terminal without tearing the lines.
    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(lines) => lines.suspend(write),
            None => write(),
        }
    }

    /// Draws one source's line until the sender of its views is gone.
    pub(super) async fn track(&self, name: String, views: watch::Receiver<SourceProgress>) {
        let Some(lines) = &self.bars else { return };
        let bar = lines.add(ProgressBar::no_length());
        // A template that is a constant is right or wrong for ever; a plain line is still a line.
        let style = ProgressStyle::with_template("{wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        while views.has_changed().is_ok() {
            let line = progress_line(&name, &views.borrow(), RealEnv.now());
            bar.set_message(line);
            tokio::time::sleep(DRAW_INTERVAL).await;
        }
        bar.finish_and_clear();
    }
}

/// Whether a person wants to see progress.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ShowProgress {
    Yes,
    No,
}

/// One source in one line.
#[must_use]
pub(super) fn progress_line(name: &str, view: &SourceProgress, now: Timestamp) -> String {
    let status = view.status.name().replace('_', " ");
    let mut parts = match view.status {
        Status::Downloading => download_parts(view),
        Status::Collecting => vec![format!("{} listed", format_count(view.listed_items))],
        Status::Idle if view.until <= now => vec!["looking for something new".to_owned()],
        Status::Idle => vec![format!("next look {}", format_deadline(view.until, now))],
        Status::Completed => vec![format!("{} settled", format_count(view.settled_items))],
        Status::Error | Status::RateLimited | Status::AuthFailed => vec![
            format!("{}/{}", format_count(view.settled_items), format_count(view.listed_items)),
            format!("until {}", format_deadline(view.until, now)),
            view.reason.clone(),
        ],
    };
    if view.waiting_items > 0 {
        parts.push(format!("{} waiting for a retry", format_count(view.waiting_items)));
    }
    format!("{name}  {status}  {}", parts.join("  "))
}

fn download_parts(view: &SourceProgress) -> Vec<String> {
    let mut parts = vec![
        bar_text(view.settled_items, view.listed_items),
        format!("{}/{}", format_count(view.settled_items), format_count(view.listed_items)),
    ];
    if let Some(per_second) = view.items_per_second {
        parts.push(format_rate(per_second));
    }
    let left = view.listed_items.saturating_sub(view.settled_items);
    if let Some(left) = estimate_remaining(left, view.items_per_second) {
        parts.push(format!("{} left", format_duration(left)));
    }
    parts
}

fn bar_text(done: u64, total: u64) -> String {
    let full = (done * BAR_CELLS).checked_div(total).unwrap_or(0).min(BAR_CELLS);
    let cells = |cell: &str, number: u64| cell.repeat(usize::try_from(number).unwrap_or(0));
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
            items_per_second: Some(14.2),
            reason: "the server said: retry after 300 s".to_owned(),
            until: Timestamp(NOW.0 + 240_000),
        }
    }

    #[test]
    fn a_download_shows_its_progress_and_time_left() {
        let view = SourceProgress { waiting_items: 3, ..progress(Status::Downloading) };

        assert_eq!(
            progress_line("work", &view, NOW),
            "work  downloading  ███████░░░░░░░░░░░  812/2,000  14.2/s  1 min 24 s left  \
             3 waiting for a retry"
        );
    }

    #[test]
    fn a_wait_shows_its_deadline_and_reason() {
        let line = progress_line("work", &progress(Status::RateLimited), NOW);

        assert!(line.starts_with("work  rate limited  812/2,000  until "), "{line}");
        assert!(line.ends_with(" (in 4 min)  the server said: retry after 300 s"), "{line}");
    }
}
