//! Rules of each condition, and rules in each other's way.

use super::*;

fn rule() -> ErrorRule {
    ErrorRule {
        statuses: Vec::new(),
        header: None,
        body: None,
        reach: Reach::Any,
        class: Cause::RateLimit,
        wait: None,
        note: None,
        place: "config.toml:1:1".to_owned(),
    }
}

fn of_status(first: u16, last: u16) -> ErrorRule {
    ErrorRule { statuses: vec![StatusRange { first, last }], ..rule() }
}

fn of_header(test: HeaderTest) -> ErrorRule {
    ErrorRule { header: Some(HeaderCondition { name: "x-error".to_owned(), test }), ..rule() }
}

fn of_body(body: BodyCondition) -> ErrorRule {
    ErrorRule { body: Some(body), ..rule() }
}

fn holds(pointer: &str, value: Scalar) -> ErrorRule {
    of_body(BodyCondition::Holds { pointer: pointer.to_owned(), value })
}

fn matches(rule: &ErrorRule, body: &str) -> bool {
    let headers = [("x-error", "none"), ("x-error", " Quota of DAY ")];
    rule.matches(&ServerReply { status: 403, headers: &headers, body }, RequestScope::Item)
}

#[test]
fn every_condition_must_hold() {
    assert!(matches(&of_status(400, 499), ""));
    assert!(!matches(&of_status(500, 599), ""));
    assert!(matches(&of_header(HeaderTest::Exists), ""));
    assert!(matches(&of_header(HeaderTest::Contains("quota".to_owned())), ""), "of any of them");
    assert!(matches(&of_header(HeaderTest::Equals("quota of day".to_owned())), ""));
    assert!(!matches(&of_header(HeaderTest::Equals("quota".to_owned())), ""));
    let both =
        ErrorRule { statuses: of_status(500, 500).statuses, ..of_header(HeaderTest::Exists) };
    assert!(!matches(&both, ""));
}

#[test]
fn a_body_is_looked_at_as_text_or_as_json() {
    let text = of_body(BodyCondition::Contains("лимит".to_owned()));
    assert!(matches(&text, "Превышен ЛИМИТ запросов"));
    let json = r#"{"error": {"code": 7, "names": ["a", {"b/c": "x"}], "fatal": true}}"#;
    assert!(matches(&holds("/error/code", Scalar::Integer(7)), json));
    assert!(matches(&holds("/error/fatal", Scalar::Flag(true)), json));
    assert!(matches(&holds("/error/names/1/b~1c", Scalar::Text("x".to_owned())), json));
    assert!(!matches(&holds("/error/code", Scalar::Text("7".to_owned())), json));
    assert!(!matches(&holds("/error/code", Scalar::Integer(7)), &json[..30]), "cut short");
}

#[test]
fn a_rule_for_items_leaves_the_listing_alone() {
    let reply = ServerReply { status: 403, headers: &[], body: "" };
    let reaches = |reach| {
        let rule = ErrorRule { reach, ..of_status(403, 403) };
        [RequestScope::Item, RequestScope::Listing, RequestScope::Session]
            .map(|scope| rule.matches(&reply, scope))
    };

    assert_eq!(reaches(Reach::Any), [true; 3]);
    assert_eq!(reaches(Reach::Item), [true, false, false]);
    assert_eq!(reaches(Reach::Listing), [false, true, true]);
}

#[test]
fn a_rule_shadows_what_asks_for_the_same_and_more() {
    let contains = |text: &str| of_header(HeaderTest::Contains(text.to_owned()));
    let narrower = ErrorRule { statuses: of_status(403, 403).statuses, ..contains("day quota") };

    assert!(of_status(400, 499).shadows(&of_status(403, 403)));
    assert!(of_status(400, 499).shadows(&narrower));
    assert!(contains("QUOTA").shadows(&narrower));
    assert!(of_header(HeaderTest::Exists).shadows(&contains("x")));
    assert!(!of_status(403, 403).shadows(&of_status(400, 499)));
    assert!(!of_status(400, 499).shadows(&contains("x")), "of any status");
    assert!(!contains("x").shadows(&of_header(HeaderTest::Exists)));
    let items = ErrorRule { reach: Reach::Item, ..of_status(400, 499) };
    assert!(!items.shadows(&of_status(403, 403)));
}
