//! Embedded mailbox service of the demo, tested with plain clients.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod imap;
mod imap_client;
mod imap_storm;
mod rest;
mod rest_storm;
mod storm;

use cynosure_lab::demo::{DemoOptions, DemoServer, GeneratedMailbox, start};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use self::client::{CAPABILITIES, DemoClient, JsonBody};

fn serve(items: u32) -> DemoServer {
    start(DemoOptions { items, ..DemoOptions::default() }).unwrap()
}

#[tokio::test]
async fn the_session_is_behind_a_redirect_and_has_relative_urls() {
    let demo = serve(1);
    let client = DemoClient::new(&demo).await;

    let response = client.get("/.well-known/jmap").await;

    assert_eq!(response.url().path(), "/jmap/session");
    let session = response.json_body().await;
    assert_eq!(session["apiUrl"], "/jmap/api/");
    assert_eq!(session["capabilities"][CAPABILITIES[0]]["maxObjectsInGet"], 500);
    assert_eq!(session["capabilities"][CAPABILITIES[0]]["maxCallsInRequest"], 16);
    assert_eq!(session["capabilities"][CAPABILITIES[0]]["maxConcurrentRequests"], 8);
}

#[tokio::test]
async fn threads_and_their_messages_are_listed_with_result_references() {
    let demo = serve(700);
    let client = DemoClient::new(&demo).await;
    let from_query = json!({ "resultOf": "0", "name": "Email/query", "path": "/ids" });
    let from_get = json!({ "resultOf": "1", "name": "Email/get", "path": "/list/*/threadId" });
    let from_thread = json!({ "resultOf": "2", "name": "Thread/get", "path": "/list/*/emailIds" });
    let sort = json!([{ "property": "receivedAt", "isAscending": false }]);

    let responses = client
        .call([
            (
                "Email/query",
                json!({ "collapseThreads": true, "sort": sort, "limit": 200, "calculateTotal": true }),
            ),
            ("Email/get", json!({ "#ids": from_query, "properties": ["threadId"] })),
            ("Thread/get", json!({ "#ids": from_get })),
            ("Email/get", json!({ "#ids": from_thread })),
        ])
        .await;

    assert_eq!(responses[0]["total"], 700);
    assert_eq!(responses[0]["ids"].as_array().unwrap().len(), 200);
    assert_eq!(responses[2]["list"].as_array().unwrap().len(), 200);
    let emails = responses[3]["list"].as_array().unwrap();
    assert_eq!(emails.len(), 320);
    assert!(emails.iter().all(|email| {
        email["size"].is_u64()
            && email["receivedAt"].as_str().is_some_and(|date| date.ends_with('Z'))
            && !email["mailboxIds"].as_object().unwrap().is_empty()
    }));
}

#[tokio::test]
async fn every_download_has_the_length_and_the_octets_the_seed_gives() {
    let demo = serve(2_000);
    let client = DemoClient::new(&demo).await;
    let generated = GeneratedMailbox::new(DemoOptions::default().seed, 2_000);
    let listed = client.list().await;
    assert_eq!(listed.len(), 3_200);

    let largest = listed.iter().max_by_key(|(.., size)| size).unwrap();
    for (_, blob, size) in listed.iter().step_by(50).chain([largest]) {
        let response = client.get(&client.download_path(blob)).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "message/rfc822");
        assert_eq!(response.content_length(), Some(*size as u64));
        let body = response.bytes().await.unwrap();
        assert_eq!(body.len(), *size);
        assert!(generated.message_bytes(blob).unwrap() == body, "{blob} differs");
    }

    let counters = demo.counters();
    assert_eq!(u64::from(counters.messages_served) + counters.messages_served_repeatedly, 65);
    assert_eq!(counters.in_flight, 0);
}

