//! Tests of every state with every event, of the diagram in the docs, and of single transitions.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use super::*;
use crate::backoff::DEFAULTS;
use crate::{Cause, ClockStep, Failure, RandomSample, RequestScope, SessionId};

mod completeness;
mod pending_retries;
mod proptests;

const NOW: Timestamp = Timestamp(1_000_000_000);
const LATER: Timestamp = Timestamp(NOW.0 + 60_000);
const MUCH_LATER: Timestamp = Timestamp(NOW.0 + 600_000);
const MINUTE: Duration = Duration::from_secs(60);
const MEDIAN_SAMPLE: RandomSample = RandomSample(u32::MAX / 2 + 1);

fn config() -> MachineConfig {
    MachineConfig {
        backoff: DEFAULTS,
        max_retries: 3,
        max_consecutive_errors: 5,
        rate_limit_duration: Duration::from_secs(300),
        stuck_threshold: Duration::from_secs(1800),
        max_execution_time: Duration::from_secs(86_400),
        restart_delay_success: Duration::ZERO,
        restart_delay_auth: Duration::from_secs(300),
        restart_delay_errors: Duration::from_secs(600),
        recovery_timeout: Duration::from_secs(60),
        poll_interval: Duration::from_secs(300),
    }
}

fn machine(state: State) -> StateMachine {
    let session =
        Session { id: SessionId::from_unix_seconds(900_000), started_at: NOW, completed_at: None };
    let sync = SyncHistory { last_poll: Some(NOW), ..SyncHistory::default() };
    StateMachine { state, session: Some(session), sync, ..StateMachine::new(NOW) }
}

/// Returns each state; those with an `until` end one minute ahead.
fn states() -> Vec<(&'static str, StateMachine)> {
    let (until, resume_phase) = (LATER, SyncPhase::Downloading);
    vec![
        ("idle", machine(State::Idle { until })),
        ("idle (polling)", machine(State::Working(SyncPhase::Polling))),
        ("collecting", machine(State::Working(SyncPhase::Collecting))),
        ("downloading", machine(State::Working(SyncPhase::Downloading))),
        ("completed", machine(State::Completed)),
        ("error", machine(State::Error { until, resume_phase, after_wait: AfterWait::Resume })),
        (
            "error (restart)",
            machine(State::Error { until, resume_phase, after_wait: AfterWait::Restart }),
        ),
        ("rate_limited", machine(State::RateLimited { until, resume_phase })),
        ("auth_failed", machine(State::AuthFailed { until, resume_phase })),
    ]
}

/// Returns each waiting state with each phase to resume that `states` lacks.
fn other_waiting_states() -> Vec<StateMachine> {
    let until = LATER;
    let waits = |resume_phase| {
        [
            machine(State::Error { until, resume_phase, after_wait: AfterWait::Resume }),
            machine(State::RateLimited { until, resume_phase }),
            machine(State::AuthFailed { until, resume_phase }),
        ]
    };
    [SyncPhase::Polling, SyncPhase::Collecting].into_iter().flat_map(waits).collect()
}

fn failed_event(scope: RequestScope, cause: Cause, retry_after: Option<u64>) -> Event {
    let failure = Failure::new(cause, "x").with_retry_after(retry_after.map(Duration::from_secs));
    Event::Failed { scope, failure, sample: MEDIAN_SAMPLE }
}

fn circuit_open_event(until: Timestamp) -> Event {
    Event::CircuitOpen { until, reason: "the circuit is open".to_owned() }
}

