//! Authorization server that follows the protocols, except for the answers that a test gives
//! instead: OAuth 2.0 (RFC 6749) with PKCE (RFC 7636), refresh tokens that are accepted once,
//! device codes (RFC 8628), and assertions of a service account (RFC 7523).

#[path = "consent_pages.rs"]
mod consent_pages;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD as BASE64, BASE64_URL_SAFE_NO_PAD as BASE64_URL};
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use url::{Url, form_urlencoded};

use self::consent_pages::{ConsentPages, UserDecision};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};

pub(super) const CLIENT_ID: &str = "cynosure-test";

/// Secret with which the client gets tokens without a user.
pub(super) const CLIENT_SECRET: &str = "client-s3cret";

/// Key file of the service account.
pub(super) const SERVICE_ACCOUNT_KEY: &str =
    include_str!("../../fixtures/service-account.key.json");

/// User for whom the service account may act, and the scope that it may ask for.
pub(super) const DELEGATED_USER: &str = "me@example.com";
pub(super) const DELEGATED_SCOPE: &str = "mail";

/// Code that a device shows.
pub(super) const USER_CODE: &str = "WDJB-MJHT";

/// Description of a refused consent.
pub(super) const REFUSAL: &str = "The user declined.";

/// A part of every secret of the server, also of those that it repeats in its errors.
pub(super) const SECRET_MARK: &str = "s3cret";

const DEVICE_CODE: &str = "device-code-s3cret";

/// Address of the page for the code of a device, where no test opens it.
const UNUSED_DEVICE_PAGE: &str = "https://example.com/device";

const DEVICE_GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const ASSERTION_GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Parameters of a request.
pub(super) type RequestFields = BTreeMap<String, String>;

/// Server on the loopback interface. It listens until the test's runtime ends.
#[derive(Clone)]
pub(super) struct AuthorizationServer {
    url: Url,
    state: Arc<Mutex<ServerState>>,
}

#[derive(Default)]
struct ServerState {
    refuses_consent: bool,
    /// Pages for a browser. Without them it is sent back at once.
    pages: Option<ConsentPages>,
    /// Response of the token endpoint to every request, in place of its own.
    token_response: Option<Vec<u8>>,
    /// Errors of the next polls of a device, before it gets its tokens.
    device_errors: VecDeque<&'static str>,
    /// Requests for authorization that were granted, by their codes.
    codes: BTreeMap<String, RequestFields>,
    access_tokens: BTreeSet<String>,
    refresh_tokens: BTreeSet<String>,
    token_requests: Vec<RequestFields>,
    /// Number of token requests, for tests that wait for one.
    token_request_count: watch::Sender<usize>,
    /// Holds the responses of the token endpoint back until it has `true`.
    release: Option<watch::Receiver<bool>>,
    /// URL of the token endpoint, which assertions name.
    audience: String,
    /// Number of codes and tokens so far.
    issued_count: u32,
}

impl AuthorizationServer {
    pub(super) async fn start() -> Self {
        let state = Arc::new(Mutex::new(ServerState::default()));
        let shared = Arc::clone(&state);
        let server = HostileServer::start(move |_, request| {
            let mut state = shared.lock().unwrap();
            let response = state.respond(request);
            let release = state.release.clone().filter(|_| request.path() == "/token");
            let wait = release.map(ConnectionAction::Wait);
            let send = [ConnectionAction::Send(response), ConnectionAction::Close];
            wait.into_iter().chain(send).collect()
        })
        .await;
        let server = Self { url: server.url, state };
        server.state().audience = server.endpoint("token").to_string();
        server
    }

    /// Returns the URL of an endpoint: `authorize`, `token`, `device` or `introspect`.
    pub(super) fn endpoint(&self, name: &str) -> Url {
        self.url.join(name).unwrap()
    }

    pub(super) fn refuse_consent(&self) {
        self.state().refuses_consent = true;
    }

    /// Lets the user of a browser decide on pages from now on. The tokens are those of this user.
    pub(super) fn show_pages_to(&self, user: &str) {
        let pages = ConsentPages::new(user, self.endpoint("activate"));
        self.state().pages = Some(pages);
    }

