//! Values of columns, as the tables have them.

pub(super) const ITEM_PENDING: u8 = 0;
pub(super) const ITEM_STORED: u8 = 1;
pub(super) const ITEM_GONE: u8 = 2;
pub(super) const ITEM_QUARANTINED: u8 = 3;

pub(super) const DOCUMENT_PENDING: u8 = 0;
pub(super) const DOCUMENT_STORED: u8 = 1;
pub(super) const DOCUMENT_GONE: u8 = 2;
pub(super) const DOCUMENT_FAILED: u8 = 3;

pub(super) const LISTING_FULL: u8 = 0;
pub(super) const LISTING_RECONCILE: u8 = 3;

/// Blob of an adopted document whose blob is unknown: no server has such an id. The next listing
/// sets the blob of a document with the same id and size.
pub(super) const UNKNOWN_BLOB: &str = "";

/// Converts a count or a size; none comes near the end of the range.
pub(super) fn to_integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns a hash in hexadecimal.
pub(super) fn to_hex(sha256: &[u8; 32]) -> String {
    sha256.iter().map(|byte| format!("{byte:02x}")).collect()
}
