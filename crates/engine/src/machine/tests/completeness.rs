//! Tests of the time up to which the archive is complete.

use super::*;

/// A time in the session of the tests, in minutes after its poll began.
fn minute(number: u64) -> Timestamp {
    NOW.after(Duration::from_secs(60 * number))
}

fn complete_until(machine: &StateMachine) -> Option<Timestamp> {
    machine.sync.complete_until
}

/// Advances a machine by events, each at its time.
fn advance_all(machine: StateMachine, events: &[(&Event, Timestamp)]) -> StateMachine {
    events.iter().fold(machine, |machine, (event, now)| advance(&machine, event, *now))
}

/// Returns a machine that has found changes in minute 1 and listed them in minute 2.
fn machine_with_listed_changes() -> StateMachine {
    let events = [
        (&Event::DeadlineReached, NOW),
        (&Event::ChangesFound, minute(1)),
        (&Event::ListingCompleted, minute(2)),
    ];
    advance_all(StateMachine::new(NOW), &events)
}

#[test]
fn a_completed_session_is_complete_until_its_listing_began() {
    let listed = machine_with_listed_changes();
    assert_eq!(complete_until(&listed), None, "its items are pending");

    let completed = advance(&listed, &Event::AllItemsSettled, minute(9));

    assert_eq!(complete_until(&completed), Some(minute(1)));
}

#[test]
fn every_kind_of_session_counts_from_its_start() {
    let expired = failed_event(RequestScope::Listing, Cause::CursorExpired, None);
    for found in [Event::ChangesFound, Event::ReconcileDue, expired] {
        let events = [
            (&Event::DeadlineReached, NOW),
            (&found, minute(1)),
            (&Event::ListingCompleted, minute(2)),
            (&Event::AllItemsSettled, minute(3)),
        ];
        let completed = advance_all(StateMachine::new(NOW), &events);

        assert_eq!(complete_until(&completed), Some(minute(1)), "{found:?}");
    }
}

#[test]
fn a_poll_without_changes_is_complete_until_it_began() {
    let polling = advance(&StateMachine::new(NOW), &Event::DeadlineReached, NOW);

    let idle = advance(&polling, &Event::NoChanges, minute(4));

    assert_eq!(complete_until(&idle), Some(NOW), "not until its answer");
    assert_eq!(idle.sync.last_poll, Some(minute(4)));
}

#[test]
fn a_repeated_poll_counts_from_its_own_start() {
    let failed = failed_event(RequestScope::Listing, Cause::RateLimit, Some(90));
    let events =
        [(&Event::DeadlineReached, NOW), (&failed, NOW), (&Event::DeadlineReached, minute(5))];
    let polling = advance_all(StateMachine::new(NOW), &events);
    assert_eq!(polling.state, State::Working(SyncPhase::Polling));

    let idle = advance(&polling, &Event::NoChanges, minute(6));

    assert_eq!(complete_until(&idle), Some(minute(5)));
}

#[test]
fn changes_listed_in_a_session_advance_its_completeness() {
    let events = [
        (&Event::PollRequested, minute(10)),
        (&Event::ChangesFound, minute(11)),
        (&Event::ListingCompleted, minute(12)),
        (&Event::AllItemsSettled, minute(20)),
    ];

    let completed = advance_all(machine_with_listed_changes(), &events);

    assert_eq!(complete_until(&completed), Some(minute(11)));
}

#[test]
fn a_poll_without_changes_in_a_session_waits_for_its_items() {
    let events = [(&Event::PollRequested, minute(10)), (&Event::NoChanges, minute(11))];
    let polled = advance_all(machine_with_listed_changes(), &events);
    assert_eq!(complete_until(&polled), None);

    let completed = advance(&polled, &Event::AllItemsSettled, minute(20));

    assert_eq!(complete_until(&completed), Some(minute(10)));
}

#[test]
fn a_failed_poll_in_a_session_proves_nothing() {
    let failed = failed_event(RequestScope::Listing, Cause::Server, None);
    let polled = advance_all(
        machine_with_listed_changes(),
        &[(&Event::PollRequested, minute(10)), (&failed, minute(11))],
    );
    let resumed = advance(&polled, &Event::DeadlineReached, polled.deadline(&config()));

    let completed = advance(&resumed, &Event::AllItemsSettled, minute(60));

    assert_eq!(complete_until(&completed), Some(minute(1)));
}

#[test]
fn completeness_survives_an_expired_cursor_and_not_another_account() {
    let completed = advance(&machine_with_listed_changes(), &Event::AllItemsSettled, minute(3));
    let polling = advance(&completed, &Event::RunRequested, minute(4));
    let listing_failure = |cause| failed_event(RequestScope::Listing, cause, None);

    let expired = advance(&polling, &listing_failure(Cause::CursorExpired), minute(5));
    let other_account = advance(&polling, &listing_failure(Cause::AccountChanged), minute(5));

    assert_eq!(complete_until(&expired), Some(minute(1)));
    assert_eq!(complete_until(&other_account), None);
}

#[test]
fn a_clock_step_shifts_completeness() {
    let completed = advance(&machine_with_listed_changes(), &Event::AllItemsSettled, minute(3));
    let day_before = NOW.before(Duration::from_secs(86_400));
    let step = ClockStep::between(NOW, day_before).unwrap();

    let shifted = completed.shifted_by(step);

    assert_eq!(complete_until(&shifted), Some(minute(1).shifted_by(step)));
    assert!(complete_until(&shifted) < Some(day_before.after(2 * MINUTE)));
}
