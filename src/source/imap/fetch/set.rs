//! Sets of messages in flight on one connection: a `UID FETCH` each.

use std::cell::RefCell;
use std::collections::VecDeque;

use cynosure_engine::ImapPhase;

use crate::limiter::AttemptKind;
use crate::source::imap::connection::{CommandAttempt, CommandInFlight};
use crate::source::imap::fetch::queue::{RequestQueue, RequestSet};
use crate::source::imap::fetch::request::BodyRequest;
use crate::source::imap::wire::{Command, UidSet};

/// Messages of one `UID FETCH`, with the requests that it has not answered yet.
#[derive(Debug)]
pub(super) struct FetchSet {
    /// Phase in which the reply to the command is classified.
    pub(super) phase: ImapPhase,
    pub(super) unanswered: RequestSet,
    /// Requests with a lower number were made before the folder was opened.
    opened_at: u64,
    /// The server said that messages were expunged which it may not have reported yet.
    pub(super) has_expunge_notice: bool,
    /// Warning of the server during the command: it may concern a message that it does not send.
    pub(super) warning: Option<String>,
    /// A message came that could not be assigned to a request.
    pub(super) has_unclaimed_body: bool,
}

/// Sets in flight on one connection, each with its command, the oldest first.
#[derive(Default)]
pub(super) struct SetsInFlight(VecDeque<(CommandInFlight, FetchSet)>);

impl FetchSet {
    /// Creates a set for a folder that was opened before the request with the number `opened_at`
    /// was made.
    pub(super) fn new(requests: RequestSet, opened_at: u64) -> Self {
        Self {
            phase: ImapPhase::Fetch { is_single: requests.len() == 1 },
            unanswered: requests,
            opened_at,
            has_expunge_notice: false,
            warning: None,
            has_unclaimed_body: false,
        }
    }

    /// Returns the command. It leaves the flag `\Seen` as it is (`PEEK`).
    pub(super) fn to_command(&self) -> Command {
        let uids: UidSet = self.unanswered.keys().copied().collect();
        Command::new(format!("UID FETCH {uids} (UID BODY.PEEK[])"))
    }

    /// Returns the attempt that the command is. For several messages it is a first one if it is that
    /// of any of them; a throttle of it is not that of one message.
    pub(super) fn attempt(&self) -> CommandAttempt {
        if let Some(alone) = self.unanswered.values().find(|request| request.is_single) {
            return CommandAttempt { kind: alone.attempt, strikes: Some(alone.strikes) };
        }
        let mut attempts = self.unanswered.values().map(|request| request.attempt);
        let has_first = attempts.any(|attempt| attempt == AttemptKind::First);
        let kind = if has_first { AttemptKind::First } else { AttemptKind::Retry };
        CommandAttempt { kind, strikes: None }
    }

    /// Records that the command was sent: what is requested again after it is a retry, also over
    /// another connection.
    pub(super) fn record_sent(&mut self) {
        self.unanswered.values_mut().for_each(|request| request.attempt = AttemptKind::Retry);
    }

    /// True if the message may be newer than the state in which the connection sees the folder. A
    /// server need not show a message before the folder is opened again (RFC 3501 §5.2).
    pub(super) fn may_be_unseen(&self, request: &BodyRequest) -> bool {
        self.opened_at <= request.number
    }

    /// True if a message without an answer may exist, because the folder was opened before.
    pub(super) fn has_unseen(&self) -> bool {
        self.unanswered.values().any(|request| self.may_be_unseen(request))
    }

    /// True if a message of the set may harm others, or cannot be told apart from them.
    pub(super) fn is_exclusive(&self) -> bool {
        self.unanswered.values().any(|request| request.is_single)
    }
}

