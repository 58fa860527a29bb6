//! Tests of the refresh against a token endpoint on loopback.

use std::path::{Path, PathBuf};
use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use cynosure_engine::Cause;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::*;
use crate::oauth::client::OAuthEndpoints;

const ISSUED_AT: i64 = 1_700_000_000_000;
const LIFETIME: Duration = Duration::from_secs(3600);

/// First answer of a server that rotates refresh tokens.
const SECOND: (&str, &str) = (
    "200 OK",
    r#"{"access_token":"at-2","refresh_token":"rt-2","expires_in":3600,"token_type":"Bearer"}"#,
);
const CLIENT_REFUSED: (&str, &str) = ("401 Unauthorized", r#"{"error":"invalid_client"}"#);
const DENIED: (&str, &str) = ("400 Bad Request", r#"{"error":"invalid_grant"}"#);
const DOWN: (&str, &str) = ("503 Service Unavailable", "");

/// Account with a token file, and a token endpoint with scripted answers.
struct Account {
    home: TempDir,
    tokens: AccessTokens,
    /// Milliseconds since the token in the file was issued.
    age: Arc<AtomicI64>,
    client_secret: Arc<StdMutex<&'static str>>,
    refreshes: RefreshesInFlight,
    /// Requests to the token endpoint.
    requests: Arc<StdMutex<Vec<String>>>,
}

impl Account {
    /// Signs an account in. Its server gives these answers, and closes connections after them.
    async fn signed_in(answers: &[(&'static str, &'static str)]) -> Self {
        let account = Self::not_signed_in(answers).await;
        account.write("at-1", "rt-1");
        account
    }

    async fn not_signed_in(answers: &[(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let token_url = format!("http://{}/token", listener.local_addr().unwrap());
        let endpoints = OAuthEndpoints {
            authorize_url: None,
            token_url: Url::parse(&token_url).unwrap(),
            device_url: None,
        };
        let client = "client".to_owned();
        let client = OAuthClient::new("work", client, None, endpoints, Vec::new()).unwrap();
        let home = tempfile::tempdir().unwrap();
        let (age, requests) = (Arc::new(AtomicI64::new(0)), Arc::default());
        tokio::spawn(serve(listener, answers.to_vec(), Arc::clone(&requests)));
        let client_secret = Arc::new(StdMutex::new("cs-1"));
        let secret = Arc::clone(&client_secret);
        let read_client_secret = move || -> ClientSecretFuture {
            let secret = SecretString::from(*secret.lock().unwrap());
            Box::pin(async move { Ok(Some(secret)) })
        };
        let refreshes = RefreshesInFlight::default();
        let (file, now) = (token_file(home.path()), clock(&age));
        let tokens = AccessTokens::new(client, read_client_secret, file, refreshes.clone(), now);
        Self { home, tokens, age, client_secret, refreshes, requests }
    }

    /// Returns the tokens as another process with the same token file uses them.
    fn other_process(&self) -> AccessTokens {
        let client = self.tokens.shared.client.clone();
        let read_client_secret = || -> ClientSecretFuture { Box::pin(async { Ok(None) }) };
        let (file, refreshes) = (token_file(self.home.path()), RefreshesInFlight::default());
        AccessTokens::new(client, read_client_secret, file, refreshes, clock(&self.age))
    }

    fn write(&self, access_token: &str, refresh_token: &str) {
        let client = &self.tokens.shared.client;
        let token = StoredToken {
            client_id: client.client_id.clone(),
            token_url: client.endpoints.token_url.to_string(),
            scope: None,
            access_token: access_token.into(),
            refresh_token: Some(refresh_token.into()),
            expires_at: Some(Timestamp(ISSUED_AT).after(LIFETIME)),
            issued_at: Timestamp(ISSUED_AT),
        };
        token_file(self.home.path()).save(&token).unwrap();
    }

    fn in_file(&self) -> StoredToken {
        token_file(self.home.path()).load().unwrap().unwrap()
    }

    /// Puts a folder in place of the temporary file, so that every write fails.
    fn block_writes(&self) -> PathBuf {
        let obstacle = self.home.path().join(".token.json.tmp");
        std::fs::create_dir(&obstacle).unwrap();
        obstacle
    }

    fn set_age(&self, seconds: i64) {
        self.age.store(seconds * 1000, Ordering::Relaxed);
    }

    async fn current(&self) -> Result<String, OAuthError> {
        exposed(self.tokens.current().await)
    }

    async fn renewed(&self) -> Result<String, OAuthError> {
        exposed(self.tokens.renew().await)
    }

    /// Waits until the server has a request.
    async fn requested(&self) {
        while self.request_count() == 0 {
            tokio::task::yield_now().await;
        }
    }

    fn request_count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn exposed(token: Result<SecretString, OAuthError>) -> Result<String, OAuthError> {
    token.map(|token| token.expose_secret().to_owned())
}

/// Returns the clock of an account whose token has this age.
fn clock(age: &Arc<AtomicI64>) -> impl Fn() -> Timestamp + Send + Sync + use<> {
    let age = Arc::clone(age);
    move || Timestamp(ISSUED_AT + age.load(Ordering::Relaxed))
}

fn token_file(home: &Path) -> TokenFile {
    TokenFile::new(home.join("token.json"))
}

/// Answers one request per connection.
async fn serve(
    listener: TcpListener,
    answers: Vec<(&'static str, &'static str)>,
    requests: Arc<StdMutex<Vec<String>>>,
) {
    let mut answers = answers.into_iter();
    loop {
        let (mut stream, _address) = listener.accept().await.unwrap();
        let request = read_form(&mut stream).await;
        requests.lock().unwrap().push(request);
        let Some((status, body)) = answers.next() else { continue };
        let length = body.len();
        let response = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(response.as_bytes()).await.unwrap();
    }
}

/// Reads a request to the end of its form, which ends with a refresh token such as `rt-1`.
async fn read_form(stream: &mut TcpStream) -> String {
    let mut request = Vec::<u8>::new();
    while !request.windows(17).any(|text| text == b"refresh_token=rt-") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "an incomplete request");
    }
    String::from_utf8(request).unwrap()
}

#[tokio::test]
async fn a_token_is_refreshed_after_three_quarters_of_its_life() {
    let account = Account::signed_in(&[SECOND]).await;

    assert_eq!(account.current().await.unwrap(), "at-1");
    account.set_age(2699);
    assert_eq!(account.current().await.unwrap(), "at-1");
    assert_eq!(account.request_count(), 0);

    account.set_age(2700);
    assert_eq!(account.current().await.unwrap(), "at-2");
    assert_eq!(account.current().await.unwrap(), "at-2");
    assert_eq!(account.request_count(), 1);
    assert_eq!(account.in_file().refresh_token.unwrap().expose_secret(), "rt-2");
    assert_eq!(account.in_file().expires_at, Some(Timestamp(ISSUED_AT + 6_300_000)));
}

#[tokio::test]
async fn callers_share_one_refresh() {
    let account = Account::signed_in(&[SECOND]).await;
    account.set_age(3000);

    let (one, other) = tokio::join!(account.current(), account.current());

    assert_eq!((one.unwrap(), other.unwrap()), ("at-2".to_owned(), "at-2".to_owned()));
    assert_eq!(account.request_count(), 1);
}

#[tokio::test]
async fn callers_with_the_same_rejected_token_share_one_refresh() {
    let account = Account::signed_in(&[SECOND]).await;
    account.current().await.unwrap();

    let (one, other) = tokio::join!(account.renewed(), account.renewed());

    assert_eq!((one.unwrap(), other.unwrap()), ("at-2".to_owned(), "at-2".to_owned()));
    assert_eq!(account.request_count(), 1);
}

#[tokio::test]
async fn a_newer_token_in_the_file_is_used_instead_of_a_refresh() {
    let account = Account::signed_in(&[]).await;
    account.current().await.unwrap();

    account.write("at-9", "rt-9");

    assert_eq!(account.renewed().await.unwrap(), "at-9");
    assert_eq!(account.current().await.unwrap(), "at-9");
    assert_eq!(account.request_count(), 0);
}

#[tokio::test]
async fn a_valid_token_outlasts_a_failing_server() {
    let account = Account::signed_in(&[DOWN, DOWN, SECOND]).await;

    account.set_age(2700);
    assert_eq!(account.current().await.unwrap(), "at-1");
    account.set_age(2759);
    assert_eq!(account.current().await.unwrap(), "at-1");
    assert_eq!(account.request_count(), 1, "the next attempt is a minute later");

    account.set_age(3600);
    let error = account.current().await.unwrap_err();
    assert!(matches!(error, OAuthError::Transient { .. }), "{error}");
    assert_eq!(account.current().await.unwrap(), "at-2");
}

#[tokio::test]
async fn a_refused_refresh_is_final() {
    let account = Account::signed_in(&[DENIED]).await;
    account.set_age(2700);

    let OAuthError::Denied(denial) = account.current().await.unwrap_err() else {
        panic!("invalid_grant is final");
    };

    assert_eq!(denial.error, "invalid_grant");
    assert_eq!(account.in_file().access_token.expose_secret(), "at-1");
}

#[tokio::test]
async fn without_a_token_file_the_account_is_not_signed_in() {
    let account = Account::not_signed_in(&[]).await;

    let error = account.current().await.unwrap_err();
    assert!(error.to_string().contains("not signed in yet"), "{error}");

    account.write("at-1", "rt-1");
    assert_eq!(account.current().await.unwrap(), "at-1");
}

#[tokio::test]
async fn the_tokens_of_another_client_are_sent_nowhere() {
    let account = Account::signed_in(&[]).await;
    let mut token = account.in_file();
    token.client_id = "other".to_owned();
    token_file(account.home.path()).save(&token).unwrap();

    let error = account.current().await.unwrap_err();

    assert!(error.to_string().contains("belongs to another `client_id`"), "{error}");
    assert_eq!(account.request_count(), 0);
}

#[tokio::test]
async fn nothing_is_refreshed_while_the_file_cannot_be_written() {
    let account = Account::signed_in(&[SECOND]).await;
    let obstacle = account.block_writes();

    account.set_age(2700);
    assert_eq!(account.current().await.unwrap(), "at-1", "the old token is still valid");
    let error = account.renewed().await.unwrap_err();
    assert!(matches!(error, OAuthError::Storage(_)), "{error}");
    assert_eq!(account.request_count(), 0, "the refresh token is not used");

    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(account.renewed().await.unwrap(), "at-2");
    assert_eq!(account.request_count(), 1);
}

#[tokio::test]
async fn a_token_that_cannot_be_written_is_used_once_it_is_durable() {
    let account = Account::signed_in(&[]).await;
    account.current().await.unwrap();
    let obstacle = account.block_writes();
    let previous = account.in_file();
    let token = StoredToken {
        access_token: "at-2".into(),
        refresh_token: Some("rt-2".into()),
        ..previous.clone()
    };

    let shared = &account.tokens.shared;
    let mut cache = shared.cache.lock().await;
    let error = shared.save(&mut cache, UnsavedToken { token, previous }).await.unwrap_err();
    drop(cache);
    assert!(matches!(error, OAuthError::Storage(_)), "{error}");
    assert_eq!(account.in_file().access_token.expose_secret(), "at-1");
    let error = account.renewed().await.unwrap_err();
    assert!(matches!(error, OAuthError::Storage(_)), "{error}");

    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(account.renewed().await.unwrap(), "at-2");
    assert_eq!(account.in_file().refresh_token.unwrap().expose_secret(), "rt-2");
    assert_eq!(account.request_count(), 0);
}

#[tokio::test]
async fn a_refresh_whose_caller_stops_waiting_is_not_lost() {
    let account = Account::signed_in(&[SECOND]).await;
    account.set_age(2700);

    tokio::select! {
        biased;
        () = account.requested() => {}
        result = account.current() => panic!("the caller waits for the answer: {result:?}"),
    }

    assert_eq!(account.current().await.unwrap(), "at-2");
    assert_eq!(account.request_count(), 1);
}

#[tokio::test]
async fn the_end_of_a_process_waits_for_a_refresh() {
    let account = Account::signed_in(&[SECOND]).await;
    account.set_age(2700);
    tokio::select! {
        biased;
        () = account.requested() => {}
        result = account.current() => panic!("the caller waits for the answer: {result:?}"),
    }

    account.refreshes.wait().await;

    assert_eq!(account.in_file().refresh_token.unwrap().expose_secret(), "rt-2");
}

#[tokio::test]
async fn processes_with_one_token_file_share_one_refresh() {
    let account = Account::signed_in(&[SECOND]).await;
    let other = account.other_process();
    assert_eq!(account.current().await.unwrap(), "at-1");
    assert_eq!(exposed(other.current().await).unwrap(), "at-1");
    account.set_age(2700);

    let (one, two) = tokio::join!(account.current(), other.current());

    assert_eq!((one.unwrap(), exposed(two).unwrap()), ("at-2".to_owned(), "at-2".to_owned()));
    assert_eq!(account.request_count(), 1);
}

#[tokio::test]
async fn processes_with_the_same_rejected_token_share_one_refresh() {
    let account = Account::signed_in(&[SECOND]).await;
    let other = account.other_process();
    account.current().await.unwrap();
    other.current().await.unwrap();

    let (one, two) = tokio::join!(account.renewed(), other.renew());

    assert_eq!((one.unwrap(), exposed(two).unwrap()), ("at-2".to_owned(), "at-2".to_owned()));
    assert_eq!(account.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_stays_held_is_no_refused_credential() {
    let account = Account::signed_in(&[]).await;
    let _lock = token_file(account.home.path()).lock().await.unwrap();

    account.set_age(2700);
    assert_eq!(account.current().await.unwrap(), "at-1", "the old token is still valid");
    account.set_age(3600);
    let error = account.current().await.unwrap_err();

    assert_eq!(error.to_failure().cause, Cause::Connection, "{error}");
    assert_eq!(account.request_count(), 0);
}

#[tokio::test]
async fn a_replaced_client_secret_is_sent_with_the_next_refresh() {
    let account = Account::signed_in(&[CLIENT_REFUSED, SECOND]).await;
    account.set_age(3600);
    let error = account.current().await.unwrap_err();
    assert!(matches!(error, OAuthError::Misconfigured(_)), "{error}");

    *account.client_secret.lock().unwrap() = "cs-2";

    assert_eq!(account.current().await.unwrap(), "at-2");
    let requests = account.requests.lock().unwrap().clone();
    assert!(requests[0].contains("client_secret=cs-1&"), "{requests:?}");
    assert!(requests[1].contains("client_secret=cs-2&"), "{requests:?}");
}