    /// Answers each poll of a device by one of these errors, and the one after them by its tokens.
    pub(super) fn delay_device(&self, errors: impl IntoIterator<Item = &'static str>) {
        self.state().device_errors = errors.into_iter().collect();
    }

    /// Answers all requests to the token endpoint by this response, or by its own if `None`.
    pub(super) fn answer_token_requests(&self, response: Option<Vec<u8>>) {
        self.state().token_response = response;
    }

    /// Holds the responses of the token endpoint back until the returned sender sends `true`.
    pub(super) fn hold_token_responses(&self) -> watch::Sender<bool> {
        let (sender, receiver) = watch::channel(false);
        self.state().release = Some(receiver);
        sender
    }

    /// Waits until the token endpoint has had this many requests.
    pub(super) async fn wait_for_token_requests(&self, count: usize) {
        let mut received = self.state().token_request_count.subscribe();
        received.wait_for(|received| count <= *received).await.unwrap();
    }

    pub(super) fn revoke_access_tokens(&self) {
        self.state().access_tokens.clear();
    }

    pub(super) fn revoke_everything(&self) {
        self.revoke_access_tokens();
        self.state().refresh_tokens.clear();
    }

    /// Returns true for an access token that was issued and not revoked.
    pub(super) fn accepts(&self, access_token: &str) -> bool {
        self.state().access_tokens.contains(access_token)
    }

    /// Returns the refresh tokens that are accepted.
    pub(super) fn refresh_tokens(&self) -> BTreeSet<String> {
        self.state().refresh_tokens.clone()
    }

    /// Returns the requests to the token endpoint, in the order of their arrival.
    pub(super) fn token_requests(&self) -> Vec<RequestFields> {
        self.state().token_requests.clone()
    }

    /// Returns the number of requests for tokens in exchange for a code.
    pub(super) fn exchange_count(&self) -> usize {
        self.count_requests("authorization_code") + self.count_requests(DEVICE_GRANT_TYPE)
    }

    /// Returns the number of refreshes that were requested.
    pub(super) fn refresh_count(&self) -> usize {
        self.count_requests("refresh_token")
    }

    fn count_requests(&self, grant_type: &str) -> usize {
        let state = self.state();
        let grant_types = state.token_requests.iter().filter_map(|fields| fields.get("grant_type"));
        grant_types.filter(|requested| *requested == grant_type).count()
    }

    fn state(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap()
    }
}

impl ServerState {
    fn respond(&mut self, request: &ReceivedRequest) -> Vec<u8> {
        let target = request.path();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match path {
            "/authorize" => self.authorize(parse_fields(query.as_bytes())),
            "/consent" => self.decide(&parse_fields(&request.body)),
            "/device" => self.begin_device(&parse_fields(&request.body)),
            "/activate" => self.activate(&parse_fields(&request.body)),
            "/introspect" => self.introspect(&parse_fields(query.as_bytes())),
            "/token" => {
                let fields = parse_fields(&request.body);
                let response = self.token_response.clone();
                let response = response.unwrap_or_else(|| self.grant(&fields));
                self.token_requests.push(fields);
                self.token_request_count.send_replace(self.token_requests.len());
                response
            }
            _ => response("404 Not Found", "", ""),
        }
    }

    /// Shows a page to the browser, or sends it back at once.
    fn authorize(&mut self, fields: RequestFields) -> Vec<u8> {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let is_valid = field("client_id") == CLIENT_ID
            && field("response_type") == "code"
            && field("code_challenge_method") == "S256"
            && field("redirect_uri").starts_with("http://127.0.0.1:");
        if !is_valid {
            return response("400 Bad Request", "", format!("{fields:?}"));
        }
        if let Some(pages) = &mut self.pages {
            return html_response(pages.consent_page(fields));
        }
        let decision =
            if self.refuses_consent { UserDecision::Denied } else { UserDecision::Allowed };
        self.send_back(fields, decision)
    }

    /// Carries out the decision in the form of a page.
    fn decide(&mut self, form: &RequestFields) -> Vec<u8> {
        match self.pages.as_ref().and_then(|pages| pages.decided_request(form)) {
            Some((fields, decision)) => self.send_back(fields, decision),
            None => response("400 Bad Request", "", format!("{form:?}")),
        }
    }

