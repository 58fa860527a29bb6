//! From an HTTP answer that is not what was asked for to the cause of it.
//!
//! Statuses as in RFC 9110 §15; 429 in RFC 6585 §4.

use std::time::Duration;

use serde::Deserialize;

use crate::engine::Cause;

/// Words for "too often" in the body of a 403 or 503, in lower case. Other statuses say them of
/// something else: a 500 of a message with too many parts, a 400 of a request with too many ids, a
/// 200 of whatever it brings.
const TOO_MANY: &[&str] = &[
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
const TOO_MANY_LOGINS: &[&str] = &["limit for logins"];

/// Words for "this credential is wrong", in lower case. Nothing vaguer: a 401 alone
/// may be a limit in disguise, and these stop the worker until a person comes.
const BAD_CREDENTIAL: &[&str] = &["authentication failed", "invalid credentials"];

/// The type of JMAP's problem that names a limit (RFC 8620 §3.6.1), and those of its limits that are
/// about how often, and not about how much, is asked.
const JMAP_LIMIT: &str = "urn:ietf:params:jmap:error:limit";
const JMAP_RATE_LIMITS: &[&str] = &["maxConcurrentRequests", "maxConcurrentUpload"];

/// Types of problems (RFC 9457 §3.1.1) that are limits of requests, registered by
/// draft-ietf-httpapi-ratelimit-headers.
const LIMITS: &[&str] = &[
    "https://iana.org/assignments/http-problem-types#quota-exceeded",
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
    "https://iana.org/assignments/http-problem-types#abnormal-usage-detected",
];

/// What a body says beyond its status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said {
    /// Nothing that we understand.
    Nothing,
    /// Too many requests, in words.
    TooMany,
    /// Too many requests, by the type of a problem document.
    Limit,
    /// The credential is wrong, expired or revoked, in plain words.
    BadCredential,
}

/// The facts of an answer that decide its cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status, 100 to 599, and beyond for servers that invent their own.
    pub status: u16,
    /// The Retry-After of the answer, where sane.
    pub retry_after: Option<Duration>,
    /// The server says that nothing is left of a quota.
    pub is_exhausted: bool,
    pub said: Said,
}

/// A line of the classifier. The first that fits an answer decides, in this order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// A problem document leaves no doubt, whatever the status: Stalwart says it with 400.
    ProblemIsLimit,
    /// Hosted JMAP servers say it with 401, Gmail with 403.
    SaysTooMany,
    SaysBadCredential,
    TooManyRequests,
    ThrottledRefusal,
    CredentialRefused,
    Forbidden,
    NotFound,
    ProxyRefuses,
    ServerTrouble,
    /// An unasked 204, 206 or 304, a redirect to a login page: success that is not ours.
    NotWhatWasAsked,
    Unlisted,
}

impl Said {
    /// Finds out what a body says, where its status leaves a doubt.
    ///
    /// Words count only where a known server means a limit, or a credential, by them. In a 400 they
    /// are about the request itself, so that there only the type of a problem tells of a limit.
    #[must_use]
    pub fn read(status: u16, text: &str) -> Self {
        if matches!(status, 400..=599) && is_limit(text) {
            return Self::Limit;
        }
        let text = text.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match status {
            403 | 503 if says(TOO_MANY) => Self::TooMany,
            401 if says(TOO_MANY_LOGINS) => Self::TooMany,
            400 | 401 | 403 if says(BAD_CREDENTIAL) => Self::BadCredential,
            _ => Self::Nothing,
        }
    }
}

/// Whether a body is a problem document about a limit of requests.
fn is_limit(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(rename = "type")]
        kind: String,
        limit: Option<String>,
    }

    let Ok(Problem { kind, limit }) = serde_json::from_str(text) else { return false };
    let is_of_rate = limit.is_some_and(|limit| JMAP_RATE_LIMITS.contains(&limit.as_str()));
    LIMITS.contains(&kind.as_str()) || (kind == JMAP_LIMIT && is_of_rate)
}

