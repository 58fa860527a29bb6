//! The monitor's looks at the health of everything, and the one who delivers what comes of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::cli::alert::block_on_new_runtime;
use crate::cli::context::AppContext;
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::monitoring::{alert_delivery, health_evaluation};
use crate::engine::alert::{AlertCondition, AlertKey, Severity};
use crate::engine::watch::{Finding, HealthLevel};
use crate::engine::{Failure, Timestamp};
use crate::monitor::{
    AlertDelivery, AlertDispatcher, Collectors, CycleResult, DeliveryAttempt, UnitEvaluation,
};
use crate::worker::{Env, RealEnv};

/// How often people are told that nothing can be written down.
const ALARM_REPEAT_INTERVAL: Duration = Duration::from_secs(3_600);

/// Looks at the health of everything, less often than at unit and sources.
#[derive(Debug)]
pub(super) struct HealthTask {
    collectors: Arc<Collectors>,
    dispatcher: AlertDispatcher,
    last_run: Option<Timestamp>,
    /// What was found of unit and sources at the last look.
    last_findings: Vec<(String, HealthLevel, &'static str)>,
    persistence_alarm: Arc<PersistenceAlarm>,
}

/// Nothing can be written down, and so nothing else be told than that.
#[derive(Debug, Default)]
struct PersistenceAlarm(Mutex<AlarmState>);

#[derive(Debug, Default)]
struct AlarmState {
    /// Nothing could be written down the last time.
    is_failing: bool,
    /// It stays when something can be: a disk that comes and goes is told of no oftener.
    last_alarm_at: Option<Timestamp>,
}

/// What is to be said of it.
#[derive(Debug, Eq, PartialEq)]
enum AlarmAction {
    None,
    /// To people.
    Send,
    /// To the journal, at most.
    LogOnly,
    /// To the journal: it is over.
    LogRecovery,
}

impl HealthTask {
    /// Begins to deliver.
    ///
    /// # Errors
    /// When no thread can be had for it.
    pub(super) fn start(ground: &AppContext) -> Result<Self, CliError> {
        let postman = AlertDispatcher::start(alert_delivery(ground), || RealEnv.now());
        let postman = postman.map_err(|error| {
            CliError::new(ProgramExit::Other, format!("cannot start to deliver alerts: {error}"))
        })?;
        let (gatherers, muteness) = (Arc::default(), Arc::default());
        Ok(Self {
            collectors: gatherers,
            dispatcher: postman,
            last_run: None,
            last_findings: Vec::new(),
            persistence_alarm: muteness,
        })
    }

    /// When its time has come, and when something about unit or sources is new.
    pub(super) fn is_due(&self, round: &CycleResult, ground: &AppContext, now: Timestamp) -> bool {
        let interval = ground.loaded.settings.restart.health_check_interval;
        let is_time = self.last_run.is_none_or(|last| now < last || now >= last.after(interval));
        is_time || self.last_findings != finding_keys(round)
    }

    /// Looks, publishes and has people told, away from the loop.
    ///
    /// # Errors
    /// When the unit's name cannot be one.
    pub(super) fn evaluate(
        &mut self,
        ground: &AppContext,
        round: &CycleResult,
        clock_kept: Duration,
        now: Timestamp,
    ) -> Result<impl Future<Output = ()> + use<>, CliError> {
        (self.last_run, self.last_findings) = (Some(now), finding_keys(round));
        let (look, post) = (health_evaluation(ground, clock_kept)?, alert_delivery(ground));
        let (gatherers, findings) = (
            Arc::clone(&self.collectors),
            UnitEvaluation::all_findings(&round.units).cloned().collect(),
        );
        let muteness = Arc::clone(&self.persistence_alarm);
        Ok(RealEnv.spawn_blocking(move || {
            let seen = look.evaluate(&gatherers, findings, now);
            let published = look.publish(&seen, now);
            // People are told even where it cannot be published.
            let told = look.notify(&seen, &post, now).map(drop);
            let written = published.and(told);
            match (muteness.update(written.is_ok(), now), written) {
                (AlarmAction::Send, Err(failure)) => send_alarm(post, &failure, now),
                (AlarmAction::LogOnly, Err(failure)) => {
                    debug!(cause = %failure.cause, "still nothing can be written down: {failure}");
                }
                (AlarmAction::LogRecovery, _) => info!("what is found can be written down again"),
                (AlarmAction::None | AlarmAction::Send | AlarmAction::LogOnly, _) => {}
            }
        }))
    }

