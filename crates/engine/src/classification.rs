//! Classification of error responses: the user's rules first, then those of the profile, then the
//! built-in ones.

use std::time::Duration;

use chrono::DateTime;

use crate::rate_limit::ReportedLimits;
use crate::rest::{ProfileErrorRule, ProfileRules, RuleVerdict};
use crate::{
    BodyHint, BuiltinRule, Cause, ErrorRule, RequestScope, ResponseFacts, ResponseView, Timestamp,
};

/// Cause of an error response, and the rule that determined it.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification<'r> {
    pub matched_rule: MatchedRule<'r>,
    pub cause: Cause,
    /// Longest of the server's Retry-After, the wait of the matched rule, and the one that a rule
    /// of a profile finds in the body.
    pub retry_after: Option<Duration>,
    /// Input of the built-in rules.
    pub facts: ResponseFacts,
}

/// Rule that determined the cause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MatchedRule<'r> {
    BuiltIn(BuiltinRule),
    UserDefined(&'r ErrorRule),
    Profile(&'r ProfileErrorRule),
}

/// Classifies a response other than the expected one. Some rule always matches.
///
/// `limits` are the rate limits found in its headers. `now` is needed for a wait in its body, which
/// only rules of a profile find; a time there is relative to the `Date` of the response if present,
/// since our clock may be wrong.
#[must_use]
pub fn classify_response<'r>(
    response: &ResponseView<'_>,
    limits: &ReportedLimits,
    scope: RequestScope,
    rules: &'r [ErrorRule],
    profile: Option<ProfileRules<'r>>,
    now: Timestamp,
) -> Classification<'r> {
    let facts = ResponseFacts {
        status: response.status,
        retry_after: limits.retry_after,
        is_quota_exhausted: limits.is_exhausted(),
        body_hint: BodyHint::from_body(response.status, response.body),
    };
    let user_rule = rules.iter().find(|rule| rule.matches(response, scope));
    let of_profile = || {
        let sent_at = sent_at(response).unwrap_or(now);
        profile.and_then(|profile| profile.find(response.status, response.body, sent_at))
    };
    let (matched_rule, cause, wait) = if let Some(rule) = user_rule {
        (MatchedRule::UserDefined(rule), rule.cause, rule.wait)
    } else if let Some(RuleVerdict { rule, retry_after }) = of_profile() {
        (MatchedRule::Profile(rule), rule.cause, retry_after)
    } else {
        (MatchedRule::BuiltIn(facts.rule()), facts.cause(), None)
    };
    // The longer of the two, because a Retry-After is never shortened.
    Classification { matched_rule, cause, retry_after: limits.retry_after.max(wait), facts }
}

