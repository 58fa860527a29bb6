//! Tests of each condition, and of rules that shadow others.

use super::*;

fn rule() -> ErrorRule {
    ErrorRule {
        statuses: Vec::new(),
        header: None,
        body: None,
        scope: RuleScope::Any,
        cause: Cause::RateLimit,
        wait: None,
        note: None,
        location: "config.toml:1:1".to_owned(),
    }
}

fn status_rule(first: u16, last: u16) -> ErrorRule {
    ErrorRule { statuses: vec![StatusRange { first, last }], ..rule() }
}

fn header_rule(test: HeaderTest) -> ErrorRule {
    ErrorRule { header: Some(HeaderCondition { name: "x-error".to_owned(), test }), ..rule() }
}

fn body_rule(body: BodyCondition) -> ErrorRule {
    ErrorRule { body: Some(body), ..rule() }
}

fn json_pointer_rule(pointer: &str, value: Scalar) -> ErrorRule {
    body_rule(BodyCondition::JsonPointerEquals { pointer: pointer.to_owned(), value })
}

fn rule_matches(rule: &ErrorRule, body: &str) -> bool {
    let headers = [("x-error", "none"), ("x-error", " Quota of DAY ")];
    rule.matches(&ResponseView { status: 403, headers: &headers, body }, RequestScope::Item)
}

#[test]
fn every_condition_must_hold() {
    assert!(rule_matches(&status_rule(400, 499), ""));
    assert!(!rule_matches(&status_rule(500, 599), ""));
    assert!(rule_matches(&header_rule(HeaderTest::Exists), ""));
    assert!(
        rule_matches(&header_rule(HeaderTest::Contains("quota".to_owned())), ""),
        "one of several headers matches"
    );
    assert!(rule_matches(&header_rule(HeaderTest::Equals("quota of day".to_owned())), ""));
    assert!(!rule_matches(&header_rule(HeaderTest::Equals("quota".to_owned())), ""));
    let both =
        ErrorRule { statuses: status_rule(500, 500).statuses, ..header_rule(HeaderTest::Exists) };
    assert!(!rule_matches(&both, ""));
}

#[test]
fn a_body_is_matched_as_text_or_as_json() {
    let text = body_rule(BodyCondition::Contains("лимит".to_owned()));
    assert!(rule_matches(&text, "Превышен ЛИМИТ запросов"));
    let json = r#"{"error": {"code": 7, "names": ["a", {"b/c": "x"}], "fatal": true}}"#;
    assert!(rule_matches(&json_pointer_rule("/error/code", Scalar::Integer(7)), json));
    assert!(rule_matches(&json_pointer_rule("/error/fatal", Scalar::Flag(true)), json));
    assert!(rule_matches(
        &json_pointer_rule("/error/names/1/b~1c", Scalar::Text("x".to_owned())),
        json
    ));
    assert!(!rule_matches(&json_pointer_rule("/error/code", Scalar::Text("7".to_owned())), json));
    assert!(
        !rule_matches(&json_pointer_rule("/error/code", Scalar::Integer(7)), &json[..30]),
        "truncated JSON has no value"
    );
}

#[test]
fn an_item_rule_does_not_match_listing_requests() {
    let response = ResponseView { status: 403, headers: &[], body: "" };
    let matched_scopes = |scope| {
        let rule = ErrorRule { scope, ..status_rule(403, 403) };
        [RequestScope::Item, RequestScope::Listing, RequestScope::Session]
            .map(|request_scope| rule.matches(&response, request_scope))
    };

    assert_eq!(matched_scopes(RuleScope::Any), [true; 3]);
    assert_eq!(matched_scopes(RuleScope::Item), [true, false, false]);
    assert_eq!(matched_scopes(RuleScope::Listing), [false, true, true]);
}

#[test]
fn a_rule_shadows_stricter_rules() {
    let contains = |text: &str| header_rule(HeaderTest::Contains(text.to_owned()));
    let narrower = ErrorRule { statuses: status_rule(403, 403).statuses, ..contains("day quota") };

    assert!(status_rule(400, 499).shadows(&status_rule(403, 403)));
    assert!(status_rule(400, 499).shadows(&narrower));
    assert!(contains("QUOTA").shadows(&narrower));
    assert!(header_rule(HeaderTest::Exists).shadows(&contains("x")));
    assert!(!status_rule(403, 403).shadows(&status_rule(400, 499)));
    assert!(!status_rule(400, 499).shadows(&contains("x")), "the other rule matches any status");
    assert!(!contains("x").shadows(&header_rule(HeaderTest::Exists)));
    let items = ErrorRule { scope: RuleScope::Item, ..status_rule(400, 499) };
    assert!(!items.shadows(&status_rule(403, 403)));
}
