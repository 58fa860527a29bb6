//! Periodic health evaluation of the monitor, and the delivery of its alerts.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use cynosure_engine::health::{CheckKind, Finding, HealthLevel};
use cynosure_engine::{Failure, Timestamp};
use tracing::{debug, info, warn};

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::monitoring::{alert_delivery, build_health_evaluator};
use crate::app::runtime::block_on_new_runtime;
use crate::env::{Env, RealEnv};
use crate::monitor::{
    AlertDelivery, AlertDispatcher, Collectors, CycleResult, DeliveryAttempt, UnitEvaluation,
};

/// Shortest interval between two alarms that the state folder cannot be written.
const ALARM_REPEAT_INTERVAL: Duration = Duration::from_secs(3_600);

/// Task that evaluates the health of everything, less often than units and sources are checked.
#[derive(Debug)]
pub(super) struct HealthTask {
    collectors: Arc<Collectors>,
    dispatcher: AlertDispatcher,
    last_run: Option<Timestamp>,
    /// Findings about units and sources at the last evaluation.
    last_findings: Vec<(String, HealthLevel, String)>,
    persistence_alarm: Arc<PersistenceAlarm>,
}

/// Alarm that the state folder cannot be written. No other alert can be queued then, so this one
/// is sent without the queue.
#[derive(Debug, Default)]
struct PersistenceAlarm(Mutex<AlarmState>);

#[derive(Debug, Default)]
struct AlarmState {
    /// True if the last write failed.
    is_failing: bool,
    /// A successful write does not clear it, so that a disk that fails from time to time does not
    /// cause more alarms.
    last_alarm_at: Option<Timestamp>,
}

/// Reaction to the result of a write.
#[derive(Debug, Eq, PartialEq)]
enum AlarmAction {
    None,
    /// Send the alarm through the alert channels.
    Send,
    /// Log the failure at DEBUG.
    LogOnly,
    /// Log that writes succeed again.
    LogRecovery,
}

impl HealthTask {
    /// Starts the alert dispatcher.
    ///
    /// # Errors
    /// If its thread cannot be started.
    pub(super) fn start(context: &AppContext) -> Result<Self, ProgramError> {
        let dispatcher = AlertDispatcher::start(alert_delivery(context), || RealEnv.now());
        let dispatcher = dispatcher.map_err(|error| {
            let message = format!("cannot start the alert delivery thread: {error}");
            ProgramError::new(ProgramExit::Other, message)
        })?;
        Ok(Self {
            collectors: Arc::default(),
            dispatcher,
            last_run: None,
            last_findings: Vec::new(),
            persistence_alarm: Arc::default(),
        })
    }

    /// True if the interval has passed, or if the findings about units or sources have changed.
    pub(super) fn is_due(&self, cycle: &CycleResult, context: &AppContext, now: Timestamp) -> bool {
        let interval = context.loaded.settings.restart.health_check_interval;
        let has_interval_passed =
            self.last_run.is_none_or(|last| now < last || now >= last.after(interval));
        has_interval_passed || self.last_findings != finding_keys(cycle)
    }

    /// Evaluates the health, publishes the report and queues notifications, on a blocking thread.
    ///
    /// # Errors
    /// If the name of the unit is invalid.
    pub(super) fn evaluate(
        &mut self,
        context: &AppContext,
        cycle: &CycleResult,
        clock_stable_for: Duration,
        now: Timestamp,
    ) -> Result<impl Future<Output = ()> + use<>, ProgramError> {
        (self.last_run, self.last_findings) = (Some(now), finding_keys(cycle));
        let evaluator = build_health_evaluator(context, clock_stable_for)?;
        let delivery = alert_delivery(context);
        let (collectors, states) = (Arc::clone(&self.collectors), cycle.states.clone());
        let findings = UnitEvaluation::all_findings(&cycle.units).cloned().collect();
        let alarm = Arc::clone(&self.persistence_alarm);
        Ok(RealEnv.spawn_blocking(move || {
            let snapshot = evaluator.evaluate(&collectors, states, findings, now);
            let published = evaluator.publish(&snapshot, now);
            // Notifications are sent even if the report cannot be published.
            let notified = evaluator.notify(&snapshot, &delivery, now).map(drop);
            let written = published.and(notified);
            match (alarm.update(written.is_ok(), now), written) {
                (AlarmAction::Send, Err(failure)) => send_alarm(delivery, &failure, now),
                (AlarmAction::LogOnly, Err(failure)) => {
                    let cause = failure.cause;
                    debug!(%cause, error = %failure, "still cannot write to the state folder");
                }
                (AlarmAction::LogRecovery, _) => info!("the state folder can be written again"),
                (AlarmAction::None | AlarmAction::Send | AlarmAction::LogOnly, _) => {}
            }
        }))
    }

