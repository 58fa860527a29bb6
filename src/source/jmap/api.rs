//! Calls JMAP methods (RFC 8620 §3.3) and classifies their errors (§3.6).

use std::sync::Arc;

use bytes::Bytes;
use cynosure_engine::{Cause, Failure, Secrets};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::source::http::{BufferLimits, ExpectedContent, HttpError, HttpRequest, RequestBody};
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::source::JmapSource;

/// Types of a method-level error that mean rate limiting, compared case-insensitively. JMAP defines
/// none for methods. Among its errors for single objects there is `rateLimit` (RFC 8620 §5.3),
/// which servers use for both, in these spellings. The description is not searched, because "too
/// many" there refers to the arguments.
const RATE_LIMIT_ERROR_TYPES: &[&str] =
    &["rateLimit", "rateLimited", "rateLimitExceeded", "tooManyRequests"];

/// Error of a method call, with the error type that callers compare.
#[derive(Debug)]
pub(super) struct MethodCallError {
    /// Type of a method-level error. For a request-level error its type without the URN prefix, or
    /// the name of the limit. Empty if there was no response.
    pub(super) error_type: Box<str>,
    pub(super) failure: Failure,
}

/// Response to a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JmapResponse {
    method_responses: Vec<(String, Box<RawValue>, Value)>,
    session_state: Option<String>,
}

/// Method-level error.
#[derive(Deserialize)]
struct MethodErrorBody {
    #[serde(rename = "type")]
    error_type: String,
    description: Option<String>,
    arguments: Option<Value>,
}

/// Request-level error (RFC 7807, RFC 8620 §3.6.1).
#[derive(Deserialize)]
struct RequestProblem {
    #[serde(rename = "type")]
    urn: String,
    limit: Option<String>,
}

/// Bytes of a response besides its objects, rounded up; leaves room for a few oversized ids.
const RESPONSE_OVERHEAD_BYTES: u64 = 1 << 20;

/// Bytes of an id in a response: four times the longest one allowed (RFC 8620 §1.2).
const ID_BYTES_MAX: u64 = 1 << 10;

/// Bytes of an object with only the properties of a listing.
const OBJECT_BYTES_MAX: u64 = 8 << 10;

/// Returns the limits for a response with this many ids. If the server sends more, the request is
/// not repeated with a lower limit.
pub(super) fn limits_for_ids(count: usize) -> BufferLimits {
    buffer_limits(count, ID_BYTES_MAX)
}

/// Returns the limits for a response with this many objects.
pub(super) fn limits_for_objects(count: usize) -> BufferLimits {
    buffer_limits(count, OBJECT_BYTES_MAX)
}

fn buffer_limits(elements: usize, element_bytes: u64) -> BufferLimits {
    let bytes = u64::try_from(elements).unwrap_or(u64::MAX).saturating_mul(element_bytes);
    BufferLimits {
        max_elements: elements,
        max_bytes: bytes.saturating_add(RESPONSE_OVERHEAD_BYTES),
    }
}

/// Calls one method in a separate request.
pub(super) async fn call<T: DeserializeOwned>(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    method: &str,
    arguments: Value,
) -> Result<T, MethodCallError> {
    call_limited(jmap, session, method, arguments, None).await
}

