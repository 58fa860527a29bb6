//! REST source with the profile of mail.ru, on the embedded mailbox service.

use std::time::Duration;

use cynosure_lab::demo::DemoKind;
use serde_json::{Value, json};

use super::gmail::json_response;
use super::rest_embedded::{EmbeddedApi, NO_SIZE, ONE_FOLDER, ProviderApi};
use super::suite::fault::{HttpForm, retry_after_header};
use super::suite::proxy::ProxiedApi;
use super::suite::{Unsupported, source_tests};
use crate::hostile_server::plain_response;

/// API of the website of mail.ru.
pub(crate) struct Mailru;

impl ProviderApi for Mailru {
    const NAME: &'static str = "mailru, embedded service";
    const KIND: DemoKind = DemoKind::Mailru;
    const BASE_PATH: &'static str = "api/v1";
    const TABLE: &'static str = "kind = \"mailru\"\noptions = { page = 10 }\n\
                                 auth = { type = \"session\", session = { file = \"session\" } }\n";
    const SECRET: &'static str = r#"{"email": "demo@example.com", "token": "demo",
        "cookies": {"Mpop": "demo", "sdcs": "demo", "ssdc": "demo"}, "user_agent": "Firefox"}"#;
    const REFUSED_SECRET: &'static str = r#"{"email": "demo@example.com", "token": "expired",
        "cookies": {"Mpop": "old-1", "sdcs": "old-2", "ssdc": "old-3"}, "user_agent": "Firefox"}"#;
    const PROXIED: ProxiedApi = ProxiedApi {
        document_prefix: "/api/v1/messages/message/download",
        form: HttpForm { document: message, wrong_length: message, forbidden, rate_limited },
        page_size: None,
    };

    /// Pages overlap, and a restart in the second of two passes forgets the items of the first.
    const LISTED_MAX: usize = 4;
    const LISTS_PAGES_AGAIN: bool = true;

    const CURSOR_EXPIRY: Result<(), Unsupported> =
        Err(Unsupported("a cursor never expires: it has the newest rows of each folder"));
    const WRONG_LENGTH: Result<(), Unsupported> = Err(NO_SIZE);
    const EMPTY_DOCUMENT: Unsupported =
        Unsupported("a message begins with a header line, so that it is no challenge");
    const SECOND_FOLDER: Unsupported = ONE_FOLDER;
}

/// Returns a response with this status in its body.
pub(crate) fn mailru_response(status: u16, body: &Value) -> Vec<u8> {
    let envelope = json!({ "status": status, "htmlencoded": false, "body": body });
    json_response("200 OK", &envelope)
}

fn message(document: &[u8]) -> Vec<u8> {
    plain_response("200 OK", "Content-Type: message/rfc822\r\n", document)
}

fn forbidden() -> Vec<u8> {
    mailru_response(403, &json!({ "id": { "error": "access_denied", "value": "1" } }))
}

/// Returns a limit of the web server in front of the API.
fn rate_limited(retry_after: Option<Duration>) -> Vec<u8> {
    let headers = format!("Content-Type: text/html\r\n{}", retry_after_header(retry_after));
    plain_response("429 Too Many Requests", &headers, "<html><body>nginx</body></html>")
}

source_tests!(EmbeddedApi<Mailru>);
