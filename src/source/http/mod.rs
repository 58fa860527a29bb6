//! The one HTTP client that all kinds of sources share; each account has its own.
//!
//! It asks, follows redirects only where it is allowed to, tries a broken request
//! again quickly, and hands out either what was asked for, complete, or a
//! [`Refusal`]. Nobody else sees a status code or a transport error.

mod body;
mod proxies;
mod refusal;
mod transport;

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION,
};
use reqwest::{Method, Request, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use url::{Origin, Url};

pub use self::proxies::{Egress, PoolHealth, Proxy};
pub use self::refusal::Refusal;
pub(super) use self::refusal::said;

use self::body::Pace;
use self::proxies::Ways;
use crate::engine::{Cause, Failure};
use crate::retry::Policy;
use crate::source::Sink;

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
}

/// The client of one account.
#[derive(Debug)]
pub struct Client {
    ways: Ways,
    limits: Limits,
    trusted: Vec<Origin>,
}

impl Client {
    /// Makes a client that speaks to the `trusted` origins and to no other, on the ways of `egress`.
    ///
    /// # Errors
    /// [`Cause::Tls`] when this machine has no certificates to trust; [`Cause::Proxy`] when
    /// what should be a proxy's address is none.
    pub fn new(limits: Limits, trusted: Vec<Origin>, egress: &Egress) -> Result<Self, Failure> {
        let ways = Ways::new(egress, &limits, &trusted)?;
        Ok(Self { ways, limits, trusted })
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
        self.retried(async || {
            let mut pace = Pace::new(&self.limits);
            let response = self.open(ask, &mut pace).await?;
            let url = response.url().clone();
            let body = body::collect(response, &mut pace).await?;
            Ok(Answered { url, body })
        })
        .await
    }

    /// Brings a document into `sink` and returns its length, which agrees with
    /// `size` and with what the server announced.
    ///
    /// # Errors
    /// Whatever went wrong at the last attempt, or the sink's own failure.
    pub async fn document(
        &self,
        ask: &Ask<'_>,
        size: Option<u64>,
        sink: &mut impl Sink,
    ) -> Result<u64, Failure> {
        body::fits(host(ask.url), size.unwrap_or(0), self.limits.max_document)?;
        let mut has_begun = false;
        let brought = self.retried(async || {
            if std::mem::replace(&mut has_begun, true) {
                sink.rewind().await?;
            }
            let mut pace = Pace::new(&self.limits);
            let response = self.open(ask, &mut pace).await?;
            Ok(body::pour(response, size, &mut pace, sink).await?)
        });
        Ok(brought.await?)
    }

    /// Tries again what may be gone in a second; everything else is for the engine to judge.
    async fn retried<T>(
        &self,
        once: impl AsyncFnMut() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let outcome = self.limits.retry.run(once).await;
        outcome.map_err(|gave_up| {
            gave_up.failure(|guard| {
                Failure::new(Cause::Server, format!("{guard} is left alone for a while")).into()
            })
        })
    }

    /// Sends the question, follows redirects, and returns an answer of the wanted kind, body unread.
    async fn open(&self, ask: &Ask<'_>, pace: &mut Pace<'_>) -> Result<Response, Refusal> {
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            self.trust(&url)?;
            let request = self.request(ask, &url)?;
            let authorization = request.headers().get(AUTHORIZATION).cloned();
            let response = self.ways.send(request, &url, pace).await?;
            match self.redirect(ask, &response)? {
                Some(next) => url = next,
                None if refusal::is_wanted(&response, ask.wants) => return Ok(response),
                None => {
                    // As it is kept, and as it is sent.
                    let sent = authorization.as_ref().and_then(|value| value.to_str().ok());
                    let sent = sent.and_then(|value| value.split(' ').next_back());
                    let secrets = [ask.pass.secret(), sent.unwrap_or_default()];
                    return Err(refusal::read(response, pace, &secrets).await);
                }
            }
        }
        let why = format!("more than {REDIRECTS_MAX} redirects at {}", host(&url));
        Err(Failure::new(Cause::Challenge, why).into())
    }

    fn request(&self, ask: &Ask<'_>, url: &Url) -> Result<Request, Failure> {
        let accept = match ask.wants {
            Wants::Json => "application/json",
            Wants::Document => "*/*",
        };
        let request = match &ask.post {
            None => self.ways.request(Method::GET, url),
            Some(json) => self
                .ways
                .request(Method::POST, url)
                .header(CONTENT_TYPE, "application/json")
                .body(json.clone()),
        };
        let request = match ask.pass {
            Pass::Basic { username, password } => {
                request.basic_auth(username, Some(password.expose_secret()))
            }
            Pass::Bearer { token } => request.bearer_auth(token.expose_secret()),
        };
        // A compressed body has no length to check, and a bomb in it is not ours to defuse.
        let request = request.header(ACCEPT, accept).header(ACCEPT_ENCODING, "identity");
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
    fn secret(&self) -> &str {
        match self {
            Self::Basic { password, .. } => password.expose_secret(),
            Self::Bearer { token } => token.expose_secret(),
        }
    }
}

/// The only part of a URL that is ever shown.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}
