//! Outbox: messages to deliver, per channel, with a size limit, retries and expiry.
//!
//! All pending messages of a channel are delivered together, so that an outage of the channel is
//! not followed by a flood.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::Notification;
use crate::backoff::doubled_delay;
use crate::health::{CheckKind, Finding, HealthLevel};
use crate::{Timestamp, sanitize_line};

/// Limit of the outbox, in bytes as written: half of the limit of a state file.
const BYTES_MAX: usize = 500_000;

/// Size of a message without its texts, in bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 500;

/// First delay after a failure; doubles with each further failure up to the maximum.
const RETRY_DELAY_MIN: Duration = Duration::from_secs(30);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1800);

/// Consecutive failures after which a channel is reported as unreachable, because it has been
/// tried for minutes by then.
const UNREACHABLE_FAILURES_MIN: u32 = 4;

/// Period during which a loss is reported.
const LOSS_REPORT_PERIOD: Duration = Duration::from_secs(86_400);

/// Queued messages, and the delivery state of each channel.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Outbox {
    /// Oldest first.
    #[serde(alias = "words")]
    messages: VecDeque<QueuedMessage>,
    channels: BTreeMap<String, ChannelState>,
    /// Completed sessions of each source at the last count.
    #[serde(alias = "completed")]
    sessions_completed: BTreeMap<String, u64>,
    #[serde(alias = "next_no")]
    next_id: u64,
}

/// Delivery state of one channel.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ChannelState {
    /// Consecutive failures.
    #[serde(alias = "failures")]
    pub consecutive_failures: u32,
    /// Earliest time of the next attempt; `None`: at once.
    #[serde(alias = "next_at")]
    pub retry_at: Option<Timestamp>,
    /// Reason of the last failure.
    #[serde(alias = "trouble")]
    pub last_error: Option<String>,
    pub last_delivered: Option<Timestamp>,
    #[serde(alias = "lost")]
    pub lost_count: u32,
    pub last_lost: Option<Timestamp>,
}

/// Message to deliver to one or more channels.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct QueuedMessage {
    #[serde(alias = "no")]
    pub id: u64,
    pub queued_at: Timestamp,
    #[serde(alias = "what")]
    pub payload: MessagePayload,
    /// Channels that it is not delivered to yet.
    #[serde(alias = "to")]
    pending_channels: BTreeSet<String>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessagePayload {
    #[serde(alias = "notice")]
    Notification(Box<Notification>),
    /// At least one source has completed a session.
    #[serde(alias = "completed")]
    SessionCompleted,
}

impl Outbox {
    /// Returns the delivery state of a channel.
    #[must_use]
    pub fn channel_state(&self, channel: &str) -> Option<&ChannelState> {
        self.channels.get(channel)
    }

    /// Returns the pending messages of a channel, oldest first.
    pub fn pending(&self, channel: &str) -> impl Iterator<Item = &QueuedMessage> {
        self.messages.iter().filter(move |message| message.pending_channels.contains(channel))
    }

