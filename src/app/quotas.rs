//! Rate limits of the providers, as `status` and the dashboard show them: advertised in headers or
//! learned, and their blocks.

use cynosure_engine::rate_limit::{AdvertisedLimit, RateLimitMode, RateLimitStatus, RateSource};
use cynosure_engine::{Timestamp, format_duration, sanitize_line};
use serde::Serialize;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::endpoint::view;
use crate::human::{EMPTY_CELL, format_deadline, pluralize};
use crate::state::LimiterScope;

/// Row of one scope: the status of its rate limiter.
pub(crate) struct QuotaRow {
    scope: LimiterScope,
    status: RateLimitStatus,
    now: Timestamp,
}

/// Rate limit of one scope in the JSON output of `status`.
#[derive(Serialize)]
pub(crate) struct QuotaJson<'a> {
    scope: &'a LimiterScope,
    mode: &'static str,
    /// Rate in force; null if requests are not paced.
    rate_per_second: Option<f64>,
    #[serde(rename = "basis")]
    rate_source: &'static str,
    /// Rate of the server, estimated from rejected requests.
    #[serde(rename = "estimate_per_second")]
    estimated_rate_per_second: Option<f64>,
    /// Number of complete measurement cycles behind the estimate.
    #[serde(rename = "cycles")]
    estimate_cycles: u32,
    /// Time of the next attempt at a faster rate.
    #[serde(rename = "next_probe")]
    next_probe_at: Option<Timestamp>,
    #[serde(rename = "held_until")]
    blocked_until: Option<Timestamp>,
    #[serde(rename = "held_because")]
    block_reason: Option<String>,
    limits: Vec<QuotaLimitJson<'a>>,
}

/// Limit as last read from headers.
#[derive(Serialize)]
struct QuotaLimitJson<'a> {
    /// Empty if the headers give none.
    name: &'a str,
    #[serde(rename = "from")]
    dialect: String,
    /// Units granted per window.
    quota: Option<f64>,
    window_seconds: Option<f64>,
    /// Units left.
    remaining: Option<f64>,
    reset: Option<QuotaResetJson>,
}

/// Time at which a limit is full again.
#[derive(Serialize)]
struct QuotaResetJson {
    /// Value as written; a date as seconds since the epoch.
    #[serde(rename = "as_written")]
    value: f64,
    #[serde(rename = "read_as")]
    meaning: String,
    /// Time from the response to the reset.
    #[serde(rename = "seconds_from_reply")]
    delay_seconds: f64,
}

/// Reads the saved states of the rate limiters.
pub(crate) fn load_quota_rows(
    context: &AppContext,
    now: Timestamp,
) -> Result<Vec<QuotaRow>, ProgramError> {
    let states = context.state_folder().read_limiters()?;
    let settings = &context.loaded.settings;
    let statuses = states.statuses(|provider| settings.rate_limit_policy(provider), now);
    Ok(statuses.map(|(scope, status)| QuotaRow { scope, status, now }).collect())
}

impl QuotaRow {
    /// Returns the cells of the table: scope, rate, source of the rate, requests left, status.
    pub(crate) fn cells(&self) -> Vec<String> {
        let rate = self.status.rate.map_or_else(|| EMPTY_CELL.to_owned(), |rate| rate.to_string());
        vec![
            sanitize_line(&self.scope.to_string()),
            rate,
            self.rate_source_text(),
            self.remaining().map_or_else(|| EMPTY_CELL.to_owned(), |units| units.to_string()),
            self.block_text(),
        ]
    }

    /// Returns the source of the rate, as text.
    fn rate_source_text(&self) -> String {
        let RateLimitStatus {
            mode,
            limits,
            rate_source,
            estimated_rate,
            estimate_cycles,
            next_probe_at,
            ..
        } = &self.status;
        let probe = next_probe_at.filter(|at| self.now < *at).map_or_else(String::new, |at| {
            format!("; next probe at {}", format_deadline(at, self.now))
        });
        match rate_source {
            RateSource::Unlimited if *mode == RateLimitMode::Off => "rate limiting off".to_owned(),
            RateSource::Unlimited => EMPTY_CELL.to_owned(),
            RateSource::Cap => "configured cap".to_owned(),
            RateSource::Headers => {
                let advertised: Vec<String> = limits.iter().map(limit_text).collect();
                format!("the server says: {}", advertised.join(", "))
            }
            RateSource::SlowStart => "no limit found yet".to_owned(),
            RateSource::Estimated => {
                let estimate =
                    estimated_rate.map_or_else(String::new, |rate| format!("about {rate}, "));
                let throttles = pluralize((*estimate_cycles).into(), "rejected request");
                format!("learned: {estimate}from {throttles}{probe}")
            }
            RateSource::Probe => "probing a higher rate".to_owned(),
        }
    }

    fn block_text(&self) -> String {
        match &self.status.block {
            Some(block) if self.now < block.until => {
                format!("blocked until {}: {block}", format_deadline(block.until, self.now))
            }
            Some(_) => "one request is allowed as a probe".to_owned(),
            None => "not blocked".to_owned(),
        }
    }

    pub(crate) fn to_quota_view(&self) -> view::QuotaView {
        view::QuotaView {
            scope: sanitize_line(&self.scope.to_string()),
            rate_per_second: self.status.rate.map(|rate| rate.get()),
            rate_source: self.rate_source_text(),
            remaining: self.remaining(),
            block_status: self.block_text(),
            blocked_until: self.status.block.as_ref().map(|block| block.until),
        }
    }

    /// Returns the remaining units of the tightest limit.
    fn remaining(&self) -> Option<f64> {
        let tightest = self.status.limits.iter().min_by(|a, b| {
            let remaining = |limit: &AdvertisedLimit| limit.remaining.unwrap_or(f64::INFINITY);
            remaining(a).total_cmp(&remaining(b))
        });
        tightest.and_then(|limit| limit.remaining)
    }

    pub(crate) fn to_json(&self) -> QuotaJson<'_> {
        let RateLimitStatus {
            mode,
            block,
            limits,
            rate,
            rate_source,
            estimated_rate,
            estimate_cycles,
            next_probe_at,
        } = &self.status;
        QuotaJson {
            scope: &self.scope,
            mode: mode_name(*mode),
            rate_per_second: rate.map(|rate| rate.get()),
            rate_source: rate_source_name(*rate_source),
            estimated_rate_per_second: estimated_rate.map(|rate| rate.get()),
            estimate_cycles: *estimate_cycles,
            next_probe_at: *next_probe_at,
            blocked_until: block.as_ref().map(|block| block.until),
            block_reason: block.as_ref().map(ToString::to_string),
            limits: limits.iter().map(limit_json).collect(),
        }
    }
}

fn limit_json(limit: &AdvertisedLimit) -> QuotaLimitJson<'_> {
    QuotaLimitJson {
        name: &limit.name,
        dialect: limit.dialect.to_string(),
        quota: limit.quota,
        window_seconds: limit.window.map(|window| window.as_secs_f64()),
        remaining: limit.remaining,
        reset: limit.reset.map(|reset| QuotaResetJson {
            value: reset.value,
            meaning: reset.meaning.to_string(),
            delay_seconds: reset.delay.as_secs_f64(),
        }),
    }
}

/// Returns `600 in 1 min`, as far as the server reports it.
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

fn rate_source_name(rate_source: RateSource) -> &'static str {
    match rate_source {
        RateSource::Unlimited => "nothing",
        RateSource::Cap => "cap",
        RateSource::Headers => "headers",
        RateSource::SlowStart => "slow_start",
        RateSource::Estimated => "learned",
        RateSource::Probe => "probe",
    }
}