impl Answer {
    /// An answer with a status and no hint.
    #[must_use]
    pub fn bare(status: u16) -> Self {
        Self { status, retry_after: None, is_exhausted: false, said: Said::Nothing }
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
    pub fn rule(&self) -> Rule {
        match self.said {
            Said::Limit => return Rule::ProblemIsLimit,
            Said::TooMany => return Rule::SaysTooMany,
            Said::BadCredential => return Rule::SaysBadCredential,
            Said::Nothing => {}
        }
        let throttled = self.retry_after.is_some() || self.is_exhausted;
        match self.status {
            429 => Rule::TooManyRequests,
            403 | 503 if throttled => Rule::ThrottledRefusal,
            401 => Rule::CredentialRefused,
            403 => Rule::Forbidden,
            404 | 410 => Rule::NotFound,
            407 => Rule::ProxyRefuses,
            408 | 425 | 500..=599 => Rule::ServerTrouble,
            200..=399 => Rule::NotWhatWasAsked,
            _ => Rule::Unlisted,
        }
    }
}

impl Rule {
    pub const ALL: [Self; 12] = [
        Self::ProblemIsLimit,
        Self::SaysTooMany,
        Self::SaysBadCredential,
        Self::TooManyRequests,
        Self::ThrottledRefusal,
        Self::CredentialRefused,
        Self::Forbidden,
        Self::NotFound,
        Self::ProxyRefuses,
        Self::ServerTrouble,
        Self::NotWhatWasAsked,
        Self::Unlisted,
    ];

    #[must_use]
    pub fn cause(self) -> Cause {
        match self {
            Self::ProblemIsLimit
            | Self::SaysTooMany
            | Self::TooManyRequests
            | Self::ThrottledRefusal => Cause::RateLimit,
            Self::SaysBadCredential | Self::CredentialRefused => Cause::Unauthorized,
            Self::Forbidden => Cause::Forbidden,
            Self::NotFound => Cause::NotFound,
            Self::ProxyRefuses => Cause::Proxy,
            Self::ServerTrouble => Cause::Server,
            Self::NotWhatWasAsked => Cause::Challenge,
            Self::Unlisted => Cause::Unknown,
        }
    }

