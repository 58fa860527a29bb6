//! Answers that are not what was asked for, and what they say.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD as BASE64, BASE64_URL_SAFE as URL_SAFE};
use cynosure::engine::rate_limit::{HeaderNames, RateLimitHeaders, ReplyOutcome, parse_headers};
use cynosure::engine::{
    BodyCondition, Cause, ErrorRule, Failure, RuleScope, ThrottleStrikes, Timestamp,
};
use cynosure::source::MetricsHandle;
use cynosure::source::http::{
    AttemptKind, Authorization, ExpectedContent, HttpClient, HttpRequest, Permit, ProxyMode,
    RequestInfo, RequestLimiter, RequestLimits,
};
use futures_util::future::LocalBoxFuture;

use super::{
    Kept, SECRET, attempts, cause_of_document, client, failure_of_json, fetch, get, limits, pass,
};
use crate::hostile::{Hostile, plain};

#[tokio::test]
async fn a_success_that_nobody_asked_for_is_a_challenge() {
    for (status, headers) in [
        ("206 Partial Content", "Content-Range: bytes 0-4/9\r\n"),
        ("203 Non-Authoritative Information", ""),
        ("300 Multiple Choices", ""),
        ("200 OK", "Content-Encoding: gzip\r\n"),
        ("200 OK", "Content-Encoding: identity\r\nContent-Encoding: br\r\n"),
        ("200 OK", "Content-Type: text/html; charset=utf-8\r\n"),
        ("200 OK", "Content-Type: application/problem+json\r\n"),
    ] {
        let bytes = plain(status, headers, "hello");
        assert_eq!(cause_of_document(bytes, Some(5)).await, Cause::Challenge, "{status} {headers}");
    }
    for status in ["204 No Content", "304 Not Modified"] {
        let bytes = format!("HTTP/1.1 {status}\r\n\r\n");
        assert_eq!(cause_of_document(bytes, Some(0)).await, Cause::Challenge, "{status}");
    }
    let invented = plain("999 Go Away", "", "hello");
    assert_eq!(cause_of_document(invented, Some(5)).await, Cause::Unknown);
}

/// FAULTS 23: codings are named in any case and in lists (RFC 9110 §8.4.1).
#[tokio::test]
async fn a_coding_that_changes_nothing_is_no_compression() {
    for coding in ["IDENTITY", "", "identity, Identity", ", identity", "\tidentity "] {
        let headers = format!("Content-Encoding: {coding}\r\n");
        let server = Hostile::saying(plain("200 OK", &headers, "hello")).await;

        let fetched = fetch(&server.url, limits(), Some(5)).await;

        assert_eq!(fetched.map(|kept| kept.bytes), Ok(b"hello".to_vec()), "{coding:?}");
    }
    let listed = plain("200 OK", "Content-Encoding: identity, GZIP\r\n", "hello");
    assert_eq!(cause_of_document(listed, Some(5)).await, Cause::Challenge);
}

/// FAULTS 54: no request can have a URL of 64 kB or more.
#[tokio::test]
async fn a_url_that_cannot_be_sent_is_not_the_credentials_fault() {
    let server = Hostile::saying(plain("200 OK", "", "hello")).await;
    let long = server.url.join(&"x".repeat(70_000)).unwrap();

    let document = fetch(&long, limits(), Some(5)).await.map(|_| ()).unwrap_err();
    let listing = get(&long, limits()).await.unwrap_err();

    assert_eq!((document.cause, listing.cause), (Cause::TooLarge, Cause::Challenge));
    assert!(document.message.contains("a URL of 700"), "{document}");
    assert_eq!(server.asked().len(), 0);
}

/// FAULTS 54: the other thing that no request can carry.
#[tokio::test]
async fn a_credential_that_cannot_be_sent_is_refused_as_one() {
    let server = Hostile::saying(plain("200 OK", "", "{}")).await;
    let pass = Authorization::Bearer { token: "s3cret\ntoken".into() };
    let ask = HttpRequest {
        url: &server.url,
        json_body: None,
        expected: ExpectedContent::Document,
        authorization: &pass,
    };

    let failure = client(limits(), &server.url)
        .fetch_streaming(
            &ask,
            None,
            ThrottleStrikes::default(),
            AttemptKind::First,
            &mut Kept::default(),
        )
        .await
        .unwrap_err();

    assert_eq!(failure.cause, Cause::Unauthorized);
    assert!(failure.message.contains("no HTTP header can carry"), "{failure}");
    assert_eq!(server.asked().len(), 0);
}

/// FAULTS 24, 50: a page may speak of anything.
#[tokio::test]
async fn a_page_in_place_of_json_is_a_challenge_whatever_it_says() {
    let page = |body| plain("200 OK", "Content-Type: text/html\r\n", body);

    let login = failure_of_json(page("<title>Sign in</title>")).await;
    assert_eq!(login.cause, Cause::Challenge);
    assert_eq!(login.message, "200 from 127.0.0.1: text/html in place of what was asked for");
    assert_eq!(failure_of_json(page("Too Many Requests")).await.cause, Cause::Challenge);
    let page = plain("200 OK", "Content-Type: text/html\r\n", "<p>rate limit</p>");
    assert_eq!(cause_of_document(page, Some(17)).await, Cause::Challenge);
}

