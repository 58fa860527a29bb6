//! Status line of the worker, shown by systemd as the `StatusText` of the unit.

use std::time::Duration;

use cynosure_engine::{Status, Timestamp, format_count, format_duration};

use crate::human::{
    estimate_remaining, format_byte_progress, format_rate, format_wait_end, humanize, pluralize,
};
use crate::worker::SourceProgress;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Returns the status text of one source, or a summary of several.
#[must_use]
pub(super) fn status_line(sources: &[SourceProgress], now: Timestamp) -> String {
    match sources {
        [] => "no source is running".to_owned(),
        [source] => source_text(source, now),
        sources => {
            format!(
                "{}: {}",
                pluralize(sources.len() as u64, "source"),
                several_sources_text(sources, now)
            )
        }
    }
}

fn source_text(progress: &SourceProgress, now: Timestamp) -> String {
    let until = format_wait_end(progress.until, now);
    let mut text = match progress.status {
        Status::Idle if progress.until <= now => "checking for changes".to_owned(),
        Status::Idle => format!("idle, next check at {until}"),
        Status::Collecting => format!("collecting, {} listed", format_count(progress.listed_items)),
        Status::Downloading => downloading_text(progress),
        Status::Completed => format!("completed, {} settled", format_count(progress.settled_items)),
        Status::Error => format!("error, next attempt at {until} ({})", progress.reason),
        Status::RateLimited => format!("rate limited until {until} ({})", progress.reason),
        Status::AuthFailed => {
            format!("auth failed until {until} or a new credential ({})", progress.reason)
        }
    };
    if progress.waiting_items > 0 {
        text.push_str(&format!(", {} waiting for a retry", format_count(progress.waiting_items)));
    }
    text
}

fn downloading_text(progress: &SourceProgress) -> String {
    let mut text = format!(
        "downloading {}/{}",
        format_count(progress.settled_items),
        format_count(progress.listed_items)
    );
    if let Some(bytes) = format_byte_progress(progress.fetched_bytes, progress.expected_bytes) {
        text.push_str(&format!(", {bytes}"));
    }
    if let Some(per_second) = progress.items_per_second {
        text.push_str(&format!(", {}", format_rate(per_second)));
    }
    let remaining = progress.listed_items.saturating_sub(progress.settled_items);
    if let Some(duration) = estimate_remaining(remaining, progress.items_per_second) {
        text.push_str(&format!(", about {} left", format_duration(round_for_status(duration))));
    }
    text
}

/// Returns the number of sources in each state, with their progress or earliest deadline.
fn several_sources_text(sources: &[SourceProgress], now: Timestamp) -> String {
    let mut parts = Vec::new();
    for status in Status::ALL {
        let in_status: Vec<&SourceProgress> =
            sources.iter().filter(|progress| progress.status == status).collect();
        let Some(deadline) = in_status.iter().map(|progress| progress.until).min() else {
            continue;
        };
        let (settled, listed) = in_status.iter().fold((0, 0), |(settled, listed), progress| {
            (settled + progress.settled_items, listed + progress.listed_items)
        });
        let state = humanize(status.name());
        let label = format!("{} {state}", in_status.len());
        parts.push(match status {
            Status::Idle | Status::Completed => label,
            Status::Collecting => format!("{label} ({} listed)", format_count(listed)),
            Status::Downloading => {
                format!("{label} ({}/{})", format_count(settled), format_count(listed))
            }
            Status::Error | Status::RateLimited | Status::AuthFailed => {
                format!("{label} until {}", format_wait_end(deadline, now))
            }
        });
    }
    parts.join(", ")
}

/// Rounds a duration down to minutes or hours, because the text may be shown for a while.
fn round_for_status(duration: Duration) -> Duration {
    let unit = if duration < MINUTE {
        return duration;
    } else if duration < HOUR {
        MINUTE.as_secs()
    } else {
        HOUR.as_secs()
    };
    Duration::from_secs(duration.as_secs() / unit * unit)
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
            until: Timestamp(NOW.0 + 300_000),
        }
    }

    /// Returns the status line without the local time, so that tests pass in every time zone.
    fn status_line_in_any_timezone(sources: &[SourceProgress]) -> String {
        let text = status_line(sources, NOW);
        let time = format_wait_end(Timestamp(NOW.0 + 300_000), NOW);
        text.replace(&time, "TIME")
    }

    #[test]
    fn each_state_has_a_status_line() {
        let lines: Vec<String> =
            Status::ALL.map(|status| status_line_in_any_timezone(&[progress(status)])).to_vec();

        insta::assert_snapshot!(lines.join("\n"), @r"
        idle, next check at TIME
        collecting, 2,000 listed
        downloading 812/2,000, 1.2 of about 3.4 GB, 14.2/s, about 1 min left
        completed, 812 settled
        error, next attempt at TIME (the server said: retry after 300 s)
        rate limited until TIME (the server said: retry after 300 s)
        auth failed until TIME or a new credential (the server said: retry after 300 s)
        ");
    }

    #[test]
    fn several_sources_are_summarised() {
        let sources = [
            progress(Status::Downloading),
            SourceProgress { waiting_items: 3, ..progress(Status::Downloading) },
            progress(Status::RateLimited),
            progress(Status::Idle),
        ];

        assert_eq!(
            status_line_in_any_timezone(&sources),
            "4 sources: 1 idle, 2 downloading (1,624/4,000), 1 rate limited until TIME"
        );
        assert!(status_line_in_any_timezone(&sources[1..2]).ends_with(", 3 waiting for a retry"));
    }
}
