//! Inputs for the processing of one response by the tracked limits.

use crate::Timestamp;

/// Inputs for the processing of one response.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseContext {
    /// Send time of the request.
    pub(super) sent_at: Timestamp,
    /// Units of other requests in flight.
    pub(super) in_flight: f64,
    /// Units accepted by the server since the start.
    pub(super) accepted_units: f64,
    pub(super) is_accepted: bool,
    /// Share of the limit left to other clients.
    pub(super) reserve: f64,
    pub(super) now: Timestamp,
}
