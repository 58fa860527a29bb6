//! The one judgement of a reply: the user's rules first, then the built-in ones.

use std::time::Duration;

use crate::engine::quota::Signals;
use crate::engine::{Answer, Cause, ErrorRule, Rule, Said, Scope, ServerReply};

/// What a reply was judged to be, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement<'r> {
    pub matched: Matched<'r>,
    pub cause: Cause,
    /// How long the server, or the user for it, says to stay away.
    pub told: Option<Duration>,
    /// The facts that the built-in rules see.
    pub answer: Answer,
}

/// The rule that decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Matched<'r> {
    BuiltIn(Rule),
    Users(&'r ErrorRule),
}

/// Judges a reply that is not what was asked for. Some rule always matches.
///
/// `signals` is what its headers say about limits.
#[must_use]
pub fn judge<'r>(
    reply: &ServerReply<'_>,
    signals: &Signals,
    scope: Scope,
    rules: &'r [ErrorRule],
) -> Judgement<'r> {
    let answer = Answer {
        status: reply.status,
        retry_after: signals.told,
        is_exhausted: signals.is_exhausted(),
        said: Said::read(reply.status, reply.body),
    };
    let (matched, cause, wait) = match rules.iter().find(|rule| rule.matches(reply, scope)) {
        Some(rule) => (Matched::Users(rule), rule.class, rule.wait),
        None => (Matched::BuiltIn(answer.rule()), answer.cause(), None),
    };
    // The longer of the two: a server's word is never cut short.
    Judgement { matched, cause, told: signals.told.max(wait), answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Reach, StatusRange};

    fn mine(wait: Option<Duration>) -> ErrorRule {
        ErrorRule {
            statuses: vec![StatusRange { first: 403, last: 403 }],
            header: None,
            body: None,
            reach: Reach::Item,
            class: Cause::NotFound,
            wait,
            note: None,
            place: String::new(),
        }
    }

    fn judged(
        scope: Scope,
        told: Option<Duration>,
        wait: Option<Duration>,
    ) -> (Cause, Option<Duration>) {
        let reply = ServerReply { status: 403, headers: &[], body: "" };
        let signals = Signals { told, ..Signals::default() };
        let rules = [mine(wait)];
        let judgement = judge(&reply, &signals, scope, &rules);
        (judgement.cause, judgement.told)
    }

    #[test]
    fn the_users_rules_go_first_where_they_reach() {
        assert_eq!(judged(Scope::Item, None, None), (Cause::NotFound, None));
        assert_eq!(judged(Scope::Listing, None, None), (Cause::Forbidden, None));
    }

    #[test]
    fn the_longer_of_the_servers_word_and_the_users_wait_holds() {
        let [short, long] = [Duration::from_secs(5), Duration::from_secs(60)];

        assert_eq!(judged(Scope::Item, Some(short), Some(long)).1, Some(long));
        assert_eq!(judged(Scope::Item, Some(long), Some(short)).1, Some(long));
        assert_eq!(judged(Scope::Listing, Some(short), Some(long)).1, Some(short));
    }
}

#[cfg(test)]
mod laws {
    use super::*;
    use crate::engine::Moment;
    use crate::engine::quota::{HeaderNames, read};
    use crate::engine::rules::laws::rule;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
        let name = "retry-after|x-ratelimit-(limit|remaining|reset)|ratelimit(-policy|-limit|-remaining|-reset)?|date|age|x-[ab]";
        let value = "\\PC{0,20}|-?[0-9]{1,25}|[a-z\"]{1,5};[qwrt]=[0-9]{1,12}|[0-9]e[0-9]{1,3}";
        vec((name, value), 0..6)
    }

    proptest! {
        #[test]
        fn every_reply_is_judged_by_some_rule_with_a_name(
            status: u16, headers in headers(), body in "\\PC{0,60}", rules in vec(rule(), 0..3), now: i64,
        ) {
            let pairs: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let signals = read(&pairs, &HeaderNames::default(), Moment(now));
            let reply = ServerReply { status, headers: &pairs, body: &body };
            for scope in [Scope::Item, Scope::Listing, Scope::Session] {
                let judgement = judge(&reply, &signals, scope, &rules);

                match judgement.matched {
                    Matched::BuiltIn(rule) => {
                        prop_assert_eq!(judgement.cause, rule.cause());
                        prop_assert!(!rule.name().is_empty() && !rule.condition().is_empty());
                        prop_assert!(!rules.iter().any(|rule| rule.matches(&reply, scope)));
                    }
                    Matched::Users(rule) => {
                        prop_assert!(rule.matches(&reply, scope));
                        prop_assert_eq!(judgement.cause, rule.class);
                    }
                }
                prop_assert!(judgement.told >= signals.told, "a server's word is never cut short");
            }
        }
    }
}
