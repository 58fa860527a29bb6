//! Tests of written and generated traces.

use std::fmt::Write;

use cynosure_engine::rate_limit::{HeaderNames, ResetMeaning};
use proptest::prelude::*;

use super::*;
use crate::simulate::{
    HeaderMode, LimitAlgorithm, ResetSemantics, ServerLimiter, SimulatedOutage, StopCondition,
};

const MINUTE: Duration = Duration::from_secs(60);

fn parse_trace(name: &str, text: &str) -> Result<Trace, ScenarioFileError> {
    Trace::parse(Path::new(name), text)
}

/// Returns the trace of a limiter that gets one request at each of these times.
fn trace_of_limiter(
    algorithm: &LimitAlgorithm,
    header_mode: HeaderMode,
    times: impl Iterator<Item = i64>,
) -> Trace {
    let start = Timestamp(1_800_000_000_000);
    let mut limiter =
        ServerLimiter::new(algorithm.clone(), header_mode, ResetSemantics::FullQuota, start);
    let mut text = String::new();
    for millis in times {
        let at = Timestamp(start.0 + millis);
        let decision = limiter.decide(1, at);
        let status = if decision.is_accepted { 200 } else { 429 };
        let headers: serde_json::Map<String, serde_json::Value> = decision
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone().into()))
            .collect();
        let line = serde_json::json!({ "at": at.to_string(), "status": status, "ms": 80, "headers": headers });
        writeln!(text, "{line}").unwrap();
    }
    parse_trace("t.jsonl", &text).unwrap()
}

#[test]
fn a_record_has_its_headers_and_its_time_from_the_first() {
    let trace = parse_trace(
        "t.jsonl",
        "{\"at\": \"2026-11-22T06:32:07.120Z\", \"status\": 200, \"ms\": 83, \"headers\": {\"RateLimit\": \"\\\"a\\\";r=1;t=2\"}}\n\
         \n{\"at\": \"2026-11-22T06:32:09Z\", \"status\": 0}\n",
    );

    let records = trace.unwrap().records;
    assert_eq!(records[0].latency, Some(Duration::from_millis(83)));
    assert_eq!(records[0].header("ratelimit"), Some("\"a\";r=1;t=2"));
    assert_eq!(records[1].at, Duration::from_millis(1880));
    assert_eq!(records[1].class(), ResponseClass::Failed);
}

#[test]
fn only_a_partial_last_line_is_ignored() {
    let whole = "{\"at\": 1, \"status\": 200}\n";
    let count_records =
        |text: &str| parse_trace("t.jsonl", text).map(|trace| trace.records().len());

    assert_eq!(count_records(&format!("{whole}{whole}")), Ok(2));
    assert_eq!(count_records(&format!("{whole}{}", whole.trim_end())), Ok(2));
    for cut in 1..whole.len() - 1 {
        assert_eq!(count_records(&format!("{whole}{}", &whole[..cut])), Ok(1), "{cut}");
        assert!(count_records(&format!("{}\n{whole}", &whole[..cut])).is_err(), "{cut}");
    }
}

#[test]
fn seconds_may_begin_anywhere_and_come_out_of_order() {
    let text = "{\"at\": 1000.5, \"status\": 200}\n{\"at\": 1000, \"status\": 429}\n";
    let trace = parse_trace("t.jsonl", text).unwrap();

    let seen: Vec<_> = trace.records().iter().map(|a| (a.at.as_millis(), a.class())).collect();
    assert_eq!(seen, [(0, ResponseClass::Throttled), (500, ResponseClass::Accepted)]);
}

