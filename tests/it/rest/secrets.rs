//! Secrets of a session, which a server repeats in its responses: they are in no failure, no
//! recorded response, no log and no page token.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use cynosure::source::{DocumentRef, DynSource, Listing, ResponseRecorder, Source as _};
use cynosure_engine::{BlobId, Cause, DocumentId};
use serde_json::json;
use tracing::Level;
use tracing::subscriber::{DefaultGuard, set_default};

use super::{assert_failure, failure_of_listing};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};
use crate::sources::gmail::{JSON_TYPE, json_response};
use crate::sources::suite::SourceOptions;
use crate::sources::suite::extraction::{ListingProgress, fetch};
use crate::sources::suite::options::rest_source;

/// Part of every secret of the session.
const SECRET_MARK: &str = "s3cret";

const SESSION: &str = r#"{"email": "demo@example.com", "token": "t0ken-s3cret",
    "cookies": {"sid": "c00kie-s3cret", "unused": "other-s3cret"}, "key": "k3y-s3cret"}"#;

/// Source that sends the secrets in the URL, in a cookie, in a header and in a form.
const TABLE: &str = r#"kind = "rest"
headers = { X-Key = "{credential.key}" }

[source.work.auth]
type = "session"
session = { file = "session" }
cookies = ["sid"]
query = { token = "{credential.token}" }

[source.work.list]
get = "/list"
items = "/items"
id = "/id"
page = { kind = "link", from = "/next" }

[source.work.fetch]
post = "/raw"
form = { id = "{document.id}", key = "{credential.key}" }
"#;

/// Writer of the log lines of a test.
#[derive(Clone, Default)]
struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl Write for LogBuffer {
    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogBuffer {
    /// Takes the log lines of this thread, with all details, until the guard is dropped.
    fn subscribe(&self) -> DefaultGuard {
        let buffer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || buffer.clone())
            .finish();
        set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Source whose responses are recorded.
struct RecordedSource {
    source: DynSource,
    options: SourceOptions,
    records: Rc<RefCell<Vec<String>>>,
}

impl RecordedSource {
    fn new(server: &HostileServer) -> Self {
        let records = Rc::<RefCell<Vec<String>>>::default();
        let recorded = Rc::clone(&records);
        let recorder = ResponseRecorder::new(move |record| {
            recorded.borrow_mut().push(format!("{record:?}"));
        });
        let options = SourceOptions { recorder, attempts: 1, ..SourceOptions::new(SESSION) };
        Self { source: rest_source(&options, TABLE, &server.url), options, records }
    }

    /// Asserts that neither the records nor these texts have a secret.
    fn assert_no_secret(&self, texts: &[String]) {
        for text in self.records.borrow().iter().chain(texts) {
            assert!(!text.contains(SECRET_MARK), "{text}");
        }
    }
}

/// Returns the whole request on one line.
fn repeated(request: &ReceivedRequest) -> String {
    let body = String::from_utf8_lossy(&request.body);
    format!("{} {body}", request.head.replace("\r\n", " "))
}

#[tokio::test]
async fn a_secret_that_the_server_repeats_is_never_shown() {
    let responses: [fn(&str) -> Vec<u8>; 11] = [
        |echo| plain_response("403 Forbidden", "Content-Type: text/plain\r\n", echo),
        |echo| plain_response("404 Not Found", "Content-Type: text/html\r\n", echo),
        |echo| json_response("400 Bad", &json!({ "error": { "message": echo, "code": echo } })),
        |echo| json_response("401 Unauthorized", &json!({ "detail": echo })),
        |echo| json_response("429 Too Many", &json!({ "error_description": echo })),
        |echo| plain_response("503 Busy", &format!("X-Request-Id: {echo}\r\nVia: {echo}\r\n"), ""),
        |echo| plain_response("302 Found", &format!("Location: https://a.example/?{echo}\r\n"), ""),
        |echo| plain_response("200 OK", "Content-Type: text/html\r\n", echo),
        |echo| plain_response("200 OK", JSON_TYPE, echo),
        |echo| json_response("200 OK", &json!({ "items": echo, "other": echo })),
        |echo| json_response("200 OK", &json!({ "items": [{ "id": { "text": echo } }] })),
    ];
    let document = DocumentRef::new(DocumentId::new("m1"), BlobId::new("m1"), None);
    let log = LogBuffer::default();
    let guard = log.subscribe();
    for respond in responses {
        let server = HostileServer::start(move |_, request| {
            vec![ConnectionAction::Send(respond(&repeated(request)))]
        })
        .await;
        let recorded = RecordedSource::new(&server);

        let listed = failure_of_listing(&recorded.source).await;
        recorded.options.limiter.unblock();
        let fetched = fetch(&recorded.source, &document).await.unwrap_err();

        let requests: Vec<String> = server.requests().iter().map(repeated).collect();
        for secret in ["t0ken-s3cret", "c00kie-s3cret", "k3y-s3cret"] {
            assert!(requests.iter().all(|request| request.contains(secret)), "{requests:?}");
        }
        assert!(requests.iter().all(|request| !request.contains("other-s3cret")));
        recorded.assert_no_secret(&[format!("{listed:?}"), format!("{fetched:?}")]);
    }
    drop(guard);
    assert!(!log.text().contains(SECRET_MARK), "{}", log.text());
}

#[tokio::test]
async fn a_secret_in_a_link_is_in_no_page_token() {
    let server = HostileServer::start(|_, request| {
        let is_second = request.path().contains("page=2");
        let next = (!is_second).then_some("/list?page=2&token=t0ken-s3cret");
        let page = json!({ "items": [{ "id": request.path().len() }], "next": next });
        vec![ConnectionAction::Send(json_response("200 OK", &page))]
    })
    .await;
    let recorded = RecordedSource::new(&server);
    let mut listing = ListingProgress::default();

    listing.list_page(&recorded.source, &Listing::Full).await;
    let page_token = format!("{:?}", listing.page_token);
    listing.finish(&recorded.source, &Listing::Full).await;

    assert!(page_token.contains("page=2"), "{page_token}");
    recorded.assert_no_secret(&[page_token, format!("{:?}", listing.cursor)]);
    assert_eq!(server.requests()[1].path(), "/list?page=2&token=t0ken-s3cret");
}

#[tokio::test]
async fn an_incomplete_session_is_refused_and_never_shown() {
    let server = HostileServer::always_sending(json_response("200 OK", &json!({}))).await;
    for (session, words) in [
        ("s3cret", "the session is not JSON"),
        (r#"{"token": "t0ken-s3cret", "key": "k3y-s3cret"}"#, "the session has no cookie `sid`"),
        (
            r#"{"cookies": {"sid": "c00kie-s3cret"}, "key": "k3y-s3cret"}"#,
            "{credential.token} has no value",
        ),
        (
            r#"{"token": "t0ken-s3cret", "cookies": {"sid": "a;b s3cret"}, "key": "k3y"}"#,
            "the cookie `sid` of the session has characters that no cookie can have",
        ),
        (
            r#"{"token": "t0ken-s3cret", "cookies": {"sid": "c00kie-s3cret"}}"#,
            "{credential.key} has no value",
        ),
    ] {
        let options = SourceOptions::new(session);
        let source = rest_source(&options, TABLE, &server.url);

        let failure = source.current_cursor().await.unwrap_err();

        assert_failure(&failure, Cause::Unauthorized, words);
        assert!(!format!("{failure:?}").contains(SECRET_MARK), "{failure:?}");
    }
    assert_eq!(server.requests().len(), 0, "nothing is sent");
}
