//! Authentication at a source.

use std::path::PathBuf;

use url::Url;

use super::credential::CredentialRef;

/// Authentication at a source.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one per source")]
pub enum SourceAuth {
    /// HTTP basic authentication (RFC 7617).
    Basic { username: String, password: CredentialRef },
    /// HTTP bearer token (RFC 6750).
    Bearer { token: CredentialRef },
    /// User name and password of a mail server.
    Password { username: String, password: CredentialRef },
    /// User name and OAuth 2.0 access token of a mail server (RFC 7628).
    OAuth2 { username: String, token: CredentialRef },
    /// User name of a mail server, and the OAuth 2.0 client that gets the access tokens for it. Its
    /// type in the configuration is that of [`SourceAuth::OAuth2`].
    SignIn { username: String, client: OAuthSettings },
}

/// OAuth 2.0 client with which a user signs in (RFC 6749), and the endpoints of the provider. The
/// URLs are `https`, or `http` to a loopback address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OAuthSettings {
    /// Identifier of the client, as the provider has registered it. It is not secret.
    pub client_id: String,
    pub client_secret: Option<CredentialRef>,
    /// File of the tokens, which the program writes. By default it is in the state folder of the
    /// source.
    pub token_file: Option<PathBuf>,
    /// Page on which the user signs in. `None` only if there is a `device_url`.
    pub authorize_url: Option<Url>,
    pub token_url: Url,
    /// Endpoint for the sign-in on another device (RFC 8628).
    pub device_url: Option<Url>,
    /// Permissions to ask for; those that the provider grants by itself if empty.
    pub scopes: Vec<String>,
}

/// Value of `type` in `auth`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AuthType {
    Basic,
    Bearer,
    Password,
    OAuth2,
}

impl SourceAuth {
    /// Returns the reference to the secret. `None` for a sign-in, whose tokens the program keeps.
    #[must_use]
    pub fn credential_ref(&self) -> Option<&CredentialRef> {
        match self {
            Self::Basic { password, .. } | Self::Password { password, .. } => Some(password),
            Self::Bearer { token } | Self::OAuth2 { token, .. } => Some(token),
            Self::SignIn { .. } => None,
        }
    }

    /// Returns the user name. A bearer token has none.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Basic { username, .. }
            | Self::Password { username, .. }
            | Self::OAuth2 { username, .. }
            | Self::SignIn { username, .. } => Some(username),
            Self::Bearer { .. } => None,
        }
    }
}

impl AuthType {
    pub(super) const ALL: [Self; 4] = [Self::Basic, Self::Bearer, Self::Password, Self::OAuth2];

    /// Returns the name of the type in the configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::Password => "password",
            Self::OAuth2 => "oauth2",
        }
    }
}
