//! Errors of a sign-in and of a refresh, and the classification of error responses.

use std::fmt;
use std::time::Duration;

use cynosure_engine::{Cause, Failure, sanitize_line};
use reqwest::StatusCode;
use serde_json::Value;

use super::grant::GrantType;

/// Wait after a 429 that names none: token endpoints allow several requests a minute.
const THROTTLE_WAIT_DEFAULT: Duration = Duration::from_secs(60);

/// Error codes of a wrong client registration or configuration, which another sign-in does not
/// correct (RFC 6749 §4.1.2.1 and §5.2), with the names that Google and others add to them.
const MISCONFIGURATION_CODES: [&str; 13] = [
    "admin_policy_enforced",
    "deleted_client",
    "disabled_client",
    "invalid_client",
    "invalid_request",
    "invalid_resource",
    "invalid_scope",
    "org_internal",
    "redirect_uri_mismatch",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
    "unsupported_token_type",
];

/// Error codes of a server that works again later: those of RFC 6749 §4.1.2.1, and those of Google.
const TRANSIENT_CODES: [&str; 5] = [
    "internal_failure",
    "rate_limit_exceeded",
    "server_error",
    "temporarily_unavailable",
    "too_many_requests",
];

/// Error codes of a final refusal.
const DENIAL_CODES: [&str; 3] = ["access_denied", "expired_token", "invalid_grant"];

/// Error codes of a device code that is not approved yet (RFC 8628 §3.5). Servers send them with
/// statuses from 200 to 429.
const PENDING_CODES: [&str; 2] = ["authorization_pending", "slow_down"];

/// Error of a sign-in, or of the refresh of an access token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OAuthError {
    /// Final refusal: the account must sign in again.
    Denied(OAuthDenial),
    /// The client or its configuration is refused. Another sign-in does not help.
    Misconfigured(String),
    /// The server cannot be reached, or gives no usable answer now. Says nothing about the tokens.
    Transient { message: String, retry_after: Option<Duration> },
    /// The token file cannot be read or written.
    Storage(Failure),
}

/// Final refusal of an authorization server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OAuthDenial {
    /// Error code of the server, such as `invalid_grant`; empty if no server was asked.
    pub error: String,
    /// Explanation by the server, without secrets.
    pub description: Option<String>,
    /// Meaning of the code, and the remedy.
    pub advice: String,
}

impl OAuthError {
    /// Returns the error for the code of an error response or of a redirect, to a source that asked
    /// for this type of grant. `description` is masked already.
    pub(super) fn from_code(
        code: &str,
        description: Option<&str>,
        grant_type: GrantType,
        source: &str,
    ) -> Self {
        let code = sanitize_line(code);
        if TRANSIENT_CODES.contains(&code.as_str()) {
            let message = format!("the sign-in server is not available{}", quote(description));
            return Self::Transient { message: format!("{message} ({code})"), retry_after: None };
        }
        if MISCONFIGURATION_CODES.contains(&code.as_str()) {
            let advice = misconfiguration_advice(&code, grant_type);
            return Self::Misconfigured(format!("{advice} ({code}){}", quote(description)));
        }
        Self::Denied(OAuthDenial::new(&code, description, grant_type, source))
    }

    /// Returns the failure of the source whose token it is. A transient error is never
    /// [`Cause::Unauthorized`], so that a server that is down ends no sign-in.
    #[must_use]
    pub fn to_failure(&self) -> Failure {
        match self {
            Self::Denied(_) | Self::Misconfigured(_) => {
                Failure::new(Cause::Unauthorized, self.to_string())
            }
            Self::Transient { message, retry_after: None } => {
                Failure::new(Cause::Connection, message)
            }
            Self::Transient { message, retry_after } => {
                Failure::new(Cause::RateLimit, message).with_retry_after(*retry_after)
            }
            Self::Storage(failure) => failure.clone(),
        }
    }

    /// Sets the wait that the server demands, if the error is transient.
    fn with_retry_after(self, demanded: Option<Duration>) -> Self {
        match self {
            Self::Transient { message, retry_after } => {
                Self::Transient { message, retry_after: demanded.or(retry_after) }
            }
            Self::Denied(_) | Self::Misconfigured(_) | Self::Storage(_) => self,
        }
    }
}

impl OAuthDenial {
    /// Creates the refusal with this code. `description` is masked already.
    pub(super) fn new(
        code: &str,
        description: Option<&str>,
        grant_type: GrantType,
        source: &str,
    ) -> Self {
        let description = description.map(str::trim).filter(|text| !text.is_empty());
        Self {
            error: sanitize_line(code),
            description: description.map(sanitize_line),
            advice: denial_advice(code, grant_type, source),
        }
    }

