//! Records of a server's responses, one per attempt.
//!
//! A record contains no identity, URL or response body, so it may be shown to anyone.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::Secrets;
use cynosure_engine::rate_limit::{HeaderNames, redact_headers};

/// Maximum bytes of a response's headers in a record. Rate limit headers take two hundred; a server
/// that sends more must not fill memory and disk with them.
const HEADER_BYTES_MAX: usize = 2048;

/// Status and headers of one response, or the absence of a response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseRecord {
    /// HTTP status code; 0 if no response was received.
    pub status: u16,
    /// Time from the request to the first byte of the response.
    pub latency: Option<Duration>,
    /// Headers about rate limits, with lower-case names.
    pub headers: Vec<(String, String)>,
}

/// Forwards response records to a callback. The default has no callback.
#[derive(Clone, Default)]
pub struct ResponseRecorder {
    callback: Option<Rc<dyn Fn(ResponseRecord)>>,
    header_names: HeaderNames,
}

impl ResponseRecorder {
    /// Creates a recorder that calls `callback` with each record. It must return quickly.
    pub fn new(callback: impl Fn(ResponseRecord) + 'static) -> Self {
        Self { callback: Some(Rc::new(callback)), header_names: HeaderNames::default() }
    }

    /// Returns the same recorder for a server with custom names for some headers.
    #[must_use]
    pub fn with_header_names(&self, names: &HeaderNames) -> Self {
        Self { callback: self.callback.clone(), header_names: names.clone() }
    }

    /// Records the head of a response. Header names are lower-case; the `secrets` are masked in
    /// case the server echoes one.
    pub(super) fn record_response(
        &self,
        status: u16,
        latency: Duration,
        headers: &[(&str, &str)],
        secrets: impl FnOnce() -> Secrets,
    ) {
        let Some(callback) = &self.callback else { return };
        let secrets = secrets();
        let mut remaining = HEADER_BYTES_MAX;
        let headers =
            redact_headers(headers, &self.header_names).into_iter().filter_map(|(name, text)| {
                let text = secrets.mask(&text);
                // Dropped rather than truncated: a truncated number is a different number.
                remaining = remaining.checked_sub(name.len() + text.len())?;
                Some((name, text))
            });
        callback(ResponseRecord { status, latency: Some(latency), headers: headers.collect() });
    }

    /// Records that a request to the server got no response.
    pub(super) fn record_no_response(&self) {
        if let Some(callback) = &self.callback {
            callback(ResponseRecord::default());
        }
    }
}

impl fmt::Debug for ResponseRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseRecorder")
            .field("has_callback", &self.callback.is_some())
            .finish_non_exhaustive()
    }
}
