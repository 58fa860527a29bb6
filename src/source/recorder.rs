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
pub struct Heard {
    /// 0 where there was no answer.
    pub status: u16,
    /// From the request to the first byte.
    pub took: Option<Duration>,
    /// What they say of limits. Names are lower-case.
    pub headers: Vec<(String, String)>,
}

/// Passes on what is heard. By default nobody wants it.
#[derive(Clone, Default)]
pub struct Recorder {
    to: Option<Rc<dyn Fn(Heard)>>,
    names: HeaderNames,
}

impl Recorder {
    /// Passes it on to `to`, which must be quick.
    pub fn new(to: impl Fn(Heard) + 'static) -> Self {
        Self { to: Some(Rc::new(to)), names: HeaderNames::default() }
    }

    /// The same, of a server that has names of its own for some headers.
    #[must_use]
    pub fn of(&self, names: &HeaderNames) -> Self {
        Self { to: self.to.clone(), names: names.clone() }
    }

    /// Notes the head of an answer. Names are lower-case; the `secrets` are masked in case the
    /// server repeats one.
    pub(super) fn answered(
        &self,
        status: u16,
        took: Duration,
        headers: &[(&str, &str)],
        secrets: impl FnOnce() -> Secrets,
    ) {
        let Some(to) = &self.to else { return };
        let secrets = secrets();
        let mut left = HEADER_BYTES_MAX;
        let headers =
            redact_headers(headers, &self.names).into_iter().filter_map(|(name, text)| {
                let text = secrets.mask(&text);
                // Left out rather than cut: half a figure is another figure.
                left = left.checked_sub(name.len() + text.len())?;
                Some((name, text))
            });
        to(Heard { status, took: Some(took), headers: headers.collect() });
    }

    /// Notes that a request to the server got no answer.
    pub(super) fn unanswered(&self) {
        if let Some(to) = &self.to {
            to(Heard::default());
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("is_wanted", &self.to.is_some()).finish_non_exhaustive()
    }
}
