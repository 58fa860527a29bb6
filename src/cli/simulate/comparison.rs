//! What the difference between two policies means, in a sentence or two.

use std::cmp::Ordering;
use std::time::Duration;

use crate::cli::simulate::report::{PolicyResult, SimulationReport, format_percent};
use crate::human::{format_count, format_duration};
use crate::simulate::{SimulationResult, StopCondition};

/// Differences in speed below this share are chance.
const SPEED_TOLERANCE: f64 = 0.02;

/// Says how the first policy did beside the second, and what follows from it.
#[must_use]
pub(super) fn compare(report: &SimulationReport) -> String {
    let [ours, theirs] = &report.results;
    if ours.name == theirs.name {
        return format!("Both are {}: name another policy with --against.", ours.name);
    }
    let speed = compare_speed(&ours.result, &theirs.result);
    let done = match report.scenario.stop_condition {
        StopCondition::Requests(_) => compare_times(ours, theirs, speed),
        StopCondition::Elapsed(_) => compare_shares(ours, theirs),
    };
    let told = compare_throttling(ours, theirs);
    format!("{done}{told}. {}", recommendation(ours, theirs, speed))
}

/// Whether the first is faster (`Greater`), slower or alike.
fn compare_speed(ours: &SimulationResult, theirs: &SimulationResult) -> Ordering {
    let speed = |outcome: &SimulationResult| {
        #[expect(clippy::cast_precision_loss, reason = "a comparison to the per cent")]
        let accepted = outcome.accepted as f64;
        accepted / outcome.duration.as_secs_f64().max(1e-3)
    };
    if ours.is_finished != theirs.is_finished {
        return ours.is_finished.cmp(&theirs.is_finished);
    }
    let (ours, theirs) = (speed(ours), speed(theirs));
    if (ours - theirs).abs() <= SPEED_TOLERANCE * ours.max(theirs) {
        Ordering::Equal
    } else {
        ours.total_cmp(&theirs)
    }
}

fn compare_times(ours: &PolicyResult, theirs: &PolicyResult, speed: Ordering) -> String {
    let (name, other) = (&ours.name, &theirs.name);
    let apart = format_duration(Duration::abs_diff(ours.result.duration, theirs.result.duration));
    match (ours.result.is_finished, theirs.result.is_finished, speed) {
        (true, true, Ordering::Equal) => format!("{name} takes as long as {other}"),
        (true, true, Ordering::Greater) => format!("{name} is done {apart} sooner than {other}"),
        (true, true, Ordering::Less) => format!("{name} is done {apart} later than {other}"),
        (true, false, _) => format!("{name} gets done, {other} never"),
        (false, true, _) => format!("{name} never gets done, {other} does"),
        (false, false, _) => format!("Neither gets done: {}", compare_shares(ours, theirs)),
    }
}

fn compare_shares(ours: &PolicyResult, theirs: &PolicyResult) -> String {
    let [got, other_got] = [ours, theirs].map(|run| format_percent(run.result.utilization));
    format!("{} gets {got} of the quota, {} {other_got}", ours.name, theirs.name)
}

/// How often each was told off, and asked a server that was down.
fn compare_throttling(ours: &PolicyResult, theirs: &PolicyResult) -> String {
    let other = &theirs.name;
    let (mine, others) = (ours.result.throttled, theirs.result.throttled);
    let mut told = match (mine, others) {
        (0, 0) => "; neither is ever told to slow down".to_owned(),
        (0, others) => format!("; it is never told to slow down, {other} {}", format_times(others)),
        (mine, others) => {
            format!(
                "; it is told to slow down {}, {other} {}",
                format_times(mine),
                format_times(others)
            )
        }
    };
    let (mine, others) = (ours.result.requests_during_outage, theirs.result.requests_during_outage);
    if log2_bucket(mine) != log2_bucket(others) {
        told.push_str(&format!(
            ", and asks a server that is down {}, {other} {}",
            format_times(mine),
            format_times(others)
        ));
    }
    told
}

