//! JMAP server (RFC 8620, RFC 8621) over HTTP/1.1, for reading a mailbox, and the state that the
//! servers of other protocols share with it.
//!
//! Routing is our own. A trial with axum 0.8 saved no lines, added three crates and changed a dozen
//! answers, among them 405 with `Allow` and those of limits that apply before routing.

mod api;
mod counters;
mod mail_body;
mod methods;
mod response;
mod route;
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
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use self::api::DemoMethodError;
use self::methods::JmapMethod;
use self::route::DemoRoute;
use self::server_state::lock;
use self::session::REQUEST_BYTES_MAX;
use super::accept::accept_connections;
use super::base64;
use super::credential::DemoCredential;
use super::faults::{DownloadFault, FaultPlan, ResponseFault};
use super::kind::DemoKind;
use super::mailbox::{GeneratedMailbox, MessageNumber};

pub use self::counters::DemoCounters;
pub(super) use self::mail_body::{BodyPacing, MailBody};
pub(super) use self::response::{
    BodyFraming, ResponseBody, append_header, json_status_response, login_page, mail_response,
    page_response, set_retry_after,
};
pub(super) use self::server_state::{RequestPurpose, RequestSlot, ServerState};
pub(super) use self::session::CONCURRENT_REQUESTS_MAX;

/// Maximum number of requests in progress at Graph, for one application and mailbox.
const MAILBOX_CONCURRENCY: u32 = 4;

/// Delay from the expiry of the old token until the new one is in its file.
const TOKEN_RENEWAL_DELAY: Duration = Duration::from_secs(3);

/// Demo service, shared by its connections. Its two locks are never held together.
#[derive(Debug)]
pub(super) struct DemoService {
    username: String,
    password: String,
    /// The credentials of a valid `Authorization: Basic` header, base64-encoded.
    basic_authorization: String,
    mailbox: Mutex<GeneratedMailbox>,
    state: Arc<Mutex<ServerState>>,
}

/// Error that ends the connection without a response.
#[derive(Debug)]
pub(super) struct DropConnection;

pub(super) type ResponseResult = Result<Response<ResponseBody>, DropConnection>;

/// Fault that takes the place of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum DownloadRefusal {
    Fault(ResponseFault),
    /// The message has just been destroyed.
    Destroyed,
}

impl DemoService {
    pub(super) fn new(
        kind: DemoKind,
        mailbox: GeneratedMailbox,
        plan: FaultPlan,
        credential: DemoCredential,
        username: &str,
        password: &str,
    ) -> Self {
        let requests_max = match kind {
            DemoKind::Graph => MAILBOX_CONCURRENCY,
            DemoKind::Jmap
            | DemoKind::Imap
            | DemoKind::PlainImap
            | DemoKind::Gmail
            | DemoKind::Mailru => CONCURRENT_REQUESTS_MAX,
        };
        Self {
            username: username.to_owned(),
            password: password.to_owned(),
            basic_authorization: base64::encode(format!("{username}:{password}").as_bytes()),
            mailbox: Mutex::new(mailbox),
            state: Arc::new(Mutex::new(ServerState::new(plan, credential, requests_max))),
        }
    }

    pub(super) fn lock_mailbox(&self) -> MutexGuard<'_, GeneratedMailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_state(&self) -> MutexGuard<'_, ServerState> {
        lock(&self.state)
    }

    /// Takes a slot for a request in progress, if one is free.
    pub(super) fn try_acquire_slot(&self) -> Option<RequestSlot> {
        RequestSlot::try_acquire(&self.state)
    }

    pub(super) fn username(&self) -> &str {
        &self.username
    }

