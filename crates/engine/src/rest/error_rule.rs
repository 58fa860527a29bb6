//! Rules of a profile for errors.

use std::time::Duration;

use serde_json::Value;

use crate::rest::json_path::JsonPath;
use crate::rest::retry_text::{WaitFormat, parse_wait};
use crate::rest::table_name::TableName;
use crate::{Cause, Scalar, StatusRange, Timestamp};

/// Rule of a profile, which matches if all its conditions hold: `[[error]]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProfileErrorRule {
    /// Tables to whose requests it applies; all if empty.
    pub tables: Vec<TableName>,
    /// Matching statuses; any status if empty.
    pub statuses: Vec<StatusRange>,
    /// Conditions on values of the body.
    pub values: Vec<ValueCondition>,
    /// Cause that the rule assigns.
    pub cause: Cause,
    /// Wait before the next request, unless the server asks for a longer one.
    pub wait: Option<Duration>,
    /// Sentence for the user: what it means, and what to do.
    pub message: Option<String>,
    /// Wait that the server writes in a text of the body.
    pub reported_wait: Option<ReportedWait>,
    /// Location of the rule, for messages.
    pub location: String,
}

/// Condition on the values that a path selects: at least one of them passes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ValueCondition {
    pub at: JsonPath,
    pub test: ValueTest,
}

/// Test of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ValueTest {
    Exists,
    /// It is one of these.
    Is(Vec<Scalar>),
    /// It is a text that contains this one, without regard to case.
    Contains(String),
}

/// Wait in a text: the word after a phrase, such as the time after `Retry after `.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportedWait {
    pub text: JsonPath,
    /// Text before the wait, compared without regard to case.
    pub after: String,
    pub format: WaitFormat,
}

/// Rules of a profile for the response to a request of a table.
#[derive(Clone, Copy, Debug)]
pub struct ProfileRules<'r> {
    pub rules: &'r [ProfileErrorRule],
    pub table: TableName,
}

/// Rule that matches a response, and the wait that follows from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RuleVerdict<'r> {
    pub rule: &'r ProfileErrorRule,
    /// Longer of the rule's wait and the one in the body.
    pub retry_after: Option<Duration>,
}

impl<'r> ProfileRules<'r> {
    /// Returns the first rule that matches a response.
    ///
    /// A body that is not JSON, or is truncated, has no values.
    #[must_use]
    pub fn find(&self, status: u16, body: &str, now: Timestamp) -> Option<RuleVerdict<'r>> {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let rule = self.rules.iter().find(|rule| rule.matches(self.table, status, &body))?;
        let reported_wait = rule.reported_wait.as_ref().and_then(|wait| wait.find(&body, now));
        Some(RuleVerdict { rule, retry_after: rule.wait.max(reported_wait) })
    }
}

impl ProfileErrorRule {
    /// Returns true if the rule has no condition on the response.
    #[must_use]
    pub fn has_no_conditions(&self) -> bool {
        self.statuses.is_empty() && self.values.is_empty()
    }

    fn matches(&self, table: TableName, status: u16, body: &Value) -> bool {
        (self.tables.is_empty() || self.tables.contains(&table))
            && (self.statuses.is_empty()
                || self.statuses.iter().any(|range| range.contains(status)))
            && self.values.iter().all(|condition| condition.matches(body))
    }
}

impl ValueCondition {
    fn matches(&self, body: &Value) -> bool {
        let mut found = self.at.select(body).into_iter().filter(|value| !value.is_null());
        found.any(|value| self.test.matches(value))
    }
}

impl ValueTest {
    fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Exists => true,
            Self::Is(scalars) => scalars.iter().any(|scalar| scalar.matches(value)),
            Self::Contains(part) => {
                let part = part.to_lowercase();
                value.as_str().is_some_and(|text| text.to_lowercase().contains(&part))
            }
        }
    }
}

