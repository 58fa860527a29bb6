//! Calls methods (RFC 8620 §3.3) and reads what goes wrong with them (§3.6).

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::engine::{Cause, Failure, Secrets};
use crate::source::http::{Ask, Refusal, Room, Wants};
use crate::source::jmap::Jmap;
use crate::source::jmap::session::Session;

/// Types of a method-level error that mean "too often", in any case. JMAP has none for methods; of
/// its errors for single objects `rateLimit` is the one (RFC 8620 §5.3), which servers use for both,
/// in these spellings. What a description says of too many is about what was asked for.
const RATE_LIMITS: &[&str] = &["rateLimit", "rateLimited", "rateLimitExceeded", "tooManyRequests"];

/// A call that was not answered, with the word that callers look for.
#[derive(Debug)]
pub(super) struct Refused {
    /// The type of a method-level error; of a request-level one its type without
    /// the URN, or the name of the limit; empty where there was no answer.
    pub(super) word: Box<str>,
    pub(super) failure: Failure,
}

/// What a server answers to a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    method_responses: Vec<(String, Box<RawValue>, Value)>,
    session_state: Option<String>,
}

/// A method-level error.
#[derive(Deserialize)]
struct MethodError {
    #[serde(rename = "type")]
    word: String,
    description: Option<String>,
    arguments: Option<Value>,
}

/// A request-level error (RFC 7807, RFC 8620 §3.6.1).
#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    urn: String,
    limit: Option<String>,
}

/// Bytes of a reply that are not about single objects, rounded up; a few absurd ids fit in as well.
const REPLY_FRAME_BYTES: u64 = 1 << 20;

/// Bytes of an id in a reply: four times the longest that is allowed (RFC 8620 §1.2).
const ID_BYTES_MAX: u64 = 1 << 10;

/// Bytes of an object of which only the properties of a listing were asked for.
const OBJECT_BYTES_MAX: u64 = 8 << 10;

/// The room for a reply that names so many ids; a server that names more is not asked for less.
pub(super) fn room_for_ids(count: usize) -> Room {
    room(count, ID_BYTES_MAX)
}

/// The room for a reply of so many objects.
pub(super) fn room_for_objects(count: usize) -> Room {
    room(count, OBJECT_BYTES_MAX)
}

fn room(elements: usize, element_bytes: u64) -> Room {
    let bytes = u64::try_from(elements).unwrap_or(u64::MAX).saturating_mul(element_bytes);
    Room { elements, bytes: bytes.saturating_add(REPLY_FRAME_BYTES) }
}

/// Calls one method in a request of its own.
pub(super) async fn call<T: DeserializeOwned>(
    jmap: &Jmap,
    session: &Arc<Session>,
    method: &str,
    arguments: Value,
) -> Result<T, Refused> {
    call_within(jmap, session, method, arguments, None).await
}

/// Calls one method in a request of its own, and holds no more of the reply than there is `room` for.
pub(super) async fn call_within<T: DeserializeOwned>(
    jmap: &Jmap,
    session: &Arc<Session>,
    method: &str,
    mut arguments: Value,
    room: Option<Room>,
) -> Result<T, Refused> {
    arguments["accountId"] = json!(session.account.as_str());
    let request = json!({
        "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
        "methodCalls": [[method, arguments, "0"]],
    });
    let pass = jmap.pass().await?;
    let post = Some(Bytes::from(request.to_string()));
    let ask = Ask { url: &session.api, post, wants: Wants::Json, pass: &pass };

    // The semaphore is never closed, and no permit would be no harm.
    let permit = session.requests.acquire().await.ok();
    let answered = jmap.client.answer_within(&ask, room).await;
    drop(permit);

    let result = match answered {
        Ok(mut answered) => {
            let secrets = pass.secrets();
            let parsed: Result<Response, Failure> = parse(method, &answered.body, &secrets);
            let response = match parsed {
                Ok(response) => response,
                Err(failure) => {
                    return Err(jmap.client.failed(&ask, &mut answered, failure).into());
                }
            };
            let result =
                read(method, response.method_responses, &secrets).map_err(|refused: Refused| {
                    Refused {
                        failure: jmap.client.failed(&ask, &mut answered, refused.failure),
                        ..refused
                    }
                });
            // Whoever looks for the session holds it while waiting at the gate: perhaps for this place.
            drop(answered);
            if let Some(state) = response.session_state.filter(|state| !session.is_current(state)) {
                jmap.forget(session, Some(state)).await;
            }
            result
        }
        Err(refusal) => Err(request_refused(refusal)),
    };
    if let Err(refused) = &result
        && matches!(
            refused.failure.cause,
            Cause::Unauthorized | Cause::Forbidden | Cause::NotFound | Cause::Challenge
        )
    {
        // Perhaps the service has moved, or the account: the next request looks for it again.
        jmap.forget(session, None).await;
    }
    result
}

