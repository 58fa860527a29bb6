//! Reads what a reply's headers say about a quota.
//!
//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers), its older form of three
//! headers, and everything of the shape `X-RateLimit-*`, by rule rather than by a list of names.

mod names;
mod public;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::DateTime;

use crate::engine::quota::signals::{Family, Limit, Reset, ResetMeaning, Signals};
use crate::engine::quota::structured::{count, parameter, split, value};
use crate::engine::{Timestamp, retry_after};

use self::names::{Part, by_rule, duration, span_named};

pub use self::public::public;

/// A figure at least this large is no span but a moment in seconds (1973 and later).
const EPOCH_SECONDS_MIN: f64 = 1e8;

/// A figure at least this large is a moment in milliseconds.
const EPOCH_MILLIS_MIN: f64 = 1e11;

/// Without a window to compare with, a span above this is rather ten seconds in milliseconds than three hours.
const DELTA_SECONDS_MAX: f64 = 10_000.0;

/// No reply names more limits that matter.
const LIMITS_MAX: usize = 16;

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
pub fn read(headers: &[(&str, &str)], names: &HeaderNames, now: Timestamp) -> Signals {
    let mut reader = Reader { headers, names, now, limits: Vec::new() };
    let mut signals = Signals::default();
    for &(name, text) in headers {
        match name {
            "retry-after" => signals.told = retry_after::parse(text, reader.said_at()),
            "age" => signals.is_cached |= count(text).is_some_and(|age| age > 0.0),
            _ => {
                if let Some((family, group, part)) = reader.known(name) {
                    reader.take(family, group, part, text);
                }
            }
        }
    }
    signals.limits = reader.limits;
    signals
}

struct Reader<'a> {
    headers: &'a [(&'a str, &'a str)],
    names: &'a HeaderNames,
    now: Timestamp,
    limits: Vec<Limit>,
}