    /// Sends the browser back, with a code or with the user's refusal.
    fn send_back(&mut self, fields: RequestFields, decision: UserDecision) -> Vec<u8> {
        let mut redirect: Url = fields["redirect_uri"].parse().unwrap();
        let state = fields.get("state").map_or("", String::as_str);
        redirect.query_pairs_mut().append_pair("state", state);
        match decision {
            UserDecision::Denied => {
                let mut query = redirect.query_pairs_mut();
                query.append_pair("error", "access_denied");
                query.append_pair("error_description", REFUSAL);
            }
            UserDecision::Allowed => {
                let code = format!("code-{}-{SECRET_MARK}", self.next_number());
                redirect.query_pairs_mut().append_pair("code", &code);
                self.codes.insert(code, fields);
            }
        }
        response("302 Found", &format!("Location: {redirect}\r\n"), "")
    }

    fn begin_device(&self, fields: &RequestFields) -> Vec<u8> {
        if fields.get("client_id").is_none_or(|client_id| client_id != CLIENT_ID) {
            return oauth_error("401 Unauthorized", "invalid_client", "No such client.");
        }
        let page = self.pages.as_ref().map(|pages| pages.activation_url.as_str());
        json_response(
            "200 OK",
            &json!({
                "device_code": DEVICE_CODE,
                "user_code": USER_CODE,
                "verification_uri": page.unwrap_or(UNUSED_DEVICE_PAGE),
                "expires_in": 900,
                "interval": 1,
            }),
        )
    }

    /// Shows the page for the code of a device.
    fn activate(&mut self, form: &RequestFields) -> Vec<u8> {
        match &mut self.pages {
            Some(pages) => html_response(pages.activation_page(form)),
            None => response("404 Not Found", "", ""),
        }
    }

    /// Returns the user of an access token (RFC 7662 §2.2).
    fn introspect(&self, fields: &RequestFields) -> Vec<u8> {
        let is_active = fields.get("token").is_some_and(|token| self.access_tokens.contains(token));
        let answer = match &self.pages {
            Some(pages) if is_active => json!({ "active": true, "username": pages.user }),
            _ => json!({ "active": false }),
        };
        json_response("200 OK", &answer)
    }

