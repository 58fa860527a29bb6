//! Alert store: keeps the alerts, deduplicates them, and decides which notifications are sent.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::alert::episode::EpisodeWatermark;
use crate::alert::{
    Alert, AlertKey, Episode, Notification, NotificationKind, Resolution, Severity,
};
use crate::health::{Finding, HealthLevel};

/// Maximum number of resolved alerts kept, besides the firing ones: those of quiet weeks, or of one
/// bad day.
pub const RESOLVED_ALERTS_MAX: usize = 100;

/// Shortest interval between notifications of one flapping cause.
const REPEAT_INTERVAL: Duration = Duration::from_secs(3600);

/// All alerts, newest last.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AlertStore {
    alerts: Vec<Alert>,
    /// In the same file as the notification state, so that no episode is notified twice or lost.
    #[serde(default)]
    #[serde(alias = "heard")]
    episode_watermark: EpisodeWatermark,
}

/// Input of one evaluation.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Findings to alert about, one per cause.
    pub findings: Vec<Finding>,
    /// Recorded episodes, newest last for each subject.
    pub episodes: Vec<Episode>,
    /// Check or full alert key that could not be observed, with the subject; an empty subject
    /// means all of them. Their alerts stay unchanged.
    pub unobserved: BTreeSet<(String, String)>,
    /// All subjects that exist. An alert of any other subject resolves.
    pub known_subjects: BTreeSet<String>,
}

impl AlertStore {
    /// Returns all alerts, newest last.
    #[must_use]
    pub fn all(&self) -> &[Alert] {
        &self.alerts
    }

    /// Applies an observation and returns the notifications to send now.
    #[must_use = "a notification that is dropped is never sent"]
    pub fn evaluate(&mut self, observation: &Observation, now: Timestamp) -> Vec<Notification> {
        self.alerts.iter_mut().for_each(|alert| alert.clamp_to_now(now));
        let mut notifications = Vec::new();
        for finding in &observation.findings {
            notifications.extend(self.raise(finding, now));
        }
        notifications.extend(self.record_missed_episodes(&observation.episodes, now));
        for alert in self.alerts.iter_mut().filter(|alert| alert.is_firing()) {
            notifications.extend(alert.resolve_if_absent(observation, now));
        }
        self.prune(now);
        notifications
    }

    fn raise(&mut self, finding: &Finding, now: Timestamp) -> Option<Notification> {
        match self.find_recent(finding, now) {
            Some(alert) => alert.on_firing(finding, now),
            None => {
                let mut alert = Alert::new(finding, now);
                let notification = alert.notify(NotificationKind::Firing, now);
                self.alerts.push(alert);
                Some(notification)
            }
        }
    }

    /// Processes the episodes since the last evaluation; at most one notification per cause.
    fn record_missed_episodes(
        &mut self,
        episodes: &[Episode],
        now: Timestamp,
    ) -> Vec<Notification> {
        let new_episodes = self.episode_watermark.accept_new(episodes, now);
        let mut notifications = Vec::new();
        for episodes in new_episodes.chunk_by(|one, next| one.finding.has_same_cause(&next.finding))
        {
            let Some(missed) = Alert::from_missed_episodes(episodes, now) else { continue };
            match self.find_recent(&episodes[0].finding, now) {
                Some(alert) => notifications.extend(alert.on_missed_episodes(missed, now)),
                None => {
                    self.alerts.push(missed.clone());
                    notifications.push(Notification {
                        kind: NotificationKind::ResolvedUnnotified,
                        alert: missed,
                    });
                }
            }
        }
        notifications
    }

    /// Finds the alert of this cause that is firing, or was notified within the hour.
    fn find_recent(&mut self, finding: &Finding, now: Timestamp) -> Option<&mut Alert> {
        let is_recent = |alert: &&mut Alert| alert.matches(finding) && !alert.is_expired(now);
        self.alerts.iter_mut().rev().find(is_recent)
    }

    /// Removes surplus resolved alerts. Alerts notified within the hour are kept, because otherwise
    /// they would be notified again.
    fn prune(&mut self, now: Timestamp) {
        let resolved = self.alerts.iter().filter(|alert| !alert.is_firing()).count();
        let mut surplus = resolved.saturating_sub(RESOLVED_ALERTS_MAX);
        self.alerts.retain(|alert| {
            let is_removed = surplus > 0 && alert.is_expired(now);
            surplus -= usize::from(is_removed);
            !is_removed
        });
    }
}

impl Alert {
    fn new(finding: &Finding, now: Timestamp) -> Self {
        let severity = Severity::from(finding.level);
        Self {
            key: AlertKey::from(finding),
            subject: finding.subject.clone(),
            severity,
            message: finding.message_with_value(),
            advice: finding.advice.clone(),
            started_at: now,
            last_notified: None,
            last_missed_notified: None,
            resolved_at: None,
            resolved_reason: None,
            occurrences: 1,
            max_severity: severity,
            notified_severity: None,
            is_notified: false,
        }
    }

    /// Builds a resolved alert from episodes that ended before they could be notified.
    fn from_missed_episodes(episodes: &[&Episode], now: Timestamp) -> Option<Self> {
        let resolved =
            episodes.iter().filter_map(|episode| Some((episode, episode.resolution.as_ref()?)));
        let resolved: Vec<_> = resolved.filter(|(episode, _)| !episode.is_inhibited).collect();
        let ((first, _), (_, end)) = (resolved.first()?, resolved.last()?);
        Some(Self {
            severity: end.severity,
            started_at: first.started_at.min(now),
            last_notified: Some(now),
            last_missed_notified: Some(now),
            resolved_at: Some(end.resolved_at.min(now)),
            resolved_reason: end.reason.clone(),
            occurrences: u32::try_from(resolved.len()).unwrap_or(u32::MAX),
            notified_severity: Some(end.severity),
            ..Self::new(&first.finding, now)
        })
    }

