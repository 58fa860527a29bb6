//! HTTP request with its credential and the content type expected of its response.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use cynosure_engine::rest::{OkRule, ProfileRules};
use cynosure_engine::{Cause, Failure, RequestScope, Secrets};
use hyper::Uri;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// Credential sent with a request.
#[derive(Clone, Debug)]
pub enum Authorization {
    Basic {
        username: String,
        password: SecretString,
    },
    Bearer {
        token: SecretString,
    },
    /// Headers of another name, or nothing but a URL or a body with secrets.
    Custom {
        headers: Vec<(HeaderName, SecretString)>,
        /// Secrets in the URL, the body or the other headers of the request, and those that are a
        /// part of a header here.
        secrets: Vec<SecretString>,
    },
}

/// HTTP request to a server.
pub struct HttpRequest<'a> {
    pub url: &'a Url,
    pub body: RequestBody,
    /// Further headers. They replace those of the client, except the credential.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub expected: ExpectedContent<'a>,
    pub authorization: &'a Authorization,
    /// Units of the request. `None` for one unit.
    pub quota: Option<QuotaUse>,
    /// Rules of a profile for errors.
    pub rules: Option<ProfileRules<'a>>,
    /// Sign of success in a JSON response with status 200. A response without it is an error.
    pub ok: Option<&'a OkRule>,
}

/// Body of a request, which determines its method.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequestBody {
    /// GET request.
    None,
    /// POST request with JSON.
    Json(Bytes),
    /// POST request with `application/x-www-form-urlencoded`.
    Form(Bytes),
}

/// Part of a quota that a request takes, unless a route of the configuration matches its path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuotaUse {
    pub units: u32,
}

/// Content type that a successful response must have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExpectedContent<'a> {
    Json,
    /// JSON with this media type and no other.
    JsonOfType(&'a str),
    /// Any type except HTML and JSON, because those are pages and errors in place of a document.
    Document,
    /// Document with one of these media types.
    Types(&'a [String]),
    /// Document that is JSON, or a text in JSON.
    JsonDocument,
}

impl<'a> HttpRequest<'a> {
    /// Creates a GET request without further headers and rules.
    #[must_use]
    pub fn get(
        url: &'a Url,
        expected: ExpectedContent<'a>,
        authorization: &'a Authorization,
    ) -> Self {
        Self {
            url,
            body: RequestBody::None,
            headers: Vec::new(),
            expected,
            authorization,
            quota: None,
            rules: None,
            ok: None,
        }
    }
}

/// Leaves out everything that may contain a secret: URL, headers and body.
impl fmt::Debug for HttpRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("host", &host(self.url))
            .field("expected", &self.expected)
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

impl RequestBody {
    pub(super) fn method(&self) -> Method {
        match self {
            Self::None => Method::GET,
            Self::Json(_) | Self::Form(_) => Method::POST,
        }
    }

    /// Returns the bytes with their media type.
    pub(super) fn content(&self) -> Option<(&'static str, &Bytes)> {
        match self {
            Self::None => None,
            Self::Json(bytes) => Some(("application/json", bytes)),
            Self::Form(bytes) => Some(("application/x-www-form-urlencoded", bytes)),
        }
    }
}

impl Authorization {
    /// Returns the headers with the credential.
    pub(super) fn to_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
        match self {
            Self::Basic { username, password } => {
                let encoded = BASE64.encode(basic_credentials(username, password));
                Ok(vec![(AUTHORIZATION, secret_header(&format!("Basic {encoded}"))?)])
            }
            Self::Bearer { token } => {
                let value = secret_header(&format!("Bearer {}", token.expose_secret()))?;
                Ok(vec![(AUTHORIZATION, value)])
            }
            Self::Custom { headers, .. } => {
                let headers = headers
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), secret_header(value.expose_secret())?)));
                headers.collect()
            }
        }
    }

    pub(in crate::source) fn secrets(&self) -> Secrets {
        match self {
            Self::Basic { username, password } => {
                let user_pass = basic_credentials(username, password);
                let encoded = BASE64.encode(&user_pass);
                Secrets::new([password.expose_secret(), &user_pass, &encoded])
            }
            Self::Bearer { token } => Secrets::new([token.expose_secret()]),
            Self::Custom { headers, secrets } => {
                let in_headers = headers.iter().map(|(_, value)| value);
                Secrets::new(in_headers.chain(secrets).map(|secret| secret.expose_secret()))
            }
        }
    }
}

impl ExpectedContent<'_> {
    pub(super) fn request_scope(self) -> RequestScope {
        match self {
            Self::Json | Self::JsonOfType(_) => RequestScope::Listing,
            Self::Document | Self::Types(_) | Self::JsonDocument => RequestScope::Item,
        }
    }

    /// Returns the value of the `Accept` header.
    pub(super) fn accept(self) -> &'static str {
        match self {
            Self::Json | Self::JsonOfType(_) | Self::JsonDocument => "application/json",
            Self::Document | Self::Types(_) => "*/*",
        }
    }

    /// True if a document has this media type. It is in lower case.
    pub(super) fn includes(self, media_type: &str) -> bool {
        let is_json = is_json_type(media_type);
        match self {
            Self::Json | Self::JsonDocument => is_json || media_type.is_empty(),
            Self::JsonOfType(expected) => media_type.eq_ignore_ascii_case(expected),
            Self::Document => !is_json && !media_type.contains("html"),
            Self::Types(types) => {
                types.iter().any(|expected| media_type.eq_ignore_ascii_case(expected))
            }
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

/// True for the media types of JSON. The type is in lower case.
pub(super) fn is_json_type(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}

/// Returns the value of a header with a secret, which is never shown.
fn secret_header(value: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(value).map_err(|_invalid| {
        let message = "the credential has characters that no HTTP header can carry";
        Failure::new(Cause::Unauthorized, message)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the user-pass that Basic encodes (RFC 7617 §2).
fn basic_credentials(username: &str, password: &SecretString) -> String {
    format!("{username}:{}", password.expose_secret())
}

/// Returns the host, the only part of a URL that is ever shown.
pub(super) fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}
