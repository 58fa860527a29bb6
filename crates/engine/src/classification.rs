//! Classification of error responses: the user's rules first, then the built-in ones.

use std::time::Duration;

use crate::rate_limit::ReportedLimits;
use crate::{BodyHint, BuiltinRule, Cause, ErrorRule, RequestScope, ResponseFacts, ResponseView};

/// Cause of an error response, and the rule that determined it.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification<'r> {
    pub matched_rule: MatchedRule<'r>,
    pub cause: Cause,
    /// Longer of the server's Retry-After and the wait of the matched user rule.
    pub retry_after: Option<Duration>,
    /// Input of the built-in rules.
    pub facts: ResponseFacts,
}

/// Rule that determined the cause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MatchedRule<'r> {
    BuiltIn(BuiltinRule),
    UserDefined(&'r ErrorRule),
}

/// Classifies a response other than the expected one. Some rule always matches.
///
/// `limits` are the rate limits found in its headers.
#[must_use]
pub fn classify_response<'r>(
    response: &ResponseView<'_>,
    limits: &ReportedLimits,
    scope: RequestScope,
    rules: &'r [ErrorRule],
) -> Classification<'r> {
    let facts = ResponseFacts {
        status: response.status,
        retry_after: limits.retry_after,
        is_quota_exhausted: limits.is_exhausted(),
        body_hint: BodyHint::from_body(response.status, response.body),
    };
    let (matched_rule, cause, wait) = match rules.iter().find(|rule| rule.matches(response, scope))
    {
        Some(rule) => (MatchedRule::UserDefined(rule), rule.cause, rule.wait),
        None => (MatchedRule::BuiltIn(facts.rule()), facts.cause(), None),
    };
    // The longer of the two, because a Retry-After is never shortened.
    Classification { matched_rule, cause, retry_after: limits.retry_after.max(wait), facts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RuleScope, StatusRange};

    fn user_rule(wait: Option<Duration>) -> ErrorRule {
        ErrorRule {
            statuses: vec![StatusRange { first: 403, last: 403 }],
            header: None,
            body: None,
            scope: RuleScope::Item,
            cause: Cause::NotFound,
            wait,
            note: None,
            location: String::new(),
        }
    }

    fn classify(
        scope: RequestScope,
        retry_after: Option<Duration>,
        wait: Option<Duration>,
    ) -> (Cause, Option<Duration>) {
        let response = ResponseView { status: 403, headers: &[], body: "" };
        let limits = ReportedLimits { retry_after, ..ReportedLimits::default() };
        let rules = [user_rule(wait)];
        let classification = classify_response(&response, &limits, scope, &rules);
        (classification.cause, classification.retry_after)
    }

    #[test]
    fn user_rules_take_precedence_within_their_scope() {
        assert_eq!(classify(RequestScope::Item, None, None), (Cause::NotFound, None));
        assert_eq!(classify(RequestScope::Listing, None, None), (Cause::Forbidden, None));
    }

    #[test]
    fn the_longer_of_retry_after_and_the_rule_wait_applies() {
        let [short, long] = [Duration::from_secs(5), Duration::from_secs(60)];

        assert_eq!(classify(RequestScope::Item, Some(short), Some(long)).1, Some(long));
        assert_eq!(classify(RequestScope::Item, Some(long), Some(short)).1, Some(long));
        assert_eq!(classify(RequestScope::Listing, Some(short), Some(long)).1, Some(short));
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use crate::Timestamp;
    use crate::error_rules::proptests::rule;
    use crate::rate_limit::{HeaderNames, parse_headers};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
        let name = "retry-after|x-ratelimit-(limit|remaining|reset)|ratelimit(-policy|-limit|-remaining|-reset)?|date|age|x-[ab]";
        let value = "\\PC{0,20}|-?[0-9]{1,25}|[a-z\"]{1,5};[qwrt]=[0-9]{1,12}|[0-9]e[0-9]{1,3}";
        vec((name, value), 0..6)
    }

    proptest! {
        #[test]
        fn every_response_matches_a_named_rule(
            status: u16, headers in headers(), body in "\\PC{0,60}", rules in vec(rule(), 0..3), now: i64,
        ) {
            let pairs: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let limits = parse_headers(&pairs, &HeaderNames::default(), Timestamp(now));
            let response = ResponseView { status, headers: &pairs, body: &body };
            for scope in [RequestScope::Item, RequestScope::Listing, RequestScope::Session] {
                let classification = classify_response(&response, &limits, scope, &rules);

                match classification.matched_rule {
                    MatchedRule::BuiltIn(rule) => {
                        prop_assert_eq!(classification.cause, rule.cause());
                        prop_assert!(!rule.name().is_empty() && !rule.condition().is_empty());
                        prop_assert!(!rules.iter().any(|rule| rule.matches(&response, scope)));
                    }
                    MatchedRule::UserDefined(rule) => {
                        prop_assert!(rule.matches(&response, scope));
                        prop_assert_eq!(classification.cause, rule.cause);
                    }
                }
                prop_assert!(
                    classification.retry_after >= limits.retry_after,
                    "a Retry-After is never shortened"
                );
            }
        }
    }
}
