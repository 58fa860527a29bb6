//! The one HTTP client that all kinds of sources share; each account has its own.
//!
//! It asks, follows redirects only where it is allowed to, tries a broken request
//! again quickly, and hands out either what was asked for, complete, or a
//! [`Refusal`]. Nobody else sees a status code or a transport error.

mod arrays;
mod body;
mod gate;
mod line;
mod proxies;
mod refusal;
mod transport;
mod tries;

use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::Uri;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Method, Request, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use url::{Origin, Url};

pub use self::arrays::Room;
pub use self::gate::{Attempt, Gate, OpenGate, Outgoing, Passage};
pub use self::proxies::{Egress, PoolHealth, Proxy};
pub use self::refusal::Refusal;
pub use self::tries::Tries;

use self::body::Pace;
use self::line::Line;
use self::refusal::Reading;
use crate::engine::rate_limit::ReplyOutcome;
use crate::engine::{Cause, ErrorRule, Failure, RequestScope, Secrets, ThrottleStrikes, Timestamp};
use crate::retry::{Fault as _, Policy};
use crate::source::{Meter, Recorder, Sink};

/// The most redirects of one request. A service moved twice and a login page; more is a loop.
const REDIRECTS_MAX: u32 = 5;

/// What one request may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How a broken request is tried again before its failure is reported.
    pub retry: Policy,
    /// Name lookup, connection and TLS handshake.
    pub connect_timeout: Duration,
    /// The longest silence, and the window over which the rate is measured.
    pub idle_timeout: Duration,
    /// One attempt from beginning to end, not counting the time our own disk takes.
    pub total_timeout: Duration,
    /// Bytes per second of a body, below which a server counts as hanging.
    pub min_rate: u64,
    /// The largest answer that is held in memory, in bytes.
    pub max_answer: u64,
    /// The largest document, in bytes.
    pub max_document: u64,
}

/// What proves who we are.
#[derive(Clone, Debug)]
pub enum Pass {
    Basic { username: String, password: SecretString },
    Bearer { token: SecretString },
}

/// One question to a server.
#[derive(Debug)]
pub struct Ask<'a> {
    pub url: &'a Url,
    /// JSON to be posted; `None` gets.
    pub post: Option<Bytes>,
    pub wants: Wants,
    pub pass: &'a Pass,
}

/// What counts as an answer to a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wants {
    Json,
    /// Bytes of any type but a page or an error in their place.
    Document,
}

/// An answer held in memory.
#[derive(Debug)]
pub struct Answered {
    /// Where the answer came from in the end: the base of relative URLs in it.
    pub url: Url,
    pub body: Bytes,
    headers: HeaderMap,
    passage: Box<dyn Passage>,
}

/// The client of one account.
#[derive(Debug)]
pub struct Client {
    line: Line,
    limits: Limits,
    trusted: Vec<Origin>,
    gate: Rc<dyn Gate>,
    rules: Vec<ErrorRule>,
    recorder: Recorder,
}

/// The head of what was asked for.
struct Opened {
    response: Response,
    passage: Box<dyn Passage>,
    latency: Duration,
}

impl Client {
    /// Makes a client that speaks to the `trusted` origins and to no other, through `gate` and
    /// on the ways of `egress`. Its requests are counted by `meter`.
    ///
    /// # Errors
    /// [`Cause::Tls`] when this machine has no certificates to trust; [`Cause::Proxy`] when
    /// what should be a proxy's address is none.
    pub fn new(
        limits: Limits,
        trusted: Vec<Origin>,
        egress: &Egress,
        gate: Rc<dyn Gate>,
        meter: Meter,
    ) -> Result<Self, Failure> {
        let line = Line::new(egress, &limits, &trusted, meter)?;
        Ok(Self { line, limits, trusted, gate, rules: Vec::new(), recorder: Recorder::default() })
    }

    /// Returns until when a request waits at the gate; `None` where none does.
    #[must_use]
    pub fn waits_until(&self) -> Option<Timestamp> {
        self.gate.waits_until()
    }

