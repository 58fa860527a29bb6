//! Built-in classifier: determines the cause of an unexpected HTTP response.
//!
//! Statuses as in RFC 9110 §15; 429 in RFC 6585 §4.

use std::time::Duration;

use serde::Deserialize;

use crate::Cause;

/// Phrases for "too many requests" in the body of a 403 or 503, in lower case. With other statuses
/// they concern something else: in a 500 a message with too many parts, in a 400 a request with
/// too many ids, in a 200 the requested content.
const RATE_LIMIT_PHRASES: &[&str] = &[
    // Reason phrase of a 429 (RFC 6585 §4); proxies keep it in a body when they change the status.
    "too many requests",
    // Gmail, for concurrent requests.
    "too many concurrent requests",
    // Plain text and titles of problem documents; also GitHub's 403.
    "rate limit",
    // Gmail's reasons `rateLimitExceeded` and `userRateLimitExceeded`.
    "ratelimit",
    // Gmail's 403 without a reason: "Quota exceeded for quota metric 'Queries'".
    "quota exceeded",
];

/// Phrases for "too many logins" in a 401, which otherwise reports a wrong credential in many
/// wordings. Cyrus behind a host that counts logins says "Already reached per-10 minute limit for
/// logins".
const LOGIN_LIMIT_PHRASES: &[&str] = &["limit for logins"];

/// Phrases for a wrong credential, in lower case. Vaguer ones are left out: a 401 alone may be an
/// undeclared limit, and these phrases stop the worker until manual intervention.
const BAD_CREDENTIAL_PHRASES: &[&str] = &["authentication failed", "invalid credentials"];

/// Type of the JMAP problem that names an exceeded limit (RFC 8620 §3.6.1).
const JMAP_LIMIT_TYPE: &str = "urn:ietf:params:jmap:error:limit";
/// JMAP limits on the number of requests, as opposed to their size.
const JMAP_RATE_LIMIT_NAMES: &[&str] = &["maxConcurrentRequests", "maxConcurrentUpload"];

/// Problem types (RFC 9457 §3.1.1) that mean a request limit, registered by
/// draft-ietf-httpapi-ratelimit-headers.
const RATE_LIMIT_PROBLEM_TYPES: &[&str] = &[
    "https://iana.org/assignments/http-problem-types#quota-exceeded",
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
    "https://iana.org/assignments/http-problem-types#abnormal-usage-detected",
];

/// Information in the body of a response, in addition to the status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyHint {
    /// Nothing recognized.
    NoHint,
    /// Too many requests, by a phrase in the text.
    RateLimitPhrase,
    /// Too many requests, by the type of a problem document.
    RateLimitProblem,
    /// Wrong, expired or revoked credential, by a phrase in the text.
    BadCredential,
}

/// Facts about a response that determine its cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResponseFacts {
    /// HTTP status, 100 to 599; larger for servers with non-standard statuses.
    pub status: u16,
    /// Retry-After of the response, if plausible.
    pub retry_after: Option<Duration>,
    /// True if the server reports that nothing remains of a quota.
    pub is_quota_exhausted: bool,
    pub body_hint: BodyHint,
}

/// Rule of the built-in classifier. The first match in this order determines the cause.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum BuiltinRule {
    /// Problem document of a request limit, conclusive with any status: Stalwart sends it with 400.
    RateLimitProblem,
    /// Phrase for a request limit: hosted JMAP servers send one with 401, Gmail with 403.
    RateLimitPhrase,
    BadCredentialPhrase,
    TooManyRequests,
    RefusedWithRateLimitHint,
    Unauthorized,
    Forbidden,
    NotFound,
    ProxyAuthRequired,
    ServerError,
    /// Success that was not requested: a 204, 206 or 304, or a redirect to a login page.
    UnexpectedSuccess,
    UnlistedStatus,
}

