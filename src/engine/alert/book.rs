//! The book of alerts: what is there, what was told of it, and what is to be told now.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;
use crate::engine::alert::spell::Heard;
use crate::engine::alert::{Alert, Concern, Ending, News, Notice, Severity, Spell};

/// Alerts that are over and kept, whatever is there besides: weeks of quiet, or a bad day.
pub const ALERTS_KEPT: usize = 100;

/// How often one cause is told that comes and goes.
const TOLD_EVERY: Duration = Duration::from_secs(3600);

/// All alerts, the newest last.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Alerts {
    alerts: Vec<Alert>,
    /// Kept with what was told of it, so that nothing is told twice or lost between the two.
    #[serde(default)]
    heard: Heard,
}

/// What was seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    pub concerns: Vec<Concern>,
    /// What those tell who were there when nobody looked, of each thing the newest last.
    pub spells: Vec<Spell>,
    /// Who could not look, or which one cause could not be seen, and about what; about all there are
    /// where that is empty. Their alerts stand as they were.
    pub blind: BTreeSet<(String, String)>,
    /// All there is to be concerned about. An alert about anything else has lost its subject.
    pub subjects: BTreeSet<String>,
}

impl Alerts {
    /// All of them, the newest last.
    #[must_use]
    pub fn all(&self) -> &[Alert] {
        &self.alerts
    }

    /// Takes in what was seen, and returns what a person is to be told now.
    #[must_use = "a notice that is dropped is never told"]
    pub fn note(&mut self, looked: &Looked, now: Timestamp) -> Vec<Notice> {
        self.alerts.iter_mut().for_each(|alert| alert.obey_the_clock(now));
        let mut notices = Vec::new();
        for concern in &looked.concerns {
            notices.extend(self.raise(concern, now));
        }
        notices.extend(self.pass(&looked.spells, now));
        for alert in self.alerts.iter_mut().filter(|alert| alert.is_there()) {
            notices.extend(alert.end_unless_seen(looked, now));
        }
        self.forget(now);
        notices
    }

    fn raise(&mut self, concern: &Concern, now: Timestamp) -> Option<Notice> {
        match self.recent(concern, now) {
            Some(alert) => alert.goes_on(concern, now),
            None => {
                let mut alert = Alert::new(concern, now);
                let notice = alert.tell(News::Raised, now);
                self.alerts.push(alert);
                Some(notice)
            }
        }
    }

    /// Takes in what began and ended since the last look. All of one cause is one notice at most.
    fn pass(&mut self, spells: &[Spell], now: Timestamp) -> Vec<Notice> {
        let news = self.heard.take_in(spells, now);
        let mut notices = Vec::new();
        for spells in news.chunk_by(|one, next| one.concern.is_same(&next.concern)) {
            let Some(passed) = Alert::passed(spells, now) else { continue };
            match self.recent(&spells[0].concern, now) {
                Some(alert) => notices.extend(alert.came_and_went(passed, now)),
                None => {
                    self.alerts.push(passed.clone());
                    notices.push(Notice { news: News::Passed, alert: passed });
                }
            }
        }
        notices
    }

    /// The alert of this cause that is there, or was told within the hour.
    fn recent(&mut self, concern: &Concern, now: Timestamp) -> Option<&mut Alert> {
        let is_it = |alert: &&mut Alert| alert.is_of(concern) && !alert.is_past(now);
        self.alerts.iter_mut().rev().find(is_it)
    }

    /// What is there is kept, and what was told within the hour, or it would be told again.
    fn forget(&mut self, now: Timestamp) {
        let over = self.alerts.iter().filter(|alert| !alert.is_there()).count();
        let mut surplus = over.saturating_sub(ALERTS_KEPT);
        self.alerts.retain(|alert| {
            let goes = surplus > 0 && alert.is_past(now);
            surplus -= usize::from(goes);
            !goes
        });
    }
}

impl Alert {
    fn new(concern: &Concern, now: Timestamp) -> Self {
        Self {
            cause: concern.cause.clone(),
            about: concern.about.clone(),
            severity: concern.severity,
            message: concern.message.clone(),
            advice: concern.advice.clone(),
            raised_at: now,
            last_told: None,
            last_passed: None,
            ended_at: None,
            ended_since: None,
            times: 1,
            worst: concern.severity,
            told: None,
            is_known: false,
        }
    }

