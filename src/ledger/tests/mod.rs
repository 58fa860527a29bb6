//! The ledger, from the first page of a session to its end.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, StatementStatus};

use super::standing::STANDING;
use super::work::WANTED;
use super::*;
use crate::engine::{
    BlobId, Cause, ClockStep, Cursor, DocumentId, Failure, ItemFailureCounts, ItemId, PageToken,
    RecheckPolicy, SessionId, Timestamp,
};

mod due;
mod failures;
mod missing;
mod upgrade;
mod versions;

const NOW: Timestamp = Timestamp(1_772_874_303_456);
const LATER: Timestamp = Timestamp(NOW.0 + 86_400_000);
const DAY: Duration = Duration::from_secs(86_400);
const DAILY: RecheckPolicy = RecheckPolicy { interval: DAY, max_interval: DAY };

fn in_memory() -> Ledger {
    let connection = Connection::open_in_memory().unwrap();
    Ledger::open_in(connection, Path::new("memory")).unwrap()
}

fn begun(kind: SessionKind) -> Ledger {
    let mut ledger = in_memory();
    begin(&mut ledger, "session_1", kind, NOW);
    ledger
}

fn begin(ledger: &mut Ledger, id: &str, kind: SessionKind, started: Timestamp) {
    let pinned = (kind == SessionKind::Full).then(|| Cursor::new("pinned"));
    ledger.begin(&SessionStart { id: SessionId::new(id), kind, started, pinned }).unwrap();
    ledger.set_folder("folder").unwrap();
}

/// `"t/m"` is message `m` of thread `t`; its blob is `m` too, or what stands behind a `=`. Its size
/// is 4, or what stands behind a `:`, where nothing is none.
fn listed(names: &[&str]) -> Vec<Listed> {
    let parse = |name: &&str| {
        let (item, document) = name.split_once('/').unwrap();
        let (document, size) = document.split_once(':').unwrap_or((document, "4"));
        let (document, blob) = document.split_once('=').unwrap_or((document, document));
        Listed {
            item: ItemId::new(item),
            document: DocumentId::new(document),
            blob: BlobId::new(blob),
            size: size.parse().ok(),
        }
    };
    names.iter().map(parse).collect()
}

fn record(ledger: &mut Ledger, names: &[&str]) -> PageOutcome {
    let next = NextPlace::More(PageToken::new("more"));
    ledger.record_page(&listed(names), &next, NOW).unwrap()
}

fn end_listing(ledger: &mut Ledger) {
    ledger.record_page(&[], &NextPlace::Done(None), NOW).unwrap();
}

fn due(ledger: &Ledger, now: Timestamp) -> Vec<Work> {
    ledger.due(now, DueLimits { untried: 100, retries: 100 }, &BTreeSet::new()).unwrap()
}

fn names(work: &[Work]) -> Vec<String> {
    let names = work.iter().map(|work| {
        let documents: Vec<_> = work.documents.iter().map(|wanted| wanted.id.as_str()).collect();
        format!("{}: {}", work.item, documents.join(" "))
    });
    names.collect()
}

fn find(ledger: &Ledger, document: &str) -> WantedDocument {
    let work = due(ledger, LATER);
    let mut all = work.into_iter().flat_map(|work| work.documents);
    all.find(|wanted| wanted.id.as_str() == document).unwrap()
}

fn wanted(ledger: &Ledger, document: &str) -> DocumentNo {
    find(ledger, document).no
}

fn item(ledger: &Ledger, id: &str) -> ItemNo {
    due(ledger, LATER).iter().find(|work| work.item.as_str() == id).unwrap().no
}

fn stored(wanted: &WantedDocument) -> Outcome {
    stored_as(wanted, &format!("t/{}.eml", wanted.no.0))
}

fn stored_as(wanted: &WantedDocument, file: &str) -> Outcome {
    Outcome::Stored {
        document: wanted.no,
        listed: wanted.blob.clone(),
        blob: wanted.blob.clone(),
        size: wanted.size,
        file: file.to_owned(),
        length: wanted.size.unwrap_or(4),
        sha256: [7; 32],
    }
}