/// What to do about it.
fn recommendation(ours: &PolicyResult, theirs: &PolicyResult, speed: Ordering) -> String {
    let (name, other) = (&ours.name, &theirs.name);
    let insistence = request_pressure(&ours.result).cmp(&request_pressure(&theirs.result));
    match (speed, insistence) {
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

/// The slower one insists less, and servers take note of who insists.
fn trade_off(patient: &str) -> String {
    format!(
        "The slower one is the better guest: many servers lock out who goes on asking. Take \
         {patient} unless you know that this one does not."
    )
}

/// How much a client insists, in steps that matter: its 429s and vain requests to a thousand that are accepted.
fn request_pressure(outcome: &SimulationResult) -> u32 {
    let vain = outcome.throttled + outcome.requests_during_outage;
    log2_bucket(vain.saturating_mul(1000) / outcome.accepted.max(1))
}

/// Numbers of one power of two are alike.
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
    use crate::simulate::Scenario;

    /// What is said of two policies by their minutes and 429s; no minutes: it never got done.
    fn comparison_of(mailbox: &str, runs: [(u64, u64); 2]) -> String {
        let text = format!(
            "about = \"x\"\n[server]\nheaders = \"none\"\n[limit]\nkind = \"fixed-window\"\n\
             quota = 600\nwindow = \"1m\"\n[mailbox]\n{mailbox}\n"
        );
        let rehearsal = |name: &str, (minutes, throttled): (u64, u64)| {
            let is_finished = minutes > 0;
            let took = Duration::from_secs(60 * if is_finished { minutes } else { 1000 });
            let accepted = if is_finished { 20_000 } else { 100 * (throttled + 1) };
            let share = if is_finished { 33.0 / minutes as f64 } else { 0.01 };
            let outcome = SimulationResult {
                accepted,
                throttled,
                duration: took,
                is_finished,
                utilization: share,
                ..SimulationResult::default()
            };
            PolicyResult { name: name.to_owned(), workers: 8, result: outcome }
        };
        compare(&SimulationReport {
            name: "x".to_owned(),
            scenario: Scenario::parse(Path::new("x.toml"), &text).unwrap(),
            notes: Vec::new(),
            results: [rehearsal("follow", runs[0]), rehearsal("backoff", runs[1])],
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
        let said = cases.map(|runs| comparison_of("requests = 20000", runs));

        insta::assert_snapshot!(said.join("\n"), @r#"
            follow takes as long as backoff; neither is ever told to slow down. Against such a server it makes no difference which you take.
            follow takes as long as backoff; it is never told to slow down, backoff 9,000 times. Against such a server follow is the better choice.
            follow is done 16 min sooner than backoff; it is told to slow down once, backoff 9,000 times. Against such a server follow is the better choice.
            follow is done 16 min later than backoff; it is never told to slow down, backoff 9,000 times. The slower one is the better guest: many servers lock out who goes on asking. Take follow unless you know that this one does not.
            follow is done 16 min sooner than backoff; it is told to slow down 9,000 times, backoff once. The slower one is the better guest: many servers lock out who goes on asking. Take backoff unless you know that this one does not.
            follow is done 16 min later than backoff; it is told to slow down 9,000 times, backoff once. Against such a server backoff is the better choice.
            follow gets done, backoff never; it is never told to slow down, backoff 9,000 times. Against such a server follow is the better choice.
            follow never gets done, backoff does; it is told to slow down 9 times, backoff 9 times. Against such a server backoff is the better choice.
            Neither gets done: follow gets 1 % of the quota, backoff 1 %; it is told to slow down 9 times, backoff 9 times. Against such a server it makes no difference which you take.
            "#);
    }

    #[test]
    fn with_a_fixed_duration_the_quota_share_is_compared() {
        insta::assert_snapshot!(comparison_of("lasts = \"1h\"", [(40, 2), (66, 9000)]), @r#"
            follow gets 82.5 % of the quota, backoff 50 %; it is told to slow down 2 times, backoff 9,000 times. Against such a server follow is the better choice.
            "#);
    }
}