/// FAULTS 50.
#[tokio::test]
async fn a_document_that_the_server_cannot_make_is_a_failure_of_the_server() {
    let parts =
        plain("500 Oops", "Content-Type: text/plain\r\n", "message has too many MIME parts");
    assert_eq!(cause_of_document(parts, None).await, Cause::Server);
    let session = plain(
        "200 OK",
        "Content-Type: application/json\r\n",
        r#"{"capabilities": {"urn:ietf:params:jmap:core": {"maxConcurrentRequests": 4}}}"#,
    );
    assert_eq!(cause_of_document(session, None).await, Cause::Challenge);
}

#[tokio::test]
async fn what_the_body_says_decides_where_the_status_does_not() {
    let plain_text = |status, body| plain(status, "Content-Type: text/plain\r\n", body);

    assert_eq!(failure_of_json(plain_text("407 Who", "")).await.cause, Cause::Proxy);
    let limited = "451 Already reached per-10 minute limit for logins ... try again later";
    assert_eq!(failure_of_json(plain_text("401 No", limited)).await.cause, Cause::RateLimit);
    assert_eq!(failure_of_json(plain_text("401 No", "who?")).await.cause, Cause::Unauthorized);
    let wrong = failure_of_json(plain_text("400 Bad", "Authentication failed")).await;
    assert_eq!(wrong.cause, Cause::Unauthorized);
    assert_eq!(wrong.message, "400 from 127.0.0.1: \"Authentication failed\"");
    let missing = failure_of_json(plain_text("404 Not Found", "too many cooks")).await;
    assert_eq!(missing.cause, Cause::NotFound, "a 404 leaves no doubt");
    let problem = plain(
        "403 Forbidden",
        "Content-Type: application/problem+json\r\n",
        r#"{"type": "urn:ietf:params:jmap:error:limit", "limit": "maxConcurrentRequests"}"#,
    );
    assert_eq!(failure_of_json(problem).await.cause, Cause::RateLimit);
}

#[tokio::test]
async fn a_server_that_names_a_time_is_obeyed_where_that_is_sane() {
    let at = |retry_after: &str| {
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        plain("429 Slow", &format!("{date}Retry-After: {retry_after}\r\n"), "")
    };
    for (retry_after, told) in [
        ("120", Some(120)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        ("Sun, 06 Nov 1994 08:48:37 GMT", None),
        ("0", None),
        ("-1", None),
        ("1e30", None),
        ("soon", None),
    ] {
        let failure = failure_of_json(at(retry_after)).await;
        assert_eq!(failure.cause, Cause::RateLimit);
        assert_eq!(failure.retry_after, told.map(Duration::from_secs), "{retry_after}");
    }
    let unhurried = plain("503 Busy", "Retry-After: 7\r\n", "");
    assert_eq!(failure_of_json(unhurried).await.retry_after, Some(Duration::from_secs(7)));
    let spent = plain("403 No", "X-RateLimit-Remaining: 0\r\n", "");
    assert_eq!(failure_of_json(spent).await.cause, Cause::RateLimit);
}

/// What a user knows: that a soft limit on documents lasts for an hour.
fn soft_limit() -> ErrorRule {
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
async fn the_users_rules_are_asked_first_and_only_where_they_reach() {
    let server = Hostile::saying(plain("400 Bad", "Retry-After: 5\r\n", "a SOFT Limit")).await;
    let client = client(limits(), &server.url).with_error_rules(vec![soft_limit()]);
    let pass = pass();
    let ask = |wants| HttpRequest {
        url: &server.url,
        json_body: None,
        expected: wants,
        authorization: &pass,
    };

    let item = client
        .fetch_streaming(
            &ask(ExpectedContent::Document),
            None,
            ThrottleStrikes::default(),
            AttemptKind::First,
            &mut Kept::default(),
        )
        .await
        .unwrap_err();
    let listing =
        Failure::from(client.fetch_buffered(&ask(ExpectedContent::Json)).await.unwrap_err());

    assert_eq!((item.cause, item.retry_after), (Cause::RateLimit, Some(Duration::from_secs(3600))));
    assert_eq!(
        (listing.cause, listing.retry_after),
        (Cause::Unknown, Some(Duration::from_secs(5)))
    );
}

/// A gate that lets everyone through and writes down what it was told, and the verdict.
#[derive(Clone, Debug, Default)]
struct Listening(Rc<RefCell<Vec<String>>>);

impl RequestLimiter for Listening {
    fn acquire<'a>(
        &'a self,
        _request: RequestInfo<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Permit>) })
    }

    fn try_take_retry(&self, _request: RequestInfo<'_>) -> bool {
        true
    }

    fn parse_headers(&self, headers: &[(&str, &str)]) -> RateLimitHeaders {
        parse_headers(headers, &HeaderNames::default(), Timestamp::default())
    }
}

