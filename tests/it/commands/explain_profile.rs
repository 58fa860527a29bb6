//! `explain` with the rules of a profile: a built-in one, one in a file, and that of a source.

use chrono::{DateTime, SecondsFormat, TimeDelta};
use cynosure::env::{Env as _, RealEnv};
use serde_json::{Value, json};

use crate::commands::test_home::TestHome;

/// Source with a table and a rule of its own.
const OWN_TABLES: &str = "[source.work]
kind = \"rest\"
account = \"me@example.com\"
base_url = \"http://127.0.0.1:9\"
list = { get = \"/email\", items = \"\", id = \"/id\" }

[[source.work.error]]
when = { on = \"fetch\", status = 409, at = \"/code\", contains = \"deleted\" }
then = { class = \"gone\", say = \"it was deleted meanwhile\" }
";

/// Returns the body of an error response of the Gmail API.
fn gmail_error(reason: &str, message: &str) -> String {
    let error = json!({ "domain": "usageLimits", "reason": reason, "message": message });
    json!({ "error": { "code": 403, "message": message, "errors": [error] } }).to_string()
}

/// Returns the classification of a response to a request of a table of Gmail.
fn explain_gmail(home: &TestHome, table: &str, status: &str, body: &str) -> Value {
    home.write("body.json", body);
    let args = ["--profile", "gmail", "--table", table, "--status", status, "--body", "body.json"];
    let output = home.cynosure(&[&["explain", "--json"], &args[..]].concat());
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    let judged = &output.json_lines()[0]["judged"];
    assert_eq!(judged.as_array().map(Vec::len), Some(1), "{judged}");
    judged[0].clone()
}

#[test]
fn every_403_of_gmail_is_told_apart() {
    let home = TestHome::empty();
    let metric = "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute'";
    for (body, cause, advice) in [
        (gmail_error("rateLimitExceeded", "Rate Limit Exceeded"), "rate_limit", None),
        (gmail_error("userRateLimitExceeded", "Rate Limit Exceeded"), "rate_limit", None),
        (gmail_error("dailyLimitExceeded", "Daily Limit"), "rate_limit", Some("a daily limit")),
        (gmail_error("other", metric), "rate_limit", None),
        (gmail_error("accessNotConfigured", "x"), "unauthorized", Some("enable the Gmail API")),
        (gmail_error("insufficientPermissions", "x"), "unauthorized", Some("sign in again")),
        (gmail_error("domainPolicy", "x"), "unauthorized", Some("the administrator")),
        (
            gmail_error("forbidden", "Delegation denied for me@example.com"),
            "unauthorized",
            Some("the administrator"),
        ),
    ] {
        let judged = explain_gmail(&home, "list", "403", &body);

        assert_eq!(judged["cause"], cause, "{body}");
        assert_eq!(judged["tables"], json!(["list"]));
        assert_eq!(judged["rule"]["built_in"], false, "{judged}");
        let place = judged["rule"]["place"].as_str().unwrap();
        assert!(place.starts_with("profiles/gmail.toml:"), "{judged}");
        assert!(judged["rule"]["condition"].as_str().unwrap().starts_with("403"), "{judged}");
        match advice {
            Some(part) => assert!(judged["advice"].as_str().unwrap().contains(part), "{judged}"),
            None => assert!(judged["advice"].is_null(), "{judged}"),
        }
    }
    let other = explain_gmail(&home, "list", "403", &gmail_error("forbidden", "x"));
    assert_eq!((&other["cause"], &other["rule"]["built_in"]), (&"forbidden".into(), &true.into()));
}

#[test]
fn a_wait_in_the_text_of_the_body_is_obeyed() {
    let home = TestHome::empty();
    let soon = DateTime::from_timestamp_millis(RealEnv.now().0).unwrap() + TimeDelta::minutes(90);
    let time = soon.to_rfc3339_opts(SecondsFormat::Millis, true);
    let message = format!("User-rate limit exceeded.  Retry after {time}");
    home.write("body.json", &gmail_error("userRateLimitExceeded", &message));

    let args = ["--profile", "gmail", "--table", "fetch", "--status", "429", "--body", "body.json"];
    let output = home.cynosure(&[&["explain"], &args[..]].concat());

    let delay = "the wait in the body, 1 h 29 min, + 1 s margin";
    assert!(output.stdout.contains(delay), "{output:?}");
}

#[test]
fn the_table_decides_about_a_404() {
    let home = TestHome::empty();

    assert_eq!(explain_gmail(&home, "changes", "404", "")["cause"], "cursor_expired");
    assert_eq!(explain_gmail(&home, "fetch", "404", "")["cause"], "server");
    let output = home.cynosure(&["explain", "--profile", "gmail", "--status", "404"]);
    let hint = "          as a response to [fetch], [list] or [account]\n          \
                for the rules of [changes], name the table with --table\n";
    assert!(output.stdout.contains(hint), "{output:?}");
}

#[test]
fn rule_condition_and_advice_are_shown() {
    let home = TestHome::with_source(OWN_TABLES);
    home.write("body.json", "{\"code\": \"Deleted 5\"}");

    let args = ["explain", "--status", "409", "--body", "body.json", "--scope", "item"];
    let output = home.cynosure(&args);

    insta::assert_snapshot!(output.stdout, @r#"
    response  409, no header, a body of 21 bytes
              classified by 1 rule of the source, then by the built-in rules
              as a response to [fetch]
    rule      rule of the profile at config.toml:7:1: 409 to [fetch], where "/code" contains "deleted"
    cause     not_found (PERMANENT)
    action    deleted at the source: the item is marked as gone, and is settled
    advice    it was deleted meanwhile
    quota     the headers contain no limit
    "#);
}

#[test]
fn the_rules_of_a_file_are_tried_without_a_source() {
    let home = TestHome::empty();
    home.write("my.toml", "[[error]]\nwhen = { status = 418 }\nthen = \"challenge\"\n");
    let explain = |args: &[&str]| home.cynosure(&[&["explain", "--status", "418"], args].concat());

    let by_file = explain(&["--profile", "my.toml"]);
    assert!(by_file.stdout.contains("\ncause     challenge ("), "{by_file:?}");
    assert!(by_file.stdout.contains(" 1 rule of profile my.toml, then "), "{by_file:?}");

    home.write("my.toml", "[[error]]\nwhen = { status = 418 }\nthen = \"chalenge\"\n");
    for (args, code, problem) in [
        (&["--profile", "my.toml"][..], 78, "did you mean \"challenge\"?"),
        (&["--profile", "gmial"], 78, "--profile: "),
        (&["--table", "list"], 2, "no profile is selected: add --profile NAME"),
        (&["--profile", "gmail", "--table", "lists"], 2, "[possible values: account, pin,"),
    ] {
        let output = explain(args);
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.stderr.contains(problem), "{output:?}");
    }
}
