//! Tests of valid and invalid scenario files.

use std::time::Duration;

use cynosure_engine::rate_limit::{Rate, ResetMeaning};
use cynosure_lab::simulate::{
    HeaderMode, LimitAlgorithm, LockoutExtension, ResetSemantics, StopCondition,
};
use proptest::prelude::*;

use super::*;

const VALID_SCENARIO: &str = "
about = \"a server\"
[server]
headers = \"none\"
[limit]
kind = \"sliding-log\"
quota = 5000
window = 3600
[mailbox]
requests = 10
";

fn parse_text(text: &str) -> Result<Scenario, ScenarioFileError> {
    parse_scenario(Path::new("s.toml"), text)
}

fn parse_errors(text: &str) -> String {
    parse_text(text).expect_err("the scenario is invalid").to_string()
}

#[test]
fn every_builtin_scenario_is_valid_and_fits_a_line() {
    for (name, _) in builtin_scenarios() {
        let scenario = find_builtin(name).unwrap().unwrap();
        assert!(scenario.description.chars().count() <= 90, "{name}");
    }
}

#[test]
fn every_file_of_the_folder_is_built_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for entry in fs_err::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(find_builtin(name.trim_end_matches(".toml")).is_some(), "{name}");
    }
}

#[test]
fn omitted_keys_have_defaults() {
    let scenario = parse_text(VALID_SCENARIO).unwrap();

    assert_eq!(scenario.server.latency.base, Duration::from_millis(60));
    assert_eq!((scenario.workers, scenario.weight), (8, 1));
    assert_eq!(scenario.stop_condition, StopCondition::Requests(10));
    assert_eq!((scenario.server.competing_client, scenario.server.outages), (None, vec![]));
}

#[test]
fn every_kind_of_limit_is_read() {
    let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
    let cases = [
        (
            "kind = \"fixed-window\"\nquota = 600\nwindow = \"1m\"\nphase = \"1m\"",
            LimitAlgorithm::FixedWindow { quota: 600, window: minute, phase: minute },
        ),
        (
            "kind = \"sliding-log\"\nquota = 5000\nwindow = 3600",
            LimitAlgorithm::SlidingLog { quota: 5000, window: hour },
        ),
        (
            "kind = \"token-bucket\"\nrate = \"10/s\"\nburst = 20",
            LimitAlgorithm::TokenBucket { rate: Rate::per_second(10.0), burst: 20 },
        ),
        (
            "kind = \"lock-out\"\nquota = 19\nwindow = \"1m\"\nhold = \"1h\"\nasking = \"restarts\"",
            LimitAlgorithm::Lockout {
                quota: 19,
                window: minute,
                lockout: hour,
                extension: LockoutExtension::ByAnyRequest,
            },
        ),
    ];
    let default = "kind = \"sliding-log\"\nquota = 5000\nwindow = 3600";
    for (text, algorithm) in cases {
        assert_eq!(
            parse_text(&VALID_SCENARIO.replace(default, text)).unwrap().server.algorithm,
            algorithm,
            "{text}"
        );
    }
}

#[test]
fn every_family_of_headers_is_read() {
    let cases = [
        ("\"retry-after\"", HeaderMode::RetryAfter),
        ("\"ratelimit\"", HeaderMode::RateLimit),
        ("\"ratelimit-old\"", HeaderMode::RateLimitLegacy),
        ("\"x-ratelimit\"", HeaderMode::XRateLimit(ResetMeaning::EpochSeconds)),
        ("\"x-ratelimit\"\nreset = \"date\"", HeaderMode::XRateLimit(ResetMeaning::Date)),
    ];
    for (text, header_mode) in cases {
        assert_eq!(
            parse_text(&VALID_SCENARIO.replace("\"none\"", text)).unwrap().server.header_mode,
            header_mode,
            "{text}"
        );
    }
}

