//! Property tests of the output for arbitrary responses.

use cynosure_engine::rest::{JsonPath, ProfileErrorRule, TableName, ValueCondition, ValueTest};
use cynosure_engine::{StatusRange, is_unsafe_for_terminal};
use proptest::collection::vec;
use proptest::prelude::*;

use super::input::ResponseOrigin;
use super::profile::ExplainedProfile;
use super::*;
use crate::config::{EnvVars, load_defaults};

const SECRETS: [&str; 3] = ["Bearer s3cr3t", "session=s3cr3t", "the s3cr3t itself"];

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = "retry-after|x-ratelimit-(limit|remaining|reset)|ratelimit(-policy|-limit|-remaining|-reset)?|date|age|x-[ab]";
    let value = any::<String>()
        .boxed()
        .prop_union("-?[0-9]{1,25}|\"[a-z\u{1b}]{1,5}\";[qwrtpk]+=[0-9]{1,12}".boxed());
    vec((name, value), 0..6)
}

fn explain_input(
    status: u16,
    mut headers: Vec<(String, String)>,
    body: String,
    at: i64,
) -> ExplainInput {
    let secret_headers = ["authorization", "set-cookie"].into_iter().zip(SECRETS);
    headers.extend(secret_headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    ExplainInput {
        status,
        headers,
        body: body + SECRETS[2],
        scopes: vec![RequestScope::Item, RequestScope::Listing, RequestScope::Session],
        table: None,
        at: Timestamp(at),
        attempt: 2,
        quarantine_count: 1,
        origin: Some(ResponseOrigin {
            source: "work".to_owned(),
            item: Some("\u{1b}[2J\u{202e}".to_owned()),
            cause: Some(Cause::TooLarge),
            is_truncated: true,
        }),
    }
}

/// Returns a profile with two rules whose texts are unsafe for a terminal.
fn hostile_profile() -> ExplainedProfile {
    let text = "\u{1b}[2J\u{202e}";
    let condition = ValueCondition {
        at: JsonPath::parse(&format!("/{text}")).unwrap(),
        test: ValueTest::Contains(text.to_owned()),
    };
    let rule = |statuses, values, tables| ProfileErrorRule {
        tables,
        statuses,
        values,
        cause: Cause::RateLimit,
        wait: None,
        message: Some(text.to_owned()),
        reported_wait: None,
        location: text.to_owned(),
    };
    let statuses = vec![StatusRange { first: 1, last: u16::MAX / 2 }];
    let rules = vec![
        rule(Vec::new(), vec![condition], vec![TableName::Changes]),
        rule(statuses, Vec::new(), vec![TableName::Fetch]),
    ];
    ExplainedProfile { name: Some(text.to_owned()), rules }
}

proptest! {
    #[test]
    fn every_explained_imap_reply_is_sanitized(status in "OK|NO|BAD|BYE|PREAUTH", rest: String) {
        let reply = imap_reply::parse_reply(&format!("{status} {rest}")).unwrap();
        let settings = load_defaults(&EnvVars::default()).unwrap().settings;
        let policies = ExplainPolicies::new(settings, None, None);
        let phases = imap_reply::phases_of(None);
        let explanations = imap_reply::explain_reply(&reply, phases, &policies, Timestamp(0));

        let text = imap_text::imap_explain_text(&reply, &explanations);
        let json = imap_json::imap_explain_json(&reply, &policies, &explanations);
        let json = terminal_safe_json(&json);

        for line in text.lines().chain([json.as_str()]) {
            prop_assert!(!line.chars().any(is_unsafe_for_terminal), "{line:?}");
        }
        let explained: usize = explanations.iter().map(|explained| explained.phases.len()).sum();
        prop_assert_eq!(explained, phases.len(), "each command is explained once");
    }

    #[test]
    fn every_explanation_is_sanitized_and_holds_no_secret(
        status: u16, headers in headers(), body: String, at in 0..4_102_444_800_000_i64,
        has_profile: bool,
    ) {
        let input = explain_input(status, headers, body, at);
        let settings = load_defaults(&EnvVars::default()).unwrap().settings;
        let profile = has_profile.then(hostile_profile);
        let policies = ExplainPolicies::new(settings, None, profile);
        let limit_headers = input.rate_limit_headers(&policies);
        let explanations = explain_response(&input, &policies, &limit_headers);

        let now = Timestamp(1_900_000_000_000);
        let text = text::explain_text(&input, &policies, &limit_headers, &explanations, now);
        let json = json::explain_json(&input, &policies, &limit_headers, &explanations);
        let json = terminal_safe_json(&json);

        for line in text.lines().chain([json.as_str()]) {
            prop_assert!(!line.chars().any(is_unsafe_for_terminal), "{line:?}");
            prop_assert!(!line.contains("s3cr3t"), "{line}");
        }
        prop_assert!(text.contains("\nrule ") && text.contains("\ncause "), "{text}");
        prop_assert!(explanations.iter().all(|explanation| !explanation.scopes().is_empty()));
    }
}
