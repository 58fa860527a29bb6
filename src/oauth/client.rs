//! Requests to the token endpoint and to the device authorization endpoint.

use std::time::Duration;

use bytes::BytesMut;
use cynosure_engine::{Secrets, Timestamp, retry_after};
use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Client, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::form_urlencoded::Serializer;
use url::{Origin, Url};

use super::error::{OAuthError, RefusedRequest};
use super::grant::{GrantType, TokenGrant};
use crate::http_client::{client_builder_for, describe_error, root_cause};

/// Time for a request and its response. Token endpoints answer within seconds.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum size of a response, in bytes. Grants have some kilobytes.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Form fields whose values are never quoted.
const SECRET_FIELDS: [&str; 5] =
    ["assertion", "code", "code_verifier", "device_code", "refresh_token"];

/// Addresses of an authorization server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OAuthEndpoints {
    /// Page where the account's owner signs in. It is opened by a browser.
    pub authorize_url: Option<Url>,
    pub token_url: Url,
    /// Device authorization endpoint (RFC 8628); `None` if the provider has none.
    pub device_url: Option<Url>,
}

/// Client that is registered at an authorization server (RFC 6749 §2).
///
/// Its requests follow no redirects, and are never sent twice: a refresh token may be valid once.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    /// Name of the source, for the commands in error messages.
    pub source: String,
    /// Empty for a service account, which its assertion names.
    pub client_id: String,
    /// Secret of the registration. That of a desktop app is known to everybody.
    pub client_secret: Option<SecretString>,
    pub endpoints: OAuthEndpoints,
    pub scopes: Vec<String>,
    http: Client,
}

impl OAuthClient {
    /// Creates a client. It sends nothing yet.
    ///
    /// # Errors
    /// Returns [`OAuthError::Transient`] if TLS is unavailable on this machine.
    pub fn new(
        source: &str,
        client_id: String,
        client_secret: Option<SecretString>,
        endpoints: OAuthEndpoints,
        scopes: Vec<String>,
    ) -> Result<Self, OAuthError> {
        let urls = [Some(&endpoints.token_url), endpoints.device_url.as_ref()];
        let origins: Vec<Origin> = urls.into_iter().flatten().map(Url::origin).collect();
        // At about one request per hour, an idle connection need not be kept.
        let builder =
            client_builder_for(&origins).timeout(REQUEST_TIMEOUT).pool_max_idle_per_host(0);
        let http = builder.build().map_err(|error| {
            transient(format!("cannot set up TLS on this host: {}", root_cause(&error)))
        })?;
        let source = source.to_owned();
        Ok(Self { source, client_id, client_secret, endpoints, scopes, http })
    }

    /// Returns the client with this secret.
    pub(super) fn with_secret(&self, client_secret: Option<SecretString>) -> Self {
        Self { client_secret, ..self.clone() }
    }

    /// Exchanges a refresh token for an access token (RFC 6749 §6).
    ///
    /// A grant with a new refresh token may have ended the old one: store it before anything else.
    ///
    /// # Errors
    /// Returns the refusal, or the reason why there is no answer now.
    pub async fn refresh(&self, refresh_token: &SecretString) -> Result<TokenGrant, OAuthError> {
        let fields = [("refresh_token", refresh_token.expose_secret())];
        self.post_token(GrantType::RefreshToken, &fields).await
    }

    /// Exchanges the identity of the client for an access token (RFC 6749 §4.4).
    ///
    /// # Errors
    /// Returns the refusal, or the reason why there is no answer now.
    pub async fn request_by_client_credentials(&self) -> Result<TokenGrant, OAuthError> {
        let scope = self.scopes.join(" ");
        let fields = [("scope", scope.as_str())];
        let fields = if scope.is_empty() { &fields[..0] } else { &fields[..] };
        self.post_token(GrantType::ClientCredentials, fields).await
    }

    /// Exchanges the assertion of a service account for an access token (RFC 7523 §2.1).
    ///
    /// # Errors
    /// Returns the refusal, or the reason why there is no answer now.
    pub async fn request_by_assertion(
        &self,
        assertion: &SecretString,
    ) -> Result<TokenGrant, OAuthError> {
        let fields = [("assertion", assertion.expose_secret())];
        self.post_token(GrantType::Assertion, &fields).await
    }

