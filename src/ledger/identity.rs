//! Identity of a ledger, which the marker in its archive records.

use cynosure_engine::LedgerId;

/// Identity of a ledger, to be compared with the marker in its archive.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LedgerIdentity {
    /// Random id; `None` until the first start with this format.
    pub id: Option<LedgerId>,
    /// The account of the source, as the server names it; `None` until it is known.
    pub account: Option<String>,
    /// True if the archive may have documents of this ledger: a session has created a folder
    /// there.
    pub has_stored_documents: bool,
}