impl Permit for Listening {
    fn record_head(&mut self, _signals: RateLimitHeaders, _latency: Duration) {}

    fn record_retry_after(&mut self, wait: Duration) {
        self.0.borrow_mut().push(format!("{wait:?}"));
    }

    fn record_outcome(&mut self, outcome: ReplyOutcome) -> Option<Timestamp> {
        self.0.borrow_mut().push(format!("{outcome:?}"));
        None
    }
}

#[tokio::test]
async fn the_gate_hears_how_long_a_rule_says_to_stay_away() {
    let heard = Listening::default();
    let server = Hostile::saying(plain("403 No", "Retry-After: 5\r\n", "a soft limit")).await;
    let url = &server.url;
    let gate = Rc::new(heard.clone());
    let client = HttpClient::new(
        limits(),
        vec![url.origin()],
        &ProxyMode::Direct,
        gate,
        MetricsHandle::default(),
    )
    .unwrap();
    let client = client.with_error_rules(vec![soft_limit()]);
    let pass = pass();
    let ask = HttpRequest {
        url,
        json_body: None,
        expected: ExpectedContent::Document,
        authorization: &pass,
    };

    client
        .fetch_streaming(
            &ask,
            None,
            ThrottleStrikes::default(),
            AttemptKind::First,
            &mut Kept::default(),
        )
        .await
        .unwrap_err();

    assert_eq!(*heard.0.borrow(), ["3600s", "Throttled"]);
}

#[tokio::test]
async fn what_was_replied_is_kept_with_the_failure_but_for_secrets() {
    let headers = format!("Retry-After: 5\r\nSet-Cookie: a={SECRET}\r\nX-RateLimit-Limit: 9\r\n");
    let body = format!("{}{SECRET}{}", "x".repeat(2040), "y".repeat(2000));
    let failure = failure_of_json(plain("503 Busy", &headers, body)).await;

    let reply = failure.response.unwrap();

    assert_eq!((reply.status, reply.is_truncated), (503, true));
    let names: Vec<_> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["retry-after", "x-ratelimit-limit", "content-length"]);
    assert_eq!(reply.body, format!("{}[secret]", "x".repeat(2040)));
}

#[tokio::test]
async fn a_secret_that_the_server_repeats_is_not_quoted() {
    let echo = format!("the token {SECRET} has expired");
    let failure = failure_of_json(plain("401 No", "Content-Type: text/plain\r\n", echo)).await;
    assert_eq!(failure.message, "401 from 127.0.0.1: \"the token [secret] has expired\"");

    // Cut by the limit of the text, half of it would be left.
    let far = format!("{}{SECRET}", "x".repeat(265));
    let failure = failure_of_json(plain("401 No", "Content-Type: text/plain\r\n", far)).await;
    assert!(!failure.message.contains(&SECRET[..6]), "{failure}");

    // `bWU6czNjcmV0` is `me:s3cret` as Basic sends it.
    let server =
        Hostile::saying(plain("401 No", "Content-Type: text/plain\r\n", "bWU6czNjcmV0?")).await;
    let pass = Authorization::Basic { username: "me".to_owned(), password: "s3cret".into() };
    let ask = HttpRequest {
        url: &server.url,
        json_body: None,
        expected: ExpectedContent::Json,
        authorization: &pass,
    };
    let refusal = client(limits(), &server.url).fetch_buffered(&ask).await.unwrap_err();
    assert_eq!(refusal.failure.message, "401 from 127.0.0.1: \"[secret]?\"");
}

/// FAULTS, base: no secret is kept in any form, also where a server repeats what it was sent.
#[tokio::test]
async fn a_secret_that_is_repeated_encoded_is_kept_nowhere() {
    let whole = format!("Bearer {SECRET}");
    let json = format!("{{\"a\": \"{SECRET}\", \"more\": 1}}");
    for echo in [
        BASE64.encode(SECRET),
        URL_SAFE.encode(&whole),
        BASE64.encode(&json),
        URL_SAFE.encode(&json),
        SECRET.bytes().map(|byte| format!("{byte:02X}")).collect(),
    ] {
        let headers = format!("Content-Type: text/plain\r\nX-Request-Id: {echo}\r\n");
        let failure = failure_of_json(plain("401 No", &headers, format!("who is {echo}?"))).await;

        assert_eq!(failure.message, "401 from 127.0.0.1: \"who is [secret]?\"", "{echo}");
        let shown = format!("{failure:?}");
        assert!(!shown.contains(&echo[4..12]), "{shown}");
    }
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again() {
    for (status, headers) in [
        ("429 Slow", ""),
        ("401 No", ""),
        ("404 None", ""),
        ("200 OK", "Content-Type: text/html\r\n"),
        ("503 Busy", "Retry-After: 9\r\n"),
        ("500 Oops", "Retry-After: 9\r\n"),
    ] {
        let server = Hostile::saying(plain(status, headers, "")).await;
        get(&server.url, RequestLimits { retry_policy: attempts(3), ..limits() })
            .await
            .unwrap_err();
        assert_eq!(server.asked().len(), 1, "{status}");
    }
}
