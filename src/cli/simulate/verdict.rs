//! What the difference between two policies means, in a sentence or two.

use std::cmp::Ordering;
use std::time::Duration;

use crate::cli::simulate::report::{Rehearsal, Report, percent};
use crate::cli::words::{count, span};
use crate::simulate::{Bound, Outcome};

/// Differences in speed below this share are chance.
const ALIKE: f64 = 0.02;

/// So many 429s in a thousand requests are next to none.
const FEW_THROTTLES: u64 = 1000;

/// Says how the first policy did beside the second, and what follows from it.
#[must_use]
pub(super) fn verdict(report: &Report) -> String {
    let [
        Rehearsal { name, outcome: ours, .. },
        Rehearsal { name: other_name, outcome: theirs, .. },
    ] = &report.runs;
    if name == other_name {
        return format!("Both are {name}: name another policy with --against.");
    }
    let speed = compare_speed(ours, theirs);
    let said = match report.scenario.until {
        Bound::Requests(_) => by_time([name, other_name], [ours, theirs], speed),
        Bound::Lasting(_) => format!(
            "{name} gets {} of the quota, {other_name} {}",
            percent(ours.share),
            percent(theirs.share)
        ),
    };
    let throttles = match (ours.throttled, theirs.throttled) {
        (0, 0) => "; neither is ever told to slow down".to_owned(),
        (ours, theirs) => {
            format!(
                ", and is told to slow down {} where {other_name} is {}",
                times(ours),
                times(theirs)
            )
        }
    };
    let follows = what_follows([name, other_name], [ours, theirs], speed);
    format!("{said}{throttles}. {follows}")
}

/// Whether the first is faster (`Greater`), slower or alike.
fn compare_speed(ours: &Outcome, theirs: &Outcome) -> Ordering {
    let speed = |outcome: &Outcome| {
        #[expect(clippy::cast_precision_loss, reason = "a comparison to the per cent")]
        let accepted = outcome.accepted as f64;
        accepted / outcome.took.as_secs_f64().max(1e-3)
    };
    let (ours, theirs) = (speed(ours), speed(theirs));
    if (ours - theirs).abs() <= ALIKE * ours.max(theirs) {
        Ordering::Equal
    } else {
        ours.total_cmp(&theirs)
    }
}

fn by_time(names: [&String; 2], runs: [&Outcome; 2], speed: Ordering) -> String {
    let ([name, other_name], [ours, theirs]) = (names, runs);
    let apart = Duration::abs_diff(ours.took, theirs.took);
    match (ours.is_finished, theirs.is_finished, speed) {
        (true, true, Ordering::Equal) => format!("{name} takes as long as {other_name}"),
        (true, true, Ordering::Greater) => {
            format!("{name} is done {} sooner than {other_name}", span(apart))
        }
        (true, true, Ordering::Less) => {
            format!("{name} is done {} later than {other_name}", span(apart))
        }
        (true, false, _) => format!("{name} is done, and {other_name} never"),
        (false, true, _) => format!("{name} never gets done, though {other_name} does"),
        (false, false, _) => format!(
            "Neither gets done: {name} gets {} of the quota, {other_name} {}",
            percent(ours.share),
            percent(theirs.share)
        ),
    }
}

/// What to do about it.
fn what_follows(names: [&String; 2], runs: [&Outcome; 2], speed: Ordering) -> String {
    let ([name, other_name], [ours, theirs]) = (names, runs);
    match (speed, nuisance(ours).cmp(&nuisance(theirs))) {
        (Ordering::Equal, Ordering::Equal) => {
            "Against such a server it makes no difference which you take.".to_owned()
        }
        (Ordering::Greater, Ordering::Less | Ordering::Equal)
        | (Ordering::Equal, Ordering::Less) => {
            format!("Against such a server {name} is the better choice.")
        }
        (Ordering::Less, Ordering::Greater | Ordering::Equal)
        | (Ordering::Equal, Ordering::Greater) => {
            format!("Against such a server {other_name} is the better choice.")
        }
        (Ordering::Less, Ordering::Less) => format!(
            "That time is the price of not being a nuisance: servers lock out who goes on asking, \
             which this scenario does not. Take {name} unless you know this server does not mind."
        ),
        (Ordering::Greater, Ordering::Greater) => format!(
            "It is bought by asking too often: servers lock out who does, which this scenario does \
             not. Take {other_name} unless you know this server does not mind."
        ),
    }
}

/// How much a client is in a server's way, in steps that matter: 429s to a thousand requests.
fn nuisance(outcome: &Outcome) -> u32 {
    let per_thousand = outcome.throttled * FEW_THROTTLES / outcome.accepted.max(1);
    per_thousand.checked_ilog2().map_or(0, |log| log + 1)
}

fn times(number: u64) -> String {
    match number {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        number => format!("{} times", count(number)),
    }
}
