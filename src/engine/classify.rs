//! From an HTTP answer that is not what was asked for to the cause of it.
//!
//! Statuses as in RFC 9110 §15; 429 in RFC 6585 §4.

use std::time::Duration;

use serde::Deserialize;

use crate::engine::Cause;

/// Words for "too often" in the body of a 403 or 503, in lower case. Other statuses say them of
/// something else: a 500 of a message with too many parts, a 400 of a request with too many ids, a
/// 200 of whatever it brings.
const RATE_LIMIT_PHRASES: &[&str] = &[
    // The reason of a 429 (RFC 6585 §4), which proxies keep in a body when they change the status.
    "too many requests",
    // Gmail, of requests side by side.
    "too many concurrent requests",
    // Plain words and titles of problems; GitHub's 403 among them.
    "rate limit",
    // Gmail's reasons `rateLimitExceeded` and `userRateLimitExceeded`.
    "ratelimit",
    // Gmail's 403 without a reason: "Quota exceeded for quota metric 'Queries'".
    "quota exceeded",
];

/// The same in a 401, which servers say of a wrong credential in all kinds of words: Cyrus behind a
/// host that counts logins says "Already reached per-10 minute limit for logins".
const LOGIN_LIMIT_PHRASES: &[&str] = &["limit for logins"];

/// Words for "this credential is wrong", in lower case. Nothing vaguer: a 401 alone
/// may be a limit in disguise, and these stop the worker until a person comes.
const BAD_CREDENTIAL_PHRASES: &[&str] = &["authentication failed", "invalid credentials"];

/// The type of JMAP's problem that names a limit (RFC 8620 §3.6.1), and those of its limits that are
/// about how often, and not about how much, is asked.
const JMAP_LIMIT_TYPE: &str = "urn:ietf:params:jmap:error:limit";
const JMAP_RATE_LIMIT_NAMES: &[&str] = &["maxConcurrentRequests", "maxConcurrentUpload"];

/// Types of problems (RFC 9457 §3.1.1) that are limits of requests, registered by
/// draft-ietf-httpapi-ratelimit-headers.
const RATE_LIMIT_PROBLEM_TYPES: &[&str] = &[
    "https://iana.org/assignments/http-problem-types#quota-exceeded",
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
    "https://iana.org/assignments/http-problem-types#abnormal-usage-detected",
];

/// What a body says beyond its status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyHint {
    /// Nothing that we understand.
    NoHint,
    /// Too many requests, in words.
    RateLimitPhrase,
    /// Too many requests, by the type of a problem document.
    RateLimitProblem,
    /// The credential is wrong, expired or revoked, in plain words.
    BadCredential,
}

/// The facts of an answer that decide its cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResponseFacts {
    /// The status, 100 to 599, and beyond for servers that invent their own.
    pub status: u16,
    /// The Retry-After of the answer, where sane.
    pub retry_after: Option<Duration>,
    /// The server says that nothing is left of a quota.
    pub is_quota_exhausted: bool,
    pub body_hint: BodyHint,
}

/// A line of the classifier. The first that fits an answer decides, in this order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum BuiltinRule {
    /// A problem document leaves no doubt, whatever the status: Stalwart says it with 400.
    RateLimitProblem,
    /// Hosted JMAP servers say it with 401, Gmail with 403.
    RateLimitPhrase,
    BadCredentialPhrase,
    TooManyRequests,
    RefusedWithRateLimitHint,
    Unauthorized,
    Forbidden,
    NotFound,
    ProxyAuthRequired,
    ServerError,
    /// An unasked 204, 206 or 304, a redirect to a login page: success that is not ours.
    UnexpectedSuccess,
    UnlistedStatus,
}

