//! Tests of the notifications about a breaker, for any order of transitions and evaluations.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::{LIMITS, NOW, healthy_inputs};
use super::*;
use crate::engine::alert::{AlertStore, Notification, NotificationKind, Severity};
use crate::engine::breaker::{
    Admission, Breaker, BreakerPermit, BreakerPolicy, BreakerState, CallSubject, ManualCommand,
    PersistedBreaker,
};
use crate::engine::{Cause, Failure};

const NAME: &str = "example";
const HOUR: Duration = Duration::from_secs(3600);
const DAY: i64 = 86_400_000;

/// Breaker with the monitor's alert store.
struct BreakerScenario {
    breaker: Breaker,
    now: Timestamp,
    alerts: AlertStore,
    /// Start and end of its open periods.
    openings: Vec<(Timestamp, Option<Timestamp>)>,
}

#[derive(Clone, Debug)]
enum ScenarioEvent {
    /// Up to five calls fail or succeed, as long as they are admitted.
    Fail,
    Succeed,
    Command(ManualCommand),
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
        let mut scene =
            Self { breaker, now: NOW, alerts: AlertStore::default(), openings: Vec::new() };
        assert_eq!(scene.evaluate(), []);
        scene
    }

    fn evaluate(&mut self) -> Vec<Notification> {
        let memory: PersistedBreaker = self.breaker.to_persisted();
        let seen = BreakerObservation {
            name: NAME.to_owned(),
            state: self.breaker.state(),
            openings: memory.open_periods(),
            reason: memory.last_transition.map(|change| change.reason).unwrap_or_default(),
        };
        let facts = HealthInputs { breakers: Ok(vec![seen]), ..healthy_inputs() };
        let looked = correlate(&facts, &evaluate(&facts, &LIMITS, NOW));
        self.alerts.evaluate(&looked, self.now)
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
        end: impl Fn(
            &mut Breaker,
            BreakerPermit,
            Timestamp,
        ) -> Option<crate::engine::breaker::BreakerTransition>,
    ) {
        for _ in 0..5 {
            self.advance(Duration::from_millis(1));
            let (admission, tried) = self.breaker.admit(self.now);
            let ended = match admission {
                Admission::Admitted(permit) => end(&mut self.breaker, permit, self.now),
                Admission::ProbeInFlight | Admission::Rejected { .. } => None,
            };
            tried
                .into_iter()
                .chain(ended)
                .for_each(|change| self.record_transition(change.from, change.to));
        }
    }

    fn apply_command(&mut self, order: ManualCommand) {
        self.advance(Duration::from_millis(1));
        if let Some(change) = self.breaker.apply_command(order, self.now) {
            self.record_transition(change.from, change.to);
        }
    }

    fn delete_file(&mut self) {
        self.breaker = Breaker::new(NAME, BreakerPolicy::DEFAULT, self.now);
        self.openings.clear();
    }

    fn record_transition(&mut self, from: BreakerState, to: BreakerState) {
        if from == BreakerState::Closed {
            self.openings.push((self.now, None));
        } else if to == BreakerState::Closed {
            self.openings.last_mut().unwrap().1 = Some(self.now);
        }
    }
}

fn notification_lines(notices: &[Notification]) -> Vec<String> {
    let line = |notice: &Notification| {
        let (news, severity, alert) = (notice.kind.name(), notice.severity(), &notice.alert);
        let since = alert.resolved_reason.as_ref().map(|since| format!("; over, since {since}"));
        let (severity, since) = (severity.name(), since.unwrap_or_default());
        format!("{news} {severity} {}: {}{since}", alert.subject, alert.message)
    };
    notices.iter().map(line).collect()
}

#[test]
fn a_missed_opening_is_notified_with_its_reason() {
    let mut scene = BreakerScenario::new();
    scene.fail_calls();
    scene.advance(Duration::from_secs(60));
    scene.succeed_calls();
    assert_eq!(scene.breaker.state(), BreakerState::Closed);

    let passed = scene.evaluate();

    assert_eq!(
        notification_lines(&passed),
        ["passed info example: left alone by its breaker: 5 failures in a row: 503 from example"]
    );
    let (began, ended) = scene.openings[0];
    assert_eq!((passed[0].alert.started_at, passed[0].alert.resolved_at), (began, ended));
    assert_eq!(passed[0].alert.max_severity, Severity::Critical);
    scene.restart_monitor();
    scene.advance(2 * HOUR);
    assert_eq!(scene.evaluate(), []);
}