    /// Queues a message for channels. At the size limit, the oldest messages are dropped.
    pub fn enqueue(&mut self, channels: BTreeSet<String>, payload: MessagePayload, now: Timestamp) {
        // One message covers any number of completed sessions.
        let is_queued = payload == MessagePayload::SessionCompleted
            && self.messages.iter().any(|message| message.payload == payload);
        if channels.is_empty() || is_queued {
            return;
        }
        for channel in &channels {
            self.channels.entry(channel.clone()).or_default();
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.messages.push_back(QueuedMessage {
            id,
            queued_at: now,
            payload,
            pending_channels: channels,
        });
        let mut bytes: usize = self.messages.iter().map(QueuedMessage::estimated_bytes).sum();
        while bytes > BYTES_MAX {
            let Some(oldest) = self.messages.pop_front() else { break };
            bytes -= oldest.estimated_bytes();
            self.record_loss(&oldest, now);
        }
    }

    /// Stores the completed sessions of a source. Returns true if there are more than at the last
    /// count; the first count of a source returns false.
    pub fn record_completed(&mut self, source: &str, completed: u64) -> bool {
        let before = self.sessions_completed.insert(source.to_owned(), completed);
        before.is_some_and(|before| completed > before)
    }

    /// Removes channels and sources that are no longer configured.
    pub fn retain_configured(&mut self, channels: &BTreeSet<String>, sources: &BTreeSet<String>) {
        self.channels.retain(|channel, _| channels.contains(channel));
        self.sessions_completed.retain(|source, _| sources.contains(source));
        for message in &mut self.messages {
            message.pending_channels.retain(|channel| channels.contains(channel));
        }
        self.remove_delivered();
    }

    /// Drops messages that have been queued for `expire` or longer.
    pub fn drop_expired(&mut self, expire: Duration, now: Timestamp) {
        for message in &mut self.messages {
            message.queued_at = message.queued_at.min(now);
        }
        let is_old = |message: &QueuedMessage| now.since(message.queued_at) >= expire;
        while self.messages.front().is_some_and(is_old) {
            if let Some(message) = self.messages.pop_front() {
                self.record_loss(&message, now);
            }
        }
    }

    /// Returns the messages that may be delivered now, by channel, oldest first.
    #[must_use]
    pub fn due_messages(&self, now: Timestamp) -> BTreeMap<String, Vec<QueuedMessage>> {
        let is_ready = |state: &ChannelState| state.ready_at(now).is_none_or(|ready| ready <= now);
        let ready = self.channels.iter().filter(|(_, state)| is_ready(state));
        let due = ready.map(|(name, _)| (name.clone(), self.pending(name).cloned().collect()));
        due.filter(|(_, messages): &(_, Vec<QueuedMessage>)| !messages.is_empty()).collect()
    }

    /// Returns the earliest time of the next delivery, among the channels with pending messages
    /// that are not `busy`.
    #[must_use]
    pub fn next_due_at(&self, busy: &BTreeSet<String>, now: Timestamp) -> Option<Timestamp> {
        let others = self.channels.iter().filter(|(name, _)| !busy.contains(*name));
        let waiting = others.filter(|(name, _)| self.pending(name).next().is_some());
        waiting.map(|(_, state)| state.ready_at(now).unwrap_or(now)).min()
    }

    /// Records the delivery of messages to a channel.
    pub fn on_delivered(&mut self, channel: &str, messages: &[QueuedMessage], now: Timestamp) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        (state.consecutive_failures, state.retry_at, state.last_error) = (0, None, None);
        state.last_delivered = Some(now);
        let delivered: BTreeSet<u64> = messages.iter().map(|message| message.id).collect();
        for message in self.messages.iter_mut().filter(|message| delivered.contains(&message.id)) {
            message.pending_channels.remove(channel);
        }
        self.remove_delivered();
    }

    /// Records a failed delivery and schedules the retry.
    pub fn on_failed(&mut self, channel: &str, error: &str, now: Timestamp) {
        let Some(state) = self.channels.get_mut(channel) else { return };
        let delay = doubled_delay(RETRY_DELAY_MIN, state.consecutive_failures, RETRY_DELAY_MAX);
        state.consecutive_failures = state.consecutive_failures.saturating_add(1);
        state.retry_at = Some(now.after(delay));
        state.last_error = Some(sanitize_line(error));
    }

