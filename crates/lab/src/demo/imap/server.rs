//! State that the connections share: logins, and the checks that the fault plan may fail.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::faults::DemoRefusal;
use crate::demo::base64;
use crate::demo::faults::DownloadFault;
use crate::demo::kind::DemoKind;
use crate::demo::mailbox::MessageNumber;
use crate::demo::service::{CONCURRENT_REQUESTS_MAX, DemoService, RequestSlot};

const CAPABILITIES: &str = "CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2 LIST-EXTENDED \
                            LIST-STATUS SPECIAL-USE CONDSTORE ID UIDPLUS UNSELECT \
                            NAMESPACE";

/// Demo service as IMAP connections share it.
#[derive(Debug)]
pub(super) struct DemoImapServer {
    pub(super) service: Arc<DemoService>,
    pub(super) kind: DemoKind,
    /// One permit for each further connection that may log in.
    login_slots: Arc<Semaphore>,
    /// One permit for each connection that will get a login page in place of a greeting.
    login_pages: Semaphore,
}

/// Login of a connection. It counts as a connection of the user until it is dropped.
#[derive(Debug)]
pub(super) struct DemoLogin {
    /// Token that served as the password, and may expire.
    token: Option<String>,
    _slot: OwnedSemaphorePermit,
}

impl DemoImapServer {
    pub(super) fn new(service: Arc<DemoService>, kind: DemoKind) -> Self {
        Self {
            service,
            kind,
            login_slots: Arc::new(Semaphore::new(CONCURRENT_REQUESTS_MAX as usize)),
            login_pages: Semaphore::new(0),
        }
    }

    pub(super) fn capabilities(&self) -> String {
        let object_id = if self.kind.has_object_ids() { " OBJECTID" } else { "" };
        format!("{CAPABILITIES}{object_id}")
    }

    /// Logs a connection in if the client has the password or the token. `has_secret` compares it.
    pub(super) fn log_in(
        &self,
        has_secret: impl Fn(&str) -> bool,
    ) -> Result<DemoLogin, DemoRefusal> {
        let token = self.service.lock_state().token().map(str::to_owned);
        let token = token.filter(|token| has_secret(token));
        let is_authorized = token.is_some() || has_secret(self.service.password());
        self.service.lock_state().count_authorization(is_authorized);
        if !is_authorized {
            return Err(DemoRefusal::LOGIN_FAILED);
        }
        match Arc::clone(&self.login_slots).try_acquire_owned() {
            Ok(slot) => Ok(DemoLogin { token, _slot: slot }),
            Err(_exhausted) => {
                self.service.lock_state().count_concurrency_limit();
                Err(DemoRefusal::Status(
                    format!(
                        "NO [LIMIT] Maximum number of connections from user+IP exceeded \
                         (mail_max_userip_connections={CONCURRENT_REQUESTS_MAX})"
                    )
                    .into(),
                ))
            }
        }
    }

    /// Admits a command that the fault plan may refuse.
    pub(super) fn admit(&self, login: Option<&DemoLogin>) -> Result<RequestSlot, DemoRefusal> {
        self.service.lock_state().count_request();
        self.check(login)?;
        self.service.try_acquire_slot().ok_or(DemoRefusal::TOO_MANY_COMMANDS)
    }

    /// Refuses a command, or the next message of one, during an outage and once the token of the
    /// login has expired.
    pub(super) fn check(&self, login: Option<&DemoLogin>) -> Result<(), DemoRefusal> {
        let fault = self.service.lock_state().outage_fault(Instant::now());
        if let Some(fault) = fault {
            return Err(DemoRefusal::from_fault(fault));
        }
        self.service.expire_token_if_due();
        let state = self.service.lock_state();
        match login.and_then(|login| login.token.as_deref()) {
            Some(token) if !state.accepts_token(token) => {
                Err(DemoRefusal::Bye("The password has expired."))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the fault of a message's download, if one is due.
    pub(super) fn message_fault(&self, message: MessageNumber) -> Option<DownloadFault> {
        let is_whole_item = self.is_whole_item(message);
        self.service.lock_state().download_fault(message, is_whole_item)
    }

    /// True if the message is all of an item, as clients count items.
    fn is_whole_item(&self, message: MessageNumber) -> bool {
        let mailbox = self.service.lock_mailbox();
        if self.kind.has_object_ids() {
            mailbox.is_only_in_thread(message)
        } else {
            mailbox.folders(message).count() == 1
        }
    }

    /// Plans that the next connection gets a login page in place of a greeting.
    pub(super) fn plan_login_page(&self) {
        self.login_pages.add_permits(1);
    }

    /// Returns true if a new connection gets a login page, each planned one once.
    pub(super) fn take_login_page(&self) -> bool {
        self.login_pages.try_acquire().map(SemaphorePermit::forget).is_ok()
    }
}

/// Returns the responses, in base64, that log a user in by a SASL mechanism; none if it is unknown.
pub(super) fn sasl_responses(mechanism: &str, username: &str, secret: &str) -> Vec<String> {
    let texts = match mechanism {
        // RFC 4616. The first part, the user to act for, may be left out.
        "PLAIN" => {
            vec![format!("\0{username}\0{secret}"), format!("{username}\0{username}\0{secret}")]
        }
        "XOAUTH2" => vec![format!("user={username}\x01auth=Bearer {secret}\x01\x01")],
        _ => Vec::new(),
    };
    texts.iter().map(|text| base64::encode(text.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mechanisms_take_the_examples_of_their_documents() {
        // RFC 4616 §4, and the page of Gmail about XOAUTH2.
        let plain = sasl_responses("PLAIN", "tim", "tanstaaftanstaaf");
        assert_eq!(plain[0], "AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
        let token = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg";
        let oauth = sasl_responses("XOAUTH2", "someuser@example.com", token);
        assert_eq!(
            oauth,
            ["dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52\
              YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="]
        );
    }
}
