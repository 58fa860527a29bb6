//! Comparison of two simulated policies, as text with a recommendation.

use std::cmp::Ordering;
use std::time::Duration;

use cynosure_engine::{format_count, format_duration};
use cynosure_lab::simulate::{SimulationResult, StopCondition};

use crate::cli::commands::simulate::report::{PolicyResult, SimulationReport, format_quota_share};
use crate::human::pluralize;

/// Relative difference in speed up to which two policies count as equally fast.
const SPEED_TOLERANCE: f64 = 0.02;

/// Compares the first policy with the second, and recommends one.
#[must_use]
pub(super) fn compare(report: &SimulationReport) -> String {
    let [first, second] = &report.results;
    if first.name == second.name {
        return format!("Both policies are {}: choose another one with --against.", first.name);
    }
    let speed = compare_speed(&first.result, &second.result);
    let outcome = match report.scenario.stop_condition {
        StopCondition::Requests(_) => compare_times(first, second, speed),
        StopCondition::Elapsed(_) => compare_shares(first, second),
    };
    let throttling = compare_throttling(first, second);
    format!("{outcome}{throttling}. {}", recommendation(first, second, speed))
}

/// Returns `Greater` if the first policy is faster, and `Equal` within the tolerance.
fn compare_speed(first: &SimulationResult, second: &SimulationResult) -> Ordering {
    let speed = |result: &SimulationResult| {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a comparison within 2 % needs less precision"
        )]
        let accepted = result.accepted as f64;
        accepted / result.duration.as_secs_f64().max(1e-3)
    };
    if first.is_finished != second.is_finished {
        return first.is_finished.cmp(&second.is_finished);
    }
    let (first, second) = (speed(first), speed(second));
    if (first - second).abs() <= SPEED_TOLERANCE * first.max(second) {
        Ordering::Equal
    } else {
        first.total_cmp(&second)
    }
}

fn compare_times(first: &PolicyResult, second: &PolicyResult, speed: Ordering) -> String {
    let (name, other) = (&first.name, &second.name);
    let difference =
        format_duration(Duration::abs_diff(first.result.duration, second.result.duration));
    match (first.result.is_finished, second.result.is_finished, speed) {
        (true, true, Ordering::Equal) => format!("{name} takes as long as {other}"),
        (true, true, Ordering::Greater) => {
            format!("{name} finishes {difference} sooner than {other}")
        }
        (true, true, Ordering::Less) => format!("{name} finishes {difference} later than {other}"),
        (true, false, _) => format!("{name} finishes, {other} does not"),
        (false, true, _) => format!("{name} does not finish, {other} does"),
        (false, false, _) => format!("Neither finishes: {}", compare_shares(first, second)),
    }
}

fn compare_shares(first: &PolicyResult, second: &PolicyResult) -> String {
    let [share, other_share] =
        [first, second].map(|policy| format_quota_share(policy.result.utilization));
    format!("{} gets {share} of the quota, {} {other_share}", first.name, second.name)
}

/// Compares the numbers of 429s, and those of requests during outages if their
/// [buckets](log2_bucket) differ.
fn compare_throttling(first: &PolicyResult, second: &PolicyResult) -> String {
    let other = &second.name;
    let (count, other_count) = (first.result.throttled, second.result.throttled);
    let mut text = match (count, other_count) {
        (0, 0) => "; neither is ever throttled".to_owned(),
        (0, other_count) => {
            format!("; it is never throttled, {other} {}", format_times(other_count))
        }
        (count, other_count) => {
            format!(
                "; it is throttled {}, {other} {}",
                format_times(count),
                format_times(other_count)
            )
        }
    };
    let (count, other_count) =
        (first.result.requests_during_outage, second.result.requests_during_outage);
    if log2_bucket(count) != log2_bucket(other_count) {
        text.push_str(&format!(
            ", and it sends {} during outages, {other} {}",
            pluralize(count, "request"),
            format_count(other_count)
        ));
    }
    text
}

/// Recommends a policy by speed and request pressure.
fn recommendation(first: &PolicyResult, second: &PolicyResult, speed: Ordering) -> String {
    let (name, other) = (&first.name, &second.name);
    let pressure = request_pressure(&first.result).cmp(&request_pressure(&second.result));
    match (speed, pressure) {
        (Ordering::Equal, Ordering::Equal) => {
            "Against such a server it makes no difference which you take.".to_owned()
        }
        (Ordering::Greater, Ordering::Less | Ordering::Equal)
        | (Ordering::Equal, Ordering::Less) => {
            format!("Against such a server {name} is the better choice.")
        }
        (Ordering::Less, Ordering::Greater | Ordering::Equal)
        | (Ordering::Equal, Ordering::Greater) => {
            format!("Against such a server {other} is the better choice.")
        }
        (Ordering::Less, Ordering::Less) => trade_off(name),
        (Ordering::Greater, Ordering::Greater) => trade_off(other),
    }
}

