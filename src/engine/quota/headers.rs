//! Reads what a reply's headers say about a quota.

use chrono::DateTime;

use crate::engine::quota::signals::{Family, Limit, Reset, ResetMeaning, Signals};
use crate::engine::{Moment, retry_after};

/// A figure at least this large is no span but a moment in seconds (1973 and later).
const EPOCH_SECONDS_MIN: f64 = 1e8;

/// A figure at least this large is a moment in milliseconds.
const EPOCH_MILLIS_MIN: f64 = 1e11;

/// The names a user gives where a server has its own, and what its reset means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderNames {
    /// Lower-case, like the two below. With any of the three set, the known families are not read.
    pub limit: Option<String>,
    pub remaining: Option<String>,
    pub reset: Option<String>,
    /// What a reset means, in any family.
    pub reset_means: Option<ResetMeaning>,
}

/// Returns what `headers` say. Names are lower-case; what is malformed says nothing.
#[must_use]
pub fn read(headers: &[(&str, &str)], names: &HeaderNames, now: Moment) -> Signals {
    let find = |name: &str| headers.iter().find(|header| header.0 == name).map(|header| header.1);
    let date = find("date");
    let said_at = date
        .and_then(|date| DateTime::parse_from_rfc2822(date.trim()).ok())
        .map_or(now, |date| Moment(date.timestamp_millis()));
    let number = |name: &str| find(name).and_then(|value| value.trim().parse::<f64>().ok());
    let quota = number("x-ratelimit-limit");
    let remaining = number("x-ratelimit-remaining");
    let reset = number("x-ratelimit-reset").map(|figure| {
        let meaning = names.reset_means.unwrap_or_else(|| guess(figure));
        Reset {
            figure,
            meaning,
            is_certain: names.reset_means.is_some(),
            after: meaning.after(figure, said_at),
        }
    });
    let mut limits = Vec::new();
    if quota.is_some() || remaining.is_some() {
        limits.push(Limit {
            name: String::new(),
            family: Family::XRateLimit,
            quota,
            window: None,
            remaining,
            reset,
            unit: None,
            partition: None,
        });
    }
    Signals {
        told: find("retry-after").and_then(|value| retry_after::parse(value, date)),
        limits,
        is_cached: find("age").is_some_and(|age| age.trim() != "0"),
    }
}

fn guess(figure: f64) -> ResetMeaning {
    if figure >= EPOCH_MILLIS_MIN {
        ResetMeaning::EpochMillis
    } else if figure >= EPOCH_SECONDS_MIN {
        ResetMeaning::EpochSeconds
    } else {
        ResetMeaning::DeltaSeconds
    }
}
