//! Errors of Microsoft Graph.

use hyper::StatusCode;
use serde_json::json;

use crate::demo::rest::api::DemoApiResponse;

/// Error that takes the place of a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct GraphError {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
}

impl GraphError {
    const fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message }
    }

    pub(super) fn bad_request(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn unknown_segment() -> Self {
        Self::bad_request("Resource not found for the segment.")
    }

    pub(super) fn unknown_user() -> Self {
        let message = "The requested user is invalid.";
        Self::new(StatusCode::NOT_FOUND, "ErrorInvalidUser", message)
    }

    pub(super) fn invalid_token() -> Self {
        let message = "Access token has expired or is not yet valid.";
        Self::new(StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", message)
    }

    pub(super) fn item_not_found() -> Self {
        let message = "The specified object was not found in the store.";
        Self::new(StatusCode::NOT_FOUND, "ErrorItemNotFound", message)
    }

    /// Returns the error of a delta link whose changes are no longer known.
    pub(super) fn sync_state_not_found() -> Self {
        let message = "The sync state generation is not found; re-sync is required.";
        Self::new(StatusCode::GONE, "SyncStateNotFound", message)
    }

    /// Returns the error of a listing that cannot be continued.
    pub(super) fn resync_required() -> Self {
        let message = "Resync required. Replace any local items with the server's version.";
        Self::new(StatusCode::GONE, "resyncRequired", message)
    }

    pub(super) fn too_many_at_once() -> Self {
        let message = "Application is over its MailboxConcurrency limit.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "ApplicationThrottled", message)
    }

    pub(super) fn too_many() -> Self {
        let message = "The server is busy. Please retry the request later.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    pub(super) fn unavailable() -> Self {
        let message = "The service is temporarily unavailable.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UnknownError", message)
    }

    pub(super) fn internal() -> Self {
        let message = "An internal server error occurred.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "ErrorInternalServerError", message)
    }

    pub(super) fn response(self) -> DemoApiResponse {
        let error = json!({
            "code": self.code,
            "message": self.message,
            "innerError": { "request-id": "00000000-0000-0000-0000-000000000000" },
        });
        DemoApiResponse::json(self.status, json!({ "error": error }))
    }
}
