//! Unexpected responses: their classification, the waits they require, and masked secrets.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD as BASE64, BASE64_URL_SAFE as URL_SAFE};
use cynosure::limiter::{
    AttemptKind, Permit, PermitRequest, QuotaScope, RequestLimiter, Unlimited,
};
use cynosure::source::http::{
    Authorization, ExpectedContent, HttpClient, HttpOptions, HttpRequest, RequestLimits,
};
use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use cynosure_engine::{
    BodyCondition, Cause, ErrorRule, Failure, RuleScope, ThrottleStrikes, Timestamp,
};
use futures_util::future::LocalBoxFuture;

use super::{
    MemorySink, SECRET, authorization, cause_of_document, client, failure_of_json, fetch, get,
    http_options, limits, request_retries,
};
use crate::hostile_server::{HostileServer, plain_response};

#[tokio::test]
async fn an_unexpected_success_is_a_challenge() {
    for (status, headers) in [
        ("206 Partial Content", "Content-Range: bytes 0-4/9\r\n"),
        ("203 Non-Authoritative Information", ""),
        ("300 Multiple Choices", ""),
        ("200 OK", "Content-Encoding: gzip\r\n"),
        ("200 OK", "Content-Encoding: identity\r\nContent-Encoding: br\r\n"),
        ("200 OK", "Content-Type: text/html; charset=utf-8\r\n"),
        ("200 OK", "Content-Type: application/problem+json\r\n"),
    ] {
        let bytes = plain_response(status, headers, "hello");
        assert_eq!(cause_of_document(bytes, Some(5)).await, Cause::Challenge, "{status} {headers}");
    }
    for status in ["204 No Content", "304 Not Modified"] {
        let bytes = format!("HTTP/1.1 {status}\r\n\r\n");
        assert_eq!(cause_of_document(bytes, Some(0)).await, Cause::Challenge, "{status}");
    }
    let invented = plain_response("999 Go Away", "", "hello");
    assert_eq!(cause_of_document(invented, Some(5)).await, Cause::Unknown);
}

/// FAULTS 23: codings are named in any case and in lists (RFC 9110 §8.4.1).
#[tokio::test]
async fn an_identity_coding_is_no_compression() {
    for coding in ["IDENTITY", "", "identity, Identity", ", identity", "\tidentity "] {
        let headers = format!("Content-Encoding: {coding}\r\n");
        let server =
            HostileServer::always_sending(plain_response("200 OK", &headers, "hello")).await;

        let fetched = fetch(&server.url, limits(), Some(5)).await;

        assert_eq!(fetched.map(|sink| sink.bytes), Ok(b"hello".to_vec()), "{coding:?}");
    }
    let listed = plain_response("200 OK", "Content-Encoding: identity, GZIP\r\n", "hello");
    assert_eq!(cause_of_document(listed, Some(5)).await, Cause::Challenge);
}

/// FAULTS 54: no request can have a URL of 64 kB or more.
#[tokio::test]
async fn an_unsendable_url_does_not_blame_the_credential() {
    let server = HostileServer::always_sending(plain_response("200 OK", "", "hello")).await;
    let long = server.url.join(&"x".repeat(70_000)).unwrap();

    let document = fetch(&long, limits(), Some(5)).await.map(|_| ()).unwrap_err();
    let listing = get(&long, limits()).await.unwrap_err();

    assert_eq!((document.cause, listing.cause), (Cause::TooLarge, Cause::Challenge));
    assert!(document.message.contains("a URL of 700"), "{document}");
    assert_eq!(server.requests().len(), 0);
}

/// FAULTS 54: a credential with a line break cannot be sent in an HTTP header.
#[tokio::test]
async fn an_unsendable_credential_is_an_auth_failure() {
    let server = HostileServer::always_sending(plain_response("200 OK", "", "{}")).await;
    let authorization = Authorization::Bearer { token: "s3cret\ntoken".into() };
    let request = HttpRequest::get(&server.url, ExpectedContent::Document, &authorization);

    let failure = client(limits(), &server.url)
        .fetch_streaming(
            &request,
            None,
            ThrottleStrikes::default(),
            AttemptKind::First,
            &mut MemorySink::default(),
        )
        .await
        .unwrap_err();

    assert_eq!(failure.cause, Cause::Unauthorized);
    assert!(failure.message.contains("no HTTP header can carry"), "{failure}");
    assert_eq!(server.requests().len(), 0);
}

