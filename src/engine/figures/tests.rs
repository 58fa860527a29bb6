//! What is counted, and how.

use super::*;
use crate::engine::Cause;

const NOW: Timestamp = Timestamp(1_772_874_303_456);

fn at(minutes: i64) -> Timestamp {
    Timestamp(NOW.0 + minutes * 60_000)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
    let mut histogram = Histogram::default();
    for took in [0, 5, 6, 300_000, 300_001, u64::MAX] {
        histogram.note(millis(took));
    }

    assert_eq!(&histogram.buckets[..3], &[2, 1, 0]);
    assert_eq!(&histogram.buckets[13..], &[1, 2]);
    assert_eq!(histogram.count(), 6);
    assert_eq!(histogram.sum_micros, u64::MAX, "it stays there rather than begin anew");
}

#[test]
fn a_quantile_lies_within_its_bucket() {
    let mut histogram = Histogram::default();
    assert_eq!(histogram.quantile(0.95), None);
    for _ in 0..90 {
        histogram.note(millis(20));
    }
    for _ in 0..10 {
        histogram.note(millis(400));
    }

    // 95 of 100 is half-way through those between 250 and 500 ms.
    assert_eq!(histogram.quantile(0.95), Some(millis(375)));
    assert_eq!(histogram.quantile(0.5), Some(Duration::from_secs_f64((10.0 + 15.0 / 1.8) / 1e3)));

    let mut slow = Histogram::default();
    slow.note(Duration::from_secs(4_000));
    assert_eq!(slow.quantile(0.95), Some(millis(300_000)));
}

#[test]
fn only_the_last_minutes_are_recent() {
    let mut figures = Figures::default();
    figures.turn(NOW);
    figures.replied(None, millis(4_000));
    figures.turn(at(3));
    figures.replied(None, millis(7));

    assert_eq!(figures.requests.recent.together(at(4)).count(), 2);
    assert_eq!(figures.requests.recent.together(at(5)).count(), 1);
    assert!(figures.p95(at(5)) < Some(millis(10)));
    assert_eq!(figures.p95(at(8)), None);
    assert_eq!(figures.p95(at(-60)), None, "after a clock that was set back nothing is known");
    assert_eq!(figures.requests.duration.count(), 2, "the total forgets nothing");
}

#[test]
fn the_success_rate_is_of_the_last_ten_attempts() {
    let mut figures = Figures::default();
    assert_eq!(figures.success_rate(), None);

    (0..20).for_each(|_| figures.attempted(None));
    (0..8).for_each(|_| figures.attempted(Some(Cause::Server)));
    assert_eq!(figures.success_rate(), Some(0.2));

    // Neither is a failure of the source.
    figures.attempted(Some(Cause::RateLimit));
    figures.attempted(Some(Cause::Storage));
    assert_eq!(figures.success_rate(), Some(0.2));

    figures.attempted(Some(Cause::NotFound));
    assert_eq!(figures.success_rate(), Some(0.2), "a success came, and one was forgotten");
    (0..9).for_each(|_| figures.attempted(None));
    assert_eq!(figures.success_rate(), Some(1.0));
}

#[test]
fn three_failures_in_a_row_renew_the_client_and_the_row_goes_on() {
    let mut figures = Figures::default();
    let mut fail = |made| figures.unanswered(Cause::Connection, made);

    assert_eq!([fail(0), fail(0), fail(0)], [Renew::No, Renew::No, Renew::First]);
    // Eight were in flight; what the old client still brings back is not held against the new one.
    assert_eq!([fail(0), fail(0)], [Renew::No, Renew::No]);
    assert_eq!([fail(1), fail(1), fail(1)], [Renew::No, Renew::No, Renew::Again]);
    assert_eq!((figures.client.failures_in_a_row, figures.client.rebuilt), (8, 2));

    figures.replied(Some(Cause::Server), millis(1));
    assert_eq!((figures.client.failures_in_a_row, figures.client.rebuilt), (0, 2));
    assert_eq!(figures.unanswered(Cause::Timeout, 2), Renew::No);
    assert_eq!(figures.requests.by_class.unreachable, 8);
}

#[test]
fn what_the_ledger_counts_anew_is_no_step_back() {
    let mut figures = Figures::default();
    let ten = Settled { listed: 10, stored: 4, gone: 1, quarantined: 1 };
    figures.settled(Settled::default(), ten);
    figures.settled(ten, Settled { stored: 3, quarantined: 0, ..ten });
    figures.settled(Settled { stored: 3, ..ten }, ten);

    let items = figures.items;
    assert_eq!((items.listed, items.stored, items.gone, items.quarantined), (10, 5, 1, 1));
}

#[test]
fn proxies_are_counted_by_how_they_are() {
    use std::collections::BTreeSet;

    use crate::engine::{ProxyIndex, ProxyPolicy, ProxyPool};

    let policy =
        ProxyPolicy { failure_threshold: 1, cooldown: millis(1_000), max_cooldown: millis(9_000) };
    let mut pool = ProxyPool::new(policy, 3);
    pool.choose(&BTreeSet::new(), Timestamp(0));
    pool.record_success(ProxyIndex(0), Timestamp(0), Timestamp(40));
    pool.record_failure(ProxyIndex(1), Timestamp(0), Timestamp(40));

    let figures = |at| ProxyFigures::of(pool.health().iter(), Timestamp(at));

    let expected =
        ProxyFigures { healthy: 2, doubted: 0, dead: 1, cooling: 1, mean_latency_millis: Some(40) };
    assert_eq!((figures(40), figures(40).total()), (expected, 3));
    assert_eq!(figures(1_040), ProxyFigures { cooling: 0, ..expected }, "it may be tried again");
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counters_never_go_back(events in prop::collection::vec((0..4_u8, any::<u32>()), 0..100)) {
            let mut figures = Figures::default();
            let mut before = totals(&figures);
            for (event, draw) in events {
                let cause = Cause::ALL[usize::try_from(draw).unwrap() % Cause::ALL.len()];
                match event {
                    0 => figures.replied(Some(cause), millis(u64::from(draw))),
                    1 => drop(figures.unanswered(cause, figures.client.rebuilt)),
                    2 => figures.turn(Timestamp(i64::from(draw) * 1_000)),
                    _ => figures.settled(
                        Settled { stored: u64::from(draw % 7), ..Settled::default() },
                        Settled { stored: u64::from(draw % 5), ..Settled::default() },
                    ),
                }
                let after = totals(&figures);
                prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after));
                before = after;
            }
        }

        #[test]
        fn figures_are_read_back_as_they_were(ends in prop::collection::vec(any::<bool>(), 0..30)) {
            let mut figures = Figures::default();
            figures.turn(NOW);
            for end in ends {
                figures.attempts.note(end);
                figures.replied(None, millis(u64::from(end)));
            }
            let json = serde_json::to_vec(&figures).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Figures>(&json).unwrap(), figures);
        }
    }

    fn totals(figures: &Figures) -> Vec<u64> {
        let requests = &figures.requests;
        let mut totals: Vec<_> =
            ReplyClass::ALL.iter().map(|class| requests.by_class.of(*class)).collect();
        totals.extend([
            requests.duration.count(),
            requests.duration.sum_micros,
            figures.items.stored,
            figures.client.rebuilt,
        ]);
        totals
    }
}