fn events() -> Vec<(String, Event)> {
    let mut events = vec![
        ("started".to_owned(), Event::Started),
        ("run requested".to_owned(), Event::RunRequested),
        ("due".to_owned(), Event::DeadlineReached),
        ("reconcile due".to_owned(), Event::ReconcileDue),
        ("changes found".to_owned(), Event::ChangesFound),
        ("no changes".to_owned(), Event::NoChanges),
        ("progress made".to_owned(), Event::ProgressMade),
        ("attempts failed".to_owned(), Event::AttemptsFailed),
        ("only retries left".to_owned(), Event::OnlyRetriesLeft),
        ("poll requested".to_owned(), Event::PollRequested),
        ("listed".to_owned(), Event::ListingCompleted),
        ("settled".to_owned(), Event::AllItemsSettled),
        ("idle until".to_owned(), Event::IdleUntil { until: LATER }),
        ("credential changed".to_owned(), Event::CredentialChanged),
        ("credential unchanged".to_owned(), Event::CredentialUnchanged),
        ("circuit open".to_owned(), circuit_open_event(MUCH_LATER)),
        ("circuit closed".to_owned(), Event::CircuitClosed),
        (
            "rate_limit (2 s)".to_owned(),
            failed_event(RequestScope::Listing, Cause::RateLimit, Some(2)),
        ),
        (
            "rate_limit (90 s)".to_owned(),
            failed_event(RequestScope::Listing, Cause::RateLimit, Some(90)),
        ),
    ];
    for cause in Cause::ALL {
        events.push((cause.name().to_owned(), failed_event(RequestScope::Listing, cause, None)));
    }
    events
}

