//! Tests of the score and its history, by example and by property.

use proptest::prelude::*;

use super::*;

fn any_breaker_state() -> impl Strategy<Value = Option<BreakerState>> {
    prop::option::of(prop::sample::select(BreakerState::ALL.to_vec()))
}

fn any_counts() -> impl Strategy<Value = SourceCounts> {
    (0..300_u32, 0..300_u32, 0..300_u32).prop_map(|(healthy, degraded, failed)| SourceCounts {
        total: healthy + degraded + failed,
        degraded,
        failed,
    })
}

#[test]
fn the_score_is_the_sum_of_its_four_parts() {
    let counts = |failed, degraded| SourceCounts { total: 4, degraded, failed };
    let assert_close =
        |score: f64, expected: f64| assert!((score - expected).abs() < 1e-9, "{score}");

    assert_close(score(counts(0, 0), Some(1.0), Some(BreakerState::Closed)), 0.0);
    assert_close(score(counts(0, 0), Some(0.2), Some(BreakerState::Closed)), 0.08);
    assert_close(score(counts(1, 1), None, None), 0.5 / 4.0 + 0.3 / 4.0);
    assert_close(score(counts(0, 4), Some(0.5), Some(BreakerState::HalfOpen)), 0.3 + 0.1 + 0.05);
    assert_close(score(counts(4, 0), Some(0.0), Some(BreakerState::Open)), 0.8);
}

#[test]
fn degradation_levels_start_at_their_thresholds() {
    let levels = [0.0, 0.099, 0.1, 0.299, 0.3, 0.599, 0.6, 1.0]
        .map(|score| DegradationLevel::from_score(score).name());

    assert_eq!(
        levels,
        ["healthy", "healthy", "minor", "minor", "moderate", "moderate", "severe", "severe"]
    );
}

#[test]
fn sources_are_scored_per_provider() {
    let source = |provider: &str, health, success_rate| SourceInput {
        provider: provider.to_owned(),
        health,
        success_rate,
    };
    let sources = [
        source("one", SourceHealth::Healthy, Some(1.0)),
        source("one", SourceHealth::Failed, Some(0.5)),
        source("two", SourceHealth::Healthy, None),
    ];
    let inputs = ProviderInputs {
        breaker_states: BTreeMap::from([("one".to_owned(), BreakerState::Open)]),
        p95_latencies: BTreeMap::from([("two".to_owned(), Duration::from_millis(1500))]),
    };

    let [one, two] = &evaluate(&sources, &inputs)[..] else { panic!("two providers") };

    assert_eq!((one.level, one.success_rate), (DegradationLevel::Moderate, Some(0.75)));
    assert_eq!(one.status, "1 of 2 failed, circuit breaker open");
    assert_eq!(
        (two.level, two.status.as_str(), two.breaker),
        (DegradationLevel::Healthy, "healthy", None)
    );
    let json = serde_json::to_value(two).unwrap();
    assert_eq!(json["p95_latency_ms"], 1500);
    assert_eq!(serde_json::from_value::<ProviderHealth>(json).unwrap(), *two);
}

proptest! {
    #[test]
    fn the_score_stays_between_zero_and_one(
        counts in any_counts(),
        rate: Option<f64>,
        breaker in any_breaker_state(),
    ) {
        let score = score(counts, rate, breaker);

        prop_assert!((0.0..=1.0).contains(&score), "{score}");
    }

    #[test]
    fn a_worse_input_never_lowers_the_score(
        counts in any_counts(),
        rate in 0.0..=1.0_f64,
        factor in 0.0..=1.0_f64,
        breaker in any_breaker_state(),
    ) {
        let before = score(counts, Some(rate), breaker);

        let failed = SourceCounts { failed: counts.failed + 1, total: counts.total + 1, ..counts };
        prop_assert!(score(counts, Some(rate * factor), breaker) >= before - 1e-9);
        prop_assert!(score(counts, Some(rate), Some(BreakerState::Open)) >= before - 1e-9);
        // One more of the existing sources fails.
        if counts.total > counts.failed + counts.degraded {
            let failed = SourceCounts { total: counts.total, ..failed };
            prop_assert!(score(failed, Some(rate), breaker) >= before - 1e-9);
        }
    }
}

mod history {
    use super::*;
    use crate::Timestamp;

    const SLOT_MS: i64 = 300_000;
    const START: i64 = 5_909_581 * SLOT_MS;

    fn provider_with_score(score: f64) -> Vec<ProviderHealth> {
        let counts = SourceCounts { total: 1, ..SourceCounts::default() };
        let health = ProviderHealth {
            provider: "one".to_owned(),
            score,
            level: DegradationLevel::from_score(score),
            status: String::new(),
            p95_latency: None,
            success_rate: None,
            breaker: None,
            sources: counts,
        };
        vec![health]
    }

    fn latest_slots(history: &DegradationHistory) -> Vec<Option<f64>> {
        history.scores["one"].iter().rev().take(4).copied().collect()
    }

    #[test]
    fn a_slot_keeps_its_worst_score_and_gaps_stay_empty() {
        let mut history = DegradationHistory::default();
        for (at, score) in [(0, 0.1), (60_000, 0.7004), (120_000, 0.2), (2 * SLOT_MS, 0.3)] {
            history.record(&provider_with_score(score), Timestamp(START + at));
        }

        assert_eq!(latest_slots(&history), [Some(0.3), None, Some(0.7), None]);
        assert_eq!(history.scores["one"].len(), 288);
        assert_eq!(history.starts_at, Timestamp(START - 285 * SLOT_MS));
    }

    #[test]
    fn a_clock_set_back_drops_future_slots() {
        let mut history = DegradationHistory::default();
        for (at, score) in [(0, 0.1), (1, 0.2), (2, 0.3), (1, 0.1)] {
            history.record(&provider_with_score(score), Timestamp(START + at * SLOT_MS));
        }

        assert_eq!(latest_slots(&history), [Some(0.2), Some(0.1), None, None]);
    }

    #[test]
    fn a_provider_unseen_for_a_day_is_removed() {
        let mut history = DegradationHistory::default();
        history.record(&provider_with_score(0.5), Timestamp(START));
        history.record(&[], Timestamp(START + 287 * SLOT_MS));
        assert_eq!(history.scores["one"].first().copied(), Some(Some(0.5)));
        history.record(&[], Timestamp(START + 288 * SLOT_MS));

        assert!(history.scores.is_empty());
    }

    proptest! {
        #[test]
        fn the_history_always_spans_one_day(times: Vec<i64>) {
            let mut history = DegradationHistory::default();
            for at in times {
                history.record(&provider_with_score(0.5), Timestamp(at));
                prop_assert_eq!(history.scores["one"].len(), usize::try_from(SLOTS_PER_DAY).unwrap());
                prop_assert_eq!(history.scores["one"].last().copied(), Some(Some(0.5)));
            }
        }
    }
}
