//! Settings of `[request]`: quick retries, and the limits of one request.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::ranges::{POSITIVE_COUNT, POSITIVE_DURATION, seconds};
use super::reader::Section;

/// Concurrent requests: each holds part of a document in memory, and no mail server allows more.
pub(super) const CONCURRENCY_RANGE: RangeInclusive<u32> = 1..=64;

/// Range of the largest response or document, in bytes. Less than 1 KiB holds none; more than 1 TiB
/// is a typo.
const BODY_BYTES_RANGE: RangeInclusive<u64> = 1 << 10..=1 << 40;

/// `[request]`: quick retries, and the limits of one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestSettings {
    pub attempts: u32,
    pub delay: Duration,
    /// Never shorter than `delay`.
    pub max_delay: Duration,
    pub connect_timeout: Duration,
    pub idle_timeout: Duration,
    pub total_timeout: Duration,
    /// Lowest rate in bytes per second, over `idle_timeout`; 0 for none.
    pub min_rate: u64,
    /// Largest response that is held in memory, in bytes.
    pub max_response: u64,
    /// Largest document, in bytes; documents are streamed.
    pub max_document: u64,
    /// Requests in flight at once, per provider that sets no other number.
    pub concurrency: u32,
}

/// Reads `[request]`.
pub(super) fn read_request(table: &mut Section<'_, '_>) -> RequestSettings {
    let request = RequestSettings {
        attempts: table.count("attempts", 3, POSITIVE_COUNT),
        delay: table.duration("delay", Duration::from_millis(500), POSITIVE_DURATION),
        max_delay: table.duration("max_delay", seconds(10), POSITIVE_DURATION),
        connect_timeout: table.duration("connect_timeout", seconds(10), POSITIVE_DURATION),
        idle_timeout: table.duration("idle_timeout", seconds(30), POSITIVE_DURATION),
        total_timeout: table.duration("total_timeout", seconds(600), POSITIVE_DURATION),
        min_rate: table.size("min_rate", 1 << 10, 0..=1 << 30),
        max_response: table.size("max_answer", 64 << 20, BODY_BYTES_RANGE),
        max_document: table.size("max_document", 1 << 30, BODY_BYTES_RANGE),
        concurrency: table.count("concurrency", 8, CONCURRENCY_RANGE),
    };
    table.check_order([("delay", request.delay), ("max_delay", request.max_delay)]);
    request
}
