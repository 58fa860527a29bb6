//! `[[provider.NAME.error]]`: valid and invalid rules.

use cynosure_engine::{
    BodyCondition, Cause, ErrorRule, HeaderCondition, HeaderTest, RuleScope, Scalar,
};

use super::*;

const VALID_RULES: &str = r#"
[[provider.strict.error]]
status = [403, "5xx"]
header = { name = "X-Error", contains = "Soft limit" }
body = { pointer = "/error/code", value = 7 }
class = "rate_limit"
scope = "item"
wait = "1h"
note = "2,000 a day"

[[provider.strict.error]]
body = "try again tomorrow"
class = "server"
"#;

fn load_rules(text: &str) -> Vec<ErrorRule> {
    let folder = ConfigFolder::new(text);
    let loaded = folder.load().expect("it is valid");
    let mut rules = loaded.settings.error_rules("strict").to_vec();
    for rule in &mut rules {
        rule.location = rule.location.replace(&format!("{}/", folder.0.path().display()), "");
    }
    rules
}

#[test]
fn rules_are_read_in_order_with_their_locations() {
    let rules = load_rules(VALID_RULES);

    assert_eq!(rules.len(), 2);
    let statuses = rules[0].statuses.iter().map(|range| (range.first, range.last));
    assert_eq!(statuses.collect::<Vec<_>>(), [(403, 403), (500, 599)]);
    let test = HeaderTest::Contains("Soft limit".to_owned());
    assert_eq!(rules[0].header, Some(HeaderCondition { name: "x-error".to_owned(), test }));
    let pointer = "/error/code".to_owned();
    assert_eq!(
        rules[0].body,
        Some(BodyCondition::JsonPointerEquals { pointer, value: Scalar::Integer(7) })
    );
    assert_eq!((rules[0].cause, rules[0].scope), (Cause::RateLimit, RuleScope::Item));
    assert_eq!(rules[0].wait, Some(Duration::from_secs(3600)));
    assert_eq!(rules[0].note.as_deref(), Some("2,000 a day"));
    assert_eq!(rules[1].body, Some(BodyCondition::Contains("try again tomorrow".to_owned())));
    assert_eq!((rules[1].cause, rules[1].scope), (Cause::Server, RuleScope::Any));
    let locations: Vec<_> = rules.iter().map(|rule| rule.location.as_str()).collect();
    assert_eq!(locations, ["config.toml:2:1", "config.toml:11:1"]);
}

#[test]
fn rules_round_trip_through_config_show() {
    let shown = load_text(VALID_RULES).expect("it is valid").to_toml();
    let without_locations = |mut rules: Vec<ErrorRule>| {
        rules.iter_mut().for_each(|rule| rule.location.clear());
        rules
    };

    let expected = without_locations(load_rules(VALID_RULES));
    assert_eq!(without_locations(load_rules(&shown)), expected);
}

#[test]
fn a_provider_without_rules_has_none() {
    assert_eq!(load_rules("[provider.strict]\nconcurrency = 2\n"), []);
    assert_eq!(load_rules(""), []);
}