impl<'a> Reader<'a> {
    fn find(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1)
    }

    /// Returns the family, group and part that a header's name stands for.
    fn known<'n>(&self, name: &'n str) -> Option<(Family, &'n str, Part)> {
        let HeaderNames { limit, remaining, reset, .. } = self.names;
        if limit.is_none() && remaining.is_none() && reset.is_none() {
            return by_rule(name);
        }
        [(limit, Part::Limit), (remaining, Part::Remaining), (reset, Part::Reset)]
            .into_iter()
            .find(|(given, _)| given.as_deref() == Some(name))
            .map(|(_, part)| (Family::Named, "", part))
    }

    fn take(&mut self, family: Family, group: &str, part: Part, text: &str) {
        match part {
            Part::Current => self.take_current(text),
            Part::Policy => self.take_policies(text),
            Part::Limit => self.take_limits(family, group, text),
            Part::Remaining => {
                let remaining = count(value(text));
                if let Some(limit) = remaining.and_then(|_| self.limit(family, group)) {
                    limit.remaining = remaining;
                }
            }
            Part::Used => self.take_used(family, group, text),
            Part::Reset | Part::ResetAfter => {
                let window = self.limit(family, group).and_then(|limit| limit.window);
                let reset = self.reset(family, part, text, window);
                if let Some(limit) = self.limit(family, group) {
                    limit.reset = reset;
                }
            }
        }
    }

    /// `"default";r=50;t=30, "daily";r=9000`; older: `limit=100, remaining=50, reset=30`.
    fn take_current(&mut self, text: &str) {
        for item in split(text, b',') {
            if let Some((key, figure)) = item.split_once('=').filter(|(key, _)| !key.contains(';'))
            {
                let part = match key.trim() {
                    "limit" => Part::Limit,
                    "remaining" => Part::Remaining,
                    "reset" => Part::ResetAfter,
                    _ => continue,
                };
                self.take(Family::RateLimit, "", part, figure);
                continue;
            }
            let remaining = parameter(item, "r").and_then(count);
            let reset = parameter(item, "t").and_then(count).map(|t| self.span(t));
            let partition = parameter(item, "pk").map(str::to_owned);
            if let Some(limit) = self.limit(Family::RateLimit, value(item)) {
                limit.remaining = remaining.or(limit.remaining);
                limit.reset = reset.or(limit.reset);
                limit.partition = partition.or_else(|| limit.partition.take());
            }
        }
    }

    /// `"default";q=100;w=60;qu="requests";pk=:dXNlcg==:`; older: `100;w=60`.
    fn take_policies(&mut self, text: &str) {
        for item in split(text, b',') {
            let own = count(value(item));
            let quota = parameter(item, "q").and_then(count).or(own);
            let name = if own.is_some() { "" } else { value(item) };
            let window = parameter(item, "w").and_then(count).and_then(seconds);
            let unit = parameter(item, "qu").map(str::to_owned);
            let partition = parameter(item, "pk").map(str::to_owned);
            if let Some(limit) = self.limit(Family::RateLimit, name) {
                limit.quota = quota.or(limit.quota);
                limit.window = window.or(limit.window);
                limit.unit = unit;
                limit.partition = partition;
            }
        }
    }

    /// `100`, and with the policies it comes from: `100, 100;w=60, 5000;w=3600`.
    fn take_limits(&mut self, family: Family, group: &str, text: &str) {
        let mut in_force = None;
        for item in split(text, b',') {
            let Some(quota) = count(value(item)) else { continue };
            let window = parameter(item, "w").and_then(count).and_then(seconds);
            let first = *in_force.get_or_insert(quota);
            #[expect(clippy::float_cmp, reason = "the same figure, written twice")]
            let is_first = first == quota;
            let name = if is_first { group } else { item };
            if let Some(limit) = self.limit(family, name) {
                limit.quota = Some(quota);
                limit.window = window.or(limit.window);
            }
        }
    }

    /// What is used says what remains, unless that is said too.
    fn take_used(&mut self, family: Family, group: &str, text: &str) {
        let Some(used) = count(value(text)) else { return };
        let total = self.headers.iter().find_map(|(name, text)| {
            (by_rule(name)? == (family, group, Part::Limit)).then(|| count(value(text)))?
        });
        if let (Some(total), Some(limit)) = (total, self.limit(family, group)) {
            let left = (total - used).max(0.0);
            limit.remaining = limit.remaining.or(Some(left));
        }
    }

    /// Returns the limit of that name, made if there is none yet; none if there are too many.
    fn limit(&mut self, family: Family, name: &str) -> Option<&mut Limit> {
        let is_it = |limit: &Limit| limit.family == family && limit.name == name;
        if let Some(at) = self.limits.iter().position(is_it) {
            return self.limits.get_mut(at);
        }
        if self.limits.len() == LIMITS_MAX {
            return None;
        }
        let window = span_named(name);
        self.limits.push(Limit {
            name: name.to_owned(),
            family,
            quota: None,
            window,
            remaining: None,
            reset: None,
            unit: (window.is_none() && family == Family::XRateLimit && !name.is_empty())
                .then(|| name.to_owned()),
            partition: None,
        });
        self.limits.last_mut()
    }

    fn reset(
        &self,
        family: Family,
        part: Part,
        text: &str,
        window: Option<Duration>,
    ) -> Option<Reset> {
        let text = text.trim();
        let Some(figure) = count(text) else {
            return duration(text).map(|span| self.span(span)).or_else(|| self.date(text));
        };
        let given = match part {
            Part::ResetAfter => Some(ResetMeaning::DeltaSeconds),
            Part::Limit
            | Part::Remaining
            | Part::Used
            | Part::Reset
            | Part::Current
            | Part::Policy => self.names.reset_means,
        };
        let meaning = given.unwrap_or_else(|| guess(figure, family, window));
        let is_certain = given.is_some()
            || figure >= EPOCH_SECONDS_MIN
            || family == Family::RateLimit
            || family == Family::RateLimitOld;
        let after = meaning.after(figure, self.said_at());
        Some(Reset { figure, meaning, is_certain, after })
    }

    fn span(&self, seconds: f64) -> Reset {
        let meaning = ResetMeaning::DeltaSeconds;
        Reset {
            figure: seconds,
            meaning,
            is_certain: true,
            after: meaning.after(seconds, self.now),
        }
    }

    fn date(&self, text: &str) -> Option<Reset> {
        let date = DateTime::parse_from_rfc2822(text)
            .or_else(|_| DateTime::parse_from_rfc3339(text))
            .ok()?;
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit in 53 bits")]
        let figure = date.timestamp_millis() as f64 / 1000.0;
        let meaning = ResetMeaning::Date;
        Some(Reset {
            figure,
            meaning,
            is_certain: true,
            after: meaning.after(figure, self.said_at()),
        })
    }

    /// When the server's clock read the reply, since ours may be wrong.
    fn said_at(&self) -> Timestamp {
        self.find("date")
            .and_then(|date| DateTime::parse_from_rfc2822(date.trim()).ok())
            .map_or(self.now, |date| Timestamp(date.timestamp_millis()))
    }
}

fn guess(figure: f64, family: Family, window: Option<Duration>) -> ResetMeaning {
    let longest = match family {
        Family::RateLimit | Family::RateLimitOld => EPOCH_SECONDS_MIN,
        Family::XRateLimit | Family::Named => {
            window.map_or(DELTA_SECONDS_MAX, |window| window.as_secs_f64() * 1.5)
        }
    };
    if figure >= EPOCH_MILLIS_MIN {
        ResetMeaning::EpochMillis
    } else if figure >= EPOCH_SECONDS_MIN {
        ResetMeaning::EpochSeconds
    } else if figure <= longest {
        ResetMeaning::DeltaSeconds
    } else {
        ResetMeaning::DeltaMillis
    }
}

fn seconds(figure: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(figure).ok().filter(|span| !span.is_zero())
}
