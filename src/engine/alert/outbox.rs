//! What is still to be delivered, channel by channel: bounded, tried again, given up after a time.
//!
//! All that waits for a channel goes out together when it answers again, so that an outage of it is
//! not followed by a flood.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::alert::{Cause, Concern, Notice, Severity};
use crate::engine::{Timestamp, sanitize_line};

/// What waits at most, in bytes as they are written: half of what a state file may hold.
const BYTES_MAX: usize = 500_000;

/// What a word takes besides its texts, in bytes.
const WORD_BYTES: usize = 500;

/// The first wait after a failure, which doubles with each up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(1800);

/// Failures in a row that are no chance: by then a channel was tried for minutes.
const FAILURES_OF_A_DEAD_ONE: u32 = 4;

/// How long it is told that something was lost.
const LOSS_TOLD: Duration = Duration::from_secs(86_400);

/// Who finds that a channel does not deliver.
const CHANNEL: &str = "channel";

/// What waits, and for whom.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Outbox {
    /// The oldest first.
    words: VecDeque<Word>,
    channels: BTreeMap<String, Tray>,
    /// The sessions that each source had completed when they were last counted.
    completed: BTreeMap<String, u64>,
    next_no: u64,
}

/// How it goes with one channel.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Tray {
    /// Failures in a row.
    pub failures: u32,
    /// Not tried before; absent where it may be tried at once.
    pub next_at: Option<Timestamp>,
    /// Why it failed last.
    pub trouble: Option<String>,
    pub last_delivered: Option<Timestamp>,
    pub lost: u32,
    pub last_lost: Option<Timestamp>,
}

/// One thing to say.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Word {
    pub no: u64,
    pub queued_at: Timestamp,
    pub what: Said,
    /// The channels that have not taken it yet.
    to: BTreeSet<String>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    Notice(Box<Notice>),
    /// Sources have completed a session.
    Completed,
}

impl Outbox {
    /// How it goes with a channel.
    #[must_use]
    pub fn tray(&self, channel: &str) -> Option<&Tray> {
        self.channels.get(channel)
    }

    /// What waits for a channel, the oldest first.
    pub fn waiting(&self, channel: &str) -> impl Iterator<Item = &Word> {
        self.words.iter().filter(move |word| word.to.contains(channel))
    }

    /// Adds something for some channels. The oldest goes where there is no room.
    pub fn put(&mut self, to: BTreeSet<String>, what: Said, now: Timestamp) {
        // One session is as good as many.
        let is_there = what == Said::Completed && self.words.iter().any(|word| word.what == what);
        if to.is_empty() || is_there {
            return;
        }
        for channel in &to {
            self.channels.entry(channel.clone()).or_default();
        }
        let no = self.next_no;
        self.next_no = self.next_no.wrapping_add(1);
        self.words.push_back(Word { no, queued_at: now, what, to });
        let mut bytes: usize = self.words.iter().map(Word::bytes).sum();
        while bytes > BYTES_MAX {
            let Some(oldest) = self.words.pop_front() else { break };
            bytes -= oldest.bytes();
            self.lose(&oldest, now);
        }
    }

    /// Takes in how many sessions a source has completed, and tells whether there are more than before.
    /// What was completed before it was ever counted is no news.
    pub fn counted(&mut self, source: &str, completed: u64) -> bool {
        let before = self.completed.insert(source.to_owned(), completed);
        before.is_some_and(|before| completed > before)
    }

    /// Forgets channels and sources that are no longer there.
    pub fn keep(&mut self, channels: &BTreeSet<String>, sources: &BTreeSet<String>) {
        self.channels.retain(|channel, _| channels.contains(channel));
        self.completed.retain(|source, _| sources.contains(source));
        for word in &mut self.words {
            word.to.retain(|channel| channels.contains(channel));
        }
        self.drop_the_taken();
    }

    /// Gives up what has waited for longer than `expire`.
    pub fn expire(&mut self, expire: Duration, now: Timestamp) {
        for word in &mut self.words {
            word.queued_at = word.queued_at.min(now);
        }
        let is_old = |word: &Word| now.since(word.queued_at) >= expire;
        while self.words.front().is_some_and(is_old) {
            if let Some(word) = self.words.pop_front() {
                self.lose(&word, now);
            }
        }
    }

