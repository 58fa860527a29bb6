//! Tests of polls while items wait for a retry, and of failed attempts.

use super::*;

/// FAULTS 49.
#[test]
fn polling_continues_at_its_interval_during_retries() {
    let machine = downloading();
    let interval = config().poll_interval;

    let early = machine.step(&config(), &Event::OnlyRetriesLeft, LATER);
    assert_eq!((early.effects, early.machine), (Vec::new(), machine.clone()));
    let due = NOW.after(interval);
    let look = machine.step(&config(), &Event::OnlyRetriesLeft, due);
    assert_eq!(look.effects, [Effect::Poll]);
    let again = look.machine.step(&config(), &Event::OnlyRetriesLeft, due.after(MINUTE));
    assert_eq!(again.effects, [], "one look per interval, also while it is under way");

    let nothing = state_after(&look.machine, &Event::NoChanges, due);
    assert_eq!(nothing.state, State::Working(SyncPhase::Downloading));
    assert_eq!(nothing.last_progress, machine.last_progress, "nothing was achieved");
    let news = look.machine.step(&config(), &Event::ChangesFound, due);
    assert_eq!(news.effects, [Effect::ContinueListing]);
    assert_eq!(news.machine.session, machine.session, "it is the same session");
    assert!(news.machine.is_listing_changes);
    let listed = state_after(&news.machine, &Event::ListingCompleted, due);
    assert_eq!(listed.state, State::Working(SyncPhase::Downloading));
    assert!(!listed.is_listing_changes);
}

#[test]
fn a_failed_poll_during_retries_waits_for_its_interval() {
    let due = NOW.after(config().poll_interval);
    let look = state_after(&downloading(), &Event::OnlyRetriesLeft, due);

    let erred = state_after(&look, &failed_event(RequestScope::Listing, Cause::Server, None), due);
    assert_eq!(erred.status(), Status::Error);
    let resumed_at = erred.deadline(&config());
    let resumed = state_after(&erred, &Event::DeadlineReached, resumed_at);

    assert_eq!(resumed.state, State::Working(SyncPhase::Downloading));
    let again = resumed.step(&config(), &Event::OnlyRetriesLeft, resumed_at);
    assert_eq!(again.effects, [], "the leftovers come first");
}

#[test]
fn an_expired_cursor_during_retries_resyncs_in_the_session() {
    let lost = failed_event(RequestScope::Listing, Cause::CursorExpired, None);

    let first = downloading().step(&config(), &lost, NOW);

    assert_eq!(first.effects, [Effect::ContinueListing]);
    assert!(first.machine.is_full_resync && first.machine.is_listing_changes);
    assert_eq!(first.machine.session, downloading().session);
    let listed = state_after(&first.machine, &Event::ListingCompleted, NOW);
    assert_eq!(state_after(&listed, &lost, NOW).status(), Status::Error, "twice in a row");
}

/// FAULTS 49.
#[test]
fn failed_attempts_extend_the_deadline_without_progress() {
    let machine = StateMachine { consecutive_errors: 2, retry_count: 2, ..downloading() };

    let attempted = state_after(&machine, &Event::AttemptsFailed, LATER);

    assert!(attempted.deadline(&config()) > machine.deadline(&config()));
    assert_eq!(attempted.last_progress, machine.last_progress);
    assert_eq!((attempted.consecutive_errors, attempted.retry_count), (2, 2));
}
