//! Axes of the plots: round numbers in a suitable unit.

use std::time::Duration;

use cynosure_engine::format_duration;

use super::{Chart, floor_to_usize, to_f64};

/// Rates above this multiple of the quota are clipped, or the quota line would lie near zero.
const CLIP_ABOVE_QUOTA: f64 = 3.0;

/// Minimum top of the axis, as a multiple of the quota, so that its line is below the frame.
const QUOTA_HEADROOM: f64 = 1.2;

/// Units of a rate, each with its length in seconds.
const RATE_UNITS: [(&str, f64); 4] = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86_400.0)];

/// Distances between the ticks of a time axis, in seconds.
const TIME_STEPS: [u64; 20] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800,
];

/// Round numbers whose half is round, too.
const HALVING_STEPS: &[f64] = &[1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];

/// Round distances between the ticks of a count.
const COUNTING_STEPS: &[f64] = &[1.0, 2.0, 5.0, 10.0];

/// Rate axis, the same for all panels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RateAxis {
    /// Top of the axis, in its unit.
    pub(super) max: f64,
    pub(super) unit: &'static str,
    /// Length of the unit in seconds.
    pub(super) unit_seconds: f64,
    /// Highest rate of the data, in the unit of the axis; it may be above the top.
    pub(super) peak: f64,
}

impl RateAxis {
    pub(super) fn for_chart(chart: &Chart, peak_per_second: f64) -> Self {
        let quota = chart.quota.map(|quota| quota.get());
        let target = match quota {
            Some(quota) => {
                peak_per_second.min(quota * CLIP_ABOVE_QUOTA).max(quota * QUOTA_HEADROOM)
            }
            None => peak_per_second,
        };
        // Without data, the axis is still valid.
        let target = if target > 0.0 { target } else { 1.0 };
        let suitable = RATE_UNITS.iter().find(|(_, seconds)| target * seconds >= 2.0);
        let (unit, seconds) = suitable.copied().unwrap_or(RATE_UNITS[3]);
        Self {
            max: round_up(target * seconds, HALVING_STEPS),
            unit,
            unit_seconds: seconds,
            peak: peak_per_second * seconds,
        }
    }

    /// Returns a rate per second as a fraction of the axis. Above 1 it is clipped.
    pub(super) fn fraction(&self, per_second: f64) -> f64 {
        per_second * self.unit_seconds / self.max
    }

    /// True if a rate is above the top by more than a rounding error.
    pub(super) fn is_clipped(&self, per_second: f64) -> bool {
        self.fraction(per_second) > 1.0 + 1e-9
    }

    /// Returns the label at a fraction of the axis, such as `10/s`.
    pub(super) fn label(&self, fraction: f64) -> String {
        format!("{}/{}", format_number(self.max * fraction), self.unit)
    }

    pub(super) fn peak_label(&self) -> String {
        format!("{}/{}", format_number(self.peak), self.unit)
    }
}

/// Returns the ticks of the time axis with their labels: zero, and at most `max` more.
pub(super) fn time_ticks(duration: Duration, max: usize) -> Vec<(Duration, String)> {
    let step = TIME_STEPS
        .iter()
        .copied()
        .find(|step| duration.as_secs() / step <= u64::try_from(max).unwrap_or(u64::MAX))
        .unwrap_or_else(|| (duration.as_secs() / u64::try_from(max.max(1)).unwrap_or(1)).max(1));
    (0..=duration.as_secs() / step)
        .map(|tick| Duration::from_secs(tick * step))
        .map(|at| (at, if at.is_zero() { "0".to_owned() } else { format_duration(at) }))
        .collect()
}

/// Returns the next of the `steps`, times a power of ten, that is not below `value`.
fn round_up(value: f64, steps: &[f64]) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let rounded = steps.iter().map(|step| step * power).find(|step| *step >= value * (1.0 - 1e-9));
    rounded.unwrap_or(10.0 * power)
}

/// Formats a number with about three digits, or with all digits before the decimal point.
fn format_number(value: f64) -> String {
    let precision = if value >= 100.0 {
        1.0
    } else if value >= 10.0 {
        10.0
    } else {
        100.0
    };
    format!("{}", (value * precision).round() / precision)
}

/// Returns about `parts` round numbers from zero to `max`.
pub(super) fn count_ticks(max: u64, parts: u64) -> Vec<u64> {
    let step = round_up((to_f64(max) / to_f64(parts.max(1))).max(1.0), COUNTING_STEPS);
    let step = u64::try_from(floor_to_usize(step)).unwrap_or(1).max(1);
    (0..=max / step).map(|tick| tick * step).collect()
}
