//! JMAP service: session, credentials, error responses, URLs and concurrency.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cynosure::limiter::{Permit, PermitRequest, QuotaScope, RequestLimiter, Unlimited};
use cynosure::source::credential::Credential;
use cynosure::source::jmap::{JmapOptions, JmapSource};
use cynosure::source::{CredentialChange, Source as _};
use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use cynosure_engine::{
    BodyCondition, Cause, ErrorRule, Failure, RuleScope, StatusRange, Timestamp,
};
use futures_util::future::{LocalBoxFuture, join, join_all};
use serde_json::json;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use url::Url;

use super::{fetch, list_everything};
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};

#[tokio::test]
async fn a_changed_session_is_requested_again_once() {
    let served = FakeMailbox::with_emails(10).serve().await;
    let source = served.source();
    source.current_cursor().await.unwrap();
    // The responses report a session state that the session itself never has.
    served.with_mailbox(|mailbox| mailbox.session_state = "1".to_owned());

    list_everything(&source).await.unwrap();

    let sessions =
        served.server.requests().iter().filter(|request| request.path() == "/jmap/session").count();
    assert_eq!(sessions, 2);
}

#[tokio::test]
async fn a_refused_credential_is_read_again() {
    let served = FakeMailbox::with_emails(1).serve().await;
    let reads = AtomicUsize::new(0);
    let credential = Credential::new(move || {
        let token = if reads.fetch_add(1, Ordering::Relaxed) < 2 { "old" } else { "secret" };
        Box::pin(async move { Ok(token.into()) })
    });
    let source = JmapSource::new(served.options(), credential, Rc::new(Unlimited)).unwrap();

    assert_eq!(source.current_cursor().await.unwrap_err().cause, Cause::Unauthorized);
    assert_eq!(source.refresh_credential().await, Ok(CredentialChange::Unchanged));
    assert_eq!(source.refresh_credential().await, Ok(CredentialChange::Changed));
    assert!(source.current_cursor().await.is_ok());
}

#[tokio::test]
async fn an_error_response_is_classified_by_user_rules_and_kept() {
    let mut mailbox = FakeMailbox::with_emails(1);
    mailbox.override_method("Email/get", |_| {
        Some(json!({"type": "serverFail", "description": "daily limit of secret"}))
    });
    let served = mailbox.serve().await;
    let rule = ErrorRule {
        statuses: vec![StatusRange { first: 200, last: 200 }],
        header: None,
        body: Some(BodyCondition::Contains("daily limit".to_owned())),
        scope: RuleScope::Any,
        cause: Cause::RateLimit,
        wait: Some(Duration::from_secs(3600)),
        note: None,
        location: String::new(),
    };
    let without_rule = served.source().current_cursor().await.unwrap_err();
    let mut options = served.options();
    options.http.error_rules = vec![rule];
    let with_rule = served.source_with(options).current_cursor().await.unwrap_err();

    assert_eq!((without_rule.cause, without_rule.retry_after), (Cause::Server, None));
    assert_eq!(
        (with_rule.cause, with_rule.retry_after),
        (Cause::RateLimit, Some(Duration::from_secs(3600)))
    );
    let response = with_rule.response.unwrap();
    assert_eq!(response.status, 200);
    assert!(response.body.contains("daily limit of [secret]"), "{response:?}");
}

#[tokio::test]
async fn only_a_mail_that_was_deleted_is_gone() {
    let served = FakeMailbox::with_emails(3).serve().await;
    let source = served.source();
    source.current_cursor().await.unwrap();
    assert_eq!(fetch(&source, "M9").await.unwrap_err().cause, Cause::NotFound);

    // Downloads have moved: every one of them is a 404.
    served.with_mailbox(|mailbox| {
        mailbox.request_override = Some(("/get/", plain_response("404 None", "", "")));
    });
    let failure = fetch(&source, "M1").await.unwrap_err();
    assert_eq!(failure.cause, Cause::Server);
    assert_eq!(failure.message, "404 from 127.0.0.1, but the message exists");

    // The whole service has moved as well.
    served.with_mailbox(|mailbox| {
        mailbox.request_override = Some(("/", plain_response("404 None", "", "")));
    });
    assert_eq!(fetch(&source, "M1").await.unwrap_err().cause, Cause::Challenge);
}

#[tokio::test]
async fn a_wrong_url_says_what_to_check() {
    let served = FakeMailbox::with_emails(0).serve().await;
    let with_path = |path: &str| {
        let url = served.server.url.join(path).unwrap();
        served.source_with(JmapOptions { url, ..served.options() })
    };

    let missing = with_path("/wrong?key=s3cret").current_cursor().await.unwrap_err();
    assert_eq!(missing.cause, Cause::NotFound);
    assert!(missing.message.ends_with("/wrong (404): check `url`"), "{missing}");
    served.with_mailbox(|mailbox| mailbox.session = json!({"hello": "world"}));
    let other = served.source().current_cursor().await.unwrap_err();
    assert_eq!(other.cause, Cause::NotFound);
    assert!(other.message.contains("/.well-known/jmap is no JMAP service"), "{other}");
}

