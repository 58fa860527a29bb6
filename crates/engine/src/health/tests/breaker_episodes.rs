//! Tests of the notifications about a breaker, for any order of transitions and evaluations.

use proptest::prelude::*;

use super::*;
use crate::alert::{AlertStore, Notification, NotificationKind};
use crate::breaker::{
    Admission, Breaker, BreakerPermit, BreakerPolicy, CallSubject, ManualCommand, PersistedBreaker,
};
use crate::{Cause, Failure};

const NAME: &str = "example";
const HOUR: Duration = Duration::from_secs(3600);
const DAY: i64 = 86_400_000;

/// Breaker with the monitor's alert store.
struct BreakerScenario {
    breaker: Breaker,
    now: Timestamp,
    alerts: AlertStore,
    /// Start and end of its open periods.
    open_periods: Vec<(Timestamp, Option<Timestamp>)>,
}

#[derive(Clone, Debug)]
enum ScenarioEvent {
    /// Up to five calls fail or succeed, as long as they are admitted.
    Fail,
    Succeed,
    Command(ManualCommand),
    SessionFailed,
    Evaluate,
    /// The monitor restarts.
    RestartMonitor,
    /// The breaker's file is removed.
    DeleteFile,
}

impl BreakerScenario {
    /// Creates a scenario that has been evaluated once.
    fn new() -> Self {
        let breaker = Breaker::new(NAME, BreakerPolicy::DEFAULT, NOW);
        let mut scenario =
            Self { breaker, now: NOW, alerts: AlertStore::default(), open_periods: Vec::new() };
        assert_eq!(scenario.evaluate(), []);
        scenario
    }

    fn evaluate(&mut self) -> Vec<Notification> {
        let persisted: PersistedBreaker = self.breaker.to_persisted();
        let observed = BreakerObservation {
            name: NAME.to_owned(),
            state: self.breaker.state(),
            open_periods: persisted.open_periods(),
            reason: persisted
                .last_transition
                .map(|transition| transition.reason)
                .unwrap_or_default(),
        };
        let inputs = HealthInputs { breakers: Ok(vec![observed]), ..healthy_inputs() };
        let observation = correlate(&inputs, &evaluate(&inputs, &LIMITS, NOW));
        self.alerts.evaluate(&observation, self.now)
    }

    fn restart_monitor(&mut self) {
        let json = serde_json::to_string(&self.alerts).unwrap();
        self.alerts = serde_json::from_str(&json).unwrap();
    }

    fn advance(&mut self, pause: Duration) {
        self.now = self.now.after(pause);
    }

    fn fail_calls(&mut self) {
        let failure = Failure::new(Cause::Server, "503 from example");
        self.make_calls(|breaker, permit, now| {
            breaker.record_failure(permit, &CallSubject::Service, &failure, now)
        });
    }

    fn succeed_calls(&mut self) {
        self.make_calls(Breaker::record_success);
    }

    /// Makes five calls, as far as they are admitted.
    fn make_calls(
        &mut self,
        record: impl Fn(
            &mut Breaker,
            BreakerPermit,
            Timestamp,
        ) -> Option<crate::breaker::BreakerTransition>,
    ) {
        for _ in 0..5 {
            self.advance(Duration::from_millis(1));
            let (admission, on_admission) = self.breaker.admit(self.now);
            let on_result = match admission {
                Admission::Admitted(permit) => record(&mut self.breaker, permit, self.now),
                Admission::ProbeInFlight | Admission::Rejected { .. } => None,
            };
            on_admission
                .into_iter()
                .chain(on_result)
                .for_each(|transition| self.record_transition(transition.to));
        }
    }

    fn apply_command(&mut self, command: ManualCommand) {
        self.advance(Duration::from_millis(1));
        if let Some(transition) = self.breaker.apply_command(command, self.now) {
            self.record_transition(transition.to);
        }
    }

    fn fail_session(&mut self) {
        self.advance(Duration::from_millis(1));
        if let Some(transition) = self.breaker.require_probes(self.now) {
            self.record_transition(transition.to);
        }
    }

    fn delete_file(&mut self) {
        self.breaker = Breaker::new(NAME, BreakerPolicy::DEFAULT, self.now);
        self.open_periods.clear();
    }

    fn record_transition(&mut self, to: BreakerState) {
        let current = self.open_periods.last_mut().filter(|(_, closed)| closed.is_none());
        match (to, current) {
            (BreakerState::Open, None) => self.open_periods.push((self.now, None)),
            (BreakerState::Closed, Some(current)) => current.1 = Some(self.now),
            (BreakerState::Open | BreakerState::Closed | BreakerState::HalfOpen, _) => {}
        }
    }
}

