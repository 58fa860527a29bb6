//! Authorization server that follows the protocols, except for the answers that a test gives
//! instead: OAuth 2.0 (RFC 6749) with PKCE (RFC 7636), refresh tokens that are accepted once, and
//! device codes (RFC 8628).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::{Url, form_urlencoded};

use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};

pub(super) const CLIENT_ID: &str = "cynosure-test";

/// Code that a device shows.
pub(super) const USER_CODE: &str = "WDJB-MJHT";

/// Description of a refused consent.
pub(super) const REFUSAL: &str = "The user declined.";

/// A part of every secret of the server, also of those that it repeats in its errors.
pub(super) const SECRET_MARK: &str = "s3cret";

const DEVICE_CODE: &str = "device-code-s3cret";
const DEVICE_GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

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
    /// Response of the token endpoint to every request, in place of its own.
    token_response: Option<Vec<u8>>,
    /// Errors of the next polls of a device, before it gets its tokens.
    device_errors: VecDeque<&'static str>,
    /// Requests for authorization that were granted, by their codes.
    codes: BTreeMap<String, RequestFields>,
    access_tokens: BTreeSet<String>,
    refresh_tokens: BTreeSet<String>,
    token_requests: Vec<RequestFields>,
    /// Number of codes and tokens so far.
    issued_count: u32,
}

impl AuthorizationServer {
    pub(super) async fn start() -> Self {
        let state = Arc::new(Mutex::new(ServerState::default()));
        let shared = Arc::clone(&state);
        let server = HostileServer::start(move |_, request| {
            let response = shared.lock().unwrap().respond(request);
            vec![ConnectionAction::Send(response), ConnectionAction::Close]
        })
        .await;
        Self { url: server.url, state }
    }

    /// Returns the URL of an endpoint: `authorize`, `token` or `device`.
    pub(super) fn endpoint(&self, name: &str) -> Url {
        self.url.join(name).unwrap()
    }

    pub(super) fn refuse_consent(&self) {
        self.state().refuses_consent = true;
    }

    /// Answers each poll of a device by one of these errors, and the one after them by its tokens.
    pub(super) fn delay_device(&self, errors: impl IntoIterator<Item = &'static str>) {
        self.state().device_errors = errors.into_iter().collect();
    }

    /// Answers all requests to the token endpoint by this response, or by its own if `None`.
    pub(super) fn answer_token_requests(&self, response: Option<Vec<u8>>) {
        self.state().token_response = response;
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
            "/device" => begin_device(&parse_fields(&request.body)),
            "/token" => {
                let fields = parse_fields(&request.body);
                let response = self.token_response.clone();
                let response = response.unwrap_or_else(|| self.grant(&fields));
                self.token_requests.push(fields);
                response
            }
            _ => response("404 Not Found", "", ""),
        }
    }

    /// Sends the browser back at once, with a code or with the user's refusal.
    fn authorize(&mut self, fields: RequestFields) -> Vec<u8> {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let is_valid = field("client_id") == CLIENT_ID
            && field("response_type") == "code"
            && field("code_challenge_method") == "S256"
            && field("redirect_uri").starts_with("http://127.0.0.1:");
        if !is_valid {
            return response("400 Bad Request", "", format!("{fields:?}"));
        }
        let mut redirect: Url = field("redirect_uri").parse().unwrap();
        redirect.query_pairs_mut().append_pair("state", field("state"));
        if self.refuses_consent {
            let mut query = redirect.query_pairs_mut();
            query.append_pair("error", "access_denied").append_pair("error_description", REFUSAL);
        } else {
            let code = format!("code-{}-{SECRET_MARK}", self.next_number());
            redirect.query_pairs_mut().append_pair("code", &code);
            self.codes.insert(code, fields);
        }
        response("302 Found", &format!("Location: {redirect}\r\n"), "")
    }

    /// Answers a request to the token endpoint.
    fn grant(&mut self, fields: &RequestFields) -> Vec<u8> {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        if field("client_id") != CLIENT_ID {
            return oauth_error("401 Unauthorized", "invalid_client", "No such client.");
        }
        let is_granted = match field("grant_type") {
            "authorization_code" => self.codes.remove(field("code")).is_some_and(|asked| {
                asked["code_challenge"] == challenge_of(field("code_verifier"))
                    && asked["redirect_uri"] == field("redirect_uri")
            }),
            "refresh_token" => self.refresh_tokens.remove(field("refresh_token")),
            DEVICE_GRANT_TYPE => match self.device_errors.pop_front() {
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

fn begin_device(fields: &RequestFields) -> Vec<u8> {
    if fields.get("client_id").is_none_or(|client_id| client_id != CLIENT_ID) {
        return oauth_error("401 Unauthorized", "invalid_client", "No such client.");
    }
    json_response(
        "200 OK",
        &json!({
            "device_code": DEVICE_CODE,
            "user_code": USER_CODE,
            "verification_uri": "https://example.com/device",
            "expires_in": 900,
            "interval": 1,
        }),
    )
}

fn parse_fields(encoded: &[u8]) -> RequestFields {
    form_urlencoded::parse(encoded).into_owned().collect()
}

/// Returns the challenge of a verifier (RFC 7636, section 4.2).
fn challenge_of(verifier: &str) -> String {
    BASE64_URL.encode(Sha256::digest(verifier))
}
