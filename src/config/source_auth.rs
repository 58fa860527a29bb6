//! Authentication at a source.

use super::credential::CredentialRef;

/// Authentication at a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceAuth {
    /// HTTP basic authentication (RFC 7617).
    Basic { username: String, password: CredentialRef },
    /// HTTP bearer token (RFC 6750).
    Bearer { token: CredentialRef },
    /// User name and password of a mail server.
    Password { username: String, password: CredentialRef },
    /// User name and OAuth 2.0 access token of a mail server (RFC 7628).
    OAuth2 { username: String, token: CredentialRef },
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
    /// Returns the reference to the secret.
    #[must_use]
    pub fn credential_ref(&self) -> &CredentialRef {
        match self {
            Self::Basic { password, .. } | Self::Password { password, .. } => password,
            Self::Bearer { token } | Self::OAuth2 { token, .. } => token,
        }
    }

    /// Returns the user name. A bearer token has none.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match self {
            Self::Basic { username, .. }
            | Self::Password { username, .. }
            | Self::OAuth2 { username, .. } => Some(username),
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
