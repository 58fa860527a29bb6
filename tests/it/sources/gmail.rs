//! REST source with the profile of Gmail, on the embedded mailbox service.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use chrono::{DateTime, SecondsFormat};
use cynosure_lab::demo::DemoKind;
use serde_json::{Value, json};

use super::rest_embedded::{EMPTY_IS_NOT_READY, EmbeddedApi, ProviderApi};
use super::suite::fault::HttpForm;
use super::suite::proxy::ProxiedApi;
use super::suite::{Unsupported, source_tests};
use crate::hostile_server::plain_response;

pub(crate) const JSON_TYPE: &str = "Content-Type: application/json; charset=UTF-8\r\n";

/// API of Gmail. A fault has its documents in JSON, too.
pub(crate) struct Gmail;

impl ProviderApi for Gmail {
    const NAME: &'static str = "gmail, embedded service";
    const KIND: DemoKind = DemoKind::Gmail;
    const BASE_PATH: &'static str = "gmail/v1/users/me";
    const TABLE: &'static str =
        "kind = \"gmail\"\nauth = { type = \"bearer\", token = { file = \"token\" } }\n";
    const SECRET: &'static str = "demo";
    const PROXIED: ProxiedApi = ProxiedApi {
        document_prefix: "/gmail/v1/users/me/messages/",
        form: HttpForm { document: raw_message, wrong_length: cut_text, forbidden, rate_limited },
        page_size: Some(("maxResults=500", "maxResults=20")),
    };

    const FOLDER_COUNTS: Result<(), Unsupported> =
        Err(Unsupported("its list has no exact number of messages"));
    const EMPTY_DOCUMENT: Unsupported = EMPTY_IS_NOT_READY;
    const SECOND_FOLDER: Unsupported = Unsupported("the service adds no label to a message");
}

/// Returns a response with an error of the API.
pub(crate) fn gmail_error(status: &str, reason: &str, message: &str) -> Vec<u8> {
    let code: u16 = status.split(' ').next().unwrap_or_default().parse().unwrap();
    let detail = json!({ "domain": "usageLimits", "reason": reason, "message": message });
    let error = json!({ "code": code, "message": message, "errors": [detail] });
    json_response(status, &json!({ "error": error }))
}

pub(crate) fn json_response(status: &str, body: &Value) -> Vec<u8> {
    plain_response(status, JSON_TYPE, body.to_string())
}

fn raw_message(document: &[u8]) -> Vec<u8> {
    json_response("200 OK", &json!({ "raw": BASE64_URL.encode(document) }))
}

/// Returns complete JSON whose text ends within a group of four characters. The API tells no size,
/// so nothing else shows that a message is not whole.
fn cut_text(document: &[u8]) -> Vec<u8> {
    let mut text = BASE64_URL.encode(document);
    while text.len() % 4 != 1 {
        text.pop();
    }
    json_response("200 OK", &json!({ "raw": text }))
}

fn forbidden() -> Vec<u8> {
    gmail_error("403 Forbidden", "forbidden", "The caller does not have permission")
}

/// Returns a limit whose end stands in the text, or is not told. The clock of the suite is at the
/// Unix epoch.
fn rate_limited(retry_after: Option<Duration>) -> Vec<u8> {
    let Some(wait) = retry_after else {
        return gmail_error("403 Forbidden", "rateLimitExceeded", "Rate Limit Exceeded");
    };
    let end = DateTime::UNIX_EPOCH + wait;
    let end = end.to_rfc3339_opts(SecondsFormat::Millis, true);
    let message = format!("User-rate limit exceeded.  Retry after {end}");
    gmail_error("429 Too Many Requests", "rateLimitExceeded", &message)
}

source_tests!(EmbeddedApi<Gmail>);