#[test]
fn every_state_meets_every_event() {
    let mut table = String::new();
    for (name, machine) in states() {
        writeln!(table, "{name}").expect("writing to a string succeeds");
        for (event_name, event) in events() {
            let now =
                if event == Event::DeadlineReached { machine.deadline(&config()) } else { NOW };
            let step = machine.step(&config(), &event, now);
            if step.machine == machine && step.effects.is_empty() {
                continue;
            }
            let effects: Vec<_> = step.effects.iter().map(|effect| format!("{effect:?}")).collect();
            writeln!(table, "  {event_name} → {:?} [{}]", step.machine.state, effects.join(", "))
                .expect("writing to a string succeeds");
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_diagram_in_the_docs_matches_the_machine() {
    let mut edges = BTreeSet::new();
    let states = states().into_iter().map(|(_, machine)| machine);
    for mut machine in states.chain(other_waiting_states()) {
        // Before and during the reload of a refused credential.
        for credential in [CredentialState::Valid, CredentialState::Refreshing] {
            machine.credential = credential;
            for now in [NOW, machine.deadline(&config())] {
                for (event_name, event) in events() {
                    let step = machine.step(&config(), &event, now);
                    let (from, to) = (machine.status(), step.machine.status());
                    if from != to {
                        edges.insert((from, to, edge_label(&event, &event_name)));
                    }
                }
            }
        }
    }
    let mut drawing = String::from("stateDiagram-v2\n    [*] --> idle\n");
    for (from, to) in edges.iter().map(|(from, to, _)| (*from, *to)).collect::<BTreeSet<_>>() {
        let labels: BTreeSet<_> = edges
            .iter()
            .filter(|edge| (edge.0, edge.1) == (from, to))
            .map(|edge| &*edge.2)
            .collect();
        let labels = labels.into_iter().collect::<Vec<_>>().join(", ");
        writeln!(drawing, "    {} --> {}: {labels}", from.name(), to.name())
            .expect("writing to a string succeeds");
    }

    let docs = include_str!("../../../../../docs/machine.md");
    assert!(docs.contains(&drawing), "docs/machine.md should contain this drawing:\n{drawing}");
}

/// Returns the label of an edge. Failures are grouped by their action.
fn edge_label(event: &Event, name: &str) -> String {
    let Event::Failed { scope, failure, .. } = event else { return name.to_owned() };
    let action = format!("{:?}", failure.cause.action(*scope));
    let words = action.split_inclusive(|_: char| true).map(|c| match c {
        c if c.chars().all(char::is_uppercase) => format!(" {}", c.to_lowercase()),
        c => c.to_owned(),
    });
    words.collect::<String>().trim().to_owned()
}

fn downloading() -> StateMachine {
    machine(State::Working(SyncPhase::Downloading))
}

/// Returns the machine after one event.
fn advance(machine: &StateMachine, event: &Event, now: Timestamp) -> StateMachine {
    machine.step(&config(), event, now).machine
}

#[test]
fn a_rate_limit_lasts_for_retry_after_and_costs_no_retry() {
    let limited = advance(
        &downloading(),
        &failed_event(RequestScope::Session, Cause::RateLimit, Some(300)),
        NOW,
    );

    let State::RateLimited { until, resume_phase } = limited.state else { panic!("{limited:?}") };
    assert!(until >= NOW.after(Duration::from_secs(300)));
    assert!(until <= NOW.after(Duration::from_secs(303)));
    assert_eq!(resume_phase, SyncPhase::Downloading);
    assert_eq!((limited.errors.retries, limited.errors.total), (0, 0));
    assert_eq!(limited.reason, "the server said: retry after 300 s");

    let resumed = limited.step(&config(), &Event::DeadlineReached, until);
    assert_eq!(resumed.machine.state, State::Working(SyncPhase::Downloading));
    assert_eq!(resumed.effects, [Effect::Download]);
}

#[test]
fn a_second_retry_after_only_extends_the_wait() {
    let limited = advance(
        &downloading(),
        &failed_event(RequestScope::Session, Cause::RateLimit, Some(300)),
        NOW,
    );

    let shorter =
        advance(&limited, &failed_event(RequestScope::Session, Cause::RateLimit, Some(10)), NOW);
    let longer =
        advance(&limited, &failed_event(RequestScope::Session, Cause::RateLimit, Some(600)), NOW);

    assert_eq!(shorter, limited);
    assert!(longer.deadline(&config()) > limited.deadline(&config()));
}

#[test]
fn rate_limits_without_retry_after_back_off() {
    let mut machine = downloading();
    let mut waits = Vec::new();
    let mut now = NOW;
    for _ in 0..3 {
        machine =
            advance(&machine, &failed_event(RequestScope::Session, Cause::RateLimit, None), now);
        let until = machine.deadline(&config());
        waits.push(until.since(now).as_secs());
        now = until;
        machine = advance(&machine, &Event::DeadlineReached, now);
    }

    assert_eq!(waits, [300, 600, 1200]);
}

#[test]
fn a_refused_credential_is_refreshed_once_then_waited_for() {
    let refused = failed_event(RequestScope::Session, Cause::Unauthorized, None);

    let first = downloading().step(&config(), &refused, NOW);
    assert_eq!(first.effects, [Effect::RefreshCredential]);
    let second = first.machine.step(&config(), &Event::CredentialChanged, NOW);
    assert_eq!(second.effects, [Effect::Download]);
    let third = advance(&second.machine, &refused, NOW);
    assert_eq!(third.status(), Status::AuthFailed);

    let changed = third.step(&config(), &Event::CredentialChanged, LATER);
    assert_eq!(changed.machine.state, State::Working(SyncPhase::Downloading));
    assert_eq!(changed.effects, [Effect::Restart { cause: RestartCause::Authentication }]);
}

#[test]
fn progress_does_not_validate_a_credential_being_refreshed() {
    let refused = failed_event(RequestScope::Session, Cause::Unauthorized, None);
    let refreshing = advance(&downloading(), &refused, NOW);

    let refreshing = advance(&refreshing, &Event::ProgressMade, NOW);

    assert_eq!(advance(&refreshing, &Event::CredentialUnchanged, NOW).status(), Status::AuthFailed);
}

#[test]
fn a_rate_limit_during_an_error_wait_extends_it() {
    let failed =
        advance(&downloading(), &failed_event(RequestScope::Session, Cause::Server, None), NOW);
    let until = failed.deadline(&config());

    let throttled =
        advance(&failed, &failed_event(RequestScope::Session, Cause::RateLimit, Some(3600)), NOW);

    assert!(throttled.deadline(&config()) >= NOW.after(Duration::from_secs(3600)));
    assert_eq!(throttled.status(), Status::Error);
    let shorter =
        advance(&failed, &failed_event(RequestScope::Session, Cause::RateLimit, Some(2)), NOW);
    assert_eq!(shorter.deadline(&config()), until);
}

#[test]
fn a_backward_clock_step_ends_a_short_throttle() {
    let day = Duration::from_secs(86_400);
    let limited = failed_event(RequestScope::Listing, Cause::RateLimit, Some(2));
    let collecting = machine(State::Working(SyncPhase::Collecting));
    let throttled = advance(&collecting, &limited, NOW.after(day));
    assert!(throttled.active_throttle(NOW.after(day)).is_some());

    assert_eq!(throttled.active_throttle(NOW), None);
    let second = throttled.step(&config(), &limited, NOW);
    assert!(second.effects.contains(&Effect::ContinueListing), "{:?}", second.effects);
    assert!(second.machine.active_throttle(NOW).is_some());
    let rate_limited =
        advance(&throttled, &failed_event(RequestScope::Listing, Cause::RateLimit, None), NOW);
    assert_eq!(rate_limited.status(), Status::RateLimited, "no loop without a wait");
}

/// All documents of one request fail with the same block.
#[test]
fn the_same_block_counts_once() {
    let until = NOW.after(Duration::from_secs(3));
    let blocked = |until| {
        let failure = Failure::new(Cause::RateLimit, "x").with_blocked_until(Some(until));
        Event::Failed { scope: RequestScope::Item, failure, sample: MEDIAN_SAMPLE }
    };
    let throttled = advance(&machine(State::Working(SyncPhase::Downloading)), &blocked(until), NOW);

    let second = throttled.step(&config(), &blocked(until), NOW);

    assert_eq!(second.effects, []);
    assert_eq!(second.machine.errors.consecutive_rate_limits, 1);
    let longer = advance(&throttled, &blocked(until.after(Duration::from_secs(1))), NOW);
    assert_eq!(longer.errors.consecutive_rate_limits, 2);
}

#[test]
fn endless_short_throttles_are_not_progress() {
    let mut machine = downloading();
    let mut now = NOW;
    while machine.progress.stuck_escalation_level == 0 {
        assert!(now < NOW.after(config().stuck_threshold.saturating_mul(2)), "never stuck");
        machine =
            advance(&machine, &failed_event(RequestScope::Session, Cause::RateLimit, Some(1)), now);
        now = machine.active_throttle(now).expect("it is throttled");
        machine = advance(&machine, &Event::DeadlineReached, now);
    }
}

#[test]
fn a_breaker_opened_by_others_costs_no_retry() {
    for phase in [SyncPhase::Polling, SyncPhase::Collecting, SyncPhase::Downloading] {
        let step = machine(State::Working(phase)).step(&config(), &circuit_open_event(LATER), NOW);

        let waiting =
            State::Error { until: LATER, resume_phase: phase, after_wait: AfterWait::Resume };
        assert_eq!(step.machine.state, waiting);
        assert_eq!(step.machine.reason, "the circuit is open");
        assert_eq!((step.machine.errors.total, step.machine.errors.retries), (0, 0));
        assert_eq!(step.effects, [Effect::Pause]);
        let resumed = step.machine.step(&config(), &Event::DeadlineReached, LATER);
        assert_eq!(resumed.effects, [Effect::RequireProbes, Effect::Probe, phase.start_effect()]);
    }
}

#[test]
fn an_error_wait_follows_the_breaker_that_the_source_opened() {
    let failed =
        advance(&downloading(), &failed_event(RequestScope::Session, Cause::Server, None), NOW);
    let reason = failed.reason.clone();

    let waiting = advance(&failed, &circuit_open_event(MUCH_LATER), NOW);
    assert_eq!(waiting.deadline(&config()), MUCH_LATER);
    assert_eq!(waiting.reason, reason);
    assert_eq!(advance(&waiting, &circuit_open_event(NOW), NOW), waiting);

    let resumed = waiting.step(&config(), &Event::CircuitClosed, LATER);
    assert_eq!(resumed.machine.state, State::Working(SyncPhase::Downloading));
    assert_eq!(resumed.effects, [Effect::Probe, Effect::Download]);
}

#[test]
fn errors_are_retried_and_then_lead_to_a_restart() {
    let mut machine = downloading();
    let mut now = NOW;
    for retry in 1..=3 {
        machine = advance(&machine, &failed_event(RequestScope::Session, Cause::Server, None), now);
        assert_eq!(machine.reason, format!("retry {retry} of 3: x"));
        now = machine.deadline(&config());
        machine = advance(&machine, &Event::DeadlineReached, now);
    }
    machine = advance(&machine, &failed_event(RequestScope::Session, Cause::Server, None), now);
    assert_eq!(machine.reason, "3 retries used up: x");

    let step = machine.step(&config(), &Event::DeadlineReached, machine.deadline(&config()));

    assert_eq!(step.effects, [Effect::Restart { cause: RestartCause::Errors }]);
    assert_eq!(step.machine.restarts.count, 1);
    let started = step.machine.step(&config(), &Event::Started, LATER);
    assert_eq!(
        started.effects,
        [Effect::RequireProbes, Effect::Probe, Effect::Download],
        "the source may still be down"
    );
    assert_eq!(step.machine.state, State::Working(SyncPhase::Downloading));
}

#[test]
fn a_restart_after_errors_respects_retry_after() {
    let retry_after = Duration::from_secs(7200);
    let mut used_up = downloading();
    used_up.errors.retries = config().max_retries;

    let failed =
        advance(&used_up, &failed_event(RequestScope::Session, Cause::Server, Some(7200)), NOW);

    assert!(
        matches!(failed.state, State::Error { after_wait: AfterWait::Restart, .. }),
        "{failed:?}"
    );
    assert!(failed.deadline(&config()) >= NOW.after(retry_after));
}

#[test]
fn a_full_disk_is_waited_for_without_a_restart() {
    let mut machine = downloading();
    let mut now = NOW;
    for _ in 0..50 {
        let step = machine.step(
            &config(),
            &failed_event(RequestScope::Session, Cause::Storage, None),
            now,
        );
        assert!(matches!(step.effects[0], Effect::Alert { .. }));
        now = step.machine.deadline(&config());
        let due = step.machine.step(&config(), &Event::DeadlineReached, now);
        assert_eq!(due.effects, [Effect::RequireProbes, Effect::Probe, Effect::Download]);
        machine = due.machine;
    }
    assert_eq!(machine.errors.consecutive, 0);
}

#[test]
fn an_expired_cursor_resyncs_once_and_then_fails() {
    let polling = machine(State::Working(SyncPhase::Polling));
    let expired = failed_event(RequestScope::Listing, Cause::CursorExpired, None);

    let first = polling.step(&config(), &expired, NOW);
    assert!(matches!(
        first.effects[0],
        Effect::OpenSession { sync_scope: SyncScope::FullResync, .. }
    ));

    let again = StateMachine { state: State::Working(SyncPhase::Polling), ..first.machine };
    assert_eq!(advance(&again, &expired, NOW).status(), Status::Error);
}

#[test]
fn a_stuck_phase_is_restarted_and_then_the_worker() {
    let machine = downloading();

    let first = machine.step(&config(), &Event::DeadlineReached, machine.deadline(&config()));
    assert_eq!(first.effects, [Effect::RestartPhase, Effect::Download]);

    let machine = first.machine;
    let second = machine.step(&config(), &Event::DeadlineReached, machine.deadline(&config()));
    assert!(second.effects.contains(&Effect::Restart { cause: RestartCause::Stuck }));
}

#[test]
fn two_sessions_in_one_second_have_different_ids() {
    let idle = StateMachine::new(NOW);
    let first = advance(&advance(&idle, &Event::DeadlineReached, NOW), &Event::ChangesFound, NOW);
    let again = StateMachine { state: State::Working(SyncPhase::Polling), ..first.clone() };

    let second = advance(&again, &Event::ChangesFound, NOW);

    assert_ne!(first.session.map(|s| s.id), second.session.map(|s| s.id));
}

#[test]
fn an_interrupted_poll_restarts_and_a_waiting_one_waits() {
    let deadline_after_start = |until, last_poll| {
        let sync = SyncHistory { last_poll, ..SyncHistory::default() };
        let idle = StateMachine { sync, ..machine(State::Idle { until }) };
        idle.step(&config(), &Event::Started, NOW).machine.deadline(&config())
    };
    let (a_minute_ago, long_ago) = (NOW.before(MINUTE), NOW.before(10 * MINUTE));

    // An unfinished poll is saved with the deadline for stuck work.
    assert!(deadline_after_start(MUCH_LATER, Some(long_ago)) <= NOW);
    assert_eq!(deadline_after_start(MUCH_LATER, None), NOW);
    let in_four_minutes = NOW.after(4 * MINUTE);
    assert_eq!(deadline_after_start(in_four_minutes, Some(a_minute_ago)), in_four_minutes);
}

#[test]
fn an_external_restart_is_counted_once() {
    let mut machine = machine(State::Idle { until: LATER });
    for _ in 0..2 {
        machine.restarts.record_external(NOW);
    }
    assert_eq!(machine.restarts.count, 1);
    assert_eq!(machine.restarts.last, Some(LastRestart { cause: RestartCause::Stuck, at: NOW }));

    machine.restarts.record_external(LATER);
    assert_eq!(machine.restarts.count, 2);
}