    /// Has refusals judged by the user's rules before the built-in ones.
    #[must_use]
    pub fn judging_by(mut self, rules: Vec<ErrorRule>) -> Self {
        self.rules = rules;
        self
    }

    /// Has every answer noted, and every request that got none.
    #[must_use]
    pub fn recorded_by(mut self, recorder: Recorder) -> Self {
        self.recorder = recorder;
        self
    }

    /// Refuses a URL of a server that the configuration does not name.
    ///
    /// # Errors
    /// [`Cause::Challenge`]: nothing is sent, and no document is blamed.
    pub fn trust(&self, url: &Url) -> Result<(), Failure> {
        let plain = url.username().is_empty() && url.password().is_none();
        if plain && self.trusted.contains(&url.origin()) {
            return Ok(());
        }
        let origin = url.origin().ascii_serialization();
        Err(Failure::new(
            Cause::Challenge,
            format!(
                "the server sends us to {origin}, which is not where `url` points: \
                 add it to `allow_hosts` if it is right"
            ),
        ))
    }

    /// Asks for something small.
    ///
    /// # Errors
    /// Whatever went wrong at the last attempt, with the body of the answer where there was one.
    pub async fn answer(&self, ask: &Ask<'_>) -> Result<Answered, Refusal> {
        self.answer_within(ask, None).await
    }

    /// Asks for JSON of which no more than the `room` is held, however much comes.
    ///
    /// # Errors
    /// The same; [`Cause::TooLarge`] where the room does not suffice.
    pub async fn answer_within(
        &self,
        ask: &Ask<'_>,
        room: Option<Room>,
    ) -> Result<Answered, Refusal> {
        self.retried(ask, Attempt::First, async |attempt| {
            let mut pace = Pace::new(&self.limits);
            let opened = self.open(ask, None, attempt, &mut pace).await?;
            let Opened { response, passage, latency } = opened;
            let (url, headers) = (response.url().clone(), response.headers().clone());
            let collected = body::collect(response, room, &mut pace).await;
            self.line.ended(latency, collected.as_ref().map(|(_, received)| *received));
            match collected {
                Ok((body, _)) => Ok(Answered { url, body, headers, passage }),
                Err(failure) => Err(cut_short(passage, failure).into()),
            }
        })
        .await
    }

    /// Says of an answer to `ask` that it is a `failure` after all, as its body tells: the user's
    /// rules may know better which, and what was replied is kept with it.
    #[must_use]
    pub fn failed(&self, ask: &Ask<'_>, answered: &mut Answered, failure: Failure) -> Failure {
        let reading = self.reading(ask);
        let failure = refusal::read_again(&answered.headers, &answered.body, &reading, failure);
        failure.retry_after.into_iter().for_each(|wait| answered.passage.told(wait));
        let held_until = answered.passage.judge(failure.cause.rate_limit_signal());
        failure.with_blocked_until(held_until)
    }

    /// Brings a document into `sink` and returns its length, which agrees with
    /// `size` and with what the server announced. `strikes` says how it was throttled before.
    ///
    /// # Errors
    /// Whatever went wrong at the last attempt, or the sink's own failure.
    pub async fn document(
        &self,
        ask: &Ask<'_>,
        size: Option<u64>,
        strikes: ThrottleStrikes,
        first: Attempt,
        sink: &mut impl Sink,
    ) -> Result<u64, Failure> {
        body::fits(host(ask.url), size.unwrap_or(0), self.limits.max_document)?;
        let brought = self.retried(ask, first, async |attempt| {
            if attempt == Attempt::Again {
                sink.rewind().await?;
            }
            let mut pace = Pace::new(&self.limits);
            let opened = self.open(ask, Some(strikes), attempt, &mut pace).await?;
            let Opened { response, mut passage, latency } = opened;
            // A body may take minutes: what the head says of the quota is of now.
            passage.judge(ReplyOutcome::Accepted);
            let poured = body::pour(response, size, &mut pace, sink).await;
            self.line.ended(latency, poured.as_ref().copied());
            match poured {
                Ok(length) => Ok(length),
                Err(failure) if failure.is_transient() => Err(cut_short(passage, failure).into()),
                Err(failure) => Err(failure.into()),
            }
        });
        Ok(brought.await?)
    }