impl BodyHint {
    /// Reads the hint in a body, for statuses that are ambiguous.
    ///
    /// Phrases count only with statuses for which a known server means a limit or a credential. In
    /// a 400 they concern the request itself, so that only a problem type identifies a limit.
    #[must_use]
    pub fn from_body(status: u16, text: &str) -> Self {
        if matches!(status, 400..=599) && is_rate_limit_problem(text) {
            return Self::RateLimitProblem;
        }
        let text = text.to_ascii_lowercase();
        let contains_any = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
        match status {
            403 | 503 if contains_any(RATE_LIMIT_PHRASES) => Self::RateLimitPhrase,
            401 if contains_any(LOGIN_LIMIT_PHRASES) => Self::RateLimitPhrase,
            400 | 401 | 403 if contains_any(BAD_CREDENTIAL_PHRASES) => Self::BadCredential,
            _ => Self::NoHint,
        }
    }
}

/// Returns true if a body is a problem document about a request limit.
fn is_rate_limit_problem(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(rename = "type")]
        kind: String,
        limit: Option<String>,
    }

    let Ok(Problem { kind, limit }) = serde_json::from_str(text) else { return false };
    let is_rate_limit = limit.is_some_and(|limit| JMAP_RATE_LIMIT_NAMES.contains(&limit.as_str()));
    RATE_LIMIT_PROBLEM_TYPES.contains(&kind.as_str()) || (kind == JMAP_LIMIT_TYPE && is_rate_limit)
}

impl ResponseFacts {
    /// Creates the facts of a response with a status and no hint.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        Self { status, retry_after: None, is_quota_exhausted: false, body_hint: BodyHint::NoHint }
    }

    /// Returns the cause of a response other than the expected one.
    ///
    /// A success status with other content is a challenge. The scope does not
    /// change the cause, only the [action](Cause::action).
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.rule().cause()
    }

    /// Returns the first matching rule.
    #[must_use]
    pub fn rule(&self) -> BuiltinRule {
        match self.body_hint {
            BodyHint::RateLimitProblem => return BuiltinRule::RateLimitProblem,
            BodyHint::RateLimitPhrase => return BuiltinRule::RateLimitPhrase,
            BodyHint::BadCredential => return BuiltinRule::BadCredentialPhrase,
            BodyHint::NoHint => {}
        }
        let has_rate_limit_hint = self.retry_after.is_some() || self.is_quota_exhausted;
        match self.status {
            429 => BuiltinRule::TooManyRequests,
            403 | 503 if has_rate_limit_hint => BuiltinRule::RefusedWithRateLimitHint,
            401 => BuiltinRule::Unauthorized,
            403 => BuiltinRule::Forbidden,
            404 | 410 => BuiltinRule::NotFound,
            407 => BuiltinRule::ProxyAuthRequired,
            408 | 425 | 500..=599 => BuiltinRule::ServerError,
            200..=399 => BuiltinRule::UnexpectedSuccess,
            _ => BuiltinRule::UnlistedStatus,
        }
    }
}

impl BuiltinRule {
    pub const ALL: [Self; 12] = [
        Self::RateLimitProblem,
        Self::RateLimitPhrase,
        Self::BadCredentialPhrase,
        Self::TooManyRequests,
        Self::RefusedWithRateLimitHint,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::ProxyAuthRequired,
        Self::ServerError,
        Self::UnexpectedSuccess,
        Self::UnlistedStatus,
    ];

    #[must_use]
    pub fn cause(self) -> Cause {
        match self {
            Self::RateLimitProblem
            | Self::RateLimitPhrase
            | Self::TooManyRequests
            | Self::RefusedWithRateLimitHint => Cause::RateLimit,
            Self::BadCredentialPhrase | Self::Unauthorized => Cause::Unauthorized,
            Self::Forbidden => Cause::Forbidden,
            Self::NotFound => Cause::NotFound,
            Self::ProxyAuthRequired => Cause::Proxy,
            Self::ServerError => Cause::Server,
            Self::UnexpectedSuccess => Cause::Challenge,
            Self::UnlistedStatus => Cause::Unknown,
        }
    }

