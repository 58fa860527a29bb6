//! Windows that are common for limits: minutes, hours, days. The size of a burst divided by such a
//! window is a likely rate.

use std::time::Duration;

use crate::rate_limit::rate::Rate;

/// Factor applied to an estimate, to stay below the real rate.
pub(super) const SAFETY_FACTOR: f64 = 0.985;

/// Common windows, in seconds.
const COMMON_WINDOWS_SECS: [f64; 11] =
    [1.0, 10.0, 30.0, 60.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 43_200.0, 86_400.0];

/// Windows whose rates are tried immediately, in seconds, in this order. Most limits are per
/// minute. Five minutes take so long to try that they come last. One second is not tried, because
/// few limits per second lock a client out.
const SEARCH_WINDOWS_SECS: [f64; 4] = [60.0, 30.0, 10.0, 300.0];

/// Share by which a measured window may differ from a common one.
const WINDOW_TOLERANCE: f64 = 0.005;

/// Variation of response times, in seconds. The longer the window, the less it matters.
const RESPONSE_JITTER_SECS: f64 = 0.6;

/// Returns the common window that ended between the bounds, if these are far enough apart for it to
/// matter.
pub(super) fn window_between(earliest: Duration, latest: Duration) -> Option<Duration> {
    let (earliest, latest) = (earliest.as_secs_f64(), latest.as_secs_f64());
    let found =
        COMMON_WINDOWS_SECS.iter().find(|secs| **secs > earliest * 0.999 && **secs <= latest)?;
    (latest / found > 1.002).then(|| Duration::from_secs_f64(*found))
}

/// Returns true if a common window may have ended between the bounds, or close to them.
pub(super) fn is_near_common_window(earliest: Duration, latest: Duration) -> bool {
    let near = earliest.as_secs_f64() * (1.0 - WINDOW_TOLERANCE)
        ..=latest.as_secs_f64() * (1.0 + WINDOW_TOLERANCE);
    COMMON_WINDOWS_SECS.iter().any(|secs| near.contains(secs))
}

/// Returns the multiple of a common window that ended between the bounds, if any.
pub(super) fn window_multiple(
    window: Duration,
    earliest: Duration,
    latest: Duration,
) -> Option<Duration> {
    let window = window.as_secs_f64();
    let multiple = (latest.as_secs_f64() / window).floor() * window;
    let is_between = multiple > earliest.as_secs_f64() && COMMON_WINDOWS_SECS.contains(&window);
    is_between.then(|| Duration::from_secs_f64(multiple))
}

/// Returns the factor to apply to an estimate whose window is known.
pub(crate) fn safety_factor(window: Duration) -> f64 {
    1.0 - (RESPONSE_JITTER_SECS / window.as_secs_f64()).clamp(0.005, 1.0 - SAFETY_FACTOR)
}

/// Returns the lowest rate between the two that `burst` units have in one of the common windows.
pub(super) fn next_candidate_rate(burst: f64, good: Rate, bad: Rate) -> Option<Rate> {
    let is_between = |rate: &Rate| is_rate_between(*rate, good, bad);
    COMMON_WINDOWS_SECS.iter().rev().map(|secs| rate_for_window(burst, *secs)).find(is_between)
}

/// Returns the likeliest rate between the two that `burst` units have in a common window, if one is
/// worth an immediate try.
pub(super) fn search_candidate_rate(burst: f64, good: Rate, bad: Rate) -> Option<Rate> {
    let is_between = |rate: &Rate| is_rate_between(*rate, good, bad);
    SEARCH_WINDOWS_SECS.iter().map(|secs| rate_for_window(burst, *secs)).find(is_between)
}

fn is_rate_between(rate: Rate, good: Rate, bad: Rate) -> bool {
    rate.get() > good.get() * 1.1 && rate.get() < bad.get() * 0.95
}

/// Returns the common window in which `burst` units have this rate.
pub(super) fn window_for_rate(burst: f64, rate: Rate) -> Option<Duration> {
    let is_match =
        |secs: &&f64| (rate_for_window(burst, **secs).get() / rate.get() - 1.0).abs() < 1e-9;
    COMMON_WINDOWS_SECS.iter().find(is_match).map(|secs| Duration::from_secs_f64(*secs))
}

fn rate_for_window(burst: f64, window_secs: f64) -> Rate {
    Rate::per_second(burst / window_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_window_within_the_bounds_is_chosen() {
        let seconds = Duration::from_secs;
        assert_eq!(window_between(seconds(3450), seconds(3750)), Some(seconds(3600)));
        assert_eq!(
            window_between(seconds(3610), seconds(3750)),
            None,
            "no common window lies between"
        );
        assert_eq!(window_between(seconds(50), seconds(60)), None, "the bounds are close together");
    }

    #[test]
    fn a_lock_out_matches_no_common_window() {
        let seconds = Duration::from_secs;
        assert!(is_near_common_window(seconds(3450), seconds(3750)));
        assert!(is_near_common_window(seconds(3601), seconds(3602)), "a response came late");
        assert!(
            !is_near_common_window(seconds(1831), seconds(1831)),
            "half an hour after the first throttle"
        );
        assert!(!is_near_common_window(seconds(3700), seconds(4630)));
    }

    #[test]
    fn a_multiple_of_a_common_window_may_fit_the_bounds() {
        let seconds = Duration::from_secs;
        assert_eq!(window_multiple(seconds(10), seconds(35), seconds(42)), Some(seconds(40)));
        assert_eq!(
            window_multiple(seconds(10), seconds(31), seconds(38)),
            None,
            "no multiple lies between"
        );
        assert_eq!(
            window_multiple(seconds(11), seconds(30), seconds(38)),
            None,
            "not a common window"
        );
    }

    #[test]
    fn a_minute_is_tried_first_and_longer_windows_last() {
        let (good, bad) = (Rate::per_second(0.03), Rate::per_second(100.0));
        let candidate_window_secs = |bad| {
            search_candidate_rate(19.0, good, bad)
                .and_then(|rate| window_for_rate(19.0, rate))
                .map(|window| window.as_secs())
        };

        assert_eq!(candidate_window_secs(bad), Some(60));
        assert_eq!(candidate_window_secs(rate_for_window(19.0, 60.0)), Some(300));
        assert_eq!(candidate_window_secs(rate_for_window(19.0, 300.0)), None);
        let good = rate_for_window(19.0, 60.0);
        assert_eq!(search_candidate_rate(19.0, good, bad), Some(rate_for_window(19.0, 30.0)));
    }

    #[test]
    fn candidate_rates_stay_below_the_throttled_one() {
        let (good, bad) = (Rate::per_second(0.06), Rate::per_second(100.0));

        let next = next_candidate_rate(19.0, good, bad).unwrap();

        assert_eq!(next.to_string(), "19/min");
        assert_eq!(window_for_rate(19.0, next), Some(Duration::from_secs(60)));
        assert_eq!(next_candidate_rate(19.0, good, next), None);
    }
}
