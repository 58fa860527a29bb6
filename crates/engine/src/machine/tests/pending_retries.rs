//! Tests of polls while items wait for a retry, and of failed attempts.

use super::*;

/// FAULTS 49: new mail arrives while only bad items are left.
#[test]
fn polling_continues_at_its_interval_during_retries() {
    let machine = downloading();
    let interval = config().poll_interval;

    let early = machine.step(&config(), &Event::OnlyRetriesLeft, LATER);
    assert_eq!((early.effects, early.machine), (Vec::new(), machine.clone()));
    let due = NOW.after(interval);
    let poll = machine.step(&config(), &Event::OnlyRetriesLeft, due);
    assert_eq!(poll.effects, [Effect::Poll]);
    let again = poll.machine.step(&config(), &Event::OnlyRetriesLeft, due.after(MINUTE));
    assert_eq!(again.effects, [], "one poll per interval, also while it is under way");

    let unchanged = advance(&poll.machine, &Event::NoChanges, due);
    assert_eq!(unchanged.state, State::Working(SyncPhase::Downloading));
    assert_eq!(unchanged.progress.last_at, machine.progress.last_at, "no progress was made");
    let changes = poll.machine.step(&config(), &Event::ChangesFound, due);
    assert_eq!(changes.effects, [Effect::ContinueListing]);
    assert_eq!(changes.machine.session, machine.session, "it is the same session");
    assert!(changes.machine.listing.is_listing_changes);
    let listed = advance(&changes.machine, &Event::ListingCompleted, due);
    assert_eq!(listed.state, State::Working(SyncPhase::Downloading));
    assert!(!listed.listing.is_listing_changes);
}

#[test]
fn a_failed_poll_during_retries_waits_for_its_interval() {
    let due = NOW.after(config().poll_interval);
    let poll = advance(&downloading(), &Event::OnlyRetriesLeft, due);

    let failed = advance(&poll, &failed_event(RequestScope::Listing, Cause::Server, None), due);
    assert_eq!(failed.status(), Status::Error);
    let resumed_at = failed.deadline(&config());
    let resumed = advance(&failed, &Event::DeadlineReached, resumed_at);

    assert_eq!(resumed.state, State::Working(SyncPhase::Downloading));
    let again = resumed.step(&config(), &Event::OnlyRetriesLeft, resumed_at);
    assert_eq!(again.effects, [], "the pending items come first");
}

#[test]
fn an_expired_cursor_during_retries_resyncs_in_the_session() {
    let expired = failed_event(RequestScope::Listing, Cause::CursorExpired, None);

    let first = downloading().step(&config(), &expired, NOW);

    assert_eq!(first.effects, [Effect::ContinueListing]);
    assert!(first.machine.listing.is_full_resync && first.machine.listing.is_listing_changes);
    assert_eq!(first.machine.session, downloading().session);
    let listed = advance(&first.machine, &Event::ListingCompleted, NOW);
    assert_eq!(advance(&listed, &expired, NOW).status(), Status::Error, "twice in a row");
}

/// FAULTS 49: every attempt fails, although the worker is not stuck.
#[test]
fn failed_attempts_extend_the_deadline_without_progress() {
    let mut machine = downloading();
    (machine.errors.consecutive, machine.errors.retries) = (2, 2);

    let attempted = advance(&machine, &Event::AttemptsFailed, LATER);

    assert!(attempted.deadline(&config()) > machine.deadline(&config()));
    assert_eq!(attempted.progress.last_at, machine.progress.last_at);
    assert_eq!((attempted.errors.consecutive, attempted.errors.retries), (2, 2));
}
