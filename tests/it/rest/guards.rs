//! APIs that break the rules: lists that do not end, totals and ids that are wrong, links that lead
//! elsewhere, and responses that are no JSON or too large.

use std::sync::atomic::{AtomicUsize, Ordering};

use cynosure::source::{DynSource, Listing, Source as _};
use cynosure_engine::{Cause, Cursor, Failure};
use serde_json::{Value, json};

use super::{assert_failure, failure_of_listing};
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};
use crate::sources::gmail::{JSON_TYPE, json_response};
use crate::sources::suite::SourceOptions;
use crate::sources::suite::extraction::list_everything;
use crate::sources::suite::options::rest_source;

/// Continuation of a list by a token.
const TOKEN: &str = "page = { kind = \"token\", from = \"/next\", to = \"query.page\" }";

/// Continuation of a list by the URL of the next page.
const LINK: &str = "page = { kind = \"link\", from = \"/next\" }";

/// Bytes that are more than a page may have.
const HUGE_BYTES: usize = 17 << 20;

/// Starts an API that answers each request by its path with JSON.
async fn start_api(respond: impl Fn(&str) -> Value + Send + Sync + 'static) -> HostileServer {
    HostileServer::start(move |_, request| {
        vec![ConnectionAction::Send(json_response("200 OK", &respond(request.path())))]
    })
    .await
}

/// Returns a source whose `[list]` has these further keys.
fn source(server: &HostileServer, keys: &str) -> DynSource {
    let table = format!(
        "kind = \"rest\"\n[source.work.fetch]\nget = \"/raw/{{document.id}}\"\n\
         [source.work.list]\nget = \"/list\"\nitems = \"/items\"\nid = \"/id\"\n{keys}\n"
    );
    rest_source(&SourceOptions::new(""), &table, &server.url)
}

/// Returns the failure of a list whose pages are all this JSON.
async fn failure_of_page(keys: &str, page: Value) -> Failure {
    let server = start_api(move |_| page.clone()).await;
    failure_of_listing(&source(&server, keys)).await
}

/// Returns the failure of a list whose server does this for each request.
async fn failure_of_actions(actions: Vec<ConnectionAction>) -> Failure {
    let server = HostileServer::start(move |_, _| actions.clone()).await;
    failure_of_listing(&source(&server, "")).await
}

/// Returns the ids of all documents.
async fn ids(source: &DynSource) -> Vec<String> {
    let documents = list_everything(source).await.documents();
    documents.iter().map(|document| document.document.as_str().to_owned()).collect()
}

/// Returns the part of a path after the last `=`, or nothing.
fn last_value(path: &str) -> &str {
    path.rsplit_once('=').map_or("", |(_, value)| value)
}

#[tokio::test]
async fn a_repeated_token_ends_the_listing() {
    let cycle = "the tables of source \"work\": `[list] page`: the server's list contains a cycle";
    let anchor = "page = { kind = \"anchor\", from = \"/id\", to = \"query.after\" }";
    for keys in [TOKEN, LINK, anchor] {
        let page = json!({ "items": [{ "id": 1 }], "next": "again" });

        let failure = failure_of_page(keys, page).await;

        assert_failure(&failure, Cause::Unknown, cycle);
    }
}

#[tokio::test]
async fn a_cycle_of_links_ends_the_listing() {
    let server = start_api(|path| {
        let next = match last_value(path) {
            "" | "c" => "a",
            "a" => "b",
            _ => "c",
        };
        json!({ "items": [{ "id": next }], "next": format!("?page={next}") })
    })
    .await;

    let failure = failure_of_listing(&source(&server, LINK)).await;

    assert_failure(&failure, Cause::Unknown, "`[list] page`: the server's list contains a cycle");
    assert!(server.requests().len() < 20, "{}", server.requests().len());
}

#[tokio::test]
async fn endless_pages_without_rows_end_the_listing() {
    let pages = AtomicUsize::new(0);
    let server = start_api(move |_| {
        let next = pages.fetch_add(1, Ordering::Relaxed);
        json!({ "items": [], "next": format!("page {next}") })
    })
    .await;

    let failure = failure_of_listing(&source(&server, TOKEN)).await;

    assert_failure(&failure, Cause::Unknown, "`[list] page`: the server's list has too many pages");
    assert_eq!(server.requests().len(), 101);
}

