//! Sign-in with a code that its user types on another device (RFC 8628).

use std::time::Duration;

use cynosure_engine::{format_duration, sanitize_line};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::client::OAuthClient;
use super::error::{OAuthDenial, OAuthError};
use super::grant::{GrantType, TokenGrant};

/// Error codes of a token endpoint while the user has not decided (RFC 8628 §3.5).
const PENDING_CODE: &str = "authorization_pending";
const SLOW_DOWN_CODE: &str = "slow_down";

/// Interval between requests if the server names none (RFC 8628 §3.2), and its bounds.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Increase of the interval for each `slow_down` (RFC 8628 §3.5).
const SLOW_DOWN_STEP: Duration = Duration::from_secs(5);

/// Lifetime of the codes if the server names none, and the longest wait for the user.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(15 * 60);
const LIFETIME_MAX: Duration = Duration::from_secs(60 * 60);

/// Transient errors in a row that end a sign-in.
const TRANSIENT_ERRORS_MAX: u32 = 5;

/// Code to type, and the address of the page to type it into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DevicePrompt {
    pub user_code: String,
    pub verification_uri: String,
    pub expires_in: Duration,
}

/// Answer of the device authorization endpoint.
struct DeviceGrant {
    device_code: String,
    interval: Duration,
    prompt: DevicePrompt,
}

/// Signs in with a code: `show` gets the code and the address to show to the user.
///
/// # Errors
/// The refusal of the user or the server, or an expired code.
pub async fn sign_in_by_device(
    client: &OAuthClient,
    show: impl FnOnce(&DevicePrompt),
) -> Result<TokenGrant, OAuthError> {
    let scope = client.scopes.join(" ");
    let fields = [("scope", scope.as_str())];
    let fields = if scope.is_empty() { &fields[..0] } else { &fields[..] };
    let answer = client.post_device(fields).await?;
    let grant = DeviceGrant::parse(&answer)?;
    show(&grant.prompt);
    let lifetime = grant.prompt.expires_in;
    let fields = [("device_code", grant.device_code.as_str())];
    let poll = poll_token(grant.interval, async || {
        client.post_token(GrantType::DeviceCode, &fields).await
    });
    timeout(lifetime, poll).await.unwrap_or_else(|_elapsed| Err(expired(lifetime)))
}

impl DeviceGrant {
    fn parse(answer: &Value) -> Result<Self, OAuthError> {
        let text = |key: &str| answer.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        let seconds = |key: &str| {
            let value = answer.get(key)?;
            let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
            Some(Duration::from_secs(seconds))
        };
        // Google calls the address `verification_url`.
        let address = text("verification_uri").or_else(|| text("verification_url"));
        let (Some(device_code), Some(user_code), Some(address)) =
            (text("device_code"), text("user_code"), address)
        else {
            let message = "the answer of the sign-in server has no device code; check `device_url`";
            return Err(OAuthError::Transient { message: message.to_owned(), retry_after: None });
        };
        let interval = seconds("interval").unwrap_or(INTERVAL_DEFAULT);
        let lifetime = seconds("expires_in").unwrap_or(LIFETIME_DEFAULT);
        Ok(Self {
            device_code: device_code.to_owned(),
            interval: interval.clamp(INTERVAL_MIN, INTERVAL_MAX),
            prompt: DevicePrompt {
                user_code: sanitize_line(user_code),
                verification_uri: sanitize_line(address),
                expires_in: lifetime.min(LIFETIME_MAX),
            },
        })
    }
}

/// Asks for the tokens until the user has decided. A failing server is asked more slowly.
async fn poll_token(
    mut interval: Duration,
    mut request: impl AsyncFnMut() -> Result<TokenGrant, OAuthError>,
) -> Result<TokenGrant, OAuthError> {
    let mut transient_errors = 0;
    loop {
        sleep(interval).await;
        match request().await {
            Ok(grant) => return Ok(grant),
            Err(OAuthError::Denied(denial)) if denial.error == PENDING_CODE => transient_errors = 0,
            Err(OAuthError::Denied(denial)) if denial.error == SLOW_DOWN_CODE => {
                transient_errors = 0;
                interval = interval.saturating_add(SLOW_DOWN_STEP);
            }
            Err(OAuthError::Transient { message, retry_after })
                if transient_errors + 1 < TRANSIENT_ERRORS_MAX =>
            {
                debug!(error = message, "device code not answered, asking again");
                transient_errors += 1;
                let slower = interval.saturating_mul(2).clamp(interval, INTERVAL_MAX.max(interval));
                interval = slower.max(retry_after.unwrap_or_default());
            }
            Err(error) => return Err(error),
        }
    }
}