    /// Returns the password of the user, which never expires.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    pub(super) fn counters(&self) -> DemoCounters {
        lock(&self.state).counters()
    }

    /// Serves connections until it is cancelled.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        accept_connections(listener, |stream, peer| {
            Arc::clone(&self).serve_connection(stream, peer)
        })
        .await
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
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
        let route = DemoRoute::parse(request.method(), path);
        let fault = lock(&self.state).on_request(&route, Instant::now());
        if let Some(fault) = fault {
            return fault_response(fault);
        }
        if let DemoRoute::Discovery = route {
            return Ok(response::redirect_response(session::SESSION_PATH));
        }
        self.expire_token_if_due();
        if !self.is_authorized(request.headers().get(header::AUTHORIZATION)) {
            return Ok(unauthorized());
        }
        let Some(slot) = self.try_acquire_slot() else {
            return Ok(concurrency_limit_exceeded());
        };
        match route {
            DemoRoute::Session => Ok(with_slot(
                response::json_response(&session::session_object(&self.username)),
                slot,
            )),
            DemoRoute::Api => {
                let fault = lock(&self.state).api_fault();
                match fault {
                    Some(fault) => fault_response(fault),
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
            Err(response) => return *response,
        };
        response::json_response(&api::execute(request, |name, arguments| {
            let method = JmapMethod::from_name(name);
            lock(&self.state).count_method_call(method.map_or("unknown", JmapMethod::name));
            let method = method.ok_or_else(|| DemoMethodError::new("unknownMethod", name))?;
            method.call(&mut self.lock_mailbox(), arguments)
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
        let Some((number, is_only_in_thread)) = found else { return Ok(not_found()) };
        let pacing = match self.begin_download(number, is_only_in_thread).await {
            Ok(pacing) => pacing,
            Err(DownloadRefusal::Fault(fault)) => return fault_response(fault),
            Err(DownloadRefusal::Destroyed) => return Ok(not_found()),
        };
        let (message, size) = {
            let mailbox = self.lock_mailbox();
            (mailbox.message(number), mailbox.size(number))
        };
        let body = MailBody::octets(number, message, size, pacing);
        let media_type = query_parameter(query, "type").unwrap_or_default();
        // With the length of the message (RFC 8620 §6.2).
        let mut response = mail_response(body, BodyFraming::Length, &media_type, slot);
        let caching = "private, immutable, max-age=31536000";
        append_header(&mut response, header::CACHE_CONTROL, caching);
        Ok(response)
    }

    /// Applies the fault of a message's download, if one is due. Returns the pace of its body. Only
    /// a message that is a whole item is destroyed.
    pub(super) async fn begin_download(
        &self,
        number: MessageNumber,
        is_whole_item: bool,
    ) -> Result<BodyPacing, DownloadRefusal> {
        let fault = lock(&self.state).download_fault(number, is_whole_item);
        match fault {
            None => Ok(BodyPacing::Immediate),
            Some(DownloadFault::Response(fault)) => Err(DownloadRefusal::Fault(fault)),
            Some(DownloadFault::DestroyMessage) => {
                self.lock_mailbox().destroy_message(number);
                Err(DownloadRefusal::Destroyed)
            }
            Some(DownloadFault::Delay(delay)) => {
                sleep(delay).await;
                Ok(BodyPacing::Immediate)
            }
            Some(DownloadFault::SlowBody) => Ok(BodyPacing::SLOW),
            Some(DownloadFault::TruncatedBody) => Ok(BodyPacing::Truncate),
        }
    }

    /// Finds a message by its blob id. The flag is true if its thread has no other message.
    fn find_message(&self, blob: &str) -> Option<(MessageNumber, bool)> {
        let mailbox = self.lock_mailbox();
        let number = mailbox.find_blob(blob)?;
        Some((number, mailbox.is_only_in_thread(number)))
    }

    fn is_authorized(&self, authorization: Option<&HeaderValue>) -> bool {
        let value = authorization.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (scheme, credentials) = value.split_once(' ').unwrap_or_default();
        let mut state = lock(&self.state);
        let is_authorized = (scheme.eq_ignore_ascii_case("basic")
            && credentials == self.basic_authorization)
            || (scheme.eq_ignore_ascii_case("bearer") && state.accepts_token(credentials));
        state.count_authorization(is_authorized);
        is_authorized
    }

    /// Expires the token if that is due. A new one is in its file some seconds later.
    pub(super) fn expire_token_if_due(self: &Arc<Self>) {
        if !lock(&self.state).expire_token_if_due() {
            return;
        }
        let service = Arc::clone(self);
        tokio::spawn(async move {
            sleep(TOKEN_RENEWAL_DELAY).await;
            if let Err(error) = lock(&service.state).renew_token() {
                tracing::error!(%error, "cannot write the renewed token; clients cannot log in");
            }
        });
    }

    /// Executes a control command under `/demo/`. These commands need no authorization.
    pub(super) fn control(
        &self,
        method: &Method,
        command: &str,
        query: Option<&str>,
    ) -> Response<ResponseBody> {
        let count = query_parameter(query, "n").and_then(|n| n.parse().ok()).unwrap_or(1);
        match (method, command) {
            (&Method::GET, "counters") => return response::json_response(&self.counters()),
            (&Method::POST, "deliver") => self.lock_mailbox().deliver(count),
            (&Method::POST, "destroy") => self.lock_mailbox().destroy(count),
            (&Method::POST, "move-to-trash") => self.lock_mailbox().move_to_trash(count),
            (&Method::POST, "move-to-inbox") => self.lock_mailbox().move_to_inbox(count),
            (&Method::POST, "fail") => lock(&self.state).inject_failures(count),
            (&Method::POST, "expire-states") => self.lock_mailbox().expire_states(),
            _ => return not_found(),
        }
        let mailbox = self.lock_mailbox();
        response::json_response(&serde_json::json!({
            "state": mailbox.state(),
            "messages": mailbox.message_count(),
        }))
    }
}

impl Display for DropConnection {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("the fault plan ends this connection")
    }
}

impl std::error::Error for DropConnection {}

fn fault_response(fault: ResponseFault) -> ResponseResult {
    let (status, detail, retry_after) = match fault {
        ResponseFault::RateLimited { retry_after } => {
            (StatusCode::TOO_MANY_REQUESTS, "too many requests, please slow down", retry_after)
        }
        ResponseFault::Unavailable { retry_after } => {
            (StatusCode::SERVICE_UNAVAILABLE, "please try again later", retry_after)
        }
        ResponseFault::ServerError => {
            (StatusCode::INTERNAL_SERVER_ERROR, "this one always fails", None)
        }
        ResponseFault::Html => return Ok(login_page()),
        ResponseFault::Drop => return Err(DropConnection),
    };
    let mut response = response::problem_response(status, "about:blank", detail, None);
    if let Some(retry_after) = retry_after {
        set_retry_after(&mut response, retry_after);
    }
    Ok(response)
}

pub(super) fn with_slot(
    mut response: Response<ResponseBody>,
    slot: RequestSlot,
) -> Response<ResponseBody> {
    response.body_mut().attach_slot(slot);
    response
}

fn unauthorized() -> Response<ResponseBody> {
    let detail = "the credentials were not accepted";
    let mut response =
        response::problem_response(StatusCode::UNAUTHORIZED, "about:blank", detail, None);
    for scheme in ["Bearer realm=\"demo\"", "Basic realm=\"demo\", charset=\"UTF-8\""] {
        append_header(&mut response, header::WWW_AUTHENTICATE, scheme);
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
