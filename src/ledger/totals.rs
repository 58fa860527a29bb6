//! Totals for people: what the archive holds, what each session stored, and what is missing.
//!
//! The totals are sums of the sessions' counters, because counting millions of documents takes
//! seconds. They count each file once, earlier versions of documents included: a document whose
//! bytes were stored before is a copy, which has no file and is not counted. A document that was
//! fetched again because its file was damaged counts twice.

use cynosure_engine::{Cause, Timestamp};

use crate::ledger::rows::SessionRow;

/// Documents and bytes in the archive of a source, earlier versions included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ArchiveTotals {
    pub documents: u64,
    pub bytes: u64,
}

/// Documents and bytes that one session stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionTotals {
    pub started_at: Timestamp,
    pub documents: u64,
    pub bytes: u64,
}

/// Newest completed session, with the totals of its source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastSession {
    pub session: SessionRow,
    /// Newest completed session that stored a document.
    pub transfer: Option<SessionRow>,
    pub archive: ArchiveTotals,
    /// Folders that contain a document. 0 if the source names none.
    pub folders: u64,
    /// Items that were gone before they were fetched.
    pub gone_items: u64,
    /// Quarantined items by the cause of their last failure, the largest number first. The cause is
    /// `None` if it is not recorded, or is that of another version.
    pub quarantined_items: Vec<(Option<Cause>, u64)>,
}