    /// What may be tried now, by channel, the oldest first.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> BTreeMap<String, Vec<Word>> {
        let ready = |tray: &Tray| tray.ready(now).is_none_or(|ready| ready <= now);
        let ready = self.channels.iter().filter(|(_, tray)| ready(tray));
        let due = ready.map(|(name, _)| (name.clone(), self.waiting(name).cloned().collect()));
        due.filter(|(_, words): &(_, Vec<Word>)| !words.is_empty()).collect()
    }

    /// When the next of the other channels is to be tried that has something waiting.
    #[must_use]
    pub fn next_due(&self, busy: &BTreeSet<String>, now: Timestamp) -> Option<Timestamp> {
        let others = self.channels.iter().filter(|(name, _)| !busy.contains(*name));
        let waiting = others.filter(|(name, _)| self.waiting(name).next().is_some());
        waiting.map(|(_, tray)| tray.ready(now).unwrap_or(now)).min()
    }

    /// Notes that a channel took these words.
    pub fn delivered(&mut self, channel: &str, words: &[Word], now: Timestamp) {
        let Some(tray) = self.channels.get_mut(channel) else { return };
        (tray.failures, tray.next_at, tray.trouble) = (0, None, None);
        tray.last_delivered = Some(now);
        let gone: BTreeSet<u64> = words.iter().map(|word| word.no).collect();
        for word in self.words.iter_mut().filter(|word| gone.contains(&word.no)) {
            word.to.remove(channel);
        }
        self.drop_the_taken();
    }

    /// Notes that a channel did not, and why.
    pub fn failed(&mut self, channel: &str, why: &str, now: Timestamp) {
        let Some(tray) = self.channels.get_mut(channel) else { return };
        let doublings = tray.failures.min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
        tray.failures = tray.failures.saturating_add(1);
        tray.next_at = Some(now.after(pause));
        tray.trouble = Some(sanitize_line(why));
    }

    /// What there is to be told of the channels themselves.
    #[must_use]
    pub fn concerns(&self, now: Timestamp) -> Vec<Concern> {
        let concern = |channel: &String, finding: &str, message: String| Concern {
            cause: Cause::new(CHANNEL, finding),
            about: channel.clone(),
            severity: Severity::Warning,
            message,
            advice: Some("try it with `cynosure alert test`".to_owned()),
        };
        let mut concerns = Vec::new();
        for (channel, tray) in &self.channels {
            if tray.failures >= FAILURES_OF_A_DEAD_ONE {
                let why = tray.trouble.as_deref().unwrap_or_default();
                let waiting = self.waiting(channel).count();
                let message = format!("it takes no alerts, {waiting} wait: {why}");
                concerns.push(concern(channel, "dead", message));
            }
            if tray.lost > 0 && tray.last_lost.is_some_and(|at| now.since(at) < LOSS_TOLD) {
                let message = format!("{} alerts could not be delivered and are lost", tray.lost);
                concerns.push(concern(channel, "lost", message));
            }
        }
        concerns
    }

    /// Whether a word is about the channel that it would go to: it would be read when it is over.
    #[must_use]
    pub fn is_of_itself(channel: &str, notice: &Notice) -> bool {
        notice.alert.cause.by() == CHANNEL && notice.alert.about == channel
    }
}

impl Outbox {
    fn drop_the_taken(&mut self) {
        self.words.retain(|word| !word.to.is_empty());
    }

    fn lose(&mut self, word: &Word, now: Timestamp) {
        for channel in &word.to {
            let Some(tray) = self.channels.get_mut(channel) else { continue };
            if tray.last_lost.is_none_or(|last| now.since(last) >= LOSS_TOLD) {
                tray.lost = 0;
            }
            tray.lost = tray.lost.saturating_add(1);
            tray.last_lost = Some(now);
        }
    }
}

impl Word {
    /// What it takes in the file, about.
    fn bytes(&self) -> usize {
        let texts = match &self.what {
            Said::Completed => 0,
            Said::Notice(notice) => {
                let advice = notice.alert.advice.as_ref().map_or(0, String::len);
                notice.alert.message.len() + notice.alert.about.len() + advice
            }
        };
        WORD_BYTES + texts + self.to.iter().map(String::len).sum::<usize>()
    }
}

