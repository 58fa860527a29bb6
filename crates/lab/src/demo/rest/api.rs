//! Interface of an API, and its answers.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hyper::{Response, StatusCode, header};
use serde_json::Value;

use super::request::DemoRequest;
use crate::demo::mailbox::{GeneratedMailbox, MessageNumber};
use crate::demo::service::{
    BodyFraming, ResponseBody, append_header, json_status_response, page_response, set_retry_after,
};

/// API of a provider.
pub(super) trait DemoApi: fmt::Debug + Send + Sync {
    /// True for a request for the octets of a message.
    fn is_download(&self, request: &DemoRequest) -> bool;

    /// Returns the response to a request that has no accepted credential; `None` if it has one.
    fn check_credential(
        &self,
        request: &DemoRequest,
        accepted: &AcceptedCredentials<'_>,
    ) -> Option<DemoApiResponse>;

    /// Answers a request.
    fn answer(&self, mailbox: &mut GeneratedMailbox, request: &DemoRequest) -> DemoAnswer;

    /// Returns the response of the API to a request that is refused.
    fn refuse(&self, refusal: ApiRefusal, now: DateTime<Utc>) -> DemoApiResponse;

    /// True if the message is all of an item, as clients count items.
    fn is_whole_item(&self, mailbox: &GeneratedMailbox, message: MessageNumber) -> bool {
        mailbox.is_only_in_thread(message)
    }

    /// True for a request for a page of a listing that is not the first, if the API has a fault for
    /// it: [`Self::disturb_listing`].
    fn is_further_page(&self, _request: &DemoRequest) -> bool {
        false
    }

    /// Disturbs a listing between two pages. Returns a response that takes the place of the page.
    fn disturb_listing(&self, _mailbox: &mut GeneratedMailbox) -> Option<DemoApiResponse> {
        None
    }

    /// True if the request marks mail as read, also where it does so by default.
    fn marks_as_read(&self, _request: &DemoRequest) -> bool {
        false
    }
}

/// Credentials that are accepted now.
#[derive(Clone, Copy, Debug)]
pub(super) struct AcceptedCredentials<'a> {
    pub(super) token: Option<&'a str>,
    pub(super) username: &'a str,
    pub(super) password: &'a str,
}

/// Refusal, which each API words in its own way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ApiRefusal {
    TooManyAtOnce,
    RateLimited {
        retry_after: Option<Duration>,
    },
    Unavailable {
        retry_after: Option<Duration>,
    },
    /// The request for this message always fails.
    ServerError,
    /// The message no longer exists.
    Gone,
}

/// Answer to a request.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum DemoAnswer {
    Response(DemoApiResponse),
    Download(DemoDownload),
}

/// Message whose octets were requested.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct DemoDownload {
    pub(super) number: MessageNumber,
    pub(super) format: DownloadFormat,
}

/// Form of a message in a response.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum DownloadFormat {
    /// Its octets.
    Octets { media_type: &'static str, framing: BodyFraming },
    /// JSON, in which base64url of the octets stands between these texts.
    Json { head: String, tail: &'static str },
}

/// Response without a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DemoApiResponse {
    pub(super) status: StatusCode,
    pub(super) body: ApiBody,
    pub(super) retry_after: Option<Duration>,
    /// Value of `WWW-Authenticate`.
    challenge: Option<&'static str>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ApiBody {
    Json(Value),
    Page(&'static str),
}

impl AcceptedCredentials<'_> {
    /// True if a request has the token or the password as a bearer token (RFC 6750 §2.1).
    pub(super) fn has_bearer(&self, request: &DemoRequest) -> bool {
        let authorization = request.header(header::AUTHORIZATION);
        let (scheme, secret) = authorization.split_once(' ').unwrap_or_default();
        let is_accepted = secret == self.password || self.token == Some(secret);
        scheme.eq_ignore_ascii_case("bearer") && is_accepted
    }
}

impl DemoApiResponse {
    pub(super) fn ok(body: Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    pub(super) fn json(status: StatusCode, body: Value) -> Self {
        Self { status, body: ApiBody::Json(body), retry_after: None, challenge: None }
    }

    pub(super) fn page(status: StatusCode, page: &'static str) -> Self {
        Self { status, body: ApiBody::Page(page), retry_after: None, challenge: None }
    }

    pub(super) fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    pub(super) fn with_challenge(self, challenge: &'static str) -> Self {
        Self { challenge: Some(challenge), ..self }
    }

    pub(super) fn into_http(self) -> Response<ResponseBody> {
        let mut response = match &self.body {
            ApiBody::Json(value) => json_status_response(self.status, value),
            ApiBody::Page(page) => page_response(self.status, page),
        };
        if let Some(retry_after) = self.retry_after {
            set_retry_after(&mut response, retry_after);
        }
        if let Some(challenge) = self.challenge {
            append_header(&mut response, header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

#[cfg(test)]
impl DemoAnswer {
    /// Returns the JSON of a response with this status.
    pub(super) fn json(self, status: u16) -> Value {
        match self {
            Self::Response(DemoApiResponse {
                status: actual, body: ApiBody::Json(body), ..
            }) => {
                assert_eq!(actual.as_u16(), status, "{body}");
                body
            }
            other @ (Self::Response(_) | Self::Download(_)) => panic!("no JSON: {other:?}"),
        }
    }

    /// Returns the message that is to be downloaded.
    pub(super) fn download(self) -> DemoDownload {
        match self {
            Self::Download(download) => download,
            Self::Response(response) => panic!("no download: {response:?}"),
        }
    }
}
