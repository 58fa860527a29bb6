//! Property tests for any two rules and any response.

use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn header() -> impl Strategy<Value = HeaderCondition> {
    let test = prop_oneof![
        Just(HeaderTest::Exists),
        "[ab]{1,2}".prop_map(HeaderTest::Equals),
        "[ab]{1,2}".prop_map(HeaderTest::Contains),
    ];
    ("x-[ab]", test).prop_map(|(name, test)| HeaderCondition { name, test })
}

fn body() -> impl Strategy<Value = BodyCondition> {
    let value = prop_oneof![
        "[ab]".prop_map(Scalar::Text),
        (0..2_i64).prop_map(Scalar::Integer),
        any::<bool>().prop_map(Scalar::Flag),
    ];
    prop_oneof![
        "[ab]{1,2}".prop_map(BodyCondition::Contains),
        ("/[ab]", value)
            .prop_map(|(pointer, value)| BodyCondition::JsonPointerEquals { pointer, value }),
    ]
}

/// Generates rules from so few values that they often overlap.
pub(crate) fn rule() -> impl Strategy<Value = ErrorRule> {
    let statuses = vec((400..404_u16, 0..3_u16), 0..3);
    let scope = prop::sample::select(RuleScope::ALL.to_vec());
    let cause = prop::sample::select(RULE_CAUSES.to_vec());
    (statuses, option::of(header()), option::of(body()), scope, cause).prop_map(
        |(statuses, header, body, scope, cause)| ErrorRule {
            statuses: statuses
                .into_iter()
                .map(|(first, more)| StatusRange { first, last: first + more })
                .collect(),
            header,
            body,
            scope,
            cause,
            wait: None,
            note: None,
            location: String::new(),
        },
    )
}

proptest! {
    #[test]
    fn a_shadowed_rule_never_matches_first(
        first in rule(), later in rule(), status in 398..408_u16, value in "[abAB]{0,3}",
        body in "[ab]{0,3}|\\{\"[ab]\": (\"[ab]\"|[01]|true|false)\\}", scope in 0..3_usize,
    ) {
        let headers = [("x-a", value.as_str()), ("x-b", value.as_str())];
        let response = ResponseView { status, headers: &headers, body: &body };
        let scope = [RequestScope::Item, RequestScope::Listing, RequestScope::Session][scope];

        if first.shadows(&later) && later.matches(&response, scope) {
            prop_assert!(first.matches(&response, scope));
        }
    }

    #[test]
    fn every_rule_shadows_itself(rule in rule()) {
        prop_assert!(rule.shadows(&rule.clone()));
    }
}