    /// Tries again what may be gone in a second; everything else is for the engine to judge.
    async fn retried<T>(
        &self,
        ask: &Ask<'_>,
        first: Attempt,
        mut once: impl AsyncFnMut(Attempt) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let policy = &self.limits.retry;
        let mut tries = Tries::default();
        let outcome = policy.run(async || {
            let attempt = tries.next(first);
            match once(attempt).await {
                Ok(result) => Ok(result),
                Err(refusal) => {
                    tries.failed(&refusal.failure);
                    let is_cut_short = refusal.is_retryable()
                        && tries.sent() < policy.shape().max_attempts
                        && !self.gate.may_retry(outgoing(ask.url, Attempt::Again));
                    Err(if is_cut_short { refusal.deferred() } else { refusal })
                }
            }
        });
        let outcome = outcome.await;
        outcome.map_err(|gave_up| {
            let refusal: Refusal = gave_up.failure(|guard| {
                Failure::new(Cause::Server, format!("{guard} is left alone for a while")).into()
            });
            Refusal { failure: tries.note_in(refusal.failure), ..refusal }
        })
    }

    /// Sends the question, follows redirects, and returns an answer of the wanted kind, body unread.
    async fn open(
        &self,
        ask: &Ask<'_>,
        strikes: Option<ThrottleStrikes>,
        attempt: Attempt,
        pace: &mut Pace<'_>,
    ) -> Result<Opened, Refusal> {
        let authorization = ask.pass.authorization()?;
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            self.trust(&url)?;
            ask.wants.check_url(&url)?;
            let request = self.request(ask, &url, authorization.clone())?;
            let mut passage =
                self.gate.enter(Outgoing { strikes, ..outgoing(&url, attempt) }).await?;
            let sent_at = Instant::now();
            let response = match self.line.send(request, attempt, pace).await {
                Ok(response) => response,
                Err(failure) => {
                    if reached_the_server(&failure) {
                        self.recorder.unanswered();
                    }
                    return Err(cut_short(passage, failure).into());
                }
            };
            let latency = sent_at.elapsed();
            let headers = readable(response.headers());
            let status = response.status().as_u16();
            self.recorder.answered(status, latency, &headers, || ask.pass.secrets());
            let signals = self.gate.understand(&headers);
            passage.head(signals.clone(), latency);
            match self.redirect(ask, &response) {
                Err(failure) => {
                    self.line.ended(latency, Err(&failure));
                    return Err(failure.into());
                }
                Ok(Some(next)) => {
                    self.line.ended(latency, Ok(0));
                    url = next;
                }
                Ok(None) if refusal::is_wanted(&response, ask.wants) => {
                    return Ok(Opened { response, passage, latency });
                }
                Ok(None) => {
                    let reading = self.reading(ask);
                    let mut refusal = refusal::read(response, &signals, pace, &reading).await;
                    refusal.failure.retry_after.into_iter().for_each(|wait| passage.told(wait));
                    refusal.failure.blocked_until =
                        passage.judge(refusal.failure.cause.rate_limit_signal());
                    refusal.failure = refusal.failure.with_strikes(passage.strikes());
                    self.line.ended(latency, Err(&refusal.failure));
                    return Err(refusal);
                }
            }
        }
        let why = format!("more than {REDIRECTS_MAX} redirects at {}", host(&url));
        Err(Failure::new(Cause::Challenge, why).into())
    }

    /// What refusals are read by.
    fn reading(&self, ask: &Ask<'_>) -> Reading<'_> {
        let secrets = ask.pass.secrets();
        Reading { rules: &self.rules, scope: ask.wants.scope(), secrets }
    }

    fn request(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        authorization: HeaderValue,
    ) -> Result<Request, Failure> {
        let accept = match ask.wants {
            Wants::Json => "application/json",
            Wants::Document => "*/*",
        };
        let request = match &ask.post {
            None => self.line.request(Method::GET, url),
            Some(json) => self
                .line
                .request(Method::POST, url)
                .header(CONTENT_TYPE, "application/json")
                .body(json.clone()),
        };
        // A compressed body has no length to check, and a bomb in it is not ours to defuse.
        let request = request.header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
        let request = request.header(AUTHORIZATION, authorization);
        request.build().map_err(|error| transport::failure(&error, host(url)))
    }

    /// Returns where a redirect leads, if the answer is one that may be followed.
    fn redirect(&self, ask: &Ask<'_>, response: &Response) -> Result<Option<Url>, Failure> {
        let moved = matches!(
            response.status(),
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        );
        if !moved || ask.post.is_some() {
            return Ok(None);
        }
        let location = response.headers().get(LOCATION).map(HeaderValue::to_str);
        let Some(Ok(Ok(next))) = location.map(|text| text.map(|text| response.url().join(text)))
        else {
            return Ok(None);
        };
        self.trust(&next)?;
        Ok(Some(next))
    }
}

