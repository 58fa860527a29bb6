//! Everything that is measured, gathered from the same files as the page.

use crate::cli::board::configured;
use crate::cli::breaker::Remarks;
use crate::cli::place::Ground;
use crate::cli::quotas;
use crate::cli::sources::Known;
use crate::cli::standing::{Seen, Worker, look};
use crate::cli::trouble::Trouble;
use crate::config::Kind;
use crate::disk::RealDisk;
use crate::engine::Moment;
use crate::engine::alert::{Alerts, Severity};
use crate::engine::health::System;
use crate::monitor::{HealthFiles, Record, RecordFile};
use crate::state::{ExecutionState, FIGURES_FILE, examine_figures};
use crate::telemetry::{AlertCount, Breaker, Input, Quota, Source, Standing, Unit};

/// Gathers it; `system` is what was last seen of the machine.
///
/// # Errors
/// When the state folder cannot be read.
pub(super) fn gather(
    ground: &Ground,
    system: Option<System>,
    now: Moment,
) -> Result<Input, Trouble> {
    let files = HealthFiles::new(&ground.state_dir);
    let health = files.health.look()?.and_then(Result::ok).unwrap_or_default();
    let alerts = files.alerts.look()?.and_then(Result::ok).unwrap_or_default();
    let record = RecordFile::new(&ground.state_dir).look().unwrap_or_default();
    let quotas = quotas::quotas(ground, now)?;
    Ok(Input {
        at: now,
        version: env!("CARGO_PKG_VERSION"),
        sources: configured(ground)?.iter().map(source).collect(),
        providers: health.providers,
        breakers: breakers(ground, now),
        quotas: quotas.into_iter().map(quota).collect(),
        report: health.report,
        alerts: active(&alerts),
        system,
        unit: unit(&record),
    })
}

fn source(known: &Known) -> Source {
    let looked = look(known);
    let settings = known.settings.as_ref();
    let kind = settings.map(|settings| match settings.kind {
        Kind::Jmap => "jmap",
    });
    Source {
        name: known.name.to_string(),
        provider: settings.map(|settings| settings.provider.clone()).unwrap_or_default(),
        kind: kind.unwrap_or_default().to_owned(),
        standing: match &looked.seen {
            Seen::State(state, worker) => Some(standing(state, *worker)),
            Seen::NeverRun | Seen::Untold(_) => None,
        },
        figures: examine_figures(&RealDisk, &known.dir.join(FIGURES_FILE)).read().map(Box::new),
    }
}

fn standing(state: &ExecutionState, worker: Worker) -> Standing {
    Standing {
        status: state.status,
        state_since: state.state_since,
        until: state.until,
        last_progress: state.last_progress,
        last_updated: state.last_updated,
        is_running: worker == Worker::Running,
        listed: state.total_threads,
        stored: state.downloaded_threads,
        gone: state.gone,
        quarantined: state.quarantined,
        waiting_for_retry: state.waiting_for_retry,
        items_per_second: state.rate_per_second,
        consecutive_errors: state.consecutive_errors,
    }
}

fn breakers(ground: &Ground, now: Moment) -> Vec<Breaker> {
    let circuits = Remarks::look(ground, now);
    let breaker = |breaker: &crate::engine::breaker::Breaker| Breaker {
        name: breaker.name().to_owned(),
        phase: breaker.phase(),
        until: breaker.until(),
        statistics: breaker.statistics(),
    };
    circuits.breakers().iter().map(breaker).collect()
}

fn quota(known: quotas::Known) -> Quota {
    let (scope, standing) = known.into_parts();
    Quota { scope, standing }
}

fn active(alerts: &Alerts) -> Vec<AlertCount> {
    let count = |severity| {
        let active = alerts.all().iter().filter(|alert| alert.is_there() && alert.severity == severity);
        AlertCount { severity, active: u64::try_from(active.count()).unwrap_or(u64::MAX) }
    };
    Severity::ALL.map(count).to_vec()
}

/// What the last round saw of it.
fn unit(record: &Record) -> Option<Unit> {
    let counted = record.counts.last().filter(|count| Some(count.at) == record.looked_at)?;
    let is_active = record
        .findings
        .iter()
        .any(|entry| entry.about == counted.unit && entry.finding == "unit_runs");
    Some(Unit { name: counted.unit.clone(), is_active, restarts: counted.restarts.into() })
}
