//! Plots of the rate of accepted requests over time: their data, in bins of equal length.

mod element;
mod scale;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use cynosure_engine::rate_limit::Rate;

use crate::simulate::SimulationSample;

pub use self::svg::render_svg;
pub use self::terminal::{ColourMode, TerminalOptions, render_terminal};

/// Data of a plot. Each series has a panel; all panels have the same scales.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    pub series: Vec<PlotSeries>,
    /// Rate that the server grants in the long run; drawn as a line.
    pub quota: Option<Rate>,
    /// Periods in which every request failed.
    pub outages: Vec<Range<Duration>>,
}

/// Result of one policy over time.
#[derive(Clone, Debug)]
pub struct PlotSeries {
    pub name: String,
    /// Text beside the name.
    pub subtitle: String,
    /// Samples of `sample_interval` each, in order.
    pub samples: Vec<SimulationSample>,
    pub sample_interval: Duration,
    /// Time at which the policy finished or was given up.
    pub end: Duration,
}

/// Responses in one of the equal parts of the time axis.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    accepted: f64,
    throttled: f64,
}

impl Chart {
    /// Returns the length of the time axis: at least 1 s.
    fn duration(&self) -> Duration {
        let longest = self.series.iter().map(|series| series.end).max().unwrap_or_default();
        longest.max(Duration::from_secs(1))
    }

    /// Returns `count` bins of each series, up to the end of the axis, and their width in seconds.
    fn bins(&self, count: usize) -> (Vec<Vec<Bin>>, f64) {
        let width = self.duration().as_secs_f64() / index_f64(count);
        (self.series.iter().map(|series| series.bins(count, width)).collect(), width)
    }
}

impl PlotSeries {
    /// Returns the total number of accepted units.
    fn total_accepted(&self) -> u64 {
        self.samples.iter().map(|sample| sample.accepted).sum()
    }

    /// Spreads each sample evenly over the bins it overlaps, so that a constant rate is drawn as
    /// constant.
    fn bins(&self, count: usize, width: f64) -> Vec<Bin> {
        let mut bins = vec![Bin::default(); count];
        for sample in &self.samples {
            let from = sample.start.as_secs_f64() / width;
            let to = (sample.start + self.sample_interval).min(self.end).as_secs_f64() / width;
            // A sample without length still belongs to a bin.
            let to = to.max(from + 1e-6);
            let last = floor_to_usize(to).min(count.saturating_sub(1));
            for (index, bin) in
                bins.iter_mut().enumerate().take(last + 1).skip(floor_to_usize(from).min(last))
            {
                let end = if index == last { f64::INFINITY } else { index_f64(index + 1) };
                let overlap = to.min(end) - from.max(index_f64(index)).min(to);
                let share = (overlap / (to - from)).clamp(0.0, 1.0);
                bin.accepted += to_f64(sample.accepted) * share;
                bin.throttled += to_f64(sample.throttled) * share;
            }
        }
        bins
    }
}

impl Bin {
    /// Returns the share of 429s in the responses, from 0 to 1.
    fn throttled_share(self) -> f64 {
        let total = self.accepted + self.throttled;
        if total > 0.0 { self.throttled / total } else { 0.0 }
    }
}

/// Rounds down to a whole number. The cast saturates at both ends.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounding down is intended"
)]
fn floor_to_usize(value: f64) -> usize {
    value as usize
}

#[expect(clippy::cast_precision_loss, reason = "a plot needs less precision")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "plots have thousands of columns, not 2^53")]
fn index_f64(index: usize) -> f64 {
    index as f64
}
