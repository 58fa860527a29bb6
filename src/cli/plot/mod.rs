//! Plots of how fast requests were answered over time: what is drawn, and its scales.

mod element;
mod scale;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use crate::engine::rate_limit::Rate;
use crate::simulate::SimulationSample;

pub(super) use self::svg::render_svg;
pub(super) use self::terminal::{ColourMode, TerminalOptions, render_terminal};

/// What is plotted: one panel for each run, all of them on the same scales.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub title: String,
    pub series: Vec<PlotSeries>,
    /// Drawn as a line: what the server grants in the long run.
    pub quota: Option<Rate>,
    /// Spans in which the server served nobody.
    pub outages: Vec<Range<Duration>>,
}

/// What came of one policy.
#[derive(Clone, Debug)]
pub(super) struct PlotSeries {
    pub name: String,
    /// What is said beside the name.
    pub subtitle: String,
    /// What happened, in spans of `step`, in order.
    pub samples: Vec<SimulationSample>,
    pub sample_interval: Duration,
    /// When it was done, or given up.
    pub end: Duration,
}

/// What happened in one of the even parts of the time axis.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    accepted: f64,
    throttled: f64,
}

impl Chart {
    /// The whole time axis; never empty.
    fn duration(&self) -> Duration {
        let longest = self.series.iter().map(|run| run.end).max().unwrap_or_default();
        longest.max(Duration::from_secs(1))
    }

    /// The runs in bins of `width` each, to the end of the axis.
    fn bins(&self, count: usize) -> (Vec<Vec<Bin>>, f64) {
        let width = self.duration().as_secs_f64() / index_f64(count);
        (self.series.iter().map(|run| run.bins(count, width)).collect(), width)
    }
}

impl PlotSeries {
    /// What was answered well, all in all.
    fn total_accepted(&self) -> u64 {
        self.samples.iter().map(|sample| sample.accepted).sum()
    }

    /// Spreads each sample evenly over the bins it lies in, so that an even pace looks even.
    fn bins(&self, count: usize, width: f64) -> Vec<Bin> {
        let mut bins = vec![Bin::default(); count];
        for sample in &self.samples {
            let from = sample.start.as_secs_f64() / width;
            let to = (sample.start + self.sample_interval).min(self.end).as_secs_f64() / width;
            // A sample of no length still lies somewhere.
            let to = to.max(from + 1e-6);
            let last = floor_to_usize(to).min(count.saturating_sub(1));
            for (index, bin) in
                bins.iter_mut().enumerate().take(last + 1).skip(floor_to_usize(from).min(last))
            {
                let end = if index == last { f64::INFINITY } else { index_f64(index + 1) };
                let inside = to.min(end) - from.max(index_f64(index)).min(to);
                let share = (inside / (to - from)).clamp(0.0, 1.0);
                bin.accepted += to_f64(sample.accepted) * share;
                bin.throttled += to_f64(sample.throttled) * share;
            }
        }
        bins
    }
}

impl Bin {
    /// The share of 429s among the answers.
    fn throttled_share(self) -> f64 {
        let all = self.accepted + self.throttled;
        if all > 0.0 { self.throttled / all } else { 0.0 }
    }
}

/// The whole number below a figure of a plot; the cast saturates at both ends.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounds down as wanted"
)]
fn floor_to_usize(figure: f64) -> usize {
    figure as usize
}

#[expect(clippy::cast_precision_loss, reason = "a drawing is no more exact than that")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "plots have thousands of places, not 2^53")]
fn index_f64(index: usize) -> f64 {
    index as f64
}
