//! What the worker does, in one sentence: the status text of the unit.

use std::time::Duration;

use crate::engine::{Status, Timestamp};
use crate::human::{
    estimate_remaining, format_clock_time, format_count, format_duration, format_rate, pluralize,
};
use crate::worker::SourceProgress;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// One source tells its own story; several are summed up.
#[must_use]
pub(super) fn status_line(views: &[SourceProgress], now: Timestamp) -> String {
    match views {
        [] => "no source is at work".to_owned(),
        [view] => source_text(view, now),
        views => {
            format!("{}: {}", pluralize(count_u64(views.len()), "source"), group_text(views, now))
        }
    }
}

fn source_text(view: &SourceProgress, now: Timestamp) -> String {
    let until = format_time(view.until, now);
    let mut text = match view.status {
        Status::Idle if view.until <= now => "looking for something new".to_owned(),
        Status::Idle => format!("idle, next look at {until}"),
        Status::Collecting => format!("collecting, {} listed", format_count(view.listed_items)),
        Status::Downloading => downloading_text(view),
        Status::Completed => format!("completed, {} settled", format_count(view.settled_items)),
        Status::Error => format!("error, going on at {until} ({})", view.reason),
        Status::RateLimited => format!("rate limited until {until} ({})", view.reason),
        Status::AuthFailed => {
            format!("auth failed until {until} or a new credential ({})", view.reason)
        }
    };
    if view.waiting_items > 0 {
        text.push_str(&format!(", {} waiting for a retry", format_count(view.waiting_items)));
    }
    text
}

fn downloading_text(view: &SourceProgress) -> String {
    let mut text = format!(
        "downloading {}/{}",
        format_count(view.settled_items),
        format_count(view.listed_items)
    );
    if let Some(per_second) = view.items_per_second {
        text.push_str(&format!(", {}", format_rate(per_second)));
    }
    let left = view.listed_items.saturating_sub(view.settled_items);
    if let Some(left) = estimate_remaining(left, view.items_per_second) {
        text.push_str(&format!(", about {} left", format_duration(round_for_status(left))));
    }
    text
}

/// How many sources are in each state, and for how long at least, or how far.
fn group_text(views: &[SourceProgress], now: Timestamp) -> String {
    let mut parts = Vec::new();
    for status in Status::ALL {
        let group: Vec<&SourceProgress> =
            views.iter().filter(|view| view.status == status).collect();
        let Some(next) = group.iter().map(|view| view.until).min() else { continue };
        let (done, total) = group.iter().fold((0, 0), |(done, total), view| {
            (done + view.settled_items, total + view.listed_items)
        });
        let word = status.name().replace('_', " ");
        let head = format!("{} {word}", group.len());
        parts.push(match status {
            Status::Idle | Status::Completed => head,
            Status::Collecting => format!("{head} ({} listed)", format_count(total)),
            Status::Downloading => {
                format!("{head} ({}/{})", format_count(done), format_count(total))
            }
            Status::Error | Status::RateLimited | Status::AuthFailed => {
                format!("{head} until {}", format_time(next, now))
            }
        });
    }
    parts.join(", ")
}

/// The time of day, to the second only where it is that near.
fn format_time(at: Timestamp, now: Timestamp) -> String {
    let mut clock = format_clock_time(at, now);
    if at.since(now) >= MINUTE && clock.matches(':').count() == 2 {
        clock.truncate(clock.len() - ":00".len());
    }
    clock
}

/// What is told once and stands for a while need not be exact.
fn round_for_status(left: Duration) -> Duration {
    let unit = if left < MINUTE {
        return left;
    } else if left < HOUR {
        MINUTE.as_secs()
    } else {
        HOUR.as_secs()
    };
    Duration::from_secs(left.as_secs() / unit * unit)
}

fn count_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
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
            until: Timestamp(NOW.0 + 300_000),
        }
    }

    /// In every place of the world alike.
    fn status_line_in_any_timezone(views: &[SourceProgress]) -> String {
        let text = status_line(views, NOW);
        let at = format_time(Timestamp(NOW.0 + 300_000), NOW);
        text.replace(&at, "TIME")
    }

    #[test]
    fn each_state_has_a_status_line() {
        let told: Vec<String> =
            Status::ALL.map(|status| status_line_in_any_timezone(&[progress(status)])).to_vec();

        insta::assert_snapshot!(told.join("\n"), @r"
        idle, next look at TIME
        collecting, 2,000 listed
        downloading 812/2,000, 14.2/s, about 1 min left
        completed, 812 settled
        error, going on at TIME (the server said: retry after 300 s)
        rate limited until TIME (the server said: retry after 300 s)
        auth failed until TIME or a new credential (the server said: retry after 300 s)
        ");
    }

    #[test]
    fn several_sources_are_summarised() {
        let views = [
            progress(Status::Downloading),
            SourceProgress { waiting_items: 3, ..progress(Status::Downloading) },
            progress(Status::RateLimited),
            progress(Status::Idle),
        ];

        assert_eq!(
            status_line_in_any_timezone(&views),
            "4 sources: 1 idle, 2 downloading (1,624/4,000), 1 rate limited until TIME"
        );
        assert!(status_line_in_any_timezone(&views[1..2]).ends_with(", 3 waiting for a retry"));
    }
}
