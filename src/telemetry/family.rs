//! Metric family: one metric with all its series.

use cynosure_engine::Timestamp;
use cynosure_engine::metrics::{BUCKET_BOUNDS_MILLIS, Histogram};

/// Metric with its description and a series for each combination of label values.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFamily {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricKind,
    pub series: Vec<MetricSeries>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricKind {
    /// Only grows, except for a reset to zero.
    Counter,
    Gauge,
    Histogram,
}

/// Value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSeries {
    pub labels: Vec<(&'static str, String)>,
    pub value: MetricValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    Number(f64),
    Histogram {
        /// Upper bounds in seconds, and the number of values between each bound and the one before.
        buckets: Vec<(f64, u64)>,
        /// Number of values beyond the last bound.
        overflow: u64,
        /// Sum of all values, in seconds.
        sum: f64,
    },
}

impl MetricFamily {
    pub(super) fn new(kind: MetricKind, name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind, series: Vec::new() }
    }

    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricKind::Counter, name, help)
    }

    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(MetricKind::Gauge, name, help)
    }

    pub(super) fn push(&mut self, labels: &[(&'static str, &str)], value: MetricValue) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.series.push(MetricSeries { labels, value });
    }

    /// Adds a series for each state: 1 for the current one, 0 for the others.
    pub(super) fn push_state_set<'a>(
        &mut self,
        labels: &[(&'static str, &str)],
        label: &'static str,
        states: impl Iterator<Item = &'a str>,
        current: &str,
    ) {
        for state in states {
            let mut labels = labels.to_vec();
            labels.push((label, state));
            self.push(&labels, MetricValue::from(state == current));
        }
    }
}

impl MetricKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl MetricValue {
    /// Returns the number of values in a histogram; `None` for a number.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Number(_) => None,
            Self::Histogram { buckets, overflow, .. } => {
                let in_buckets =
                    buckets.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
                Some(in_buckets.saturating_add(*overflow))
            }
        }
    }
}

impl From<f64> for MetricValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<u64> for MetricValue {
    #[expect(
        clippy::cast_precision_loss,
        reason = "Prometheus counts in doubles, exact up to 2^53"
    )]
    fn from(value: u64) -> Self {
        Self::Number(value as f64)
    }
}

impl From<u32> for MetricValue {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl From<bool> for MetricValue {
    fn from(value: bool) -> Self {
        Self::Number(f64::from(u8::from(value)))
    }
}

impl From<Timestamp> for MetricValue {
    /// Converts to seconds since the epoch.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of 285,000 years are exact")]
    fn from(at: Timestamp) -> Self {
        Self::Number(at.0 as f64 / 1_000.0)
    }
}

impl From<&Histogram> for MetricValue {
    #[expect(clippy::cast_precision_loss, reason = "bounds are small, and sums are sums of times")]
    fn from(histogram: &Histogram) -> Self {
        let bounds = BUCKET_BOUNDS_MILLIS.iter().map(|bound| *bound as f64 / 1_000.0);
        Self::Histogram {
            buckets: bounds.zip(histogram.buckets).collect(),
            overflow: histogram.buckets[BUCKET_BOUNDS_MILLIS.len()],
            sum: histogram.sum_micros as f64 / 1_000_000.0,
        }
    }
}
