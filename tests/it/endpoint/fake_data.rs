//! Fake dashboard data: five sources of three providers, not all healthy. Tests can change it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cynosure::endpoint::view::{
    AlertView, ArchiveDay, DashboardData, FailedItem, GROWTH_STEP, HealthView, LastErrorView,
    LookupError, ProviderView, QuotaView, Snapshot, SourceSummary, SourceView, StateTransition,
    SummaryEntry, TrendView,
};
use cynosure_engine::Timestamp;
use cynosure_engine::alert::Severity;
use cynosure_engine::breaker::BreakerState;
use cynosure_engine::health::degradation::{
    DegradationHistory, DegradationLevel, ProviderHealth, SLOT_DURATION, SLOTS_PER_DAY,
    SourceCounts,
};
use cynosure_engine::health::{CheckKind, Finding, HealthLevel};
use cynosure_engine::time_series::{Aggregation, TimeSeries};
use serde_json::{Value, json};

/// Text that would inject markup if it were not escaped.
pub(crate) const HOSTILE_TEXT: &str = "<img src=x onerror=alert(1)>\"'&</script><b>";

/// 2026-03-07 14:05:03 UTC.
pub(crate) const NOW: Timestamp = Timestamp(1_772_892_303_000);

/// Source with longer lists than the page shows.
pub(crate) const LONG_LISTS_SOURCE: &str = "long";

/// Fake data that counts the snapshots taken of it.
#[derive(Debug)]
pub(crate) struct FakeData {
    snapshot: Mutex<Snapshot>,
    snapshot_count: AtomicUsize,
}

impl FakeData {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot: Mutex::new(snapshot), snapshot_count: AtomicUsize::new(0) }
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn snapshot_count(&self) -> usize {
        self.snapshot_count.load(Ordering::Relaxed)
    }
}

