//! What is told of a breaker, however its changes and the looks at it come one after the other.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::{LIMITS, NOW, well};
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

/// A breaker, its file, and whoever looks at it.
struct Scene {
    breaker: Breaker,
    now: Timestamp,
    alerts: AlertStore,
    /// When it opened, and closed.
    openings: Vec<(Timestamp, Option<Timestamp>)>,
}

#[derive(Clone, Debug)]
enum Fact {
    /// Calls fail, or succeed, for as long as they may be made.
    Fail,
    Succeed,
    Obey(ManualCommand),
    Look,
    /// The monitor starts anew.
    Restart,
    /// The file is removed.
    Lose,
}

impl Scene {
    /// Where somebody has looked once.
    fn new() -> Self {
        let breaker = Breaker::new(NAME, BreakerPolicy::DEFAULT, NOW);
        let mut scene =
            Self { breaker, now: NOW, alerts: AlertStore::default(), openings: Vec::new() };
        assert_eq!(scene.look(), []);
        scene
    }

    fn look(&mut self) -> Vec<Notification> {
        let memory: PersistedBreaker = self.breaker.to_persisted();
        let seen = BreakerSeen {
            name: NAME.to_owned(),
            phase: self.breaker.state(),
            openings: memory.open_periods(),
            why: memory.last_transition.map(|change| change.reason).unwrap_or_default(),
        };
        let facts = Facts { breakers: Ok(vec![seen]), ..well() };
        let looked = concerns(&facts, &judge(&facts, &LIMITS, NOW));
        self.alerts.evaluate(&looked, self.now)
    }

    fn restart(&mut self) {
        let json = serde_json::to_string(&self.alerts).unwrap();
        self.alerts = serde_json::from_str(&json).unwrap();
    }

    fn pass(&mut self, pause: Duration) {
        self.now = self.now.after(pause);
    }

    fn fail(&mut self) {
        let failure = Failure::new(Cause::Server, "503 from example");
        self.call(|breaker, permit, now| {
            breaker.record_failure(permit, &CallSubject::Service, &failure, now)
        });
    }

    fn succeed(&mut self) {
        self.call(Breaker::record_success);
    }

    /// Five calls, as far as they may be made.
    fn call(
        &mut self,
        end: impl Fn(
            &mut Breaker,
            BreakerPermit,
            Timestamp,
        ) -> Option<crate::engine::breaker::BreakerTransition>,
    ) {
        for _ in 0..5 {
            self.pass(Duration::from_millis(1));
            let (admission, tried) = self.breaker.admit(self.now);
            let ended = match admission {
                Admission::Admitted(permit) => end(&mut self.breaker, permit, self.now),
                Admission::ProbeInFlight | Admission::Rejected { .. } => None,
            };
            tried.into_iter().chain(ended).for_each(|change| self.happened(change.from, change.to));
        }
    }

    fn obey(&mut self, order: ManualCommand) {
        self.pass(Duration::from_millis(1));
        if let Some(change) = self.breaker.apply_command(order, self.now) {
            self.happened(change.from, change.to);
        }
    }

    fn lose(&mut self) {
        self.breaker = Breaker::new(NAME, BreakerPolicy::DEFAULT, self.now);
        self.openings.clear();
    }

    fn happened(&mut self, from: BreakerState, to: BreakerState) {
        if from == BreakerState::Closed {
            self.openings.push((self.now, None));
        } else if to == BreakerState::Closed {
            self.openings.last_mut().unwrap().1 = Some(self.now);
        }
    }
}

fn lines(notices: &[Notification]) -> Vec<String> {
    let line = |notice: &Notification| {
        let (news, severity, alert) = (notice.kind.name(), notice.severity(), &notice.alert);
        let since = alert.resolved_reason.as_ref().map(|since| format!("; over, since {since}"));
        let (severity, since) = (severity.name(), since.unwrap_or_default());
        format!("{news} {severity} {}: {}{since}", alert.subject, alert.message)
    };
    notices.iter().map(line).collect()
}

#[test]
fn an_opening_between_two_looks_is_told_with_its_reason() {
    let mut scene = Scene::new();
    scene.fail();
    scene.pass(Duration::from_secs(60));
    scene.succeed();
    assert_eq!(scene.breaker.state(), BreakerState::Closed);

    let passed = scene.look();

    assert_eq!(
        lines(&passed),
        ["passed info example: left alone by its breaker: 5 failures in a row: 503 from example"]
    );
    let (began, ended) = scene.openings[0];
    assert_eq!((passed[0].alert.started_at, passed[0].alert.resolved_at), (began, ended));
    assert_eq!(passed[0].alert.max_severity, Severity::Critical);
    scene.restart();
    scene.pass(2 * HOUR);
    assert_eq!(scene.look(), []);
}

