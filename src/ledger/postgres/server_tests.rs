//! Tests of what only a server shows: owners that are replaced, answers that are lost, and databases
//! of other versions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use cynosure_engine::{
    AccountId, Cause, ClockStep, Cursor, DocumentId, Failure, ItemFailureCounts, LedgerId,
    NextPage, RecheckPolicy, SessionId,
};

use super::schema::SCHEMA_VERSION;
use super::tests::{test_database, test_database_url};
use super::{PostgresLedger, migrate, schema_version};
use crate::database::{Database, DatabaseSettings};
use crate::ledger::tests::{
    DAY, LATER, NOW, begin_session, commit_updates, counts, end_listing, item_row_id,
    listing_entries, record_page, row_id, store_documents,
};
use crate::ledger::{
    FailureFilter, Ledger, LedgerOpenError, LedgerReader as _, LedgerReports as _, LedgerUpdate,
    NewSession, PageCounts, RequeueFilter, SessionKind, TransitionRow,
};

#[test]
fn a_change_of_an_earlier_owner_is_refused() {
    let Some(database) = test_database() else { return };
    let source = random_name();
    let mut earlier = PostgresLedger::open(database.clone(), &source).unwrap();
    begin_session(&mut earlier, "session_1", SessionKind::Full, NOW);
    record_page(&mut earlier, &["a/1", "b/2"]);
    store_documents(&mut earlier, &["1"]);
    let (item, failure) = (item_row_id(&earlier, "b"), Failure::new(Cause::Server, "503"));
    commit_updates(&mut earlier, &[LedgerUpdate::Quarantined { item, failure }]);
    let stored = row_id(&earlier, "1");

    let mut later = PostgresLedger::open(database, &source).unwrap();
    let before = content(&later);
    let new_session = NewSession {
        id: SessionId::new("session_2"),
        kind: SessionKind::Full,
        started_at: LATER,
        start_cursor: None,
    };
    let step = ClockStep::between(NOW, LATER).unwrap();
    let last = listing_entries(&["c/3"]);
    let refused = [
        earlier.begin_session(&new_session).err(),
        earlier.record_page(&last, &[], &NextPage::Done(None), NOW).err(),
        earlier.commit(&[], RecheckPolicy::IMMEDIATE, NOW).err(),
        earlier.record_transition(&transition(), "{}").err(),
        earlier.shift_deadlines(step).err(),
        earlier.requeue(&RequeueFilter::Quarantined(FailureFilter::default()), NOW).err(),
        earlier.requeue_damaged(stored, "damaged", NOW).err(),
        earlier.set_session_folder("other").err(),
        earlier.restart_listing(None).err(),
        earlier.start_changes_listing(LATER).err(),
        earlier.record_missing(&[DocumentId::new("9")], NOW).err(),
        earlier.complete_session(&SessionId::new("session_1"), NOW).err(),
        earlier.overwrite_failed_commit().err(),
        earlier.init_id(&LedgerId::new("0123456789abcdef")).err(),
        earlier.bind_account(&AccountId::new("me")).err(),
        earlier.init_reconciled_at(NOW).err(),
        earlier.adopt_folder("adopted", NOW, &[]).err(),
        earlier.rebuild_session_counts().err(),
    ];

    for (index, failure) in refused.into_iter().enumerate() {
        let message = failure.unwrap_or_else(|| panic!("change {index} was made")).message;
        assert!(message.contains("another worker has taken over the source"), "{message}");
    }
    assert_eq!(content(&later), before);
    later.set_session_folder("other").unwrap();
    end_listing(&mut later);
    assert_eq!(counts(&earlier), [2, 1, 0, 1], "it can still be read");
}