#[tokio::test]
async fn a_server_that_ignores_the_place_of_a_page_ends_the_listing() {
    let rows: Vec<Value> = (0..400).map(|id| json!({ "id": id })).collect();
    for keys in [
        "page = { kind = \"offset\", size = 400, to = \"query.offset\" }",
        "page = { kind = \"offset\", size = 400, overlap = 1, to = \"query.offset\" }",
        "page = { kind = \"number\", to = \"query.page\" }",
        "page = { kind = \"number\", size = 400, to = \"query.page\" }",
    ] {
        let failure = failure_of_page(keys, json!({ "items": rows })).await;

        let words = "`[list] page`: the server returns the same rows for every page";
        assert_failure(&failure, Cause::Unknown, words);
    }
}

#[tokio::test]
async fn a_total_that_lies_costs_one_more_pass_at_most() {
    let page = "page = { kind = \"offset\", size = 3, to = \"query.offset\" }\ntotal = \"/total\"";
    for (total, requests_max) in [
        (json!(10), 8),
        (json!(u64::MAX), 8),
        (json!(1), 2),
        (json!(0), 2),
        (json!(-1), 2),
        (json!("many"), 2),
    ] {
        let reported = total.clone();
        let server = start_api(move |path| {
            let offset: usize = last_value(path).parse().unwrap();
            let rows = (offset..5).take(3).map(|id| json!({ "id": id }));
            json!({ "total": reported, "items": rows.collect::<Vec<_>>() })
        })
        .await;

        assert_eq!(ids(&source(&server, page)).await, ["0", "1", "2", "3", "4"], "{total}");
        assert!(server.requests().len() <= requests_max, "{total}: {}", server.requests().len());
    }
}

#[tokio::test]
async fn only_texts_and_whole_numbers_are_ids() {
    let quoted = "`[list] id` = \"/id\" selects";
    for (id, problem) in [
        (json!({ "id": "a" }), "an object in row 2, not a text or a whole number"),
        (json!(["a"]), "a list in row 2, not a text or a whole number"),
        (json!(1.5), "a fractional or very large number in row 2"),
        (json!(true), "a boolean in row 2"),
        (json!(""), "an empty text in row 2"),
        (Value::Null, "nothing in row 2, which has the key id"),
    ] {
        let failure = failure_of_page("", json!({ "items": [{ "id": 1 }, { "id": id }] })).await;

        assert_failure(&failure, Cause::Unknown, &format!("{quoted} {problem}"));
    }
    let ids_of_page = json!({ "items": [{ "id": 17 }, { "id": "../a b" }, { "id": -1 }] });
    let server = start_api(move |_| ids_of_page.clone()).await;
    assert_eq!(ids(&source(&server, "")).await, ["-1", "../a b", "17"]);
}

#[tokio::test]
async fn a_path_that_matches_nothing_is_quoted() {
    let quoted = "the tables of source \"work\": `[list] items` = \"/items\" selects";
    for (page, problem) in [
        (json!({ "rows": [], "a\u{1b}b": 1 }), "nothing in the response, which has the keys"),
        (json!({}), "nothing in the response, which is an empty object"),
        (json!([]), "nothing in the response, which is a list"),
        (json!("text"), "nothing in the response, which is a text"),
        (json!({ "items": null }), "nothing in the response, which has the key items"),
        (json!({ "items": {} }), "an object, not a list"),
        (json!({ "items": 7 }), "a number, not a list"),
    ] {
        let failure = failure_of_page("", page).await;

        assert_failure(&failure, Cause::Unknown, &format!("{quoted} {problem}"));
        assert!(!failure.message.contains('\u{1b}'), "{failure:?}");
    }
    let page = json!({ "items": [], "next": { "page": 2 } });
    let failure = failure_of_page(TOKEN, page).await;
    assert_failure(&failure, Cause::Unknown, "`[list] page.from` = \"/next\" selects a value that");
}