/// Calls one method in a separate request, and holds no more of the response than `limits` allows.
pub(super) async fn call_limited<T: DeserializeOwned>(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    method: &str,
    mut arguments: Value,
    limits: Option<BufferLimits>,
) -> Result<T, MethodCallError> {
    arguments["accountId"] = json!(session.account.as_str());
    let body = json!({
        "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
        "methodCalls": [[method, arguments, "0"]],
    });
    let authorization = jmap.authorization().await?;
    let request = HttpRequest {
        body: RequestBody::Json(Bytes::from(body.to_string())),
        ..HttpRequest::get(&session.api_url, ExpectedContent::Json, &authorization)
    };

    // The semaphore is never closed, and sending without a permit would be harmless.
    let permit = session.request_permits.acquire().await.ok();
    let buffered = jmap.client.fetch_limited(&request, limits).await;
    drop(permit);

    let result = match buffered {
        Ok(mut buffered) => {
            let secrets = authorization.secrets();
            let parsed: Result<JmapResponse, Failure> =
                parse_json(method, &buffered.body, &secrets);
            let response = match parsed {
                Ok(response) => response,
                Err(failure) => {
                    return Err(jmap
                        .client
                        .report_body_error(&request, &mut buffered, failure)
                        .into());
                }
            };
            let result = method_result(method, response.method_responses, &secrets).map_err(
                |error: MethodCallError| MethodCallError {
                    failure: jmap.client.report_body_error(&request, &mut buffered, error.failure),
                    ..error
                },
            );
            // Released before the session lock is requested: a concurrent discovery holds that lock
            // while it waits at the limiter, possibly for this permit.
            drop(buffered);
            if let Some(state) = response.session_state.filter(|state| !session.is_current(state)) {
                jmap.invalidate_session(session, Some(state)).await;
            }
            result
        }
        Err(error) => Err(request_error(error)),
    };
    if let Err(error) = &result
        && matches!(
            error.failure.cause,
            Cause::Unauthorized | Cause::Forbidden | Cause::NotFound | Cause::Challenge
        )
    {
        // The service or the account may have moved, so the next request discovers the session
        // again.
        jmap.invalidate_session(session, None).await;
    }
    result
}

fn method_result<T: DeserializeOwned>(
    method: &str,
    responses: Vec<(String, Box<RawValue>, Value)>,
    secrets: &Secrets,
) -> Result<T, MethodCallError> {
    let mut responses = responses.into_iter();
    match responses.find(|(name, ..)| name == method || name == "error") {
        Some((name, body, _)) if name == method => {
            Ok(parse_json(method, body.get().as_bytes(), secrets)?)
        }
        Some((_, body, _)) => {
            let error = parse_json(method, body.get().as_bytes(), secrets)?;
            Err(method_error(method, error, secrets))
        }
        None => Err(Failure::new(
            Cause::Challenge,
            format!("the response to {method} does not contain its result"),
        )
        .into()),
    }
}

/// Parses a response. The error message may quote the response, so the `secrets` are masked.
fn parse_json<T: DeserializeOwned>(
    method: &str,
    json: &[u8],
    secrets: &Secrets,
) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        let cause = if error.is_eof() { Cause::Truncated } else { Cause::Challenge };
        let error = secrets.mask(&error.to_string());
        Failure::new(cause, format!("the response to {method} cannot be parsed: {error}"))
    })
}

/// Returns the server's error in its own words, with the `secrets` masked in case it echoes them.
fn method_error(method: &str, error: MethodErrorBody, secrets: &Secrets) -> MethodCallError {
    let MethodErrorBody { error_type, description, arguments } = error;
    let mut detail = format!("the server refuses {method}: {error_type}");
    if let Some(arguments) = arguments {
        detail.push_str(&format!(" {arguments}"));
    }
    if let Some(description) = description {
        detail.push_str(&format!(" \"{description}\""));
    }
    let detail = secrets.mask(&detail);
    let cause = match error_type.as_str() {
        "serverUnavailable" | "serverFail" | "serverPartialFail" => Cause::Server,
        "cannotCalculateChanges" => Cause::CursorExpired,
        "forbidden" | "accountReadOnly" => Cause::Forbidden,
        "accountNotFound" | "accountNotSupportedByMethod" | "unknownMethod" => Cause::NotFound,
        error_type
            if RATE_LIMIT_ERROR_TYPES
                .iter()
                .any(|limit| error_type.eq_ignore_ascii_case(limit)) =>
        {
            Cause::RateLimit
        }
        _ => Cause::Unknown,
    };
    MethodCallError { error_type: error_type.into(), failure: Failure::new(cause, detail) }
}