    /// Delivers the queued notifications, with the current configuration.
    pub(super) fn deliver(&mut self, context: &AppContext) {
        self.dispatcher.dispatch(alert_delivery(context));
    }
}

impl PersistenceAlarm {
    /// Records the result of a write, and returns the reaction to it.
    fn update(&self, is_written: bool, now: Timestamp) -> AlarmAction {
        // A panic while it is locked leaves the state consistent: its values are set together.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_failing = std::mem::replace(&mut state.is_failing, !is_written);
        if is_written {
            return if was_failing { AlarmAction::LogRecovery } else { AlarmAction::None };
        }
        // After a backward clock step the last alarm lies in the future, and must not suppress
        // this one.
        let is_recent = |last: Timestamp| last <= now && now.since(last) < ALARM_REPEAT_INTERVAL;
        if state.last_alarm_at.is_some_and(is_recent) {
            return AlarmAction::LogOnly;
        }
        state.last_alarm_at = Some(now);
        AlarmAction::Send
    }
}

/// Sends the alarm on a separate thread, because the monitor must not wait for the channels.
fn send_alarm(delivery: AlertDelivery, failure: &Failure, now: Timestamp) {
    let message = format!("cannot write the state folder, so no other alert is sent: {failure}");
    let level = HealthLevel::Critical;
    let finding = Finding::new(CheckKind::Monitor, "persistence_failed", level, message)
        .with_subject(delivery.state_dir.display().to_string())
        .with_advice("see whether the disk is full, read-only or failing: `dmesg`");
    thread::spawn(move || {
        let sending = delivery.send_immediately(finding, now);
        let attempts = block_on_new_runtime(sending).unwrap_or_default();
        for DeliveryAttempt { channel, outcome } in attempts {
            if let Err(error) = outcome {
                warn!(channel, %error, "alert not delivered, will not retry");
            }
        }
    });
}

fn finding_keys(cycle: &CycleResult) -> Vec<(String, HealthLevel, String)> {
    let key = |finding: &Finding| (finding.subject.clone(), finding.level, finding.kind.clone());
    UnitEvaluation::all_findings(&cycle.units).map(key).collect()
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
        let alarm = PersistenceAlarm::default();

        assert_eq!(alarm.update(false, NOW), AlarmAction::Send);
        assert_eq!(alarm.update(false, later(60)), AlarmAction::LogOnly);
        assert_eq!(alarm.update(false, later(3_599)), AlarmAction::LogOnly);
        assert_eq!(alarm.update(false, later(3_600)), AlarmAction::Send);
        assert_eq!(alarm.update(false, later(3_601)), AlarmAction::LogOnly);
    }

    #[test]
    fn an_intermittent_failure_sends_no_more_alarms() {
        let alarm = PersistenceAlarm::default();
        assert_eq!(alarm.update(false, NOW), AlarmAction::Send);

        assert_eq!(alarm.update(true, later(60)), AlarmAction::LogRecovery);
        assert_eq!(alarm.update(true, later(120)), AlarmAction::None);
        assert_eq!(alarm.update(false, later(180)), AlarmAction::LogOnly);
        assert_eq!(alarm.update(true, later(240)), AlarmAction::LogRecovery);
        assert_eq!(alarm.update(false, later(3_600)), AlarmAction::Send);
    }

    #[test]
    fn a_backward_clock_step_does_not_suppress_the_alarm() {
        let alarm = PersistenceAlarm::default();
        assert_eq!(alarm.update(false, later(86_400)), AlarmAction::Send);

        assert_eq!(alarm.update(false, NOW), AlarmAction::Send);
        assert_eq!(alarm.update(false, later(60)), AlarmAction::LogOnly);
    }
}