    /// Creates the refusal for a source that has no token file.
    pub(super) fn not_signed_in(source: &str) -> Self {
        Self::without_answer(format!("not signed in yet; run `cynosure auth {source}`"))
    }

    /// Creates a refusal for which no server was asked.
    pub(super) fn without_answer(advice: String) -> Self {
        Self { error: String::new(), description: None, advice }
    }
}

impl fmt::Display for OAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(denial) => denial.fmt(f),
            Self::Misconfigured(message) | Self::Transient { message, .. } => f.write_str(message),
            Self::Storage(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for OAuthError {}

impl fmt::Display for OAuthDenial {
    /// The words of the server come last, because a long line is truncated.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.advice)?;
        if !self.error.is_empty() {
            write!(f, " ({})", self.error)?;
        }
        f.write_str(&quote(self.description.as_deref()))
    }
}

/// Status and content of a response that grants nothing.
pub(super) struct RefusedRequest<'a> {
    /// Name of the source.
    pub source: &'a str,
    pub grant_type: GrantType,
    /// Host of the endpoint.
    pub host: &'a str,
    pub status: u16,
    pub retry_after: Option<Duration>,
    /// JSON of the body; `None` if it has another format.
    pub answer: Option<&'a Value>,
}

impl RefusedRequest<'_> {
    /// Returns the error of this response. It is final only if it has the form of RFC 6749 §5.2 and
    /// the status of a refusal: a page of a proxy or of a failing server says nothing about tokens.
    ///
    /// `mask` removes the secrets of the request from a text of the server.
    pub(super) fn classify(&self, mask: impl Fn(&str) -> String) -> OAuthError {
        let text = |key: &str| self.answer.and_then(|answer| answer.get(key)?.as_str()).map(&mask);
        let code = self.answer.and_then(|answer| answer.get("error")?.as_str());
        let code = code.filter(|code| !code.is_empty());
        // A short secret may be a part of a known code, which is not secret itself.
        let code = code.map(|code| if is_known(code) { code.to_owned() } else { mask(code) });
        let description = text("error_description");
        // Gateways also write JSON with an `error`, such as "Not Found" with the status 404.
        let is_refusal = |code: &str| match self.status {
            200 | 400 | 401 | 403 => !self.is_reason_phrase(code),
            402 | 404..=428 => is_known(code),
            _ => PENDING_CODES.contains(&code),
        };
        let error = match code.as_deref() {
            Some(code) if is_refusal(code) => {
                let Self { source, grant_type, .. } = *self;
                OAuthError::from_code(code, description.as_deref(), grant_type, source)
            }
            code => self.without_verdict(description.as_deref().or(code)),
        };
        error.with_retry_after(self.retry_after)
    }

    /// True if a code only repeats the status, as in "Forbidden" with the status 403.
    fn is_reason_phrase(&self, code: &str) -> bool {
        let status = StatusCode::from_u16(self.status).ok();
        status.and_then(|status| status.canonical_reason()) == Some(code)
    }

    /// Returns the error of a response that decides nothing about the tokens.
    fn without_verdict(&self, quoted: Option<&str>) -> OAuthError {
        let Self { host, status, .. } = self;
        let problem = match status {
            429 => "allows no more requests for now",
            500..=599 => "has an error of its own",
            300..=399 => "answers with a redirect, which is not followed; check `token_url`",
            _ => "does not answer as OAuth 2.0 requires; check `token_url`",
        };
        let quoted = quote(quoted);
        let message = format!("the sign-in server {host} {problem} (status {status}){quoted}");
        let retry_after = (*status == 429).then_some(THROTTLE_WAIT_DEFAULT);
        OAuthError::Transient { message: sanitize_line(&message), retry_after }
    }
}

fn is_known(code: &str) -> bool {
    DENIAL_CODES.contains(&code)
        || PENDING_CODES.contains(&code)
        || TRANSIENT_CODES.contains(&code)
        || MISCONFIGURATION_CODES.contains(&code)
}

/// Returns the words of a server as the end of a sentence; empty if there are none.
fn quote(text: Option<&str>) -> String {
    text.map(|text| format!(": \"{}\"", sanitize_line(text.trim()))).unwrap_or_default()
}

