//! Account whose connections share permits, metrics, and what the replies have shown.

use std::cell::Cell;
use std::rc::Rc;

use cynosure_engine::{
    Cause, Failure, ImapPhase, ImapReply, ImapStatus, ImapVerdict, classify_imap_reply,
    sanitize_line,
};
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::limiter::{PermitRequest, QuotaScope, RequestLimiter};
use crate::source::credential::Credential;
use crate::source::imap::connect::TlsConfigProvider;
use crate::source::imap::connection::reply_history::ReplyHistory;
use crate::source::imap::connection::request::{CommandAttempt, ImapRequest};
use crate::source::imap::connection::slots::ConnectionSlots;
use crate::source::imap::options::ImapOptions;

/// Longest part of a reply quoted in a message, in characters, so that a remedy after it is not
/// truncated.
const QUOTE_CHARS_MAX: usize = 80;

/// Codes of untagged replies that a person should read: RFC 3501 §7.1, and one of Gmail.
const ALERT_CODES: [&str; 2] = ["ALERT", "WEBALERT"];

/// Account with what its connections share.
#[derive(Debug)]
pub(in crate::source::imap) struct ImapAccount {
    pub(in crate::source::imap) options: ImapOptions,
    pub(in crate::source::imap) credential: Rc<Credential>,
    pub(in crate::source::imap) slots: Rc<ConnectionSlots>,
    pub(in crate::source::imap) tls_config: TlsConfigProvider,
    limiter: Rc<dyn RequestLimiter>,
    history: ReplyHistory,
    resets: Cell<u64>,
}

/// Age of a connection in resets and reconnects. One of an earlier generation is not used again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::source::imap) struct ConnectionGeneration {
    resets: u64,
    reconnects: u64,
}

impl ImapAccount {
    pub(in crate::source::imap) fn new(
        options: ImapOptions,
        credential: Rc<Credential>,
        limiter: Rc<dyn RequestLimiter>,
        tls_config: TlsConfigProvider,
    ) -> Self {
        Self {
            slots: Rc::new(ConnectionSlots::new(options.connections)),
            options,
            credential,
            tls_config,
            limiter,
            history: ReplyHistory::default(),
            resets: Cell::new(0),
        }
    }

    pub(in crate::source::imap) fn host(&self) -> &str {
        &self.options.host
    }

    pub(in crate::source::imap) fn generation(&self) -> ConnectionGeneration {
        let metrics = &self.options.network.metrics;
        ConnectionGeneration {
            resets: self.resets.get(),
            reconnects: metrics.update(|metrics| metrics.connection.reconnects),
        }
    }

    /// Begins a new generation of connections, for another credential.
    pub(in crate::source::imap) fn reset(&self) {
        self.resets.set(self.resets.get().saturating_add(1));
        self.history.forget_credential();
    }

    /// Waits for the permit of a command or a login.
    ///
    /// # Errors
    /// Returns [`Cause::RateLimit`] if the limiter is blocked for longer than a request may wait.
    pub(in crate::source::imap) async fn acquire_request(
        &self,
        attempt: CommandAttempt,
    ) -> Result<ImapRequest, Failure> {
        let scope = QuotaScope { server: self.host(), route: None };
        let CommandAttempt { kind, strikes } = attempt;
        let request = PermitRequest { scope, cost: 1, attempt: kind, strikes };
        let permit = self.limiter.acquire(request).await?;
        Ok(ImapRequest::new(permit, self.options.network.metrics.clone()))
    }

    /// Returns the permit of a command if there is one now.
    pub(super) fn try_acquire_request(
        &self,
        attempt: CommandAttempt,
    ) -> Result<Option<ImapRequest>, Failure> {
        self.acquire_request(attempt).now_or_never().transpose()
    }

    /// Classifies a reply, and returns the failure that it means; `None` for a success.
    pub(in crate::source::imap) fn judge(
        &self,
        reply: &ImapReply,
        phase: ImapPhase,
    ) -> (ImapVerdict, Option<Failure>) {
        let now = Instant::now();
        let verdict = self.history.revise(classify_imap_reply(reply, phase), phase, now);
        if verdict.should_use_fewer_connections
            && let Some(connections) = self.slots.lower(now)
        {
            info!(
                host = self.host(),
                connections, "using fewer connections, because the server refused another one"
            );
        }
        let failure = verdict.cause.map(|cause| {
            let message = describe_refusal(self.host(), reply, phase, &verdict);
            let failure = Failure::new(cause, message).with_retry_after(verdict.retry_after);
            Failure { is_lock_out: verdict.is_lock_out, ..failure }
        });
        (verdict, failure)
    }

    /// Returns the failure of a `BYE`, which always ends the connection.
    pub(in crate::source::imap) fn judge_bye(
        &self,
        reply: &ImapReply,
        phase: ImapPhase,
    ) -> Failure {
        let (_verdict, failure) = self.judge(reply, phase);
        failure.unwrap_or_else(|| {
            Failure::new(Cause::Connection, format!("{} ended the connection", self.host()))
        })
    }

    /// Logs an alert for people, once.
    pub(super) fn log_alert(&self, reply: &ImapReply) {
        if !reply.code_name().is_some_and(|name| ALERT_CODES.contains(&name)) {
            return;
        }
        let text = sanitize_line(&reply.to_string());
        if self.history.is_new_alert(&text) {
            warn!(host = self.host(), text, "alert of the mail server");
        }
    }
}

fn describe_refusal(
    host: &str,
    reply: &ImapReply,
    phase: ImapPhase,
    verdict: &ImapVerdict,
) -> String {
    let refusal =
        if reply.status == ImapStatus::Bye { "ended the connection" } else { refusal_of(phase) };
    let mut quote = reply.to_string();
    if let Some(advice) = verdict.advice {
        if let Some((end, _)) = quote.char_indices().nth(QUOTE_CHARS_MAX) {
            quote.truncate(end);
            quote.push('…');
        }
        return format!("{host} {refusal}: \"{quote}\"; {advice}");
    }
    format!("{host} {refusal}: \"{quote}\"")
}

fn refusal_of(phase: ImapPhase) -> &'static str {
    match phase {
        ImapPhase::Greeting => "did not greet as expected",
        ImapPhase::Login => "refused the login",
        ImapPhase::Listing => "refused to list messages or folders",
        ImapPhase::Select => "refused to open a folder",
        ImapPhase::Fetch { .. } => "refused to send messages",
        ImapPhase::Idle => "refused a command",
    }
}