    /// Processes missed episodes of a known alert. They are notified if they were more severe than
    /// what was notified, or if nothing was notified for an hour; at most once an hour.
    fn on_missed_episodes(&mut self, missed: Self, now: Timestamp) -> Option<Notification> {
        self.occurrences = self.occurrences.saturating_add(missed.occurrences);
        self.max_severity = self.max_severity.max(missed.max_severity);
        if !self.is_firing() {
            (self.resolved_at, self.resolved_reason) =
                (missed.resolved_at, missed.resolved_reason.clone());
        }
        let is_worse =
            self.notified_severity.is_some_and(|notified| missed.max_severity > notified);
        let is_unnotified = !self.is_notified && self.has_repeat_interval_elapsed(now);
        let should_notify =
            self.last_missed_notified.is_none_or(|last| now.since(last) >= REPEAT_INTERVAL)
                && (is_worse || is_unnotified);
        if !should_notify {
            return None;
        }
        if is_unnotified {
            self.notified_severity = Some(missed.severity);
        }
        (self.last_notified, self.last_missed_notified) = (Some(now), Some(now));
        Some(Notification { kind: NotificationKind::ResolvedUnnotified, alert: missed })
    }

    fn on_firing(&mut self, finding: &Finding, now: Timestamp) -> Option<Notification> {
        let severity = Severity::from(finding.level);
        if !self.is_firing() {
            (self.resolved_at, self.resolved_reason, self.is_notified) = (None, None, false);
            self.occurrences = self.occurrences.saturating_add(1);
            self.max_severity = severity;
        }
        self.severity = severity;
        self.max_severity = self.max_severity.max(severity);
        self.message = finding.message_with_value();
        self.advice.clone_from(&finding.advice);
        let is_worse = self.notified_severity.is_some_and(|notified| self.severity > notified);
        let is_interval_over = self.has_repeat_interval_elapsed(now);
        if is_interval_over {
            // From now on, the same escalation is notified again.
            self.notified_severity =
                self.notified_severity.map(|notified| notified.min(self.severity));
        }
        let kind =
            if self.is_notified { NotificationKind::Escalated } else { NotificationKind::Firing };
        let should_notify = is_worse || (!self.is_notified && is_interval_over);
        should_notify.then(|| self.notify(kind, now))
    }

    fn notify(&mut self, kind: NotificationKind, now: Timestamp) -> Notification {
        (self.notified_severity, self.last_notified, self.is_notified) =
            (Some(self.severity), Some(now), true);
        Notification { kind, alert: self.clone() }
    }

    fn resolve_if_absent(
        &mut self,
        observation: &Observation,
        now: Timestamp,
    ) -> Option<Notification> {
        let still_holds = observation.findings.iter().any(|finding| self.matches(finding));
        let is_removed =
            !self.subject.is_empty() && !observation.known_subjects.contains(&self.subject);
        let is_unobserved = |subject: &str| {
            [self.key.check_name(), self.key.as_str()].into_iter().any(|detector| {
                observation.unobserved.contains(&(detector.to_owned(), subject.to_owned()))
            })
        };
        // A check that observed nothing at all cannot know that a subject is gone, either.
        if still_holds || is_unobserved("") || (!is_removed && is_unobserved(&self.subject)) {
            return None;
        }
        self.resolved_at = Some(now);
        self.resolved_reason = if is_removed {
            Some("it is no longer in the configuration".to_owned())
        } else {
            self.find_resolution(&observation.episodes)
                .and_then(|resolution| resolution.reason.clone())
        };
        // Without a firing notification there is no resolved one.
        let notification = Notification { kind: NotificationKind::Resolved, alert: self.clone() };
        std::mem::take(&mut self.is_notified).then_some(notification)
    }

    /// Finds the end of the last episode of this alert, if it ended after the alert started.
    fn find_resolution<'a>(&self, episodes: &'a [Episode]) -> Option<&'a Resolution> {
        let last = episodes.iter().rev().find(|episode| self.matches(&episode.finding));
        last?.resolution.as_ref().filter(|resolution| resolution.resolved_at >= self.started_at)
    }

    fn matches(&self, finding: &Finding) -> bool {
        self.subject == finding.subject && self.key == AlertKey::from(finding)
    }

    /// Returns true if it is resolved and could be notified again without exceeding the rate.
    fn is_expired(&self, now: Timestamp) -> bool {
        !self.is_firing() && self.has_repeat_interval_elapsed(now)
    }

    fn has_repeat_interval_elapsed(&self, now: Timestamp) -> bool {
        self.last_notified.is_none_or(|notified_at| now.since(notified_at) >= REPEAT_INTERVAL)
    }

    fn clamp_to_now(&mut self, now: Timestamp) {
        self.started_at = self.started_at.min(now);
        self.last_notified = self.last_notified.map(|notified_at| notified_at.min(now));
        self.last_missed_notified =
            self.last_missed_notified.map(|notified_at| notified_at.min(now));
        self.resolved_at = self.resolved_at.map(|resolved_at| resolved_at.min(now));
    }
}

impl From<HealthLevel> for Severity {
    fn from(level: HealthLevel) -> Self {
        match level {
            HealthLevel::Skipped | HealthLevel::Healthy => Self::Info,
            HealthLevel::Warning | HealthLevel::Unknown => Self::Warning,
            HealthLevel::Critical => Self::Critical,
        }
    }
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }
}
