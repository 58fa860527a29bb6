//! REST source with the profile of Microsoft Graph, on the embedded mailbox service.

use std::time::Duration;

use cynosure_lab::demo::DemoKind;
use serde_json::json;

use super::gmail::{JSON_TYPE, json_response};
use super::rest_embedded::{EMPTY_IS_NOT_READY, EmbeddedApi, NO_SIZE, ONE_FOLDER, ProviderApi};
use super::suite::fault::{HttpForm, retry_after_header};
use super::suite::proxy::ProxiedApi;
use super::suite::{Unsupported, source_tests};
use crate::hostile_server::plain_response;

/// API of Microsoft Graph.
pub(crate) struct Graph;

impl ProviderApi for Graph {
    const NAME: &'static str = "graph, embedded service";
    const KIND: DemoKind = DemoKind::Graph;
    const BASE_PATH: &'static str = "v1.0";
    const TABLE: &'static str = "kind = \"graph\"\noptions = { page_size = 10 }\n\
                                 auth = { type = \"bearer\", token = { file = \"token\" } }\n";
    const SECRET: &'static str = "demo";
    const PROXIED: ProxiedApi = ProxiedApi {
        document_prefix: "/v1.0/me/messages/",
        form: HttpForm {
            document: text_message,
            wrong_length: text_message,
            forbidden,
            rate_limited,
        },
        page_size: Some(("%24top=1000", "%24top=20")),
    };

    /// Once in its folder, and once by the sweep.
    const LISTED_MAX: usize = 2;

    const CURSOR_EXPIRY: Result<(), Unsupported> =
        Err(Unsupported("a cursor expires for one folder, which is then listed in full"));
    const WRONG_LENGTH: Result<(), Unsupported> = Err(NO_SIZE);
    const EMPTY_DOCUMENT: Unsupported = EMPTY_IS_NOT_READY;
    const SECOND_FOLDER: Unsupported = ONE_FOLDER;
}

/// Returns a response with an error of the API.
pub(crate) fn graph_error(status: &str, headers: &str, code: &str) -> Vec<u8> {
    let body = json!({ "error": { "code": code, "message": "The request was refused." } });
    plain_response(status, &format!("{JSON_TYPE}{headers}"), body.to_string())
}

fn text_message(document: &[u8]) -> Vec<u8> {
    plain_response("200 OK", "Content-Type: text/plain\r\n", document)
}

/// Returns a refusal of one message. `ErrorAccessDenied` would be one of the whole mailbox.
fn forbidden() -> Vec<u8> {
    let body = json!({ "error": { "code": "accessDenied", "message": "Access is denied." } });
    json_response("403 Forbidden", &body)
}

fn rate_limited(retry_after: Option<Duration>) -> Vec<u8> {
    let header = retry_after_header(retry_after);
    graph_error("429 Too Many Requests", &header, "ApplicationThrottled")
}

source_tests!(EmbeddedApi<Graph>);
