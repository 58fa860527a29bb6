//! Traces, written and made up.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::engine::rate_limit::{HeaderNames, ResetMeaning};
use crate::simulate::{
    HeaderMode, LimitAlgorithm, ResetSemantics, ServerLimiter, SimulatedOutage, StopCondition,
};

const MINUTE: Duration = Duration::from_secs(60);

fn parse_trace(name: &str, text: &str) -> Result<Trace, ScenarioFileError> {
    Trace::parse(Path::new(name), text)
}

/// What a limiter answers to a request at each of these moments.
fn trace_of_limiter(
    shape: &LimitAlgorithm,
    speech: HeaderMode,
    moments: impl Iterator<Item = i64>,
) -> Trace {
    let start = Timestamp(1_800_000_000_000);
    let mut limiter = ServerLimiter::new(shape.clone(), speech, ResetSemantics::FullQuota, start);
    let mut text = String::new();
    for millis in moments {
        let at = Timestamp(start.0 + millis);
        let ruling = limiter.decide(1, at);
        let status = if ruling.is_accepted { 200 } else { 429 };
        let headers: serde_json::Map<String, serde_json::Value> = ruling
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

    let answers = trace.unwrap().records;
    assert_eq!(answers[0].latency, Some(Duration::from_millis(83)));
    assert_eq!(answers[0].header("ratelimit"), Some("\"a\";r=1;t=2"));
    assert_eq!(answers[1].at, Duration::from_millis(1880));
    assert_eq!(answers[1].class(), ResponseClass::Failed);
}

#[test]
fn only_a_partial_last_line_is_ignored() {
    let whole = "{\"at\": 1, \"status\": 200}\n";
    let answers = |text: &str| parse_trace("t.jsonl", text).map(|trace| trace.records().len());

    assert_eq!(answers(&format!("{whole}{whole}")), Ok(2));
    assert_eq!(answers(&format!("{whole}{}", whole.trim_end())), Ok(2));
    for cut in 1..whole.len() - 1 {
        assert_eq!(answers(&format!("{whole}{}", &whole[..cut])), Ok(1), "{cut}");
        assert!(answers(&format!("{}\n{whole}", &whole[..cut])).is_err(), "{cut}");
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
        t.jsonl:3:1: `at` is missing or no time; write "2026-11-22T06:32:07.120Z" or seconds
        t.jsonl:3:1: `status` is missing or no status; write one from 100 to 999, or 0 for no answer
        t.jsonl:3:1: unknown key `stats`; did you mean `status`?
        t.jsonl:4:1: `at` is a date in one line and a number in another; write one of them
        t.jsonl:5:1: `headers` is no object of texts; write {"name": "value"}
        t.jsonl:5:1: `ms` is no time; write the milliseconds to the first byte, or leave it out
        t.jsonl:5:1: `status` is missing or no status; write one from 100 to 999, or 0 for no answer
        t.jsonl:6:1: `at` is more than a year after the first answer; write seconds, or dates
        9 mistakes in the trace
        "#);
    insta::assert_snapshot!(parse_trace("t.jsonl", "\n").unwrap_err(), @r#"
        t.jsonl: there is no answer in it; write a line for each
        1 mistake in the trace
        "#);
}

#[test]
fn limit_headers_are_trusted() {
    let shape = LimitAlgorithm::FixedWindow { quota: 600, window: MINUTE, phase: Duration::ZERO };
    for speech in [
        HeaderMode::RateLimit,
        HeaderMode::RateLimitOld,
        HeaderMode::XRateLimit(ResetMeaning::EpochSeconds),
    ] {
        let traced = trace_of_limiter(&shape, speech, (0..3000).map(|number| number * 50))
            .infer_scenario(&HeaderNames::default());

        assert_eq!(traced.scenario.server.algorithm, shape, "{speech:?}");
        assert_eq!(traced.scenario.server.header_mode, speech);
        assert_eq!(traced.scenario.workers, 2, "one of 80 ms each 50 ms");
    }
}

#[test]
fn an_unadvertised_limit_is_inferred_from_recoveries() {
    let shape = LimitAlgorithm::FixedWindow { quota: 600, window: MINUTE, phase: Duration::ZERO };
    for speech in [HeaderMode::None, HeaderMode::RetryAfter] {
        let traced = trace_of_limiter(&shape, speech, (0..12_000).map(|number| number * 50))
            .infer_scenario(&HeaderNames::default());

        assert_eq!(traced.scenario.server.algorithm, shape, "{speech:?}");
        assert_eq!(traced.scenario.server.header_mode, speech);
        assert!(
            traced.explanations[1].contains("guessed from 9 recoveries"),
            "{:?}",
            traced.explanations
        );
    }
}

#[test]
fn without_429s_the_busiest_minute_is_the_limit() {
    let shape = LimitAlgorithm::TokenBucket {
        rate: crate::engine::rate_limit::Rate::per_second(1e6),
        burst: 1000,
    };
    let traced = trace_of_limiter(&shape, HeaderMode::None, (0..600).map(|number| number * 500))
        .infer_scenario(&HeaderNames::default());

    assert_eq!(
        traced.scenario.server.algorithm,
        LimitAlgorithm::FixedWindow { quota: 120, window: MINUTE, phase: Duration::ZERO }
    );
    assert_eq!(traced.scenario.stop_condition, StopCondition::Requests(600));
    insta::assert_snapshot!(traced.explanations.join("\n"), @r#"
        The trace: 600 answers in 299s; 600 accepted, 0 refused, 0 failed, in 0 outages.
        It refused nothing and told of no limit: its busiest minute, 120 answers, is taken for one, which the true one may lie far above.
        It shows what the server did to that client: a second limit, or one that was never met, is not in it.
        "#);
}

#[test]
fn failures_in_a_row_are_an_outage_and_single_ones_are_not() {
    let mut text = String::new();
    for second in 0..100 {
        let status = if (40..60).contains(&second) || second == 10 { 503 } else { 200 };
        writeln!(text, r#"{{"at": {second}, "status": {status}}}"#).unwrap();
    }

    let traced = parse_trace("t.jsonl", &text).unwrap().infer_scenario(&HeaderNames::default());

    let seconds = Duration::from_secs;
    assert_eq!(
        traced.scenario.server.outages,
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
            took in prop::option::of(0..36_000_000_u64),
            headers in prop::collection::btree_map("[a-z-]{1,12}", "\\PC{0,30}", 0..4),
        ) {
            let took = took.map(|tenths| Duration::from_micros(tenths * 100));
            let headers: Vec<(String, String)> = headers.into_iter().collect();
            let line = Trace::to_json_line(Timestamp(at), status, took, headers.clone());

            prop_assert_eq!(line.matches('\n').count(), 1);
            let trace = parse_trace("t.jsonl", &line).unwrap();
            let [answer] = trace.records() else { panic!("{trace:?}") };
            prop_assert_eq!((answer.wall_clock_ms, answer.status, &answer.headers), (Some(at), status, &headers));
            let differ = answer.latency.unwrap_or_default().abs_diff(took.unwrap_or_default());
            prop_assert!(answer.latency.is_some() == took.is_some() && differ < Duration::from_micros(1));
        }

        #[test]
        fn no_text_panics_the_parser(text in any::<String>()) {
            drop(parse_trace("t.jsonl", &text).map(|trace| trace.infer_scenario(&HeaderNames::default())));
        }

        #[test]
        fn every_trace_yields_a_scenario_with_a_positive_rate(
            answers in prop::collection::vec((0..1_000_000_u32, prop::sample::select(vec![0, 200, 404, 429, 503]), 0..5000_u32), 1..60),
        ) {
            let mut text = String::new();
            for (at, status, ms) in answers {
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
    let text = include_str!("../../../tests/fixtures/state-1/trace.jsonl");

    let trace = parse_trace("trace.jsonl", text).unwrap();

    let rewritten: String = trace
        .records()
        .iter()
        .map(|answer| {
            let at = Timestamp(answer.wall_clock_ms.unwrap());
            Trace::to_json_line(at, answer.status, answer.latency, answer.headers.clone())
        })
        .collect();
    assert_eq!(rewritten, text);
}
