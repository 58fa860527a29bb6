//! Authentication at a source.

use std::path::PathBuf;

use cynosure_engine::rest::Template;
use url::Url;

use super::credential::CredentialRef;

/// Authentication at a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceAuth {
    /// No authentication.
    None,
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
    /// HTTP header with a secret value.
    Header { name: String, value: CredentialRef },
    /// Query parameter with a secret value.
    Query { name: String, value: CredentialRef },
    /// Session of a browser: a JSON object with its values.
    Session {
        session: CredentialRef,
        /// Names of the cookies to send, each with the value that the session has under `cookies`.
        cookies: Vec<String>,
        /// Query parameters, with the values of the session as `{credential.NAME}`.
        query: Vec<(String, Template)>,
    },
    /// Application that gets access tokens without a user who signs in. `username` is the account
    /// for which it gets them.
    Application { username: String, client: ApplicationSettings },
}

/// OAuth 2.0 client that acts without a user, and the endpoint of its provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApplicationSettings {
    pub grant: ApplicationGrantSettings,
    /// Endpoint for access tokens, `https`, or `http` to a loopback address. `None` only for a
    /// service account, whose key names one.
    pub token_url: Option<Url>,
    /// Permissions to ask for.
    pub scopes: Vec<String>,
}

/// Grant by which an application gets access tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ApplicationGrantSettings {
    /// Assertion signed with the key of a service account (RFC 7523), for one user of its domain.
    ServiceAccount { key: CredentialRef, subject: String },
    /// Secret of the client (RFC 6749, section 4.4).
    ClientCredentials { client_id: String, client_secret: CredentialRef },
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
    Header,
    Query,
    Session,
    ServiceAccount,
    ClientCredentials,
}

impl SourceAuth {
    /// Returns the reference to the secret that authenticates requests. `None` without
    /// authentication, and for a sign-in or an application, whose access tokens the program gets.
    #[must_use]
    pub fn credential_ref(&self) -> Option<&CredentialRef> {
        match self {
            Self::Basic { password, .. } | Self::Password { password, .. } => Some(password),
            Self::Bearer { token } | Self::OAuth2 { token, .. } => Some(token),
            Self::Header { value, .. } | Self::Query { value, .. } => Some(value),
            Self::Session { session, .. } => Some(session),
            Self::None | Self::SignIn { .. } | Self::Application { .. } => None,
        }
    }

    /// Returns the client of a sign-in by a person; `None` for any other authentication.
    #[must_use]
    pub fn sign_in_client(&self) -> Option<&OAuthSettings> {
        match self {
            Self::SignIn { client, .. } => Some(client),
            Self::None
            | Self::Basic { .. }
            | Self::Bearer { .. }
            | Self::Password { .. }
            | Self::OAuth2 { .. }
            | Self::Header { .. }
            | Self::Query { .. }
            | Self::Session { .. }
            | Self::Application { .. } => None,
        }
    }

    /// Returns the user name. `None` for a secret without one.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Basic { username, .. }
            | Self::Password { username, .. }
            | Self::OAuth2 { username, .. }
            | Self::SignIn { username, .. }
            | Self::Application { username, .. } => Some(username),
            Self::None
            | Self::Bearer { .. }
            | Self::Header { .. }
            | Self::Query { .. }
            | Self::Session { .. } => None,
        }
    }
}

impl AuthType {
    pub(super) const ALL: [Self; 9] = [
        Self::Basic,
        Self::Bearer,
        Self::Password,
        Self::OAuth2,
        Self::Header,
        Self::Query,
        Self::Session,
        Self::ServiceAccount,
        Self::ClientCredentials,
    ];

    /// Returns the name of the type in the configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::Password => "password",
            Self::OAuth2 => "oauth2",
            Self::Header => "header",
            Self::Query => "query",
            Self::Session => "session",
            Self::ServiceAccount => "service_account",
            Self::ClientCredentials => "client_credentials",
        }
    }
}