/// Returns the meaning of a final refusal, and the remedy.
fn denial_advice(code: &str, grant_type: GrantType, source: &str) -> String {
    match (grant_type, code) {
        (GrantType::Assertion, _) => {
            "the service account gets no access to this mailbox; the usual reasons: domain-wide \
             delegation is not granted for all of `scopes`, `subject` is no user of the domain, \
             the key was deleted, or the clock of this machine is wrong"
                .to_owned()
        }
        (GrantType::ClientCredentials, _) => {
            "the application gets no access; the usual reasons: no administrator has granted it \
             the permissions, or `token_url` is that of another organisation"
                .to_owned()
        }
        (_, "access_denied") => {
            format!(
                "the sign-in was denied: run `cynosure auth {source}` again and allow the access"
            )
        }
        (_, "expired_token") => format!(
            "the code has expired: run `cynosure auth {source}` again and enter the new code in \
             time"
        ),
        (GrantType::RefreshToken, "invalid_grant") => format!(
            "sign in again: `cynosure auth {source}`; the usual reasons: the consent was withdrawn \
             or the password changed, the app is in \"Testing\" at Google, whose tokens live \
             7 days, it was not used for months, or another program got a newer token"
        ),
        (GrantType::AuthorizationCode | GrantType::DeviceCode, "invalid_grant") => format!(
            "the code is not accepted, because it is valid once and for a few minutes; sign in \
             again: `cynosure auth {source}`"
        ),
        (GrantType::AuthorizationCode | GrantType::DeviceCode | GrantType::RefreshToken, _) => {
            format!("the sign-in is refused; sign in again: `cynosure auth {source}`")
        }
    }
}

