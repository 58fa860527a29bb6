//! What the monitor found when it last looked, and whether that is still worth something.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::context::AppContext;
use crate::engine::health::{CheckKind, HealthCheck, HealthCheckReport};
use crate::engine::watch::HealthLevel;
use crate::engine::{Timestamp, format_duration, sanitize_line};
use crate::human::pluralize;
use crate::monitor::{FindingRecord, MonitorFile, MonitorRecord};

/// How many rounds may be missing before what was found counts for nothing.
const CYCLES_MISSED_MAX: u32 = 3;

/// What a round takes at most, beside the wait for it: it may meet a bus that hangs.
const CYCLE_DURATION_MAX: Duration = Duration::from_secs(60);

/// The last judgement of all.
#[derive(Debug)]
pub(super) struct HealthReport {
    pub(super) level: HealthLevel,
    pub(super) checked_at: Option<Timestamp>,
    pub(super) checks: Vec<HealthCheck>,
    levels_by_subject: BTreeMap<String, HealthLevel>,
    /// Why nothing of it counts any more.
    stale_reason: Option<String>,
}

impl HealthReport {
    /// Puts together what the rounds and the slower checks of health found; the error says why
    /// the latter is not known.
    pub(super) fn new(
        ground: &AppContext,
        report: Result<Option<HealthCheckReport>, String>,
        now: Timestamp,
    ) -> Self {
        let record = MonitorFile::new(&ground.state_dir).read_or_default().unwrap_or_default();
        let longest =
            ground.loaded.settings.monitor.interval * CYCLES_MISSED_MAX + CYCLE_DURATION_MAX;
        Self::from_parts(&record, report, longest, now)
    }

    /// What is known before anything was looked at.
    pub(super) fn not_evaluated() -> Self {
        Self::from_parts(&MonitorRecord::default(), Ok(None), Duration::ZERO, Timestamp::default())
    }

    fn from_parts(
        record: &MonitorRecord,
        report: Result<Option<HealthCheckReport>, String>,
        longest: Duration,
        now: Timestamp,
    ) -> Self {
        let mut levels = BTreeMap::new();
        let mut worsen = |about: &str, level: HealthLevel| {
            let known = levels.entry(about.to_owned()).or_insert(level);
            *known = level.max(*known);
        };
        for entry in &record.findings {
            worsen(&entry.subject, finding_level(entry));
        }
        let mut worst = record.parse_level().unwrap_or(HealthLevel::Unknown);
        let found = || record.findings.iter().map(to_check);
        let checks = match report {
            Ok(Some(report)) => {
                worst = worst.max(report.level);
                report.checks.iter().for_each(|check| worsen(&check.subject, check.level));
                report.checks.into_iter().map(sanitized).collect()
            }
            Ok(None) => found().collect(),
            Err(why) => {
                worst = worst.max(HealthLevel::Unknown);
                found()
                    .chain([HealthCheck::new(
                        CheckKind::System,
                        "not_known",
                        HealthLevel::Unknown,
                        why,
                    )])
                    .collect()
            }
        };
        let stale = stale_reason(record.checked_at, longest, now);
        if stale.is_some() {
            worst = worst.max(HealthLevel::Unknown);
        }
        Self {
            level: worst,
            checked_at: record.checked_at,
            checks,
            levels_by_subject: levels,
            stale_reason: stale,
        }
    }

    pub(super) fn source_level(&self, source: &str) -> Option<HealthLevel> {
        self.levels_by_subject.get(source).copied()
    }

    /// How all is, with the worst of what is not well.
    pub(super) fn summary(&self, sources: usize) -> String {
        if let Some(stale) = &self.stale_reason {
            return stale.clone();
        }
        let ill = self.checks.iter().filter(|check| check.level == self.level);
        let ill: Vec<&HealthCheck> = ill.collect();
        match (self.level, ill.as_slice()) {
            (HealthLevel::Healthy, _) => {
                let sources = pluralize(u64::try_from(sources).unwrap_or(u64::MAX), "source");
                format!("all is well with {sources}")
            }
            (_, [first, rest @ ..]) => {
                let more = if rest.is_empty() {
                    String::new()
                } else {
                    format!("; and {} more", rest.len())
                };
                let about =
                    if first.subject.is_empty() { first.kind.name() } else { &first.subject };
                format!("{about}: {}{more}", first.message)
            }
            (_, []) => "something was amiss when it was last looked".to_owned(),
        }
    }
}