fn request_error(error: HttpError) -> MethodCallError {
    let error_type = match serde_json::from_slice::<RequestProblem>(&error.body) {
        Ok(RequestProblem { limit: Some(limit), .. }) => limit,
        Ok(RequestProblem { urn, .. }) => urn.rsplit(':').next().unwrap_or_default().to_owned(),
        Err(_not_a_problem) => String::new(),
    };
    MethodCallError { error_type: error_type.into(), failure: error.failure }
}

impl MethodCallError {
    /// True if the server answers that it does not allow or know the call. No later call helps.
    pub(super) fn is_refusal(&self) -> bool {
        let Self { error_type, failure } = self;
        let is_lasting =
            matches!(failure.cause, Cause::Forbidden | Cause::NotFound | Cause::Unknown);
        is_lasting && !error_type.is_empty()
    }
}

impl From<Failure> for MethodCallError {
    fn from(failure: Failure) -> Self {
        Self { error_type: Box::default(), failure }
    }
}

impl From<MethodCallError> for Failure {
    fn from(error: MethodCallError) -> Self {
        error.failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of_response(json: &str) -> MethodCallError {
        let responses = format!(r#"[["error", {json}, "0"]]"#);
        let responses = serde_json::from_str(&responses).unwrap();
        method_result::<Value>("Email/get", responses, &Secrets::new(["hunter2"])).unwrap_err()
    }

    #[test]
    fn every_method_level_error_has_a_cause() {
        for (error_type, cause) in [
            ("serverUnavailable", Cause::Server),
            ("serverFail", Cause::Server),
            ("cannotCalculateChanges", Cause::CursorExpired),
            ("forbidden", Cause::Forbidden),
            ("accountNotFound", Cause::NotFound),
            ("unknownMethod", Cause::NotFound),
            ("invalidArguments", Cause::Unknown),
            ("rateLimited", Cause::RateLimit),
            ("tooManyRequests", Cause::RateLimit),
            ("tooManyChanges", Cause::Unknown),
        ] {
            let error = error_of_response(&format!(r#"{{"type": "{error_type}"}}"#));
            assert_eq!((&*error.error_type, error.failure.cause), (error_type, cause));
            let passes = [Cause::Server, Cause::RateLimit, Cause::CursorExpired].contains(&cause);
            assert_eq!(error.is_refusal(), !passes, "{error_type}");
        }
    }

    #[test]
    fn a_response_without_an_error_type_is_no_refusal() {
        let failure = Failure::new(Cause::NotFound, "404 from mail.example");

        assert!(!MethodCallError::from(failure).is_refusal());
    }

    /// FAULTS 50: "too many" in an error that is no throttle.
    #[test]
    fn a_description_does_not_make_a_rate_limit() {
        let error =
            error_of_response(r#"{"type": "invalidArguments", "description": "too many ids"}"#);

        assert_eq!(error.failure.cause, Cause::Unknown);
    }

    #[test]
    fn a_method_error_quotes_the_server() {
        let error = error_of_response(r#"{"type": "serverFail", "description": "disk\n on fire"}"#);

        assert_eq!(
            error.failure.message,
            r#"the server refuses Email/get: serverFail "disk\u{a} on fire""#
        );
    }

    #[test]
    fn a_secret_echoed_by_the_server_is_masked() {
        let error = error_of_response(
            r#"{"type": "serverFail", "description": "of hunter2", "arguments": ["\u0068unter2"]}"#,
        );

        assert_eq!(
            error.failure.message,
            r#"the server refuses Email/get: serverFail ["[secret]"] "of [secret]""#
        );
    }

    #[test]
    fn truncated_and_foreign_responses_are_distinguished() {
        let parse =
            |json: &str| parse_json::<JmapResponse>("m", json.as_bytes(), &Secrets::default());
        let cause = |json: &str| parse(json).err().unwrap().cause;

        assert_eq!(cause(r#"{"methodResponses": [["#), Cause::Truncated);
        assert_eq!(cause("<html>"), Cause::Challenge);
        assert_eq!(cause(&"[".repeat(100_000)), Cause::Challenge);
        assert_eq!(cause("\u{feff}{}"), Cause::Challenge);
    }
}