/// Recommends the slower policy, because it sends fewer rejected requests.
fn trade_off(slower: &str) -> String {
    format!(
        "The slower one sends fewer requests that are rejected, and many servers lock out clients \
         that keep sending. Choose {slower}, unless you know that this server does not."
    )
}

/// Returns the number of 429s and requests during outages per 1000 accepted ones, as a
/// [bucket](log2_bucket).
fn request_pressure(result: &SimulationResult) -> u32 {
    let rejected = result.throttled + result.requests_during_outage;
    log2_bucket(rejected.saturating_mul(1000) / result.accepted.max(1))
}

/// Returns the number of binary digits. Numbers with the same result count as about equal.
fn log2_bucket(number: u64) -> u32 {
    number.checked_ilog2().map_or(0, |log| log + 1)
}

fn format_times(number: u64) -> String {
    match number {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        number => format!("{} times", format_count(number)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::commands::simulate::scenario_file::parse_scenario;

    /// Returns the comparison of two policies by their minutes and 429s. 0 minutes: not finished.
    fn comparison_of(mailbox: &str, counts: [(u64, u64); 2]) -> String {
        let text = format!(
            "about = \"x\"\n[server]\nheaders = \"none\"\n[limit]\nkind = \"fixed-window\"\n\
             quota = 600\nwindow = \"1m\"\n[mailbox]\n{mailbox}\n"
        );
        let policy_result = |name: &str, (minutes, throttled): (u64, u64)| {
            let is_finished = minutes > 0;
            let duration = Duration::from_secs(60 * if is_finished { minutes } else { 1000 });
            let accepted = if is_finished { 20_000 } else { 100 * (throttled + 1) };
            let utilization = if is_finished { 33.0 / minutes as f64 } else { 0.01 };
            let result = SimulationResult {
                accepted,
                throttled,
                duration,
                is_finished,
                utilization,
                ..SimulationResult::default()
            };
            PolicyResult { name: name.to_owned(), workers: 8, result }
        };
        compare(&SimulationReport {
            name: "x".to_owned(),
            scenario: parse_scenario(Path::new("x.toml"), &text).unwrap(),
            notes: Vec::new(),
            results: [policy_result("follow", counts[0]), policy_result("backoff", counts[1])],
            sample_interval: Duration::from_secs(1),
        })
    }

    #[test]
    fn every_difference_has_its_sentence() {
        let cases = [
            [(34, 0), (34, 0)],
            [(34, 0), (34, 9000)],
            [(34, 1), (50, 9000)],
            [(50, 0), (34, 9000)],
            [(34, 9000), (50, 1)],
            [(50, 9000), (34, 1)],
            [(34, 0), (0, 9000)],
            [(0, 9), (34, 9)],
            [(0, 9), (0, 9)],
        ];
        let texts = cases.map(|counts| comparison_of("requests = 20000", counts));

        insta::assert_snapshot!(texts.join("\n"), @r#"
            follow takes as long as backoff; neither is ever throttled. Against such a server it makes no difference which you take.
            follow takes as long as backoff; it is never throttled, backoff 9,000 times. Against such a server follow is the better choice.
            follow finishes 16 min sooner than backoff; it is throttled once, backoff 9,000 times. Against such a server follow is the better choice.
            follow finishes 16 min later than backoff; it is never throttled, backoff 9,000 times. The slower one sends fewer requests that are rejected, and many servers lock out clients that keep sending. Choose follow, unless you know that this server does not.
            follow finishes 16 min sooner than backoff; it is throttled 9,000 times, backoff once. The slower one sends fewer requests that are rejected, and many servers lock out clients that keep sending. Choose backoff, unless you know that this server does not.
            follow finishes 16 min later than backoff; it is throttled 9,000 times, backoff once. Against such a server backoff is the better choice.
            follow finishes, backoff does not; it is never throttled, backoff 9,000 times. Against such a server follow is the better choice.
            follow does not finish, backoff does; it is throttled 9 times, backoff 9 times. Against such a server backoff is the better choice.
            Neither finishes: follow gets 1 % of the quota, backoff 1 %; it is throttled 9 times, backoff 9 times. Against such a server it makes no difference which you take.
            "#);
    }

    #[test]
    fn with_a_fixed_duration_the_quota_share_is_compared() {
        insta::assert_snapshot!(comparison_of("lasts = \"1h\"", [(40, 2), (66, 9000)]), @r#"
            follow gets 82.5 % of the quota, backoff 50 %; it is throttled 2 times, backoff 9,000 times. Against such a server follow is the better choice.
            "#);
    }
}
