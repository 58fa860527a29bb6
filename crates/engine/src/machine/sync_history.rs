//! Times of the polls and listings of a source, and the time up to which its archive is complete.

use crate::{ClockStep, Timestamp};

/// Polls and listings of a source, and how far its archive is complete.
///
/// A listing reports everything that the source had when it began, because its cursor was taken
/// before. So does a poll without changes, together with the listings before it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SyncHistory {
    /// Time when the source was last polled for changes.
    pub last_poll: Option<Timestamp>,
    /// Start of the poll that is under way. An earlier time than the true one does no harm.
    pub poll_started_at: Option<Timestamp>,
    /// Time up to which everything is listed, once the open session's current listing is complete.
    pub listed_until: Option<Timestamp>,
    /// Time up to which the archive is complete: everything that the source had then is stored,
    /// gone or quarantined.
    pub complete_until: Option<Timestamp>,
}

impl SyncHistory {
    /// Records the start of a poll.
    pub(super) fn start_poll(&mut self, now: Timestamp) {
        self.poll_started_at = Some(now);
    }

    /// Records the start of a poll during a download. It counts as polled, even if it fails.
    pub(super) fn start_poll_during_download(&mut self, now: Timestamp) {
        self.last_poll = Some(now);
        self.poll_started_at = Some(now);
    }

    /// Records the beginning of a session, whose first listing begins now.
    pub(super) fn begin_session(&mut self, now: Timestamp) {
        self.last_poll = Some(now);
        self.begin_listing(now);
    }

    /// Records the beginning of a listing. The session cannot be completed before it is.
    pub(super) fn begin_listing(&mut self, now: Timestamp) {
        self.poll_started_at = None;
        self.listed_until = self.listed_until.max(Some(now));
    }

    /// Records a poll between two sessions that found no changes, so that nothing is pending.
    pub(super) fn record_unchanged(&mut self, now: Timestamp) {
        self.last_poll = Some(now);
        self.complete_until = self.complete_until.max(self.poll_started_at.take());
    }

    /// Records a poll that found no changes while listed items are pending.
    pub(super) fn record_unchanged_during_download(&mut self, now: Timestamp) {
        self.last_poll = Some(now);
        self.listed_until = self.listed_until.max(self.poll_started_at.take());
    }

    /// Records that everything which is listed is settled.
    pub(super) fn record_settled(&mut self) {
        self.complete_until = self.complete_until.max(self.listed_until);
    }

    /// Forgets how far the archive is complete, as for another account or a restored ledger. The
    /// next completion finds it again.
    pub fn forget_completeness(&mut self) {
        (self.poll_started_at, self.listed_until, self.complete_until) = (None, None, None);
    }

    pub(super) fn shifted_by(self, step: ClockStep) -> Self {
        let shift = |time: Option<Timestamp>| time.map(|time| time.shifted_by(step));
        Self {
            last_poll: shift(self.last_poll),
            poll_started_at: shift(self.poll_started_at),
            listed_until: shift(self.listed_until),
            complete_until: shift(self.complete_until),
        }
    }
}
