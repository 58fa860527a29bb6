//! Every state meets every event; the drawing in the docs is made from what happens.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::*;
use crate::engine::backoff::DEFAULTS;
use crate::engine::{Cause, ClockStep, Failure, RandomSample, RequestScope, SessionId};

mod laws;
mod leftovers;

const NOW: Timestamp = Timestamp(1_000_000_000);
const LATER: Timestamp = Timestamp(NOW.0 + 60_000);
const MUCH_LATER: Timestamp = Timestamp(NOW.0 + 600_000);
const MINUTE: Duration = Duration::from_secs(60);
const MIDDLE: RandomSample = RandomSample(u32::MAX / 2 + 1);

fn rules() -> Rules {
    Rules {
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

fn machine(state: State) -> Machine {
    let session =
        Session { id: SessionId::from_unix_seconds(900_000), started: NOW, completed: None };
    Machine { state, session: Some(session), last_look: Some(NOW), ..Machine::new(NOW) }
}

/// Each state, its deadline one minute ahead where it has one of its own.
fn states() -> Vec<(&'static str, Machine)> {
    let (until, resume) = (LATER, Work::Downloading);
    vec![
        ("idle", machine(State::Idle { until })),
        ("idle (looking)", machine(State::Working(Work::Looking))),
        ("collecting", machine(State::Working(Work::Collecting))),
        ("downloading", machine(State::Working(Work::Downloading))),
        ("completed", machine(State::Completed)),
        ("error", machine(State::Error { until, resume, then: Then::Resume })),
        ("error (restart)", machine(State::Error { until, resume, then: Then::Restart })),
        ("rate_limited", machine(State::RateLimited { until, resume })),
        ("auth_failed", machine(State::AuthFailed { until, resume })),
    ]
}

/// Each wait, from each kind of work.
fn waits() -> Vec<(&'static str, Machine)> {
    let until = LATER;
    let waits = |resume| {
        [
            machine(State::Error { until, resume, then: Then::Resume }),
            machine(State::RateLimited { until, resume }),
            machine(State::AuthFailed { until, resume }),
        ]
    };
    [Work::Looking, Work::Collecting].into_iter().flat_map(waits).map(|wait| ("", wait)).collect()
}

fn failed(scope: RequestScope, cause: Cause, told: Option<u64>) -> Event {
    let failure = Failure::new(cause, "x").with_retry_after(told.map(Duration::from_secs));
    Event::Failed { scope, failure, draw: MIDDLE }
}

fn circuit_open(until: Timestamp) -> Event {
    Event::CircuitOpen { until, reason: "the circuit is open".to_owned() }
}

fn events() -> Vec<(String, Event)> {
    let mut events = vec![
        ("started".to_owned(), Event::Started),
        ("asked".to_owned(), Event::Asked),
        ("due".to_owned(), Event::Due),
        ("reconcile due".to_owned(), Event::ReconcileDue),
        ("found news".to_owned(), Event::FoundNews),
        ("found nothing".to_owned(), Event::FoundNothing),
        ("progressed".to_owned(), Event::Progressed),
        ("attempted".to_owned(), Event::Attempted),
        ("only retries left".to_owned(), Event::OnlyRetriesLeft),
        ("news asked".to_owned(), Event::NewsAsked),
        ("listed".to_owned(), Event::Listed),
        ("settled".to_owned(), Event::Settled),
        ("resting".to_owned(), Event::Resting { until: LATER }),
        ("credential changed".to_owned(), Event::CredentialChanged),
        ("credential same".to_owned(), Event::CredentialSame),
        ("circuit open".to_owned(), circuit_open(MUCH_LATER)),
        ("circuit closed".to_owned(), Event::CircuitClosed),
        ("rate_limit (2 s)".to_owned(), failed(RequestScope::Listing, Cause::RateLimit, Some(2))),
        ("rate_limit (90 s)".to_owned(), failed(RequestScope::Listing, Cause::RateLimit, Some(90))),
    ];
    for cause in Cause::ALL {
        events.push((cause.name().to_owned(), failed(RequestScope::Listing, cause, None)));
    }
    events
}

#[test]
fn every_state_meets_every_event() {
    let mut table = String::new();
    for (name, machine) in states() {
        writeln!(table, "{name}").expect("a string takes it");
        for (event_name, event) in events() {
            let now = if event == Event::Due { machine.deadline(&rules()) } else { NOW };
            let step = machine.step(&rules(), &event, now);
            if step.machine == machine && step.effects.is_empty() {
                continue;
            }
            let effects: Vec<_> = step.effects.iter().map(|effect| format!("{effect:?}")).collect();
            writeln!(table, "  {event_name} → {:?} [{}]", step.machine.state, effects.join(", "))
                .expect("a string takes it");
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_drawing_in_the_docs_is_the_machine() {
    let mut edges = BTreeSet::new();
    for (_, mut machine) in states().into_iter().chain(waits()) {
        // A refusal has been answered by reading the credential again, or not yet.
        for credential in [Credential::Good, Credential::Renewing] {
            machine.credential = credential;
            for now in [NOW, machine.deadline(&rules())] {
                for (event_name, event) in events() {
                    let step = machine.step(&rules(), &event, now);
                    let (from, to) = (machine.status(), step.machine.status());
                    if from != to {
                        edges.insert((from, to, label(&event, &event_name)));
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
            .expect("a string takes it");
    }

    let docs = include_str!("../../../../docs/machine.md");
    assert!(docs.contains(&drawing), "docs/machine.md should hold this drawing:\n{drawing}");
}

/// Failures are drawn by what they deserve, not one by one.
fn label(event: &Event, name: &str) -> String {
    let Event::Failed { scope, failure, .. } = event else { return name.to_owned() };
    let verdict = format!("{:?}", failure.cause.action(*scope));
    let words = verdict.split_inclusive(|_: char| true).map(|c| match c {
        c if c.chars().all(char::is_uppercase) => format!(" {}", c.to_lowercase()),
        c => c.to_owned(),
    });
    words.collect::<String>().trim().to_owned()
}

fn downloading() -> Machine {
    machine(State::Working(Work::Downloading))
}

/// Lets one fact happen and returns the machine after it.
fn after(machine: &Machine, event: &Event, now: Timestamp) -> Machine {
    machine.step(&rules(), event, now).machine
}

#[test]
fn a_rate_limit_lasts_as_long_as_the_server_said_and_costs_no_retry() {
    let limited =
        after(&downloading(), &failed(RequestScope::Session, Cause::RateLimit, Some(300)), NOW);

    let State::RateLimited { until, resume } = limited.state else { panic!("{limited:?}") };
    assert!(until >= NOW.after(Duration::from_secs(300)));
    assert!(until <= NOW.after(Duration::from_secs(303)));
    assert_eq!(resume, Work::Downloading);
    assert_eq!((limited.retry_count, limited.error_count), (0, 0));
    assert_eq!(limited.reason, "the server said: retry after 300 s");

    let resumed = limited.step(&rules(), &Event::Due, until);
    assert_eq!(resumed.machine.state, State::Working(Work::Downloading));
    assert_eq!(resumed.effects, [Effect::Download]);
}

#[test]
fn a_second_word_of_the_server_only_moves_the_end_later() {
    let limited =
        after(&downloading(), &failed(RequestScope::Session, Cause::RateLimit, Some(300)), NOW);

    let shorter = after(&limited, &failed(RequestScope::Session, Cause::RateLimit, Some(10)), NOW);
    let longer = after(&limited, &failed(RequestScope::Session, Cause::RateLimit, Some(600)), NOW);

    assert_eq!(shorter, limited);
    assert!(longer.deadline(&rules()) > limited.deadline(&rules()));
}

#[test]
fn rate_limits_without_a_time_wait_longer_each_time() {
    let mut machine = downloading();
    let mut waits = Vec::new();
    let mut now = NOW;
    for _ in 0..3 {
        machine = after(&machine, &failed(RequestScope::Session, Cause::RateLimit, None), now);
        let until = machine.deadline(&rules());
        waits.push(until.since(now).as_secs());
        now = until;
        machine = after(&machine, &Event::Due, now);
    }

    assert_eq!(waits, [300, 600, 1200]);
}

#[test]
fn a_refused_credential_is_read_again_once_and_then_waited_for() {
    let refused = failed(RequestScope::Session, Cause::Unauthorized, None);

    let first = downloading().step(&rules(), &refused, NOW);
    assert_eq!(first.effects, [Effect::Renew]);
    let second = first.machine.step(&rules(), &Event::CredentialChanged, NOW);
    assert_eq!(second.effects, [Effect::Download]);
    let third = after(&second.machine, &refused, NOW);
    assert_eq!(third.status(), Status::AuthFailed);

    let changed = third.step(&rules(), &Event::CredentialChanged, LATER);
    assert_eq!(changed.machine.state, State::Working(Work::Downloading));
    assert_eq!(changed.effects, [Effect::Restart { cause: RestartCause::Authentication }]);
}

#[test]
fn what_becomes_durable_meanwhile_does_not_vouch_for_a_credential_that_is_read_again() {
    let refused = failed(RequestScope::Session, Cause::Unauthorized, None);
    let renewing = after(&downloading(), &refused, NOW);

    let renewing = after(&renewing, &Event::Progressed, NOW);

    assert_eq!(after(&renewing, &Event::CredentialSame, NOW).status(), Status::AuthFailed);
}

#[test]
fn a_throttle_heard_while_waiting_after_an_error_is_obeyed_too() {
    let erred = after(&downloading(), &failed(RequestScope::Session, Cause::Server, None), NOW);
    let until = erred.deadline(&rules());

    let throttled =
        after(&erred, &failed(RequestScope::Session, Cause::RateLimit, Some(3600)), NOW);

    assert!(throttled.deadline(&rules()) >= NOW.after(Duration::from_secs(3600)));
    assert_eq!(throttled.status(), Status::Error);
    let shorter = after(&erred, &failed(RequestScope::Session, Cause::RateLimit, Some(2)), NOW);
    assert_eq!(shorter.deadline(&rules()), until);
}

#[test]
fn a_clock_that_was_set_back_ends_a_short_hold_and_starts_no_long_one() {
    let day = Duration::from_secs(86_400);
    let limited = failed(RequestScope::Listing, Cause::RateLimit, Some(2));
    let collecting = machine(State::Working(Work::Collecting));
    let held = after(&collecting, &limited, NOW.after(day));
    assert!(held.held(NOW.after(day)).is_some());

    assert_eq!(held.held(NOW), None);
    let again = held.step(&rules(), &limited, NOW);
    assert!(again.effects.contains(&Effect::Collect), "{:?}", again.effects);
    assert!(again.machine.held(NOW).is_some());
    let untold = after(&held, &failed(RequestScope::Listing, Cause::RateLimit, None), NOW);
    assert_eq!(untold.status(), Status::RateLimited, "no loop without a wait");
}

#[test]
fn short_holds_without_end_are_not_progress() {
    let mut machine = downloading();
    let mut now = NOW;
    while machine.stuck_rung == 0 {
        assert!(now < NOW.after(rules().stuck_threshold.saturating_mul(2)), "never called stuck");
        machine = after(&machine, &failed(RequestScope::Session, Cause::RateLimit, Some(1)), now);
        now = machine.held(now).expect("it is held");
        machine = after(&machine, &Event::Due, now);
    }
}

#[test]
fn a_breaker_that_others_opened_is_waited_for_and_costs_no_retry() {
    for work in [Work::Looking, Work::Collecting, Work::Downloading] {
        let step = machine(State::Working(work)).step(&rules(), &circuit_open(LATER), NOW);

        let waiting = State::Error { until: LATER, resume: work, then: Then::Resume };
        assert_eq!(step.machine.state, waiting);
        assert_eq!(step.machine.reason, "the circuit is open");
        assert_eq!((step.machine.error_count, step.machine.retry_count), (0, 0));
        assert_eq!(step.effects, [Effect::Pause]);
        let resumed = step.machine.step(&rules(), &Event::Due, LATER);
        assert_eq!(resumed.effects, [Effect::Prove, work.effect()]);
    }
}

#[test]
fn the_wait_of_the_source_that_opened_it_is_not_shorter_than_the_breakers_nor_longer_when_it_closes()
 {
    let erred = after(&downloading(), &failed(RequestScope::Session, Cause::Server, None), NOW);
    let reason = erred.reason.clone();

    let waiting = after(&erred, &circuit_open(MUCH_LATER), NOW);
    assert_eq!(waiting.deadline(&rules()), MUCH_LATER);
    assert_eq!(waiting.reason, reason);
    assert_eq!(after(&waiting, &circuit_open(NOW), NOW), waiting);

    let resumed = waiting.step(&rules(), &Event::CircuitClosed, LATER);
    assert_eq!(resumed.machine.state, State::Working(Work::Downloading));
    assert_eq!(resumed.effects, [Effect::Prove, Effect::Download]);
}

#[test]
fn errors_are_retried_and_then_lead_to_a_restart() {
    let mut machine = downloading();
    let mut now = NOW;
    for retry in 1..=3 {
        machine = after(&machine, &failed(RequestScope::Session, Cause::Server, None), now);
        assert_eq!(machine.reason, format!("retry {retry} of 3: x"));
        now = machine.deadline(&rules());
        machine = after(&machine, &Event::Due, now);
    }
    machine = after(&machine, &failed(RequestScope::Session, Cause::Server, None), now);
    assert_eq!(machine.reason, "3 retries used up: x");

    let step = machine.step(&rules(), &Event::Due, machine.deadline(&rules()));

    assert_eq!(step.effects, [Effect::Restart { cause: RestartCause::Errors }]);
    assert_eq!(step.machine.restart_count, 1);
    let started = step.machine.step(&rules(), &Event::Started, LATER);
    assert_eq!(started.effects, [Effect::Prove, Effect::Download], "it may still be down");
    assert_eq!(step.machine.state, State::Working(Work::Downloading));
}

#[test]
fn a_restart_after_errors_is_never_earlier_than_the_server_said() {
    let told = Duration::from_secs(7200);
    let used_up = Machine { retry_count: rules().max_retries, ..downloading() };

    let erred = after(&used_up, &failed(RequestScope::Session, Cause::Server, Some(7200)), NOW);

    assert!(matches!(erred.state, State::Error { then: Then::Restart, .. }), "{erred:?}");
    assert!(erred.deadline(&rules()) >= NOW.after(told));
}

#[test]
fn a_disk_that_is_full_is_waited_for_without_a_restart() {
    let mut machine = downloading();
    let mut now = NOW;
    for _ in 0..50 {
        let step =
            machine.step(&rules(), &failed(RequestScope::Session, Cause::Storage, None), now);
        assert!(matches!(step.effects[0], Effect::Alert { .. }));
        now = step.machine.deadline(&rules());
        let due = step.machine.step(&rules(), &Event::Due, now);
        assert_eq!(due.effects, [Effect::Prove, Effect::Download]);
        machine = due.machine;
    }
    assert_eq!(machine.consecutive_errors, 0);
}

#[test]
fn a_lost_place_lists_everything_once_and_fails_the_second_time() {
    let looking = machine(State::Working(Work::Looking));
    let lost = failed(RequestScope::Listing, Cause::CursorExpired, None);

    let first = looking.step(&rules(), &lost, NOW);
    assert!(matches!(first.effects[0], Effect::Begin { extent: Extent::Everything, .. }));

    let again = Machine { state: State::Working(Work::Looking), ..first.machine };
    assert_eq!(after(&again, &lost, NOW).status(), Status::Error);
}

#[test]
fn stuck_work_is_rebuilt_and_then_restarted() {
    let machine = downloading();

    let rebuilt = machine.step(&rules(), &Event::Due, machine.deadline(&rules()));
    assert_eq!(rebuilt.effects, [Effect::Rebuild, Effect::Download]);

    let machine = rebuilt.machine;
    let restarted = machine.step(&rules(), &Event::Due, machine.deadline(&rules()));
    assert!(restarted.effects.contains(&Effect::Restart { cause: RestartCause::Stuck }));
}

#[test]
fn two_sessions_in_one_second_have_different_names() {
    let idle = Machine::new(NOW);
    let first = after(&after(&idle, &Event::Due, NOW), &Event::FoundNews, NOW);
    let again = Machine { state: State::Working(Work::Looking), ..first.clone() };

    let second = after(&again, &Event::FoundNews, NOW);

    assert_ne!(first.session.map(|s| s.id), second.session.map(|s| s.id));
}

#[test]
fn a_look_that_was_cut_short_is_begun_anew_at_once_and_one_that_waits_goes_on_waiting() {
    let started = |until, last_look| {
        let idle = Machine { last_look, ..machine(State::Idle { until }) };
        idle.step(&rules(), &Event::Started, NOW).machine.deadline(&rules())
    };
    let (a_minute_ago, long_ago) = (NOW.before(MINUTE), NOW.before(10 * MINUTE));

    // A look in the middle is saved with the deadline of one that is stuck.
    assert!(started(MUCH_LATER, Some(long_ago)) <= NOW);
    assert_eq!(started(MUCH_LATER, None), NOW);
    assert_eq!(started(NOW.after(4 * MINUTE), Some(a_minute_ago)), NOW.after(4 * MINUTE));
}

#[test]
fn a_restart_that_others_asked_for_is_counted_once() {
    let mut machine = machine(State::Idle { until: LATER });
    for _ in 0..2 {
        machine.note_restart_from_outside(NOW);
    }
    assert_eq!(machine.restart_count, 1);
    assert_eq!(machine.last_restart, Some(LastRestart { cause: RestartCause::Stuck, at: NOW }));

    machine.note_restart_from_outside(LATER);
    assert_eq!(machine.restart_count, 2);
}
