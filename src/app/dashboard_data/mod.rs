//! Data provider of the HTTP endpoint: reads everything from the files of the state folder.

mod health_report;
mod source_summary;
mod source_view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cynosure_engine::health::HealthLevel;
use cynosure_engine::health::degradation::{DegradationHistory, ProviderHealth};
use cynosure_engine::time_series::TimeSeries;
use cynosure_engine::{Cause, SessionId, Timestamp, alert, sanitize_line};
use serde_json::Value;

use crate::app::breaker_notes::BreakerNotes;
use crate::app::context::AppContext;
use crate::app::dashboard_data::health_report::HealthReport;
use crate::app::error::ProgramError;
use crate::app::quotas;
use crate::app::source_status::SourceStatus;
use crate::app::sources::{SourceRef, all_sources};
use crate::endpoint::view::{
    AlertView, DashboardData, FailedItem, HealthView, LookupError, ProviderView, QuotaView,
    Snapshot, SourceSummary, SourceView, StateTransition, TrendView, Trends,
};
use crate::env::{Env, RealEnv};
use crate::ledger::FailureFilter;
use crate::monitor::{
    HealthFiles, HealthRecord, TREND_STEP, TREND_STEPS_PER_DAY, TrendSamples, TrendSeries,
    TrendsFile, add_samples, collect_metrics,
};
use crate::telemetry::{self, MetricsSnapshot};

/// Step of the recent trends, which cover the last half hour.
const RECENT_STEP: Duration = Duration::from_secs(10);
/// Number of steps of the recent trends.
const RECENT_STEPS: usize = 180;

/// Data provider of one monitor.
#[derive(Debug)]
pub(super) struct DashboardProvider {
    context: Mutex<Arc<AppContext>>,
    recent_trends: Mutex<TrendSeries>,
}

impl DashboardProvider {
    #[must_use]
    pub(super) fn new(context: &AppContext) -> Self {
        Self { context: Mutex::new(Arc::new(context.clone())), recent_trends: Mutex::default() }
    }

    /// Replaces the configuration after a reload.
    pub(super) fn update_config(&self, context: &AppContext) {
        let mut current = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(context.clone());
    }

    /// Records the current samples in the trends of the last day.
    ///
    /// # Errors
    /// If the state of the sources cannot be read, or the file cannot be written.
    pub(super) fn record_trends(&self, now: Timestamp) -> Result<(), ProgramError> {
        let context = self.context();
        let breaker_notes = BreakerNotes::load(&context, now);
        let LiveStatus { sources, quotas } =
            LiveStatus::read(&context, &breaker_notes, &HealthReport::not_evaluated(), now)?;
        let samples = current_samples(&sources, &quotas);
        Ok(TrendsFile::new(&context.state_dir).record(&samples, now)?)
    }

