//! What is known of the providers' quotas, for `status`: as read from headers or learned, and the gate.

use serde_json::{Value, json};

use crate::cli::context::AppContext;
use crate::cli::error::CliError;
use crate::cli::table::table;
use crate::config::Settings;
use crate::disk::LockedFile;
use crate::endpoint::view;
use crate::engine::rate_limit::{
    AdvertisedLimit, RateLimitMode, RateLimitStatus, RateLimiter, RateSource,
};
use crate::engine::{Timestamp, sanitize_line};
use crate::human::{EMPTY_CELL, format_deadline, format_duration, format_utc, pluralize};
use crate::state::{LIMITERS_FILE, LimiterScope, ScopeState, parse_limiters};

const HEADER: [&str; 5] = ["QUOTA", "RATE", "AS", "LEFT", "GATE"];

/// One scope and what is known of it.
pub(super) struct QuotaRow {
    key: LimiterScope,
    status: RateLimitStatus,
    now: Timestamp,
}

/// Reads what the gates remember. What cannot be read says nothing: its worker complains of it.
pub(super) fn load_quota_rows(
    ground: &AppContext,
    now: Timestamp,
) -> Result<Vec<QuotaRow>, CliError> {
    let file = LockedFile::new(ground.state_dir.join(LIMITERS_FILE));
    let remembered = file.read(parse_limiters)?.and_then(Result::ok).unwrap_or_default();
    let known = remembered.scopes.into_iter().map(|(key, memory)| QuotaRow {
        status: limiter_status(&ground.loaded.settings, &memory, now),
        key,
        now,
    });
    Ok(known.filter(QuotaRow::has_data).collect())
}

fn limiter_status(settings: &Settings, memory: &ScopeState, now: Timestamp) -> RateLimitStatus {
    let policy = settings.rate_limit_policy(&memory.provider);
    RateLimiter::restore(policy, &memory.rate_limit, now).status(now)
}

/// The table of all that is known; `None` where there is nothing to tell.
pub(super) fn as_table(known: &[QuotaRow]) -> Option<String> {
    let rows: Vec<Vec<String>> = known.iter().map(QuotaRow::cells).collect();
    (!rows.is_empty()).then(|| table(&HEADER, &rows))
}

impl QuotaRow {
    /// A quota that was never met is none.
    fn has_data(&self) -> bool {
        let RateLimitStatus { block: hold, limits, rate_source: basis, .. } = &self.status;
        hold.is_some()
            || !limits.is_empty()
            || !matches!(basis, RateSource::Unlimited | RateSource::SlowStart)
    }

    fn cells(&self) -> Vec<String> {
        let rate = self.status.rate.map_or_else(|| EMPTY_CELL.to_owned(), |rate| rate.to_string());
        vec![
            sanitize_line(&self.key.to_string()),
            rate,
            self.rate_source(),
            self.remaining().map_or_else(|| EMPTY_CELL.to_owned(), |left| left.to_string()),
            self.block_text(),
        ]
    }

    /// Where the rate comes from.
    fn rate_source(&self) -> String {
        let RateLimitStatus {
            mode,
            limits,
            rate_source: basis,
            estimated_rate: estimate,
            estimate_cycles: cycles,
            next_probe_at: next_probe,
            ..
        } = &self.status;
        let probe = next_probe.filter(|at| self.now < *at).map_or_else(String::new, |at| {
            format!("; a faster one is tried at {}", format_deadline(at, self.now))
        });
        match basis {
            RateSource::Unlimited if *mode == RateLimitMode::Off => "not followed".to_owned(),
            RateSource::Unlimited => EMPTY_CELL.to_owned(),
            RateSource::Cap => "the configured cap".to_owned(),
            RateSource::Headers => {
                let told: Vec<String> = limits.iter().map(limit_text).collect();
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

    fn block_text(&self) -> String {
        match &self.status.block {
            Some(hold) if self.now < hold.until => {
                format!("closed until {}: {hold}", format_deadline(hold.until, self.now))
            }
            Some(_) => "open for one request, to see".to_owned(),
            None => "open".to_owned(),
        }
    }

    pub(super) fn to_quota_view(&self) -> view::QuotaView {
        view::QuotaView {
            scope: sanitize_line(&self.key.to_string()),
            rate_per_second: self.status.rate.map(|rate| rate.get()),
            rate_source: self.rate_source(),
            remaining: self.remaining(),
            block_status: self.block_text(),
            blocked_until: self.status.block.as_ref().map(|hold| hold.until),
        }
    }

    /// What is left of the tightest limit.
    fn remaining(&self) -> Option<f64> {
        let tightest = self.status.limits.iter().min_by(|a, b| {
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
        } = &self.status;
        json!({
            "scope": self.key,
            "mode": mode_name(*mode),
            "rate_per_second": rate.map(|rate| rate.get()),
            "basis": rate_source_name(*basis),
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
fn limit_text(limit: &AdvertisedLimit) -> String {
    let unit = limit.unit.as_deref().map(|unit| format!(" {}", sanitize_line(unit)));
    let unit = unit.unwrap_or_default();
    match (limit.quota, limit.window) {
        (Some(quota), Some(window)) => format!("{quota}{unit} in {}", format_duration(window)),
        (Some(quota), None) => format!("{quota}{unit}"),
        (None, _) => limit.dialect.to_string(),
    }
}

fn mode_name(mode: RateLimitMode) -> &'static str {
    match mode {
        RateLimitMode::Adaptive => "follow",
        RateLimitMode::Fixed => "fixed",
        RateLimitMode::Off => "off",
    }
}

fn rate_source_name(basis: RateSource) -> &'static str {
    match basis {
        RateSource::Unlimited => "nothing",
        RateSource::Cap => "cap",
        RateSource::Headers => "headers",
        RateSource::SlowStart => "slow_start",
        RateSource::Learned => "learned",
        RateSource::Probe => "probe",
    }
}
