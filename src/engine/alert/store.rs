//! Alert store: keeps the alerts, deduplicates them, and decides which notifications are sent.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;
use crate::engine::alert::episode::EpisodeWatermark;
use crate::engine::alert::{
    Alert, AlertCondition, Episode, Notification, NotificationKind, Resolution, Severity,
};

/// Most resolved alerts kept, besides the firing ones: those of quiet weeks, or of one bad day.
pub const RESOLVED_ALERTS_MAX: usize = 100;

/// Shortest interval between notifications of one flapping cause.
const REPEAT_INTERVAL: Duration = Duration::from_secs(3600);

/// All alerts, newest last.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AlertStore {
    alerts: Vec<Alert>,
    /// In the same file as the notification state, so that no episode is notified twice or lost.
    #[serde(default)]
    #[serde(rename = "heard")]
    episode_watermark: EpisodeWatermark,
}

/// Input of one evaluation.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    pub conditions: Vec<AlertCondition>,
    /// Recorded episodes, newest last for each subject.
    pub episodes: Vec<Episode>,
    /// Component or full alert key that could not be observed, with the subject; an empty subject
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
    pub fn evaluate(&mut self, looked: &Observation, now: Timestamp) -> Vec<Notification> {
        self.alerts.iter_mut().for_each(|alert| alert.clamp_to_now(now));
        let mut notices = Vec::new();
        for concern in &looked.conditions {
            notices.extend(self.raise(concern, now));
        }
        notices.extend(self.record_missed_episodes(&looked.episodes, now));
        for alert in self.alerts.iter_mut().filter(|alert| alert.is_firing()) {
            notices.extend(alert.resolve_if_absent(looked, now));
        }
        self.prune(now);
        notices
    }

    fn raise(&mut self, concern: &AlertCondition, now: Timestamp) -> Option<Notification> {
        match self.find_recent(concern, now) {
            Some(alert) => alert.on_still_firing(concern, now),
            None => {
                let mut alert = Alert::new(concern, now);
                let notice = alert.notify(NotificationKind::Firing, now);
                self.alerts.push(alert);
                Some(notice)
            }
        }
    }

    /// Processes the episodes since the last evaluation; at most one notification per cause.
    fn record_missed_episodes(&mut self, spells: &[Episode], now: Timestamp) -> Vec<Notification> {
        let news = self.episode_watermark.accept_new(spells, now);
        let mut notices = Vec::new();
        for spells in news.chunk_by(|one, next| one.condition.has_same_key(&next.condition)) {
            let Some(passed) = Alert::from_missed_episodes(spells, now) else { continue };
            match self.find_recent(&spells[0].condition, now) {
                Some(alert) => notices.extend(alert.on_missed_episode(passed, now)),
                None => {
                    self.alerts.push(passed.clone());
                    notices.push(Notification {
                        kind: NotificationKind::ResolvedUnnotified,
                        alert: passed,
                    });
                }
            }
        }
        notices
    }

    /// Finds the alert of this cause that is firing, or was notified within the hour.
    fn find_recent(&mut self, concern: &AlertCondition, now: Timestamp) -> Option<&mut Alert> {
        let is_it = |alert: &&mut Alert| alert.matches(concern) && !alert.is_expired(now);
        self.alerts.iter_mut().rev().find(is_it)
    }

    /// Removes surplus resolved alerts. Alerts notified within the hour are kept, because otherwise
    /// they would be notified again.
    fn prune(&mut self, now: Timestamp) {
        let over = self.alerts.iter().filter(|alert| !alert.is_firing()).count();
        let mut surplus = over.saturating_sub(RESOLVED_ALERTS_MAX);
        self.alerts.retain(|alert| {
            let goes = surplus > 0 && alert.is_expired(now);
            surplus -= usize::from(goes);
            !goes
        });
    }
}

impl Alert {
    fn new(concern: &AlertCondition, now: Timestamp) -> Self {
        Self {
            key: concern.key.clone(),
            subject: concern.subject.clone(),
            severity: concern.severity,
            message: concern.message.clone(),
            advice: concern.advice.clone(),
            started_at: now,
            last_notified: None,
            last_missed_notified: None,
            resolved_at: None,
            resolved_reason: None,
            occurrences: 1,
            max_severity: concern.severity,
            notified_severity: None,
            is_notified: false,
        }
    }

    /// Builds a resolved alert from episodes that ended before they could be notified.
    fn from_missed_episodes(spells: &[&Episode], now: Timestamp) -> Option<Self> {
        let over = spells.iter().filter_map(|spell| Some((spell, spell.resolution.as_ref()?)));
        let over: Vec<_> = over.filter(|(spell, _)| !spell.is_inhibited).collect();
        let ((first, _), (_, end)) = (over.first()?, over.last()?);
        Some(Self {
            severity: end.severity,
            started_at: first.started_at.min(now),
            last_notified: Some(now),
            last_missed_notified: Some(now),
            resolved_at: Some(end.resolved_at.min(now)),
            resolved_reason: end.reason.clone(),
            occurrences: u32::try_from(over.len()).unwrap_or(u32::MAX),
            notified_severity: Some(end.severity),
            ..Self::new(&first.condition, now)
        })
    }