    fn context(&self) -> Arc<AppContext> {
        Arc::clone(&self.context.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn collect(&self, now: Timestamp) -> Result<Snapshot, ProgramError> {
        let context = self.context();
        let files = HealthFiles::new(&context.state_dir);
        let health = files.health.read_or_default();
        let (alerts, alerts_error) = split_error(files.alerts.read_or_default());
        let (degradation, degradation_error) = split_error(files.degradation.read_or_default());
        let (providers, report) = match health {
            Ok(HealthRecord { providers, report, .. }) => (providers, Ok(report)),
            Err(reason) => (Vec::new(), Err(reason)),
        };
        let health_report = HealthReport::new(&context, report, now);
        let breaker_notes = BreakerNotes::load(&context, now);
        let LiveStatus { sources, quotas } =
            LiveStatus::read(&context, &breaker_notes, &health_report, now)?;
        let trends = self.collect_trends(&context, &current_samples(&sources, &quotas), now);
        let provider = |health: ProviderHealth| ProviderView {
            breaker_note: breaker_notes.for_provider(&health.provider),
            health,
        };
        Ok(Snapshot {
            at: now,
            health: HealthView {
                level: health_report.level,
                summary: health_report.summary(sources.len()),
                checked_at: health_report.checked_at,
                findings: health_report.findings,
            },
            sources,
            providers: providers.into_iter().map(provider).collect(),
            quotas,
            alerts: alerts.all().iter().rev().map(alert_view).collect(),
            alerts_error,
            degradation,
            degradation_error,
            trends,
        })
    }

    fn collect_trends(
        &self,
        context: &AppContext,
        samples: &TrendSamples,
        now: Timestamp,
    ) -> Trends {
        let day = load_day(&TrendsFile::new(&context.state_dir), now);
        let mut recent = self.recent_trends.lock().unwrap_or_else(PoisonError::into_inner);
        update_trends(&mut recent, day, samples, now)
    }

    fn metrics_snapshot(&self) -> MetricsSnapshot {
        let context = self.context();
        collect_metrics(&context.loaded.settings, &context.state_dir, RealEnv.now())
    }

    fn read_source<T>(
        &self,
        name: &str,
        read: impl FnOnce(&SourceRef) -> Result<T, ProgramError>,
    ) -> Result<T, LookupError> {
        let sources = configured_sources(&self.context()).map_err(|error| lookup_error(&error))?;
        let source = sources.iter().find(|source| source.name.as_str() == name);
        read(source.ok_or(LookupError::NoSuchSource)?).map_err(|error| lookup_error(&error))
    }
}

impl DashboardData for DashboardProvider {
    fn snapshot(&self) -> Snapshot {
        let now = RealEnv.now();
        self.collect(now).unwrap_or_else(|error| unavailable_snapshot(&error.message(), now))
    }

    fn history(&self, source: &str, limit: usize) -> Result<Vec<StateTransition>, LookupError> {
        self.read_source(source, |source| {
            let Some(ledger) = source.open_ledger()? else { return Ok(Vec::new()) };
            let transitions = ledger.transitions(limit)?.into_iter().map(|entry| StateTransition {
                at: entry.at,
                from: sanitize_line(&entry.from),
                to: sanitize_line(&entry.to),
                reason: sanitize_line(&entry.reason),
                session: entry.session.as_ref().map(SessionId::as_str).map(sanitize_line),
            });
            Ok(transitions.collect())
        })
    }

    fn failures(&self, source: &str, limit: usize) -> Result<Vec<FailedItem>, LookupError> {
        self.read_source(source, |source| {
            let Some(ledger) = source.open_ledger()? else { return Ok(Vec::new()) };
            let rows = ledger.failures(FailureFilter::default(), limit)?;
            let failed = rows.into_iter().map(|row| FailedItem {
                item: sanitize_line(row.item.as_str()),
                state: row.status.name().to_owned(),
                attempts: row.attempts,
                next_at: row.next_attempt_at,
                cause: row.cause.map(|cause| Cause::name(cause).to_owned()),
                message: sanitize_line(&row.message),
                failed_at: row.failed_at,
                response_status: row.last_response.map(|stored| stored.response.status),
            });
            Ok(failed.collect())
        })
    }

    fn summary(&self, source: &str) -> Result<SourceSummary, LookupError> {
        let context = self.context();
        let archive_dir = &context.loaded.settings.archive.dir;
        self.read_source(source, |source| {
            source_summary::read_source_summary(source, archive_dir, RealEnv.now())
        })
    }

    fn metrics(&self) -> Result<String, LookupError> {
        Ok(telemetry::to_prometheus(&self.metrics_snapshot()))
    }

    fn metrics_json(&self) -> Result<Value, LookupError> {
        Ok(telemetry::to_json(&self.metrics_snapshot()))
    }
}

/// Current status of the sources and the quotas.
struct LiveStatus {
    sources: Vec<SourceView>,
    quotas: Vec<QuotaView>,
}

impl LiveStatus {
    fn read(
        context: &AppContext,
        breaker_notes: &BreakerNotes,
        health_report: &HealthReport,
        now: Timestamp,
    ) -> Result<Self, ProgramError> {
        let configured = configured_sources(context)?;
        let sources = configured.iter().map(|source| {
            source_view::source_view(
                &SourceStatus::read(source),
                breaker_notes,
                health_report.source_level(source.name.as_str()),
                now,
            )
        });
        let quotas = quotas::load_quota_rows(context, now)?;
        Ok(Self {
            sources: sources.collect(),
            quotas: quotas.iter().map(quotas::QuotaRow::to_quota_view).collect(),
        })
    }
}

/// Returns the configured sources. The state folders of removed sources are ignored.
fn configured_sources(context: &AppContext) -> Result<Vec<SourceRef>, ProgramError> {
    let mut sources = all_sources(context)?;
    sources.retain(|source| source.settings.is_some());
    Ok(sources)
}

/// Returns the rate of each source that has a state, zero if it is not downloading, and the
/// remaining requests of each quota that has them.
fn current_samples(sources: &[SourceView], quotas: &[QuotaView]) -> TrendSamples {
    let with_state = sources.iter().filter(|source| source.state_since.is_some());
    let rate = |source: &SourceView| source.items_per_second.unwrap_or_default();
    let remaining = |quota: &QuotaView| Some((quota.scope.clone(), to_f32(quota.remaining?)));
    TrendSamples {
        rates: with_state.map(|source| (source.name.clone(), to_f32(rate(source)))).collect(),
        rate_limits: quotas.iter().filter_map(remaining).collect(),
    }
}

/// Converts a sample to `f32`. Only three digits of it are shown.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a too large value becomes infinite, and is left out"
)]
fn to_f32(number: f64) -> f32 {
    number as f32
}

/// Returns the value without an error, or the default with the error.
fn split_error<T: Default>(result: Result<T, String>) -> (T, Option<String>) {
    match result {
        Ok(value) => (value, None),
        Err(reason) => (T::default(), Some(reason)),
    }
}