#[tokio::test]
async fn server_urls_stay_within_the_configured_origin() {
    let other = HostileServer::always_sending(plain_response("200 OK", "", "M1")).await;
    for name in ["apiUrl", "downloadUrl"] {
        let mut mailbox = FakeMailbox::with_emails(1);
        mailbox.session[name] = json!(other.url.join("x").unwrap().as_str());
        let served = mailbox.serve().await;

        let failure = served.source().current_cursor().await.unwrap_err();
        assert_eq!(failure.cause, Cause::Challenge);
        assert!(failure.message.contains(&other.url.origin().ascii_serialization()), "{failure}");
        assert!(failure.message.contains("allow_hosts"), "{failure}");
    }
    assert!(other.requests().is_empty());

    let served: ServedMailbox = {
        let mut mailbox = FakeMailbox::with_emails(2);
        mailbox.session["downloadUrl"] = json!(other.url.join("x").unwrap().as_str());
        mailbox.serve().await
    };
    let allowed_origins = vec![Url::origin(&other.url)];
    let mut options = served.options();
    options.http.allowed_origins = allowed_origins;
    let source = served.source_with(options);
    assert_eq!(fetch(&source, "M1").await.unwrap(), b"M1");
}

#[tokio::test]
async fn concurrency_respects_server_and_configuration() {
    let mut mailbox = FakeMailbox::with_emails(1);
    let core = "urn:ietf:params:jmap:core";
    mailbox.session["capabilities"][core]["maxConcurrentRequests"] = json!(3);
    let session =
        plain_response("200 OK", "Content-Type: application/json\r\n", mailbox.session.to_string());
    let served = mailbox.serve().await;
    let server = HostileServer::start(move |_, request| match request.path() {
        "/jmap/session" => vec![ConnectionAction::Send(session.clone())],
        _ => vec![ConnectionAction::StopResponding],
    })
    .await;
    let url = server.url.join("/jmap/session").unwrap();
    let source = served.source_with(JmapOptions { url, ..served.options() });

    let cursors = join_all((0..9).map(|_| source.current_cursor()));
    let fetches = join_all((0..9).map(|_| fetch(&source, "M0")));
    timeout(Duration::from_millis(300), join(cursors, fetches)).await.unwrap_err();

    let requests = server.requests();
    let count =
        |path: &str| requests.iter().filter(|request| request.path().starts_with(path)).count();
    assert_eq!(count("/jmap/session"), 1);
    assert_eq!(count("/jmap/") - 1, 3);
    assert_eq!(count("/get/"), 2);
}

/// Limiter that admits one request at a time.
#[derive(Debug, Default)]
struct SingleSlotLimiter(Arc<Mutex<()>>);

#[derive(Debug)]
struct SlotPermit(#[expect(dead_code, reason = "dropping it frees the slot")] OwnedMutexGuard<()>);

impl RequestLimiter for SingleSlotLimiter {
    fn acquire<'a>(
        &'a self,
        _request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        let slot = Arc::clone(&self.0);
        Box::pin(
            async move { Ok(Box::new(SlotPermit(slot.lock_owned().await)) as Box<dyn Permit>) },
        )
    }

    fn try_take_retry(&self, _scope: QuotaScope<'_>) -> bool {
        true
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Permit for SlotPermit {
    fn record_response_start(&mut self, _limits: ReportedLimits, _latency: Duration) {}

    fn record_retry_after(&mut self, _wait: Duration) {}

    fn record_outcome(&mut self, _outcome: ResponseOutcome) -> Option<Timestamp> {
        None
    }
}

#[tokio::test]
async fn a_response_frees_its_slot_before_the_session_is_reset() {
    let served = FakeMailbox::with_emails(1).serve().await;
    let reads = AtomicUsize::new(0);
    let credential = Credential::new(move || {
        let token = if reads.fetch_add(1, Ordering::Relaxed) < 1 { "secret" } else { "Secret" };
        Box::pin(async move { Ok(token.into()) })
    });
    let source =
        JmapSource::new(served.options(), credential, Rc::new(SingleSlotLimiter::default()))
            .unwrap();
    source.current_cursor().await.unwrap();
    served.with_mailbox(|mailbox| mailbox.session_state = "1".to_owned());

    // The first request holds the only slot while the second one waits for it to get a session.
    let reset_session = async {
        source.refresh_credential().await.unwrap();
        source.current_cursor().await
    };
    let both = timeout(Duration::from_secs(20), join(source.current_cursor(), reset_session)).await;

    let (first, _second) = both.expect("neither waits for the other");
    assert!(first.is_ok());
}
