//! Limits and names that every implementation of a ledger has in common.

use std::time::Duration;

/// Prefix of the item id of a missing document.
pub(super) const MISSING_ID_PREFIX: &str = "missing:";

pub(super) const MISSING_MESSAGE: &str =
    "the source listed it, but did not find it in two requests";

/// Time until a damaged document that waits for a full listing is tried without one. Longer than
/// the listing takes.
pub(super) const LISTING_WAIT: Duration = Duration::from_secs(30 * 86_400);
