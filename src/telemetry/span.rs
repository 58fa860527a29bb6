//! Trace spans of a session: the session itself, its stages and their requests.
//!
//! IDs are derived from names, so that a session that continues after a restart of the process is
//! one trace, although no process saw all of it.

use std::fmt;

use cynosure_engine::{SessionId, Status, Timestamp};
use sha2::{Digest as _, Sha256};

/// Completed span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace_id: TraceId,
    pub id: SpanId,
    pub parent: Option<SpanId>,
    pub name: &'static str,
    /// True for a request to the server, false for internal work.
    pub is_request: bool,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    /// Attributes without secrets. Of the texts of the server they contain only names.
    pub attributes: Vec<(&'static str, String)>,
    /// Reason of a failure.
    pub failure: Option<String>,
}

/// Trace ID of one session of one source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceId([u8; 16]);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SpanId([u8; 8]);

impl TraceId {
    #[must_use]
    pub fn of_session(source: &str, session: &SessionId) -> Self {
        Self(hash_parts(&[b"session", source.as_bytes(), session.as_str().as_bytes()]))
    }
}

impl SpanId {
    /// Returns the ID of the whole session.
    #[must_use]
    pub fn of_session(trace: TraceId) -> Self {
        Self(hash_parts(&[b"root", &trace.0]))
    }

    /// Returns the ID of the time that the session was in one state.
    #[must_use]
    pub fn of_state(trace: TraceId, status: Status, since: Timestamp) -> Self {
        Self(hash_parts(&[b"stage", &trace.0, status.name().as_bytes(), &since.0.to_be_bytes()]))
    }

    /// Returns the ID of one request within a stage. `object` is what it requests.
    #[must_use]
    pub fn of_request(stage: Self, object: &str, started_at: Timestamp) -> Self {
        Self(hash_parts(&[b"request", &stage.0, object.as_bytes(), &started_at.0.to_be_bytes()]))
    }
}

/// Hashes the parts. Each is prefixed with its length, so that no two lists of parts are hashed
/// alike.
fn hash_parts<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    std::array::from_fn(|index| hash[index])
}

/// Returns true if `name` belongs to the traced `share`, in `0.0..=1.0`. The result is the same
/// every time, so that an item is traced through all its attempts.
#[must_use]
pub fn is_sampled(name: &str, share: f64) -> bool {
    let sample = u32::from_be_bytes(hash_parts(&[b"sample", name.as_bytes()]));
    f64::from(sample) < share * (f64::from(u32::MAX) + 1.0)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_is_deterministic_and_matches_its_ratio() {
        let sampled =
            |share| (0..10_000).filter(|index| is_sampled(&format!("item{index}"), share)).count();

        assert_eq!((sampled(0.0), sampled(1.0)), (0, 10_000));
        assert!((900..1_100).contains(&sampled(0.1)), "{}", sampled(0.1));
        assert_eq!(sampled(0.1), sampled(0.1));
    }

    #[test]
    fn a_session_has_one_trace_id_and_distinct_span_ids() {
        let trace = |source, session| TraceId::of_session(source, &SessionId::new(session));
        assert_eq!(trace("work", "session_1"), trace("work", "session_1"));
        assert_ne!(trace("work", "session_1"), trace("work", "session_2"));
        assert_ne!(trace("ab", "c"), trace("a", "bc"), "names do not run together");

        let trace = trace("work", "session_1");
        let stage = |status, since| SpanId::of_state(trace, status, Timestamp(since));
        assert_ne!(stage(Status::Collecting, 1), stage(Status::Downloading, 1));
        assert_ne!(stage(Status::Collecting, 1), stage(Status::Collecting, 2));
        assert_eq!(trace.to_string().len(), 32);
        assert_eq!(SpanId::of_session(trace).to_string().len(), 16);
    }
}