#[test]
fn a_reset_means_the_full_quota_by_default() {
    let reset_semantics = |text| {
        parse_text(&VALID_SCENARIO.replace("\"none\"", text)).unwrap().server.reset_semantics
    };
    assert_eq!(reset_semantics("\"ratelimit\""), ResetSemantics::FullQuota);
    assert_eq!(reset_semantics("\"ratelimit\"\nrenewal = \"next\""), ResetSemantics::NextUnit);

    let text = VALID_SCENARIO.replace("\"none\"", "\"none\"\nrenewal = \"all\"");
    insta::assert_snapshot!(parse_errors(&text), @r#"
        s.toml:5:1: `server.renewal` applies only to headers that contain a reset
        1 mistake in the scenario
        "#);
}

#[test]
fn every_error_has_its_line_and_a_remedy() {
    let text = "about = 7
colour = true
[server]
latency = \"soon\"
header = \"none\"
[limit]
kind = \"token-bucket\"
rate = \"ten\"
burst = 0
window = \"1m\"
[neighbour]
works = \"10m\"
[[outage]]
at = \"30m\"
lasts = \"0s\"
answer = 503
[mailbox]
requests = 10
lasts = \"1h\"
in_flight = 1000
";
    insta::assert_snapshot!(parse_errors(text), @r#"
        s.toml:1:1: `about` is 7; write a line of text such as "600 requests in each minute"
        s.toml:2:1: unknown key `colour`; the keys here are about, limit, mailbox, neighbour, outage, server
        s.toml:3:2: `server.headers` is missing; write one of "none", "retry-after", "ratelimit", "ratelimit-old", "x-ratelimit"
        s.toml:4:1: `server.latency` is the text "soon"; write "90s", "5m", "1h" or whole seconds, from 1ms to 1m
        s.toml:5:1: unknown key `server.header`; did you mean `headers`?
        s.toml:8:1: `limit.rate` is the text "ten"; write a rate such as "10/s", "600/min" or "5000/h"
        s.toml:9:1: `limit.burst` is 0; write a whole number from 1 to 2000000
        s.toml:10:1: unknown key `limit.window`; the keys here are burst, kind, rate
        s.toml:11:2: `neighbour.rate` is missing; write a rate such as "10/s", "600/min" or "5000/h"
        s.toml:15:1: `outage.lasts` is the text "0s"; write "90s", "5m", "1h" or whole seconds, from 1s to 31d
        s.toml:16:1: unknown key `outage.answer`; the keys here are at, lasts
        s.toml:19:1: `mailbox.lasts` cannot be combined with `mailbox.requests`; remove one
        s.toml:20:1: `mailbox.in_flight` is 1000; write a whole number from 1 to 256
        13 mistakes in the scenario
        "#);
}

#[test]
fn outages_are_sorted_and_must_not_overlap() {
    let outage = |at: &str, lasts: &str| format!("[[outage]]\nat = {at:?}\nlasts = {lasts:?}\n");

    let scenario =
        parse_text(&(VALID_SCENARIO.to_owned() + &outage("2h", "1h") + &outage("1h", "1h")))
            .unwrap();
    assert_eq!(scenario.server.outages[0].start, Duration::from_secs(3600));

    let text = VALID_SCENARIO.to_owned() + &outage("2h", "1h") + &outage("1h", "61m");
    insta::assert_snapshot!(parse_errors(&text), @r#"
        s.toml:11:1: this outage overlaps an earlier one; write them as one
        1 mistake in the scenario
        "#);
}

#[test]
fn too_many_requests_are_rejected() {
    let text = VALID_SCENARIO.replace("quota = 5000\nwindow = 3600", "quota = 2000000\nwindow = 1");
    assert!(parse_text(&text).is_ok());

    insta::assert_snapshot!(parse_errors(&text.replace("requests = 10", "lasts = \"31d\"")), @r#"
        s.toml:9:2: `mailbox.lasts` allows more than 2000000 requests; shorten it, or lower the limit
        1 mistake in the scenario
        "#);
}

#[test]
fn an_empty_file_reports_every_missing_key() {
    insta::assert_snapshot!(parse_errors(""), @r#"
        s.toml: [limit] is missing; it sets the server's rate limit
        s.toml: [mailbox] is missing; it sets the number of requests, or the time to run
        s.toml: [server] is missing; it sets the latency and headers
        s.toml: `about` is missing; write a line of text such as "600 requests in each minute"
        4 mistakes in the scenario
        "#);
    insta::assert_snapshot!(parse_errors("[limit]\nkind = \"fixed\"\nquota = 1\n[server]\nheaders = \"none\"\nreset = 1\n"), @r#"
        s.toml: [mailbox] is missing; it sets the number of requests, or the time to run
        s.toml: `about` is missing; write a line of text such as "600 requests in each minute"
        s.toml:2:1: `limit.kind` is the text "fixed"; write one of "fixed-window", "sliding-log", "token-bucket", "lock-out"
        s.toml:6:1: `server.reset` applies only to `headers = "x-ratelimit"`
        4 mistakes in the scenario
        "#);
    insta::assert_snapshot!(parse_errors("server = 1\nlimit = 2\noutage = [3]\n[mailbox]\n"), @r#"
        s.toml: `about` is missing; write a line of text such as "600 requests in each minute"
        s.toml:1:1: `server` is 1; write [server] and its keys below it
        s.toml:2:1: `limit` is 2; write [limit] and its keys below it
        s.toml:3:11: `outage` holds 3; write [[outage]]
        s.toml:4:2: [mailbox] needs `requests`, the number of requests, or `lasts`, the time to run; write one
        5 mistakes in the scenario
        "#);
}

#[test]
fn a_syntax_error_hides_other_errors() {
    insta::assert_snapshot!(parse_errors("about = \n[serve]\n"), @r#"
        s.toml:1:9: not valid TOML: string values must be quoted, expected literal string
        1 mistake in the scenario
        "#);
}

mod proptests {
    use super::*;

    proptest! {
        #[test]
        fn parsing_any_text_never_panics(text in any::<String>()) {
            drop(parse_text(&text));
        }

        // Changes the value of one key of a valid file.
        #[test]
        fn a_wrong_value_is_reported_with_its_line(
            index in 0..builtin_scenarios().count(), line in 0..20_usize, value in "[a-z0-9\"'{}\\[\\].-]{0,8}",
        ) {
            let text = builtin_scenarios().nth(index).unwrap().1;
            let changed: Vec<String> = text.lines().enumerate().map(|(number, old)| {
                match old.split_once(" = ") {
                    Some((key, _)) if number == line => format!("{key} = {value}"),
                    _ => old.to_owned(),
                }
            }).collect();
            if let Err(error) = parse_text(&changed.join("\n")) {
                let message = error.to_string();
                prop_assert!(message.starts_with("s.toml"), "{message}");
                // At least one error and the line with their number.
                prop_assert!(message.lines().count() >= 2, "{message}");
            }
        }
    }
}