/// Why what was found then counts for nothing now.
fn stale_reason(looked_at: Option<Timestamp>, longest: Duration, now: Timestamp) -> Option<String> {
    match looked_at {
        None => Some("the monitor has not looked yet".to_owned()),
        Some(at) if now.since(at) > longest => Some(format!(
            "the monitor last looked {} ago, so that nothing is known",
            format_duration(now.since(at))
        )),
        Some(_) => None,
    }
}

fn finding_level(entry: &FindingRecord) -> HealthLevel {
    HealthLevel::from_name(&entry.level).unwrap_or(HealthLevel::Unknown)
}

fn to_check(entry: &FindingRecord) -> HealthCheck {
    let is_unit = entry.subject.ends_with(".service");
    let area = if is_unit { CheckKind::Service } else { CheckKind::Execution };
    let mut check = HealthCheck::new(
        area,
        &sanitize_line(&entry.finding),
        finding_level(entry),
        sanitize_line(&entry.message),
    )
    .with_subject(sanitize_line(&entry.subject));
    check.value = entry.value.as_deref().map(sanitize_line);
    check.advice = entry.advice.as_deref().map(sanitize_line);
    check
}

/// The file may say anything.
fn sanitized(mut check: HealthCheck) -> HealthCheck {
    for text in [&mut check.finding, &mut check.subject, &mut check.message] {
        *text = sanitize_line(text);
    }
    for text in [&mut check.value, &mut check.threshold, &mut check.advice] {
        *text = text.as_deref().map(sanitize_line);
    }
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const MAX_AGE: Duration = Duration::from_secs(240);

    fn record(level: HealthLevel, looked: Duration) -> MonitorRecord {
        let entry = FindingRecord {
            level: level.name().to_owned(),
            subject: "work".to_owned(),
            finding: "overdue".to_owned(),
            message: "stuck".to_owned(),
            value: None,
            advice: None,
        };
        MonitorRecord {
            checked_at: Some(NOW.before(looked)),
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
            (HealthLevel::Healthy, "all is well with 2 sources".to_owned())
        );

        let late = record(HealthLevel::Healthy, MAX_AGE + Duration::from_secs(1));
        let stale = HealthReport::from_parts(&late, Ok(None), MAX_AGE, NOW);
        assert_eq!(stale.level, HealthLevel::Unknown);
        assert!(
            stale.summary(2).starts_with("the monitor last looked 4 min 1 s ago"),
            "{}",
            stale.summary(2)
        );

        let never = HealthReport::not_evaluated();
        assert_eq!(
            (never.level, never.summary(0).as_str()),
            (HealthLevel::Unknown, "the monitor has not looked yet")
        );
    }

    #[test]
    fn an_unreadable_report_is_unknown_and_findings_remain() {
        for (level, shown, sentence) in [
            (
                HealthLevel::Healthy,
                HealthLevel::Unknown,
                "system: health.json cannot be read: it is cut short",
            ),
            (HealthLevel::Critical, HealthLevel::Critical, "work: stuck"),
        ] {
            let why = "health.json cannot be read: it is cut short".to_owned();

            let judged =
                HealthReport::from_parts(&record(level, Duration::ZERO), Err(why), MAX_AGE, NOW);

            assert_eq!((judged.level, judged.summary(1).as_str()), (shown, sentence));
        }
    }

    #[test]
    fn the_worst_level_of_both_sources_is_reported() {
        let mut report = HealthCheckReport::new(
            vec![
                HealthCheck::new(
                    CheckKind::System,
                    "disk_full",
                    HealthLevel::Critical,
                    "the disk is full",
                )
                .with_subject("/mail"),
            ],
            NOW,
        );
        let judged = HealthReport::from_parts(
            &record(HealthLevel::Warning, Duration::ZERO),
            Ok(Some(report.clone())),
            MAX_AGE,
            NOW,
        );
        assert_eq!(judged.level, HealthLevel::Critical);
        assert_eq!(judged.summary(1), "/mail: the disk is full");
        assert_eq!(judged.source_level("work"), Some(HealthLevel::Warning));

        report.checks.push(report.checks[0].clone());
        let judged =
            HealthReport::from_parts(&MonitorRecord::default(), Ok(Some(report)), MAX_AGE, NOW);
        assert_eq!(judged.summary(1), "the monitor has not looked yet");
    }
}