impl ReportedWait {
    /// Returns the wait in a body.
    fn find(&self, body: &Value, now: Timestamp) -> Option<Duration> {
        let texts = self.text.select(body).into_iter().filter_map(Value::as_str);
        let mut waits = texts.filter_map(|text| parse_wait(text, &self.after, self.format, now));
        // A time that has passed proves nothing, because this clock may be fast. The default wait,
        // which grows, is safer.
        waits.find(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(0);

    fn path(text: &str) -> JsonPath {
        JsonPath::parse(text).unwrap()
    }

    fn rule() -> ProfileErrorRule {
        ProfileErrorRule {
            tables: Vec::new(),
            statuses: Vec::new(),
            values: Vec::new(),
            cause: Cause::RateLimit,
            wait: None,
            message: None,
            reported_wait: None,
            location: String::new(),
        }
    }

    fn value_rule(conditions: &[(&str, ValueTest)]) -> ProfileErrorRule {
        let conditions = conditions.iter().cloned();
        let values = conditions.map(|(at, test)| ValueCondition { at: path(at), test }).collect();
        ProfileErrorRule { values, ..rule() }
    }

    fn is(scalars: &[Scalar]) -> ValueTest {
        ValueTest::Is(scalars.to_vec())
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.to_owned())
    }

    fn contains(text: &str) -> ValueTest {
        ValueTest::Contains(text.to_owned())
    }

    fn verdict<'r>(
        rules: &'r [ProfileErrorRule],
        status: u16,
        body: &str,
    ) -> Option<RuleVerdict<'r>> {
        ProfileRules { rules, table: TableName::Changes }.find(status, body, NOW)
    }

    #[test]
    fn every_condition_must_hold() {
        let gmail = r#"{"error": {"code": 403, "message": "Quota exceeded for x", "fatal": false,
            "errors": [{"reason": "other"}, {"reason": "rateLimitExceeded"}], "none": null}}"#;
        let reason = "/error/errors/*/reason";
        let on = |tables: &[TableName]| ProfileErrorRule { tables: tables.to_vec(), ..rule() };
        let status = |first, last| ProfileErrorRule {
            statuses: vec![StatusRange { first: 500, last: 599 }, StatusRange { first, last }],
            ..rule()
        };
        let codes = [Scalar::Integer(401), Scalar::Integer(403)];
        let both =
            |other: &str| value_rule(&[("/error/code", is(&codes)), (reason, is(&[text(other)]))]);
        for (name, rule, is_match) in [
            ("no condition", rule(), true),
            ("table", on(&[TableName::List, TableName::Changes]), true),
            ("other table", on(&[TableName::List]), false),
            ("status", status(400, 404), true),
            ("other status", status(404, 404), false),
            ("exists", value_rule(&[("/error", ValueTest::Exists)]), true),
            ("exists not", value_rule(&[("/errors", ValueTest::Exists)]), false),
            ("null", value_rule(&[("/error/none", ValueTest::Exists)]), false),
            ("integer", value_rule(&[("/error/code", is(&codes))]), true),
            ("text of an integer", value_rule(&[("/error/code", is(&[text("403")]))]), false),
            ("flag", value_rule(&[("/error/fatal", is(&[Scalar::Flag(false)]))]), true),
            ("one of several", value_rule(&[(reason, is(&[text("rateLimitExceeded")]))]), true),
            ("case of a value", value_rule(&[(reason, is(&[text("ratelimitexceeded")]))]), false),
            ("part of a value", value_rule(&[(reason, is(&[text("rateLimit")]))]), false),
            ("contains", value_rule(&[("/error/message", contains("QUOTA exceeded"))]), true),
            ("contains not", value_rule(&[("/error/message", contains("per day"))]), false),
            ("contains in a number", value_rule(&[("/error/code", contains("403"))]), false),
            ("both", both("other"), true),
            ("one of two", both("authError"), false),
        ] {
            let rules = [rule];
            assert_eq!(verdict(&rules, 403, gmail).is_some(), is_match, "{name}");
        }
    }

    #[test]
    fn the_first_match_applies() {
        let rules = [
            value_rule(&[("/other", ValueTest::Exists)]),
            value_rule(&[("/error", is(&[text("x")]))]),
            rule(),
        ];

        let matched = verdict(&rules, 200, r#"{"error": "x"}"#).map(|verdict| verdict.rule);
        assert_eq!(matched, Some(&rules[1]));
        assert_eq!(verdict(&rules[..2], 200, "{}"), None);
    }

    #[test]
    fn conditions_on_the_body_never_match_other_text() {
        let rules = [value_rule(&[("", ValueTest::Exists)]), value_rule(&[("", contains("x"))])];
        for body in ["", "x", "<html>x</html>", "{\"error\": \"x", "null"] {
            assert_eq!(verdict(&rules, 500, body), None, "{body}");
        }
        assert!(verdict(&rules, 500, "\"x\"").is_some(), "a text in quotes is JSON");
    }

    #[test]
    fn the_longer_of_the_wait_and_the_reported_wait_applies() {
        let reported_wait = ReportedWait {
            text: path("/error/*"),
            after: "retry after ".to_owned(),
            format: WaitFormat::Rfc3339,
        };
        let seconds = |wait: Option<u64>, body: &str| {
            let rules = [ProfileErrorRule {
                wait: wait.map(Duration::from_secs),
                reported_wait: Some(reported_wait.clone()),
                ..rule()
            }];
            verdict(&rules, 429, body).unwrap().retry_after.map(|wait| wait.as_secs())
        };
        let body = r#"{"error": {"a": "Retry after", "b": "Retry after 1970-01-01T00:01:00Z"}}"#;

        assert_eq!(seconds(None, body), Some(60));
        assert_eq!(seconds(Some(20), body), Some(60));
        assert_eq!(seconds(Some(90), body), Some(90));
        assert_eq!(seconds(Some(20), "{}"), Some(20));
        let past = r#"{"error": ["Retry after 1969-12-31T23:59:00Z"]}"#;
        assert_eq!(seconds(None, past), None, "the default wait applies");
    }

    #[test]
    fn a_table_alone_is_no_condition_on_the_response() {
        let on_list = ProfileErrorRule { tables: vec![TableName::List], ..rule() };

        assert!(rule().has_no_conditions() && on_list.has_no_conditions());
        assert!(!value_rule(&[("", ValueTest::Exists)]).has_no_conditions());
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use crate::rest::json_path::proptests::{json, json_path};
    use crate::truncate_to_bytes;
    use proptest::prelude::*;

    fn value_test() -> impl Strategy<Value = ValueTest> {
        prop_oneof![
            Just(ValueTest::Exists),
            any::<bool>().prop_map(|flag| ValueTest::Is(vec![Scalar::Flag(flag)])),
            "S3CR|x".prop_map(ValueTest::Contains),
        ]
    }

    proptest! {
        #[test]
        fn a_condition_matches_only_a_value_in_json(
            status: u16, body in json(), at in json_path(), test in value_test(),
            cut in 0..40_usize, now: i64,
        ) {
            let reported_wait = ReportedWait {
                text: at.clone(), after: String::new(), format: WaitFormat::Seconds,
            };
            let rules = [ProfileErrorRule {
                tables: Vec::new(),
                statuses: Vec::new(),
                values: vec![ValueCondition { at: at.clone(), test }],
                cause: Cause::Server,
                wait: None,
                message: None,
                reported_wait: Some(reported_wait),
                location: String::new(),
            }];
            let rules = ProfileRules { rules: &rules, table: TableName::Fetch };
            let text = body.to_string();
            if rules.find(status, &text, Timestamp(now)).is_some() {
                prop_assert!(at.first(&body).is_some());
            }
            let truncated = truncate_to_bytes(&text, cut);
            if serde_json::from_str::<Value>(truncated).is_err() {
                prop_assert_eq!(rules.find(status, truncated, Timestamp(now)), None);
            }
        }
    }
}