    /// Returns the findings about channels: unreachable, or messages lost.
    #[must_use]
    pub fn channel_findings(&self, now: Timestamp) -> Vec<Finding> {
        let finding = |channel: &String, kind: &str, message: String| {
            Finding::new(CheckKind::Channel, kind, HealthLevel::Warning, message)
                .with_subject(channel)
                .with_advice("test it with `cynosure alert test`")
        };
        let mut findings = Vec::new();
        for (channel, state) in &self.channels {
            if state.consecutive_failures >= UNREACHABLE_FAILURES_MIN {
                let error = state.last_error.as_deref().unwrap_or_default();
                let pending = self.pending(channel).count();
                let message = format!("delivery fails: {error} (alerts pending: {pending})");
                findings.push(finding(channel, "unreachable", message));
            }
            if state.lost_count > 0
                && state.last_lost.is_some_and(|at| now.since(at) < LOSS_REPORT_PERIOD)
            {
                let message =
                    format!("{} alerts could not be delivered and are lost", state.lost_count);
                findings.push(finding(channel, "lost", message));
            }
        }
        findings
    }

    /// Returns true if a notification is about the channel that would deliver it. It could only
    /// arrive after the problem is over.
    #[must_use]
    pub fn is_about_channel(channel: &str, notification: &Notification) -> bool {
        notification.alert.key.check_name() == CheckKind::Channel.name()
            && notification.alert.subject == channel
    }
}

impl Outbox {
    fn remove_delivered(&mut self) {
        self.messages.retain(|message| !message.pending_channels.is_empty());
    }

    fn record_loss(&mut self, message: &QueuedMessage, now: Timestamp) {
        for channel in &message.pending_channels {
            let Some(state) = self.channels.get_mut(channel) else { continue };
            if state.last_lost.is_none_or(|last| now.since(last) >= LOSS_REPORT_PERIOD) {
                state.lost_count = 0;
            }
            state.lost_count = state.lost_count.saturating_add(1);
            state.last_lost = Some(now);
        }
    }
}

impl QueuedMessage {
    /// Estimates the size in the file, in bytes.
    fn estimated_bytes(&self) -> usize {
        let texts = match &self.payload {
            MessagePayload::SessionCompleted => 0,
            MessagePayload::Notification(notification) => {
                let advice = notification.alert.advice.as_ref().map_or(0, String::len);
                notification.alert.message.len() + notification.alert.subject.len() + advice
            }
        };
        MESSAGE_OVERHEAD_BYTES
            + texts
            + self.pending_channels.iter().map(String::len).sum::<usize>()
    }
}