/// FAULTS 24, 50: the text of an HTML page proves nothing about a rate limit.
#[tokio::test]
async fn html_instead_of_json_is_a_challenge_whatever_its_text() {
    let page = |body| plain_response("200 OK", "Content-Type: text/html\r\n", body);

    let login = failure_of_json(page("<title>Sign in</title>")).await;
    assert_eq!(login.cause, Cause::Challenge);
    assert_eq!(login.message, "200 from 127.0.0.1: unexpected content type text/html");
    assert_eq!(failure_of_json(page("Too Many Requests")).await.cause, Cause::Challenge);
    let page = plain_response("200 OK", "Content-Type: text/html\r\n", "<p>rate limit</p>");
    assert_eq!(cause_of_document(page, Some(17)).await, Cause::Challenge);
}

/// FAULTS 50: a body that mentions a limit is no rate limit.
#[tokio::test]
async fn a_document_the_server_cannot_produce_is_a_server_error() {
    let mime_error = plain_response(
        "500 Oops",
        "Content-Type: text/plain\r\n",
        "message has too many MIME parts",
    );
    assert_eq!(cause_of_document(mime_error, None).await, Cause::Server);
    let session = plain_response(
        "200 OK",
        "Content-Type: application/json\r\n",
        r#"{"capabilities": {"urn:ietf:params:jmap:core": {"maxConcurrentRequests": 4}}}"#,
    );
    assert_eq!(cause_of_document(session, None).await, Cause::Challenge);
}

#[tokio::test]
async fn the_body_decides_where_the_status_is_ambiguous() {
    let plain_text = |status, body| plain_response(status, "Content-Type: text/plain\r\n", body);

    assert_eq!(failure_of_json(plain_text("407 Who", "")).await.cause, Cause::Proxy);
    let limited = "451 Already reached per-10 minute limit for logins ... try again later";
    assert_eq!(failure_of_json(plain_text("401 No", limited)).await.cause, Cause::RateLimit);
    assert_eq!(failure_of_json(plain_text("401 No", "who?")).await.cause, Cause::Unauthorized);
    let wrong = failure_of_json(plain_text("400 Bad", "Authentication failed")).await;
    assert_eq!(wrong.cause, Cause::Unauthorized);
    assert_eq!(wrong.message, "400 from 127.0.0.1: \"Authentication failed\"");
    let missing = failure_of_json(plain_text("404 Not Found", "too many cooks")).await;
    assert_eq!(missing.cause, Cause::NotFound, "a 404 is unambiguous");
    let problem = plain_response(
        "403 Forbidden",
        "Content-Type: application/problem+json\r\n",
        r#"{"type": "urn:ietf:params:jmap:error:limit", "limit": "maxConcurrentRequests"}"#,
    );
    assert_eq!(failure_of_json(problem).await.cause, Cause::RateLimit);
}