impl BodyHint {
    /// Finds out what a body says, where its status leaves a doubt.
    ///
    /// Words count only where a known server means a limit, or a credential, by them. In a 400 they
    /// are about the request itself, so that there only the type of a problem tells of a limit.
    #[must_use]
    pub fn from_body(status: u16, text: &str) -> Self {
        if matches!(status, 400..=599) && is_rate_limit_problem(text) {
            return Self::RateLimitProblem;
        }
        let text = text.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match status {
            403 | 503 if says(RATE_LIMIT_PHRASES) => Self::RateLimitPhrase,
            401 if says(LOGIN_LIMIT_PHRASES) => Self::RateLimitPhrase,
            400 | 401 | 403 if says(BAD_CREDENTIAL_PHRASES) => Self::BadCredential,
            _ => Self::NoHint,
        }
    }
}

/// Whether a body is a problem document about a limit of requests.
fn is_rate_limit_problem(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(rename = "type")]
        kind: String,
        limit: Option<String>,
    }

    let Ok(Problem { kind, limit }) = serde_json::from_str(text) else { return false };
    let is_of_rate = limit.is_some_and(|limit| JMAP_RATE_LIMIT_NAMES.contains(&limit.as_str()));
    RATE_LIMIT_PROBLEM_TYPES.contains(&kind.as_str()) || (kind == JMAP_LIMIT_TYPE && is_of_rate)
}