#[tokio::test]
async fn filters_apply_and_pages_are_contiguous() {
    let demo = serve(300);
    let client = DemoClient::new(&demo).await;
    let folders = client.call([("Mailbox/get", json!({ "ids": null }))]).await;
    let folders = folders[0]["list"].as_array().unwrap();
    let roles: Vec<_> = folders.iter().map(|folder| folder["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["inbox", "archive", "sent", "trash"]);

    let total = async |filter: Value| {
        let query = json!({ "filter": filter, "calculateTotal": true, "limit": 0 });
        client.call([("Email/query", query)]).await[0]["total"].as_u64().unwrap()
    };
    let (inbox, trash) = (&folders[0]["id"], &folders[3]["id"]);
    let either = json!({ "operator": "OR", "conditions":
        [{ "inMailbox": inbox }, { "inMailbox": trash }] });
    let both = json!({ "operator": "AND", "conditions":
        [{ "inMailbox": inbox }, { "inMailbox": trash }] });
    let day = "2020-01-01T00:00:00Z";

    assert_eq!(total(json!({ "inMailbox": inbox })).await, folders[0]["totalEmails"]);
    assert_eq!(
        total(either).await,
        folders[0]["totalEmails"].as_u64().unwrap() + folders[3]["totalEmails"].as_u64().unwrap()
    );
    assert_eq!(total(both).await, 0);
    assert_eq!(total(json!({ "before": day })).await + total(json!({ "after": day })).await, 480);

    let responses = client
        .call([
            ("Email/query", json!({ "position": 10, "limit": 5 })),
            ("Email/query", json!({ "position": -3 })),
            ("Email/query", json!({ "position": 5_000, "limit": 1_000 })),
        ])
        .await;
    assert_eq!(responses[0]["ids"].as_array().unwrap().len(), 5);
    assert_eq!(
        (&responses[1]["position"], responses[1]["ids"].as_array().unwrap().len()),
        (&json!(477), 3)
    );
    assert_eq!((&responses[2]["ids"], &responses[2]["limit"]), (&json!([]), &json!(500)));
}

#[tokio::test]
async fn unsupported_requests_get_the_standard_errors() {
    let demo = serve(400);
    let client = DemoClient::new(&demo).await;
    let problem_of = async |body: String| {
        let response = client.post(body).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let problem = response.json_body().await;
        let kind = problem["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        (kind, problem["limit"].as_str().unwrap_or_default().to_owned())
    };
    let calls = vec![json!(["Email/get", {}, "x"]); 17];
    let too_many = json!({ "using": CAPABILITIES, "methodCalls": calls }).to_string();
    let unknown = json!({ "using": ["urn:x"], "methodCalls": [] }).to_string();
    let kind_and_limit = |kind: &str, limit: &str| (kind.to_owned(), limit.to_owned());

    assert_eq!(problem_of("{".to_owned()).await, kind_and_limit("notJSON", ""));
    assert_eq!(problem_of("{}".to_owned()).await, kind_and_limit("notRequest", ""));
    assert_eq!(problem_of(unknown).await, kind_and_limit("unknownCapability", ""));
    assert_eq!(problem_of(too_many).await, kind_and_limit("limit", "maxCallsInRequest"));
    assert_eq!(problem_of(" ".repeat(10_000_001)).await, kind_and_limit("limit", "maxSizeRequest"));

    let ids = vec!["x"; 501];
    let responses = client
        .call([
            ("Email/get", json!({ "ids": ids })),
            ("Email/query", json!({ "anchor": "nowhere1" })),
            ("Email/query", json!({ "sort": [{ "property": "size" }] })),
            ("Email/query", json!({ "filter": { "text": "x" } })),
            ("Email/copy", json!({})),
            ("Email/changes", json!({ "sinceState": "abc" })),
            ("Email/get", json!({ "ids": ["-nowhere"] })),
        ])
        .await;
    let kinds: Vec<_> = responses.iter().map(|response| response["type"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            Some("requestTooLarge"),
            Some("anchorNotFound"),
            Some("unsupportedSort"),
            Some("unsupportedFilter"),
            Some("unknownMethod"),
            Some("invalidArguments"),
            None
        ]
    );
    assert_eq!(responses[6]["notFound"], json!(["-nowhere"]));
    assert_eq!(client.get(&client.download_path("nowhere1")).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_ninth_concurrent_request_is_rejected() {
    let demo = serve(2_000);
    let client = DemoClient::new(&demo).await;
    let listed = client.list().await;
    let (_, large, _) = listed.iter().max_by_key(|(.., size)| size).unwrap();
    let path = client.download_path(large);

    let mut open_responses = Vec::new();
    for _ in 0..8 {
        open_responses.push(client.get(&path).await);
    }
    let ninth = client.get(&path).await;

    assert_eq!(ninth.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(ninth.json_body().await["limit"], "maxConcurrentRequests");
    for response in open_responses {
        assert_eq!(response.bytes().await.unwrap().len(), 12 * 1024 * 1024);
    }
    assert_eq!(client.get(&path).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn only_the_right_password_or_token_opens_the_mailbox() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    let demo = start(DemoOptions {
        items: 1,
        token_file: Some(token_file.clone()),
        ..DemoOptions::default()
    })
    .unwrap();
    let mut client = DemoClient::new(&demo).await;
    let url = format!("{}/jmap/session", client.base);
    let token = std::fs::read_to_string(token_file).unwrap();

    let with_token = client.http.get(&url).bearer_auth(token.trim_end()).send().await.unwrap();
    assert_eq!(with_token.status(), StatusCode::OK);

    client.password.push('x');
    let wrong = client.get("/jmap/session").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.headers().get_all(header::WWW_AUTHENTICATE).iter().count(), 2);
    assert_eq!(wrong.json_body().await["status"], 401);
    let anonymous = client.http.get(&url).send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn changes_are_reported_from_any_state_until_it_expires() {
    let demo = serve(50);
    let client = DemoClient::new(&demo).await;
    let before = client.list().await;
    let state = client.call([("Email/get", json!({ "ids": [] }))]).await[0]["state"].clone();

    client.command("deliver?n=10").await;
    client.command("destroy?n=3").await;

    let since = json!({ "sinceState": state });
    let changes =
        client.call([("Email/changes", since.clone()), ("Thread/changes", since.clone())]).await;
    let after = client.list().await;
    let created = changes[0]["created"].as_array().unwrap();
    let destroyed = changes[0]["destroyed"].as_array().unwrap();
    assert!(created.iter().all(|id| after.iter().any(|(other, ..)| id == other)));
    assert!(destroyed.iter().all(|id| before.iter().any(|(other, ..)| id == other)));
    assert_eq!(after.len(), before.len() + created.len() - destroyed.len());
    assert_eq!(after.len(), before.len() + 10 - 3);
    assert!(!changes[1]["updated"].as_array().unwrap().is_empty());

    let one = json!({ "sinceState": state, "maxChanges": 1 });
    assert_eq!(client.call([("Email/changes", one)]).await[0]["hasMoreChanges"], true);

    client.command("expire-states").await;
    let expired = client.call([("Email/changes", since)]).await;
    assert_eq!(expired[0]["type"], "cannotCalculateChanges");
}

#[tokio::test]
async fn the_fail_command_rejects_the_given_number_of_requests() {
    let demo = serve(5);
    let client = DemoClient::new(&demo).await;
    let status = async || client.get("/jmap/session").await.status();

    client.command("fail?n=2").await;
    assert_eq!([status().await, status().await], [StatusCode::SERVICE_UNAVAILABLE; 2]);
    assert_eq!(status().await, StatusCode::OK);
    client.command("fail?n=1000").await;
    assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
    client.command("fail?n=0").await;
    assert_eq!(status().await, StatusCode::OK);

    assert_eq!(demo.counters().unavailable, 3);
}

#[tokio::test]
async fn the_counters_can_be_read_from_another_process() {
    let demo = serve(5);
    let client = DemoClient::new(&demo).await;
    client.list().await;

    let response = client.http.get(format!("{}/demo/counters", client.base)).send().await.unwrap();

    let counters = response.json_body().await;
    assert_eq!(counters["method_calls"]["Email/query"], 2);
    assert_eq!(counters["messages_served"], 0);
    demo.shut_down();
}

#[test]
fn an_address_in_use_is_named() {
    let demo = serve(1);

    let error =
        start(DemoOptions { listen: demo.address(), ..DemoOptions::default() }).unwrap_err();

    assert!(error.to_string().contains(&demo.address().to_string()), "{error}");
}
