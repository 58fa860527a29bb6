//! News beside items that wait for a retry, and attempts that fail.

use super::*;

/// FAULTS 49.
#[test]
fn news_beside_leftovers_is_looked_for_at_its_interval() {
    let machine = downloading();
    let interval = rules().poll_interval;

    let early = machine.step(&rules(), &Event::OnlyRetriesLeft, LATER);
    assert_eq!((early.effects, early.machine), (Vec::new(), machine.clone()));
    let due = NOW.after(interval);
    let look = machine.step(&rules(), &Event::OnlyRetriesLeft, due);
    assert_eq!(look.effects, [Effect::Look]);
    let again = look.machine.step(&rules(), &Event::OnlyRetriesLeft, due.after(MINUTE));
    assert_eq!(again.effects, [], "one look per interval, also while it is under way");

    let nothing = after(&look.machine, &Event::FoundNothing, due);
    assert_eq!(nothing.state, State::Working(Work::Downloading));
    assert_eq!(nothing.last_progress, machine.last_progress, "nothing was achieved");
    let news = look.machine.step(&rules(), &Event::FoundNews, due);
    assert_eq!(news.effects, [Effect::Collect]);
    assert_eq!(news.machine.session, machine.session, "it is the same session");
    assert!(news.machine.listing_news);
    let listed = after(&news.machine, &Event::Listed, due);
    assert_eq!(listed.state, State::Working(Work::Downloading));
    assert!(!listed.listing_news);
}

#[test]
fn a_look_beside_leftovers_that_fails_leaves_time_for_them() {
    let due = NOW.after(rules().poll_interval);
    let look = after(&downloading(), &Event::OnlyRetriesLeft, due);

    let erred = after(&look, &failed(RequestScope::Listing, Cause::Server, None), due);
    assert_eq!(erred.status(), Status::Error);
    let resumed_at = erred.deadline(&rules());
    let resumed = after(&erred, &Event::Due, resumed_at);

    assert_eq!(resumed.state, State::Working(Work::Downloading));
    let again = resumed.step(&rules(), &Event::OnlyRetriesLeft, resumed_at);
    assert_eq!(again.effects, [], "the leftovers come first");
}

#[test]
fn a_place_lost_beside_leftovers_lists_everything_in_the_same_session() {
    let lost = failed(RequestScope::Listing, Cause::CursorExpired, None);

    let first = downloading().step(&rules(), &lost, NOW);

    assert_eq!(first.effects, [Effect::Collect]);
    assert!(first.machine.relisted && first.machine.listing_news);
    assert_eq!(first.machine.session, downloading().session);
    let listed = after(&first.machine, &Event::Listed, NOW);
    assert_eq!(after(&listed, &lost, NOW).status(), Status::Error, "twice in a row");
}

/// FAULTS 49.
#[test]
fn failed_attempts_move_the_deadline_and_are_no_progress() {
    let machine = Machine { consecutive_errors: 2, retry_count: 2, ..downloading() };

    let attempted = after(&machine, &Event::Attempted, LATER);

    assert!(attempted.deadline(&rules()) > machine.deadline(&rules()));
    assert_eq!(attempted.last_progress, machine.last_progress);
    assert_eq!((attempted.consecutive_errors, attempted.retry_count), (2, 2));
}
