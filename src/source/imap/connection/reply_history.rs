//! Replies whose meaning depends on those before them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use cynosure_engine::{Cause, ImapPhase, ImapRule, ImapVerdict};
use tokio::time::Instant;

/// Replies "authenticated but not connected" in a row after which the credential is taken to be the
/// reason. Exchange sends them for too many new connections, and also for a wrong password that its
/// login has accepted.
const NOT_CONNECTED_MAX: u32 = 5;

/// Ends of sessions within `SESSION_ENDS_WINDOW` that mean a rate limit: Gmail says it so.
const SESSION_ENDS_MAX: usize = 3;

const SESSION_ENDS_WINDOW: Duration = Duration::from_secs(10 * 60);

/// Wait after `SESSION_ENDS_MAX` ends of sessions.
const SESSION_ENDS_WAIT: Duration = Duration::from_secs(10 * 60);

/// Maximum number of alerts that are remembered, so that a server cannot fill the memory.
const ALERTS_MAX: usize = 100;

/// Replies of the server to an account, as far as they matter for later ones.
#[derive(Debug, Default)]
pub(super) struct ReplyHistory {
    /// Replies "authenticated but not connected" since the last success.
    not_connected_count: Cell<u32>,
    /// Times of the last ends of sessions.
    session_ends: RefCell<VecDeque<Instant>>,
    alerts: RefCell<BTreeSet<String>>,
}

impl ReplyHistory {
    /// Records a reply, and returns its verdict in view of the earlier ones.
    pub(super) fn revise(
        &self,
        verdict: ImapVerdict,
        phase: ImapPhase,
        now: Instant,
    ) -> ImapVerdict {
        if verdict.rule == ImapRule::AuthenticatedNotConnected {
            let count = self.not_connected_count.get().saturating_add(1);
            self.not_connected_count.set(count);
            if NOT_CONNECTED_MAX <= count {
                return ImapVerdict {
                    cause: Some(Cause::Unauthorized),
                    retry_after: None,
                    ..verdict
                };
            }
        }
        if verdict.rule == ImapRule::SessionExpired && self.is_session_limit(now) {
            return ImapVerdict {
                cause: Some(Cause::RateLimit),
                retry_after: Some(SESSION_ENDS_WAIT),
                ..verdict
            };
        }
        // A login proves nothing: Exchange accepts it before such a reply.
        let is_login = matches!(phase, ImapPhase::Greeting | ImapPhase::Login);
        if verdict.cause.is_none() && !is_login {
            self.not_connected_count.set(0);
        }
        verdict
    }

    /// Returns true for an alert that has not been shown.
    pub(super) fn is_new_alert(&self, text: &str) -> bool {
        let mut alerts = self.alerts.borrow_mut();
        alerts.len() < ALERTS_MAX && alerts.insert(text.to_owned())
    }

    /// Forgets what concerns a credential that was replaced.
    pub(super) fn forget_credential(&self) {
        self.not_connected_count.set(0);
    }

    /// Records the end of a session. Returns true if there were too many.
    fn is_session_limit(&self, now: Instant) -> bool {
        let mut ends = self.session_ends.borrow_mut();
        ends.push_back(now);
        ends.retain(|end| now.saturating_duration_since(*end) < SESSION_ENDS_WINDOW);
        let is_limit = SESSION_ENDS_MAX <= ends.len();
        if is_limit {
            ends.clear();
        }
        is_limit
    }
}

#[cfg(test)]
mod tests {
    use cynosure_engine::{ImapReply, classify_imap_reply};

    use super::*;

    const NOT_CONNECTED: &str = "BAD User is authenticated but not connected.";
    const SESSION_EXPIRED: &str = "BYE Session expired, please login again.";

    fn cause_of(
        history: &ReplyHistory,
        line: &str,
        phase: ImapPhase,
        now: Instant,
    ) -> Option<Cause> {
        let verdict = classify_imap_reply(&ImapReply::parse(line)?, phase);
        history.revise(verdict, phase, now).cause
    }

    #[test]
    fn the_fifth_in_a_row_concerns_the_credential() {
        let (history, now) = (ReplyHistory::default(), Instant::now());
        let reply = || cause_of(&history, NOT_CONNECTED, ImapPhase::Select, now);
        let success = |phase| cause_of(&history, "OK done", phase, now);

        assert_eq!([reply(), reply(), reply(), reply()], [Some(Cause::RateLimit); 4]);
        success(ImapPhase::Select);
        assert_eq!([reply(), reply(), reply(), reply()], [Some(Cause::RateLimit); 4]);
        success(ImapPhase::Login);
        assert_eq!([reply(), reply()], [Some(Cause::Unauthorized); 2]);
        history.forget_credential();
        assert_eq!(reply(), Some(Cause::RateLimit));
    }

    #[test]
    fn three_ends_of_sessions_within_ten_minutes_are_a_limit() {
        let (history, start) = (ReplyHistory::default(), Instant::now());
        let end = |minutes: u64| {
            let now = start + Duration::from_secs(60 * minutes);
            cause_of(&history, SESSION_EXPIRED, ImapPhase::Idle, now)
        };

        assert_eq!([end(0), end(1), end(11)], [Some(Cause::Connection); 3]);
        assert_eq!([end(12), end(13)], [Some(Cause::Connection), Some(Cause::RateLimit)]);
        assert_eq!(end(14), Some(Cause::Connection), "the count starts again");
    }

    #[test]
    fn an_alert_is_shown_once() {
        let history = ReplyHistory::default();

        assert_eq!(["a", "b", "a"].map(|text| history.is_new_alert(text)), [true, true, false]);
        let more: Vec<bool> = (0..200).map(|n| history.is_new_alert(&format!("{n}"))).collect();
        assert_eq!(more.iter().filter(|is_new| **is_new).count(), ALERTS_MAX - 2);
    }
}