impl SetsInFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the only set, if there is exactly one.
    pub(super) fn only(&self) -> Option<&FetchSet> {
        let (_command, oldest) = self.0.front()?;
        (self.0.len() == 1).then_some(oldest)
    }

    pub(super) fn push(&mut self, command: CommandInFlight, set: FetchSet) {
        self.0.push_back((command, set));
    }

    /// Removes the set whose command has this tag.
    pub(super) fn take(&mut self, tag: &str) -> Option<(CommandInFlight, FetchSet)> {
        let index = self.0.iter().position(|(command, _set)| command.tag() == tag)?;
        self.0.remove(index)
    }

    /// Removes all sets and returns their requests, those of the oldest first.
    pub(super) fn take_requests(&mut self) -> Vec<BodyRequest> {
        self.0.drain(..).flat_map(|(_command, set)| set.unanswered.into_values()).collect()
    }

    /// Returns the request without an answer for a message.
    pub(super) fn request(&self, uid: u32) -> Option<&BodyRequest> {
        self.0.iter().find_map(|(_command, set)| set.unanswered.get(&uid))
    }

    pub(super) fn take_request(&mut self, uid: u32) -> Option<BodyRequest> {
        self.0.iter_mut().find_map(|(_command, set)| set.unanswered.remove(&uid))
    }

    /// Replaces an abandoned request by a queued one for the same message. Without one, removes it
    /// and returns false.
    pub(super) fn replace_abandoned(&mut self, uid: u32, queue: &RefCell<RequestQueue>) -> bool {
        let mut sets = self.0.iter_mut().map(|(_command, set)| &mut set.unanswered);
        let Some(unanswered) = sets.find(|unanswered| unanswered.contains_key(&uid)) else {
            return false;
        };
        let abandoned = unanswered.remove(&uid);
        let newer =
            abandoned.and_then(|abandoned| queue.borrow_mut().take_newest(&abandoned.location));
        let is_replaced = newer.is_some();
        unanswered.extend(newer.map(|newer| (uid, newer)));
        is_replaced
    }

    /// Returns the UID of the only request without an answer, if there is exactly one.
    pub(super) fn only_unanswered(&self) -> Option<u32> {
        let mut uids = self.0.iter().flat_map(|(_command, set)| set.unanswered.keys().copied());
        let first = uids.next()?;
        uids.next().is_none().then_some(first)
    }

    /// Counts received bytes for the rate limit. It counts the bytes of the account, so any command
    /// will do.
    pub(super) fn record_bytes(&mut self, bytes: u64) {
        if let Some((command, _set)) = self.0.front_mut() {
            command.record_bytes(bytes);
        }
    }

    pub(super) fn mark_expunge_notice(&mut self) {
        self.0.iter_mut().for_each(|(_command, set)| set.has_expunge_notice = true);
    }

    pub(super) fn record_warning(&mut self, warning: &str) {
        self.0.iter_mut().for_each(|(_command, set)| set.warning = Some(warning.to_owned()));
    }

    pub(super) fn mark_unclaimed_body(&mut self) {
        self.0.iter_mut().for_each(|(_command, set)| set.has_unclaimed_body = true);
    }
}

#[cfg(test)]
mod tests {
    use cynosure_engine::{DocumentLocation, ThrottleStrikes};

    use super::*;

    fn request(uid: u32, attempt: AttemptKind, strikes: ThrottleStrikes) -> BodyRequest {
        let location = DocumentLocation { folder: "a".to_owned(), uid_validity: 1, uid };
        BodyRequest::new(location, attempt, strikes).0
    }

    fn set_of(requests: impl IntoIterator<Item = BodyRequest>) -> FetchSet {
        let requests = requests.into_iter().map(|request| (request.location.uid, request));
        FetchSet::new(requests.collect(), 0)
    }

    #[test]
    fn a_set_is_a_first_attempt_if_it_is_one_for_any_message() {
        let first = |uid| request(uid, AttemptKind::First, ThrottleStrikes::default());
        let mut set = set_of([first(1), first(2)]);
        assert_eq!(set.attempt(), CommandAttempt::FIRST);

        set.record_sent();
        let again = CommandAttempt { kind: AttemptKind::Retry, strikes: None };
        assert_eq!(set.attempt(), again);

        set.unanswered.insert(3, first(3));
        assert_eq!(set.attempt(), CommandAttempt::FIRST);
    }

    #[test]
    fn a_message_alone_has_its_own_attempt_and_strikes() {
        let cases = [(AttemptKind::Suspect, 0), (AttemptKind::Retry, 0), (AttemptKind::First, 1)];
        for (kind, count) in cases {
            let strikes = ThrottleStrikes::restore(count);

            let set = set_of([request(1, kind, strikes)]);

            assert!(set.is_exclusive(), "{kind:?}");
            assert_eq!(set.attempt(), CommandAttempt { kind, strikes: Some(strikes) });
        }
    }
}
