//! From an HTTP answer that is not what was asked for to the cause of it.
//!
//! Statuses as in RFC 9110 §15; 429 in RFC 6585 §4.

use std::time::Duration;

use crate::engine::Cause;

/// What a body says beyond its status. Read by the source, which knows its server's words.
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
        match self.said {
            // Hosted JMAP servers say it with 401, Gmail with 403, others with 200.
            Said::TooMany => return Cause::RateLimit,
            Said::BadCredential => return Cause::Unauthorized,
            Said::Nothing => {}
        }
        let throttled = self.retry_after.is_some() || self.is_exhausted;
        match self.status {
            429 => Cause::RateLimit,
            403 | 503 if throttled => Cause::RateLimit,
            401 => Cause::Unauthorized,
            403 => Cause::Forbidden,
            404 | 410 => Cause::NotFound,
            407 => Cause::Proxy,
            408 | 425 | 500..=599 => Cause::Server,
            // An unasked 204, 206 or 304, a redirect to a login page: success that is not ours.
            200..=399 => Cause::Challenge,
            _ => Cause::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
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