    /// The word for it in what a person, or a program, reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ProblemIsLimit => "problem_is_limit",
            Self::SaysTooMany => "says_too_many",
            Self::SaysBadCredential => "says_bad_credential",
            Self::TooManyRequests => "too_many_requests",
            Self::ThrottledRefusal => "throttled_refusal",
            Self::CredentialRefused => "credential_refused",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::ProxyRefuses => "proxy_refuses",
            Self::ServerTrouble => "server_trouble",
            Self::NotWhatWasAsked => "not_what_was_asked",
            Self::Unlisted => "unlisted",
        }
    }

    /// What it takes for the rule to match, in words.
    #[must_use]
    pub fn condition(self) -> &'static str {
        match self {
            Self::ProblemIsLimit => {
                "4xx or 5xx with a problem document whose type is a limit of requests"
            }
            Self::SaysTooMany => {
                "403 or 503 whose body speaks of too many requests, or 401 of a limit for logins"
            }
            Self::SaysBadCredential => "400, 401 or 403 whose body calls the credential wrong",
            Self::TooManyRequests => "429",
            Self::ThrottledRefusal => "403 or 503 with a Retry-After, or with nothing remaining",
            Self::CredentialRefused => "401",
            Self::Forbidden => "403 without a word of limits",
            Self::NotFound => "404 or 410",
            Self::ProxyRefuses => "407",
            Self::ServerTrouble => "408, 425 or 5xx",
            Self::NotWhatWasAsked => "2xx or 3xx that is not what was asked for",
            Self::Unlisted => "a status that no other rule names",
        }
    }
}
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::Scope;

    #[test]
    fn the_verdict_of_every_status_is_known() {
        insta::assert_snapshot!(table());
    }

    #[test]
    fn remaining_zero_turns_a_403_into_a_rate_limit() {
        let answer = Answer { is_exhausted: true, ..Answer::bare(403) };

        assert_eq!(answer.cause(), Cause::RateLimit);
    }

    #[test]
    fn a_401_whose_body_speaks_of_limits_is_a_rate_limit() {
        let answer = Answer { said: Said::TooMany, ..Answer::bare(401) };

        assert_eq!(answer.cause(), Cause::RateLimit);
    }

    /// FAULTS 30, 50: said of one message, or of anything but a rate, words close no gate.
    #[test]
    fn words_count_only_where_a_server_means_a_limit_by_them() {
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
            let answer = Answer { said: Said::read(status, text), ..Answer::bare(status) };
            assert_eq!(answer.cause(), cause, "{status} {text}");
        }
    }

    #[test]
    fn the_type_of_a_problem_tells_a_limit_of_requests_from_others() {
        let jmap = |limit| format!(r#"{{"type": "{JMAP_LIMIT}", "limit": "{limit}"}}"#);
        let quota = format!(r#"{{"type": "{}", "title": "no"}}"#, LIMITS[0]);
        for (status, text, said) in [
            (400, jmap("maxConcurrentRequests"), Said::Limit),
            (500, quota.clone(), Said::Limit),
            (400, jmap("maxSizeRequest"), Said::Nothing),
            (200, jmap("maxConcurrentRequests"), Said::Nothing),
            (200, quota, Said::Nothing),
        ] {
            assert_eq!(Said::read(status, &text), said, "{status} {text}");
        }
    }

    #[test]
    fn every_rule_decides_something_and_has_a_name_of_its_own() {
        let saids = [Said::Nothing, Said::TooMany, Said::Limit, Said::BadCredential];
        let answers = (100..=999).flat_map(|status| {
            saids.into_iter().flat_map(move |said| {
                [false, true].map(|is_exhausted| Answer {
                    said,
                    is_exhausted,
                    ..Answer::bare(status)
                })
            })
        });
        let deciding: BTreeSet<Rule> = answers.map(|answer| answer.rule()).collect();

        assert_eq!(deciding, BTreeSet::from(Rule::ALL));
        let names: BTreeSet<_> = Rule::ALL.into_iter().map(Rule::name).collect();
        assert_eq!(names.len(), Rule::ALL.len());
    }

    /// One line per run of statuses with the same verdict: the whole table.
    fn table() -> String {
        let hints = [
            ("no hint", Answer::bare(0)),
            (
                "Retry-After",
                Answer { retry_after: Some(Duration::from_secs(30)), ..Answer::bare(0) },
            ),
        ];
        let bodies = [
            ("body of too many requests", "Too Many Requests"),
            (
                "problem of a limit",
                r#"{"type": "urn:ietf:params:jmap:error:limit", "limit": "maxConcurrentRequests"}"#,
            ),
        ];
        let scopes =
            [("listing", Scope::Listing), ("item", Scope::Item), ("session", Scope::Session)];
        let mut table = String::new();
        for (scope_name, scope) in scopes {
            let hinted = hints.iter().map(|(name, hint)| (*name, *hint, ""));
            let said = bodies.iter().map(|(name, body)| (*name, Answer::bare(0), *body));
            for (hint_name, hint, body) in hinted.chain(said) {
                table.push_str(&format!("{scope_name}, {hint_name}\n"));
                for (first, last, judged) in runs(|status| {
                    let cause = Answer { status, said: Said::read(status, body), ..hint }.cause();
                    format!("{} {cause} → {:?}", cause.kind().name(), cause.verdict(scope))
                }) {
                    table.push_str(&format!("  {first}–{last}  {judged}\n"));
                }
            }
        }
        table
    }

    fn runs(judge: impl Fn(u16) -> String) -> Vec<(u16, u16, String)> {
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
