//! Requests of a discovery over HTTPS. They carry no credential.

use bytes::BytesMut;
use reqwest::header::{ACCEPT, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Client, Response};
use serde_json::Value;
use url::Url;

use super::access::jmap_session_url;
use crate::http_client::{client_builder, client_builder_for, describe_error};

/// Redirects that are followed. Providers need one or two.
const REDIRECTS_MAX: usize = 3;

/// Maximum size of an answer, in bytes. Configurations and sessions have some kilobytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Client that follows redirects over https only.
#[derive(Debug)]
pub(super) struct WebClient {
    http: Client,
    /// Stands for the origin of every host, in tests.
    base: Option<Url>,
}

/// Response of a web server, as far as a discovery reads it.
#[derive(Debug)]
pub(super) struct WebAnswer {
    /// URL after the redirects.
    url: Url,
    status: u16,
    /// Values of `WWW-Authenticate`.
    challenges: Vec<String>,
    /// Empty if it is too long.
    body: Vec<u8>,
}

/// JMAP service of a host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct JmapService {
    /// URL of the session.
    pub(super) url: Url,
    /// True if the server accepts bearer tokens only.
    pub(super) needs_token: bool,
}

impl WebClient {
    /// Creates a client. It sends nothing yet.
    ///
    /// # Errors
    ///
    /// One sentence, if TLS is not available on this machine.
    pub(super) fn new(base: Option<&Url>) -> Result<Self, String> {
        let builder = match base {
            Some(base) => client_builder_for(&[base.origin()]),
            None => client_builder(),
        };
        let http = builder.build().map_err(|error| {
            format!("cannot set up TLS on this machine: {}", describe_error(&error))
        })?;
        Ok(Self { http, base: base.cloned() })
    }

    /// Finds the JMAP service of a host (RFC 8620, section 2.2).
    ///
    /// # Errors
    ///
    /// One sentence, if the host does not answer.
    pub(super) async fn find_jmap(&self, host: &str) -> Result<Option<JmapService>, String> {
        let Some(url) = jmap_session_url(host) else { return Ok(None) };
        let url = self.at_base(url);
        let answer = self.get(&url).await?;
        Ok(answer.is_jmap_session().then(|| answer.into_service(url)).filter(is_usable))
    }

    /// Requests a URL, and follows redirects. One to plain http is not followed, and its response
    /// is the answer.
    ///
    /// # Errors
    ///
    /// One sentence, if the host does not answer.
    pub(super) async fn get(&self, url: &Url) -> Result<WebAnswer, String> {
        let mut url = self.at_base(url.clone());
        let mut redirects = 0;
        loop {
            let request = self.http.get(url.clone()).header(ACCEPT, "application/json, text/xml");
            let host = url.host_str().unwrap_or_default();
            let response = request
                .send()
                .await
                .map_err(|error| format!("{host} gives no answer: {}", describe_error(&error)))?;
            match self.redirect_target(&url, &response) {
                Some(target) if redirects < REDIRECTS_MAX => {
                    url = target;
                    redirects += 1;
                }
                Some(_) | None => return WebAnswer::read(url, response).await,
            }
        }
    }

    /// Returns the URL with the origin that stands for every host, if there is one.
    fn at_base(&self, url: Url) -> Url {
        let Some(base) = &self.base else { return url };
        let mut replaced = base.clone();
        replaced.set_path(url.path());
        replaced
    }

    fn redirect_target(&self, url: &Url, response: &Response) -> Option<Url> {
        if !response.status().is_redirection() {
            return None;
        }
        let location = response.headers().get(LOCATION)?.to_str().ok()?;
        let target = url.join(location).ok()?;
        let is_base = self.base.as_ref().is_some_and(|base| base.origin() == target.origin());
        (target.scheme() == "https" || is_base).then_some(target)
    }
}