/// Adds the samples to the recent trends, and joins these with the trends of the day. If the latter
/// cannot be read, `day_error` is the reason.
fn update_trends(
    recent: &mut TrendSeries,
    day: Result<TrendSeries, String>,
    samples: &TrendSamples,
    now: Timestamp,
) -> Trends {
    let empty_series = || TimeSeries::new(RECENT_STEP, RECENT_STEPS);
    add_samples(&mut recent.rates, &samples.rates, empty_series, now);
    add_samples(&mut recent.rate_limits, &samples.rate_limits, empty_series, now);
    let (day, day_error) = split_error(day);
    Trends {
        rates: join_trends(&recent.rates, day.rates),
        quotas: join_trends(&recent.rate_limits, day.rate_limits),
        day_error,
    }
}

/// Reads the series of the last day. Drops series of another shape, and those without a sample in
/// that day, since the file may have any content.
fn load_day(file: &TrendsFile, now: Timestamp) -> Result<TrendSeries, String> {
    let mut day = file.read_or_default()?;
    let no_samples = BTreeMap::new();
    add_samples(&mut day.rates, &no_samples, empty_day_series, now);
    add_samples(&mut day.rate_limits, &no_samples, empty_day_series, now);
    Ok(day)
}

fn empty_day_series() -> TimeSeries {
    TimeSeries::new(TREND_STEP, TREND_STEPS_PER_DAY)
}

fn join_trends(
    recent: &BTreeMap<String, TimeSeries>,
    mut day: BTreeMap<String, TimeSeries>,
) -> BTreeMap<String, TrendView> {
    let trends = recent.iter().map(|(name, recent)| {
        let day = day.remove(name).unwrap_or_else(empty_day_series);
        (name.clone(), TrendView { recent: recent.clone(), day })
    });
    trends.collect()
}

fn alert_view(alert: &alert::Alert) -> AlertView {
    AlertView {
        severity: alert.severity,
        max_severity: alert.max_severity,
        subject: sanitize_line(&alert.subject),
        key: sanitize_line(alert.key.as_str()),
        message: sanitize_line(&alert.message),
        started_at: alert.started_at,
        resolved_at: alert.resolved_at,
        occurrences: alert.occurrences,
        advice: alert.advice.as_deref().map(sanitize_line),
    }
}

/// Returns an empty snapshot whose summary is the reason.
fn unavailable_snapshot(reason: &str, now: Timestamp) -> Snapshot {
    Snapshot {
        at: now,
        health: HealthView {
            level: HealthLevel::Unknown,
            summary: format!("the data cannot be read: {}", sanitize_line(reason)),
            checked_at: None,
            findings: Vec::new(),
        },
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

fn lookup_error(error: &ProgramError) -> LookupError {
    LookupError::Unreadable(sanitize_line(&error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::TRENDS_FILE;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn an_unreadable_day_is_reported_and_hides_nothing_else() {
        let samples =
            TrendSamples { rates: [("work".to_owned(), 1.5)].into(), rate_limits: BTreeMap::new() };
        let reason = "cannot read trends.json: input/output error";

        let trends =
            update_trends(&mut TrendSeries::default(), Err(reason.to_owned()), &samples, NOW);

        let work = &trends.rates["work"];
        assert_eq!(work.recent.values_until(NOW).last(), Some(&Some(1.5)));
        assert_eq!(work.day.values_until(NOW), vec![None; TREND_STEPS_PER_DAY]);
        assert_eq!(trends.day_error.as_deref(), Some(reason));
    }

    #[test]
    fn series_outside_the_last_day_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = TrendsFile::new(dir.path());
        let samples =
            TrendSamples { rates: [("good".to_owned(), 1.5)].into(), rate_limits: BTreeMap::new() };
        file.record(&samples, NOW).unwrap();
        let path = dir.path().join(TRENDS_FILE);
        let mut content: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        let good = content["rates"]["good"].clone();
        for (name, field, value) in [
            ("no-step", "step_millis", 0),
            ("step-back", "step_millis", -1),
            ("endless", "length", i64::MAX),
            ("in-the-future", "newest", i64::MAX),
            ("in-the-past", "newest", i64::MIN),
        ] {
            content["rates"][name] = good.clone();
            content["rates"][name][field] = value.into();
            content["quotas"][name] = content["rates"][name].clone();
        }
        fs_err::write(&path, content.to_string()).unwrap();

        let day = load_day(&file, NOW).unwrap();

        assert_eq!(day.rates.keys().collect::<Vec<_>>(), ["good", "in-the-future"]);
        assert_eq!(day.rate_limits.keys().collect::<Vec<_>>(), ["in-the-future"]);
        // A series that ends in the future has no samples until now.
        assert_eq!(day.rates["in-the-future"].values_until(NOW), vec![None; TREND_STEPS_PER_DAY]);
        assert_eq!(day.rates["good"].values_until(NOW).last(), Some(&Some(1.5)));
    }
}
