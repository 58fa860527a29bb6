//! A JMAP server (RFC 8620, RFC 8621) over HTTP/1.1, as far as reading a mailbox goes.

mod answer;
mod api;
mod counters;
mod methods;
mod session;
mod traffic;

use std::convert::Infallible;
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method as Verb, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use self::answer::{Manner, Outgoing};
use self::api::MethodError;
use self::methods::Method;
use self::session::REQUEST_BYTES_MAX;
use self::traffic::Traffic;
use super::base64;
use super::credential::Credential;
use super::faults::{Mishap, Plan, Refusal};
use super::mailbox::{Mailbox, MessageNo};

pub use self::counters::Counters;

/// Pause after a failed accept, which means that files or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// So long after the old token expired, the new one is put into its file.
const RENEWAL_DELAY: Duration = Duration::from_secs(3);

/// The service, shared by its connections. Its two locks are never held together.
#[derive(Debug)]
pub(super) struct Service {
    username: String,
    /// The value of a valid `Authorization: Basic`.
    basic: String,
    mailbox: Mutex<Mailbox>,
    traffic: Mutex<Traffic>,
}

/// One request in progress; dropped when its last byte is handed over or its connection ends.
#[derive(Debug)]
struct Slot(Arc<Service>);

/// The connection is to end without an answer.
#[derive(Debug)]
struct Dropped;

/// What a path stands for.
#[derive(Debug)]
enum Endpoint<'a> {
    Discovery,
    Session,
    Api,
    Download { account: &'a str, blob: &'a str },
    Nothing,
}

type Answer = Result<Response<Outgoing>, Dropped>;

impl Service {
    pub(super) fn new(
        mailbox: Mailbox,
        plan: Plan,
        credential: Credential,
        username: &str,
        password: &str,
    ) -> Self {
        Self {
            username: username.to_owned(),
            basic: base64::encode(format!("{username}:{password}").as_bytes()),
            mailbox: Mutex::new(mailbox),
            traffic: Mutex::new(Traffic::new(plan, credential)),
        }
    }

    pub(super) fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counters(&self) -> Counters {
        self.traffic().counters()
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves connections for ever.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    tokio::spawn(Arc::clone(&self).converse(stream, peer));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Without it, the second half of an answer waits for the acknowledgement of the first.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "cannot turn off the delay of small packets");
        }
        let service = service_fn(|request| Arc::clone(&self).respond(request));
        if let Err(error) =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
        {
            tracing::debug!(%error, %peer, "connection ended early");
        }
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        if let Some(command) = path.strip_prefix("/demo/") {
            return Ok(self.obey(request.method(), command, request.uri().query()));
        }
        let endpoint = Endpoint::of(request.method(), path);
        let refusal = self.traffic().admit(&endpoint, Instant::now());
        if let Some(refusal) = refusal {
            return refuse(refusal);
        }
        if let Endpoint::Discovery = endpoint {
            return Ok(answer::redirect(session::PATH));
        }
        self.expire_token_if_due();
        if !self.is_authorized(request.headers().get(header::AUTHORIZATION)) {
            return Ok(unauthorized());
        }
        let Some(slot) = self.enter() else {
            return Ok(too_many_at_once());
        };
        match endpoint {
            Endpoint::Session => Ok(held(answer::json(&session::object(&self.username)), slot)),
            Endpoint::Api => {
                let refusal = self.traffic().refuse_api();
                match refusal {
                    Some(refusal) => refuse(refusal),
                    None => Ok(held(self.call_methods(request).await, slot)),
                }
            }
            Endpoint::Download { account, blob } => {
                self.download(account, blob, request.uri().query(), slot).await
            }
            Endpoint::Discovery | Endpoint::Nothing => Ok(nothing_here()),
        }
    }

    async fn call_methods(&self, request: Request<Incoming>) -> Response<Outgoing> {
        let media_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !media_type.is_some_and(|media_type| media_type.starts_with(b"application/json")) {
            return *api::refuse("notJSON", "the Content-Type is not application/json", None);
        }
        let body = match Limited::new(request, REQUEST_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return *api::refuse("limit", &error.to_string(), Some("maxSizeRequest"));
            }
        };
        let request = match api::parse(&body) {
            Ok(request) => request,
            Err(refusal) => return *refusal,
        };
        answer::json(&api::run(request, |name, arguments| {
            let method = Method::named(name);
            self.traffic().count_call(method.map_or("unknown", Method::name));
            let method = method.ok_or_else(|| MethodError::new("unknownMethod", name))?;
            method.call(&mut self.mailbox(), arguments)
        }))
    }

    async fn download(
        self: &Arc<Self>,
        account: &str,
        blob: &str,
        query: Option<&str>,
        slot: Slot,
    ) -> Answer {
        let found = match account {
            session::ACCOUNT_ID => self.find(blob),
            _ => None,
        };
        let Some((number, alone)) = found else { return Ok(nothing_here()) };
        let mut manner = Manner::AtOnce;
        let mishap = self.traffic().befall_download(number, alone);
        match mishap {
            None => {}
            Some(Mishap::Refused(refusal)) => return refuse(refusal),
            Some(Mishap::Vanish) => {
                self.mailbox().destroy_message(number);
                return Ok(nothing_here());
            }
            Some(Mishap::Late(delay)) => sleep(delay).await,
            Some(Mishap::Drip) => manner = Manner::DRIP,
            Some(Mishap::Cut) => manner = Manner::Cut,
        }
        let (message, size) = {
            let mailbox = self.mailbox();
            (mailbox.message(number), mailbox.size(number))
        };
        let media_type = parameter(query, "type").unwrap_or_default();
        Ok(answer::mail(number, message, size, &media_type, manner, slot))
    }

    /// Finds a message by its blob, and tells whether its thread has no other.
    fn find(&self, blob: &str) -> Option<(MessageNo, bool)> {
        let mailbox = self.mailbox();
        let number = mailbox.find_blob(blob)?;
        let alone = mailbox.messages_of(mailbox.thread_of(number)).len() == 1;
        Some((number, alone))
    }

    fn enter(self: &Arc<Self>) -> Option<Slot> {
        self.traffic().enter().then(|| Slot(Arc::clone(self)))
    }

    fn is_authorized(&self, given: Option<&HeaderValue>) -> bool {
        let given = given.and_then(|given| given.to_str().ok()).unwrap_or_default();
        let (scheme, proof) = given.split_once(' ').unwrap_or_default();
        let mut traffic = self.traffic();
        let is_right = (scheme.eq_ignore_ascii_case("basic") && proof == self.basic)
            || (scheme.eq_ignore_ascii_case("bearer") && traffic.accepts(proof));
        traffic.count_authorization(is_right);
        is_right
    }

    fn expire_token_if_due(self: &Arc<Self>) {
        if !self.traffic().expire_token_if_due() {
            return;
        }
        let service = Arc::clone(self);
        tokio::spawn(async move {
            sleep(RENEWAL_DELAY).await;
            if let Err(error) = service.traffic().renew_token() {
                tracing::error!(%error, "cannot write the new token; nobody can log in with it");
            }
        });
    }

    /// Carries out a command of whoever plays with the service; these need no login.
    fn obey(&self, verb: &Verb, command: &str, query: Option<&str>) -> Response<Outgoing> {
        let count = parameter(query, "n").and_then(|n| n.parse().ok()).unwrap_or(1);
        match (verb, command) {
            (&Verb::GET, "counters") => return answer::json(&self.counters()),
            (&Verb::POST, "deliver") => self.mailbox().deliver(count),
            (&Verb::POST, "destroy") => self.mailbox().destroy(count),
            (&Verb::POST, "fail") => self.traffic().order_outage(count),
            (&Verb::POST, "expire-states") => self.mailbox().expire_states(),
            _ => return nothing_here(),
        }
        let mailbox = self.mailbox();
        answer::json(&serde_json::json!({
            "state": mailbox.state(),
            "messages": mailbox.messages(),
        }))
    }
}

