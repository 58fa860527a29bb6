//! Messages of SASL mechanisms: PLAIN (RFC 4616), OAUTHBEARER (RFC 7628), and LOGIN and XOAUTH2,
//! which have no RFC.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

/// Members of an error challenge that say what is wrong, in the order in which they are shown.
const ERROR_MEMBERS: [&str; 3] = ["status", "error", "error_description"];

/// Mechanism of an `AUTHENTICATE` command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SaslMechanism {
    Plain,
    Login,
    OAuthBearer,
    XOAuth2,
}

/// Account and secret of a login.
#[derive(Debug)]
pub(super) struct LoginIdentity<'a> {
    pub(super) username: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
    /// Password, or access token.
    pub(super) secret: &'a SecretString,
}

impl SaslMechanism {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
        }
    }

    /// Returns the capability of a server that offers the mechanism.
    pub(super) fn capability(self) -> &'static str {
        match self {
            Self::Plain => "AUTH=PLAIN",
            Self::Login => "AUTH=LOGIN",
            Self::OAuthBearer => "AUTH=OAUTHBEARER",
            Self::XOAuth2 => "AUTH=XOAUTH2",
        }
    }

    /// True if the client speaks first, so that its message may be part of the command (RFC 4959).
    pub(super) fn has_initial_response(self) -> bool {
        match self {
            Self::Plain | Self::OAuthBearer | Self::XOAuth2 => true,
            Self::Login => false,
        }
    }

    /// Returns the messages to the server in their order, in base64.
    pub(super) fn messages(self, identity: &LoginIdentity<'_>) -> Vec<SecretString> {
        let LoginIdentity { username, host, port, secret } = identity;
        let secret = secret.expose_secret();
        let messages = match self {
            Self::Plain => vec![format!("\0{username}\0{secret}")],
            Self::Login => vec![(*username).to_owned(), secret.to_owned()],
            Self::OAuthBearer => {
                // The user name is a part of a header in which these characters have a meaning.
                let username = username.replace('=', "=3D").replace(',', "=2C");
                vec![format!(
                    "n,a={username},\u{1}host={host}\u{1}port={port}\u{1}auth=Bearer {secret}\
                     \u{1}\u{1}"
                )]
            }
            Self::XOAuth2 => {
                vec![format!("user={username}\u{1}auth=Bearer {secret}\u{1}\u{1}")]
            }
        };
        let encode = |message: String| {
            // Wiped as well.
            let message = SecretString::from(message);
            SecretString::from(BASE64.encode(message.expose_secret()))
        };
        messages.into_iter().map(encode).collect()
    }

    /// Returns the line that ends the exchange after a challenge that is not expected. With OAuth
    /// it acknowledges the error in the challenge (RFC 7628 §3.2.3); otherwise it cancels the
    /// command.
    pub(super) fn final_line(self) -> &'static str {
        match self {
            Self::Plain | Self::Login => "*",
            Self::OAuthBearer => "AQ==",
            Self::XOAuth2 => "",
        }
    }
}

/// Returns the error in a challenge of an OAuth mechanism: JSON in base64.
pub(super) fn parse_error_challenge(challenge: &str) -> Option<String> {
    let json = BASE64.decode(challenge.trim()).ok()?;
    let error: Value = serde_json::from_slice(&json).ok()?;
    let members = ERROR_MEMBERS.iter().filter_map(|member| match error.get(member)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    let members: Vec<String> = members.collect();
    (!members.is_empty()).then(|| members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded_messages(mechanism: SaslMechanism, username: &str) -> Vec<String> {
        let identity = LoginIdentity {
            username,
            host: "imap.example.com",
            port: 993,
            secret: &SecretString::from("s3cret"),
        };
        let decode = |message: &SecretString| {
            String::from_utf8(BASE64.decode(message.expose_secret()).unwrap()).unwrap()
        };
        mechanism.messages(&identity).iter().map(decode).collect()
    }

    #[test]
    fn each_mechanism_has_its_messages() {
        let user = "me@example.com";
        for (mechanism, expected) in [
            (SaslMechanism::Plain, vec!["\0me@example.com\0s3cret"]),
            (SaslMechanism::Login, vec!["me@example.com", "s3cret"]),
            (
                SaslMechanism::OAuthBearer,
                vec![
                    "n,a=me@example.com,\u{1}host=imap.example.com\u{1}port=993\u{1}\
                     auth=Bearer s3cret\u{1}\u{1}",
                ],
            ),
            (SaslMechanism::XOAuth2, vec!["user=me@example.com\u{1}auth=Bearer s3cret\u{1}\u{1}"]),
        ] {
            assert_eq!(decoded_messages(mechanism, user), expected);
        }
    }

    #[test]
    fn a_user_name_cannot_end_its_header() {
        let messages = decoded_messages(SaslMechanism::OAuthBearer, "a,b=c");

        assert!(messages[0].starts_with("n,a=a=2Cb=3Dc,\u{1}host="), "{messages:?}");
    }

    #[test]
    fn the_error_of_a_challenge_is_read() {
        let challenge = |json: &str| parse_error_challenge(&BASE64.encode(json));

        assert_eq!(challenge(r#"{"status":"400","schemes":"Bearer"}"#).unwrap(), "400");
        assert_eq!(
            challenge(r#"{"error_description":"expired","status":"invalid_token"}"#).unwrap(),
            "invalid_token, expired"
        );
        assert_eq!(challenge(r#"{"status":401}"#).unwrap(), "401");
        assert_eq!(challenge("{}"), None);
        assert_eq!(challenge("[]"), None);
        assert_eq!(parse_error_challenge("no base64"), None);
    }
}