#[tokio::test]
async fn a_plausible_retry_after_is_honoured() {
    let response_with = |retry_after: &str| {
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        plain_response("429 Slow", &format!("{date}Retry-After: {retry_after}\r\n"), "")
    };
    for (retry_after, expected) in [
        ("120", Some(120)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        ("Sun, 06 Nov 1994 08:48:37 GMT", None),
        ("0", None),
        ("-1", None),
        ("1e30", None),
        ("soon", None),
    ] {
        let failure = failure_of_json(response_with(retry_after)).await;
        assert_eq!(failure.cause, Cause::RateLimit);
        assert_eq!(failure.retry_after, expected.map(Duration::from_secs), "{retry_after}");
    }
    let unavailable = plain_response("503 Busy", "Retry-After: 7\r\n", "");
    assert_eq!(failure_of_json(unavailable).await.retry_after, Some(Duration::from_secs(7)));
    let exhausted = plain_response("403 No", "X-RateLimit-Remaining: 0\r\n", "");
    assert_eq!(failure_of_json(exhausted).await.cause, Cause::RateLimit);
}

/// Returns a rule for a soft limit on documents that lasts for an hour.
fn soft_limit_rule() -> ErrorRule {
    ErrorRule {
        statuses: Vec::new(),
        header: None,
        body: Some(BodyCondition::Contains("soft limit".to_owned())),
        scope: RuleScope::Item,
        cause: Cause::RateLimit,
        wait: Some(Duration::from_secs(3600)),
        note: None,
        location: String::new(),
    }
}

#[tokio::test]
async fn user_rules_apply_first_and_only_in_their_scope() {
    let server = HostileServer::always_sending(plain_response(
        "400 Bad",
        "Retry-After: 5\r\n",
        "a SOFT Limit",
    ))
    .await;
    let options = HttpOptions {
        error_rules: vec![soft_limit_rule()],
        ..http_options(limits(), [&server.url])
    };
    let client = HttpClient::new(options, Rc::new(Unlimited)).unwrap();
    let authorization = authorization();
    let request = |expected| HttpRequest::get(&server.url, expected, &authorization);

    let item = client
        .fetch_streaming(
            &request(ExpectedContent::Document),
            None,
            ThrottleStrikes::default(),
            AttemptKind::First,
            &mut MemorySink::default(),
        )
        .await
        .unwrap_err();
    let listing =
        Failure::from(client.fetch_buffered(&request(ExpectedContent::Json)).await.unwrap_err());

    assert_eq!((item.cause, item.retry_after), (Cause::RateLimit, Some(Duration::from_secs(3600))));
    assert_eq!(
        (listing.cause, listing.retry_after),
        (Cause::Unknown, Some(Duration::from_secs(5)))
    );
}

/// Limiter that admits every request, and records the retry-after, the bytes and the outcome of
/// each response.
#[derive(Clone, Debug, Default)]
pub(super) struct RecordingLimiter(pub(super) Rc<RefCell<Vec<String>>>);

impl RequestLimiter for RecordingLimiter {
    fn acquire<'a>(
        &'a self,
        _request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Permit>) })
    }

    fn try_take_retry(&self, _scope: QuotaScope<'_>) -> bool {
        true
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Permit for RecordingLimiter {
    fn record_response_start(&mut self, _limits: ReportedLimits, _latency: Duration) {}

    fn record_retry_after(&mut self, wait: Duration) {
        self.0.borrow_mut().push(format!("{wait:?}"));
    }

    fn record_bytes(&mut self, bytes: u64) {
        self.0.borrow_mut().push(format!("{bytes} bytes"));
    }

    fn record_outcome(&mut self, outcome: ResponseOutcome) -> Option<Timestamp> {
        self.0.borrow_mut().push(format!("{outcome:?}"));
        None
    }
}

#[tokio::test]
async fn the_limiter_receives_the_wait_of_a_rule() {
    let limiter = RecordingLimiter::default();
    let server = HostileServer::always_sending(plain_response(
        "403 No",
        "Retry-After: 5\r\n",
        "a soft limit",
    ))
    .await;
    let url = &server.url;
    let options =
        HttpOptions { error_rules: vec![soft_limit_rule()], ..http_options(limits(), [url]) };
    let client = HttpClient::new(options, Rc::new(limiter.clone())).unwrap();
    let authorization = authorization();
    let request = HttpRequest::get(url, ExpectedContent::Document, &authorization);

    client
        .fetch_streaming(
            &request,
            None,
            ThrottleStrikes::default(),
            AttemptKind::First,
            &mut MemorySink::default(),
        )
        .await
        .unwrap_err();

    assert_eq!(*limiter.0.borrow(), ["3600s", "Throttled"]);
}

/// FAULTS 67: the bytes of a document count also if it is not complete.
#[tokio::test]
async fn the_limiter_receives_the_bytes_of_a_document() {
    let whole = plain_response("200 OK", "", "hello");
    let truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_vec();
    for (response, size, outcomes) in [
        (whole, 5, &["Accepted", "5 bytes"][..]),
        (truncated, 9, &["Accepted", "5 bytes", "Failed"]),
    ] {
        let limiter = RecordingLimiter::default();
        let server = HostileServer::always_sending(response).await;
        let options = http_options(limits(), [&server.url]);
        let client = HttpClient::new(options, Rc::new(limiter.clone())).unwrap();
        let authorization = authorization();
        let request = HttpRequest::get(&server.url, ExpectedContent::Document, &authorization);

        let fetched = client
            .fetch_streaming(
                &request,
                Some(size),
                ThrottleStrikes::default(),
                AttemptKind::First,
                &mut MemorySink::default(),
            )
            .await;

        assert_eq!(fetched.is_ok(), size == 5);
        assert_eq!(*limiter.0.borrow(), outcomes);
    }
}

#[tokio::test]
async fn the_response_is_kept_with_the_failure_without_secrets() {
    let headers = format!("Retry-After: 5\r\nSet-Cookie: a={SECRET}\r\nX-RateLimit-Limit: 9\r\n");
    let body = format!("{}{SECRET}{}", "x".repeat(2040), "y".repeat(2000));
    let failure = failure_of_json(plain_response("503 Busy", &headers, body)).await;

    let response = failure.response.unwrap();

    assert_eq!((response.status, response.is_truncated), (503, true));
    let names: Vec<_> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["retry-after", "x-ratelimit-limit", "content-length"]);
    assert_eq!(response.body, format!("{}[secret]", "x".repeat(2040)));
}

