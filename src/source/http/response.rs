//! Response whose body was read.

use std::fmt;

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{HeaderMap, LINK};
use url::Url;

use crate::limiter::Permit;
use crate::source::http::link_header::find_next_link;
use crate::source::http::request::host;

/// Response held in memory.
pub struct BufferedResponse {
    /// URL after redirects: the base of relative URLs in the body.
    pub url: Url,
    pub body: Bytes,
    pub(super) headers: HeaderMap,
    pub(super) permit: Box<dyn Permit>,
}

/// Head of a response.
pub(super) struct ResponseHead {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

impl BufferedResponse {
    /// Returns the URL of the next page in the `Link` header (RFC 8288). It may be relative.
    #[must_use]
    pub fn next_link(&self) -> Option<String> {
        let values = self.headers.get_all(LINK).iter();
        find_next_link(values.filter_map(|value| value.to_str().ok()))
    }
}

/// Leaves out the URL and the body, which may contain secrets.
impl fmt::Debug for BufferedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferedResponse")
            .field("host", &host(&self.url))
            .field("length", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl ResponseHead {
    pub(super) fn of(response: &Response) -> Self {
        Self { url: response.url().clone(), headers: response.headers().clone() }
    }
}
