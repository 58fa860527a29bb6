//! What is known of the providers' quotas, for `status`: as read from headers or learned, and the gate.

use serde_json::{Value, json};

use crate::cli::place::Ground;
use crate::cli::table::table;
use crate::cli::trouble::Trouble;
use crate::config::Settings;
use crate::disk::SharedFile;
use crate::endpoint::view;
use crate::engine::quota::{Basis, Limit, Quota, QuotaMode, Standing};
use crate::engine::{Timestamp, sanitize_line};
use crate::state::{QUOTA_FILE, ScopeKey, ScopeMemory, read_quotas};
use crate::words::{NOTHING, clock_and_wait, format_duration, many, utc};

const HEAD: [&str; 5] = ["QUOTA", "RATE", "AS", "LEFT", "GATE"];

/// One scope and what is known of it.
pub(super) struct Known {
    key: ScopeKey,
    standing: Standing,
    now: Timestamp,
}

/// Reads what the gates remember. What cannot be read says nothing: its worker complains of it.
pub(super) fn quotas(ground: &Ground, now: Timestamp) -> Result<Vec<Known>, Trouble> {
    let file = SharedFile::new(ground.state_dir.join(QUOTA_FILE));
    let remembered = file.look(read_quotas)?.and_then(Result::ok).unwrap_or_default();
    let known = remembered.scopes.into_iter().map(|(key, memory)| Known {
        standing: standing(&ground.loaded.settings, &memory, now),
        key,
        now,
    });
    Ok(known.filter(Known::is_worth_telling).collect())
}

fn standing(settings: &Settings, memory: &ScopeMemory, now: Timestamp) -> Standing {
    let policy = settings.quota_policy(&memory.provider);
    Quota::recall(policy, &memory.quota, now).standing(now)
}

/// The table of all that is known; `None` where there is nothing to tell.
pub(super) fn as_table(known: &[Known]) -> Option<String> {
    let rows: Vec<Vec<String>> = known.iter().map(Known::row).collect();
    (!rows.is_empty()).then(|| table(&HEAD, &rows))
}

impl Known {
    /// A quota that was never met is none.
    fn is_worth_telling(&self) -> bool {
        let Standing { hold, limits, basis, .. } = &self.standing;
        hold.is_some() || !limits.is_empty() || !matches!(basis, Basis::Nothing | Basis::SlowStart)
    }

    fn row(&self) -> Vec<String> {
        let rate = self.standing.rate.map_or_else(|| NOTHING.to_owned(), |rate| rate.to_string());
        vec![
            sanitize_line(&self.key.to_string()),
            rate,
            self.source_of_rate(),
            self.left().map_or_else(|| NOTHING.to_owned(), |left| left.to_string()),
            self.gate(),
        ]
    }

    /// Where the rate comes from.
    fn source_of_rate(&self) -> String {
        let Standing { mode, limits, basis, estimate, cycles, next_probe, .. } = &self.standing;
        let probe = next_probe.filter(|at| self.now < *at).map_or_else(String::new, |at| {
            format!("; a faster one is tried at {}", clock_and_wait(at, self.now))
        });
        match basis {
            Basis::Nothing if *mode == QuotaMode::Off => "not followed".to_owned(),
            Basis::Nothing => NOTHING.to_owned(),
            Basis::Cap => "the configured cap".to_owned(),
            Basis::Headers => {
                let told: Vec<String> = limits.iter().map(policy_of).collect();
                format!("the server says: {}", told.join(", "))
            }
            Basis::SlowStart => "no limit met yet".to_owned(),
            Basis::Learned => {
                let estimate = estimate.map_or_else(String::new, |rate| format!("about {rate}, "));
                format!("learned: {estimate}from {}{probe}", many((*cycles).into(), "throttle"))
            }
            Basis::Probe => "trying whether more is allowed".to_owned(),
        }
    }

    fn gate(&self) -> String {
        match &self.standing.hold {
            Some(hold) if self.now < hold.until => {
                format!("closed until {}: {hold}", clock_and_wait(hold.until, self.now))
            }
            Some(_) => "open for one request, to see".to_owned(),
            None => "open".to_owned(),
        }
    }

    pub(super) fn to_view(&self) -> view::Quota {
        view::Quota {
            scope: sanitize_line(&self.key.to_string()),
            rate_per_second: self.standing.rate.map(|rate| rate.get()),
            basis: self.source_of_rate(),
            remaining: self.left(),
            gate: self.gate(),
            held_until: self.standing.hold.as_ref().map(|hold| hold.until),
        }
    }

    /// What is left of the tightest limit.
    fn left(&self) -> Option<f64> {
        let tightest = self.standing.limits.iter().min_by(|a, b| {
            let left = |limit: &Limit| limit.remaining.unwrap_or(f64::INFINITY);
            left(a).total_cmp(&left(b))
        });
        tightest.and_then(|limit| limit.remaining)
    }

    pub(super) fn to_json(&self) -> Value {
        let Standing { mode, hold, limits, rate, basis, estimate, cycles, next_probe } =
            &self.standing;
        json!({
            "scope": self.key,
            "mode": word_of_mode(*mode),
            "rate_per_second": rate.map(|rate| rate.get()),
            "basis": word_of_basis(*basis),
            "estimate_per_second": estimate.map(|rate| rate.get()),
            "cycles": cycles,
            "next_probe": next_probe.map(utc),
            "held_until": hold.as_ref().map(|hold| utc(hold.until)),
            "held_because": hold.as_ref().map(ToString::to_string),
            "limits": limits.iter().map(|limit| json!({
                "name": limit.name,
                "from": limit.family.to_string(),
                "quota": limit.quota,
                "window_seconds": limit.window.map(|window| window.as_secs_f64()),
                "remaining": limit.remaining,
                "reset": limit.reset.map(|reset| json!({
                    "as_written": reset.figure,
                    "read_as": reset.meaning.to_string(),
                    "seconds_from_reply": reset.after.as_secs_f64(),
                })),
            })).collect::<Vec<_>>(),
        })
    }
}

/// `600 in 1 min`, as far as the server tells.
fn policy_of(limit: &Limit) -> String {
    let unit = limit.unit.as_deref().map(|unit| format!(" {}", sanitize_line(unit)));
    let unit = unit.unwrap_or_default();
    match (limit.quota, limit.window) {
        (Some(quota), Some(window)) => format!("{quota}{unit} in {}", format_duration(window)),
        (Some(quota), None) => format!("{quota}{unit}"),
        (None, _) => limit.family.to_string(),
    }
}

fn word_of_mode(mode: QuotaMode) -> &'static str {
    match mode {
        QuotaMode::Follow => "follow",
        QuotaMode::Fixed => "fixed",
        QuotaMode::Off => "off",
    }
}

fn word_of_basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Nothing => "nothing",
        Basis::Cap => "cap",
        Basis::Headers => "headers",
        Basis::SlowStart => "slow_start",
        Basis::Learned => "learned",
        Basis::Probe => "probe",
    }
}
