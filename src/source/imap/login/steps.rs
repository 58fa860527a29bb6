//! Commands of a login, one at a time.

use cynosure_engine::{Cause, Failure, ImapPhase, ImapReply, ImapStatus};

use crate::source::imap::connection::{CommandChannel, ImapAccount};
use crate::source::imap::login::error::LoginError;
use crate::source::imap::wire::{Command, NoBodies, Response};

/// Maximum number of responses to one command of a login. A server sends a few.
pub(super) const RESPONSES_MAX: usize = 1_000;

/// Runs a command and returns its tagged reply, whatever it says. The capabilities in the responses
/// are noted by the channel.
pub(super) async fn run_command(
    channel: &mut CommandChannel,
    account: &ImapAccount,
    command: &Command,
) -> Result<ImapReply, LoginError> {
    let sent_tag = channel.next_tag();
    channel.send(&sent_tag, command.parts()).await?;
    for _ in 0..RESPONSES_MAX {
        match read_step(channel, account).await? {
            Response::Tagged { tag, reply } if tag == sent_tag => return Ok(reply),
            Response::Tagged { .. }
            | Response::Status(_)
            | Response::Data { .. }
            | Response::Continuation(_) => {}
        }
    }
    Err(too_many_responses(account))
}

/// Reads the next response. A `BYE` is an error.
pub(super) async fn read_step(
    channel: &mut CommandChannel,
    account: &ImapAccount,
) -> Result<Response, LoginError> {
    match channel.read(&mut NoBodies).await? {
        Response::Status(reply) if reply.status == ImapStatus::Bye => {
            Err(LoginError::Refused(account.judge_bye(&reply, ImapPhase::Login)))
        }
        response @ (Response::Status(_)
        | Response::Tagged { .. }
        | Response::Data { .. }
        | Response::Continuation(_)) => Ok(response),
    }
}

/// Converts a reply that is no success into the failure that it means.
pub(super) fn check_reply(
    account: &ImapAccount,
    reply: &ImapReply,
    phase: ImapPhase,
) -> Result<(), LoginError> {
    match account.judge(reply, phase) {
        (_verdict, Some(failure)) => Err(LoginError::Refused(failure)),
        (_verdict, None) => Ok(()),
    }
}

pub(super) fn too_many_responses(account: &ImapAccount) -> LoginError {
    let message = format!(
        "{} sent more than {RESPONSES_MAX} responses to one command of the login",
        account.host()
    );
    LoginError::Refused(Failure::new(Cause::Challenge, message))
}
