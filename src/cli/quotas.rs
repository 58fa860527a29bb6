//! What is known of the providers' quotas, for `status`: as read from headers or learned, and the gate.

use serde_json::{Value, json};

use crate::cli::place::Ground;
use crate::cli::table::table;
use crate::cli::trouble::Trouble;
use crate::config::Settings;
use crate::disk::LockedFile;
use crate::endpoint::view;
use crate::engine::rate_limit::{
    AdvertisedLimit, RateLimitMode, RateLimitStatus, RateLimiter, RateSource,
};
use crate::engine::{Timestamp, sanitize_line};
use crate::human::{EMPTY_CELL, format_deadline, format_duration, format_utc, pluralize};
use crate::state::{LIMITERS_FILE, LimiterScope, ScopeState, parse_limiters};

const HEAD: [&str; 5] = ["QUOTA", "RATE", "AS", "LEFT", "GATE"];

/// One scope and what is known of it.
pub(super) struct Known {
    key: LimiterScope,
    standing: RateLimitStatus,
    now: Timestamp,
}

/// Reads what the gates remember. What cannot be read says nothing: its worker complains of it.
pub(super) fn quotas(ground: &Ground, now: Timestamp) -> Result<Vec<Known>, Trouble> {
    let file = LockedFile::new(ground.state_dir.join(LIMITERS_FILE));
    let remembered = file.read(parse_limiters)?.and_then(Result::ok).unwrap_or_default();
    let known = remembered.scopes.into_iter().map(|(key, memory)| Known {
        standing: standing(&ground.loaded.settings, &memory, now),
        key,
        now,
    });
    Ok(known.filter(Known::is_worth_telling).collect())
}

fn standing(settings: &Settings, memory: &ScopeState, now: Timestamp) -> RateLimitStatus {
    let policy = settings.rate_limit_policy(&memory.provider);
    RateLimiter::restore(policy, &memory.rate_limit, now).status(now)
}

/// The table of all that is known; `None` where there is nothing to tell.
pub(super) fn as_table(known: &[Known]) -> Option<String> {
    let rows: Vec<Vec<String>> = known.iter().map(Known::row).collect();
    (!rows.is_empty()).then(|| table(&HEAD, &rows))
}

impl Known {
    /// A quota that was never met is none.
    fn is_worth_telling(&self) -> bool {
        let RateLimitStatus { block: hold, limits, rate_source: basis, .. } = &self.standing;
        hold.is_some()
            || !limits.is_empty()
            || !matches!(basis, RateSource::Unlimited | RateSource::SlowStart)
    }

    fn row(&self) -> Vec<String> {
        let rate =
            self.standing.rate.map_or_else(|| EMPTY_CELL.to_owned(), |rate| rate.to_string());
        vec![
            sanitize_line(&self.key.to_string()),
            rate,
            self.source_of_rate(),
            self.left().map_or_else(|| EMPTY_CELL.to_owned(), |left| left.to_string()),
            self.gate(),
        ]
    }

    /// Where the rate comes from.
    fn source_of_rate(&self) -> String {
        let RateLimitStatus {
            mode,
            limits,
            rate_source: basis,
            estimated_rate: estimate,
            estimate_cycles: cycles,
            next_probe_at: next_probe,
            ..
        } = &self.standing;
        let probe = next_probe.filter(|at| self.now < *at).map_or_else(String::new, |at| {
            format!("; a faster one is tried at {}", format_deadline(at, self.now))
        });
        match basis {
            RateSource::Unlimited if *mode == RateLimitMode::Off => "not followed".to_owned(),
            RateSource::Unlimited => EMPTY_CELL.to_owned(),
            RateSource::Cap => "the configured cap".to_owned(),
            RateSource::Headers => {
                let told: Vec<String> = limits.iter().map(policy_of).collect();
                format!("the server says: {}", told.join(", "))
            }
            RateSource::SlowStart => "no limit met yet".to_owned(),
            RateSource::Learned => {
                let estimate = estimate.map_or_else(String::new, |rate| format!("about {rate}, "));
                format!(
                    "learned: {estimate}from {}{probe}",
                    pluralize((*cycles).into(), "throttle")
                )
            }
            RateSource::Probe => "trying whether more is allowed".to_owned(),
        }
    }