#[test]
fn manual_breaker_commands_have_their_own_wording() {
    let mut scene = BreakerScenario::new();
    scene.apply_command(ManualCommand::Open { until: None });
    let mut all = scene.evaluate();
    scene.apply_command(ManualCommand::Close);
    all.extend(scene.evaluate());
    scene.advance(HOUR);
    scene.apply_command(ManualCommand::Open { until: None });
    scene.apply_command(ManualCommand::Reset);
    all.extend(scene.evaluate());
    scene.advance(HOUR);
    scene.fail_calls();
    scene.apply_command(ManualCommand::Close);
    all.extend(scene.evaluate());

    insta::assert_snapshot!(notification_lines(&all).join("\n"), @"
    raised critical example: left alone, since a person opened its breaker
    ended info example: left alone, since a person opened its breaker; over, since a person closed its breaker
    passed info example: left alone, since a person opened its breaker; over, since a person closed its breaker
    passed info example: left alone by its breaker: 5 failures in a row: 503 from example; over, since a person closed its breaker
    ");
}

#[test]
fn a_storage_alert_inhibits_the_archive_breaker() {
    let mut facts = healthy_inputs();
    let mut breaker = Breaker::new("archive", BreakerPolicy::DEFAULT, NOW);
    let mut alerts = AlertStore::default();
    let mut look = |facts: &HealthInputs, breaker: &Breaker| {
        let seen = BreakerObservation {
            name: "archive".to_owned(),
            state: breaker.state(),
            reason: String::new(),
            openings: breaker.to_persisted().open_periods(),
        };
        let facts = HealthInputs { breakers: Ok(vec![seen]), ..facts.clone() };
        notification_lines(
            &alerts.evaluate(&correlate(&facts, &evaluate(&facts, &LIMITS, NOW)), NOW),
        )
    };
    assert_eq!(look(&facts, &breaker), [""; 0]);
    let state = facts.sources[0].state.as_mut().unwrap();
    (state.status, state.storage_error) =
        (crate::engine::Status::Error, Some("No space left on device".to_owned()));

    for order in [ManualCommand::Open { until: None }, ManualCommand::Close] {
        assert!(breaker.apply_command(order, NOW).is_some());
    }
    assert_eq!(look(&facts, &breaker).len(), 1, "the storage itself");
    let then = look(&healthy_inputs(), &breaker);

    assert_eq!(then.len(), 1, "{then:?}");
    assert!(then[0].starts_with("ended"), "{then:?}");
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
        4 => Just(ScenarioEvent::Evaluate),
        1 => Just(ScenarioEvent::RestartMonitor),
        1 => Just(ScenarioEvent::DeleteFile),
    ]
}

proptest! {
    #[test]
    fn each_opening_is_notified_once_and_the_last_state_is_true(
        facts in prop::collection::vec((any_event(), 0..1_000_u64), 0..200)
    ) {
        let mut scene = BreakerScenario::new();
        // Start of the last notified open period, and time of the last notification.
        let (mut told, mut told_at) = (NOW, NOW.before(HOUR));
        let (mut is_known_to_be_open, mut looked_at) = (false, NOW);
        for (fact, pause) in facts {
            scene.advance(Duration::from_secs(pause));
            match fact {
                ScenarioEvent::Fail => scene.fail_calls(),
                ScenarioEvent::Succeed => scene.succeed_calls(),
                ScenarioEvent::Command(order) => scene.apply_command(order),
                ScenarioEvent::RestartMonitor => scene.restart_monitor(),
                ScenarioEvent::DeleteFile => scene.delete_file(),
                ScenarioEvent::Evaluate => {
                    let is_within_the_hour = scene.now.since(told_at) < HOUR;
                    let notices = scene.evaluate();
                    prop_assert!(notices.len() <= 1, "{notices:?}");
                    let is_open = scene.breaker.state() != BreakerState::Closed;
                    let has_missed = scene.openings.iter().any(|(began, _)| *began > looked_at);
                    for notice in &notices {
                        let (NotificationKind::Firing | NotificationKind::ResolvedUnnotified) = notice.kind else { continue };
                        prop_assert_eq!(notice.kind == NotificationKind::Firing, is_open);
                        let newest = scene.openings.last().unwrap().0;
                        prop_assert!(newest > told, "{newest} was told already");
                        if notice.kind == NotificationKind::ResolvedUnnotified {
                            prop_assert!(notice.alert.started_at > told);
                            prop_assert!(notice.alert.started_at > looked_at);
                            prop_assert!(!is_within_the_hour);
                        }
                        (told, told_at) = (newest, scene.now);
                    }
                    if let Some(last) = notices.last() {
                        is_known_to_be_open = last.kind == NotificationKind::Firing;
                    }
                    prop_assert!(is_open || !is_known_to_be_open);
                    if !is_within_the_hour {
                        prop_assert_eq!(is_known_to_be_open, is_open);
                        prop_assert!(!has_missed || !notices.is_empty() || is_open);
                    }
                    looked_at = scene.now;
                }
            }
        }
    }

    #[test]
    fn clock_steps_without_events_repeat_no_notification(
        facts in prop::collection::vec((any_event(), -DAY..DAY), 0..60),
        steps in prop::collection::vec(-DAY..DAY, 1..20),
    ) {
        let mut scene = BreakerScenario::new();
        for (fact, step) in facts {
            scene.now = Timestamp(scene.now.0 + step);
            match fact {
                ScenarioEvent::Fail => scene.fail_calls(),
                ScenarioEvent::Succeed => scene.succeed_calls(),
                ScenarioEvent::Command(order) => scene.apply_command(order),
                ScenarioEvent::RestartMonitor => scene.restart_monitor(),
                ScenarioEvent::DeleteFile => scene.delete_file(),
                ScenarioEvent::Evaluate => drop(scene.evaluate()),
            }
        }
        let is_open = scene.breaker.state() != BreakerState::Closed;
        drop(scene.evaluate());
        let mut then = Vec::new();
        for step in steps {
            scene.now = Timestamp(scene.now.0 + step);
            scene.restart_monitor();
            then.extend(scene.evaluate().iter().map(|notice| notice.kind));
        }
        // A breaker that is still open may have had to wait for the end of the hour.
        prop_assert!(then.is_empty() || (is_open && then == [NotificationKind::Firing]), "{then:?}");
    }
}