    /// Processes missed episodes of a known alert. They are notified if they were more severe than
    /// what was notified, or if nothing was notified for an hour; at most once an hour.
    fn on_missed_episode(&mut self, passed: Self, now: Timestamp) -> Option<Notification> {
        self.occurrences = self.occurrences.saturating_add(passed.occurrences);
        self.max_severity = self.max_severity.max(passed.max_severity);
        if !self.is_firing() {
            (self.resolved_at, self.resolved_reason) =
                (passed.resolved_at, passed.resolved_reason.clone());
        }
        let is_worse = self.notified_severity.is_some_and(|told| passed.max_severity > told);
        let is_unheard = !self.is_notified && self.has_repeat_interval_elapsed(now);
        let is_told =
            self.last_missed_notified.is_none_or(|last| now.since(last) >= REPEAT_INTERVAL)
                && (is_worse || is_unheard);
        if !is_told {
            return None;
        }
        if is_unheard {
            self.notified_severity = Some(passed.severity);
        }
        (self.last_notified, self.last_missed_notified) = (Some(now), Some(now));
        Some(Notification { kind: NotificationKind::ResolvedUnnotified, alert: passed })
    }

    fn on_still_firing(
        &mut self,
        concern: &AlertCondition,
        now: Timestamp,
    ) -> Option<Notification> {
        if !self.is_firing() {
            (self.resolved_at, self.resolved_reason, self.is_notified) = (None, None, false);
            self.occurrences = self.occurrences.saturating_add(1);
            self.max_severity = concern.severity;
        }
        self.severity = concern.severity;
        self.max_severity = self.max_severity.max(concern.severity);
        self.message.clone_from(&concern.message);
        self.advice.clone_from(&concern.advice);
        let is_worse = self.notified_severity.is_some_and(|told| self.severity > told);
        let hour_is_over = self.has_repeat_interval_elapsed(now);
        if hour_is_over {
            // An hour after the last notification, the same escalation is notified again.
            self.notified_severity = self.notified_severity.map(|told| told.min(self.severity));
        }
        let news =
            if self.is_notified { NotificationKind::Escalated } else { NotificationKind::Firing };
        let is_told = is_worse || (!self.is_notified && hour_is_over);
        is_told.then(|| self.notify(news, now))
    }

    fn notify(&mut self, news: NotificationKind, now: Timestamp) -> Notification {
        (self.notified_severity, self.last_notified, self.is_notified) =
            (Some(self.severity), Some(now), true);
        Notification { kind: news, alert: self.clone() }
    }

    fn resolve_if_absent(&mut self, looked: &Observation, now: Timestamp) -> Option<Notification> {
        let is_seen = looked.conditions.iter().any(|concern| self.matches(concern));
        let is_gone = !self.subject.is_empty() && !looked.known_subjects.contains(&self.subject);
        let blind = |about: &str| {
            let is_blind =
                |who: &str| looked.unobserved.contains(&(who.to_owned(), about.to_owned()));
            is_blind(self.key.component()) || is_blind(self.key.as_str())
        };
        // A component that observed nothing at all cannot know that a subject is gone, either.
        if is_seen || blind("") || (!is_gone && blind(&self.subject)) {
            return None;
        }
        self.resolved_at = Some(now);
        self.resolved_reason = if is_gone {
            Some("it is no longer in the configuration".to_owned())
        } else {
            self.find_resolution(&looked.episodes).and_then(|ending| ending.reason.clone())
        };
        // Without a firing notification there is no resolved one.
        let notice = Notification { kind: NotificationKind::Resolved, alert: self.clone() };
        std::mem::take(&mut self.is_notified).then_some(notice)
    }

    /// Finds the end of the last episode of this alert, if it ended after the alert started.
    fn find_resolution<'a>(&self, spells: &'a [Episode]) -> Option<&'a Resolution> {
        let last = spells.iter().rev().find(|spell| self.matches(&spell.condition));
        last?.resolution.as_ref().filter(|ending| ending.resolved_at >= self.started_at)
    }

    fn matches(&self, concern: &AlertCondition) -> bool {
        self.key == concern.key && self.subject == concern.subject
    }

    /// Returns true if it is resolved and could be notified again without exceeding the rate.
    fn is_expired(&self, now: Timestamp) -> bool {
        !self.is_firing() && self.has_repeat_interval_elapsed(now)
    }

    fn has_repeat_interval_elapsed(&self, now: Timestamp) -> bool {
        self.last_notified.is_none_or(|told| now.since(told) >= REPEAT_INTERVAL)
    }

    fn clamp_to_now(&mut self, now: Timestamp) {
        self.started_at = self.started_at.min(now);
        self.last_notified = self.last_notified.map(|told| told.min(now));
        self.last_missed_notified = self.last_missed_notified.map(|passed| passed.min(now));
        self.resolved_at = self.resolved_at.map(|ended| ended.min(now));
    }
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }
}