#[tokio::test]
async fn a_link_to_another_host_or_scheme_is_not_followed() {
    let other_server =
        HostileServer::always_sending(plain_response("200 OK", JSON_TYPE, "{}")).await;
    let other_port = other_server.url.to_string();
    for link in [
        other_port.as_str(),
        "https://other.example/list?page=2",
        "//other.example/list?page=2",
        "https://SELF/list?page=2",
        "ftp://SELF/list?page=2",
        "http://user:password@SELF/list?page=2",
        "file:///etc/passwd",
        "data:application/json,{}",
    ] {
        let link = link.to_owned();
        let server = HostileServer::start(move |_, request| {
            let mut lines = request.head.lines();
            let host = lines.find_map(|line| line.strip_prefix("host: ")).unwrap();
            let page = json!({ "items": [{ "id": 1 }], "next": link.replace("SELF", host) });
            vec![ConnectionAction::Send(json_response("200 OK", &page))]
        })
        .await;

        let failure = failure_of_listing(&source(&server, LINK)).await;

        assert_failure(&failure, Cause::Challenge, "add it to `allow_hosts` if that is intended");
        assert!(!failure.message.contains("password"), "{failure}");
        assert_eq!(server.requests().len(), 1, "{failure}");
    }
    assert_eq!(other_server.requests().len(), 0);
    let page = json!({ "items": [{ "id": 1 }], "next": "http://[" });
    assert_failure(&failure_of_page(LINK, page).await, Cause::Challenge, "is not a URL");
}

#[tokio::test]
async fn a_huge_page_is_not_held_in_memory() {
    let spaces = vec![b' '; HUGE_BYTES];
    let whole = plain_response("200 OK", JSON_TYPE, &spaces);
    let head = format!("HTTP/1.1 200 OK\r\n{JSON_TYPE}\r\n").into_bytes();
    let endless = vec![
        ConnectionAction::Send(head),
        ConnectionAction::SendRepeatedly(spaces[..1 << 16].to_vec()),
    ];
    for actions in [vec![ConnectionAction::Send(whole)], endless] {
        let failure = failure_of_actions(actions).await;

        let words = "the response of 127.0.0.1 has more than 16777216 bytes";
        assert_failure(&failure, Cause::TooLarge, words);
    }
}

#[tokio::test]
async fn anything_but_whole_json_is_no_page() {
    let whole = json_response("200 OK", &json!({ "items": [] }));
    let cut =
        vec![ConnectionAction::Send(whole[..whole.len() - 3].to_vec()), ConnectionAction::Close];
    let nested = "[".repeat(100_000);
    let send = |media_type: &str, body: &str| {
        let headers = format!("Content-Type: {media_type}\r\n");
        vec![ConnectionAction::Send(plain_response("200 OK", &headers, body))]
    };
    let json_body = |body: &str| send("application/json", body);
    for (actions, cause, words) in [
        (cut, Cause::Truncated, "truncated response from 127.0.0.1"),
        (json_body("{\"items\": [{"), Cause::Truncated, "the JSON of 127.0.0.1 cannot be parsed"),
        (json_body(""), Cause::Truncated, "the JSON of 127.0.0.1 cannot be parsed"),
        (json_body("{\"items\" 1}"), Cause::Challenge, "the JSON of 127.0.0.1 cannot be parsed"),
        (json_body("<html></html>"), Cause::Challenge, "the JSON of 127.0.0.1 cannot be parsed"),
        (json_body("\u{feff}{}"), Cause::Challenge, "the JSON of 127.0.0.1 cannot be parsed"),
        (json_body(&nested), Cause::Challenge, "the JSON of 127.0.0.1 cannot be parsed"),
        (send("text/html", "<html></html>"), Cause::Challenge, "content type text/html"),
        (send("text/plain", "{\"items\": []}"), Cause::Challenge, "200 from 127.0.0.1"),
    ] {
        let failure = failure_of_actions(actions).await;

        assert_failure(&failure, cause, words);
    }
}

#[tokio::test]
async fn a_cursor_of_another_version_leads_to_a_full_listing() {
    let server = start_api(|_| json!({ "items": [{ "id": 1 }] })).await;
    let source = source(&server, "");

    for text in ["", "{}", "{\"v\": 2}", "77"] {
        let since = Listing::Since(Cursor::new(text));
        let failure = source.list_page(&since, None).await.unwrap_err();

        assert_failure(&failure, Cause::CursorExpired, "written by another version");
    }
}
