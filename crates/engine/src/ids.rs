//! Identifiers, each with a distinct type. They are parsed or created at the boundary.

use std::fmt;

use crate::RandomSample;

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(String);

        impl $name {
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identity! {
    /// Server's id of an account. A cursor, a blob and an id belong to one account. Untrusted text.
    AccountId
}
identity! {
    /// Server's id of an item (a thread, for mail). Untrusted text.
    ItemId
}
identity! {
    /// Server's id of a document (a message, for mail). Untrusted text.
    DocumentId
}
identity! {
    /// Server's id of the bytes of a document. Equal blobs are equal bytes. Untrusted text.
    BlobId
}
identity! {
    /// Position in a source's change stream, in the source's format.
    Cursor
}
identity! {
    /// Position in an unfinished listing, in the source's format.
    PageToken
}
identity! {
    /// Random id of a ledger. The marker in the archive names the ledger that it belongs to.
    LedgerId
}
identity! {
    /// Id of one run from idle to completed, `session_<unix seconds>`.
    SessionId
}

impl LedgerId {
    /// Creates an id of 128 random bits.
    #[must_use]
    pub fn from_samples(samples: [RandomSample; 4]) -> Self {
        Self(samples.iter().map(|sample| format!("{:08x}", sample.0)).collect())
    }
}

impl SessionId {
    /// Creates the id of a session from the second in which it starts.
    #[must_use]
    pub fn from_unix_seconds(unix_seconds: i64) -> Self {
        Self(format!("session_{unix_seconds}"))
    }

    /// Returns the second in the id; `None` for an id in another format.
    #[must_use]
    pub fn unix_seconds(&self) -> Option<i64> {
        self.0.strip_prefix("session_")?.parse().ok()
    }
}
