//! First line of a connection. Servers of other protocols are recognized by it.

use cynosure_engine::{Cause, Failure, ImapPhase, ImapReply, ImapStatus};

use crate::source::imap::connection::{CommandChannel, ImapAccount};
use crate::source::imap::login::error::LoginError;
use crate::source::imap::login::steps::check_reply;
use crate::source::imap::options::{ImapOptions, Security};
use crate::source::imap::wire::{NoBodies, Response};

/// Beginnings of lines of other protocols, and their names.
const OTHER_PROTOCOLS: [(&str, &str); 6] = [
    ("+OK", "POP3"),
    ("HTTP/", "HTTP"),
    ("<", "HTTP"),
    ("220", "SMTP or FTP"),
    ("SSH-", "SSH"),
    // An alert, which is how TLS ends a connection (RFC 8446 §5.1).
    ("\u{15}\u{3}", "TLS"),
];

/// Reads the greeting.
///
/// # Errors
/// [`Cause::Challenge`] if it is not that of an IMAP server before the login; the failure that a
/// `BYE` means.
pub(super) async fn read_greeting(
    channel: &mut CommandChannel,
    account: &ImapAccount,
) -> Result<(), LoginError> {
    let options = &account.options;
    let response =
        channel.read(&mut NoBodies).await.map_err(|failure| without_greeting(options, &failure))?;
    match response {
        Response::Status(reply) => match reply.status {
            ImapStatus::Ok => Ok(()),
            ImapStatus::Bye => {
                Err(LoginError::Refused(account.judge_bye(&reply, ImapPhase::Greeting)))
            }
            ImapStatus::No | ImapStatus::Bad | ImapStatus::PreAuth => {
                check_protocol(options, &reply)?;
                check_reply(account, &reply, ImapPhase::Greeting)
            }
        },
        Response::Tagged { .. } | Response::Data { .. } | Response::Continuation(_) => {
            let message = format!("{} does not greet as an IMAP server does", options.address());
            Err(LoginError::Refused(Failure::new(Cause::Challenge, message)))
        }
    }
}

/// Rejects a line of another protocol, with the setting that is probably wrong.
fn check_protocol(options: &ImapOptions, reply: &ImapReply) -> Result<(), LoginError> {
    let other = OTHER_PROTOCOLS.iter().find(|(start, _)| reply.text.starts_with(start));
    let Some((_, protocol)) = other else { return Ok(()) };
    let remedy = if *protocol == "TLS" {
        "set security = \"tls\""
    } else {
        "set `port` to that of IMAP, usually 993 with security = \"tls\""
    };
    let message = format!("{} speaks {protocol}, not IMAP: {remedy}", options.address());
    Err(LoginError::Refused(Failure::new(Cause::Challenge, message)))
}

/// Adds the probable reason to the failure of a connection on which no greeting came.
fn without_greeting(options: &ImapOptions, failure: &Failure) -> Failure {
    let hint = match options.security {
        Security::Tls => "if that is not the port of IMAP, set `port`",
        Security::StartTls | Security::Plain => {
            "if that port is for TLS, as 993 is, set security = \"tls\""
        }
    };
    let message = format!("no greeting from {}: {failure}; {hint}", options.address());
    Failure::new(failure.cause, message)
}
