//! How the last attempts ended: a short memory, which forgets an outage soon after its end.

use serde::{Deserialize, Serialize};

use crate::engine::Cause;

/// How many attempts are remembered.
pub const ATTEMPTS_KEPT: u32 = 10;

/// The ends of the last attempts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "Written", into = "Written")]
pub struct Attempts {
    /// The newest in the lowest bit; set where it failed.
    failed: u16,
    count: u32,
}

/// As it is written: `"..x."`, oldest first, a cross for each that failed.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Written(String);

impl Attempts {
    pub fn note(&mut self, success: bool) {
        self.failed = ((self.failed << 1) | u16::from(!success)) & ((1 << ATTEMPTS_KEPT) - 1);
        self.count = (self.count + 1).min(ATTEMPTS_KEPT);
    }

    /// How many are remembered, [`ATTEMPTS_KEPT`] at most.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The share that succeeded; `None` before the first.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        let succeeded = self.count.saturating_sub(self.failed.count_ones());
        (self.count > 0).then(|| f64::from(succeeded) / f64::from(self.count))
    }
}

/// Whether what an attempt came to counts as a success; `None` where it says nothing of the
/// source: it asks for patience, or the trouble is this machine's storage. A thing that is gone
/// was answered for.
pub(super) fn success(end: Option<Cause>) -> Option<bool> {
    match end {
        None | Some(Cause::NotFound | Cause::CursorExpired) => Some(true),
        Some(Cause::RateLimit | Cause::Storage | Cause::Ledger) => None,
        Some(
            Cause::Unauthorized
            | Cause::AccountChanged
            | Cause::ListingIncomplete
            | Cause::Forbidden
            | Cause::Server
            | Cause::Connection
            | Cause::Tls
            | Cause::Timeout
            | Cause::Truncated
            | Cause::Challenge
            | Cause::Proxy
            | Cause::LocalNetwork
            | Cause::TooLarge
            | Cause::Unknown,
        ) => Some(false),
    }
}

impl From<Written> for Attempts {
    fn from(Written(text): Written) -> Self {
        let mut attempts = Self::default();
        text.bytes().for_each(|end| attempts.note(end == b'.'));
        attempts
    }
}

impl From<Attempts> for Written {
    fn from(attempts: Attempts) -> Self {
        let ends = (0..attempts.count).rev();
        Self(ends.map(|age| if attempts.failed >> age & 1 == 1 { 'x' } else { '.' }).collect())
    }
}