#[test]
fn every_rule_error_is_reported_at_its_key() {
    let text = r#"
[[provider.x.error]]
status = 4033
class = "rate_limt"

[[provider.x.error]]
class = "server"

[[provider.x.error]]
status = "40x"
header = { name = "x error", exists = true }
body = { pointer = "error", value = 1 }
statsu = 3

[[provider.x.error]]
status = []
header = { name = "x-error", equals = "a", contains = "b" }
body = { pointer = "/a~b", value = 1 }
class = "disk"
scope = "everything"
wait = 0
note = 3

[[provider.x.error]]
header = { nam = "x-error" }
body = { pointer = "/a" }
class = "server"

[provider.y]
error = "no"

[provider.z]
error = ["no", { status = true, class = 1 }]
"#;
    insta::assert_snapshot!(load_errors(text), @r#"
    config.toml:3:1: `provider.x.error.status` is 4033; a status is from 100 to 999
    config.toml:4:1: `provider.x.error.class` is "rate_limt", which is not a class; did you mean "rate_limit"?
    config.toml:6:1: `provider.x.error` is a rule without a condition, which would match every failure; add status, header or body
    config.toml:9:1: `provider.x.error.class` is missing; write one of rate_limit, unauthorized, forbidden, not_found, server, challenge, proxy, cursor_expired, too_large, unknown
    config.toml:10:1: `provider.x.error.status` is the text "40x"; write 403, "4xx" or [403, 503]
    config.toml:11:1: `provider.x.error.header` names "x error", which is not a valid header name; write { name = "x-error", contains = "quota" }, with `equals` for the whole value, or exists = true for any
    config.toml:12:1: `provider.x.error.body` has a `pointer` "error" that does not begin with a slash; write it like "/error/code"
    config.toml:13:1: `provider.x.error.statsu` is not a key of a rule; did you mean `status`?
    config.toml:16:1: `provider.x.error.status` is an empty list; write 403, "4xx" or [403, 503], or leave it out for any
    config.toml:17:1: `provider.x.error.header` does not have exactly one condition on "x-error"; write { name = "x-error", contains = "quota" }, with `equals` for the whole value, or exists = true for any
    config.toml:18:1: `provider.x.error.body` has a `pointer` "/a~b" with an unescaped tilde; write ~0 for a tilde, ~1 for a slash in a name
    config.toml:19:1: `provider.x.error.class` is "disk", which is not a class; the classes are rate_limit, unauthorized, forbidden, not_found, server, challenge, proxy, cursor_expired, too_large, unknown
    config.toml:20:1: `provider.x.error.scope` is the text "everything"; write "item", "listing" or "any"
    config.toml:21:1: `provider.x.error.wait` is 0; write "90s", "5m", "1h" or whole seconds, more than 0 and at most 366d
    config.toml:22:1: `provider.x.error.note` is 3; write a text in quotes
    config.toml:25:1: `provider.x.error.header` has a key `nam`, which is not a key of a rule; did you mean `name`?
    config.toml:26:1: `provider.x.error.body` has a `pointer` without a `value`; write "a text in the body" or { pointer = "/error/code", value = "quotaExceeded" }
    config.toml:30:1: `provider.y.error` is the text "no"; write [[provider.y.error]] above each rule
    config.toml:33:10: `provider.z.error` is the text "no"; write [[provider.z.error]] and its keys below it
    config.toml:33:18: `provider.z.error.status` is true; write 403, "4xx" or [403, 503]
    config.toml:33:33: `provider.z.error.class` is 1; write a text in quotes
    21 mistakes in the configuration
    "#);
}

#[test]
fn a_shadowed_rule_is_reported_with_the_earlier_one() {
    let text = r#"
[[provider.x.error]]
status = "4xx"
class = "server"

[[provider.x.error]]
status = [403, 404]
header = { name = "X-Error", exists = true }
class = "not_found"

[[provider.x.error]]
status = [404, 500]
class = "not_found"
"#;
    insta::assert_snapshot!(load_errors(text), @r"
    config.toml:6:1: `provider.x.error` can never match: the earlier rule at config.toml:2:1 matches everything that this one would; put this one before it, or remove it
    1 mistake in the configuration
    ");
}

#[test]
fn too_many_rules_are_rejected() {
    let text = "[[provider.x.error]]\nstatus = 403\nclass = \"server\"\n".repeat(101);

    let error = load_errors(&text);

    assert!(error.contains("`provider.x.error` has 101 rules; at most 100 are allowed"), "{error}");
}

proptest! {
    #[test]
    fn reading_any_rule_never_panics(
        key in "status|header|body|class|scope|wait|note|error",
        value in "[\\[{]{0,2}(name|equals|contains|exists|pointer|value)? ?=? ?(\"[a-z0-9/~ ]{0,6}\"|-?[0-9]{1,5}|true|1979-05-27)?[\\]}]{0,2}",
    ) {
        let text = format!("[[provider.x.error]]\nstatus = 403\n{key} = {value}\nclass = \"server\"\n");
        drop(load_text(&text));
    }
}
