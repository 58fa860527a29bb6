//! A JMAP server (RFC 8620, RFC 8621) over HTTP/1.1, as far as reading a mailbox goes.

mod api;
mod counters;
mod methods;
mod response;
mod server_state;
mod session;

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

use self::api::DemoMethodError;
use self::methods::JmapMethod;
use self::response::{BodyPacing, ResponseBody};
use self::server_state::ServerState;
use self::session::REQUEST_BYTES_MAX;
use super::base64;
use super::credential::DemoCredential;
use super::faults::{DownloadFault, FaultPlan, FaultReply};
use super::mailbox::{GeneratedMailbox, MessageNumber};

pub use self::counters::DemoCounters;

/// Pause after a failed accept, which means that files or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// So long after the old token expired, the new one is put into its file.
const TOKEN_RENEWAL_DELAY: Duration = Duration::from_secs(3);

/// The service, shared by its connections. Its two locks are never held together.
#[derive(Debug)]
pub(super) struct DemoService {
    username: String,
    /// The value of a valid `Authorization: Basic`.
    basic_authorization: String,
    mailbox: Mutex<GeneratedMailbox>,
    state: Mutex<ServerState>,
}

/// One request in progress; dropped when its last byte is handed over or its connection ends.
#[derive(Debug)]
struct RequestSlot(Arc<DemoService>);

/// The connection is to end without an answer.
#[derive(Debug)]
struct DropConnection;

/// What a path stands for.
#[derive(Debug)]
enum DemoRoute<'a> {
    Discovery,
    Session,
    Api,
    Download { account: &'a str, blob: &'a str },
    NotFound,
}

type ResponseResult = Result<Response<ResponseBody>, DropConnection>;

impl DemoService {
    pub(super) fn new(
        mailbox: GeneratedMailbox,
        plan: FaultPlan,
        credential: DemoCredential,
        username: &str,
        password: &str,
    ) -> Self {
        Self {
            username: username.to_owned(),
            basic_authorization: base64::encode(format!("{username}:{password}").as_bytes()),
            mailbox: Mutex::new(mailbox),
            state: Mutex::new(ServerState::new(plan, credential)),
        }
    }

    pub(super) fn mailbox(&self) -> MutexGuard<'_, GeneratedMailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counters(&self) -> DemoCounters {
        self.state().counters()
    }

    fn state(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves connections for ever.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    tokio::spawn(Arc::clone(&self).serve_connection(stream, peer));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
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

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> ResponseResult {
        let path = request.uri().path();
        if let Some(command) = path.strip_prefix("/demo/") {
            return Ok(self.control(request.method(), command, request.uri().query()));
        }
        let endpoint = DemoRoute::parse(request.method(), path);
        let refusal = self.state().on_request(&endpoint, Instant::now());
        if let Some(refusal) = refusal {
            return fault_response(refusal);
        }
        if let DemoRoute::Discovery = endpoint {
            return Ok(response::redirect_response(session::SESSION_PATH));
        }
        self.expire_token_if_due();
        if !self.is_authorized(request.headers().get(header::AUTHORIZATION)) {
            return Ok(unauthorized());
        }
        let Some(slot) = self.try_acquire_slot() else {
            return Ok(concurrency_limit_exceeded());
        };
        match endpoint {
            DemoRoute::Session => Ok(with_slot(
                response::json_response(&session::session_object(&self.username)),
                slot,
            )),
            DemoRoute::Api => {
                let refusal = self.state().api_fault();
                match refusal {
                    Some(refusal) => fault_response(refusal),
                    None => Ok(with_slot(self.call_methods(request).await, slot)),
                }
            }
            DemoRoute::Download { account, blob } => {
                self.download(account, blob, request.uri().query(), slot).await
            }
            DemoRoute::Discovery | DemoRoute::NotFound => Ok(not_found()),
        }
    }

    async fn call_methods(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let media_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !media_type.is_some_and(|media_type| media_type.starts_with(b"application/json")) {
            return *api::request_error(
                "notJSON",
                "the Content-Type is not application/json",
                None,
            );
        }
        let body = match Limited::new(request, REQUEST_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                return *api::request_error("limit", &error.to_string(), Some("maxSizeRequest"));
            }
        };
        let request = match api::parse(&body) {
            Ok(request) => request,
            Err(refusal) => return *refusal,
        };
        response::json_response(&api::execute(request, |name, arguments| {
            let method = JmapMethod::from_name(name);
            self.state().count_method_call(method.map_or("unknown", JmapMethod::name));
            let method = method.ok_or_else(|| DemoMethodError::new("unknownMethod", name))?;
            method.call(&mut self.mailbox(), arguments)
        }))
    }

    async fn download(
        self: &Arc<Self>,
        account: &str,
        blob: &str,
        query: Option<&str>,
        slot: RequestSlot,
    ) -> ResponseResult {
        let found = match account {
            session::ACCOUNT_ID => self.find_message(blob),
            _ => None,
        };
        let Some((number, alone)) = found else { return Ok(not_found()) };
        let mut manner = BodyPacing::Immediate;
        let mishap = self.state().download_fault(number, alone);
        match mishap {
            None => {}
            Some(DownloadFault::Reply(refusal)) => return fault_response(refusal),
            Some(DownloadFault::DestroyMessage) => {
                self.mailbox().destroy_message(number);
                return Ok(not_found());
            }
            Some(DownloadFault::Delay(delay)) => sleep(delay).await,
            Some(DownloadFault::SlowBody) => manner = BodyPacing::SLOW,
            Some(DownloadFault::TruncatedBody) => manner = BodyPacing::Truncate,
        }
        let (message, size) = {
            let mailbox = self.mailbox();
            (mailbox.message(number), mailbox.size(number))
        };
        let media_type = query_parameter(query, "type").unwrap_or_default();
        Ok(response::mail_response(number, message, size, &media_type, manner, slot))
    }

    /// Finds a message by its blob, and tells whether its thread has no other.
    fn find_message(&self, blob: &str) -> Option<(MessageNumber, bool)> {
        let mailbox = self.mailbox();
        let number = mailbox.find_blob(blob)?;
        let alone = mailbox.messages_of(mailbox.thread_of(number)).len() == 1;
        Some((number, alone))
    }

    fn try_acquire_slot(self: &Arc<Self>) -> Option<RequestSlot> {
        self.state().try_acquire_slot().then(|| RequestSlot(Arc::clone(self)))
    }

    fn is_authorized(&self, given: Option<&HeaderValue>) -> bool {
        let given = given.and_then(|given| given.to_str().ok()).unwrap_or_default();
        let (scheme, proof) = given.split_once(' ').unwrap_or_default();
        let mut traffic = self.state();
        let is_right = (scheme.eq_ignore_ascii_case("basic") && proof == self.basic_authorization)
            || (scheme.eq_ignore_ascii_case("bearer") && traffic.accepts_token(proof));
        traffic.count_authorization(is_right);
        is_right
    }

    fn expire_token_if_due(self: &Arc<Self>) {
        if !self.state().expire_token_if_due() {
            return;
        }
        let service = Arc::clone(self);
        tokio::spawn(async move {
            sleep(TOKEN_RENEWAL_DELAY).await;
            if let Err(error) = service.state().renew_token() {
                tracing::error!(%error, "cannot write the new token; nobody can log in with it");
            }
        });
    }

    /// Carries out a command of whoever plays with the service; these need no login.
    fn control(&self, verb: &Verb, command: &str, query: Option<&str>) -> Response<ResponseBody> {
        let count = query_parameter(query, "n").and_then(|n| n.parse().ok()).unwrap_or(1);
        match (verb, command) {
            (&Verb::GET, "counters") => return response::json_response(&self.counters()),
            (&Verb::POST, "deliver") => self.mailbox().deliver(count),
            (&Verb::POST, "destroy") => self.mailbox().destroy(count),
            (&Verb::POST, "fail") => self.state().inject_failures(count),
            (&Verb::POST, "expire-states") => self.mailbox().expire_states(),
            _ => return not_found(),
        }
        let mailbox = self.mailbox();
        response::json_response(&serde_json::json!({
            "state": mailbox.state(),
            "messages": mailbox.message_count(),
        }))
    }
}

