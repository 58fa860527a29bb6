//! What a server answers, attempt by attempt, for whoever keeps a record of it.
//!
//! Nothing of it says who asked, for what, or what was replied: it may be shown to anybody.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::engine::Secrets;
use crate::engine::rate_limit::{HeaderNames, redact_headers};

/// How much of an answer's headers is recorded, in bytes. What servers say of limits takes two
/// hundred; one that says more must not fill the memory and the disk with it.
const HEADER_BYTES_MAX: usize = 2048;

/// The head of one answer, or that there was none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseRecord {
    /// 0 where there was no answer.
    pub status: u16,
    /// From the request to the first byte.
    pub latency: Option<Duration>,
    /// What they say of limits. Names are lower-case.
    pub headers: Vec<(String, String)>,
}

/// Passes on what is heard. By default nobody wants it.
#[derive(Clone, Default)]
pub struct ResponseRecorder {
    callback: Option<Rc<dyn Fn(ResponseRecord)>>,
    header_names: HeaderNames,
}

impl ResponseRecorder {
    /// Passes it on to `to`, which must be quick.
    pub fn new(to: impl Fn(ResponseRecord) + 'static) -> Self {
        Self { callback: Some(Rc::new(to)), header_names: HeaderNames::default() }
    }

    /// The same, of a server that has names of its own for some headers.
    #[must_use]
    pub fn with_header_names(&self, names: &HeaderNames) -> Self {
        Self { callback: self.callback.clone(), header_names: names.clone() }
    }

    /// Notes the head of an answer. Names are lower-case; the `secrets` are masked in case the
    /// server repeats one.
    pub(super) fn record_response(
        &self,
        status: u16,
        took: Duration,
        headers: &[(&str, &str)],
        secrets: impl FnOnce() -> Secrets,
    ) {
        let Some(to) = &self.callback else { return };
        let secrets = secrets();
        let mut left = HEADER_BYTES_MAX;
        let headers =
            redact_headers(headers, &self.header_names).into_iter().filter_map(|(name, text)| {
                let text = secrets.mask(&text);
                // Left out rather than cut: half a figure is another figure.
                left = left.checked_sub(name.len() + text.len())?;
                Some((name, text))
            });
        to(ResponseRecord { status, latency: Some(took), headers: headers.collect() });
    }

    /// Notes that a request to the server got no answer.
    pub(super) fn record_no_response(&self) {
        if let Some(to) = &self.callback {
            to(ResponseRecord::default());
        }
    }
}

impl fmt::Debug for ResponseRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("is_wanted", &self.callback.is_some())
            .finish_non_exhaustive()
    }
}
