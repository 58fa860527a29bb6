//! What the endpoint shows: everything that the files of the state folder tell, gathered by whoever can read them.

mod health_report;
mod source_view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::cli::breaker::BreakerNotes;
use crate::cli::context::AppContext;
use crate::cli::dashboard_data::health_report::HealthReport;
use crate::cli::error::CliError;
use crate::cli::failures;
use crate::cli::quotas;
use crate::cli::source_status::read_status;
use crate::cli::sources::{SourceRef, all_sources};
use crate::endpoint::view::{
    AlertView, DashboardData, FailedItem, LookupError, ProviderView, QuotaView, Snapshot,
    SourceView, StateTransition, TrendView, Trends,
};
use crate::engine::degradation::{DegradationHistory, ProviderHealth};
use crate::engine::time_series::TimeSeries;
use crate::engine::watch::HealthLevel;
use crate::engine::{Cause, SessionId, Timestamp, alert, sanitize_line};
use crate::ledger::FailureFilter;
use crate::monitor::{
    DailySeries, HealthDocument, HealthFiles, TREND_STEP, TREND_STEPS_PER_DAY, TrendSamples,
    TrendsFile, add_samples, collect_metrics,
};
use crate::telemetry::{self, MetricsSnapshot};
use crate::worker::{Env, RealEnv};

/// The steps in which the last half hour is remembered, and how many there are.
const RECENT_STEP: Duration = Duration::from_secs(10);
const RECENT_STEPS: usize = 180;

/// The board of one monitor.
#[derive(Debug)]
pub(super) struct DashboardProvider {
    context: Mutex<Arc<AppContext>>,
    recent_trends: Mutex<DailySeries>,
}

impl DashboardProvider {
    #[must_use]
    pub(super) fn new(ground: &AppContext) -> Self {
        Self { context: Mutex::new(Arc::new(ground.clone())), recent_trends: Mutex::default() }
    }

    /// Goes by another configuration from now on.
    pub(super) fn update_config(&self, ground: &AppContext) {
        let mut followed = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        *followed = Arc::new(ground.clone());
    }

    /// Writes down what is measured now, for the lines of the day.
    ///
    /// # Errors
    /// When it cannot be measured or written.
    pub(super) fn record_day(&self, now: Timestamp) -> Result<(), CliError> {
        let ground = self.context();
        let circuits = BreakerNotes::load(&ground, now);
        let LiveStatus { sources, quotas } =
            LiveStatus::read(&ground, &circuits, &HealthReport::not_evaluated(), now)?;
        let measured = current_samples(&sources, &quotas);
        Ok(TrendsFile::new(&ground.state_dir).record(&measured, now)?)
    }