fn expired(lifetime: Duration) -> OAuthError {
    let lifetime = format_duration(lifetime);
    OAuthError::Denied(OAuthDenial {
        error: "expired_token".to_owned(),
        description: None,
        advice: format!("the code was not confirmed within {lifetime}; sign in again"),
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    fn denied(code: &str) -> Result<TokenGrant, OAuthError> {
        Err(OAuthError::Denied(OAuthDenial::new(code, None, GrantType::DeviceCode, "work")))
    }

    fn transient(retry_after: Option<u64>) -> Result<TokenGrant, OAuthError> {
        let retry_after = retry_after.map(Duration::from_secs);
        Err(OAuthError::Transient { message: "down".to_owned(), retry_after })
    }

    fn grant() -> TokenGrant {
        TokenGrant {
            access_token: "at-1".into(),
            refresh_token: None,
            expires_in: None,
            scope: None,
        }
    }

    /// Polls a server with these answers, every five seconds at first. Returns the result and the
    /// seconds at which the server was asked.
    async fn poll(
        answers: Vec<Result<TokenGrant, OAuthError>>,
    ) -> (Result<TokenGrant, OAuthError>, Vec<u64>) {
        let start = Instant::now();
        let mut answers = answers.into_iter();
        let mut asked_at = Vec::new();
        let result = poll_token(INTERVAL_DEFAULT, async || {
            asked_at.push(start.elapsed().as_secs());
            answers.next().expect("no request after the decision")
        })
        .await;
        (result, asked_at)
    }

    #[tokio::test(start_paused = true)]
    async fn the_tokens_are_asked_for_until_the_user_agrees() {
        let (result, asked_at) =
            poll(vec![denied(PENDING_CODE), denied(PENDING_CODE), Ok(grant())]).await;

        assert_eq!(result.unwrap().access_token.expose_secret(), "at-1");
        assert_eq!(asked_at, [5, 10, 15]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_slow_down_adds_five_seconds() {
        let answers =
            vec![denied(SLOW_DOWN_CODE), denied(PENDING_CODE), denied(SLOW_DOWN_CODE), Ok(grant())];

        assert_eq!(poll(answers).await.1, [5, 15, 25, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_the_sign_in() {
        for code in ["access_denied", "expired_token", "invalid_grant"] {
            let (result, asked_at) = poll(vec![denied(code)]).await;

            let error = result.unwrap_err();
            assert!(matches!(error, OAuthError::Denied(_)), "{error}");
            assert_eq!(asked_at, [5]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_server_is_asked_more_slowly() {
        let answers = vec![transient(None), transient(Some(30)), denied(PENDING_CODE), Ok(grant())];

        assert_eq!(poll(answers).await.1, [5, 15, 45, 75]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_keeps_failing_ends_the_sign_in() {
        let answers = vec![transient(None); 5];

        let (result, asked_at) = poll(answers).await;

        assert!(matches!(result.unwrap_err(), OAuthError::Transient { .. }));
        assert_eq!(asked_at.len(), 5);
    }

    #[test]
    fn the_device_grant_is_read_with_bounds() {
        let parse = |interval: Value, expires_in: Value| {
            let answer = json!({
                "device_code": "dc", "user_code": "AB-CD", "interval": interval,
                "verification_url": "https://example.com/device", "expires_in": expires_in,
            });
            let grant = DeviceGrant::parse(&answer).unwrap();
            assert_eq!(grant.device_code, "dc");
            assert_eq!(grant.prompt.user_code, "AB-CD");
            assert_eq!(grant.prompt.verification_uri, "https://example.com/device");
            (grant.interval.as_secs(), grant.prompt.expires_in.as_secs())
        };

        assert_eq!(parse(json!(7), json!("900")), (7, 900));
        assert_eq!(parse(Value::Null, Value::Null), (5, 900));
        assert_eq!(parse(json!(0), json!(u64::MAX)), (1, 3600));
        assert_eq!(parse(json!(u64::MAX), json!(-1)), (60, 900));
    }

    #[test]
    fn an_answer_without_codes_is_refused() {
        for answer in [json!({}), json!([]), json!({ "device_code": "dc", "user_code": "" })] {
            let error = DeviceGrant::parse(&answer).map(|grant| grant.prompt).unwrap_err();
            assert!(error.to_string().contains("has no device code"), "{error}");
        }
    }

    #[test]
    fn a_code_cannot_control_the_terminal() {
        let answer = json!({
            "device_code": "dc", "user_code": "AB\u{1b}[2J", "verification_uri": "https://x/\u{7}",
        });

        let prompt = DeviceGrant::parse(&answer).unwrap_or_else(|error| panic!("{error}")).prompt;

        assert!(!prompt.user_code.contains('\u{1b}') && !prompt.verification_uri.contains('\u{7}'));
    }
}