fn gone(ledger: &Ledger, document: &str) -> Outcome {
    let wanted = find(ledger, document);
    Outcome::Gone { document: wanted.no, listed: wanted.blob }
}

fn commit(ledger: &mut Ledger, outcomes: &[Outcome]) {
    ledger.commit(outcomes, DAILY, NOW).unwrap();
    assert!(ledger.recount().unwrap().agrees(), "{:?}", ledger.recount());
}

fn store(ledger: &mut Ledger, documents: &[&str]) {
    let outcomes: Vec<_> = documents.iter().map(|id| stored(&find(ledger, id))).collect();
    commit(ledger, &outcomes);
}

/// Listed, stored, gone, quarantined.
fn tally(ledger: &Ledger) -> [u64; 4] {
    let Tally { listed, stored, gone, quarantined, .. } = ledger.tally().unwrap();
    [listed, stored, gone, quarantined]
}

#[test]
fn a_session_goes_from_its_first_page_to_its_end() {
    let mut ledger = begun(SessionKind::Full);

    assert_eq!(record(&mut ledger, &["a/1", "a/2", "b/3"]), PageOutcome { items: 2, documents: 3 });
    assert_eq!(ledger.open_session().unwrap().unwrap().place, Some(PageToken::new("more")));
    assert_eq!(ledger.cursor().unwrap(), None, "not before the listing is complete");
    end_listing(&mut ledger);
    assert_eq!(ledger.cursor().unwrap(), Some(Cursor::new("pinned")));
    assert_eq!(names(&due(&ledger, NOW)), ["a: 1 2", "b: 3"]);

    store(&mut ledger, &["1"]);
    assert_eq!(tally(&ledger), [2, 0, 0, 0], "half an item is not stored");
    assert_eq!(names(&due(&ledger, NOW)), ["a: 2", "b: 3"]);
    store(&mut ledger, &["2", "3"]);

    let id = SessionId::new("session_1");
    let tally = ledger.finish(&id, NOW).unwrap();
    assert_eq!((tally.listed, tally.stored, tally.documents, tally.bytes), (2, 2, 3, 12));
    assert_eq!(ledger.finish(&id, NOW).unwrap(), tally, "again");
    assert_eq!(ledger.open_session().unwrap(), None);
}

#[test]
fn what_runs_for_each_item_is_planned_once() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2", "c/3"]);
    store(&mut ledger, &["1", "2", "3"]);

    for sql in [WANTED, STANDING] {
        let statement = ledger.connection.prepare_cached(sql).unwrap();
        assert!(statement.get_status(StatementStatus::Run) > 1, "not the one that was kept: {sql}");
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
    }
}

#[test]
fn a_page_that_comes_again_changes_nothing() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2"]);
    store(&mut ledger, &["1"]);

    assert_eq!(record(&mut ledger, &["a/1", "b/2", "b/2"]), PageOutcome::default());

    assert_eq!(tally(&ledger), [2, 1, 0, 0]);
    assert_eq!(names(&due(&ledger, NOW)), ["b: 2"]);
}

#[test]
fn a_stored_item_is_taken_on_again_for_a_new_document_only() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2"]);
    end_listing(&mut ledger);
    store(&mut ledger, &["1", "2"]);
    ledger.finish(&SessionId::new("session_1"), NOW).unwrap();
    begin(&mut ledger, "session_2", SessionKind::Changes, NOW);

    assert_eq!(record(&mut ledger, &["a/1", "b/2", "b/3"]), PageOutcome { items: 1, documents: 1 });

    assert_eq!(tally(&ledger), [1, 0, 0, 0]);
    assert_eq!(names(&due(&ledger, NOW)), ["b: 3"]);
    store(&mut ledger, &["3"]);
    record(&mut ledger, &["b/4"]);
    assert_eq!(tally(&ledger), [1, 0, 0, 0], "taken on once, and open again");
    store(&mut ledger, &["4"]);
    assert_eq!(tally(&ledger), [1, 1, 0, 0]);
}

