//! Axes: round figures in the unit that suits them.

use std::time::Duration;

use super::{Chart, floor_to_usize, to_f64};
use crate::human::format_duration;

/// Peaks beyond this many times the quota are cut, or the quota would be a line on the floor.
const CLIP_ABOVE_QUOTA: f64 = 3.0;

/// Room above the quota, so that its line does not lie on the frame.
const QUOTA_HEADROOM: f64 = 1.2;

/// Units of a rate and how many seconds each has.
const RATE_UNITS: [(&str, f64); 4] = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86_400.0)];

/// Steps of a time axis, in seconds.
const TIME_STEPS: [u64; 20] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800,
];

/// Figures that halve well, and those to count by.
const HALVING_STEPS: &[f64] = &[1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];
const COUNTING_STEPS: &[f64] = &[1.0, 2.0, 5.0, 10.0];

/// The axis of the rate, the same for all panels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RateAxis {
    /// Where it ends, in its unit.
    pub(super) max: f64,
    pub(super) unit: &'static str,
    /// Seconds in the unit.
    pub(super) unit_seconds: f64,
    /// The greatest rate there is, in its unit; it may lie beyond the top.
    pub(super) peak: f64,
}

impl RateAxis {
    pub(super) fn for_chart(chart: &Chart, peak_per_second: f64) -> Self {
        let quota = chart.quota.map(|quota| quota.get());
        let wanted = match quota {
            Some(quota) => {
                peak_per_second.min(quota * CLIP_ABOVE_QUOTA).max(quota * QUOTA_HEADROOM)
            }
            None => peak_per_second,
        };
        // A rate nobody reached still has an axis.
        let wanted = if wanted > 0.0 { wanted } else { 1.0 };
        let known = RATE_UNITS.iter().find(|(_, seconds)| wanted * seconds >= 2.0);
        let (unit, seconds) = known.copied().unwrap_or(RATE_UNITS[3]);
        Self {
            max: round_up(wanted * seconds, HALVING_STEPS),
            unit,
            unit_seconds: seconds,
            peak: peak_per_second * seconds,
        }
    }

    /// Where a rate per second lies, as a share of the axis; beyond 1 it is cut.
    pub(super) fn fraction(&self, per_second: f64) -> f64 {
        per_second * self.unit_seconds / self.max
    }

    /// Whether a rate lies beyond the top by more than its rounding.
    pub(super) fn is_clipped(&self, per_second: f64) -> bool {
        self.fraction(per_second) > 1.0 + 1e-9
    }

    /// The label of a share of the axis: `10/s`.
    pub(super) fn label(&self, share: f64) -> String {
        format!("{}/{}", format_number(self.max * share), self.unit)
    }

    pub(super) fn peak_label(&self) -> String {
        format!("{}/{}", format_number(self.peak), self.unit)
    }
}

/// The ticks of the time axis, at most `most` of them besides zero, each with its label.
pub(super) fn time_ticks(whole: Duration, most: usize) -> Vec<(Duration, String)> {
    let step = TIME_STEPS
        .iter()
        .copied()
        .find(|step| whole.as_secs() / step <= u64::try_from(most).unwrap_or(u64::MAX))
        .unwrap_or_else(|| (whole.as_secs() / u64::try_from(most.max(1)).unwrap_or(1)).max(1));
    (0..=whole.as_secs() / step)
        .map(|tick| Duration::from_secs(tick * step))
        .map(|at| (at, if at.is_zero() { "0".to_owned() } else { format_duration(at) }))
        .collect()
}

/// The next of the round figures times a power of ten.
fn round_up(wanted: f64, rounds: &[f64]) -> f64 {
    let power = 10_f64.powf(wanted.log10().floor());
    let fits =
        rounds.iter().map(|round| round * power).find(|round| *round >= wanted * (1.0 - 1e-9));
    fits.unwrap_or(10.0 * power)
}

/// A figure in about three digits, or all of its whole ones.
fn format_number(figure: f64) -> String {
    let parts = if figure >= 100.0 {
        1.0
    } else if figure >= 10.0 {
        10.0
    } else {
        100.0
    };
    format!("{}", (figure * parts).round() / parts)
}

/// Round figures of a count from zero to `most`, about `parts` of them.
pub(super) fn count_ticks(most: u64, parts: u64) -> Vec<u64> {
    let step = round_up((to_f64(most) / to_f64(parts.max(1))).max(1.0), COUNTING_STEPS);
    let step = u64::try_from(floor_to_usize(step)).unwrap_or(1).max(1);
    (0..=most / step).map(|tick| tick * step).collect()
}
