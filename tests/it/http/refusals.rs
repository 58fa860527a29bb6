//! Responses with status 200 whose JSON reports a failure, and secrets in a URL.

use std::rc::Rc;
use std::time::Duration;

use cynosure::limiter::{AttemptKind, Unlimited};
use cynosure::source::http::{
    Authorization, ExpectedContent, HttpClient, HttpRequest, RequestBody, RequestLimits,
};
use cynosure_engine::rest::{
    JsonPath, OkRule, ProfileErrorRule, ProfileRules, ReportedWait, TableName, ValueCondition,
    ValueTest, WaitFormat,
};
use cynosure_engine::{Cause, Failure, Scalar, ThrottleStrikes};

use super::responses::RecordingLimiter;
use super::{MemorySink, client, http_options, limits, request_retries};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};

const JSON: &str = "Content-Type: application/json\r\n";

fn ok_rule() -> OkRule {
    let at = JsonPath::parse("/status").unwrap();
    OkRule { at, is: vec![Scalar::Integer(200)], media_type: None }
}

fn no_authorization() -> Authorization {
    Authorization::Custom { headers: Vec::new(), secrets: Vec::new() }
}

#[tokio::test]
async fn limiter_and_metrics_see_the_failure_in_the_body() {
    let limiter = RecordingLimiter::default();
    let body = r#"{"status": 429}"#;
    let response = plain_response("200 OK", &format!("{JSON}Retry-After: 7\r\n"), body);
    let server = HostileServer::always_sending(response).await;
    let options = http_options(limits(), [&server.url]);
    let metrics = options.metrics.clone();
    let client = HttpClient::new(options, Rc::new(limiter.clone())).unwrap();
    let (ok, authorization) = (ok_rule(), no_authorization());
    let listing = HttpRequest {
        ok: Some(&ok),
        ..HttpRequest::get(&server.url, ExpectedContent::Json, &authorization)
    };

    let failure = Failure::from(client.fetch_buffered(&listing).await.unwrap_err());

    assert_eq!(failure.cause, Cause::RateLimit);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(*limiter.0.borrow(), ["7s", "Throttled"]);
    let document = HttpRequest {
        ok: Some(&ok),
        ..HttpRequest::get(&server.url, ExpectedContent::JsonDocument, &authorization)
    };
    let mut sink = MemorySink::default();
    let failure = client
        .fetch_enveloped(
            &document,
            None,
            ThrottleStrikes::default(),
            AttemptKind::First,
            &mut sink,
            |sink| Some(&sink.bytes),
        )
        .await
        .unwrap_err();
    assert_eq!(failure.cause, Cause::RateLimit);
    assert_eq!(limiter.0.borrow()[2..], ["15 bytes", "7s", "Throttled"]);
    let outcomes = metrics.snapshot().requests.by_outcome;
    assert_eq!((outcomes.rate_limited, outcomes.success), (2, 0));
}

#[tokio::test]
async fn a_server_error_in_the_body_is_retried_quickly() {
    let server = HostileServer::start(|before, _: &ReceivedRequest| {
        let body = if before == 0 { r#"{"status": 503}"# } else { r#"{"status": 200}"# };
        vec![ConnectionAction::Send(plain_response("200 OK", JSON, body)), ConnectionAction::Close]
    })
    .await;
    let limits = RequestLimits { retry_policy: request_retries(2), ..limits() };
    let (ok, authorization) = (ok_rule(), no_authorization());
    let request = HttpRequest {
        ok: Some(&ok),
        ..HttpRequest::get(&server.url, ExpectedContent::Json, &authorization)
    };

    let response = client(limits, &server.url).fetch_buffered(&request).await.unwrap();

    assert_eq!(response.body, r#"{"status": 200}"#);
    assert_eq!(server.requests().len(), 2);
}

/// Returns a rule that finds a limit in the body, with the wait that is written there.
fn limit_rule() -> ProfileErrorRule {
    let path = |text| JsonPath::parse(text).unwrap();
    ProfileErrorRule {
        tables: vec![TableName::Fetch],
        statuses: Vec::new(),
        values: vec![ValueCondition {
            at: path("/error/code"),
            test: ValueTest::Is(vec![Scalar::Text("busy".to_owned())]),
        }],
        cause: Cause::RateLimit,
        wait: Some(Duration::from_secs(60)),
        message: Some("the mailbox is busy".to_owned()),
        reported_wait: Some(ReportedWait {
            text: path("/error/message"),
            after: "wait ".to_owned(),
            format: WaitFormat::Seconds,
        }),
        location: String::new(),
    }
}

#[tokio::test]
async fn rules_of_a_profile_apply_to_their_tables() {
    let body = r#"{"error": {"code": "busy", "message": "please wait 90 s"}}"#;
    let server = HostileServer::always_sending(plain_response("400 Bad", JSON, body)).await;
    let client = client(limits(), &server.url);
    let (rules, authorization) = ([limit_rule()], no_authorization());

    for (table, cause, wait, message) in [
        (
            TableName::Fetch,
            Cause::RateLimit,
            Some(Duration::from_secs(90)),
            "400 from 127.0.0.1: \"please wait 90 s\"; the mailbox is busy",
        ),
        (TableName::List, Cause::Unknown, None, "400 from 127.0.0.1: \"please wait 90 s\""),
    ] {
        let request = HttpRequest {
            body: RequestBody::Form("a=b".into()),
            rules: Some(ProfileRules { rules: &rules, table }),
            ..HttpRequest::get(&server.url, ExpectedContent::Json, &authorization)
        };

        let failure = client.fetch_buffered(&request).await.unwrap_err().failure;

        assert_eq!((failure.cause, failure.retry_after), (cause, wait));
        assert_eq!(failure.message, message);
    }
    let head = server.requests()[0].head.to_ascii_lowercase();
    assert!(head.starts_with("post / "), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
}

/// FAULTS base: no secret is stored or shown, also if it is a part of the URL.
#[tokio::test]
async fn a_secret_in_the_url_is_masked() {
    let server = HostileServer::start(|_, request: &ReceivedRequest| {
        let headers = "Content-Type: text/plain\r\nX-Request-Id: s3cret-key\r\n";
        let body = format!("no such page: {}", request.path());
        vec![
            ConnectionAction::Send(plain_response("404 None", headers, body)),
            ConnectionAction::Close,
        ]
    })
    .await;
    let url = server.url.join("?key=s3cret-key").unwrap();
    let authorization =
        Authorization::Custom { headers: Vec::new(), secrets: vec!["s3cret-key".into()] };
    let request = HttpRequest::get(&url, ExpectedContent::Json, &authorization);
    let client = HttpClient::new(http_options(limits(), [&url]), Rc::new(Unlimited)).unwrap();

    let failure = client.fetch_buffered(&request).await.unwrap_err().failure;

    let shown = format!("{failure:?} {request:?} {client:?}");
    assert!(shown.contains("[secret]") && !shown.contains("s3cret"), "{shown}");
}
