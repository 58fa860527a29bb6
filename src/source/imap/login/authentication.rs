//! Authentication: the choice of a mechanism, and its exchange.

use std::collections::VecDeque;

use cynosure_engine::{
    Cause, Failure, ImapPhase, ImapReply, ImapRule, ImapStatus, Secrets, classify_imap_reply,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::source::imap::connection::{CapabilitySet, CommandChannel, ImapAccount};
use crate::source::imap::login::error::LoginError;
use crate::source::imap::login::steps::{
    RESPONSES_MAX, check_reply, read_step, run_command, too_many_responses,
};
use crate::source::imap::options::{ImapOptions, LoginMechanism};
use crate::source::imap::sasl::{LoginIdentity, SaslMechanism, parse_error_challenge};
use crate::source::imap::wire::{Command, Response};

/// Way to log in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LoginMethod {
    Authenticate(SaslMechanism),
    /// `LOGIN` with the password as it is.
    LoginCommand,
}

/// Logs in. The channel forgets the capabilities of before; a reply may announce the new ones.
///
/// # Errors
/// Returns the refusal of the server, with its remedy, or the failure of the connection.
pub(super) async fn authenticate(
    channel: &mut CommandChannel,
    account: &ImapAccount,
    secret: &SecretString,
) -> Result<(), LoginError> {
    let options = &account.options;
    let capabilities = channel.capabilities().clone();
    let method = choose_method(&capabilities, options).map_err(LoginError::Refused)?;
    channel.forget_capabilities();
    let reply = match method {
        LoginMethod::LoginCommand => {
            let command = Command::new("LOGIN").astring(&options.username).secret(secret);
            run_command(channel, account, &command).await?
        }
        LoginMethod::Authenticate(mechanism) => {
            let messages = mechanism.messages(&LoginIdentity {
                username: &options.username,
                host: &options.host,
                port: options.port,
                secret,
            });
            let is_initial = capabilities.contains("SASL-IR") && mechanism.has_initial_response();
            let reply = exchange(channel, account, mechanism, &messages, is_initial).await?;
            // Coremail (163.com, 126.com) advertises initial responses and rejects them.
            let verdict = classify_imap_reply(&reply, ImapPhase::Login);
            let is_rejected =
                reply.status == ImapStatus::Bad && verdict.rule == ImapRule::CommandRefused;
            if is_initial && is_rejected {
                exchange(channel, account, mechanism, &messages, false).await?
            } else {
                reply
            }
        }
    };
    let text = Secrets::new([secret.expose_secret()]).mask(&reply.text);
    check_reply(account, &ImapReply { text, ..reply }, ImapPhase::Login)
}

/// Chooses the method that the server offers. A password is sent by `PLAIN`, because every server
/// with it accepts any character there.
fn choose_method(
    capabilities: &CapabilitySet,
    options: &ImapOptions,
) -> Result<LoginMethod, Failure> {
    let offered = |mechanism: SaslMechanism| {
        capabilities
            .contains(mechanism.capability())
            .then_some(LoginMethod::Authenticate(mechanism))
    };
    let address = options.address();
    match options.mechanism {
        LoginMechanism::Password => {
            let has_login_command = !capabilities.contains("LOGINDISABLED");
            let method = offered(SaslMechanism::Plain)
                .or_else(|| has_login_command.then_some(LoginMethod::LoginCommand))
                .or_else(|| offered(SaslMechanism::Login));
            method.ok_or_else(|| {
                let message = format!(
                    "{address} accepts no password (LOGINDISABLED): set security = \"tls\", or \
                     auth = {{ type = \"oauth2\", … }}"
                );
                Failure::new(Cause::Tls, message)
            })
        }
        LoginMechanism::OAuth2 => {
            let method =
                offered(SaslMechanism::OAuthBearer).or_else(|| offered(SaslMechanism::XOAuth2));
            method.ok_or_else(|| {
                let message = format!(
                    "{address} accepts no access token (it offers neither OAUTHBEARER nor \
                     XOAUTH2): set auth = {{ type = \"password\", … }}"
                );
                Failure::new(Cause::Unauthorized, message)
            })
        }
    }
}

/// Runs `AUTHENTICATE` and returns its tagged reply. The first message is part of the command if
/// `is_initial`. The error in a challenge is added to the text of the reply.
async fn exchange(
    channel: &mut CommandChannel,
    account: &ImapAccount,
    mechanism: SaslMechanism,
    messages: &[SecretString],
    is_initial: bool,
) -> Result<ImapReply, LoginError> {
    let mut messages: VecDeque<&SecretString> = messages.iter().collect();
    let mut command = Command::new(format!("AUTHENTICATE {}", mechanism.name()));
    if is_initial && let Some(message) = messages.pop_front() {
        command = command.secret(message);
    }
    let sent_tag = channel.next_tag();
    channel.send(&sent_tag, command.parts()).await?;
    let mut challenge_error = None;
    for _ in 0..RESPONSES_MAX {
        match read_step(channel, account).await? {
            Response::Continuation(challenge) => {
                if let Some(message) = messages.pop_front() {
                    channel.send_line(message.expose_secret()).await?;
                } else {
                    challenge_error = parse_error_challenge(&challenge).or(challenge_error);
                    channel.send_line(mechanism.final_line()).await?;
                }
            }
            Response::Tagged { tag, mut reply } if tag == sent_tag => {
                if let Some(error) = challenge_error {
                    reply.text.push_str(&format!(" (error {error})"));
                }
                return Ok(reply);
            }
            Response::Tagged { .. } | Response::Status(_) | Response::Data { .. } => {}
        }
    }
    Err(too_many_responses(account))
}