    /// Delivers what there is now, as the configuration now says.
    pub(super) fn deliver(&mut self, ground: &AppContext) {
        self.dispatcher.dispatch(alert_delivery(ground));
    }
}

impl PersistenceAlarm {
    /// Takes in whether something could be written down, and says what is to be said of it.
    fn update(&self, is_written: bool, now: Timestamp) -> AlarmAction {
        // A look that panicked left it whole: it is two values that are set together.
        let mut muted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_mute = std::mem::replace(&mut muted.is_failing, !is_written);
        if is_written {
            return if was_mute { AlarmAction::LogRecovery } else { AlarmAction::None };
        }
        // A clock that was set back must not keep it from being told.
        let is_recent = |cried: Timestamp| cried <= now && now.since(cried) < ALARM_REPEAT_INTERVAL;
        if muted.last_alarm_at.is_some_and(is_recent) {
            return AlarmAction::LogOnly;
        }
        muted.last_alarm_at = Some(now);
        AlarmAction::Send
    }
}

/// Tells that nothing can be written down, on a thread of its own, since nobody is to wait for it.
fn send_alarm(post: AlertDelivery, failure: &Failure, now: Timestamp) {
    let concern = AlertCondition {
        key: AlertKey::new("monitor", "cannot_write"),
        subject: post.state_dir.display().to_string(),
        severity: Severity::Critical,
        message: format!("nothing else can be told, since nothing can be written down: {failure}"),
        advice: Some("see whether the disk is full, read-only or failing: `dmesg`".to_owned()),
    };
    thread::spawn(move || {
        let tried = block_on_new_runtime(post.send_immediately(concern, now)).unwrap_or_default();
        for DeliveryAttempt { channel, outcome } in tried {
            if let Err(why) = outcome {
                warn!(channel, "alert not delivered, and not tried again: {why}");
            }
        }
    });
}

fn finding_keys(round: &CycleResult) -> Vec<(String, HealthLevel, &'static str)> {
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
    fn the_alarm_is_sent_once_an_hour_while_writes_fail() {
        let muteness = PersistenceAlarm::default();

        assert_eq!(muteness.update(false, NOW), AlarmAction::Send);
        assert_eq!(muteness.update(false, later(60)), AlarmAction::LogOnly);
        assert_eq!(muteness.update(false, later(3_599)), AlarmAction::LogOnly);
        assert_eq!(muteness.update(false, later(3_600)), AlarmAction::Send);
        assert_eq!(muteness.update(false, later(3_601)), AlarmAction::LogOnly);
    }

    #[test]
    fn an_intermittent_failure_is_alarmed_no_more_often() {
        let muteness = PersistenceAlarm::default();
        assert_eq!(muteness.update(false, NOW), AlarmAction::Send);

        assert_eq!(muteness.update(true, later(60)), AlarmAction::LogRecovery);
        assert_eq!(muteness.update(true, later(120)), AlarmAction::None);
        assert_eq!(muteness.update(false, later(180)), AlarmAction::LogOnly);
        assert_eq!(muteness.update(true, later(240)), AlarmAction::LogRecovery);
        assert_eq!(muteness.update(false, later(3_600)), AlarmAction::Send);
    }

    #[test]
    fn a_backward_clock_step_does_not_suppress_the_alarm() {
        let muteness = PersistenceAlarm::default();
        assert_eq!(muteness.update(false, later(86_400)), AlarmAction::Send);

        assert_eq!(muteness.update(false, NOW), AlarmAction::Send);
        assert_eq!(muteness.update(false, later(60)), AlarmAction::LogOnly);
    }
}
