//! Tests of header parsing, with headers that servers send.

use super::*;

/// 2027-01-15T08:00:00Z.
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn parse(headers: &[(&str, &str)]) -> ReportedLimits {
    parse_headers(headers, &HeaderNames::default(), NOW)
}

/// Formats a limit as `name quota/window remaining reset-in-seconds`, with `-` for absent values.
fn summarize(limit: &AdvertisedLimit) -> String {
    let number =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let seconds = |duration: Option<Duration>| number(duration.map(|d| d.as_secs_f64()));
    let (quota, window) = (number(limit.quota), seconds(limit.window));
    let remaining = number(limit.remaining);
    let reset = seconds(limit.reset.map(|reset| reset.delay));
    format!("{} {quota}/{window} {remaining} {reset}", limit.name).trim_start().to_owned()
}

fn limits(headers: &[(&str, &str)]) -> Vec<String> {
    parse(headers).limits.iter().map(summarize).collect()
}

#[test]
fn structured_fields_with_several_policies_are_parsed() {
    let headers = [
        (
            "ratelimit-policy",
            r#""burst";q=100;w=60, "daily";q=1000;w=86400;qu="content-bytes";pk=:YQ==:"#,
        ),
        ("ratelimit", r#""burst";r=42;t=17, "daily";r=900;t=3600"#),
    ];
    assert_eq!(limits(&headers), ["burst 100/60 42 17", "daily 1000/86400 900 3600"]);
    let parsed = parse(&headers);
    assert_eq!(parsed.limits[1].unit.as_deref(), Some("content-bytes"));
    assert_eq!(parsed.limits[1].partition.as_deref(), Some(":YQ==:"));
}

#[test]
fn headers_of_known_servers_are_parsed() {
    for (headers, expected) in [
        (
            &[("ratelimit", "limit=100, remaining=50, reset=30"), ("ratelimit-policy", "100;w=60")]
                [..],
            "100/60 50 30",
        ),
        (
            &[
                ("ratelimit-limit", "100, 100;w=60"),
                ("ratelimit-remaining", "7"),
                ("ratelimit-reset", "12"),
            ],
            "100/60 7 12",
        ),
        (
            &[
                ("x-ratelimit-limit", "5000"),
                ("x-ratelimit-remaining", "4999"),
                ("x-ratelimit-reset", "1800000060"),
            ],
            "5000/- 4999 60",
        ),
        (
            &[
                ("x-rate-limit-limit", "15"),
                ("x-rate-limit-remaining", "0"),
                ("x-rate-limit-reset", "1800000900"),
            ],
            "15/- 0 900",
        ),
        (
            &[("x-ratelimit-limit-minute", "60"), ("x-ratelimit-remaining-minute", "3")],
            "minute 60/60 3 -",
        ),
        (
            &[("x-ratelimit-limit-requests", "60"), ("x-ratelimit-reset-requests", "6m1.5s")],
            "requests 60/- - 361.5",
        ),
        (
            &[
                ("vendor-ratelimit-requests-limit", "50"),
                ("vendor-ratelimit-requests-reset", "2027-01-15T08:01:00Z"),
            ],
            "requests 50/- - 60",
        ),
        (&[("x-ratelimit-used", "4"), ("x-ratelimit-limit", "10")], "10/- 6 -"),
        (&[("x-ratelimit-remaining", "598.0"), ("x-ratelimit-reset", "147")], "-/- 598 147"),
        (&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset-after", "1.25")], "-/- 1 1.25"),
        (&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "1800000060000")], "-/- 1 60"),
        (&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "60000")], "-/- 1 60"),
        (
            &[
                ("x-ratelimit-remaining", "1"),
                ("x-ratelimit-reset", "Fri, 15 Jan 2027 08:00:30 GMT"),
            ],
            "-/- 1 30",
        ),
        (&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "1799999999")], "-/- 1 0"),
        (&[("x-rate-limit", "700")], "700/- - -"),
    ] {
        assert_eq!(limits(headers), [expected], "{headers:?}");
    }
}

