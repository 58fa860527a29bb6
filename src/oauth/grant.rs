//! Types of grants, and the tokens that the token endpoint grants (RFC 6749 §5.1).

use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

/// Longest lifetime that is believed. A longer one would exceed the range of timestamps.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Type of a grant: what a client presents to get tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GrantType {
    /// Code of a sign-in in a browser (RFC 6749 §4.1).
    AuthorizationCode,
    /// Code of a sign-in on another device (RFC 8628).
    DeviceCode,
    RefreshToken,
    /// Assertion that a service account signs (RFC 7523 §2.1).
    Assertion,
    /// Secret of the client itself (RFC 6749 §4.4).
    ClientCredentials,
}

/// Tokens that an authorization server has granted.
#[derive(Clone, Debug)]
pub struct TokenGrant {
    pub access_token: SecretString,
    /// New refresh token. `None` if the previous one stays valid, or if the server gives none.
    pub refresh_token: Option<SecretString>,
    /// Lifetime of the access token; `None` if it is not known.
    pub expires_in: Option<Duration>,
    /// Granted scopes, separated by spaces; `None` if they are the requested ones.
    pub scope: Option<String>,
}

impl GrantType {
    /// Returns the value of `grant_type` in a request.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => "urn:ietf:params:oauth:grant-type:device_code",
            Self::RefreshToken => "refresh_token",
            Self::Assertion => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

impl TokenGrant {
    /// Reads a successful response. Members of an unexpected type count as absent.
    ///
    /// # Errors
    /// Returns the problem, without any content of the response, if it has no usable access token.
    pub(super) fn parse(answer: &Value) -> Result<Self, &'static str> {
        let text = |key: &str| answer.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        let access_token = text("access_token").ok_or("it has no access token")?;
        // RFC 6749 §7.1: a client must not use a token of a type that it does not understand.
        if text("token_type").is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err("its token is of another type than Bearer");
        }
        // Login commands and headers separate a token from others by space and control characters.
        if !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("its access token has characters that no token may have");
        }
        Ok(Self {
            access_token: SecretString::from(access_token),
            refresh_token: text("refresh_token").map(SecretString::from),
            expires_in: answer.get("expires_in").and_then(lifetime),
            scope: text("scope").map(str::to_owned),
        })
    }
}

/// Returns the lifetime in seconds, which some servers send as text. Zero and less are `None`: a
/// token that has just been granted is worth a try.
fn lifetime(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    if seconds.is_nan() || seconds <= 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(LIFETIME_MAX).min(LIFETIME_MAX))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_full_grant_is_read() {
        let grant = TokenGrant::parse(&json!({
            "access_token": "ya29.a0",
            "refresh_token": "1//0e",
            "expires_in": 3599,
            "scope": "https://mail.google.com/ openid",
            "token_type": "bearer",
        }))
        .unwrap();

        assert_eq!(grant.access_token.expose_secret(), "ya29.a0");
        assert_eq!(grant.refresh_token.unwrap().expose_secret(), "1//0e");
        assert_eq!(grant.expires_in, Some(Duration::from_secs(3599)));
        assert_eq!(grant.scope.as_deref(), Some("https://mail.google.com/ openid"));
    }

    #[test]
    fn a_grant_needs_nothing_but_the_access_token() {
        let sparse = json!({ "access_token": "a", "refresh_token": "", "scope": ["mail"] });
        let grant = TokenGrant::parse(&sparse).unwrap();

        assert!(grant.refresh_token.is_none());
        assert_eq!((grant.expires_in, grant.scope), (None, None));
    }

    #[test]
    fn an_answer_without_a_usable_token_is_never_quoted() {
        for answer in [
            json!({}),
            json!([]),
            json!("s3cret"),
            json!({ "access_token": "" }),
            json!({ "access_token": 7 }),
            json!({ "access_token": null, "refresh_token": "s3cret" }),
            json!({ "access_token": "s3cret", "token_type": "mac" }),
            json!({ "access_token": "s3cret\u{1}host=evil" }),
            json!({ "access_token": "s3cret two" }),
            json!({ "access_token": "s3crét" }),
        ] {
            let problem = TokenGrant::parse(&answer).unwrap_err();
            assert!(!problem.contains("s3cr"), "{answer}: {problem}");
        }
    }

    #[test]
    fn lifetimes_are_numbers_or_text_within_bounds() {
        for (value, expected) in [
            (json!(3600), Some(Duration::from_secs(3600))),
            (json!("3600"), Some(Duration::from_secs(3600))),
            (json!(0.5), Some(Duration::from_millis(500))),
            (json!(0), None),
            (json!(-1), None),
            (json!("soon"), None),
            (json!("NaN"), None),
            (json!(null), None),
            (json!(u64::MAX), Some(LIFETIME_MAX)),
            (json!("inf"), Some(LIFETIME_MAX)),
        ] {
            assert_eq!(lifetime(&value), expected, "{value}");
        }
    }

    #[test]
    fn tokens_are_not_shown_by_debug() {
        let answer = json!({ "access_token": "s3cret", "refresh_token": "s3cret" });
        let shown = format!("{:?}", TokenGrant::parse(&answer).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
