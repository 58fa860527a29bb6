//! HTTP request with its credential and the content type expected of its response.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use cynosure_engine::{Cause, Failure, RequestScope, Secrets};
use hyper::Uri;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// Credential sent with a request.
#[derive(Clone, Debug)]
pub enum Authorization {
    Basic { username: String, password: SecretString },
    Bearer { token: SecretString },
}

/// HTTP request to a server.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    pub url: &'a Url,
    /// JSON body of a POST request; `None` for a GET request.
    pub json_body: Option<Bytes>,
    pub expected: ExpectedContent,
    pub authorization: &'a Authorization,
}

/// Content type that a successful response must have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExpectedContent {
    Json,
    /// Any type except HTML and JSON, because those are pages and errors in place of a document.
    Document,
}

impl Authorization {
    pub(super) fn to_header_value(&self) -> Result<HeaderValue, Failure> {
        let value = match self {
            Self::Basic { username, password } => {
                format!("Basic {}", BASE64.encode(basic_credentials(username, password)))
            }
            Self::Bearer { token } => format!("Bearer {}", token.expose_secret()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_invalid| {
            let message = "the credential has characters that no HTTP header can carry";
            Failure::new(Cause::Unauthorized, message)
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    pub(in crate::source) fn secrets(&self) -> Secrets {
        match self {
            Self::Basic { username, password } => {
                let user_pass = basic_credentials(username, password);
                let encoded = BASE64.encode(&user_pass);
                Secrets::new([password.expose_secret(), &user_pass, &encoded])
            }
            Self::Bearer { token } => Secrets::new([token.expose_secret()]),
        }
    }
}

impl ExpectedContent {
    pub(super) fn request_scope(self) -> RequestScope {
        match self {
            Self::Json => RequestScope::Listing,
            Self::Document => RequestScope::Item,
        }
    }

    /// Rejects a URL over the 64 kB limit of HTTP crates: `TooLarge` for a document, whose URL is
    /// fixed; `Challenge` for a listing, because the server supplied its URL.
    pub(super) fn check_url(self, url: &Url) -> Result<(), Failure> {
        let Err(invalid) = Uri::try_from(url.as_str()) else { return Ok(()) };
        let length = url.as_str().len();
        let (cause, subject) = match self.request_scope() {
            RequestScope::Item => (Cause::TooLarge, "a document"),
            RequestScope::Listing | RequestScope::Session => (Cause::Challenge, "a listing"),
        };
        let message = format!(
            "{subject} of {} has a URL of {length} bytes that no request can be sent to: {invalid}",
            host(url)
        );
        Err(Failure::new(cause, message))
    }
}

/// Returns the user-pass that Basic encodes (RFC 7617 §2).
fn basic_credentials(username: &str, password: &SecretString) -> String {
    format!("{username}:{}", password.expose_secret())
}

/// Returns the host, the only part of a URL that is ever shown.
pub(super) fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}