    /// Exchanges an authorization code for tokens (RFC 6749 §4.1.3), with the verifier of its
    /// challenge (RFC 7636 §4.5).
    pub(super) async fn exchange_code(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<TokenGrant, OAuthError> {
        let fields = [("code", code), ("code_verifier", verifier), ("redirect_uri", redirect_uri)];
        self.post_token(GrantType::AuthorizationCode, &fields).await
    }

    /// Sends a form to the token endpoint. The identity of the client and the type of the grant are
    /// added.
    ///
    /// # Errors
    /// Returns [`OAuthError::Denied`] also for a device code that is not approved yet: its `error`
    /// is then `authorization_pending` or `slow_down` (RFC 8628 §3.5).
    pub(super) async fn post_token(
        &self,
        grant_type: GrantType,
        fields: &[(&str, &str)],
    ) -> Result<TokenGrant, OAuthError> {
        let url = &self.endpoints.token_url;
        let mut form = vec![("grant_type", grant_type.name())];
        form.extend_from_slice(fields);
        let answer = self.post(url, grant_type, &form).await?;
        TokenGrant::parse(&answer).map_err(|problem| {
            let host = host(url);
            transient(format!(
                "the answer of the sign-in server {host} is not usable: {problem}; check \
                 `token_url`"
            ))
        })
    }

    /// Sends a form to the device authorization endpoint (RFC 8628 §3.1), and returns the JSON of
    /// the response. The identity of the client is added.
    ///
    /// # Errors
    /// Returns [`OAuthError::Misconfigured`] also if the provider has no such endpoint.
    pub(super) async fn post_device(&self, fields: &[(&str, &str)]) -> Result<Value, OAuthError> {
        let Some(url) = &self.endpoints.device_url else {
            return Err(OAuthError::Misconfigured(
                "the provider has no sign-in by device code, or `device_url` is not set; sign in \
                 without `--device`"
                    .to_owned(),
            ));
        };
        self.post(url, GrantType::DeviceCode, fields).await
    }

    /// Sends a form and returns the JSON of a successful response. `grant_type` explains a refusal.
    async fn post(
        &self,
        url: &Url,
        grant_type: GrantType,
        fields: &[(&str, &str)],
    ) -> Result<Value, OAuthError> {
        let request = self
            .http
            .post(url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(self.form(fields));
        let response = request.send().await.map_err(|error| {
            let problem = describe_error(&error);
            transient(format!("no answer from the sign-in server {}: {problem}", host(url)))
        })?;
        let status = response.status();
        let retry_after = demanded_wait(response.headers());
        let body = read_body(response, host(url)).await?;
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        // A few servers send an error with the status of a success.
        let is_error = |answer: &Value| answer.get("error").is_some_and(|code| !code.is_null());
        match answer {
            Some(answer) if status.is_success() && !is_error(&answer) => Ok(answer),
            answer => {
                let secrets = self.secrets(fields);
                let refused = RefusedRequest {
                    source: &self.source,
                    grant_type,
                    host: host(url),
                    status: status.as_u16(),
                    retry_after,
                    answer: answer.as_ref(),
                };
                Err(refused.classify(|text| secrets.mask(text)))
            }
        }
    }

    /// Returns the form with the identity of the client. A secret goes into the form, because some
    /// providers do not read the header of RFC 6749 §2.3.1.
    fn form(&self, fields: &[(&str, &str)]) -> String {
        let mut form = Serializer::new(String::new());
        if !self.client_id.is_empty() {
            form.append_pair("client_id", &self.client_id);
        }
        if let Some(secret) = &self.client_secret {
            form.append_pair("client_secret", secret.expose_secret());
        }
        for (name, value) in fields {
            form.append_pair(name, value);
        }
        form.finish()
    }

    /// Returns the secrets of a request, which its response may repeat.
    fn secrets(&self, fields: &[(&str, &str)]) -> Secrets {
        let in_fields = fields.iter().filter(|(name, _)| SECRET_FIELDS.contains(name));
        let client_secret = self.client_secret.as_ref().map(|secret| secret.expose_secret());
        Secrets::new(in_fields.map(|(_, value)| *value).chain(client_secret))
    }
}

async fn read_body(mut response: Response, host: &str) -> Result<BytesMut, OAuthError> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= RESPONSE_BYTES_MAX => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => {
                return Err(transient(format!(
                    "the answer of the sign-in server {host} has more than {RESPONSE_BYTES_MAX} \
                     bytes; check `token_url`"
                )));
            }
            Ok(None) => return Ok(body),
            Err(error) => {
                let problem = describe_error(&error);
                return Err(transient(format!(
                    "incomplete answer of the sign-in server {host}: {problem}"
                )));
            }
        }
    }
}

