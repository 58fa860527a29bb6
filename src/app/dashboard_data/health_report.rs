//! Last health report of the monitor, and the check that it is not stale.

use std::collections::BTreeMap;
use std::time::Duration;

use cynosure_engine::health::{CheckKind, Finding, HealthCheckReport, HealthLevel};
use cynosure_engine::{Timestamp, format_duration, sanitize_line};

use crate::app::context::AppContext;
use crate::human::pluralize;
use crate::monitor::{FindingRecord, MonitorFile, MonitorRecord};

/// Number of monitor intervals that may pass without a check before the report is stale.
const CYCLES_MISSED_MAX: u32 = 3;

/// Longest duration of one monitor cycle, without the wait before it: D-Bus may hang.
const CYCLE_DURATION_MAX: Duration = Duration::from_secs(60);

/// Health report: the findings of the last monitor cycle, and the slower health checks.
#[derive(Debug)]
pub(super) struct HealthReport {
    pub(super) level: HealthLevel,
    pub(super) checked_at: Option<Timestamp>,
    pub(super) findings: Vec<Finding>,
    levels_by_subject: BTreeMap<String, HealthLevel>,
    /// Reason if the report is stale or there is none yet.
    stale_reason: Option<String>,
}

impl HealthReport {
    /// Combines the findings of the last monitor cycle with the slower health checks. An error is
    /// the reason why the latter are unknown.
    pub(super) fn new(
        context: &AppContext,
        report: Result<Option<HealthCheckReport>, String>,
        now: Timestamp,
    ) -> Self {
        let record = MonitorFile::new(&context.state_dir).read_or_default().unwrap_or_default();
        let max_age =
            context.loaded.settings.monitor.interval * CYCLES_MISSED_MAX + CYCLE_DURATION_MAX;
        Self::from_parts(&record, report, max_age, now)
    }

    /// Returns the report before the first check.
    pub(super) fn not_evaluated() -> Self {
        Self::from_parts(&MonitorRecord::default(), Ok(None), Duration::ZERO, Timestamp::default())
    }

    fn from_parts(
        record: &MonitorRecord,
        report: Result<Option<HealthCheckReport>, String>,
        max_age: Duration,
        now: Timestamp,
    ) -> Self {
        let mut levels = BTreeMap::new();
        let mut raise_level = |subject: &str, level: HealthLevel| {
            let worst = levels.entry(subject.to_owned()).or_insert(level);
            *worst = level.max(*worst);
        };
        for entry in &record.findings {
            raise_level(&entry.subject, finding_level(entry));
        }
        let mut level = record.parse_level().unwrap_or(HealthLevel::Unknown);
        let recorded_findings = || record.findings.iter().map(to_finding);
        let findings = match report {
            Ok(Some(report)) => {
                level = level.max(report.level);
                report
                    .findings
                    .iter()
                    .for_each(|finding| raise_level(&finding.subject, finding.level));
                report.findings.into_iter().map(sanitize_finding).collect()
            }
            Ok(None) => recorded_findings().collect(),
            Err(reason) => {
                level = level.max(HealthLevel::Unknown);
                recorded_findings()
                    .chain([Finding::new(
                        CheckKind::System,
                        "unknown",
                        HealthLevel::Unknown,
                        reason,
                    )])
                    .collect()
            }
        };
        let stale_reason = stale_reason(record.checked_at, max_age, now);
        if stale_reason.is_some() {
            level = level.max(HealthLevel::Unknown);
        }
        Self {
            level,
            checked_at: record.checked_at,
            findings,
            levels_by_subject: levels,
            stale_reason,
        }
    }

    pub(super) fn source_level(&self, source: &str) -> Option<HealthLevel> {
        self.levels_by_subject.get(source).copied()
    }

    /// Returns one sentence: that all is healthy, or the first finding with the worst level.
    pub(super) fn summary(&self, sources: usize) -> String {
        if let Some(reason) = &self.stale_reason {
            return reason.clone();
        }
        let worst = self.findings.iter().filter(|finding| finding.level == self.level);
        let worst: Vec<&Finding> = worst.collect();
        match (self.level, worst.as_slice()) {
            (HealthLevel::Healthy, _) => {
                let sources = pluralize(u64::try_from(sources).unwrap_or(u64::MAX), "source");
                format!("all healthy ({sources})")
            }
            (_, [first, rest @ ..]) => {
                let more = if rest.is_empty() {
                    String::new()
                } else {
                    format!("; and {} more", rest.len())
                };
                let subject =
                    if first.subject.is_empty() { first.check.name() } else { &first.subject };
                format!("{subject}: {}{more}", first.message)
            }
            (_, []) => "the last check found a problem".to_owned(),
        }
    }
}