impl<'a> Endpoint<'a> {
    fn of(verb: &Verb, path: &'a str) -> Self {
        match (verb, path) {
            (&Verb::GET, "/.well-known/jmap") => Self::Discovery,
            (&Verb::GET, session::PATH) => Self::Session,
            (&Verb::POST, session::API_PATH) => Self::Api,
            (&Verb::GET, _) => path
                .strip_prefix(session::DOWNLOAD_PATH)
                .and_then(|rest| rest.split_once('/'))
                .and_then(|(account, rest)| Some((account, rest.split_once('/')?.0)))
                .map_or(Self::Nothing, |(account, blob)| Self::Download { account, blob }),
            _ => Self::Nothing,
        }
    }
}

impl Slot {
    fn served(&self, message: MessageNo, bytes: u64) {
        self.0.traffic().count_served(message, bytes);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.traffic().leave();
    }
}

impl Display for Dropped {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("the plan of faults ends this connection")
    }
}

impl std::error::Error for Dropped {}

fn refuse(refusal: Refusal) -> Answer {
    let (status, detail, wait) = match refusal {
        Refusal::TooMany { retry_after } => {
            (StatusCode::TOO_MANY_REQUESTS, "too many requests, please slow down", retry_after)
        }
        Refusal::Unavailable { retry_after } => {
            (StatusCode::SERVICE_UNAVAILABLE, "please try again later", retry_after)
        }
        Refusal::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "this one always fails", None),
        Refusal::Html => return Ok(answer::login_page()),
        Refusal::Drop => return Err(Dropped),
    };
    let mut response = answer::problem(status, "about:blank", detail, None);
    if let Some(wait) = wait {
        answer::retry_after(&mut response, wait);
    }
    Ok(response)
}

fn held(mut response: Response<Outgoing>, slot: Slot) -> Response<Outgoing> {
    response.body_mut().hold(slot);
    response
}

fn unauthorized() -> Response<Outgoing> {
    let detail = "the credentials were not accepted";
    let mut response = answer::problem(StatusCode::UNAUTHORIZED, "about:blank", detail, None);
    for scheme in ["Bearer realm=\"demo\"", "Basic realm=\"demo\", charset=\"UTF-8\""] {
        answer::set(&mut response, header::WWW_AUTHENTICATE, scheme);
    }
    response
}

fn too_many_at_once() -> Response<Outgoing> {
    answer::problem(
        StatusCode::TOO_MANY_REQUESTS,
        "urn:ietf:params:jmap:error:limit",
        "too many requests at once",
        Some("maxConcurrentRequests"),
    )
}

fn nothing_here() -> Response<Outgoing> {
    answer::problem(StatusCode::NOT_FOUND, "about:blank", "there is nothing here", None)
}

fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    percent_decode_str(value).decode_utf8().ok().map(Into::into)
}