/// Returns the wait of a Retry-After. A date is relative to the `Date` of the response, and ignored
/// without one.
fn demanded_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let date = text(DATE).and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok());
    let sent_at = date.map_or(Timestamp(0), |date| Timestamp(date.timestamp_millis()));
    retry_after::parse(text(RETRY_AFTER)?, sent_at)
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

fn transient(message: String) -> OAuthError {
    OAuthError::Transient { message, retry_after: None }
}

#[cfg(test)]
mod tests {
    use cynosure_engine::Cause;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;

    fn client_of(token_url: &str) -> OAuthClient {
        let endpoints = OAuthEndpoints {
            authorize_url: None,
            token_url: Url::parse(token_url).unwrap(),
            device_url: None,
        };
        let secret = Some(SecretString::from("client-s3cret"));
        let scopes = vec!["mail".to_owned()];
        OAuthClient::new("work", "id&1".to_owned(), secret, endpoints, scopes).unwrap()
    }

    /// Reads a request up to the end of its form, which has no line breaks.
    async fn read_request(stream: &mut TcpStream) -> String {
        let mut request = String::new();
        loop {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).await.unwrap();
            request.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            let is_complete = request.split_once("\r\n\r\n").is_some_and(|(head, form)| {
                let lengths = head.lines().filter_map(|line| line.split_once(": "));
                let mut lengths =
                    lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                lengths.next().is_some_and(|(_, length)| length == form.len().to_string())
            });
            if is_complete || length == 0 {
                return request;
            }
        }
    }

    /// Returns a client of a server that answers one request, and the request that it gets.
    async fn one_request(status: &str, body: &str) -> (OAuthClient, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client_of(&format!("http://{}/token", listener.local_addr().unwrap()));
        let length = body.len();
        let response = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            // The client closes the connection early if the response is too long.
            let _written = stream.write_all(response.as_bytes()).await;
            request
        });
        (client, server)
    }

    async fn refresh_error(status: &str, body: &str) -> OAuthError {
        let (client, _server) = one_request(status, body).await;
        client.refresh(&SecretString::from("refresh-s3cret")).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_refresh_sends_the_token_and_the_client_in_a_form() {
        let body = r#"{"access_token":"at-2","refresh_token":"rt-2","expires_in":60}"#;
        let (client, server) = one_request("200 OK", body).await;

        let grant = client.refresh(&SecretString::from("rt/1+&")).await.unwrap();

        assert_eq!(grant.access_token.expose_secret(), "at-2");
        assert_eq!(grant.refresh_token.unwrap().expose_secret(), "rt-2");
        let request = server.await.unwrap();
        assert!(request.starts_with("POST /token HTTP/1.1\r\n"), "{request}");
        let form = "client_id=id%261&client_secret=client-s3cret&grant_type=refresh_token&\
                    refresh_token=rt%2F1%2B%26";
        assert!(request.ends_with(form), "{request}");
    }

    #[tokio::test]
    async fn a_code_is_exchanged_with_its_verifier_and_redirect() {
        let (client, server) = one_request("200 OK", r#"{"access_token":"at"}"#).await;

        client.exchange_code("c0de", "ver1fier", "http://127.0.0.1:7/").await.unwrap();

        let form = "&grant_type=authorization_code&code=c0de&code_verifier=ver1fier&\
                    redirect_uri=http%3A%2F%2F127.0.0.1%3A7%2F";
        let request = server.await.unwrap();
        assert!(request.ends_with(form), "{request}");
    }

    #[tokio::test]
    async fn a_client_gets_a_token_by_its_secret() {
        let (client, server) = one_request("200 OK", r#"{"access_token":"at"}"#).await;

        client.request_by_client_credentials().await.unwrap();

        let request = server.await.unwrap();
        let form = "client_id=id%261&client_secret=client-s3cret&grant_type=client_credentials&\
                    scope=mail";
        assert!(request.ends_with(form), "{request}");
    }

    #[tokio::test]
    async fn an_assertion_is_sent_without_a_client() {
        let (client, server) = one_request("200 OK", r#"{"access_token":"at"}"#).await;
        let client = OAuthClient { client_id: String::new(), client_secret: None, ..client };

        client.request_by_assertion(&SecretString::from("a.b.c")).await.unwrap();

        let request = server.await.unwrap();
        let form = "\r\n\r\ngrant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&\
                    assertion=a.b.c";
        assert!(request.ends_with(form), "{request}");
    }

    #[tokio::test]
    async fn a_refused_refresh_does_not_show_its_secrets() {
        let body = r#"{"error":"invalid_grant","error_description":
            "refresh-s3cret of client-s3cret is revoked"}"#;
        let error = refresh_error("400 Bad Request", body).await;

        let shown = format!("{error} {error:?}");
        assert!(matches!(error, OAuthError::Denied(_)) && !shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("[secret] of [secret] is revoked"), "{shown}");
    }

    #[tokio::test]
    async fn an_error_with_the_status_of_a_success_is_a_refusal() {
        let error = refresh_error("200 OK", r#"{"error":"invalid_client"}"#).await;

        assert!(matches!(error, OAuthError::Misconfigured(_)), "{error:?}");
    }

    #[tokio::test]
    async fn garbage_and_failing_servers_are_transient() {
        let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(1_000_000));
        for (status, body) in [
            ("200 OK", "<html>Sign in</html>"),
            ("200 OK", ""),
            ("200 OK", "{}"),
            ("200 OK", "[1]"),
            ("200 OK", long.as_str()),
            ("302 Found\r\nlocation: http://127.0.0.1:1/", ""),
            ("404 Not Found", "<html></html>"),
            ("401 Unauthorized", ""),
            ("500 Internal Server Error", r#"{"error":"invalid_grant"}"#),
        ] {
            let error = refresh_error(status, body).await;
            assert!(matches!(error, OAuthError::Transient { .. }), "{status}: {error:?}");
            assert_eq!(error.to_failure().cause, Cause::Connection, "{status}");
        }
    }

    #[tokio::test]
    async fn a_throttled_refresh_waits_as_long_as_demanded() {
        let error = refresh_error("429 Too Many Requests\r\nretry-after: 3", "{}").await;

        assert_eq!(error.to_failure().cause, Cause::RateLimit);
        assert_eq!(error.to_failure().retry_after, Some(Duration::from_secs(3)));
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_is_transient() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client_of(&format!("http://{}/token", listener.local_addr().unwrap()));
        drop(listener);

        let error = client.refresh(&SecretString::from("refresh-s3cret")).await.unwrap_err();

        assert_eq!(error.to_failure().cause, Cause::Connection);
        let begin = "no answer from the sign-in server 127.0.0.1: ";
        assert!(error.to_string().starts_with(begin), "{error}");
    }

    #[tokio::test]
    async fn a_device_code_needs_an_endpoint() {
        let error = client_of("http://127.0.0.1:1/token").post_device(&[]).await.unwrap_err();

        assert!(matches!(error, OAuthError::Misconfigured(_)), "{error:?}");
    }

    #[test]
    fn a_retry_after_is_relative_to_the_date_of_its_response() {
        let wait = |fields: &[(HeaderName, &'static str)]| {
            let fields = fields.iter().cloned();
            let headers = fields.map(|(name, text)| (name, text.parse().unwrap()));
            demanded_wait(&headers.collect())
        };
        let later = (RETRY_AFTER, "Sun, 06 Nov 1994 08:54:37 GMT");

        assert_eq!(wait(&[(RETRY_AFTER, "7")]), Some(Duration::from_secs(7)));
        let sent_at = (DATE, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(wait(&[sent_at, later.clone()]), Some(Duration::from_secs(300)));
        assert_eq!(wait(&[later]), None);
        assert_eq!(wait(&[]), None);
    }
}