impl ResponseFacts {
    /// An answer with a status and no hint.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        Self { status, retry_after: None, is_quota_exhausted: false, body_hint: BodyHint::NoHint }
    }

    /// Names the cause of an answer that is not what was asked for.
    ///
    /// A success status with something else in it is a challenge. The scope does
    /// not change the cause, only the [verdict](Cause::verdict).
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.rule().cause()
    }

    /// Returns the rule that decides.
    #[must_use]
    pub fn rule(&self) -> BuiltinRule {
        match self.body_hint {
            BodyHint::RateLimitProblem => return BuiltinRule::RateLimitProblem,
            BodyHint::RateLimitPhrase => return BuiltinRule::RateLimitPhrase,
            BodyHint::BadCredential => return BuiltinRule::BadCredentialPhrase,
            BodyHint::NoHint => {}
        }
        let throttled = self.retry_after.is_some() || self.is_quota_exhausted;
        match self.status {
            429 => BuiltinRule::TooManyRequests,
            403 | 503 if throttled => BuiltinRule::RefusedWithRateLimitHint,
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

    /// The word for it in what a person, or a program, reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimitProblem => "problem_is_limit",
            Self::RateLimitPhrase => "says_too_many",
            Self::BadCredentialPhrase => "says_bad_credential",
            Self::TooManyRequests => "too_many_requests",
            Self::RefusedWithRateLimitHint => "throttled_refusal",
            Self::Unauthorized => "credential_refused",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::ProxyAuthRequired => "proxy_refuses",
            Self::ServerError => "server_trouble",
            Self::UnexpectedSuccess => "not_what_was_asked",
            Self::UnlistedStatus => "unlisted",
        }
    }

    /// What it takes for the rule to match, in words.
    #[must_use]
    pub fn condition(self) -> &'static str {
        match self {
            Self::RateLimitProblem => {
                "4xx or 5xx with a problem document whose type is a limit of requests"
            }
            Self::RateLimitPhrase => {
                "403 or 503 whose body speaks of too many requests, or 401 of a limit for logins"
            }
            Self::BadCredentialPhrase => "400, 401 or 403 whose body calls the credential wrong",
            Self::TooManyRequests => "429",
            Self::RefusedWithRateLimitHint => {
                "403 or 503 with a Retry-After, or with nothing remaining"
            }
            Self::Unauthorized => "401",
            Self::Forbidden => "403 without a word of limits",
            Self::NotFound => "404 or 410",
            Self::ProxyAuthRequired => "407",
            Self::ServerError => "408, 425 or 5xx",
            Self::UnexpectedSuccess => "2xx or 3xx that is not what was asked for",
            Self::UnlistedStatus => "a status that no other rule names",
        }
    }
}
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::RequestScope;

    #[test]
    fn the_verdict_of_every_status_is_known() {
        insta::assert_snapshot!(classification_table());
    }

    #[test]
    fn remaining_zero_turns_a_403_into_a_rate_limit() {
        let answer = ResponseFacts { is_quota_exhausted: true, ..ResponseFacts::from_status(403) };

        assert_eq!(answer.cause(), Cause::RateLimit);
    }

    #[test]
    fn a_401_whose_body_names_a_limit_is_a_rate_limit() {
        let answer = ResponseFacts {
            body_hint: BodyHint::RateLimitPhrase,
            ..ResponseFacts::from_status(401)
        };

        assert_eq!(answer.cause(), Cause::RateLimit);
    }

    /// FAULTS 30, 50: said of one message, or of anything but a rate, words close no gate.
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
            let answer = ResponseFacts {
                body_hint: BodyHint::from_body(status, text),
                ..ResponseFacts::from_status(status)
            };
            assert_eq!(answer.cause(), cause, "{status} {text}");
        }
    }

    #[test]
    fn a_problem_type_identifies_a_request_limit() {
        let jmap = |limit| format!(r#"{{"type": "{JMAP_LIMIT_TYPE}", "limit": "{limit}"}}"#);
        let quota = format!(r#"{{"type": "{}", "title": "no"}}"#, RATE_LIMIT_PROBLEM_TYPES[0]);
        for (status, text, said) in [
            (400, jmap("maxConcurrentRequests"), BodyHint::RateLimitProblem),
            (500, quota.clone(), BodyHint::RateLimitProblem),
            (400, jmap("maxSizeRequest"), BodyHint::NoHint),
            (200, jmap("maxConcurrentRequests"), BodyHint::NoHint),
            (200, quota, BodyHint::NoHint),
        ] {
            assert_eq!(BodyHint::from_body(status, &text), said, "{status} {text}");
        }
    }

    #[test]
    fn every_rule_matches_something_and_has_a_unique_name() {
        let saids = [
            BodyHint::NoHint,
            BodyHint::RateLimitPhrase,
            BodyHint::RateLimitProblem,
            BodyHint::BadCredential,
        ];
        let answers = (100..=999).flat_map(|status| {
            saids.into_iter().flat_map(move |said| {
                [false, true].map(|is_exhausted| ResponseFacts {
                    body_hint: said,
                    is_quota_exhausted: is_exhausted,
                    ..ResponseFacts::from_status(status)
                })
            })
        });
        let deciding: BTreeSet<BuiltinRule> = answers.map(|answer| answer.rule()).collect();

        assert_eq!(deciding, BTreeSet::from(BuiltinRule::ALL));
        let names: BTreeSet<_> = BuiltinRule::ALL.into_iter().map(BuiltinRule::name).collect();
        assert_eq!(names.len(), BuiltinRule::ALL.len());
    }

    /// One line per run of statuses with the same verdict: the whole table.
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
            let hinted = hints.iter().map(|(name, hint)| (*name, *hint, ""));
            let said =
                bodies.iter().map(|(name, body)| (*name, ResponseFacts::from_status(0), *body));
            for (hint_name, hint, body) in hinted.chain(said) {
                table.push_str(&format!("{scope_name}, {hint_name}\n"));
                for (first, last, judged) in status_ranges(|status| {
                    let cause = ResponseFacts {
                        status,
                        body_hint: BodyHint::from_body(status, body),
                        ..hint
                    }
                    .cause();
                    format!("{} {cause} → {:?}", cause.category().name(), cause.action(scope))
                }) {
                    table.push_str(&format!("  {first}–{last}  {judged}\n"));
                }
            }
        }
        table
    }

    fn status_ranges(judge: impl Fn(u16) -> String) -> Vec<(u16, u16, String)> {
        let mut runs: Vec<(u16, u16, String)> = Vec::new();
        for status in 100..=599 {
            let judged = judge(status);
            match runs.last_mut() {
                Some((_, last, same)) if *same == judged => *last = status,
                _ => runs.push((status, status, judged)),
            }
        }
        runs
    }
}
