//! A new session, and what a page adds to it.

use cynosure_engine::{Cursor, SessionId, Timestamp};

use crate::ledger::rows::SessionKind;

/// Parameters of a new session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewSession {
    pub id: SessionId,
    pub kind: SessionKind,
    pub started_at: Timestamp,
    /// Cursor taken before a full listing.
    pub start_cursor: Option<Cursor>,
}

/// Numbers of items and documents that a page added.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PageCounts {
    /// Items that the page added to the session.
    pub new_items: u64,
    /// Documents that were not known.
    pub new_documents: u64,
}
