//! Kinds of IMAP commands, which decide together with a reply.

use crate::RequestScope;

/// Kind of the command that a server replies to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ImapPhase {
    /// First line of a connection.
    Greeting,
    /// LOGIN, AUTHENTICATE and what belongs to them.
    Login,
    /// LIST, STATUS, and FETCH of the ids of a folder.
    Listing,
    /// EXAMINE.
    Select,
    /// FETCH of bodies.
    Fetch {
        /// True for one message, false for a set of messages.
        is_single: bool,
    },
    /// No command.
    Idle,
}

impl ImapPhase {
    pub const ALL: [Self; 7] = [
        Self::Greeting,
        Self::Login,
        Self::Listing,
        Self::Select,
        Self::Fetch { is_single: false },
        Self::Fetch { is_single: true },
        Self::Idle,
    ];

    /// Returns the name in output for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Login => "login",
            Self::Listing => "listing",
            Self::Select => "select",
            Self::Fetch { is_single: false } => "fetch_set",
            Self::Fetch { is_single: true } => "fetch_single",
            Self::Idle => "idle",
        }
    }

    /// Returns the scopes that a failure of the command can have. A folder is opened for a
    /// listing, and to fetch a document.
    #[must_use]
    pub fn scopes(self) -> &'static [RequestScope] {
        match self {
            Self::Greeting | Self::Login | Self::Idle => &[RequestScope::Session],
            Self::Listing => &[RequestScope::Listing],
            Self::Select => &[RequestScope::Item, RequestScope::Listing],
            Self::Fetch { .. } => &[RequestScope::Item],
        }
    }
}
