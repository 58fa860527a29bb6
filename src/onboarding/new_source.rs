//! New source, as it is written into a configuration.

use super::access::{AccessKind, ServerAddress};

/// Source to write into a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewSource {
    /// Name of its table: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// Mail address of the mailbox.
    pub account: String,
    pub kind: AccessKind,
    pub server: ServerAddress,
    pub auth: NewSourceAuth,
}

/// Authentication of a new source. Paths are as the configuration has them: relative ones count
/// from its folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NewSourceAuth {
    /// Password of a user.
    Password {
        /// `None` if it is the account.
        username: Option<String>,
        /// File with the password.
        file: String,
    },
    /// Access token or API token.
    Token {
        /// File with the token.
        file: String,
    },
    /// Sign-in with OAuth 2.0, whose token is stored by `cynosure auth`.
    Browser {
        client_id: String,
        /// File with the secret of the client; `None` if it has none.
        client_secret_file: Option<String>,
    },
    /// Session of a browser.
    SessionFile {
        /// File with the session as JSON.
        file: String,
    },
}