impl ChannelState {
    /// Returns `retry_at`, limited because a backward clock step must not prolong the delay.
    fn ready_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.retry_at.map(|next| next.min(now.after(RETRY_DELAY_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{AlertStore, Observation};

    const NOW: Timestamp = Timestamp(1_772_874_303_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn notification_payload(subject: &str) -> MessagePayload {
        let finding = Finding::new(CheckKind::System, "disk_full", HealthLevel::Critical, "full")
            .with_subject(subject);
        let observation = Observation { findings: vec![finding], ..Observation::default() };
        MessagePayload::Notification(Box::new(
            AlertStore::default().evaluate(&observation, NOW).remove(0),
        ))
    }

    fn mail_channels() -> BTreeSet<String> {
        ["mail".to_owned()].into()
    }

    fn seconds_later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    #[test]
    fn failed_messages_back_off_and_are_sent_together() {
        let mut outbox = Outbox::default();
        outbox.enqueue(mail_channels(), notification_payload("a"), NOW);
        let (mut now, mut delays) = (NOW, Vec::new());
        for _ in 0..8 {
            assert_eq!(outbox.due_messages(now).len(), 1);
            outbox.on_failed("mail", "refused", now);
            assert!(outbox.due_messages(now).is_empty());
            let next = outbox.next_due_at(&BTreeSet::new(), now).unwrap();
            delays.push(next.since(now).as_secs());
            now = next;
        }
        outbox.enqueue(mail_channels(), notification_payload("b"), now);

        assert_eq!(delays, [30, 60, 120, 240, 480, 960, 1800, 1800]);
        let due = outbox.due_messages(now).remove("mail").unwrap();
        assert_eq!(due.len(), 2);
        assert_eq!(
            outbox.channel_findings(now)[0].message,
            "delivery fails: refused (alerts pending: 2)"
        );
        outbox.on_delivered("mail", &due, now);
        assert_eq!((outbox.due_messages(now).len(), outbox.channel_findings(now).len()), (0, 0));
        assert_eq!(outbox.next_due_at(&BTreeSet::new(), now), None);
    }

    #[test]
    fn messages_queued_during_a_delivery_stay_pending() {
        let mut outbox = Outbox::default();
        outbox.enqueue(mail_channels(), notification_payload("a"), NOW);
        let in_delivery = outbox.due_messages(NOW).remove("mail").unwrap();
        outbox.enqueue(mail_channels(), notification_payload("b"), NOW);

        outbox.on_delivered("mail", &in_delivery, NOW);

        assert_eq!(outbox.due_messages(NOW)["mail"].len(), 1);
    }

    #[test]
    fn dropped_messages_are_reported_for_a_day() {
        let mut outbox = Outbox::default();
        let long = "x".repeat(4000);
        for _ in 0..200 {
            outbox.enqueue(mail_channels(), notification_payload(&long), NOW);
        }
        let json = serde_json::to_vec(&outbox).unwrap();
        let kept = outbox.pending("mail").count();
        assert!(json.len() < 1 << 19 && kept > 100, "{kept} in {} bytes", json.len());
        outbox.drop_expired(DAY, seconds_later(86_399));
        assert_eq!(outbox.pending("mail").count(), kept);

        outbox.drop_expired(DAY, seconds_later(86_400));

        let lost = outbox.channel_findings(seconds_later(86_400));
        assert_eq!(lost[0].message, format!("{kept} alerts could not be delivered and are lost"));
        assert!(outbox.channel_findings(seconds_later(2 * 86_400)).is_empty());
    }

    #[test]
    fn channels_are_delivered_independently() {
        let mut outbox = Outbox::default();
        outbox.enqueue(
            ["mail".to_owned(), "ping".to_owned()].into(),
            notification_payload("a"),
            NOW,
        );

        let due = outbox.due_messages(NOW);
        outbox.on_delivered("ping", &due["ping"], NOW);
        outbox.on_failed("mail", "refused", NOW);

        assert_eq!((outbox.pending("mail").count(), outbox.pending("ping").count()), (1, 0));
        assert!(outbox.due_messages(NOW).is_empty());
        outbox.retain_configured(&["ping".to_owned()].into(), &BTreeSet::new());
        assert_eq!(outbox.pending("mail").count(), 0);
    }

    #[test]
    fn a_clock_set_back_neither_delays_nor_prevents_expiry() {
        let mut outbox = Outbox::default();
        outbox.enqueue(mail_channels(), notification_payload("a"), NOW);
        outbox.on_failed("mail", "refused", NOW);
        let past = NOW.before(DAY);

        let next = outbox.next_due_at(&BTreeSet::new(), past).unwrap();
        assert!(next.since(past) <= RETRY_DELAY_MAX);
        outbox.drop_expired(DAY, past);
        outbox.drop_expired(DAY, NOW);
        assert_eq!(outbox.channel_state("mail").unwrap().lost_count, 1);
    }

    #[test]
    fn completed_sessions_count_once_and_queue_one_message() {
        let mut outbox = Outbox::default();

        let counts = [7, 7, 8, 8, 2, 4].map(|count| outbox.record_completed("work", count));
        assert_eq!(counts, [false, false, true, false, false, true]);
        outbox.enqueue(["ping".to_owned()].into(), MessagePayload::SessionCompleted, NOW);
        outbox.enqueue(["ping".to_owned()].into(), MessagePayload::SessionCompleted, NOW);
        assert_eq!(outbox.due_messages(NOW)["ping"].len(), 1);

        outbox.retain_configured(&BTreeSet::new(), &BTreeSet::new());
        assert!(outbox.due_messages(NOW).is_empty());
        assert!(!outbox.record_completed("work", 9), "it is new again");
    }
}
