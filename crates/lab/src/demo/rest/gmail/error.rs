//! Errors of the API of Gmail, in the form that all APIs of Google share.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use hyper::StatusCode;
use serde_json::json;

use crate::demo::rest::api::DemoApiResponse;

/// Error that takes the place of a resource.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct GmailError {
    status: StatusCode,
    /// Name of the status, as a code of gRPC.
    status_name: &'static str,
    domain: &'static str,
    reason: &'static str,
    message: String,
}

impl GmailError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::global(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "invalidArgument", message.into())
    }

    pub(super) fn invalid_credentials() -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access \
                       token, login cookie or other valid authentication credential.";
        Self::global(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "authError", message.to_owned())
    }

    pub(super) fn delegation_denied(user: &str) -> Self {
        let message = format!("Delegation denied for {user}");
        Self::global(StatusCode::FORBIDDEN, "PERMISSION_DENIED", "forbidden", message)
    }

    pub(super) fn not_found() -> Self {
        let message = "Requested entity was not found.".to_owned();
        Self::global(StatusCode::NOT_FOUND, "NOT_FOUND", "notFound", message)
    }

    pub(super) fn backend_error() -> Self {
        let message = "Internal error encountered.".to_owned();
        Self::global(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "backendError", message)
    }

    pub(super) fn unavailable() -> Self {
        let message = "The service is currently unavailable.".to_owned();
        Self::global(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "backendError", message)
    }

    /// Returns the error of a limit that tells when it ends, rounded up to whole milliseconds.
    pub(super) fn rate_limited_until(end: DateTime<Utc>) -> Self {
        let end = end + TimeDelta::nanoseconds(999_999);
        let end = end.to_rfc3339_opts(SecondsFormat::Millis, true);
        Self::too_many(format!("User-rate limit exceeded.  Retry after {end}"))
    }

    pub(super) fn too_many_at_once() -> Self {
        Self::too_many("Too many concurrent requests for user".to_owned())
    }

    fn too_many(message: String) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            status_name: "RESOURCE_EXHAUSTED",
            domain: "global",
            reason: "rateLimitExceeded",
            message,
        }
    }

    /// Returns the error of a limit whose end is not reported.
    pub(super) fn rate_limited() -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            status_name: "PERMISSION_DENIED",
            domain: "usageLimits",
            reason: "rateLimitExceeded",
            message: "Rate Limit Exceeded".to_owned(),
        }
    }

    fn global(
        status: StatusCode,
        status_name: &'static str,
        reason: &'static str,
        message: String,
    ) -> Self {
        Self { status, status_name, domain: "global", reason, message }
    }

    pub(super) fn response(&self) -> DemoApiResponse {
        let Self { status, status_name, domain, reason, message } = self;
        let detail = json!({ "domain": domain, "reason": reason, "message": message });
        let error = json!({
            "code": status.as_u16(),
            "message": message,
            "errors": [detail],
            "status": status_name,
        });
        DemoApiResponse::json(*status, json!({ "error": error }))
    }
}
