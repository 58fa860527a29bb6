//! Throughput: items settled per second over the last 30 s.

use std::collections::VecDeque;
use std::time::Duration;

use cynosure_engine::Timestamp;

/// Time over which the rate is measured: long enough to be steady, short enough to show a change.
const WINDOW: Duration = Duration::from_secs(30);

/// Shortest time for which a rate is shown; over less, it is noise.
const MEASURED_DURATION_MIN: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Throughput {
    /// Times, each with the number of items settled by then. Oldest first.
    samples: VecDeque<(Timestamp, u64)>,
}

impl Throughput {
    pub(super) fn record(&mut self, settled: u64, now: Timestamp) {
        while self.samples.len() > 1
            && self.samples.front().is_some_and(|(at, _)| now.since(*at) > WINDOW)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, settled));
    }

    /// Starts the measurement again at `settled`.
    pub(super) fn reset(&mut self, settled: u64, now: Timestamp) {
        self.samples.clear();
        self.record(settled, now);
    }

    /// Returns the items per second; `None` until enough time is measured.
    #[expect(clippy::cast_precision_loss, reason = "the rate is only shown")]
    pub(super) fn per_second(&self, now: Timestamp) -> Option<f64> {
        let (first_at, first) = *self.samples.front()?;
        let (_, last) = *self.samples.back()?;
        let duration = now.since(first_at);
        (duration >= MEASURED_DURATION_MIN)
            .then(|| last.saturating_sub(first) as f64 / duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_covers_the_last_half_minute() {
        let mut throughput = Throughput::default();
        throughput.record(0, Timestamp(0));
        assert_eq!(throughput.per_second(Timestamp(100)), None);

        for second in 1..=100_i64 {
            throughput.record(second.unsigned_abs() * 10, Timestamp(second * 1000));
        }

        let rate = throughput.per_second(Timestamp(100_000)).expect("there is a rate");
        assert!((rate - 10.0).abs() < 0.5, "{rate}");
    }
}