#[test]
fn every_error_is_reported_with_its_line() {
    let text = "{\"at\": 1, \"status\": 200}
nonsense
{\"at\": -1, \"stats\": 200}
{\"at\": \"2026-11-22T06:32:09Z\", \"status\": 200}
{\"at\": 2, \"status\": 1777, \"ms\": -1, \"headers\": []}
{\"at\": 1e12, \"status\": 200}
";
    insta::assert_snapshot!(parse_trace("t.jsonl", text).unwrap_err(), @r#"
        t.jsonl:2:2: not a JSON object; write {"at": …, "status": …} on one line
        t.jsonl:3:1: `at` is missing or not a time; write "2026-11-22T06:32:07.120Z" or seconds
        t.jsonl:3:1: `status` is missing or not an HTTP status; write 100 to 999, or 0 for no response
        t.jsonl:3:1: unknown key `stats`; did you mean `status`?
        t.jsonl:4:1: `at` is a date in one line and a number in another; use one form
        t.jsonl:5:1: `headers` is not an object of strings; write {"name": "value"}
        t.jsonl:5:1: `ms` is not a duration; write the milliseconds to the first byte, or leave it out
        t.jsonl:5:1: `status` is missing or not an HTTP status; write 100 to 999, or 0 for no response
        t.jsonl:6:1: `at` is more than a year after the first response; write seconds, or dates
        9 mistakes in the trace
        "#);
    insta::assert_snapshot!(parse_trace("t.jsonl", "\n").unwrap_err(), @r#"
        t.jsonl: the trace is empty; write one line for each response
        1 mistake in the trace
        "#);
}

#[test]
fn limit_headers_are_trusted() {
    let algorithm =
        LimitAlgorithm::FixedWindow { quota: 600, window: MINUTE, phase: Duration::ZERO };
    for header_mode in [
        HeaderMode::RateLimit,
        HeaderMode::RateLimitLegacy,
        HeaderMode::XRateLimit(ResetMeaning::EpochSeconds),
    ] {
        let inferred =
            trace_of_limiter(&algorithm, header_mode, (0..3000).map(|number| number * 50))
                .infer_scenario(&HeaderNames::default());

        assert_eq!(inferred.scenario.server.algorithm, algorithm, "{header_mode:?}");
        assert_eq!(inferred.scenario.server.header_mode, header_mode);
        assert_eq!(inferred.scenario.workers, 2, "one of 80 ms each 50 ms");
    }
}

#[test]
fn an_unadvertised_limit_is_inferred_from_recoveries() {
    let algorithm =
        LimitAlgorithm::FixedWindow { quota: 600, window: MINUTE, phase: Duration::ZERO };
    for header_mode in [HeaderMode::None, HeaderMode::RetryAfter] {
        let inferred =
            trace_of_limiter(&algorithm, header_mode, (0..12_000).map(|number| number * 50))
                .infer_scenario(&HeaderNames::default());

        assert_eq!(inferred.scenario.server.algorithm, algorithm, "{header_mode:?}");
        assert_eq!(inferred.scenario.server.header_mode, header_mode);
        assert!(
            inferred.explanations[1].contains("inferred from 9 recoveries"),
            "{:?}",
            inferred.explanations
        );
    }
}

#[test]
fn without_429s_the_busiest_minute_is_the_limit() {
    let algorithm = LimitAlgorithm::TokenBucket {
        rate: cynosure_engine::rate_limit::Rate::per_second(1e6),
        burst: 1000,
    };
    let inferred =
        trace_of_limiter(&algorithm, HeaderMode::None, (0..600).map(|number| number * 500))
            .infer_scenario(&HeaderNames::default());

    assert_eq!(
        inferred.scenario.server.algorithm,
        LimitAlgorithm::FixedWindow { quota: 120, window: MINUTE, phase: Duration::ZERO }
    );
    assert_eq!(inferred.scenario.stop_condition, StopCondition::Requests(600));
    insta::assert_snapshot!(inferred.explanations.join("\n"), @r#"
        The trace: 600 responses in 299s; 600 accepted, 0 throttled, 0 failed, 0 outages.
        It throttled nothing and advertised no limit: the busiest minute, 120 responses, is used as the limit; the real one may be far higher.
        The trace cannot show a second limit, or a limit that this client never reached.
        "#);
}

#[test]
fn failures_in_a_row_are_an_outage_and_single_ones_are_not() {
    let mut text = String::new();
    for second in 0..100 {
        let status = if (40..60).contains(&second) || second == 10 { 503 } else { 200 };
        writeln!(text, r#"{{"at": {second}, "status": {status}}}"#).unwrap();
    }

    let inferred = parse_trace("t.jsonl", &text).unwrap().infer_scenario(&HeaderNames::default());

    let seconds = Duration::from_secs;
    assert_eq!(
        inferred.scenario.server.outages,
        [SimulatedOutage { start: seconds(40), duration: seconds(20) }]
    );
}

mod proptests {
    use super::*;

    proptest! {
        #[test]
        fn a_recorded_trace_round_trips(
            at in 0..4_000_000_000_000_i64,
            status in prop_oneof![Just(0_u16), 100..1000_u16],
            latency in prop::option::of(0..36_000_000_u64),
            headers in prop::collection::btree_map("[a-z-]{1,12}", "\\PC{0,30}", 0..4),
        ) {
            let latency = latency.map(|tenths| Duration::from_micros(tenths * 100));
            let headers: Vec<(String, String)> = headers.into_iter().collect();
            let line = Trace::to_json_line(Timestamp(at), status, latency, headers.clone());

            prop_assert_eq!(line.matches('\n').count(), 1);
            let trace = parse_trace("t.jsonl", &line).unwrap();
            let [record] = trace.records() else { panic!("{trace:?}") };
            prop_assert_eq!((record.wall_clock_ms, record.status, &record.headers), (Some(at), status, &headers));
            let difference = record.latency.unwrap_or_default().abs_diff(latency.unwrap_or_default());
            prop_assert!(record.latency.is_some() == latency.is_some() && difference < Duration::from_micros(1));
        }

        #[test]
        fn parsing_any_text_never_panics(text in any::<String>()) {
            drop(parse_trace("t.jsonl", &text).map(|trace| trace.infer_scenario(&HeaderNames::default())));
        }

        #[test]
        fn every_trace_yields_a_scenario_with_a_positive_rate(
            records in prop::collection::vec((0..1_000_000_u32, prop::sample::select(vec![0, 200, 404, 429, 503]), 0..5000_u32), 1..60),
        ) {
            let mut text = String::new();
            for (at, status, ms) in records {
                writeln!(text, r#"{{"at": {at}, "status": {status}, "ms": {ms}}}"#).unwrap();
            }
            let scenario = parse_trace("t.jsonl", &text).unwrap().infer_scenario(&HeaderNames::default()).scenario;
            prop_assert!(scenario.server.algorithm.granted_rate().get() > 0.0);
            prop_assert!((1..=256).contains(&scenario.workers));
            prop_assert!(scenario.server.outages.windows(2).all(|pair| pair[0].start + pair[0].duration <= pair[1].start));
        }
    }
}

#[test]
fn a_trace_of_the_first_format_still_parses() {
    let text = include_str!("../../../../../tests/fixtures/state-1/trace.jsonl");

    let trace = parse_trace("trace.jsonl", text).unwrap();

    let rewritten: String = trace
        .records()
        .iter()
        .map(|record| {
            let at = Timestamp(record.wall_clock_ms.unwrap());
            Trace::to_json_line(at, record.status, record.latency, record.headers.clone())
        })
        .collect();
    assert_eq!(rewritten, text);
}