impl Pass {
    /// Returns the `Authorization` of a request.
    ///
    /// # Errors
    /// [`Cause::Unauthorized`]: the token has characters that no header can carry.
    fn authorization(&self) -> Result<HeaderValue, Failure> {
        let value = match self {
            Self::Basic { username, password } => {
                format!("Basic {}", BASE64.encode(user_pass(username, password)))
            }
            Self::Bearer { token } => format!("Bearer {}", token.expose_secret()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_invalid| {
            let why = "the credential has characters that no HTTP header can carry";
            Failure::new(Cause::Unauthorized, why)
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The secrets of a request, to be masked in what the server says.
    pub(in crate::source) fn secrets(&self) -> Secrets {
        match self {
            Self::Basic { username, password } => {
                let user_pass = user_pass(username, password);
                let sent = BASE64.encode(&user_pass);
                Secrets::new([password.expose_secret(), &user_pass, &sent])
            }
            Self::Bearer { token } => Secrets::new([token.expose_secret()]),
        }
    }
}

impl Wants {
    /// What is at stake: one document, or the listing of all.
    fn scope(self) -> RequestScope {
        match self {
            Self::Json => RequestScope::Listing,
            Self::Document => RequestScope::Item,
        }
    }

    /// Refuses a URL that no request can have: HTTP libraries, ours as well, end at 64 kB.
    ///
    /// # Errors
    /// [`Cause::TooLarge`] of a document, which stays as it is; [`Cause::Challenge`] of a listing,
    /// whose URL the server made.
    fn check_url(self, url: &Url) -> Result<(), Failure> {
        let Err(invalid) = Uri::try_from(url.as_str()) else { return Ok(()) };
        let length = url.as_str().len();
        let (cause, what) = match self.scope() {
            RequestScope::Item => (Cause::TooLarge, "a document"),
            RequestScope::Listing | RequestScope::Session => (Cause::Challenge, "a listing"),
        };
        let why = format!(
            "{what} of {} has a URL of {length} bytes that no request can be sent to: {invalid}",
            host(url)
        );
        Err(Failure::new(cause, why))
    }
}

/// What Basic encodes (RFC 7617 §2).
fn user_pass(username: &str, password: &SecretString) -> String {
    format!("{username}:{}", password.expose_secret())
}

/// The request never got its whole reply. Where it reached the server, that says something of the
/// server's health, though not of its quota.
fn cut_short(mut passage: Box<dyn Passage>, failure: Failure) -> Failure {
    if reached_the_server(&failure) {
        passage.judge(ReplyOutcome::Failed);
    }
    failure
}

fn reached_the_server(failure: &Failure) -> bool {
    !matches!(failure.cause, Cause::Proxy | Cause::LocalNetwork)
}

fn outgoing(url: &Url, attempt: Attempt) -> Outgoing<'_> {
    Outgoing { host: host(url), path: url.path(), attempt, strikes: None }
}

/// The headers that are text, as a reader of limits wants them.
fn readable(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}

/// The only part of a URL that is ever shown.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}