#[test]
fn a_change_whose_answer_is_lost_is_made_once() {
    let Some(database) = test_database() else { return };
    let url = test_database_url().unwrap();
    let (login, server, name) = split_url(&url);
    let proxy = LossyProxy::start(server);
    let proxied = open(&format!("{login}@127.0.0.1:{}/{name}", proxy.port));
    let source = random_name();
    let reader = PostgresLedger::open(database, &source).unwrap();
    let mut owner = PostgresLedger::open(proxied, &source).unwrap();

    let session = "session_1";
    proxy.lose("begin_session", || begin_session(&mut owner, session, SessionKind::Full, NOW));
    let page = proxy.lose("apply", || record_page(&mut owner, &["a/1", "b/2"]));
    assert_eq!(page, PageCounts { new_items: 2, new_documents: 2 });
    assert_eq!(counts(&reader), [2, 0, 0, 0]);
    assert_eq!(reader.session_counts().unwrap().expected_bytes, Some(8));
    proxy.lose("apply", || store_documents(&mut owner, &["1"]));
    let found = reader.session_counts().unwrap();
    assert_eq!((found.stored, found.documents, found.bytes), (1, 1, 4));

    let (last, done) = (listing_entries(&["c/3"]), NextPage::Done(None));
    let page = proxy.lose("apply", || owner.record_page(&last, &[], &done, NOW)).unwrap();
    assert_eq!(page, PageCounts { new_items: 1, new_documents: 1 });
    assert!(reader.newest_session().unwrap().unwrap().is_listing_complete);
    assert_eq!(reader.cursor().unwrap(), Some(Cursor::new("pinned")));
    assert_eq!(counts(&reader), [3, 1, 0, 0]);

    let row = transition();
    proxy.lose("record_transition", || owner.record_transition(&row, "{}")).unwrap();
    assert_eq!(reader.transitions(10).unwrap(), [row]);

    store_documents(&mut owner, &["3"]);
    let retry = LedgerUpdate::Retry {
        item: item_row_id(&owner, "b"),
        failure_counts: ItemFailureCounts { failed_attempts: 1, ..ItemFailureCounts::default() },
        next_attempt_at: LATER,
        failure: Failure::new(Cause::Server, "503"),
    };
    commit_updates(&mut owner, &[retry]);
    let step = ClockStep::between(LATER, NOW).unwrap();
    proxy.lose("shift_deadlines", || owner.shift_deadlines(step)).unwrap();
    assert_eq!(reader.next_due_at(&BTreeSet::new()).unwrap(), Some(NOW));
    assert_eq!(reader.reconciled_at().unwrap(), Some(NOW.before(DAY)));

    store_documents(&mut owner, &["2"]);
    let complete = || owner.complete_session(&SessionId::new(session), LATER);
    let total = proxy.lose("complete_session", complete).unwrap();
    assert_eq!((total.listed, total.stored, total.documents, total.bytes), (3, 3, 3, 12));
    assert_eq!(reader.newest_session().unwrap().unwrap().completed_at, Some(LATER));
    assert_eq!(reader.session_totals_since(NOW).unwrap().len(), 1);
    assert_eq!(reader.check_integrity().unwrap(), [""; 0]);
}

#[test]
fn a_database_of_another_schema_version_is_refused() {
    let Some(server) = test_database() else { return };
    let own = OwnDatabase::create(server);
    let database = open(&own.url);
    let open_ledger = || PostgresLedger::open(database.clone(), "source");

    let text = open_ledger().unwrap_err().to_string();
    assert!(text.contains("run `cynosure fleet init`"), "{text}");
    migrate(&database).unwrap();
    drop(open_ledger().unwrap());
    database.run_script("UPDATE cynosure.schema_version SET version = 99").unwrap();

    let error = open_ledger().unwrap_err();
    assert!(matches!(error, LedgerOpenError::NewerVersion { version: 99, .. }), "{error:?}");
    assert!(error.to_string().contains("was written by a newer cynosure (format 99"), "{error}");
    migrate(&database).unwrap();
    assert_eq!(schema_version(&database).unwrap(), 99);
}

#[test]
fn two_programs_may_migrate_at_once() {
    let Some(server) = test_database() else { return };
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'cynosure'";
    let expected_tables = count(&server, tables);
    let own = OwnDatabase::create(server);
    let programs: Vec<Database> = (0..4).map(|_| open(&own.url)).collect();
    // Each is connected before one of them begins.
    assert!(programs.iter().all(|program| schema_version(program) == Ok(0)));
    let start = &Barrier::new(programs.len());
    thread::scope(|scope| {
        for program in &programs {
            scope.spawn(move || {
                start.wait();
                migrate(program).unwrap();
            });
        }
    });
    assert!(programs.iter().all(|program| schema_version(program) == Ok(SCHEMA_VERSION)));
    assert_eq!(count(&programs[0], "SELECT count(*) FROM cynosure.schema_version"), 1);
    assert_eq!(count(&programs[0], tables), expected_tables);
}

#[test]
fn a_database_that_cannot_be_reached_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = DatabaseSettings::parse(&format!("postgres://me@{address}/mail")).unwrap();
    let database = Database::open_impatient(settings).unwrap();
    let text = PostgresLedger::open(database, "source").unwrap_err().to_string();
    assert!(text.contains(&format!("the database {address}/mail cannot be reached")), "{text}");
    assert!(text.contains("check its servers and the network"), "{text}");
    assert!(text.contains(&format!("{address}: Connection refused")), "{text}");
}

/// Returns what changes could have changed, for comparison.
fn content(ledger: &dyn Ledger) -> String {
    let state = (
        ledger.identity().unwrap(),
        ledger.reconciled_at().unwrap(),
        ledger.newest_session().unwrap(),
        ledger.session_counts().unwrap(),
        ledger.transitions(10).unwrap(),
        ledger.failures(FailureFilter::default(), 10).unwrap(),
        ledger.next_recheck_at().unwrap(),
    );
    format!("{state:#?}")
}

