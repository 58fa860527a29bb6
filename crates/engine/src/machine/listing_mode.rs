//! Mode of the listing of a source.

/// Kind of the current listing, and the number of incomplete listings before it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListingMode {
    /// Consecutive listings that ended before the server's own total.
    pub consecutive_incomplete: u32,
    /// True while everything is listed because the cursor expired.
    pub is_full_resync: bool,
    /// True while changes that were found during a download are listed in the same session.
    pub is_listing_changes: bool,
}

impl ListingMode {
    pub(super) fn record_incomplete(&mut self) {
        self.consecutive_incomplete = self.consecutive_incomplete.saturating_add(1);
    }

    pub(super) fn record_completed(&mut self) {
        self.consecutive_incomplete = 0;
        self.is_listing_changes = false;
    }
}