impl DashboardData for FakeData {
    fn snapshot(&self) -> Snapshot {
        self.snapshot_count.fetch_add(1, Ordering::Relaxed);
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn history(&self, source: &str, limit: usize) -> Result<Vec<StateTransition>, LookupError> {
        match source {
            "work" => Ok(history().into_iter().take(limit).collect()),
            LONG_LISTS_SOURCE => Ok(history().into_iter().cycle().take(limit.min(60)).collect()),
            "broken" => Err(LookupError::Unreadable("the ledger is damaged".to_owned())),
            // Panics, as a bug in the data provider would.
            "panic" => Ok(vec![history()[usize::MAX].clone()]),
            name if self.snapshot().source(name).is_some() => Ok(Vec::new()),
            _ => Err(LookupError::NoSuchSource),
        }
    }

    fn failures(&self, source: &str, limit: usize) -> Result<Vec<FailedItem>, LookupError> {
        match source {
            "work" => Ok(failures().into_iter().take(limit).collect()),
            LONG_LISTS_SOURCE => Ok(failures().into_iter().cycle().take(limit.min(60)).collect()),
            name if self.snapshot().source(name).is_some() => Ok(Vec::new()),
            _ => Err(LookupError::NoSuchSource),
        }
    }

    fn summary(&self, source: &str) -> Result<SourceSummary, LookupError> {
        match source {
            "work" => Ok(summary()),
            "broken" => Err(LookupError::Unreadable("the ledger is damaged".to_owned())),
            name if self.snapshot().source(name).is_some() => Ok(SourceSummary::default()),
            _ => Err(LookupError::NoSuchSource),
        }
    }

    fn metrics(&self) -> Result<String, LookupError> {
        Ok("# TYPE cynosure_sources gauge\ncynosure_sources 5\n".to_owned())
    }

    fn metrics_json(&self) -> Result<Value, LookupError> {
        Ok(json!({ "at": NOW, "metrics": { "cynosure_sources": { "type": "gauge" } } }))
    }
}

/// Returns a healthy snapshot with one source.
pub(crate) fn healthy_snapshot() -> Snapshot {
    Snapshot {
        at: NOW,
        health: HealthView {
            level: HealthLevel::Healthy,
            summary: "all healthy (1 source)".to_owned(),
            checked_at: Some(NOW.before(Duration::from_secs(12))),
            findings: vec![
                Finding::new(CheckKind::Execution, "ok", HealthLevel::Healthy, "downloading")
                    .with_subject("work"),
            ],
        },
        sources: vec![source("work", "downloading")],
        providers: vec![provider("example.com", 0.0, BreakerState::Closed, "healthy")],
        quotas: Vec::new(),
        alerts: Vec::new(),
        degradation: DegradationHistory::default(),
        degradation_error: None,
        alerts_error: None,
        trends: cynosure::endpoint::view::Trends::default(),
    }
}

/// Returns a snapshot with nearly everything that can be shown.
pub(crate) fn full_snapshot() -> Snapshot {
    let quota = QuotaView {
        scope: "mail.example.net".to_owned(),
        rate_per_second: Some(9.8),
        rate_source: "the server says: 600 in 1 min".to_owned(),
        remaining: Some(12.0),
        block_status: "blocked until 14:09 (in 4 min): the server said: retry after 300 s"
            .to_owned(),
        blocked_until: Some(NOW.after(Duration::from_secs(240))),
    };
    let learned = QuotaView {
        scope: "example.com api.example.com".to_owned(),
        rate_per_second: Some(14.2),
        rate_source: "learned: about 14.2/s, from 7 rejected requests".to_owned(),
        remaining: None,
        block_status: "not blocked".to_owned(),
        blocked_until: None,
    };
    let healthy = healthy_snapshot();
    let mut snapshot = Snapshot {
        health: HealthView {
            level: HealthLevel::Critical,
            summary: "old: the credential is refused; and 1 more".to_owned(),
            findings: findings(),
            ..healthy.health
        },
        sources: sources(),
        providers: vec![
            provider("example.com", 0.02, BreakerState::Closed, "all 2 healthy"),
            provider(
                "mail.example.net",
                0.38,
                BreakerState::HalfOpen,
                "1 of 2 degraded, circuit breaker half-open",
            ),
            provider(
                "old-mail.example.org",
                0.72,
                BreakerState::Open,
                "1 of 1 failed, circuit breaker open",
            ),
        ],
        quotas: vec![quota, learned],
        alerts: alerts(),
        degradation: degradation(),
        degradation_error: None,
        alerts_error: None,
        ..healthy
    };
    snapshot.providers[2].breaker_note =
        Some("the circuit breaker old-mail.example.org is open until 14:07 (in 2 min)".to_owned());
    for (name, base) in [("work", 14.0), ("home", 4.0), ("lists", 9.0)] {
        snapshot.trends.rates.insert(name.to_owned(), trend(base));
    }
    snapshot.trends.quotas.insert("mail.example.net".to_owned(), trend(300.0));
    snapshot
}

/// Returns a healthy snapshot with this number of sources.
pub(crate) fn snapshot_of_many_sources(number: usize) -> Snapshot {
    let sources = (0..number).map(|index| source(&format!("source-{index}"), "downloading"));
    Snapshot { sources: sources.collect(), ..healthy_snapshot() }
}

pub(crate) fn source(name: &str, state: &str) -> SourceView {
    SourceView {
        name: name.to_owned(),
        provider: "example.com".to_owned(),
        kind: "jmap".to_owned(),
        state: state.to_owned(),
        is_running: true,
        level: Some(HealthLevel::Healthy),
        status_text: "downloading the listed items".to_owned(),
        deadline_text: Some("14:35 (in 30 min)".to_owned()),
        deadline_at: Some(NOW.after(Duration::from_secs(1800))),
        state_since: Some(NOW.before(Duration::from_secs(720))),
        last_progress: Some(NOW),
        session: Some("session_1772891583".to_owned()),
        total: 81_113,
        settled: 10_204,
        stored: 10_199,
        gone: 3,
        quarantined: 2,
        waiting_for_retry: 4,
        fetched_bytes: 412_000_000,
        expected_bytes: Some(3_400_000_000),
        items_per_second: Some(14.2),
        eta_seconds: Some(4994),
        archive_documents: Some(81_112),
        archive_bytes: Some(4_200_000_000),
        complete_until: Some(NOW.before(Duration::from_secs(7200))),
        is_completeness_stale: false,
        consecutive_errors: 0,
        restart_count: 0,
        last_error: None,
    }
}

fn sources() -> Vec<SourceView> {
    let waiting = SourceView {
        provider: "mail.example.net".to_owned(),
        level: Some(HealthLevel::Healthy),
        status_text: "the server said: retry after 300 s".to_owned(),
        deadline_text: Some("14:09 (in 4 min)".to_owned()),
        deadline_at: Some(NOW.after(Duration::from_secs(240))),
        items_per_second: None,
        eta_seconds: None,
        settled: 40_000,
        ..source("home", "rate_limited")
    };
    let auth_failed = SourceView {
        provider: "old-mail.example.org".to_owned(),
        level: Some(HealthLevel::Critical),
        status_text: "401 from old-mail.example.org; replace the token in /etc/cynosure/old.token"
            .to_owned(),
        deadline_text: Some("14:10 or new token".to_owned()),
        total: 0,
        settled: 0,
        fetched_bytes: 0,
        expected_bytes: None,
        quarantined: 0,
        gone: 0,
        waiting_for_retry: 0,
        items_per_second: None,
        eta_seconds: None,
        complete_until: Some(NOW.before(Duration::from_secs(3 * 86_400))),
        is_completeness_stale: true,
        restart_count: 3,
        last_error: Some(LastErrorView {
            cause: "authentication".to_owned(),
            message: format!("401: {HOSTILE_TEXT}"),
            at: NOW.before(Duration::from_secs(95)),
        }),
        ..source("old", "auth_failed")
    };
    let collecting = SourceView {
        provider: "mail.example.net".to_owned(),
        status_text: "listing the items of the source".to_owned(),
        archive_documents: Some(0),
        archive_bytes: Some(0),
        complete_until: None,
        total: 12_512,
        settled: 0,
        quarantined: 0,
        gone: 0,
        waiting_for_retry: 0,
        items_per_second: None,
        eta_seconds: None,
        ..source("lists", "collecting")
    };
    let completed = SourceView {
        status_text: "all listed items are settled".to_owned(),
        deadline_text: Some("13:58:11".to_owned()),
        total: 2000,
        settled: 2000,
        quarantined: 0,
        gone: 1,
        waiting_for_retry: 0,
        items_per_second: None,
        eta_seconds: None,
        ..source("archive-of-a-newsletter-with-a-very-long-name", "completed")
    };
    vec![completed, waiting, collecting, auth_failed, source("work", "downloading")]
}

fn provider(name: &str, score: f64, breaker: BreakerState, status: &str) -> ProviderView {
    ProviderView {
        health: ProviderHealth {
            provider: name.to_owned(),
            score,
            level: DegradationLevel::from_score(score),
            status: status.to_owned(),
            p95_latency: Some(Duration::from_millis(240)),
            success_rate: Some(1.0 - score / 2.0),
            breaker: Some(breaker),
            sources: SourceCounts { total: 2, degraded: 0, failed: 0 },
        },
        breaker_note: None,
    }
}

fn findings() -> Vec<Finding> {
    let healthy = |check, subject: &str, message: &str| {
        Finding::new(check, "ok", HealthLevel::Healthy, message).with_subject(subject)
    };
    vec![
        healthy(CheckKind::Service, "cynosure.service", "it runs")
            .with_measurement("2 restarts", "5"),
        healthy(CheckKind::Execution, "work", "downloading"),
        Finding::new(
            CheckKind::Execution,
            "credential_refused",
            HealthLevel::Critical,
            "the credential is refused",
        )
        .with_subject("old")
        .with_measurement("for 12 min", "0 s")
        .with_advice("replace the token in /etc/cynosure/old.token"),
        Finding::new(
            CheckKind::System,
            "disk_low",
            HealthLevel::Warning,
            "the disk of the archive is filling up",
        )
        .with_subject("/var/lib/cynosure")
        .with_measurement("84 % used", "80 %")
        .with_advice("free some space, or move the archive"),
        Finding::new(
            CheckKind::Journal,
            "unreadable",
            HealthLevel::Unknown,
            "cannot be checked: journalctl is not allowed",
        ),
    ]
}

fn alerts() -> Vec<AlertView> {
    let alert =
        |severity, subject: &str, key: &str, message: &str, ago, resolved_ago: Option<u64>| {
            AlertView {
                severity,
                max_severity: severity,
                subject: subject.to_owned(),
                key: key.to_owned(),
                message: message.to_owned(),
                started_at: NOW.before(Duration::from_secs(ago)),
                resolved_at: resolved_ago.map(|ago| NOW.before(Duration::from_secs(ago))),
                occurrences: 1,
                advice: None,
            }
        };
    let mut alerts = vec![
        alert(
            Severity::Critical,
            "old",
            "execution.credential_refused",
            "the credential is refused",
            720,
            None,
        ),
        alert(
            Severity::Warning,
            "/var/lib/cynosure",
            "system.disk_low",
            "the disk of the archive is filling up (84 % used)",
            3000,
            None,
        ),
        alert(
            Severity::Critical,
            "old-mail.example.org",
            "breaker.open",
            &format!("its circuit breaker opened after 5 consecutive failures: {HOSTILE_TEXT}"),
            4000,
            Some(3300),
        ),
        alert(
            Severity::Info,
            "work",
            "execution.restarted",
            "it was restarted after a time without progress",
            40_000,
            Some(39_000),
        ),
    ];
    alerts[0].advice = Some("replace the token in /etc/cynosure/old.token".to_owned());
    alerts[2].occurrences = 3;
    alerts[3].max_severity = Severity::Critical;
    alerts
}

/// Returns a day on which each provider was degraded for some hours.
fn degradation() -> DegradationHistory {
    let day = |bad: std::ops::Range<i32>, worst: f64| -> Vec<Option<f64>> {
        let score = |slot: i32| {
            let wave = f64::from(slot % 24) / 24.0 * 0.08;
            if bad.contains(&slot) { worst * (0.6 + wave * 5.0) } else { wave }
        };
        (0..SLOTS_PER_DAY).map(|slot| (slot > 30).then(|| score(slot))).collect()
    };
    let first = NOW
        .before(SLOT_DURATION * u32::try_from(SLOTS_PER_DAY - 1).expect("the slots of a day fit"));
    DegradationHistory {
        starts_at: Timestamp(first.0.div_euclid(300_000) * 300_000),
        scores: [
            ("example.com".to_owned(), day(90..100, 0.2)),
            ("mail.example.net".to_owned(), day(150..230, 0.5)),
            ("old-mail.example.org".to_owned(), day(200..288, 0.8)),
        ]
        .into(),
    }
}

fn trend(base: f32) -> TrendView {
    let series = |step: Duration, length: usize| {
        let mut series = TimeSeries::new(step, length);
        let mut at = NOW.before(step * u32::try_from(length).expect("a short series"));
        for index in 0..length {
            at = at.after(step);
            let wave = [1.0, 0.8, 0.9, 0.4, 0.7, 0.95, 1.05, 0.6][index / 5 % 8];
            // A gap, as if the machine was off.
            if !(60..70).contains(&index) {
                series.record(base * wave, Aggregation::Mean, at);
            }
        }
        series
    };
    TrendView {
        recent: series(Duration::from_secs(10), 180),
        day: series(Duration::from_secs(600), 144),
    }
}

fn history() -> Vec<StateTransition> {
    let transition = |ago, from: &str, to: &str, reason: &str| StateTransition {
        at: NOW.before(Duration::from_secs(ago)),
        from: from.to_owned(),
        to: to.to_owned(),
        reason: reason.to_owned(),
        session: Some("session_1772891583".to_owned()),
    };
    vec![
        transition(720, "rate_limited", "downloading", "the wait is over"),
        transition(1020, "downloading", "rate_limited", "the server said: retry after 300 s"),
        transition(1500, "collecting", "downloading", "everything is listed"),
        transition(1600, "idle", "collecting", HOSTILE_TEXT),
    ]
}

fn failures() -> Vec<FailedItem> {
    let failed_item = |item: &str, state: &str, cause: &str, message: &str, status| FailedItem {
        item: item.to_owned(),
        state: state.to_owned(),
        attempts: 3,
        next_at: Some(NOW.after(Duration::from_secs(7200))),
        cause: Some(cause.to_owned()),
        message: message.to_owned(),
        failed_at: Some(NOW.before(Duration::from_secs(500))),
        response_status: status,
    };
    vec![
        failed_item("T5f3a99", "quarantined", "forbidden", "403 Forbidden", Some(403)),
        failed_item(HOSTILE_TEXT, "waiting", "server", HOSTILE_TEXT, Some(500)),
        FailedItem {
            next_at: None,
            ..failed_item("T0000aa", "gone", "gone", "404 Not Found", Some(404))
        },
    ]
}

/// Returns the summary of a session, and the growth of an archive that began three weeks ago.
fn summary() -> SourceSummary {
    let entry =
        |label: &str, text: &str| SummaryEntry { label: label.to_owned(), text: text.to_owned() };
    let today = Timestamp(NOW.0 - NOW.0.rem_euclid(86_400_000));
    let day = |ago: u32| {
        let documents = (ago < 21).then(|| 81_112 - u64::from(ago) * 1_999);
        ArchiveDay {
            starts_at: today.before(GROWTH_STEP * ago),
            documents,
            bytes: documents.map(|documents| documents * 51_780),
        }
    };
    SourceSummary {
        entries: vec![
            entry("account", HOSTILE_TEXT),
            entry("new", "1,999 messages, 31.8 MB, in 4 min 5 s"),
            entry("missing", "2 quarantined: `cynosure failures work` shows them"),
        ],
        growth: (0..30).rev().map(day).collect(),
    }
}