#[tokio::test]
async fn a_secret_that_the_server_repeats_is_not_quoted() {
    let echo = format!("the token {SECRET} has expired");
    let failure =
        failure_of_json(plain_response("401 No", "Content-Type: text/plain\r\n", echo)).await;
    assert_eq!(failure.message, "401 from 127.0.0.1: \"the token [secret] has expired\"");

    // If the text were truncated before masking, half of the secret would be left.
    let cut = format!("{}{SECRET}", "x".repeat(265));
    let failure =
        failure_of_json(plain_response("401 No", "Content-Type: text/plain\r\n", cut)).await;
    assert!(!failure.message.contains(&SECRET[..6]), "{failure}");

    // `bWU6czNjcmV0` is `me:s3cret` as Basic sends it.
    let server = HostileServer::always_sending(plain_response(
        "401 No",
        "Content-Type: text/plain\r\n",
        "bWU6czNjcmV0?",
    ))
    .await;
    let authorization =
        Authorization::Basic { username: "me".to_owned(), password: "s3cret".into() };
    let request = HttpRequest::get(&server.url, ExpectedContent::Json, &authorization);
    let error = client(limits(), &server.url).fetch_buffered(&request).await.unwrap_err();
    assert_eq!(error.failure.message, "401 from 127.0.0.1: \"[secret]?\"");
}

/// FAULTS base: no secret is stored in any encoding, even if a server echoes it.
#[tokio::test]
async fn an_encoded_secret_in_a_response_is_not_stored() {
    let header_value = format!("Bearer {SECRET}");
    let json = format!("{{\"a\": \"{SECRET}\", \"more\": 1}}");
    for echo in [
        BASE64.encode(SECRET),
        URL_SAFE.encode(&header_value),
        BASE64.encode(&json),
        URL_SAFE.encode(&json),
        SECRET.bytes().map(|byte| format!("{byte:02X}")).collect(),
    ] {
        let headers = format!("Content-Type: text/plain\r\nX-Request-Id: {echo}\r\n");
        let failure =
            failure_of_json(plain_response("401 No", &headers, format!("who is {echo}?"))).await;

        assert_eq!(failure.message, "401 from 127.0.0.1: \"who is [secret]?\"", "{echo}");
        let shown = format!("{failure:?}");
        assert!(!shown.contains(&echo[4..12]), "{shown}");
    }
}

#[tokio::test]
async fn rejected_requests_are_not_retried() {
    for (status, headers) in [
        ("429 Slow", ""),
        ("401 No", ""),
        ("404 None", ""),
        ("200 OK", "Content-Type: text/html\r\n"),
        ("503 Busy", "Retry-After: 9\r\n"),
        ("500 Oops", "Retry-After: 9\r\n"),
    ] {
        let server = HostileServer::always_sending(plain_response(status, headers, "")).await;
        get(&server.url, RequestLimits { retry_policy: request_retries(3), ..limits() })
            .await
            .unwrap_err();
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}