/// Returns the reason if a report of that time is stale, or if there is none.
fn stale_reason(
    checked_at: Option<Timestamp>,
    max_age: Duration,
    now: Timestamp,
) -> Option<String> {
    match checked_at {
        None => Some("the monitor has not completed a check yet".to_owned()),
        Some(at) if now.since(at) > max_age => Some(format!(
            "the last check of the monitor was {} ago; the current health is unknown",
            format_duration(now.since(at))
        )),
        Some(_) => None,
    }
}

fn finding_level(entry: &FindingRecord) -> HealthLevel {
    HealthLevel::from_name(&entry.level).unwrap_or(HealthLevel::Unknown)
}

fn to_finding(entry: &FindingRecord) -> Finding {
    let is_unit = entry.subject.ends_with(".service");
    let check = if is_unit { CheckKind::Service } else { CheckKind::Execution };
    let mut finding = Finding::new(
        check,
        &sanitize_line(&entry.finding),
        finding_level(entry),
        sanitize_line(&entry.message),
    )
    .with_subject(sanitize_line(&entry.subject));
    finding.value = entry.value.as_deref().map(sanitize_line);
    finding.advice = entry.advice.as_deref().map(sanitize_line);
    finding
}

/// Sanitizes all texts of a finding: the file may have any content.
fn sanitize_finding(mut finding: Finding) -> Finding {
    for text in [&mut finding.kind, &mut finding.subject, &mut finding.message] {
        *text = sanitize_line(text);
    }
    for text in [&mut finding.value, &mut finding.threshold, &mut finding.advice] {
        *text = text.as_deref().map(sanitize_line);
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const MAX_AGE: Duration = Duration::from_secs(240);

    fn record(level: HealthLevel, age: Duration) -> MonitorRecord {
        let entry = FindingRecord {
            level: level.name().to_owned(),
            subject: "work".to_owned(),
            finding: "overdue".to_owned(),
            message: "stuck".to_owned(),
            value: None,
            advice: None,
        };
        MonitorRecord {
            checked_at: Some(NOW.before(age)),
            level: Some(level.name().to_owned()),
            findings: vec![entry],
            ..MonitorRecord::default()
        }
    }

    #[test]
    fn stale_findings_are_unknown() {
        let fresh = HealthReport::from_parts(
            &record(HealthLevel::Healthy, MAX_AGE),
            Ok(None),
            MAX_AGE,
            NOW,
        );
        assert_eq!(
            (fresh.level, fresh.summary(2)),
            (HealthLevel::Healthy, "all healthy (2 sources)".to_owned())
        );

        let old = record(HealthLevel::Healthy, MAX_AGE + Duration::from_secs(1));
        let stale = HealthReport::from_parts(&old, Ok(None), MAX_AGE, NOW);
        assert_eq!(stale.level, HealthLevel::Unknown);
        assert!(
            stale.summary(2).starts_with("the last check of the monitor was 4 min 1 s ago"),
            "{}",
            stale.summary(2)
        );

        let never = HealthReport::not_evaluated();
        assert_eq!(
            (never.level, never.summary(0).as_str()),
            (HealthLevel::Unknown, "the monitor has not completed a check yet")
        );
    }

    #[test]
    fn an_unreadable_report_is_unknown_and_findings_remain() {
        for (level, shown, summary) in [
            (
                HealthLevel::Healthy,
                HealthLevel::Unknown,
                "system: health.json cannot be read: it is cut short",
            ),
            (HealthLevel::Critical, HealthLevel::Critical, "work: stuck"),
        ] {
            let reason = "health.json cannot be read: it is cut short".to_owned();

            let health =
                HealthReport::from_parts(&record(level, Duration::ZERO), Err(reason), MAX_AGE, NOW);

            assert_eq!((health.level, health.summary(1).as_str()), (shown, summary));
        }
    }

    #[test]
    fn the_worst_level_of_both_files_is_reported() {
        let mut report = HealthCheckReport::new(
            vec![
                Finding::new(
                    CheckKind::System,
                    "disk_full",
                    HealthLevel::Critical,
                    "the disk is full",
                )
                .with_subject("/mail"),
            ],
            NOW,
        );
        let health = HealthReport::from_parts(
            &record(HealthLevel::Warning, Duration::ZERO),
            Ok(Some(report.clone())),
            MAX_AGE,
            NOW,
        );
        assert_eq!(health.level, HealthLevel::Critical);
        assert_eq!(health.summary(1), "/mail: the disk is full");
        assert_eq!(health.source_level("work"), Some(HealthLevel::Warning));

        report.findings.push(report.findings[0].clone());
        let health =
            HealthReport::from_parts(&MonitorRecord::default(), Ok(Some(report)), MAX_AGE, NOW);
        assert_eq!(health.summary(1), "the monitor has not completed a check yet");
    }
}