    fn context(&self) -> Arc<AppContext> {
        Arc::clone(&self.context.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn collect(&self, now: Timestamp) -> Result<Snapshot, CliError> {
        let ground = self.context();
        let files = HealthFiles::new(&ground.state_dir);
        let health = files.health.read_or_default();
        let (alerts, alerts_untold) = split_error(files.alerts.read_or_default());
        let (degradation, degradation_untold) = split_error(files.degradation.read_or_default());
        let (providers, report) = match health {
            Ok(HealthDocument { providers, report, .. }) => (providers, Ok(report)),
            Err(why) => (Vec::new(), Err(why)),
        };
        let judged = HealthReport::new(&ground, report, now);
        let circuits = BreakerNotes::load(&ground, now);
        let LiveStatus { sources, quotas } = LiveStatus::read(&ground, &circuits, &judged, now)?;
        let trends = self.collect_trends(&ground, &current_samples(&sources, &quotas), now);
        let provider = |health: ProviderHealth| ProviderView {
            breaker_note: circuits.for_provider(&health.provider),
            health,
        };
        Ok(Snapshot {
            at: now,
            level: judged.level,
            summary: judged.summary(sources.len()),
            checked_at: judged.checked_at,
            checks: judged.checks,
            sources,
            providers: providers.into_iter().map(provider).collect(),
            quotas,
            alerts: alerts.all().iter().rev().map(alert_view).collect(),
            alerts_error: alerts_untold,
            degradation,
            degradation_error: degradation_untold,
            trends,
        })
    }

    fn collect_trends(
        &self,
        ground: &AppContext,
        measured: &TrendSamples,
        now: Timestamp,
    ) -> Trends {
        let day = load_day(&TrendsFile::new(&ground.state_dir), now);
        let mut recent = self.recent_trends.lock().unwrap_or_else(PoisonError::into_inner);
        update_trends(&mut recent, day, measured, now)
    }

    fn metrics_input(&self) -> MetricsSnapshot {
        let ground = self.context();
        collect_metrics(&ground.loaded.settings, &ground.state_dir, RealEnv.now())
    }

    fn read_source<T>(
        &self,
        name: &str,
        read: impl FnOnce(&SourceRef) -> Result<T, CliError>,
    ) -> Result<T, LookupError> {
        let known =
            configured_sources(&self.context()).map_err(|trouble| lookup_error(&trouble))?;
        let source = known.iter().find(|source| source.name.as_str() == name);
        read(source.ok_or(LookupError::NoSuchSource)?).map_err(|trouble| lookup_error(&trouble))
    }
}

impl DashboardData for DashboardProvider {
    fn snapshot(&self) -> Snapshot {
        let now = RealEnv.now();
        self.collect(now).unwrap_or_else(|trouble| unavailable_snapshot(&trouble.message(), now))
    }

    fn history(&self, source: &str, limit: usize) -> Result<Vec<StateTransition>, LookupError> {
        self.read_source(source, |source| {
            let Some(ledger) = source.open_ledger()? else { return Ok(Vec::new()) };
            let passed = ledger.transitions(limit)?.into_iter().map(|step| StateTransition {
                at: step.at,
                from: sanitize_line(&step.from),
                to: sanitize_line(&step.to),
                reason: sanitize_line(&step.reason),
                session: step.session.as_ref().map(SessionId::as_str).map(sanitize_line),
            });
            Ok(passed.collect())
        })
    }

    fn failures(&self, source: &str, limit: usize) -> Result<Vec<FailedItem>, LookupError> {
        self.read_source(source, |source| {
            let Some(ledger) = source.open_ledger()? else { return Ok(Vec::new()) };
            let rows = ledger.failures(FailureFilter::default(), limit)?;
            let failed = rows.into_iter().map(|row| FailedItem {
                item: sanitize_line(row.item.as_str()),
                state: failures::status_name(row.status).to_owned(),
                attempts: row.attempts,
                next_at: row.next_attempt_at,
                cause: row.cause.map(|cause| Cause::name(cause).to_owned()),
                message: sanitize_line(&row.message),
                failed_at: row.failed_at,
                reply_status: row.last_response.map(|replied| replied.response.status),
            });
            Ok(failed.collect())
        })
    }

    fn metrics(&self) -> Result<String, LookupError> {
        Ok(telemetry::to_prometheus(&self.metrics_input()))
    }

    fn metrics_json(&self) -> Result<Value, LookupError> {
        Ok(telemetry::to_json(&self.metrics_input()))
    }
}

/// What can be counted.
struct LiveStatus {
    sources: Vec<SourceView>,
    quotas: Vec<QuotaView>,
}

impl LiveStatus {
    fn read(
        ground: &AppContext,
        circuits: &BreakerNotes,
        judged: &HealthReport,
        now: Timestamp,
    ) -> Result<Self, CliError> {
        let known = configured_sources(ground)?;
        let sources = known.iter().map(|source| {
            source_view::source_view(
                &read_status(source),
                circuits,
                judged.source_level(source.name.as_str()),
                now,
            )
        });
        let quotas = quotas::load_quota_rows(ground, now)?;
        Ok(Self {
            sources: sources.collect(),
            quotas: quotas.iter().map(quotas::QuotaRow::to_quota_view).collect(),
        })
    }
}

/// The sources of the configuration: what others left behind is nobody's work any more.
fn configured_sources(ground: &AppContext) -> Result<Vec<SourceRef>, CliError> {
    let mut known = all_sources(ground)?;
    known.retain(|source| source.settings.is_some());
    Ok(known)
}

/// Rates of what is there, zero where nothing moves; and what is left of the quotas that tell.
fn current_samples(sources: &[SourceView], quotas: &[QuotaView]) -> TrendSamples {
    let told = sources.iter().filter(|source| source.state_since.is_some());
    let rate = |source: &SourceView| source.items_per_second.unwrap_or_default();
    let left = |quota: &QuotaView| Some((quota.scope.clone(), to_f32(quota.remaining?)));
    TrendSamples {
        rates: told.map(|source| (source.name.clone(), to_f32(rate(source)))).collect(),
        rate_limits: quotas.iter().filter_map(left).collect(),
    }
}

/// Three digits are shown of it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is too large becomes infinite, and is left out"
)]
fn to_f32(number: f64) -> f32 {
    number as f32
}

/// What was told, or nothing and why.
fn split_error<T: Default>(told: Result<T, String>) -> (T, Option<String>) {
    match told {
        Ok(told) => (told, None),
        Err(why) => (T::default(), Some(why)),
    }
}

/// The lines of everything that is measured now. Those of the day may be missing, for a reason that is told.
fn update_trends(
    recent: &mut DailySeries,
    day: Result<DailySeries, String>,
    measured: &TrendSamples,
    now: Timestamp,
) -> Trends {
    let fresh = || TimeSeries::new(RECENT_STEP, RECENT_STEPS);
    add_samples(&mut recent.rates, &measured.rates, fresh, now);
    add_samples(&mut recent.rate_limits, &measured.rate_limits, fresh, now);
    let (day, untold) = split_error(day);
    Trends {
        rates: join_trends(&recent.rates, day.rates),
        quotas: join_trends(&recent.rate_limits, day.rate_limits),
        day_error: untold,
    }
}