    /// Returns the error of the next poll by a device, which gets its tokens without one.
    fn device_error(&mut self) -> Option<&'static str> {
        let undecided = self.pages.as_ref().and_then(ConsentPages::device_error);
        self.device_errors.pop_front().or(undecided)
    }

    /// Answers a request to the token endpoint.
    fn grant(&mut self, fields: &RequestFields) -> Vec<u8> {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        if field("grant_type") == ASSERTION_GRANT_TYPE {
            return self.grant_to_service_account(field("assertion"));
        }
        if field("client_id") != CLIENT_ID {
            return oauth_error("401 Unauthorized", "invalid_client", "No such client.");
        }
        if field("grant_type") == "client_credentials" {
            if field("client_secret") != CLIENT_SECRET {
                let description = format!("The secret {} has expired.", field("client_secret"));
                return oauth_error("401 Unauthorized", "invalid_client", &description);
            }
            return self.grant_to_application();
        }
        let is_granted = match field("grant_type") {
            "authorization_code" => self.codes.remove(field("code")).is_some_and(|asked| {
                asked["code_challenge"] == challenge_of(field("code_verifier"))
                    && asked["redirect_uri"] == field("redirect_uri")
            }),
            "refresh_token" => self.refresh_tokens.remove(field("refresh_token")),
            DEVICE_GRANT_TYPE => match self.device_error() {
                Some(error) => return oauth_error("400 Bad Request", error, ""),
                None => field("device_code") == DEVICE_CODE,
            },
            _ => return oauth_error("400 Bad Request", "unsupported_grant_type", ""),
        };
        if !is_granted {
            let description = format!("The token {} is revoked.", field("refresh_token"));
            return oauth_error("400 Bad Request", "invalid_grant", &description);
        }
        let number = self.next_number();
        let access_token = format!("access-{number}-{SECRET_MARK}");
        let refresh_token = refresh_token_of(&access_token);
        self.access_tokens.insert(access_token.clone());
        self.refresh_tokens.insert(refresh_token.clone());
        json_response(
            "200 OK",
            &json!({
                "access_token": access_token,
                "refresh_token": refresh_token,
                "expires_in": 3600,
                "token_type": "Bearer",
            }),
        )
    }

    /// Answers a service account as Google does.
    fn grant_to_service_account(&mut self, assertion: &str) -> Vec<u8> {
        let Some(claims) = verified_claims(assertion) else {
            return oauth_error("400 Bad Request", "invalid_grant", "Invalid JWT Signature.");
        };
        let issued_at = claims["iat"].as_i64().unwrap();
        if claims["aud"] != self.audience || claims["exp"].as_i64() != Some(issued_at + 3600) {
            return oauth_error("400 Bad Request", "invalid_grant", "Invalid JWT.");
        }
        if claims["scope"] != DELEGATED_SCOPE {
            let description = "Client is unauthorized to retrieve access tokens using this method, \
                               or client not authorized for any of the scopes requested.";
            return oauth_error("401 Unauthorized", "unauthorized_client", description);
        }
        if claims["sub"] != DELEGATED_USER {
            return oauth_error("400 Bad Request", "invalid_grant", "Invalid email or User ID");
        }
        self.grant_to_application()
    }

    fn grant_to_application(&mut self) -> Vec<u8> {
        let access_token = format!("access-{}-{SECRET_MARK}", self.next_number());
        self.access_tokens.insert(access_token.clone());
        let answer =
            json!({ "access_token": access_token, "expires_in": 3600, "token_type": "Bearer" });
        json_response("200 OK", &answer)
    }

    fn next_number(&mut self) -> u32 {
        self.issued_count += 1;
        self.issued_count
    }
}

/// Returns the refresh token that is issued with an access token.
pub(super) fn refresh_token_of(access_token: &str) -> String {
    access_token.replace("access-", "refresh-")
}

/// Returns an error of RFC 6749, section 5.2.
pub(super) fn oauth_error(status: &str, error: &str, description: &str) -> Vec<u8> {
    json_response(status, &json!({ "error": error, "error_description": description }))
}

/// Returns a response after which the connection ends.
pub(super) fn response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    plain_response(status, &format!("{headers}Connection: close\r\n"), body)
}

fn json_response(status: &str, body: &Value) -> Vec<u8> {
    response(status, "Content-Type: application/json\r\n", body.to_string())
}

fn html_response(page: String) -> Vec<u8> {
    response("200 OK", "Content-Type: text/html; charset=utf-8\r\n", page)
}

fn parse_fields(encoded: &[u8]) -> RequestFields {
    form_urlencoded::parse(encoded).into_owned().collect()
}

/// Returns the claims of an assertion that the service account has signed.
#[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
fn verified_claims(assertion: &str) -> Option<Value> {
    let (message, signature) = assertion.rsplit_once('.')?;
    let key: Value = serde_json::from_str(SERVICE_ACCOUNT_KEY).unwrap();
    let pem_lines = key["private_key"].as_str().unwrap().lines();
    let base64: String = pem_lines.filter(|line| !line.starts_with('-')).collect();
    let key_pair = RsaKeyPair::from_pkcs8(&BASE64.decode(base64).unwrap()).unwrap();
    let public_key: &[u8] = key_pair.public_key().as_ref();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key)
        .verify(message.as_bytes(), &BASE64_URL.decode(signature).ok()?)
        .ok()?;
    let (header, claims) = message.split_once('.')?;
    let decode = |part: &str| -> Value {
        let bytes = BASE64_URL.decode(part).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let header = decode(header);
    assert_eq!((&header["alg"], &header["kid"]), (&json!("RS256"), &key["private_key_id"]));
    let claims = decode(claims);
    assert_eq!(claims["iss"], key["client_email"]);
    Some(claims)
}

/// Returns the challenge of a verifier (RFC 7636, section 4.2).
fn challenge_of(verifier: &str) -> String {
    BASE64_URL.encode(Sha256::digest(verifier))
}