impl WebAnswer {
    async fn read(url: Url, mut response: Response) -> Result<Self, String> {
        let status = response.status().as_u16();
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges =
            headers.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => {
                    body.clear();
                    break;
                }
                Ok(None) => break,
                Err(error) => {
                    let host = url.host_str().unwrap_or_default();
                    let problem = describe_error(&error);
                    return Err(format!("{host} gives an incomplete answer: {problem}"));
                }
            }
        }
        Ok(Self { url, status, challenges, body: body.to_vec() })
    }

    /// Returns the text of a successful answer.
    pub(super) fn text(&self) -> Option<&str> {
        if self.status != 200 {
            return None;
        }
        std::str::from_utf8(&self.body).ok()
    }

    /// True for a session, and for the demand of a login: no other page is at this path.
    fn is_jmap_session(&self) -> bool {
        let json: Option<Value> = serde_json::from_slice(&self.body).ok();
        let object = json.as_ref().and_then(Value::as_object);
        match self.status {
            200 => object.is_some_and(|session| session.contains_key("capabilities")),
            401 => object.is_some() || !self.challenges.is_empty(),
            _ => false,
        }
    }

    /// Returns the service that was requested at a URL. Another host to which it was redirected
    /// takes its place, because a source follows redirects within the host of its URL only.
    fn into_service(self, requested: Url) -> JmapService {
        let is_bearer = |challenge: &String| {
            challenge.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
        };
        let needs_token = !self.challenges.is_empty() && self.challenges.iter().all(is_bearer);
        let is_same_host = self.url.origin() == requested.origin();
        JmapService { url: if is_same_host { requested } else { self.url }, needs_token }
    }
}

/// True for a URL that a configuration may have.
fn is_usable(service: &JmapService) -> bool {
    let url = &service.url;
    let has_login = !url.username().is_empty() || url.password().is_some();
    url.query().is_none() && url.fragment().is_none() && !has_login
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("it is a URL")
    }

    fn answer(status: u16, challenges: &[&str], body: &str) -> WebAnswer {
        let challenges = challenges.iter().map(|text| (*text).to_owned()).collect();
        let url = url("https://example.com/.well-known/jmap");
        WebAnswer { url, status, challenges, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_session_and_a_demanded_login_are_a_service() {
        for (found, expected) in [
            (answer(200, &[], r#"{"capabilities": {}}"#), true),
            (answer(401, &["Basic realm=\"mail\""], ""), true),
            (answer(401, &[], r#"{"type": "about:blank"}"#), true),
            (answer(200, &[], "{}"), false),
            (answer(200, &[], "<html>"), false),
            (answer(200, &["Basic"], ""), false),
            (answer(401, &[], "<html>"), false),
            (answer(404, &[], r#"{"capabilities": {}}"#), false),
        ] {
            assert_eq!(found.is_jmap_session(), expected, "{found:?}");
        }
    }

    #[test]
    fn only_bearer_challenges_need_a_token() {
        let requested = url("https://example.com/.well-known/jmap");
        for (challenges, expected) in [
            (&["Bearer realm=\"mail\""][..], true),
            (&["bearer"], true),
            (&["Basic", "Bearer"], false),
            (&["Basic"], false),
            (&["é"], false),
            (&[], false),
        ] {
            let service = answer(401, challenges, "").into_service(requested.clone());
            assert_eq!(service.needs_token, expected, "{challenges:?}");
        }
    }

    #[test]
    fn another_host_takes_the_place_of_the_requested_one() {
        let requested = url("https://mail.example.com/.well-known/jmap");
        let moved = answer(401, &["Basic"], "").into_service(requested);
        assert_eq!(moved.url.as_str(), "https://example.com/.well-known/jmap");

        let same =
            WebAnswer { url: url("https://example.com/session"), ..answer(401, &["Basic"], "") };
        let requested = url("https://example.com/.well-known/jmap");
        assert_eq!(same.into_service(requested.clone()).url, requested);
    }

    #[test]
    fn a_url_with_a_secret_is_not_used() {
        for (text, expected) in [
            ("https://example.com/session", true),
            ("https://me:secret@example.com/session", false),
            ("https://example.com/session?token=secret", false),
            ("https://example.com/session#part", false),
        ] {
            let service = JmapService { url: url(text), needs_token: false };
            assert_eq!(is_usable(&service), expected, "{text}");
        }
    }
}