/// Returns the meaning of a refused client, and the remedy.
fn misconfiguration_advice(code: &str, grant_type: GrantType) -> &'static str {
    match (grant_type, code) {
        (_, "invalid_scope") => "the sign-in server does not know a scope: check `scopes`",
        (GrantType::Assertion, "unauthorized_client") => {
            "the service account may not act for this user: an administrator must grant it \
             domain-wide delegation for all of `scopes`"
        }
        (GrantType::Assertion, "invalid_client" | "deleted_client" | "disabled_client") => {
            "the sign-in server does not accept the service account: check `key`"
        }
        (GrantType::Assertion, _) => {
            "the sign-in server refuses the request: check `key`, `subject` and `scopes`"
        }
        (GrantType::ClientCredentials, "invalid_client") => {
            "the sign-in server does not accept the client: check `client_id` and \
             `client_secret`, which may have expired"
        }
        (GrantType::ClientCredentials, "unauthorized_client") => {
            "the client is not known there, or may not get access by itself: check `client_id`, \
             and the id of your organisation in `token_url`"
        }
        (GrantType::ClientCredentials, _) => {
            "the sign-in server refuses the request: check `client_id` and `scopes`, and the id of \
             your organisation in `token_url`"
        }
        (_, "invalid_client" | "deleted_client" | "disabled_client") => {
            "the sign-in server does not accept the client: check `client_id` and `client_secret`"
        }
        (_, "redirect_uri_mismatch") => {
            "the sign-in server does not accept the address that it returns to: register the \
             client as a desktop app"
        }
        (_, "admin_policy_enforced" | "org_internal" | "unauthorized_client") => {
            "the client may not sign in this account: check its registration at the provider"
        }
        (_, _) => {
            "the sign-in server refuses the request: check `client_id`, `client_secret` and \
             `scopes`, and the registration of the client"
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the error of a response whose server repeats the secret `s3cret`.
    fn classified(status: u16, answer: Option<&Value>) -> OAuthError {
        classified_grant(GrantType::RefreshToken, status, answer)
    }

    fn classified_grant(grant_type: GrantType, status: u16, answer: Option<&Value>) -> OAuthError {
        let refused = RefusedRequest {
            source: "work",
            grant_type,
            host: "id.example.com",
            status,
            retry_after: None,
            answer,
        };
        refused.classify(|text| text.replace("s3cret", "[secret]"))
    }

    fn denied_code(error: &OAuthError) -> Option<&str> {
        if let OAuthError::Denied(denial) = error { Some(&denial.error) } else { None }
    }

    fn is_misconfigured(error: &OAuthError) -> bool {
        matches!(error, OAuthError::Misconfigured(_))
    }

    #[test]
    fn a_refusal_in_the_form_of_the_standard_is_final() {
        for code in ["invalid_grant", "access_denied", "interaction_required", "token not found"] {
            for status in [200, 400, 401, 403] {
                let error = classified(status, Some(&json!({ "error": code })));
                assert_eq!(denied_code(&error), Some(code), "{status} {code}");
                assert_eq!(error.to_failure().cause, Cause::Unauthorized);
            }
        }
        for code in MISCONFIGURATION_CODES {
            let error = classified(400, Some(&json!({ "error": code })));
            assert!(is_misconfigured(&error), "{code}: {error:?}");
            assert!(error.to_string().contains(code), "{error}");
        }
    }

    #[test]
    fn a_pending_device_code_is_read_at_any_status() {
        for code in PENDING_CODES {
            for status in [200, 400, 403, 428, 429] {
                let error = classified(status, Some(&json!({ "error": code })));
                assert_eq!(denied_code(&error), Some(code), "{status}");
            }
        }
    }

    #[test]
    fn what_may_pass_by_itself_is_never_an_authentication_failure() {
        let error_code = json!({ "error": "invalid_grant" });
        let object = json!({ "error": { "code": 400, "message": "Bad Request" } });
        let of_gateway = json!({ "status": 404, "error": "Not Found", "path": "/token" });
        let [bad_request, unauthorized, forbidden] =
            ["Bad Request", "Unauthorized", "Forbidden"].map(|code| json!({ "error": code }));
        for (status, answer) in [
            (500, None),
            (503, Some(&error_code)),
            (429, Some(&error_code)),
            (302, Some(&error_code)),
            (200, None),
            (200, Some(&json!([]))),
            (401, None),
            (403, None),
            (404, None),
            (404, Some(&of_gateway)),
            (408, Some(&of_gateway)),
            (400, Some(&bad_request)),
            (401, Some(&unauthorized)),
            (403, Some(&forbidden)),
            (400, Some(&object)),
            (400, Some(&json!({ "error": "" }))),
            (400, Some(&json!({ "error": "temporarily_unavailable" }))),
        ] {
            let error = classified(status, answer);
            let is_transient = matches!(error, OAuthError::Transient { .. });
            assert!(is_transient, "{status} {answer:?}: {error:?}");
            let expected = if status == 429 { Cause::RateLimit } else { Cause::Connection };
            assert_eq!(error.to_failure().cause, expected, "{status} {answer:?}");
        }
    }

    #[test]
    fn the_demanded_wait_is_kept() {
        let waits = [(Some(Duration::from_secs(3)), 3), (None, THROTTLE_WAIT_DEFAULT.as_secs())];
        for (retry_after, seconds) in waits {
            let refused = RefusedRequest {
                source: "work",
                grant_type: GrantType::RefreshToken,
                host: "h",
                status: 429,
                retry_after,
                answer: None,
            };
            let failure = refused.classify(str::to_owned).to_failure();
            assert_eq!(failure.cause, Cause::RateLimit);
            assert_eq!(failure.retry_after, Some(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn secrets_that_the_server_repeats_are_masked() {
        let description = "the token s3cret\u{1b}[31m is revoked";
        for code in ["invalid_grant", "invalid_client", "server_error", "s3cret"] {
            let answer = json!({ "error": code, "error_description": description });
            for status in [400, 500] {
                let error = classified(status, Some(&answer));
                let shown = format!("{error} {error:?} {:?}", error.to_failure());
                assert!(!shown.contains("s3cret") && !shown.contains('\u{1b}'), "{shown}");
            }
        }
    }

    #[test]
    fn the_reasons_of_a_lost_grant_are_not_truncated() {
        let answer = json!({ "error": "invalid_grant", "error_description": "x".repeat(500) });
        let failure = classified(400, Some(&answer)).to_failure();

        assert!(failure.message.contains("`cynosure auth work`"), "{failure}");
        assert!(failure.message.contains("newer token (invalid_grant): \"xxx"), "{failure}");
    }

    #[test]
    fn a_refused_grant_is_explained_by_its_type() {
        let text = |grant_type, code| {
            classified_grant(grant_type, 400, Some(&json!({ "error": code }))).to_string()
        };

        for grant_type in [GrantType::AuthorizationCode, GrantType::DeviceCode] {
            let refused = text(grant_type, "invalid_grant");
            assert!(refused.contains("valid once"), "{refused}");
            assert!(!refused.contains("password"), "{refused}");
        }
        for code in ["invalid_grant", "access_denied"] {
            let refused = text(GrantType::Assertion, code);
            for reason in ["delegation", "`subject`", "clock"] {
                assert!(refused.contains(reason), "{reason} is not in {refused}");
            }
            assert!(!refused.contains("cynosure auth"), "{refused}");
        }
        let refused = classified_grant(
            GrantType::Assertion,
            401,
            Some(&json!({ "error": "unauthorized_client" })),
        );
        assert!(is_misconfigured(&refused), "{refused:?}");
        assert!(refused.to_string().contains("delegation"), "{refused}");
        let expired = text(GrantType::ClientCredentials, "invalid_client");
        assert!(expired.contains("may have expired (invalid_client)"), "{expired}");
    }

    #[test]
    fn an_account_without_tokens_is_told_to_sign_in() {
        let denial = OAuthError::Denied(OAuthDenial::not_signed_in("work"));

        assert_eq!(denial.to_string(), "not signed in yet; run `cynosure auth work`");
        assert_eq!(denial.to_failure().cause, Cause::Unauthorized);
    }
}