#[test]
fn further_policies_of_a_list_become_separate_limits() {
    let headers = [("x-ratelimit-limit", "10, 10;w=1, 500;w=60")];
    assert_eq!(limits(&headers), ["10/1 - -", "500;w=60 500/60 - -"]);
}

#[test]
fn an_epoch_reset_counts_from_the_date_header() {
    let date = ("date", "Fri, 15 Jan 2027 09:00:00 GMT");
    assert_eq!(
        limits(&[date, ("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "1800003630")]),
        ["-/- 1 30"]
    );
    let retry_after = parse(&[("retry-after", "Fri, 15 Jan 2027 09:05:00 GMT"), date]).retry_after;
    assert_eq!(retry_after, Some(Duration::from_secs(300)));
}

#[test]
fn malformed_headers_are_ignored() {
    for value in ["", "-1", "NaN", "inf", "1e400", "unlimited", "\u{7f}", ";;;", "\"", "1e15"] {
        for name in ["x-ratelimit-remaining", "ratelimit-remaining", "x-ratelimit-limit"] {
            let parsed = parse(&[(name, value)]);
            let has_value =
                |limit: &AdvertisedLimit| limit.quota.is_some() || limit.remaining.is_some();
            assert!(!parsed.limits.iter().any(has_value), "{name}: {value:?}");
        }
        assert!(!parse(&[("ratelimit", value), ("ratelimit-policy", value)]).is_exhausted());
    }
    assert_eq!(limits(&[("x-ratelimit-resource", "core"), ("x-corporate", "1")]), [""; 0]);
}

#[test]
fn a_response_with_an_age_header_is_cached() {
    assert!(parse(&[("age", "3")]).is_cached);
    assert!(!parse(&[("age", "0")]).is_cached);
}

#[test]
fn configured_names_and_meaning_take_precedence() {
    let names = HeaderNames {
        remaining: Some("x-left".to_owned()),
        reset: Some("x-again".to_owned()),
        reset_meaning: Some(ResetMeaning::DeltaMillis),
        ..HeaderNames::default()
    };
    let headers = [("x-left", "0"), ("x-again", "900"), ("x-ratelimit-remaining", "9")];
    let parsed = parse_headers(&headers, &names, NOW);
    assert!(parsed.is_exhausted());
    assert_eq!(parsed.limits.iter().map(summarize).collect::<Vec<_>>(), ["-/- 0 0.9"]);
}

#[test]
fn redacted_headers_contain_only_limits_and_no_client() {
    let names = HeaderNames {
        limit: Some("set-cookie".to_owned()),
        remaining: Some("x-left".to_owned()),
        ..HeaderNames::default()
    };
    let headers = [
        ("date", "Fri, 15 Jan 2027 08:00:00 GMT"),
        ("set-cookie", "session=1"),
        ("authorization", "Bearer x"),
        ("content-location", "/mail/1"),
        ("ratelimit-policy", "\"a\";q=9;w=60;pk=:bWU=:"),
        ("ratelimit", "\"a\";r=1;t=30;pk=\"me;t=9, you\""),
        ("ratelimit", "\"b\";r=2;user=me"),
        ("x-ratelimit-limit", "100, 100;w=60;comment=\"for me\""),
        ("x-left", "3"),
        ("retry-after", "5"),
        ("retry-after", "6"),
        ("x-ratelimit-resource", "mine"),
    ];

    let redacted: Vec<String> = redact_headers(&headers, &names)
        .iter()
        .map(|(name, text)| format!("{name}: {text}"))
        .collect();

    insta::assert_snapshot!(redacted.join("\n"), @r#"
    date: Fri, 15 Jan 2027 08:00:00 GMT
    ratelimit-policy: "a";q=9;w=60
    ratelimit: "a";r=1;t=30, "b";r=2
    x-ratelimit-limit: 100, 100;w=60
    x-left: 3
    retry-after: 6
    "#);
    let without_limits = [headers[0], headers[1], headers[3]];
    assert_eq!(redact_headers(&without_limits, &names), []);
}