#[test]
fn bytes_that_are_here_under_another_id_are_not_fetched_again() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1=x"]);
    store(&mut ledger, &["1"]);

    record(&mut ledger, &["merged/9=x", "merged/8"]);
    record(&mut ledger, &["other/7=x"]);

    assert_eq!(names(&due(&ledger, NOW)), ["merged: 8"]);
    assert_eq!(tally(&ledger), [3, 2, 0, 0], "the other one has nothing to fetch");
    let file = |item: &str, document: &str| {
        ledger.stored_file(&ItemId::new(item), &DocumentId::new(document)).unwrap().unwrap().file
    };
    assert_eq!(file("merged", "9"), file("a", "1"));
    assert_eq!(ledger.tally().unwrap().documents, 1, "fetched once");
}

#[test]
fn an_item_is_gone_when_all_of_it_is_and_stored_when_some_of_it_is() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2", "b/3"]);
    let outcomes = [gone(&ledger, "1"), gone(&ledger, "2"), stored(&find(&ledger, "3"))];
    commit(&mut ledger, &outcomes);
    commit(&mut ledger, &outcomes);

    assert_eq!(tally(&ledger), [2, 1, 1, 0]);
    let failures = ledger.failures(FailureFilter::default(), 10).unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].message, "the source no longer has 1 of 1 documents");
}

#[test]
fn what_was_gone_is_wanted_again_when_a_later_session_lists_it() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1"]);
    let outcome = gone(&ledger, "1");
    commit(&mut ledger, &[outcome]);
    assert_eq!(record(&mut ledger, &["a/1"]), PageOutcome::default(), "the answer stands");
    end_listing(&mut ledger);
    ledger.finish(&SessionId::new("session_1"), NOW).unwrap();
    begin(&mut ledger, "session_2", SessionKind::Full, NOW);

    record(&mut ledger, &["a/1"]);

    assert_eq!(names(&due(&ledger, NOW)), ["a: 1"]);
    assert_eq!(tally(&ledger), [1, 0, 0, 0]);
}

#[test]
fn a_forbidden_document_puts_its_item_aside_and_the_others_are_kept() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "a/2"]);
    end_listing(&mut ledger);
    let refused = Outcome::Refused {
        document: wanted(&ledger, "1"),
        failure: Failure::new(Cause::Forbidden, "403"),
    };

    commit(&mut ledger, &[refused]);
    assert_eq!(tally(&ledger), [1, 0, 0, 0], "the other is still to come");
    store(&mut ledger, &["2"]);

    assert_eq!(tally(&ledger), [1, 0, 0, 1]);
    assert_eq!(ledger.tally().unwrap().documents, 1);
    assert_eq!(ledger.next_recheck().unwrap(), Some(LATER));
    ledger.finish(&SessionId::new("session_1"), NOW).unwrap();
    begin(&mut ledger, "session_2", SessionKind::Recheck, NOW);
    assert_eq!(tally(&ledger), [0, 0, 0, 0], "not due yet");
    ledger.finish(&SessionId::new("session_2"), NOW).unwrap();
    begin(&mut ledger, "session_3", SessionKind::Recheck, LATER);
    assert_eq!(tally(&ledger), [1, 0, 0, 0]);
    assert_eq!(names(&due(&ledger, LATER)), ["a: 1"], "only what was refused");
    store(&mut ledger, &["1"]);
    assert_eq!(tally(&ledger), [1, 1, 0, 0]);
}