fn transition() -> TransitionRow {
    TransitionRow {
        at: NOW,
        from: "idle".to_owned(),
        to: "collecting".to_owned(),
        reason: "new data".to_owned(),
        session: Some(SessionId::new("session_1")),
    }
}

fn open(url: &str) -> Database {
    Database::open(DatabaseSettings::parse(url).unwrap()).unwrap()
}

fn count(database: &Database, sql: &'static str) -> i64 {
    database.query(sql, Vec::new()).unwrap().remove(0).get(0)
}

fn random_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Splits a URL into the scheme and the login, the server, and the database with parameters.
fn split_url(url: &str) -> (&str, &str, &str) {
    let (login, place) = url.split_once('@').unwrap();
    let (server, database) = place.split_once('/').unwrap();
    (login, server, database)
}

/// Empty database on the server of the test run, dropped at the end.
struct OwnDatabase {
    server: Database,
    name: String,
    url: String,
}

impl OwnDatabase {
    fn create(server: Database) -> Self {
        let name = format!("cynosure_test_{}", random_name());
        server.run_script(&format!("CREATE DATABASE \"{name}\"")).unwrap();
        let url = test_database_url().unwrap();
        let (login, place, database) = split_url(&url);
        let parameters = database.find('?').map_or("", |start| &database[start..]);
        Self { url: format!("{login}@{place}/{name}{parameters}"), server, name }
    }
}

impl Drop for OwnDatabase {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name);
        // A test that fails drops it too, and must not fail twice.
        self.server.run_script(&sql).ok();
    }
}

/// Proxy in front of a server that can lose an answer, and the connection with it.
struct LossyProxy {
    port: u16,
    /// Beginning of a call whose answer is lost.
    armed: Arc<Mutex<Option<String>>>,
    lost_answers: mpsc::Receiver<()>,
}

impl LossyProxy {
    fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let armed = Arc::new(Mutex::new(None));
        let (sender, lost_answers) = mpsc::channel();
        let (server, shared) = (server.to_owned(), Arc::clone(&armed));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let (armed, sender) = (Arc::clone(&shared), sender.clone());
                thread::spawn(move || forward(client, server, &armed, &sender));
            }
        });
        Self { port, armed, lost_answers }
    }

    /// Makes a change. The answer to its first call of a function is lost after the commit.
    fn lose<T>(&self, function: &str, change: impl FnOnce() -> T) -> T {
        *self.armed.lock().unwrap() = Some(format!("cynosure.{function}("));
        let value = change();
        assert_eq!(self.lost_answers.try_recv(), Ok(()), "{function} was not called");
        value
    }
}

/// Forwards messages between a client and the server, until the answer of the armed function is
/// lost. Both connections end with it.
fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    armed: &Mutex<Option<String>>,
    lost_answers: &mpsc::Sender<()>,
) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let mut statements = BTreeMap::new();
    let mut is_losing = false;
    // The first message has no type.
    let mut type_length = 0;
    while let Some(message) = read_message(&mut client, type_length) {
        let body = String::from_utf8_lossy(message.get(5..).unwrap_or_default()).into_owned();
        let mut texts = body.split('\0').map(str::to_owned);
        match (message[0], texts.next(), texts.next()) {
            // Parse: the name of the statement, and its SQL.
            (b'P', Some(name), Some(sql)) => drop(statements.insert(name, sql)),
            // Bind: the name of the portal, and that of the statement.
            (b'B', _, Some(name)) => {
                let is_called = |call: &mut String| statements[&name].contains(call.as_str());
                is_losing = armed.lock().unwrap().take_if(is_called).is_some();
            }
            _ => {}
        }
        server.write_all(&message).unwrap();
        // The login, a password, a simple query, and the end of a statement have an answer.
        let mut is_answered = type_length == 1 && !matches!(message[0], b'p' | b'Q' | b'S');
        type_length = 1;
        while !is_answered {
            let Some(answer) = read_message(&mut server, 1) else { return };
            // Ready for the next statement, or a request for a part of the password.
            let is_request = answer[0] == b'R' && matches!(answer[8], 3 | 5 | 10 | 11);
            is_answered = answer[0] == b'Z' || is_request;
            if !is_losing && client.write_all(&answer).is_err() {
                return;
            }
        }
        if is_losing && message[0] == b'S' {
            lost_answers.send(()).unwrap();
            return;
        }
    }
}

/// Reads a message: its type, if it has one, its length without the type, and the rest.
fn read_message(stream: &mut TcpStream, type_length: usize) -> Option<Vec<u8>> {
    let mut message = vec![0; type_length + 4];
    stream.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(*message.last_chunk()?);
    let start = message.len();
    message.resize(type_length + usize::try_from(length).ok()?, 0);
    stream.read_exact(message.get_mut(start..)?).ok()?;
    Some(message)
}