fn read<T: DeserializeOwned>(
    method: &str,
    responses: Vec<(String, Box<RawValue>, Value)>,
    secrets: &Secrets,
) -> Result<T, Refused> {
    let mut responses = responses.into_iter();
    match responses.find(|(name, ..)| name == method || name == "error") {
        Some((name, body, _)) if name == method => {
            Ok(parse(method, body.get().as_bytes(), secrets)?)
        }
        Some((_, body, _)) => {
            let error = parse(method, body.get().as_bytes(), secrets)?;
            Err(method_refused(method, error, secrets))
        }
        None => Err(Failure::new(
            Cause::Challenge,
            format!("the answer to {method} does not contain one"),
        )
        .into()),
    }
}

/// Reads what a server answers. An error may quote it, and it may repeat the `secrets`.
fn parse<T: DeserializeOwned>(method: &str, json: &[u8], secrets: &Secrets) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        let cause = if error.is_eof() { Cause::Truncated } else { Cause::Challenge };
        let error = secrets.mask(&error.to_string());
        Failure::new(cause, format!("the answer to {method} cannot be read: {error}"))
    })
}

/// Says what a server refuses, in its own words without the `secrets` that it may repeat.
fn method_refused(method: &str, error: MethodError, secrets: &Secrets) -> Refused {
    let MethodError { word, description, arguments } = error;
    let mut detail = format!("the server refuses {method}: {word}");
    if let Some(arguments) = arguments {
        detail.push_str(&format!(" {arguments}"));
    }
    if let Some(description) = description {
        detail.push_str(&format!(" \"{description}\""));
    }
    let detail = secrets.mask(&detail);
    let cause = match word.as_str() {
        "serverUnavailable" | "serverFail" | "serverPartialFail" => Cause::Server,
        "cannotCalculateChanges" => Cause::CursorExpired,
        "forbidden" | "accountReadOnly" => Cause::Forbidden,
        "accountNotFound" | "accountNotSupportedByMethod" | "unknownMethod" => Cause::NotFound,
        word if RATE_LIMITS.iter().any(|limit| word.eq_ignore_ascii_case(limit)) => {
            Cause::RateLimit
        }
        _ => Cause::Unknown,
    };
    Refused { word: word.into(), failure: Failure::new(cause, detail) }
}

fn request_refused(refusal: Refusal) -> Refused {
    let word = match serde_json::from_slice::<Problem>(&refusal.body) {
        Ok(Problem { limit: Some(limit), .. }) => limit,
        Ok(Problem { urn, .. }) => urn.rsplit(':').next().unwrap_or_default().to_owned(),
        Err(_not_a_problem) => String::new(),
    };
    Refused { word: word.into(), failure: refusal.failure }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { word: Box::default(), failure }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        refused.failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> Refused {
        let responses = format!(r#"[["error", {json}, "0"]]"#);
        let responses = serde_json::from_str(&responses).unwrap();
        read::<Value>("Email/get", responses, &Secrets::new(["hunter2"])).unwrap_err()
    }

    #[test]
    fn every_method_level_error_has_its_cause() {
        for (word, cause) in [
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
            let refused = refused(&format!(r#"{{"type": "{word}"}}"#));
            assert_eq!((&*refused.word, refused.failure.cause), (word, cause));
        }
    }

    /// FAULTS 50.
    #[test]
    fn what_a_method_level_error_describes_is_no_rate_limit() {
        let refused = refused(r#"{"type": "invalidArguments", "description": "too many ids"}"#);

        assert_eq!(refused.failure.cause, Cause::Unknown);
    }

    #[test]
    fn a_refusal_quotes_the_server() {
        let refused = refused(r#"{"type": "serverFail", "description": "disk\n on fire"}"#);

        assert_eq!(
            refused.failure.message,
            r#"the server refuses Email/get: serverFail "disk\u{a} on fire""#
        );
    }

    #[test]
    fn a_secret_that_a_server_repeats_is_not_quoted() {
        let refused = refused(
            r#"{"type": "serverFail", "description": "of hunter2", "arguments": ["\u0068unter2"]}"#,
        );

        assert_eq!(
            refused.failure.message,
            r#"the server refuses Email/get: serverFail ["[secret]"] "of [secret]""#
        );
    }

    #[test]
    fn an_answer_cut_short_is_told_from_one_that_is_something_else() {
        let read = |json: &str| parse::<Response>("m", json.as_bytes(), &Secrets::default());
        let cause = |json: &str| read(json).err().unwrap().cause;

        assert_eq!(cause(r#"{"methodResponses": [["#), Cause::Truncated);
        assert_eq!(cause("<html>"), Cause::Challenge);
        assert_eq!(cause(&"[".repeat(100_000)), Cause::Challenge);
        assert_eq!(cause("\u{feff}{}"), Cause::Challenge);
    }
}