#[test]
fn a_retry_comes_when_it_is_due_and_after_the_untried() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2", "c/3"]);
    let next_at = Timestamp(NOW.0 + 10_000);
    let (no, failure) = (item(&ledger, "b"), Failure::new(Cause::Server, "503"));
    let trial = ItemFailureCounts {
        failed_attempts: 1,
        failed_requests: 3,
        strikes: 2,
        failing_since: Some(NOW),
    };
    let retry = Outcome::Retry { item: no, trial, next_at, failure };

    commit(&mut ledger, &[retry]);

    assert_eq!(names(&due(&ledger, NOW)), ["a: 1", "c: 3"]);
    assert_eq!(names(&due(&ledger, next_at)), ["a: 1", "c: 3", "b: 2"]);
    let trials: Vec<_> =
        due(&ledger, next_at).iter().map(|work| (work.is_retry, work.trial)).collect();
    let untried = (false, ItemFailureCounts::default());
    assert_eq!(trials, [untried, untried, (true, trial)]);
    let one_untried = DueLimits { untried: 1, retries: 0 };
    let work = ledger.due(next_at, one_untried, &BTreeSet::new()).unwrap();
    assert_eq!(names(&work), ["a: 1"]);
    let one_retry = DueLimits { untried: 0, retries: 1 };
    assert_eq!(ledger.due(next_at, one_retry, &BTreeSet::from([no])).unwrap(), []);
    assert_eq!(ledger.waiting_for_retry().unwrap(), 1);
    store(&mut ledger, &["1", "3"]);
    assert_eq!(ledger.next_due(&BTreeSet::new()).unwrap(), Some(next_at));
    assert_eq!(ledger.next_due(&BTreeSet::from([no])).unwrap(), None);
}

fn of(cause: Cause) -> Requeue {
    Requeue::Quarantined(FailureFilter { cause: Some(cause), since: None })
}

#[test]
fn quarantine_and_what_is_gone_are_asked_for_again() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2", "c/3"]);
    end_listing(&mut ledger);
    let failure = Failure::new(Cause::Timeout, "too slow");
    let given_up = Outcome::Quarantined { item: item(&ledger, "a"), failure };
    let gone = gone(&ledger, "2");
    let kept = stored(&find(&ledger, "3"));
    commit(&mut ledger, &[given_up, gone, kept]);
    assert_eq!(tally(&ledger), [3, 1, 1, 1]);
    ledger.finish(&SessionId::new("session_1"), NOW).unwrap();
    assert!(!ledger.rechecks_due(NOW).unwrap());

    assert_eq!(ledger.requeue(&of(Cause::Server), NOW).unwrap(), 0);
    assert_eq!(ledger.requeue(&of(Cause::Timeout), NOW).unwrap(), 1);
    assert_eq!(ledger.requeue(&Requeue::Item(ItemId::new("b")), NOW).unwrap(), 1);
    assert_eq!(ledger.requeue(&Requeue::Item(ItemId::new("c")), NOW).unwrap(), 0, "it is stored");

    assert!(ledger.rechecks_due(NOW).unwrap() && ledger.recount().unwrap().agrees());
    begin(&mut ledger, "session_2", SessionKind::Recheck, NOW);
    assert_eq!(names(&due(&ledger, NOW)), ["a: 1", "b: 2"]);
}

#[test]
fn a_session_is_not_finished_before_its_items_are() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1"]);
    let id = SessionId::new("session_1");

    assert!(ledger.finish(&id, NOW).is_err(), "not all is listed");
    end_listing(&mut ledger);
    assert!(ledger.finish(&id, NOW).is_err(), "one is pending");

    let other = SessionStart {
        id: SessionId::new("session_2"),
        kind: SessionKind::Full,
        started: NOW,
        pinned: None,
    };
    let failure = ledger.begin(&other).unwrap_err();
    assert_eq!(failure.cause, Cause::Ledger);
    assert_eq!(failure.message, "cannot begin a session in memory: session_1 is still open");
}

#[test]
fn a_listing_that_lost_its_cursor_begins_anew_in_the_same_session() {
    let mut ledger = begun(SessionKind::Changes);
    record(&mut ledger, &["a/1"]);

    ledger.list_anew(Some(&Cursor::new("fresh"))).unwrap();

    let session = ledger.open_session().unwrap().unwrap();
    assert_eq!((session.listing, session.place), (ListingKind::Everything, None));
    assert_eq!((session.kind, session.tally.listed), (SessionKind::Changes, 1));
    end_listing(&mut ledger);
    assert_eq!(ledger.cursor().unwrap(), Some(Cursor::new("fresh")));
}

