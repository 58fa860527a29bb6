//! Login to a server: greeting, STARTTLS, authentication.
//!
//! Before TLS no credential is sent, unless the configuration asks for a plain connection.

mod authentication;
mod error;
mod greeting;
mod steps;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use cynosure_engine::{Cause, Failure, ImapPhase};
use secrecy::SecretString;

use self::authentication::authenticate;
pub(super) use self::error::LoginError;
use self::greeting::read_greeting;
use self::steps::{check_reply, run_command};
use crate::source::imap::connect::{ImapStream, start_tls};
use crate::source::imap::connection::{CommandChannel, ImapAccount};
use crate::source::imap::options::Security;
use crate::source::imap::wire::Command;

/// Name and version that the server may log (RFC 2971). Some servers refuse clients without.
const ID_ARGUMENTS: &str =
    concat!("(\"name\" \"cynosure\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")");

/// Logs in over a new connection.
///
/// # Errors
/// Returns the refusal of the server, or the failure of the connection.
pub(super) async fn log_in(
    stream: ImapStream,
    account: &Rc<ImapAccount>,
    secret: &SecretString,
) -> Result<CommandChannel, LoginError> {
    let mut channel = CommandChannel::new(stream, Rc::clone(account));
    read_greeting(&mut channel, account).await?;
    if account.options.security == Security::StartTls {
        channel = encrypt(channel, account).await?;
    }
    request_capabilities(&mut channel, account).await?;
    if account.options.security != Security::Plain && !channel.is_encrypted() {
        let message = format!("the connection to {} is not encrypted", account.host());
        return Err(LoginError::Refused(Failure::new(Cause::Tls, message)));
    }
    authenticate(&mut channel, account, secret).await?;
    request_capabilities(&mut channel, account).await?;
    if channel.capabilities().contains("ID") {
        // The name is only a courtesy: a refusal changes nothing, and nothing waits for the reply.
        channel.send_unawaited(&Command::new("ID").text(ID_ARGUMENTS)).await?;
    }
    Ok(channel)
}

/// Encrypts the connection. Everything received before is forgotten, because it may be forged.
async fn encrypt(
    mut channel: CommandChannel,
    account: &Rc<ImapAccount>,
) -> Result<CommandChannel, LoginError> {
    request_capabilities(&mut channel, account).await?;
    let options = &account.options;
    if !channel.capabilities().contains("STARTTLS") {
        let message = format!(
            "{} does not offer STARTTLS: set security = \"tls\" and the `port` for it, usually 993",
            options.address()
        );
        return Err(LoginError::Refused(Failure::new(Cause::Tls, message)));
    }
    let reply = run_command(&mut channel, account, &Command::new("STARTTLS")).await?;
    check_reply(account, &reply, ImapPhase::Login)?;
    let Some(tcp) = channel.into_stream().into_plain() else {
        let message = format!("the connection to {} is encrypted already", options.host);
        return Err(Failure::new(Cause::Unknown, message).into());
    };
    let stream = start_tls(tcp, options, account.tls_config).await?;
    Ok(CommandChannel::new(stream, Rc::clone(account)))
}

/// Asks for the capabilities, unless they are known.
async fn request_capabilities(
    channel: &mut CommandChannel,
    account: &ImapAccount,
) -> Result<(), LoginError> {
    if channel.capabilities().is_empty() {
        let reply = run_command(channel, account, &Command::new("CAPABILITY")).await?;
        check_reply(account, &reply, ImapPhase::Login)?;
    }
    Ok(())
}