    /// Returns the name in output for people and programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimitProblem => "rate_limit_problem",
            Self::RateLimitPhrase => "rate_limit_phrase",
            Self::BadCredentialPhrase => "bad_credential_phrase",
            Self::TooManyRequests => "too_many_requests",
            Self::RefusedWithRateLimitHint => "refused_with_rate_limit_hint",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::ProxyAuthRequired => "proxy_auth_required",
            Self::ServerError => "server_error",
            Self::UnexpectedSuccess => "unexpected_success",
            Self::UnlistedStatus => "unlisted_status",
        }
    }

    /// Returns a description of the condition of the rule.
    #[must_use]
    pub fn condition(self) -> &'static str {
        match self {
            Self::RateLimitProblem => {
                "4xx or 5xx with a problem document whose type is a request limit"
            }
            Self::RateLimitPhrase => {
                "403 or 503 whose body mentions too many requests, or 401 whose body mentions a \
                 login limit"
            }
            Self::BadCredentialPhrase => "400, 401 or 403 whose body reports a wrong credential",
            Self::TooManyRequests => "429",
            Self::RefusedWithRateLimitHint => {
                "403 or 503 with a Retry-After, or with an exhausted quota"
            }
            Self::Unauthorized => "401",
            Self::Forbidden => "403 without a sign of a rate limit",
            Self::NotFound => "404 or 410",
            Self::ProxyAuthRequired => "407",
            Self::ServerError => "408, 425 or 5xx",
            Self::UnexpectedSuccess => "2xx or 3xx without the requested content",
            Self::UnlistedStatus => "any other status",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::RequestScope;

    #[test]
    fn the_action_for_every_status_is_known() {
        insta::assert_snapshot!(classification_table());
    }

    #[test]
    fn remaining_zero_turns_a_403_into_a_rate_limit() {
        let facts = ResponseFacts { is_quota_exhausted: true, ..ResponseFacts::from_status(403) };

        assert_eq!(facts.cause(), Cause::RateLimit);
    }

    #[test]
    fn a_401_whose_body_names_a_limit_is_a_rate_limit() {
        let facts = ResponseFacts {
            body_hint: BodyHint::RateLimitPhrase,
            ..ResponseFacts::from_status(401)
        };

        assert_eq!(facts.cause(), Cause::RateLimit);
    }

    /// FAULTS 30, 50: phrases about one message, or about anything but a rate, are no rate limit.
    #[test]
    fn phrases_count_only_with_statuses_that_mean_a_limit() {
        let session =
            r#"{"capabilities": {"urn:ietf:params:jmap:core": {"maxConcurrentRequests": 4}}}"#;
        for (status, text, cause) in [
            (500, "message has too many MIME parts", Cause::Server),
            (502, "Too Many Requests", Cause::Server),
            (200, "<html>rate limit</html>", Cause::Challenge),
            (200, session, Cause::Challenge),
            (400, "too many requests in one batch", Cause::Unknown),
            (401, "too many requests", Cause::Unauthorized),
            (401, "451 Already reached per-10 minute limit for logins", Cause::RateLimit),
            (
                403,
                r#"{"error": {"errors": [{"reason": "userRateLimitExceeded"}]}}"#,
                Cause::RateLimit,
            ),
            (403, "Quota exceeded for quota metric 'Queries'", Cause::RateLimit),
            (403, "this message has too many recipients", Cause::Forbidden),
            (503, "Too many requests, slow down", Cause::RateLimit),
            (503, "maintenance", Cause::Server),
        ] {
            let facts = ResponseFacts {
                body_hint: BodyHint::from_body(status, text),
                ..ResponseFacts::from_status(status)
            };
            assert_eq!(facts.cause(), cause, "{status} {text}");
        }
    }

    #[test]
    fn a_problem_type_identifies_a_request_limit() {
        let jmap = |limit| format!(r#"{{"type": "{JMAP_LIMIT_TYPE}", "limit": "{limit}"}}"#);
        let quota = format!(r#"{{"type": "{}", "title": "no"}}"#, RATE_LIMIT_PROBLEM_TYPES[0]);
        for (status, text, hint) in [
            (400, jmap("maxConcurrentRequests"), BodyHint::RateLimitProblem),
            (500, quota.clone(), BodyHint::RateLimitProblem),
            (400, jmap("maxSizeRequest"), BodyHint::NoHint),
            (200, jmap("maxConcurrentRequests"), BodyHint::NoHint),
            (200, quota, BodyHint::NoHint),
        ] {
            assert_eq!(BodyHint::from_body(status, &text), hint, "{status} {text}");
        }
    }

    #[test]
    fn every_rule_matches_something_and_has_a_unique_name() {
        let hints = [
            BodyHint::NoHint,
            BodyHint::RateLimitPhrase,
            BodyHint::RateLimitProblem,
            BodyHint::BadCredential,
        ];
        let responses = (100..=999).flat_map(|status| {
            hints.into_iter().flat_map(move |hint| {
                [false, true].map(|is_quota_exhausted| ResponseFacts {
                    body_hint: hint,
                    is_quota_exhausted,
                    ..ResponseFacts::from_status(status)
                })
            })
        });
        let matched: BTreeSet<BuiltinRule> = responses.map(|facts| facts.rule()).collect();

        assert_eq!(matched, BTreeSet::from(BuiltinRule::ALL));
        let names: BTreeSet<_> = BuiltinRule::ALL.into_iter().map(BuiltinRule::name).collect();
        assert_eq!(names.len(), BuiltinRule::ALL.len());
    }

    /// Renders the whole table, one line per range of statuses with the same classification.
    fn classification_table() -> String {
        let hints = [
            ("no hint", ResponseFacts::from_status(0)),
            (
                "Retry-After",
                ResponseFacts {
                    retry_after: Some(Duration::from_secs(30)),
                    ..ResponseFacts::from_status(0)
                },
            ),
        ];
        let bodies = [
            ("body of too many requests", "Too Many Requests"),
            (
                "problem of a limit",
                r#"{"type": "urn:ietf:params:jmap:error:limit", "limit": "maxConcurrentRequests"}"#,
            ),
        ];
        let scopes = [
            ("listing", RequestScope::Listing),
            ("item", RequestScope::Item),
            ("session", RequestScope::Session),
        ];
        let mut table = String::new();
        for (scope_name, scope) in scopes {
            let hint_rows = hints.iter().map(|(name, hint)| (*name, *hint, ""));
            let body_rows =
                bodies.iter().map(|(name, body)| (*name, ResponseFacts::from_status(0), *body));
            for (hint_name, hint, body) in hint_rows.chain(body_rows) {
                table.push_str(&format!("{scope_name}, {hint_name}\n"));
                for (first, last, classification) in status_ranges(|status| {
                    let cause = ResponseFacts {
                        status,
                        body_hint: BodyHint::from_body(status, body),
                        ..hint
                    }
                    .cause();
                    format!("{} {cause} → {:?}", cause.category().name(), cause.action(scope))
                }) {
                    table.push_str(&format!("  {first}–{last}  {classification}\n"));
                }
            }
        }
        table
    }

    fn status_ranges(classify: impl Fn(u16) -> String) -> Vec<(u16, u16, String)> {
        let mut ranges: Vec<(u16, u16, String)> = Vec::new();
        for status in 100..=599 {
            let classification = classify(status);
            match ranges.last_mut() {
                Some((_, last, same)) if *same == classification => *last = status,
                _ => ranges.push((status, status, classification)),
            }
        }
        ranges
    }
}
