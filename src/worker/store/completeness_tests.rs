//! Tests of the time up to which the archive is complete, if the state and the ledger are of
//! different age.

use cynosure_engine::{NextPage, SyncHistory};
use rusqlite::Connection;

use super::*;
use crate::archive::DocumentFormat;
use crate::disk::MemoryDisk;
use crate::ledger::NewSession;

const NOW: Timestamp = Timestamp(1_772_874_303_456);

const SESSION: &str = "session_1";

/// Time up to which the archive is complete, as the state has it.
const COMPLETE_UNTIL: Timestamp = Timestamp(NOW.0 - 1_000);

/// Returns a state whose session is completed.
fn completed_state() -> ExecutionState {
    ExecutionState {
        schema: state::SCHEMA,
        status: Status::Completed,
        session_id: Some(SessionId::new(SESSION)),
        start_time: Some(NOW),
        completion_time: Some(NOW),
        archive_documents: Some(0),
        complete_until: Some(COMPLETE_UNTIL),
        listed_until: Some(COMPLETE_UNTIL),
        last_updated: NOW,
        ..ExecutionState::default()
    }
}

fn open_store(disk: &MemoryDisk, ledger: Box<dyn Ledger>) -> OpenedStore {
    let info = SourceInfo {
        source: "work".to_owned(),
        kind: "jmap",
        account: "me@example.com".to_owned(),
        provider: "example".to_owned(),
    };
    let archive = ArchiveConfig { dir: "/downloads".into(), format: DocumentFormat::default() };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let id = LedgerId::new("a");
    Store::open_with(disk, ledger, Path::new("/state"), &archive, info, &id, NOW).unwrap()
}

/// Opens a store with this state and a ledger to which `fill` has added sessions.
fn open_with_state(state: &ExecutionState, fill: impl FnOnce(&mut dyn Ledger)) -> SyncHistory {
    let disk = MemoryDisk::default();
    ensure_folder(&disk, Path::new("/state")).unwrap();
    let connection = Connection::open_in_memory().unwrap();
    let ledger = SqliteLedger::from_connection(connection, Path::new("/ledger")).unwrap();
    let Store { mut ledger, .. } = open_store(&disk, Box::new(ledger)).store;
    fill(&mut *ledger);
    state::save_state_file(&disk, &Path::new("/state").join(STATE_FILE), state).unwrap();
    open_store(&disk, ledger).machine.sync
}

fn begin_session(ledger: &mut dyn Ledger, id: &str) {
    let session = NewSession {
        id: SessionId::new(id),
        kind: SessionKind::Full,
        started_at: NOW,
        start_cursor: None,
    };
    ledger.begin_session(&session).unwrap();
}

fn list_everything(ledger: &mut dyn Ledger) {
    let next = NextPage::Done(Some(Cursor::new("1")));
    ledger.record_page(&[], &[], &next, NOW).unwrap();
}

fn complete_session(ledger: &mut dyn Ledger, id: &str) {
    begin_session(ledger, id);
    list_everything(ledger);
    ledger.complete_session(&SessionId::new(id), NOW).unwrap();
}

#[test]
fn a_state_and_a_ledger_of_one_time_stay_complete() {
    let sync = open_with_state(&completed_state(), |ledger| complete_session(ledger, SESSION));

    assert_eq!(sync.complete_until, Some(COMPLETE_UNTIL));
    assert_eq!(sync.listed_until, Some(COMPLETE_UNTIL));
}

#[test]
fn an_older_ledger_may_lack_documents() {
    let other = open_with_state(&completed_state(), |ledger| complete_session(ledger, "session_0"));
    assert_eq!(other, SyncHistory::default(), "without the session");

    let open = open_with_state(&completed_state(), |ledger| {
        begin_session(ledger, SESSION);
        list_everything(ledger);
    });
    assert_eq!(open, SyncHistory::default(), "with the session, not completed");

    let open_state = ExecutionState {
        status: Status::Downloading,
        completion_time: None,
        archive_documents: Some(1),
        ..completed_state()
    };
    let fewer = open_with_state(&open_state, |ledger| complete_session(ledger, "session_0"));
    assert_eq!(fewer, SyncHistory::default(), "with fewer documents");
}

#[test]
fn a_session_that_is_not_in_the_ledger_yet_changes_nothing() {
    let open_state = ExecutionState {
        status: Status::Collecting,
        session_id: Some(SessionId::new("session_2")),
        completion_time: None,
        ..completed_state()
    };

    let sync = open_with_state(&open_state, |ledger| complete_session(ledger, SESSION));

    assert_eq!(sync.complete_until, Some(COMPLETE_UNTIL));
}

#[test]
fn a_ledger_that_has_listed_nothing_is_not_complete() {
    let open_state =
        ExecutionState { status: Status::Collecting, completion_time: None, ..completed_state() };

    let sync = open_with_state(&open_state, |ledger| begin_session(ledger, SESSION));

    assert_eq!(sync.complete_until, None);
    assert_eq!(sync.listed_until, Some(COMPLETE_UNTIL), "its listing began then");
}

#[test]
fn a_clock_step_of_unknown_size_leaves_nothing_complete() {
    let last_updated = NOW.after(Duration::from_secs(86_400));
    let state = ExecutionState { last_updated, ..completed_state() };

    let sync = open_with_state(&state, |ledger| complete_session(ledger, SESSION));

    assert_eq!((sync.complete_until, sync.listed_until), (None, None));
}