impl Tray {
    /// A clock that was set back must not make the wait longer.
    fn ready(&self, now: Timestamp) -> Option<Timestamp> {
        self.next_at.map(|next| next.min(now.after(LONGEST_PAUSE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::alert::{Alerts, Looked};

    const NOW: Timestamp = Timestamp(1_772_874_303_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn notice(about: &str) -> Said {
        let concern = Concern {
            cause: Cause::new("system", "disk_full"),
            about: about.to_owned(),
            severity: Severity::Critical,
            message: "full".to_owned(),
            advice: None,
        };
        let looked = Looked { concerns: vec![concern], ..Looked::default() };
        Said::Notice(Box::new(Alerts::default().note(&looked, NOW).remove(0)))
    }

    fn mail() -> BTreeSet<String> {
        ["mail".to_owned()].into()
    }

    fn later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    #[test]
    fn what_fails_is_tried_again_ever_more_seldom_and_goes_out_together() {
        let mut outbox = Outbox::default();
        outbox.put(mail(), notice("a"), NOW);
        let (mut now, mut pauses) = (NOW, Vec::new());
        for _ in 0..8 {
            assert_eq!(outbox.due(now).len(), 1);
            outbox.failed("mail", "refused", now);
            assert!(outbox.due(now).is_empty());
            let next = outbox.next_due(&BTreeSet::new(), now).unwrap();
            pauses.push(next.since(now).as_secs());
            now = next;
        }
        outbox.put(mail(), notice("b"), now);

        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800]);
        let due = outbox.due(now).remove("mail").unwrap();
        assert_eq!(due.len(), 2);
        assert_eq!(outbox.concerns(now)[0].message, "it takes no alerts, 2 wait: refused");
        outbox.delivered("mail", &due, now);
        assert_eq!((outbox.due(now).len(), outbox.concerns(now).len()), (0, 0));
        assert_eq!(outbox.next_due(&BTreeSet::new(), now), None);
    }

    #[test]
    fn what_comes_while_a_delivery_is_under_way_waits_for_the_next() {
        let mut outbox = Outbox::default();
        outbox.put(mail(), notice("a"), NOW);
        let under_way = outbox.due(NOW).remove("mail").unwrap();
        outbox.put(mail(), notice("b"), NOW);

        outbox.delivered("mail", &under_way, NOW);

        assert_eq!(outbox.due(NOW)["mail"].len(), 1);
    }

    #[test]
    fn what_is_too_old_or_too_much_is_lost_and_that_is_told_for_a_day() {
        let mut outbox = Outbox::default();
        let long = "x".repeat(4000);
        for _ in 0..200 {
            outbox.put(mail(), notice(&long), NOW);
        }
        let json = serde_json::to_vec(&outbox).unwrap();
        let kept = outbox.waiting("mail").count();
        assert!(json.len() < 1 << 19 && kept > 100, "{kept} in {} bytes", json.len());
        outbox.expire(DAY, later(86_399));
        assert_eq!(outbox.waiting("mail").count(), kept);

        outbox.expire(DAY, later(86_400));

        let lost = outbox.concerns(later(86_400));
        assert_eq!(lost[0].message, format!("{kept} alerts could not be delivered and are lost"));
        assert!(outbox.concerns(later(2 * 86_400)).is_empty());
    }

    #[test]
    fn each_channel_takes_its_own_time() {
        let mut outbox = Outbox::default();
        outbox.put(["mail".to_owned(), "ping".to_owned()].into(), notice("a"), NOW);

        let due = outbox.due(NOW);
        outbox.delivered("ping", &due["ping"], NOW);
        outbox.failed("mail", "refused", NOW);

        assert_eq!((outbox.waiting("mail").count(), outbox.waiting("ping").count()), (1, 0));
        assert!(outbox.due(NOW).is_empty());
        outbox.keep(&["ping".to_owned()].into(), &BTreeSet::new());
        assert_eq!(outbox.waiting("mail").count(), 0);
    }

    #[test]
    fn a_clock_set_back_a_day_neither_holds_back_nor_keeps_for_ever() {
        let mut outbox = Outbox::default();
        outbox.put(mail(), notice("a"), NOW);
        outbox.failed("mail", "refused", NOW);
        let past = NOW.before(DAY);

        let next = outbox.next_due(&BTreeSet::new(), past).unwrap();
        assert!(next.since(past) <= LONGEST_PAUSE);
        outbox.expire(DAY, past);
        outbox.expire(DAY, NOW);
        assert_eq!(outbox.tray("mail").unwrap().lost, 1);
    }

    #[test]
    fn completed_sessions_are_news_once_each_and_wait_as_one() {
        let mut outbox = Outbox::default();

        let counts = [7, 7, 8, 8, 2, 4].map(|count| outbox.counted("work", count));
        assert_eq!(counts, [false, false, true, false, false, true]);
        outbox.put(["ping".to_owned()].into(), Said::Completed, NOW);
        outbox.put(["ping".to_owned()].into(), Said::Completed, NOW);
        assert_eq!(outbox.due(NOW)["ping"].len(), 1);

        outbox.keep(&BTreeSet::new(), &BTreeSet::new());
        assert!(outbox.due(NOW).is_empty());
        assert!(!outbox.counted("work", 9), "it is new again");
    }
}