#[test]
fn what_a_person_did_is_told_in_other_words() {
    let mut scene = Scene::new();
    scene.obey(ManualCommand::Open { until: None });
    let mut all = scene.look();
    scene.obey(ManualCommand::Close);
    all.extend(scene.look());
    scene.pass(HOUR);
    scene.obey(ManualCommand::Open { until: None });
    scene.obey(ManualCommand::Reset);
    all.extend(scene.look());
    scene.pass(HOUR);
    scene.fail();
    scene.obey(ManualCommand::Close);
    all.extend(scene.look());

    insta::assert_snapshot!(lines(&all).join("\n"), @"
    raised critical example: left alone, since a person opened its breaker
    ended info example: left alone, since a person opened its breaker; over, since a person closed its breaker
    passed info example: left alone, since a person opened its breaker; over, since a person closed its breaker
    passed info example: left alone by its breaker: 5 failures in a row: 503 from example; over, since a person closed its breaker
    ");
}

#[test]
fn the_breaker_of_the_archive_follows_from_a_storage_that_is_told() {
    let mut facts = well();
    let mut breaker = Breaker::new("archive", BreakerPolicy::DEFAULT, NOW);
    let mut alerts = AlertStore::default();
    let mut look = |facts: &Facts, breaker: &Breaker| {
        let seen = BreakerSeen {
            name: "archive".to_owned(),
            phase: breaker.state(),
            why: String::new(),
            openings: breaker.to_persisted().open_periods(),
        };
        let facts = Facts { breakers: Ok(vec![seen]), ..facts.clone() };
        lines(&alerts.evaluate(&concerns(&facts, &judge(&facts, &LIMITS, NOW)), NOW))
    };
    assert_eq!(look(&facts, &breaker), [""; 0]);
    let state = facts.sources[0].state.as_mut().unwrap();
    (state.status, state.storage_error) =
        (crate::engine::Status::Error, Some("No space left on device".to_owned()));

    for order in [ManualCommand::Open { until: None }, ManualCommand::Close] {
        assert!(breaker.apply_command(order, NOW).is_some());
    }
    assert_eq!(look(&facts, &breaker).len(), 1, "the storage itself");
    let then = look(&well(), &breaker);

    assert_eq!(then.len(), 1, "{then:?}");
    assert!(then[0].starts_with("ended"), "{then:?}");
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        4 => Just(Fact::Fail),
        4 => Just(Fact::Succeed),
        1 => prop::sample::select(vec![
            ManualCommand::Close,
            ManualCommand::Reset,
            ManualCommand::TryNow,
            ManualCommand::Open { until: None },
        ]).prop_map(Fact::Obey),
        4 => Just(Fact::Look),
        1 => Just(Fact::Restart),
        1 => Just(Fact::Lose),
    ]
}

proptest! {
    #[test]
    fn each_opening_is_told_at_most_once_and_what_was_told_last_is_how_it_is(
        facts in prop::collection::vec((fact(), 0..1_000_u64), 0..200)
    ) {
        let mut scene = Scene::new();
        // The last opening that was told, and when something was told last.
        let (mut told, mut told_at) = (NOW, NOW.before(HOUR));
        let (mut is_known_to_be_open, mut looked_at) = (false, NOW);
        for (fact, pause) in facts {
            scene.pass(Duration::from_secs(pause));
            match fact {
                Fact::Fail => scene.fail(),
                Fact::Succeed => scene.succeed(),
                Fact::Obey(order) => scene.obey(order),
                Fact::Restart => scene.restart(),
                Fact::Lose => scene.lose(),
                Fact::Look => {
                    let is_within_the_hour = scene.now.since(told_at) < HOUR;
                    let notices = scene.look();
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
    fn once_nothing_happens_any_more_nothing_is_told_twice_whatever_the_clock_does(
        facts in prop::collection::vec((fact(), -DAY..DAY), 0..60),
        steps in prop::collection::vec(-DAY..DAY, 1..20),
    ) {
        let mut scene = Scene::new();
        for (fact, step) in facts {
            scene.now = Timestamp(scene.now.0 + step);
            match fact {
                Fact::Fail => scene.fail(),
                Fact::Succeed => scene.succeed(),
                Fact::Obey(order) => scene.obey(order),
                Fact::Restart => scene.restart(),
                Fact::Lose => scene.lose(),
                Fact::Look => drop(scene.look()),
            }
        }
        let is_open = scene.breaker.state() != BreakerState::Closed;
        drop(scene.look());
        let mut then = Vec::new();
        for step in steps {
            scene.now = Timestamp(scene.now.0 + step);
            scene.restart();
            then.extend(scene.look().iter().map(|notice| notice.kind));
        }
        // One that is still open may have had to wait for its hour.
        prop_assert!(then.is_empty() || (is_open && then == [NotificationKind::Firing]), "{then:?}");
    }
}