    /// One that was over before it could be told, as often as it was.
    fn passed(spells: &[&Spell], now: Timestamp) -> Option<Self> {
        let over = spells.iter().filter_map(|spell| Some((spell, spell.ended.as_ref()?)));
        let over: Vec<_> = over.filter(|(spell, _)| !spell.follows).collect();
        let ((first, _), (_, end)) = (over.first()?, over.last()?);
        Some(Self {
            severity: end.severity,
            raised_at: first.began.min(now),
            last_told: Some(now),
            last_passed: Some(now),
            ended_at: Some(end.at.min(now)),
            ended_since: end.since.clone(),
            times: u32::try_from(over.len()).unwrap_or(u32::MAX),
            told: Some(end.severity),
            ..Self::new(&first.concern, now)
        })
    }

    /// It came and went besides. That is told where it was worse than what was told, and where
    /// nothing was told for an hour, though never more than once an hour.
    fn came_and_went(&mut self, passed: Self, now: Timestamp) -> Option<Notice> {
        self.times = self.times.saturating_add(passed.times);
        self.worst = self.worst.max(passed.worst);
        if !self.is_there() {
            (self.ended_at, self.ended_since) = (passed.ended_at, passed.ended_since.clone());
        }
        let is_worse = self.told.is_some_and(|told| passed.worst > told);
        let is_unheard = !self.is_known && self.hour_is_over(now);
        let is_told = self.last_passed.is_none_or(|last| now.since(last) >= TOLD_EVERY)
            && (is_worse || is_unheard);
        if !is_told {
            return None;
        }
        if is_unheard {
            self.told = Some(passed.severity);
        }
        (self.last_told, self.last_passed) = (Some(now), Some(now));
        Some(Notice { news: News::Passed, alert: passed })
    }

    fn goes_on(&mut self, concern: &Concern, now: Timestamp) -> Option<Notice> {
        if !self.is_there() {
            (self.ended_at, self.ended_since, self.is_known) = (None, None, false);
            self.times = self.times.saturating_add(1);
            self.worst = concern.severity;
        }
        self.severity = concern.severity;
        self.worst = self.worst.max(concern.severity);
        self.message.clone_from(&concern.message);
        self.advice.clone_from(&concern.advice);
        let is_worse = self.told.is_some_and(|told| self.severity > told);
        let hour_is_over = self.hour_is_over(now);
        if hour_is_over {
            // What was worse an hour ago is news when it is so again.
            self.told = self.told.map(|told| told.min(self.severity));
        }
        let news = if self.is_known { News::Worse } else { News::Raised };
        let is_told = is_worse || (!self.is_known && hour_is_over);
        is_told.then(|| self.tell(news, now))
    }

    fn tell(&mut self, news: News, now: Timestamp) -> Notice {
        (self.told, self.last_told, self.is_known) = (Some(self.severity), Some(now), true);
        Notice { news, alert: self.clone() }
    }

    fn end_unless_seen(&mut self, looked: &Looked, now: Timestamp) -> Option<Notice> {
        let is_seen = looked.concerns.iter().any(|concern| self.is_of(concern));
        let is_gone = !self.about.is_empty() && !looked.subjects.contains(&self.about);
        let blind = |about: &str| {
            let is_blind = |who: &str| looked.blind.contains(&(who.to_owned(), about.to_owned()));
            is_blind(self.cause.by()) || is_blind(self.cause.as_str())
        };
        // Whoever saw nothing at all cannot tell that something has gone, either.
        if is_seen || blind("") || (!is_gone && blind(&self.about)) {
            return None;
        }
        self.ended_at = Some(now);
        self.ended_since = if is_gone {
            Some("it is no longer in the configuration".to_owned())
        } else {
            self.ending(&looked.spells).and_then(|ending| ending.since.clone())
        };
        // What nobody heard of needs no end.
        let notice = Notice { news: News::Ended, alert: self.clone() };
        std::mem::take(&mut self.is_known).then_some(notice)
    }

    /// How the last spell of it ended that was there with it.
    fn ending<'a>(&self, spells: &'a [Spell]) -> Option<&'a Ending> {
        let last = spells.iter().rev().find(|spell| self.is_of(&spell.concern));
        last?.ended.as_ref().filter(|ending| ending.at >= self.raised_at)
    }

    fn is_of(&self, concern: &Concern) -> bool {
        self.cause == concern.cause && self.about == concern.about
    }

    /// Over, and nobody would be told of it too often if it came again.
    fn is_past(&self, now: Timestamp) -> bool {
        !self.is_there() && self.hour_is_over(now)
    }

    fn hour_is_over(&self, now: Timestamp) -> bool {
        self.last_told.is_none_or(|told| now.since(told) >= TOLD_EVERY)
    }

    fn obey_the_clock(&mut self, now: Timestamp) {
        self.raised_at = self.raised_at.min(now);
        self.last_told = self.last_told.map(|told| told.min(now));
        self.last_passed = self.last_passed.map(|passed| passed.min(now));
        self.ended_at = self.ended_at.map(|ended| ended.min(now));
    }
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }
}
