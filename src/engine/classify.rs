//! From an HTTP answer that is not what was asked for to the cause of it.
//!
//! Statuses as in RFC 9110 §15; 429 in RFC 6585 §4.

use std::time::Duration;

use crate::engine::Cause;

/// Words for "too often", in lower case. Each is the least that a known server says:
/// problem titles and plain bodies of 429, Cyrus's 401, Gmail's 403, and the limit
/// of RFC 8620 §3.6.1 that is about rate.
const TOO_MANY: &[&str] = &[
    "too many",
    "rate limit",
    "ratelimit",
    "limit for logins",
    "quota exceeded",
    "maxconcurrentrequests",
];

/// Words for "this credential is wrong", in lower case. Nothing vaguer: a 401 alone
/// may be a limit in disguise, and these stop the worker until a person comes.
const BAD_CREDENTIAL: &[&str] = &["authentication failed", "invalid credentials"];

/// What a body says beyond its status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said {
    /// Nothing that we understand.
    Nothing,
    /// Too many requests, in whatever words.
    TooMany,
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
    /// Hosted JMAP servers say it with 401, Gmail with 403, others with 200.
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
    #[must_use]
    pub fn read(status: u16, text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match status {
            200 | 400 | 401 | 403 | 500..=599 if says(TOO_MANY) => Self::TooMany,
            400 | 401 | 403 if says(BAD_CREDENTIAL) => Self::BadCredential,
            _ => Self::Nothing,
        }
    }
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
    pub const ALL: [Self; 11] = [
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
            Self::SaysTooMany | Self::TooManyRequests | Self::ThrottledRefusal => Cause::RateLimit,
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
            Self::SaysTooMany => "200, 400, 401, 403 or 5xx whose body speaks of too many requests",
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

    #[test]
    fn every_rule_decides_something_and_has_a_name_of_its_own() {
        let saids = [Said::Nothing, Said::TooMany, Said::BadCredential];
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
            ("quota body", Answer { said: Said::TooMany, ..Answer::bare(0) }),
        ];
        let scopes =
            [("listing", Scope::Listing), ("item", Scope::Item), ("session", Scope::Session)];
        let mut table = String::new();
        for (scope_name, scope) in scopes {
            for (hint_name, hint) in &hints {
                table.push_str(&format!("{scope_name}, {hint_name}\n"));
                for (first, last, judged) in runs(|status| {
                    let cause = Answer { status, ..*hint }.cause();
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