fn notification_lines(notifications: &[Notification]) -> Vec<String> {
    let line = |sent: &Notification| {
        let (kind, severity, alert) = (sent.kind.name(), sent.severity(), &sent.alert);
        let reason = alert.resolved_reason.as_ref().map(|reason| format!("; resolved: {reason}"));
        let (severity, reason) = (severity.name(), reason.unwrap_or_default());
        format!("{kind} {severity} {}: {}{reason}", alert.subject, alert.message)
    };
    notifications.iter().map(line).collect()
}

#[test]
fn a_missed_opening_is_notified_with_its_reason() {
    let mut scenario = BreakerScenario::new();
    scenario.fail_calls();
    scenario.advance(Duration::from_secs(60));
    scenario.succeed_calls();
    assert_eq!(scenario.breaker.state(), BreakerState::Closed);

    let notifications = scenario.evaluate();

    assert_eq!(
        notification_lines(&notifications),
        [
            "resolved_unnotified info example: its circuit breaker opened: 5 failures in a row: 503 from example"
        ]
    );
    let (opened, closed) = scenario.open_periods[0];
    let alert = &notifications[0].alert;
    assert_eq!((alert.started_at, alert.resolved_at), (opened, closed));
    assert_eq!(alert.max_severity, Severity::Critical);
    scenario.restart_monitor();
    scenario.advance(2 * HOUR);
    assert_eq!(scenario.evaluate(), []);
}