/// The lines of the last day, without those that cannot be of it: the file may say anything.
fn load_day(file: &TrendsFile, now: Timestamp) -> Result<DailySeries, String> {
    let mut days = file.read_or_default()?;
    let nothing = BTreeMap::new();
    add_samples(&mut days.rates, &nothing, empty_day_series, now);
    add_samples(&mut days.rate_limits, &nothing, empty_day_series, now);
    Ok(days)
}

fn empty_day_series() -> TimeSeries {
    TimeSeries::new(TREND_STEP, TREND_STEPS_PER_DAY)
}

fn join_trends(
    recent: &BTreeMap<String, TimeSeries>,
    mut days: BTreeMap<String, TimeSeries>,
) -> BTreeMap<String, TrendView> {
    let day = |name: &String| days.remove(name);
    let trend = |(name, recent): (&String, &TimeSeries), day: Option<TimeSeries>| {
        let day = day.unwrap_or_else(empty_day_series);
        (name.clone(), TrendView { recent: recent.clone(), day })
    };
    let mut day = day;
    recent.iter().map(|entry| trend(entry, day(entry.0))).collect()
}

fn alert_view(alert: &alert::Alert) -> AlertView {
    AlertView {
        severity: alert.severity,
        max_severity: alert.max_severity,
        subject: sanitize_line(&alert.subject),
        cause: sanitize_line(alert.key.as_str()),
        message: sanitize_line(&alert.message),
        started_at: alert.started_at,
        resolved_at: alert.resolved_at,
        occurrences: alert.occurrences,
        advice: alert.advice.as_deref().map(sanitize_line),
    }
}

/// Nothing can be seen, and that is said.
fn unavailable_snapshot(why: &str, now: Timestamp) -> Snapshot {
    Snapshot {
        at: now,
        level: HealthLevel::Unknown,
        summary: format!("nothing can be told: {}", sanitize_line(why)),
        checked_at: None,
        checks: Vec::new(),
        sources: Vec::new(),
        providers: Vec::new(),
        quotas: Vec::new(),
        alerts: Vec::new(),
        alerts_error: None,
        degradation: DegradationHistory::default(),
        degradation_error: None,
        trends: Trends::default(),
    }
}

fn lookup_error(trouble: &CliError) -> LookupError {
    LookupError::Unreadable(sanitize_line(&trouble.message()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::TRENDS_FILE;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn an_unreadable_day_is_reported_and_hides_nothing_else() {
        let measured =
            TrendSamples { rates: [("work".to_owned(), 1.5)].into(), rate_limits: BTreeMap::new() };
        let told = "cannot read trends.json: input/output error";

        let trends =
            update_trends(&mut DailySeries::default(), Err(told.to_owned()), &measured, NOW);

        let work = &trends.rates["work"];
        assert_eq!(work.recent.samples_until(NOW).last(), Some(&Some(1.5)));
        assert_eq!(work.day.samples_until(NOW), vec![None; TREND_STEPS_PER_DAY]);
        assert_eq!(trends.day_error.as_deref(), Some(told));
    }

    #[test]
    fn series_outside_the_last_day_are_not_shown() {
        let home = tempfile::tempdir().unwrap();
        let file = TrendsFile::new(home.path());
        let measured =
            TrendSamples { rates: [("good".to_owned(), 1.5)].into(), rate_limits: BTreeMap::new() };
        file.record(&measured, NOW).unwrap();
        let path = home.path().join(TRENDS_FILE);
        let mut content: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        let good = content["rates"]["good"].clone();
        for (name, field, value) in [
            ("no-step", "step_millis", 0),
            ("step-back", "step_millis", -1),
            ("endless", "length", i64::MAX),
            ("of-ever-after", "newest", i64::MAX),
            ("of-before-all", "newest", i64::MIN),
        ] {
            content["rates"][name] = good.clone();
            content["rates"][name][field] = value.into();
            content["quotas"][name] = content["rates"][name].clone();
        }
        fs_err::write(&path, content.to_string()).unwrap();

        let days = load_day(&file, NOW).unwrap();

        assert_eq!(days.rates.keys().collect::<Vec<_>>(), ["good", "of-ever-after"]);
        assert_eq!(days.rate_limits.keys().collect::<Vec<_>>(), ["of-ever-after"]);
        // What is of the future is not seen now, and does no harm.
        assert_eq!(days.rates["of-ever-after"].samples_until(NOW), vec![None; TREND_STEPS_PER_DAY]);
        assert_eq!(days.rates["good"].samples_until(NOW).last(), Some(&Some(1.5)));
    }
}
