//! Tests of the metrics.

use super::*;
use crate::Cause;

const NOW: Timestamp = Timestamp(1_772_874_303_456);

fn at(minutes: i64) -> Timestamp {
    Timestamp(NOW.0 + minutes * 60_000)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_duration_falls_into_the_bucket_of_its_upper_bound() {
    let mut histogram = Histogram::default();
    for duration in [0, 5, 6, 300_000, 300_001, u64::MAX] {
        histogram.record(millis(duration));
    }

    assert_eq!(&histogram.buckets[..3], &[2, 1, 0]);
    assert_eq!(&histogram.buckets[13..], &[1, 2]);
    assert_eq!(histogram.count(), 6);
    assert_eq!(histogram.sum_micros, u64::MAX, "the sum saturates");
}

#[test]
fn a_quantile_lies_within_its_bucket() {
    let mut histogram = Histogram::default();
    assert_eq!(histogram.quantile(0.95), None);
    for _ in 0..90 {
        histogram.record(millis(20));
    }
    for _ in 0..10 {
        histogram.record(millis(400));
    }

    // The 95th of 100 is half-way through the bucket from 250 to 500 ms.
    assert_eq!(histogram.quantile(0.95), Some(millis(375)));
    assert_eq!(histogram.quantile(0.5), Some(Duration::from_secs_f64((10.0 + 15.0 / 1.8) / 1e3)));

    let mut slow = Histogram::default();
    slow.record(Duration::from_secs(4_000));
    assert_eq!(slow.quantile(0.95), Some(millis(300_000)));
}

#[test]
fn the_rolling_window_covers_only_the_last_minutes() {
    let mut metrics = SourceMetrics::default();
    metrics.advance_to(NOW);
    metrics.record_response(None, millis(4_000));
    metrics.advance_to(at(3));
    metrics.record_response(None, millis(7));

    assert_eq!(metrics.requests.recent_latency.merged(at(4)).count(), 2);
    assert_eq!(metrics.requests.recent_latency.merged(at(5)).count(), 1);
    assert!(metrics.p95_latency(at(5)) < Some(millis(10)));
    assert_eq!(metrics.p95_latency(at(8)), None);
    assert_eq!(metrics.p95_latency(at(-60)), None, "nothing is known after a backward clock step");
    assert_eq!(metrics.requests.latency.count(), 2, "the total includes every request");
}

#[test]
fn the_success_rate_is_of_the_last_ten_attempts() {
    let mut metrics = SourceMetrics::default();
    assert_eq!(metrics.success_rate(), None);

    (0..20).for_each(|_| metrics.record_attempt(None));
    (0..8).for_each(|_| metrics.record_attempt(Some(Cause::Server)));
    assert_eq!(metrics.success_rate(), Some(0.2));

    // Neither counts as a failure of the source.
    metrics.record_attempt(Some(Cause::RateLimit));
    metrics.record_attempt(Some(Cause::Storage));
    assert_eq!(metrics.success_rate(), Some(0.2));

    metrics.record_attempt(Some(Cause::NotFound));
    assert_eq!(metrics.success_rate(), Some(0.2), "one success was added, and one dropped");
    (0..9).for_each(|_| metrics.record_attempt(None));
    assert_eq!(metrics.success_rate(), Some(1.0));
}

#[test]
fn three_failures_in_a_row_reconnect_the_client() {
    let mut metrics = SourceMetrics::default();
    let mut fail = |reconnects| metrics.record_no_response(Cause::Connection, reconnects);

    assert_eq!(
        [fail(0), fail(0), fail(0)],
        [ReconnectDecision::Keep, ReconnectDecision::Keep, ReconnectDecision::Reconnect]
    );
    // Eight requests were in flight; late failures of the old client do not count against the new.
    assert_eq!([fail(0), fail(0)], [ReconnectDecision::Keep, ReconnectDecision::Keep]);
    assert_eq!(
        [fail(1), fail(1), fail(1)],
        [ReconnectDecision::Keep, ReconnectDecision::Keep, ReconnectDecision::ReconnectAgain]
    );
    assert_eq!((metrics.connection.consecutive_failures, metrics.connection.reconnects), (8, 2));

    metrics.record_response(Some(Cause::Server), millis(1));
    assert_eq!((metrics.connection.consecutive_failures, metrics.connection.reconnects), (0, 2));
    assert_eq!(metrics.record_no_response(Cause::Timeout, 2), ReconnectDecision::Keep);
    assert_eq!(metrics.requests.by_outcome.unreachable, 8);
}

#[test]
fn lower_totals_in_the_ledger_decrease_no_counter() {
    let mut metrics = SourceMetrics::default();
    let ten = ItemTotals { listed: 10, stored: 4, gone: 1, quarantined: 1 };
    metrics.record_item_totals(ItemTotals::default(), ten);
    metrics.record_item_totals(ten, ItemTotals { stored: 3, quarantined: 0, ..ten });
    metrics.record_item_totals(ItemTotals { stored: 3, ..ten }, ten);

    let items = metrics.items;
    assert_eq!((items.listed, items.stored, items.gone, items.quarantined), (10, 5, 1, 1));
}

#[test]
fn proxies_are_counted_by_state() {
    use std::collections::BTreeSet;

    use crate::{ProxyIndex, ProxyPolicy, ProxyPool};

    let policy =
        ProxyPolicy { failure_threshold: 1, cooldown: millis(1_000), max_cooldown: millis(9_000) };
    let mut pool = ProxyPool::new(policy, 3);
    pool.choose(&BTreeSet::new(), Timestamp(0));
    pool.record_success(ProxyIndex(0), Timestamp(0), Timestamp(40));
    pool.record_failure(ProxyIndex(1), Timestamp(0), Timestamp(40));

    let metrics = |at| ProxyMetrics::from_proxies(pool.health().iter(), Timestamp(at));

    let expected = ProxyMetrics {
        healthy: 2,
        failing: 0,
        dead: 1,
        cooling_down: 1,
        mean_latency_millis: Some(40),
    };
    assert_eq!((metrics(40), metrics(40).total()), (expected, 3));
    assert_eq!(
        metrics(1_040),
        ProxyMetrics { cooling_down: 0, ..expected },
        "it may be tried again"
    );
}

mod proptests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counters_never_decrease(
            events in prop::collection::vec((0..4_u8, any::<u32>()), 0..100),
        ) {
            let mut metrics = SourceMetrics::default();
            let mut before = totals(&metrics);
            for (event, sample) in events {
                let cause = Cause::ALL[usize::try_from(sample).unwrap() % Cause::ALL.len()];
                match event {
                    0 => metrics.record_response(Some(cause), millis(u64::from(sample))),
                    1 => drop(metrics.record_no_response(cause, metrics.connection.reconnects)),
                    2 => metrics.advance_to(Timestamp(i64::from(sample) * 1_000)),
                    _ => metrics.record_item_totals(
                        ItemTotals { stored: u64::from(sample % 7), ..ItemTotals::default() },
                        ItemTotals { stored: u64::from(sample % 5), ..ItemTotals::default() },
                    ),
                }
                let after = totals(&metrics);
                prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after));
                before = after;
            }
        }

        #[test]
        fn metrics_round_trip_through_json(
            successes in prop::collection::vec(any::<bool>(), 0..30),
        ) {
            let mut metrics = SourceMetrics::default();
            metrics.advance_to(NOW);
            for success in successes {
                metrics.recent_outcomes.record(success);
                metrics.record_response(None, millis(u64::from(success)));
            }
            let json = serde_json::to_vec(&metrics).unwrap();
            prop_assert_eq!(serde_json::from_slice::<SourceMetrics>(&json).unwrap(), metrics);
        }
    }

    fn totals(metrics: &SourceMetrics) -> Vec<u64> {
        let requests = &metrics.requests;
        let mut totals: Vec<_> =
            RequestOutcome::ALL.iter().map(|outcome| requests.by_outcome.count(*outcome)).collect();
        totals.extend([
            requests.latency.count(),
            requests.latency.sum_micros,
            metrics.items.stored,
            metrics.connection.reconnects,
        ]);
        totals
    }
}
