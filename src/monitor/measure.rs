//! Gathers what metrics are made of, from the files of the state folder. What cannot be read has no
//! figures: its worker or its writer complains of it.

use std::path::Path;

use crate::config::{Settings, Source as Configured, SourceName};
use crate::disk::{Disk, RealDisk, SharedFile, is_alive};
use crate::engine::Moment;
use crate::engine::alert::{Alert, Severity};
use crate::engine::breaker::{Memory, Phase};
use crate::engine::health::{Area, Report};
use crate::engine::quota::{self, Basis, Standing as QuotaStanding};
use crate::engine::watch::Level;
use crate::monitor::health::HealthFiles;
use crate::monitor::record::RecordFile;
use crate::state::{
    BreakersFile, ExecutionState, FIGURES_FILE, Found, QUOTA_FILE, STATE_FILE, examine,
    examine_figures, read_quotas,
};
use crate::telemetry::{AlertCount, Breaker, Input, Quota, Source, Standing, Unit};

/// Reads it all. It blocks for as long as reading a few small files takes.
#[must_use]
pub fn measure(settings: &Settings, state_dir: &Path, now: Moment) -> Input {
    let files = HealthFiles::new(state_dir);
    let health = files.health.look().ok().flatten().and_then(Result::ok).unwrap_or_default();
    let alerts = files.alerts.look().ok().flatten().and_then(Result::ok).unwrap_or_default();
    let enabled = settings.sources.iter().filter(|(_, source)| source.enabled);
    Input {
        at: now,
        version: env!("CARGO_PKG_VERSION"),
        sources: enabled.map(|(name, of)| source(&RealDisk, state_dir, name, of)).collect(),
        providers: health.providers,
        breakers: breakers(state_dir),
        quotas: quotas(settings, state_dir, now),
        alerts: counts(alerts.all()),
        unit: unit(settings, state_dir, health.report.as_ref()),
        report: health.report,
        system: health.system,
    }
}

fn source(disk: &dyn Disk, state_dir: &Path, name: &SourceName, of: &Configured) -> Source {
    let dir = state_dir.join(name.as_str());
    let state = match examine(disk, &dir.join(STATE_FILE)) {
        Ok(Found::Read(state)) => Some(*state),
        Ok(Found::Absent | Found::Unreadable { .. } | Found::Newer { .. }) | Err(_) => None,
    };
    let kind = state.as_ref().map_or_else(String::new, |state| state.kind.clone());
    Source {
        name: name.to_string(),
        provider: of.provider.clone(),
        kind,
        standing: state.as_ref().map(standing),
        figures: examine_figures(disk, &dir.join(FIGURES_FILE)).read().map(Box::new),
    }
}

fn standing(state: &ExecutionState) -> Standing {
    Standing {
        status: state.status,
        state_since: state.state_since,
        until: state.until,
        last_progress: state.last_progress,
        last_updated: state.last_updated,
        is_running: state.pid.is_some_and(is_alive),
        listed: state.total_threads,
        stored: state.downloaded_threads,
        gone: state.gone,
        quarantined: state.quarantined,
        waiting_for_retry: state.waiting_for_retry,
        items_per_second: state.rate_per_second,
        consecutive_errors: state.consecutive_errors,
    }
}

fn breakers(state_dir: &Path) -> Vec<Breaker> {
    let memories = BreakersFile::new(state_dir).examine().ok().and_then(Result::ok);
    let breaker = |(name, memory): (String, Memory)| Breaker {
        name,
        phase: Phase::from_name(&memory.state).unwrap_or(Phase::Closed),
        until: memory.until.map(Moment),
        statistics: memory.statistics,
    };
    memories.unwrap_or_default().into_iter().map(breaker).collect()
}

/// The quotas that were met; one of which nothing is known is none.
fn quotas(settings: &Settings, state_dir: &Path, now: Moment) -> Vec<Quota> {
    let file = SharedFile::new(state_dir.join(QUOTA_FILE));
    let remembered = file.look(read_quotas).ok().flatten().and_then(Result::ok);
    let scopes = remembered.unwrap_or_default().scopes.into_iter();
    let known = scopes.map(|(scope, memory)| {
        let policy = settings.quota_policy(&memory.provider);
        let standing = quota::Quota::recall(policy, &memory.quota, now).standing(now);
        Quota { scope: scope.to_string(), standing }
    });
    known.filter(|quota| is_met(&quota.standing)).collect()
}

fn is_met(QuotaStanding { hold, limits, basis, .. }: &QuotaStanding) -> bool {
    hold.is_some() || !limits.is_empty() || !matches!(basis, Basis::Nothing | Basis::SlowStart)
}

fn counts(alerts: &[Alert]) -> Vec<AlertCount> {
    let count = |severity| {
        let active = alerts.iter().filter(|alert| alert.is_there() && alert.severity == severity);
        AlertCount { severity, active: u64::try_from(active.count()).unwrap_or(u64::MAX) }
    };
    [Severity::Info, Severity::Warning, Severity::Critical].map(count).into()
}

/// The unit as it was when the monitor last looked; `None` where it has not, or there is no systemd.
fn unit(settings: &Settings, state_dir: &Path, report: Option<&Report>) -> Option<Unit> {
    let record = RecordFile::new(state_dir).look().ok()?;
    let count = record.counts.last()?;
    let is_down = report.is_some_and(|report| {
        let of_unit = report.checks.iter().filter(|check| check.name == Area::Service);
        of_unit.map(|check| check.level).max() == Some(Level::Critical)
    });
    let name = settings.service.service_name.clone();
    Some(Unit { name, is_active: !is_down, restarts: count.restarts.into() })
}