impl<'a> DemoRoute<'a> {
    fn parse(verb: &Verb, path: &'a str) -> Self {
        match (verb, path) {
            (&Verb::GET, "/.well-known/jmap") => Self::Discovery,
            (&Verb::GET, session::SESSION_PATH) => Self::Session,
            (&Verb::POST, session::API_PATH) => Self::Api,
            (&Verb::GET, _) => path
                .strip_prefix(session::DOWNLOAD_PATH)
                .and_then(|rest| rest.split_once('/'))
                .and_then(|(account, rest)| Some((account, rest.split_once('/')?.0)))
                .map_or(Self::NotFound, |(account, blob)| Self::Download { account, blob }),
            _ => Self::NotFound,
        }
    }
}

impl RequestSlot {
    fn record_served(&self, message: MessageNumber, bytes: u64) {
        self.0.state().count_served(message, bytes);
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.0.state().release_slot();
    }
}

impl Display for DropConnection {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("the plan of faults ends this connection")
    }
}

impl std::error::Error for DropConnection {}

fn fault_response(refusal: FaultReply) -> ResponseResult {
    let (status, detail, wait) = match refusal {
        FaultReply::RateLimited { retry_after } => {
            (StatusCode::TOO_MANY_REQUESTS, "too many requests, please slow down", retry_after)
        }
        FaultReply::Unavailable { retry_after } => {
            (StatusCode::SERVICE_UNAVAILABLE, "please try again later", retry_after)
        }
        FaultReply::ServerError => {
            (StatusCode::INTERNAL_SERVER_ERROR, "this one always fails", None)
        }
        FaultReply::Html => return Ok(response::login_page()),
        FaultReply::Drop => return Err(DropConnection),
    };
    let mut response = response::problem_response(status, "about:blank", detail, None);
    if let Some(wait) = wait {
        response::set_retry_after(&mut response, wait);
    }
    Ok(response)
}

fn with_slot(mut response: Response<ResponseBody>, slot: RequestSlot) -> Response<ResponseBody> {
    response.body_mut().attach_slot(slot);
    response
}

fn unauthorized() -> Response<ResponseBody> {
    let detail = "the credentials were not accepted";
    let mut response =
        response::problem_response(StatusCode::UNAUTHORIZED, "about:blank", detail, None);
    for scheme in ["Bearer realm=\"demo\"", "Basic realm=\"demo\", charset=\"UTF-8\""] {
        response::append_header(&mut response, header::WWW_AUTHENTICATE, scheme);
    }
    response
}

fn concurrency_limit_exceeded() -> Response<ResponseBody> {
    response::problem_response(
        StatusCode::TOO_MANY_REQUESTS,
        "urn:ietf:params:jmap:error:limit",
        "too many requests at once",
        Some("maxConcurrentRequests"),
    )
}

fn not_found() -> Response<ResponseBody> {
    response::problem_response(StatusCode::NOT_FOUND, "about:blank", "there is nothing here", None)
}

fn query_parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    percent_decode_str(value).decode_utf8().ok().map(Into::into)
}
