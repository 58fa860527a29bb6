//! The monitor's looks at the health of everything, and the one who delivers what comes of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::cli::alert::in_runtime;
use crate::cli::exit::Exit;
use crate::cli::place::Ground;
use crate::cli::trouble::Trouble;
use crate::cli::watching::{look, post};
use crate::engine::alert::{AlertCondition, AlertKey, Severity};
use crate::engine::watch::{Finding, HealthLevel};
use crate::engine::{Failure, Timestamp};
use crate::monitor::{
    AlertDelivery, AlertDispatcher, Collectors, CycleResult, DeliveryAttempt, UnitEvaluation,
};
use crate::worker::{Env, RealEnv};

/// How often people are told that nothing can be written down.
const CRY_AGAIN: Duration = Duration::from_secs(3_600);

/// Looks at the health of everything, less often than at unit and sources.
#[derive(Debug)]
pub(super) struct Health {
    gatherers: Arc<Collectors>,
    postman: AlertDispatcher,
    last: Option<Timestamp>,
    /// What was found of unit and sources at the last look.
    known: Vec<(String, HealthLevel, &'static str)>,
    muteness: Arc<Muteness>,
}

/// Nothing can be written down, and so nothing else be told than that.
#[derive(Debug, Default)]
struct Muteness(Mutex<Muted>);

#[derive(Debug, Default)]
struct Muted {
    /// Nothing could be written down the last time.
    is_mute: bool,
    /// It stays when something can be: a disk that comes and goes is told of no oftener.
    cried_at: Option<Timestamp>,
}

/// What is to be said of it.
#[derive(Debug, Eq, PartialEq)]
enum Say {
    Nothing,
    /// To people.
    Cry,
    /// To the journal, at most.
    Still,
    /// To the journal: it is over.
    Over,
}

impl Health {
    /// Begins to deliver.
    ///
    /// # Errors
    /// When no thread can be had for it.
    pub(super) fn start(ground: &Ground) -> Result<Self, Trouble> {
        let postman = AlertDispatcher::start(post(ground), || RealEnv.now());
        let postman = postman.map_err(|error| {
            Trouble::new(Exit::Other, format!("cannot start to deliver alerts: {error}"))
        })?;
        let (gatherers, muteness) = (Arc::default(), Arc::default());
        Ok(Self { gatherers, postman, last: None, known: Vec::new(), muteness })
    }

    /// When its time has come, and when something about unit or sources is new.
    pub(super) fn is_due(&self, round: &CycleResult, ground: &Ground, now: Timestamp) -> bool {
        let interval = ground.loaded.settings.restart.health_check_interval;
        let is_time = self.last.is_none_or(|last| now < last || now >= last.after(interval));
        is_time || self.known != known(round)
    }

    /// Looks, publishes and has people told, away from the loop.
    ///
    /// # Errors
    /// When the unit's name cannot be one.
    pub(super) fn look(
        &mut self,
        ground: &Ground,
        round: &CycleResult,
        clock_kept: Duration,
        now: Timestamp,
    ) -> Result<impl Future<Output = ()> + use<>, Trouble> {
        (self.last, self.known) = (Some(now), known(round));
        let (look, post) = (look(ground, clock_kept)?, post(ground));
        let (gatherers, findings) = (
            Arc::clone(&self.gatherers),
            UnitEvaluation::all_findings(&round.units).cloned().collect(),
        );
        let muteness = Arc::clone(&self.muteness);
        Ok(RealEnv.spawn_blocking(move || {
            let seen = look.evaluate(&gatherers, findings, now);
            let published = look.publish(&seen, now);
            // People are told even where it cannot be published.
            let told = look.notify(&seen, &post, now).map(drop);
            let written = published.and(told);
            match (muteness.note(written.is_ok(), now), written) {
                (Say::Cry, Err(failure)) => cry(post, &failure, now),
                (Say::Still, Err(failure)) => {
                    debug!(cause = %failure.cause, "still nothing can be written down: {failure}");
                }
                (Say::Over, _) => info!("what is found can be written down again"),
                (Say::Nothing | Say::Cry | Say::Still, _) => {}
            }
        }))
    }

    /// Delivers what there is now, as the configuration now says.
    pub(super) fn deliver(&mut self, ground: &Ground) {
        self.postman.dispatch(post(ground));
    }
}

impl Muteness {
    /// Takes in whether something could be written down, and says what is to be said of it.
    fn note(&self, is_written: bool, now: Timestamp) -> Say {
        // A look that panicked left it whole: it is two values that are set together.
        let mut muted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_mute = std::mem::replace(&mut muted.is_mute, !is_written);
        if is_written {
            return if was_mute { Say::Over } else { Say::Nothing };
        }
        // A clock that was set back must not keep it from being told.
        let is_recent = |cried: Timestamp| cried <= now && now.since(cried) < CRY_AGAIN;
        if muted.cried_at.is_some_and(is_recent) {
            return Say::Still;
        }
        muted.cried_at = Some(now);
        Say::Cry
    }
}

/// Tells that nothing can be written down, on a thread of its own, since nobody is to wait for it.
fn cry(post: AlertDelivery, failure: &Failure, now: Timestamp) {
    let concern = AlertCondition {
        key: AlertKey::new("monitor", "cannot_write"),
        subject: post.state_dir.display().to_string(),
        severity: Severity::Critical,
        message: format!("nothing else can be told, since nothing can be written down: {failure}"),
        advice: Some("see whether the disk is full, read-only or failing: `dmesg`".to_owned()),
    };
    thread::spawn(move || {
        let tried = in_runtime(post.send_immediately(concern, now)).unwrap_or_default();
        for DeliveryAttempt { channel, outcome } in tried {
            if let Err(why) = outcome {
                warn!(channel, "alert not delivered, and not tried again: {why}");
            }
        }
    });
}

fn known(round: &CycleResult) -> Vec<(String, HealthLevel, &'static str)> {
    let known =
        |finding: &Finding| (finding.subject.name().to_owned(), finding.level, finding.kind.name());
    UnitEvaluation::all_findings(&round.units).map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_772_874_303_000);

    fn later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    #[test]
    fn people_are_told_once_an_hour_as_long_as_it_lasts() {
        let muteness = Muteness::default();

        assert_eq!(muteness.note(false, NOW), Say::Cry);
        assert_eq!(muteness.note(false, later(60)), Say::Still);
        assert_eq!(muteness.note(false, later(3_599)), Say::Still);
        assert_eq!(muteness.note(false, later(3_600)), Say::Cry);
        assert_eq!(muteness.note(false, later(3_601)), Say::Still);
    }

    #[test]
    fn a_disk_that_comes_and_goes_is_told_of_no_oftener() {
        let muteness = Muteness::default();
        assert_eq!(muteness.note(false, NOW), Say::Cry);

        assert_eq!(muteness.note(true, later(60)), Say::Over);
        assert_eq!(muteness.note(true, later(120)), Say::Nothing);
        assert_eq!(muteness.note(false, later(180)), Say::Still);
        assert_eq!(muteness.note(true, later(240)), Say::Over);
        assert_eq!(muteness.note(false, later(3_600)), Say::Cry);
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nothing() {
        let muteness = Muteness::default();
        assert_eq!(muteness.note(false, later(86_400)), Say::Cry);

        assert_eq!(muteness.note(false, NOW), Say::Cry);
        assert_eq!(muteness.note(false, later(60)), Say::Still);
    }
}