#[test]
fn changes_are_listed_in_a_session_that_is_open() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2"]);
    end_listing(&mut ledger);
    let failure = Failure::new(Cause::Server, "500");
    let aside = Outcome::Quarantined { item: item(&ledger, "a"), failure };
    commit(&mut ledger, &[aside]);

    ledger.list_changes(NOW).unwrap();

    let session = ledger.open_session().unwrap().unwrap();
    let standing = (session.kind, session.listing, session.is_listed, session.place);
    assert_eq!(standing, (SessionKind::Full, ListingKind::Changes, false, None));
    assert_eq!(tally(&ledger), [2, 0, 0, 1], "it rests until it is due");
    record(&mut ledger, &["c/3"]);
    let next = NextPlace::Done(Some(Cursor::new("later")));
    ledger.record_page(&[], &next, NOW).unwrap();
    assert_eq!(ledger.cursor().unwrap(), Some(Cursor::new("later")));
    assert_eq!(tally(&ledger), [3, 0, 0, 1]);
    ledger.list_changes(LATER).unwrap();
    assert_eq!(
        tally(&ledger),
        [3, 0, 0, 0],
        "what was quarantined in this session is not listed twice"
    );
    assert!(ledger.recount().unwrap().agrees());
}

#[test]
fn the_history_keeps_its_newest_rows_and_the_newest_state() {
    let mut ledger = in_memory();
    for at in 0..10_003 {
        let transition = Transition {
            at: Timestamp(at),
            from: "idle".to_owned(),
            to: "collecting".to_owned(),
            reason: "new data".to_owned(),
            session: None,
        };
        ledger.record_transition(&transition, &at.to_string()).unwrap();
    }

    let history = ledger.history(20_000).unwrap();

    assert_eq!((history.len(), history[0].at), (10_000, Timestamp(10_002)));
    assert_eq!(ledger.snapshot().unwrap().as_deref(), Some("10002"));
}

#[test]
fn stored_documents_are_read_page_by_page() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2", "c/3"]);
    store(&mut ledger, &["1", "3"]);

    let first = ledger.stored_files(None, 1).unwrap();
    let rest = ledger.stored_files(Some(first[0].no), 10).unwrap();

    assert_eq!((first[0].document.as_str(), first[0].folder.as_str()), ("1", "folder"));
    assert_eq!((rest.len(), rest[0].sha256), (1, [7; 32]));
    assert_eq!(ledger.damage().unwrap(), [""; 0]);
}

#[test]
fn what_waits_moves_with_a_clock_that_was_set_and_what_does_not_wait_stays() {
    let mut ledger = begun(SessionKind::Full);
    record(&mut ledger, &["a/1", "b/2", "c/3"]);
    end_listing(&mut ledger);
    let failure = || Failure::new(Cause::Server, "x");
    let (tried, next_at) = (item(&ledger, "a"), NOW.after(DAY));
    let aside = item(&ledger, "b");
    commit(
        &mut ledger,
        &[
            Outcome::Retry {
                item: tried,
                trial: ItemFailureCounts::default(),
                next_at,
                failure: failure(),
            },
            Outcome::Quarantined { item: aside, failure: failure() },
        ],
    );

    ledger.move_by(ClockStep::between(NOW, NOW.before(DAY)).unwrap()).unwrap();

    assert_eq!(names(&due(&ledger, Timestamp(NOW.0 - 1))), ["c: 3"]);
    assert_eq!(names(&due(&ledger, NOW)), ["c: 3", "a: 1"]);
    assert!(!ledger.rechecks_due(Timestamp(NOW.0 - 1)).unwrap());
    assert!(ledger.rechecks_due(NOW).unwrap());

    // To 1970 and further: due at once, and still one that was tried.
    ledger.move_by(ClockStep::between(NOW, Timestamp(-NOW.0)).unwrap()).unwrap();
    assert_eq!(names(&due(&ledger, Timestamp(1))), ["c: 3", "a: 1"]);
    assert_eq!(ledger.waiting_for_retry().unwrap(), 1);
}