    fn gate(&self) -> String {
        match &self.standing.block {
            Some(hold) if self.now < hold.until => {
                format!("closed until {}: {hold}", format_deadline(hold.until, self.now))
            }
            Some(_) => "open for one request, to see".to_owned(),
            None => "open".to_owned(),
        }
    }

    pub(super) fn to_view(&self) -> view::QuotaView {
        view::QuotaView {
            scope: sanitize_line(&self.key.to_string()),
            rate_per_second: self.standing.rate.map(|rate| rate.get()),
            rate_source: self.source_of_rate(),
            remaining: self.left(),
            block_status: self.gate(),
            blocked_until: self.standing.block.as_ref().map(|hold| hold.until),
        }
    }

    /// What is left of the tightest limit.
    fn left(&self) -> Option<f64> {
        let tightest = self.standing.limits.iter().min_by(|a, b| {
            let left = |limit: &AdvertisedLimit| limit.remaining.unwrap_or(f64::INFINITY);
            left(a).total_cmp(&left(b))
        });
        tightest.and_then(|limit| limit.remaining)
    }

    pub(super) fn to_json(&self) -> Value {
        let RateLimitStatus {
            mode,
            block: hold,
            limits,
            rate,
            rate_source: basis,
            estimated_rate: estimate,
            estimate_cycles: cycles,
            next_probe_at: next_probe,
        } = &self.standing;
        json!({
            "scope": self.key,
            "mode": word_of_mode(*mode),
            "rate_per_second": rate.map(|rate| rate.get()),
            "basis": word_of_basis(*basis),
            "estimate_per_second": estimate.map(|rate| rate.get()),
            "cycles": cycles,
            "next_probe": next_probe.map(format_utc),
            "held_until": hold.as_ref().map(|hold| format_utc(hold.until)),
            "held_because": hold.as_ref().map(ToString::to_string),
            "limits": limits.iter().map(|limit| json!({
                "name": limit.name,
                "from": limit.dialect.to_string(),
                "quota": limit.quota,
                "window_seconds": limit.window.map(|window| window.as_secs_f64()),
                "remaining": limit.remaining,
                "reset": limit.reset.map(|reset| json!({
                    "as_written": reset.value,
                    "read_as": reset.meaning.to_string(),
                    "seconds_from_reply": reset.delay.as_secs_f64(),
                })),
            })).collect::<Vec<_>>(),
        })
    }
}

/// `600 in 1 min`, as far as the server tells.
fn policy_of(limit: &AdvertisedLimit) -> String {
    let unit = limit.unit.as_deref().map(|unit| format!(" {}", sanitize_line(unit)));
    let unit = unit.unwrap_or_default();
    match (limit.quota, limit.window) {
        (Some(quota), Some(window)) => format!("{quota}{unit} in {}", format_duration(window)),
        (Some(quota), None) => format!("{quota}{unit}"),
        (None, _) => limit.dialect.to_string(),
    }
}

fn word_of_mode(mode: RateLimitMode) -> &'static str {
    match mode {
        RateLimitMode::Adaptive => "follow",
        RateLimitMode::Fixed => "fixed",
        RateLimitMode::Off => "off",
    }
}

fn word_of_basis(basis: RateSource) -> &'static str {
    match basis {
        RateSource::Unlimited => "nothing",
        RateSource::Cap => "cap",
        RateSource::Headers => "headers",
        RateSource::SlowStart => "slow_start",
        RateSource::Learned => "learned",
        RateSource::Probe => "probe",
    }
}
