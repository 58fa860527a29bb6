//! Names of the tables whose requests are sent.

/// Table of a profile whose requests are sent.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TableName {
    Account,
    Pin,
    Parts,
    Folders,
    List,
    Documents,
    Fetch,
    Changes,
    Sweep,
}

impl TableName {
    pub const ALL: [Self; 9] = [
        Self::Account,
        Self::Pin,
        Self::Parts,
        Self::Folders,
        Self::List,
        Self::Documents,
        Self::Fetch,
        Self::Changes,
        Self::Sweep,
    ];

    /// Returns the name in a profile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Pin => "pin",
            Self::Parts => "parts",
            Self::Folders => "folders",
            Self::List => "list",
            Self::Documents => "documents",
            Self::Fetch => "fetch",
            Self::Changes => "changes",
            Self::Sweep => "sweep",
        }
    }
}
