//! Detection of a server that takes longer than its load explains.
//!
//! Latency alone is not enough: a server with one worker takes eight times as long for eight
//! requests as for one, with the same throughput. So each number in flight has its own median, and
//! its allowed latency follows from the best median of any number: the same for fewer requests, and
//! in proportion for more. Only latency beyond that costs throughput.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Timestamp;

/// Latencies per median: few enough to learn from a slow server, enough to ignore a slow response.
const WINDOW_LEN: usize = 10;

/// Number of total times from which the ninetieth percentile is computed.
const TOTAL_WINDOW_LEN: usize = 32;

/// Allowed ratio of a median to the baseline; chance alone can reach it.
const TOLERANCE: f64 = 2.0;

/// Shortest baseline: a shorter latency is not noticeable, and mostly jitter of this machine.
const LATENCY_FLOOR: Duration = Duration::from_millis(50);

/// Longest age of a baseline. After that, the server may have changed permanently.
const BASELINE_AGE_MAX: Duration = Duration::from_secs(300);

/// Numbers in flight with a separate bucket; larger ones count in the last.
const IN_FLIGHT_BUCKETS_MAX: u32 = 256;

/// Latency of a response, and the number of requests in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LatencySample {
    /// From the request to the first byte of the response, independent of a document's size.
    pub time_to_first_byte: Duration,
    /// From the request to the last byte: the time that its slot was taken.
    pub total: Duration,
    /// Requests in flight when it was sent, itself included.
    pub in_flight: u32,
}

/// Evaluation of a full window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LatencyEvaluation {
    /// The server keeps pace with this number in flight.
    Acceptable { in_flight: u32 },
    /// It does not; `allowed_ratio` is the allowed latency over the measured one, below 1.
    Slow { allowed_ratio: f64 },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LatencyByConcurrency {
    buckets: BTreeMap<u32, LatencyBucket>,
    /// Last total times in the order of arrival.
    recent_totals: Vec<Duration>,
    /// Index of the next total time.
    next_index: usize,
    /// The same times sorted, since every request needs their percentile.
    sorted_totals: Vec<Duration>,
}

/// Latencies of one number in flight.
#[derive(Clone, Debug, Default, PartialEq)]
struct LatencyBucket {
    samples: Vec<Duration>,
    baseline: Option<(Duration, Timestamp)>,
}

impl LatencyByConcurrency {
    /// Records one response; returns the evaluation of the window that it fills, if any.
    pub(super) fn record(
        &mut self,
        sample: LatencySample,
        now: Timestamp,
    ) -> Option<LatencyEvaluation> {
        self.record_total(sample.total);
        let in_flight = sample.in_flight.clamp(1, IN_FLIGHT_BUCKETS_MAX);
        let window = &mut self.buckets.entry(in_flight).or_default().samples;
        window.push(sample.time_to_first_byte);
        if window.len() < WINDOW_LEN {
            return None;
        }
        let median = percentile(&mut std::mem::take(window), 50);
        Some(self.evaluate(in_flight, median, now))
    }

    /// Returns the ninetieth percentile of the recent times for which a slot was taken.
    pub(super) fn total_p90(&self) -> Option<Duration> {
        let last = self.sorted_totals.len().checked_sub(1)?;
        self.sorted_totals.get(last * 90 / 100).copied()
    }

    fn evaluate(&mut self, in_flight: u32, median: Duration, now: Timestamp) -> LatencyEvaluation {
        for bucket in self.buckets.values_mut() {
            bucket.baseline = bucket.baseline.filter(|(_, at)| now.since(*at) <= BASELINE_AGE_MAX);
        }
        let baseline = &mut self.buckets.entry(in_flight).or_default().baseline;
        if baseline.is_none_or(|(baseline, _)| median <= baseline) {
            *baseline = Some((median, now));
        }
        let allowed = self.baseline_for(in_flight).max(LATENCY_FLOOR).mul_f64(TOLERANCE);
        if median <= allowed {
            LatencyEvaluation::Acceptable { in_flight }
        } else {
            LatencyEvaluation::Slow { allowed_ratio: allowed.as_secs_f64() / median.as_secs_f64() }
        }
    }

    /// Returns the baseline of one number in flight, scaled from the best of any number.
    fn baseline_for(&self, in_flight: u32) -> Duration {
        let baselines =
            self.buckets.iter().filter_map(|(number, bucket)| Some((*number, bucket.baseline?.0)));
        let scaled = baselines.map(|(number, baseline)| {
            baseline.mul_f64((f64::from(in_flight) / f64::from(number)).max(1.0))
        });
        scaled.min().unwrap_or(Duration::MAX)
    }

    fn record_total(&mut self, total: Duration) {
        if self.recent_totals.len() < TOTAL_WINDOW_LEN {
            self.recent_totals.push(total);
        } else {
            let oldest = std::mem::replace(&mut self.recent_totals[self.next_index], total);
            let at = self.sorted_totals.partition_point(|other| *other < oldest);
            self.sorted_totals.remove(at);
        }
        self.next_index = (self.next_index + 1) % TOTAL_WINDOW_LEN;
        let at = self.sorted_totals.partition_point(|other| *other < total);
        self.sorted_totals.insert(at, total);
    }
}

/// Returns the value that `percent` per cent do not exceed; zero if there are none.
fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    let Some(last) = values.len().checked_sub(1) else { return Duration::ZERO };
    *values.select_nth_unstable(last * percent / 100).1
}
