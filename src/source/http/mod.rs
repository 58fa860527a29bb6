//! The one HTTP client that all kinds of sources share; each account has its own.
//!
//! It asks, follows redirects only where it is allowed to, tries a broken request
//! again quickly, and hands out either what was asked for, complete, or a
//! [`Refusal`]. Nobody else sees a status code or a transport error.

mod body;
mod refusal;
mod transport;

use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use reqwest::{Request, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use url::{Origin, Url};

pub use self::refusal::Refusal;

use self::body::Pace;
use self::refusal::Reading;
use crate::engine::{Cause, ErrorRule, Failure, Scope};
use crate::source::Sink;

/// The most redirects of one request. A service moved twice and a login page; more is a loop.
const REDIRECTS_MAX: u32 = 5;

/// What one request may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How often a request is sent before its failure is reported, the first time included.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles from there.
    pub delay: Duration,
    pub max_delay: Duration,
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
}

/// The client of one account.
#[derive(Debug)]
pub struct Client {
    inner: reqwest::Client,
    limits: Limits,
    trusted: Vec<Origin>,
    rules: Vec<ErrorRule>,
}

impl Client {
    /// Makes a client that speaks to the `trusted` origins and to no other.
    ///
    /// # Errors
    /// [`Cause::Tls`] when this machine has no certificates to trust.
    pub fn new(limits: Limits, trusted: Vec<Origin>) -> Result<Self, Failure> {
        let inner = transport::client(&limits, &trusted)?;
        Ok(Self { inner, limits, trusted, rules: Vec::new() })
    }

    /// Has refusals judged by the user's rules before the built-in ones.
    #[must_use]
    pub fn judging_by(mut self, rules: Vec<ErrorRule>) -> Self {
        self.rules = rules;
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
        self.retried(async |_| {
            let mut pace = Pace::new(&self.limits);
            let response = self.open(ask, &mut pace).await?;
            let (url, headers) = (response.url().clone(), response.headers().clone());
            let body = body::collect(response, &mut pace).await?;
            Ok(Answered { url, body, headers })
        })
        .await
    }

    /// Says of an answer to `ask` that it is a `failure` after all, as its body tells: the user's
    /// rules may know better which, and what was replied is kept with it.
    #[must_use]
    pub fn failed(&self, ask: &Ask<'_>, answered: &Answered, failure: Failure) -> Failure {
        refusal::read_again(&answered.headers, &answered.body, &self.reading(ask, None), failure)
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
        let brought = self.retried(async |attempt| {
            if 1 < attempt {
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
        mut once: impl AsyncFnMut(u32) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut attempt = 1;
        loop {
            match once(attempt).await {
                Err(refusal) if attempt < self.limits.attempts && refusal.is_fleeting() => {
                    tokio::time::sleep(pause(&self.limits, attempt, fastrand::f64())).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Sends the question, follows redirects, and returns an answer of the wanted kind, body unread.
    async fn open(&self, ask: &Ask<'_>, pace: &mut Pace<'_>) -> Result<Response, Refusal> {
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            self.trust(&url)?;
            let request = self.request(ask, &url)?;
            let authorization = request.headers().get(AUTHORIZATION).cloned();
            let response = pace.head(&url, self.inner.execute(request)).await?;
            match self.redirect(ask, &response)? {
                Some(next) => url = next,
                None if refusal::is_wanted(&response, ask.wants) => return Ok(response),
                None => {
                    let sent = authorization.as_ref().and_then(|value| value.to_str().ok());
                    let reading = self.reading(ask, sent);
                    return Err(refusal::read(response, pace, &reading).await);
                }
            }
        }
        let why = format!("more than {REDIRECTS_MAX} redirects at {}", host(&url));
        Err(Failure::new(Cause::Challenge, why).into())
    }

    /// What refusals are read by, after the `authorization` was sent.
    fn reading(&self, ask: &Ask<'_>, authorization: Option<&str>) -> Reading<'_> {
        let secrets = ask.pass.secrets(authorization);
        Reading { rules: &self.rules, scope: ask.wants.scope(), secrets }
    }

    fn request(&self, ask: &Ask<'_>, url: &Url) -> Result<Request, Failure> {
        let accept = match ask.wants {
            Wants::Json => "application/json",
            Wants::Document => "*/*",
        };
        let request = match &ask.post {
            None => self.inner.get(url.clone()),
            Some(json) => self
                .inner
                .post(url.clone())
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
    /// The secret in every form in which a server may repeat it: as it is kept, as it was sent
    /// in the `authorization`, in a URL, and in JSON.
    fn secrets(&self, authorization: Option<&str>) -> Vec<String> {
        let secret = match self {
            Self::Basic { password, .. } => password.expose_secret(),
            Self::Bearer { token } => token.expose_secret(),
        };
        let sent = authorization.and_then(|value| value.split(' ').next_back());
        let json = serde_json::Value::from(secret).to_string();
        let mut forms = vec![
            secret.to_owned(),
            sent.unwrap_or_default().to_owned(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            json.trim_matches('"').to_owned(),
        ];
        // The longest first: one that is part of another would leave the rest of it.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms
    }
}

impl Wants {
    /// What is at stake: one document, or the listing of all.
    fn scope(self) -> Scope {
        match self {
            Self::Json => Scope::Listing,
            Self::Document => Scope::Item,
        }
    }
}

/// The only part of a URL that is ever shown.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}

/// Doubling waits, each spread over its upper half by `share` in `0.0..1.0`.
fn pause(limits: &Limits, attempt: u32, share: f64) -> Duration {
    let doubled = limits.delay.saturating_mul(2_u32.saturating_pow(attempt - 1));
    let half = doubled.min(limits.max_delay) / 2;
    half + half.mul_f64(share)
}