#[test]
fn manual_breaker_commands_have_their_own_wording() {
    let mut scenario = BreakerScenario::new();
    scenario.apply_command(ManualCommand::Open { until: None });
    let mut all = scenario.evaluate();
    scenario.apply_command(ManualCommand::Close);
    all.extend(scenario.evaluate());
    scenario.advance(HOUR);
    scenario.apply_command(ManualCommand::Open { until: None });
    scenario.apply_command(ManualCommand::Reset);
    all.extend(scenario.evaluate());
    scenario.advance(HOUR);
    scenario.fail_calls();
    scenario.apply_command(ManualCommand::Close);
    all.extend(scenario.evaluate());

    insta::assert_snapshot!(notification_lines(&all).join("\n"), @"
    firing critical example: its circuit breaker was opened manually
    resolved info example: its circuit breaker was opened manually; resolved: its circuit breaker was closed manually
    resolved_unnotified info example: its circuit breaker was opened manually; resolved: its circuit breaker was closed manually
    resolved_unnotified info example: its circuit breaker opened: 5 failures in a row: 503 from example; resolved: its circuit breaker was closed manually
    ");
}

#[test]
fn a_failed_session_alone_fires_and_resolves_nothing() {
    let mut scenario = BreakerScenario::new();
    scenario.fail_session();
    assert_eq!(scenario.breaker.state(), BreakerState::HalfOpen);
    let mut all = scenario.evaluate();
    scenario.succeed_calls();
    assert_eq!(scenario.breaker.state(), BreakerState::Closed);
    all.extend(scenario.evaluate());
    assert_eq!(all, []);

    scenario.fail_session();
    scenario.fail_calls();
    all.extend(scenario.evaluate());
    scenario.advance(Duration::from_secs(60));
    scenario.succeed_calls();
    scenario.fail_session();
    all.extend(scenario.evaluate());

    insta::assert_snapshot!(notification_lines(&all).join("\n"), @"
    firing critical example: its circuit breaker opened: 5 failures in a row: 503 from example
    resolved info example: its circuit breaker opened: 5 failures in a row: 503 from example
    ");
}

#[test]
fn a_storage_alert_inhibits_the_archive_breaker() {
    let mut inputs = healthy_inputs();
    let mut breaker = Breaker::new("archive", BreakerPolicy::DEFAULT, NOW);
    let mut alerts = AlertStore::default();
    let mut notify = |inputs: &HealthInputs, breaker: &Breaker| {
        let observed = BreakerObservation {
            name: "archive".to_owned(),
            state: breaker.state(),
            reason: String::new(),
            open_periods: breaker.to_persisted().open_periods(),
        };
        let inputs = HealthInputs { breakers: Ok(vec![observed]), ..inputs.clone() };
        notification_lines(
            &alerts.evaluate(&correlate(&inputs, &evaluate(&inputs, &LIMITS, NOW)), NOW),
        )
    };
    assert_eq!(notify(&inputs, &breaker), [""; 0]);
    let state = inputs.sources[0].state.as_mut().unwrap();
    (state.status, state.storage_error) =
        (Status::Error, Some("No space left on device".to_owned()));

    for command in [ManualCommand::Open { until: None }, ManualCommand::Close] {
        assert!(breaker.apply_command(command, NOW).is_some());
    }
    assert_eq!(notify(&inputs, &breaker).len(), 1, "only the storage alert");
    let lines = notify(&healthy_inputs(), &breaker);

    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("resolved"), "{lines:?}");
}

fn any_event() -> impl Strategy<Value = ScenarioEvent> {
    prop_oneof![
        4 => Just(ScenarioEvent::Fail),
        4 => Just(ScenarioEvent::Succeed),
        1 => prop::sample::select(vec![
            ManualCommand::Close,
            ManualCommand::Reset,
            ManualCommand::TryNow,
            ManualCommand::Open { until: None },
        ]).prop_map(ScenarioEvent::Command),
        2 => Just(ScenarioEvent::SessionFailed),
        4 => Just(ScenarioEvent::Evaluate),
        1 => Just(ScenarioEvent::RestartMonitor),
        1 => Just(ScenarioEvent::DeleteFile),
    ]
}

proptest! {
    #[test]
    fn each_opening_is_notified_once_and_the_last_state_matches(
        events in prop::collection::vec((any_event(), 0..1_000_u64), 0..200)
    ) {
        let mut scenario = BreakerScenario::new();
        // Start of the last notified open period, and time of the last notification.
        let (mut last_notified, mut notified_at) = (NOW, NOW.before(HOUR));
        let (mut is_notified_open, mut evaluated_at) = (false, NOW);
        for (event, pause) in events {
            scenario.advance(Duration::from_secs(pause));
            match event {
                ScenarioEvent::Fail => scenario.fail_calls(),
                ScenarioEvent::Succeed => scenario.succeed_calls(),
                ScenarioEvent::Command(command) => scenario.apply_command(command),
                ScenarioEvent::SessionFailed => scenario.fail_session(),
                ScenarioEvent::RestartMonitor => scenario.restart_monitor(),
                ScenarioEvent::DeleteFile => scenario.delete_file(),
                ScenarioEvent::Evaluate => {
                    let is_within_the_hour = scenario.now.since(notified_at) < HOUR;
                    let notifications = scenario.evaluate();
                    prop_assert!(notifications.len() <= 1, "{notifications:?}");
                    let is_open = scenario.breaker.is_in_open_period();
                    let has_missed =
                        scenario.open_periods.iter().any(|(opened, _)| *opened > evaluated_at);
                    for notification in &notifications {
                        let is_firing = notification.kind == NotificationKind::Firing;
                        let is_missed = notification.kind == NotificationKind::ResolvedUnnotified;
                        if !is_firing && !is_missed {
                            continue;
                        }
                        prop_assert_eq!(is_firing, is_open);
                        let newest = scenario.open_periods.last().unwrap().0;
                        prop_assert!(newest > last_notified, "{newest} was already notified");
                        if is_missed {
                            prop_assert!(notification.alert.started_at > last_notified);
                            prop_assert!(notification.alert.started_at > evaluated_at);
                            prop_assert!(!is_within_the_hour);
                        }
                        (last_notified, notified_at) = (newest, scenario.now);
                    }
                    if let Some(last) = notifications.last() {
                        is_notified_open = last.kind == NotificationKind::Firing;
                    }
                    prop_assert!(is_open || !is_notified_open);
                    if !is_within_the_hour {
                        prop_assert_eq!(is_notified_open, is_open);
                        prop_assert!(!has_missed || !notifications.is_empty() || is_open);
                    }
                    evaluated_at = scenario.now;
                }
            }
        }
    }

    #[test]
    fn clock_steps_without_events_repeat_no_notification(
        events in prop::collection::vec((any_event(), -DAY..DAY), 0..60),
        steps in prop::collection::vec(-DAY..DAY, 1..20),
    ) {
        let mut scenario = BreakerScenario::new();
        for (event, step) in events {
            scenario.now = Timestamp(scenario.now.0 + step);
            match event {
                ScenarioEvent::Fail => scenario.fail_calls(),
                ScenarioEvent::Succeed => scenario.succeed_calls(),
                ScenarioEvent::Command(command) => scenario.apply_command(command),
                ScenarioEvent::SessionFailed => scenario.fail_session(),
                ScenarioEvent::RestartMonitor => scenario.restart_monitor(),
                ScenarioEvent::DeleteFile => scenario.delete_file(),
                ScenarioEvent::Evaluate => drop(scenario.evaluate()),
            }
        }
        let is_open = scenario.breaker.is_in_open_period();
        drop(scenario.evaluate());
        let mut kinds = Vec::new();
        for step in steps {
            scenario.now = Timestamp(scenario.now.0 + step);
            scenario.restart_monitor();
            kinds.extend(scenario.evaluate().iter().map(|notification| notification.kind));
        }
        // A breaker that is still open may have had to wait for the end of the hour.
        let is_firing_once = is_open && kinds == [NotificationKind::Firing];
        prop_assert!(kinds.is_empty() || is_firing_once, "{kinds:?}");
    }
}
