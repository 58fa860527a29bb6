//! The score, by example and for whatever is seen.

use proptest::prelude::*;

use super::*;

fn phases() -> impl Strategy<Value = Option<BreakerState>> {
    prop::option::of(prop::sample::select(BreakerState::ALL.to_vec()))
}

fn counts() -> impl Strategy<Value = Counts> {
    (0..300_u32, 0..300_u32, 0..300_u32).prop_map(|(well, degraded, failed)| Counts {
        total: well + degraded + failed,
        degraded,
        failed,
    })
}

#[test]
fn the_score_is_the_sum_of_its_four_parts() {
    let counts = |failed, degraded| Counts { total: 4, degraded, failed };
    let close = |score: f64, expected: f64| assert!((score - expected).abs() < 1e-9, "{score}");

    close(score(counts(0, 0), Some(1.0), Some(BreakerState::Closed)), 0.0);
    close(score(counts(0, 0), Some(0.2), Some(BreakerState::Closed)), 0.08);
    close(score(counts(1, 1), None, None), 0.5 / 4.0 + 0.3 / 4.0);
    close(score(counts(0, 4), Some(0.5), Some(BreakerState::HalfOpen)), 0.3 + 0.1 + 0.05);
    close(score(counts(4, 0), Some(0.0), Some(BreakerState::Open)), 0.8);
}

#[test]
fn the_bands_begin_where_they_are_said_to() {
    let bands = [0.0, 0.099, 0.1, 0.299, 0.3, 0.599, 0.6, 1.0].map(|score| Band::of(score).name());

    assert_eq!(
        bands,
        ["healthy", "healthy", "minor", "minor", "moderate", "moderate", "severe", "severe"]
    );
}

#[test]
fn sources_are_judged_by_the_provider_they_share() {
    let source = |provider: &str, standing, success_rate| SourceFacts {
        provider: provider.to_owned(),
        standing,
        success_rate,
    };
    let sources = [
        source("one", Standing::Well, Some(1.0)),
        source("one", Standing::Failed, Some(0.5)),
        source("two", Standing::Well, None),
    ];
    let shared = Shared {
        breakers: BTreeMap::from([("one".to_owned(), BreakerState::Open)]),
        p95_latencies: BTreeMap::from([("two".to_owned(), Duration::from_millis(1500))]),
    };

    let [one, two] = &judge(&sources, &shared)[..] else { panic!("two providers") };

    assert_eq!((one.band, one.success_rate), (Band::Moderate, Some(0.75)));
    assert_eq!(one.status, "1 of 2 failed, left alone by its breaker");
    assert_eq!((two.band, two.status.as_str(), two.breaker), (Band::Healthy, "well", None));
    let json = serde_json::to_value(two).unwrap();
    assert_eq!(json["p95_latency_ms"], 1500);
    assert_eq!(serde_json::from_value::<ProviderHealth>(json).unwrap(), *two);
}

proptest! {
    #[test]
    fn the_score_stays_between_nothing_and_all(
        counts in counts(),
        rate: Option<f64>,
        breaker in phases(),
    ) {
        let score = score(counts, rate, breaker);

        prop_assert!((0.0..=1.0).contains(&score), "{score}");
    }

    #[test]
    fn what_gets_worse_never_lowers_the_score(
        counts in counts(),
        rate in 0.0..=1.0_f64,
        less in 0.0..=1.0_f64,
        breaker in phases(),
    ) {
        let before = score(counts, Some(rate), breaker);

        let failed = Counts { failed: counts.failed + 1, total: counts.total + 1, ..counts };
        prop_assert!(score(counts, Some(rate * less), breaker) >= before - 1e-9);
        prop_assert!(score(counts, Some(rate), Some(BreakerState::Open)) >= before - 1e-9);
        // Of those there are, one more fails.
        if counts.total > counts.failed + counts.degraded {
            let failed = Counts { total: counts.total, ..failed };
            prop_assert!(score(failed, Some(rate), breaker) >= before - 1e-9);
        }
    }
}

mod history {
    use super::*;
    use crate::engine::Timestamp;

    const SLOT_MS: i64 = 300_000;
    const START: i64 = 5_909_581 * SLOT_MS;

    fn provider(score: f64) -> Vec<ProviderHealth> {
        let counts = Counts { total: 1, ..Counts::default() };
        let health = ProviderHealth {
            provider: "one".to_owned(),
            score,
            band: Band::of(score),
            status: String::new(),
            p95_latency: None,
            success_rate: None,
            breaker: None,
            sources: counts,
        };
        vec![health]
    }

    fn ends(history: &History) -> Vec<Option<f64>> {
        history.scores["one"].iter().rev().take(4).copied().collect()
    }

    #[test]
    fn a_slot_keeps_its_worst_and_a_pause_is_a_gap() {
        let mut history = History::default();
        for (at, score) in [(0, 0.1), (60_000, 0.7004), (120_000, 0.2), (2 * SLOT_MS, 0.3)] {
            history.note(&provider(score), Timestamp(START + at));
        }

        assert_eq!(ends(&history), [Some(0.3), None, Some(0.7), None]);
        assert_eq!(history.scores["one"].len(), 288);
        assert_eq!(history.first, Timestamp(START - 285 * SLOT_MS));
    }

    #[test]
    fn a_clock_set_back_drops_what_has_not_been_yet() {
        let mut history = History::default();
        for (at, score) in [(0, 0.1), (1, 0.2), (2, 0.3), (1, 0.1)] {
            history.note(&provider(score), Timestamp(START + at * SLOT_MS));
        }

        assert_eq!(ends(&history), [Some(0.2), Some(0.1), None, None]);
    }

    #[test]
    fn what_was_not_seen_for_a_day_is_forgotten() {
        let mut history = History::default();
        history.note(&provider(0.5), Timestamp(START));
        history.note(&[], Timestamp(START + 287 * SLOT_MS));
        assert_eq!(history.scores["one"].first().copied(), Some(Some(0.5)));
        history.note(&[], Timestamp(START + 288 * SLOT_MS));

        assert!(history.scores.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_the_clock_says_a_day_is_a_day(times: Vec<i64>) {
            let mut history = History::default();
            for at in times {
                history.note(&provider(0.5), Timestamp(at));
                prop_assert_eq!(history.scores["one"].len(), usize::try_from(SLOTS).unwrap());
                prop_assert_eq!(history.scores["one"].last().copied(), Some(Some(0.5)));
            }
        }
    }
}
