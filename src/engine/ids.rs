//! Identities, each a type of its own. They are parsed or made at the edge.

use std::fmt;

use crate::engine::RandomSample;

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
    /// What the server calls the account. A cursor, a blob and an id are of one account. Untrusted text.
    AccountId
}
identity! {
    /// What the server calls an item (a thread, for mail). Untrusted text.
    ItemId
}
identity! {
    /// What the server calls a document (a message, for mail). Untrusted text.
    DocumentId
}
identity! {
    /// What the server calls the bytes of a document. Equal blobs are equal bytes. Untrusted text.
    BlobId
}
identity! {
    /// A point in a source's stream of changes, in the source's own words.
    Cursor
}
identity! {
    /// A place in a listing that is not finished, in the source's own words.
    PageToken
}
identity! {
    /// The random id of a ledger. The marker in the archive names the ledger that it belongs to.
    LedgerId
}
identity! {
    /// One run from idle to completed, `session_<unix seconds>`.
    SessionId
}

impl LedgerId {
    /// Makes an id of 128 random bits.
    #[must_use]
    pub fn from_samples(samples: [RandomSample; 4]) -> Self {
        Self(samples.iter().map(|sample| format!("{:08x}", sample.0)).collect())
    }
}

impl SessionId {
    /// Names a session after the second in which it starts.
    #[must_use]
    pub fn from_unix_seconds(unix_seconds: i64) -> Self {
        Self(format!("session_{unix_seconds}"))
    }

    /// The second the session is named after; `None` for a name that is not ours.
    #[must_use]
    pub fn unix_seconds(&self) -> Option<i64> {
        self.0.strip_prefix("session_")?.parse().ok()
    }
}