/// Returns the time at which the response was sent, by the clock of the server.
fn sent_at(response: &ResponseView<'_>) -> Option<Timestamp> {
    let (_, date) = response.headers.iter().find(|(name, _)| *name == "date")?;
    let date = DateTime::parse_from_rfc2822(date.trim()).ok()?;
    Some(Timestamp(date.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::{JsonPath, ReportedWait, TableName, WaitFormat};
    use crate::{RuleScope, StatusRange};

    const NOW: Timestamp = Timestamp(0);

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
        let classification = classify_response(&response, &limits, scope, &rules, None, NOW);
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

    #[test]
    fn profile_rules_come_between_user_and_built_in_rules() {
        let profile_rule = ProfileErrorRule {
            tables: vec![TableName::List],
            statuses: vec![StatusRange { first: 403, last: 403 }],
            values: Vec::new(),
            cause: Cause::RateLimit,
            wait: Some(Duration::from_secs(30)),
            message: None,
            reported_wait: Some(ReportedWait {
                text: JsonPath::parse("/message").unwrap(),
                after: "wait ".to_owned(),
                format: WaitFormat::Seconds,
            }),
            location: String::new(),
        };
        let user_rules = [user_rule(None)];
        let classify = |scope, table, retry_after, body| {
            let response = ResponseView { status: 403, headers: &[], body };
            let limits = ReportedLimits { retry_after, ..ReportedLimits::default() };
            let profile = ProfileRules { rules: std::slice::from_ref(&profile_rule), table };
            let classification =
                classify_response(&response, &limits, scope, &user_rules, Some(profile), NOW);
            (classification.cause, classification.retry_after.map(|wait| wait.as_secs()))
        };
        let (item, listing) = (RequestScope::Item, RequestScope::Listing);
        let minute = Some(Duration::from_secs(60));

        assert_eq!(classify(item, TableName::List, None, ""), (Cause::NotFound, None));
        assert_eq!(classify(listing, TableName::Pin, None, ""), (Cause::Forbidden, None));
        assert_eq!(classify(listing, TableName::List, None, ""), (Cause::RateLimit, Some(30)));
        assert_eq!(classify(listing, TableName::List, minute, ""), (Cause::RateLimit, Some(60)));
        let body = "{\"message\": \"wait 90\"}";
        assert_eq!(classify(listing, TableName::List, minute, body), (Cause::RateLimit, Some(90)));
    }

    #[test]
    fn a_time_in_the_body_is_relative_to_the_date_of_the_response() {
        let rule = ProfileErrorRule {
            tables: Vec::new(),
            statuses: Vec::new(),
            values: Vec::new(),
            cause: Cause::RateLimit,
            wait: None,
            message: None,
            reported_wait: Some(ReportedWait {
                text: JsonPath::parse("/message").unwrap(),
                after: "after ".to_owned(),
                format: WaitFormat::Rfc3339,
            }),
            location: String::new(),
        };
        let body = "{\"message\": \"Retry after 1970-01-01T02:00:30Z\"}";
        let wait = |headers: &[(&str, &str)]| {
            let response = ResponseView { status: 429, headers, body };
            let profile =
                ProfileRules { rules: std::slice::from_ref(&rule), table: TableName::List };
            let (limits, scope) = (ReportedLimits::default(), RequestScope::Listing);
            let classification =
                classify_response(&response, &limits, scope, &[], Some(profile), NOW);
            classification.retry_after.map(|wait| wait.as_secs())
        };

        assert_eq!(wait(&[("date", "Thu, 01 Jan 1970 02:00:00 GMT")]), Some(30));
        assert_eq!(wait(&[("date", "yesterday")]), Some(7230));
        assert_eq!(wait(&[]), Some(7230));
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use crate::error_rules::proptests::rule;
    use crate::rate_limit::{HeaderNames, parse_headers};
    use crate::rest::{JsonPath, TableName, ValueCondition, ValueTest};
    use crate::{RULE_CAUSES, Scalar, StatusRange};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
        let name = "retry-after|x-ratelimit-(limit|remaining|reset)|ratelimit(-policy|-limit|-remaining|-reset)?|date|age|x-[ab]";
        let value = "\\PC{0,20}|-?[0-9]{1,25}|[a-z\"]{1,5};[qwrt]=[0-9]{1,12}|[0-9]e[0-9]{1,3}";
        vec((name, value), 0..6)
    }

    fn profile_rule() -> impl Strategy<Value = ProfileErrorRule> {
        let cause = prop::sample::select(RULE_CAUSES.to_vec());
        (vec(any::<(u16, u16)>(), 0..2), any::<bool>(), cause).prop_map(
            |(statuses, is_ok, cause)| ProfileErrorRule {
                tables: Vec::new(),
                statuses: statuses
                    .into_iter()
                    .map(|(first, last)| StatusRange { first, last })
                    .collect(),
                values: vec![ValueCondition {
                    at: JsonPath::parse("/ok").unwrap(),
                    test: ValueTest::Is(vec![Scalar::Flag(is_ok)]),
                }],
                cause,
                wait: None,
                message: None,
                reported_wait: None,
                location: String::new(),
            },
        )
    }

    proptest! {
        #[test]
        fn every_response_matches_a_named_rule(
            status: u16, headers in headers(), body in "\\PC{0,60}|\\{\"ok\": (true|false)\\}",
            rules in vec(rule(), 0..3), profile_rules in vec(profile_rule(), 0..3), now: i64,
        ) {
            let now = Timestamp(now);
            let profile = ProfileRules { rules: &profile_rules, table: TableName::List };
            let pairs: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let limits = parse_headers(&pairs, &HeaderNames::default(), now);
            let response = ResponseView { status, headers: &pairs, body: &body };
            for scope in [RequestScope::Item, RequestScope::Listing, RequestScope::Session] {
                let classification =
                    classify_response(&response, &limits, scope, &rules, Some(profile), now);

                match classification.matched_rule {
                    MatchedRule::BuiltIn(rule) => {
                        prop_assert_eq!(classification.cause, rule.cause());
                        prop_assert!(!rule.name().is_empty() && !rule.condition().is_empty());
                        prop_assert!(!rules.iter().any(|rule| rule.matches(&response, scope)));
                        prop_assert_eq!(profile.find(status, &body, now), None);
                    }
                    MatchedRule::UserDefined(rule) => {
                        prop_assert!(rule.matches(&response, scope));
                        prop_assert_eq!(classification.cause, rule.cause);
                    }
                    MatchedRule::Profile(rule) => {
                        prop_assert_eq!(classification.cause, rule.cause);
                        prop_assert!(!rules.iter().any(|rule| rule.matches(&response, scope)));
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
