//! Replies of the server to a command that it refuses, among them those of the planned faults.
//!
//! The texts are those of real services. `NO [OVERQUOTA]` is not among them, because clients
//! rightly wait for hours after it.

use std::borrow::Cow;
use std::ops::ControlFlow;

use crate::demo::faults::ResponseFault;

/// Page of a portal in front of a service, sent in place of a greeting.
pub(super) const LOGIN_PAGE: &str = "HTTP/1.1 302 Found\r\nLocation: http://login.example.net/\r\n\
                                     Content-Length: 0\r\n\r\n";

/// Refusal of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum DemoRefusal {
    /// Tagged reply: `NO` or `BAD` with a text.
    Status(Cow<'static, str>),
    /// Tagged reply, then `BYE` and the end of the connection.
    StatusAndBye(String),
    /// `BYE` with this text, and the end of the connection.
    Bye(&'static str),
    /// End of the connection.
    Close,
}

impl DemoRefusal {
    pub(super) const INVALID_ARGUMENTS: Self = Self::with_status("BAD Invalid arguments.");
    pub(super) const UNKNOWN_FOLDER: Self =
        Self::with_status("NO [NONEXISTENT] There is no such folder.");
    pub(super) const LOGIN_FAILED: Self =
        Self::with_status("NO [AUTHENTICATIONFAILED] Invalid user name or password.");
    pub(super) const TOO_MANY_COMMANDS: Self =
        Self::with_status("NO [LIMIT] Too many commands at once.");

    pub(super) const fn with_status(status: &'static str) -> Self {
        Self::Status(Cow::Borrowed(status))
    }

    /// Returns the refusal of a command that meets this fault.
    pub(super) fn from_fault(fault: ResponseFault) -> Self {
        match fault {
            // As Microsoft 365 says it. Rounded up, so that the wait is long enough.
            ResponseFault::RateLimited { retry_after: Some(wait) } => Self::StatusAndBye(format!(
                "BAD Request is throttled. Suggested Backoff Time: {} milliseconds",
                wait.as_millis() + 1
            )),
            ResponseFault::RateLimited { retry_after: None } => {
                Self::with_status("NO [THROTTLED] Too many commands, please slow down.")
            }
            ResponseFault::Unavailable { .. } => {
                Self::with_status("NO [UNAVAILABLE] Please try again later.")
            }
            ResponseFault::ServerError => {
                Self::with_status("NO [SERVERBUG] Some of the messages cannot be read.")
            }
            ResponseFault::Drop | ResponseFault::Html => Self::Close,
        }
    }

    /// Returns the reply to the command with this tag.
    pub(super) fn text(&self, tag: &str) -> String {
        match self {
            Self::Status(status) => format!("{tag} {status}\r\n"),
            Self::StatusAndBye(status) => {
                format!("{tag} {status}\r\n* BYE Connection closed. 14\r\n")
            }
            Self::Bye(text) => format!("* BYE {text}\r\n"),
            Self::Close => String::new(),
        }
    }

    /// Returns `Break` if the connection ends.
    pub(super) fn flow(&self) -> ControlFlow<()> {
        match self {
            Self::Status(_) => ControlFlow::Continue(()),
            Self::StatusAndBye(_) | Self::Bye(_) | Self::Close => ControlFlow::Break(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_backoff_time_is_rounded_up_and_ends_the_connection() {
        let wait = Duration::from_micros(1_500_300);
        let fault = ResponseFault::RateLimited { retry_after: Some(wait) };

        let refusal = DemoRefusal::from_fault(fault);

        assert_eq!(
            refusal.text("a"),
            "a BAD Request is throttled. Suggested Backoff Time: 1501 milliseconds\r\n\
             * BYE Connection closed. 14\r\n"
        );
        assert!(refusal.flow().is_break());
    }
}
