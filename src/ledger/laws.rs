//! What holds of the ledger after any sequence of pages, outcomes, sessions and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::{Connection, OpenFlags, Row};

use super::*;
use crate::engine::{
    BlobId, Cause, DocumentId, Failure, ItemFailureCounts, ItemId, PageToken, RecheckPolicy,
    SessionId, Timestamp,
};

/// How long an item stays in quarantine, in milliseconds; steps take about a tenth of it.
const QUARANTINE_MS: i64 = 1000;

#[derive(Clone, Debug)]
enum Step {
    /// Lists documents of items, by number, with a blob and a size.
    Page(Vec<Entry>),
    EndListing,
    /// Answers each document that is due, by turns.
    Answer(Vec<Answer>),
    /// The same, and a page is listed before the answers are recorded.
    AnswerLate(Vec<Answer>, Vec<Entry>),
    Fail(Failing),
    Requeue(u8),
    FinishAndBegin(SessionKind),
    Restart,
}

/// Item, document, blob, size; no size is 0.
type Entry = (u8, u8, u8, u8);

#[derive(Clone, Copy, Debug)]
enum Answer {
    Stored,
    /// Stored under another blob.
    Moved,
    Gone,
    Refused,
    None,
}

#[derive(Clone, Copy, Debug)]
enum Failing {
    Retry,
    Quarantined,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let entry = || (0..6_u8, 0..4_u8, 0..12_u8, 0..3_u8);
    let answer = prop_oneof![
        4 => Just(Answer::Stored),
        1 => Just(Answer::Moved),
        1 => Just(Answer::Gone),
        1 => Just(Answer::Refused),
        2 => Just(Answer::None),
    ];
    let answers = || prop::collection::vec(answer.clone(), 1..6);
    let kind = prop_oneof![
        Just(SessionKind::Full),
        Just(SessionKind::Changes),
        Just(SessionKind::Recheck),
    ];
    let step = prop_oneof![
        4 => prop::collection::vec(entry(), 0..8).prop_map(Step::Page),
        1 => Just(Step::EndListing),
        4 => answers().prop_map(Step::Answer),
        1 => (answers(), prop::collection::vec(entry(), 0..8))
            .prop_map(|(answers, page)| Step::AnswerLate(answers, page)),
        1 => prop_oneof![Just(Failing::Retry), Just(Failing::Quarantined)].prop_map(Step::Fail),
        1 => (0..8_u8).prop_map(Step::Requeue),
        2 => kind.prop_map(Step::FinishAndBegin),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// A ledger in memory whose contents outlive its restarts, and what it must not forget.
struct World {
    _keeper: Connection,
    ledger: Ledger,
    uri: String,
    now: Timestamp,
    sessions: u32,
    /// The files that the ledger was given.
    files: BTreeSet<String>,
    /// The blob of each item's documents as it was listed last.
    listed: BTreeMap<(String, String), BlobId>,
}

impl World {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let uri = format!("file:laws-{number}?mode=memory&cache=shared");
        let keeper = connect(&uri);
        let ledger = Ledger::open_in(connect(&uri), Path::new("memory")).unwrap();
        let mut world = Self {
            _keeper: keeper,
            ledger,
            uri,
            now: Timestamp(1_000_000),
            sessions: 0,
            files: BTreeSet::new(),
            listed: BTreeMap::new(),
        };
        world.begin(SessionKind::Full);
        world
    }

    fn begin(&mut self, kind: SessionKind) {
        self.sessions += 1;
        let id = SessionId::new(format!("session_{}", self.sessions));
        let start = SessionStart { id, kind, started: self.now, pinned: None };
        self.ledger.begin(&start).unwrap();
        self.ledger.set_folder("folder").unwrap();
    }

    fn take(&mut self, step: &Step) {
        self.now = Timestamp(self.now.0 + QUARANTINE_MS / 10);
        match step {
            Step::Page(entries) => self.page(entries),
            Step::EndListing => {
                if !self.session().is_listed {
                    self.ledger.record_page(&[], &NextPlace::Done(None), self.now).unwrap();
                }
            }
            Step::Answer(answers) => self.answer(answers, &[]),
            Step::AnswerLate(answers, page) => self.answer(answers, page),
            Step::Fail(failing) => self.fail(*failing),
            Step::Requeue(7) => drop(
                self.ledger
                    .requeue(&Requeue::Quarantined(FailureFilter::default()), self.now)
                    .unwrap(),
            ),
            Step::Requeue(item) => {
                let item = Requeue::Item(ItemId::new(format!("t{item}")));
                self.ledger.requeue(&item, self.now).unwrap();
            }
            Step::FinishAndBegin(kind) => {
                let session = self.session();
                let may_end = session.is_listed && session.tally.pending() == 0;
                let ended = self.ledger.finish(&session.id, self.now);
                assert_eq!(ended.is_ok(), may_end);
                if may_end {
                    self.begin(*kind);
                }
            }
            Step::Restart => {
                self.ledger = Ledger::open_in(connect(&self.uri), Path::new("memory")).unwrap();
            }
        }
    }

    fn session(&self) -> Session {
        self.ledger.open_session().unwrap().unwrap()
    }

    fn page(&mut self, entries: &[Entry]) {
        if self.session().is_listed {
            return;
        }
        let entries = entries.iter().map(|(item, document, blob, size)| Listed {
            item: ItemId::new(format!("t{item}")),
            document: DocumentId::new(format!("m{document}")),
            blob: BlobId::new(format!("b{blob}")),
            size: (*size > 0).then(|| u64::from(*size)),
        });
        let mut entries: Vec<_> = entries.collect();
        // A source lists each document once on a page.
        let mut seen = BTreeSet::new();
        entries.retain(|entry| seen.insert((entry.item.clone(), entry.document.clone())));
        let next = NextPlace::More(PageToken::new("next"));
        self.ledger.record_page(&entries, &next, self.now).unwrap();
        for Listed { item, document, blob, .. } in &entries {
            self.listed.insert((item.to_string(), document.to_string()), blob.clone());
        }
        let again = self.ledger.record_page(&entries, &next, self.now).unwrap();
        assert_eq!(again, PageOutcome::default(), "a page that comes again changes nothing");
    }

    fn answer(&mut self, answers: &[Answer], page: &[Entry]) {
        let work = self.due();
        let wanted = work.iter().flat_map(|work| &work.documents);
        let mut outcomes = Vec::new();
        for (wanted, answer) in wanted.zip(answers.iter().cycle()) {
            let (document, listed) = (wanted.no, wanted.blob.clone());
            match answer {
                Answer::Stored => outcomes.push(self.stored(wanted, &wanted.blob, wanted.size)),
                Answer::Moved => outcomes.push(self.stored(wanted, &BlobId::new("moved"), None)),
                Answer::Gone => outcomes.push(Outcome::Gone { document, listed }),
                Answer::Refused => {
                    let failure = Failure::new(Cause::Forbidden, "");
                    outcomes.push(Outcome::Refused { document, failure });
                }
                Answer::None => {}
            }
        }
        self.page(page);
        self.commit(&outcomes);
    }

    fn stored(&mut self, wanted: &WantedDocument, blob: &BlobId, size: Option<u64>) -> Outcome {
        let file = format!("file-{}-{}", wanted.no.0, self.now.0);
        self.files.insert(file.clone());
        Outcome::Stored {
            document: wanted.no,
            listed: wanted.blob.clone(),
            blob: blob.clone(),
            size,
            file,
            length: size.unwrap_or(1),
            sha256: [0; 32],
        }
    }

    fn fail(&mut self, failing: Failing) {
        let Some(work) = self.due().into_iter().next() else { return };
        let (item, failure) = (work.no, Failure::new(Cause::Timeout, ""));
        let next_at = Timestamp(self.now.0 + 150);
        self.commit(&[match failing {
            Failing::Retry => {
                let trial = ItemFailureCounts {
                    failed_attempts: work.trial.failed_attempts + 1,
                    ..work.trial
                };
                Outcome::Retry { item, trial, next_at, failure }
            }
            Failing::Quarantined => Outcome::Quarantined { item, failure },
        }]);
    }

    fn commit(&mut self, outcomes: &[Outcome]) {
        let rest = Duration::from_millis(QUARANTINE_MS.unsigned_abs());
        let recheck = RecheckPolicy { interval: rest, max_interval: rest };
        self.ledger.commit(outcomes, recheck, self.now).unwrap();
        let before = self.ledger.tally().unwrap();
        self.ledger.commit(outcomes, recheck, self.now).unwrap();
        assert_eq!(self.ledger.tally().unwrap(), before, "outcomes that come again change nothing");
    }

    fn due(&self) -> Vec<Work> {
        self.ledger
            .due(self.now, DueLimits { untried: 100, retries: 100 }, &BTreeSet::new())
            .unwrap()
    }

    fn check(&self) {
        let recount = self.ledger.recount().unwrap();
        assert!(recount.agrees(), "{recount:?}");
        for work in self.due() {
            assert!(!work.documents.is_empty(), "{} has nothing to fetch", work.item);
        }
        let pending = self.ledger.next_due(&BTreeSet::new()).unwrap();
        assert_eq!(pending.is_some(), self.ledger.tally().unwrap().pending() > 0);
        let mut known = BTreeSet::new();
        let mut after = None;
        loop {
            let page = self.ledger.stored_files(after, 7).unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.no);
            known.extend(page.into_iter().map(|stored| stored.file));
        }
        assert_eq!(known, self.files, "what is stored stays stored");
    }

    /// Lets everything succeed from now on, and asks for what was set aside.
    fn drain(&mut self) {
        for _ in 0..3 {
            self.now = Timestamp(self.now.0 + 10 * QUARANTINE_MS);
            self.take(&Step::EndListing);
            self.answer(&[Answer::Stored], &[]);
            self.take(&Step::FinishAndBegin(SessionKind::Recheck));
        }
        assert_eq!(self.ledger.next_recheck().unwrap(), None);
        let failures = self.ledger.failures(FailureFilter::default(), 100).unwrap();
        let gone: BTreeSet<_> = failures.iter().map(|row| row.item.to_string()).collect();
        for ((item, document), blob) in &self.listed {
            let (known, is_stored) = self.row(item, document);
            assert!(known == blob.as_str() || known == "moved", "{item} {document}: {known}");
            assert!(
                is_stored || gone.contains(item) || self.is_part_gone(item),
                "{item} {document}"
            );
        }
    }

    /// The blob of a document, and whether it is stored.
    fn row(&self, item: &str, document: &str) -> (String, bool) {
        let sql = "SELECT d.blob, d.status = 1 FROM documents d JOIN items i ON i.no = d.item
                   WHERE i.id = ?1 AND d.id = ?2";
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.ledger.connection.query_row(sql, [item, document], row).unwrap()
    }

    /// Whether some of a stored item was gone, which its row says.
    fn is_part_gone(&self, item: &str) -> bool {
        let sql = "SELECT message IS NOT NULL FROM items WHERE id = ?1 AND status = 1";
        self.ledger.connection.query_row(sql, [item], |row| row.get(0)).unwrap()
    }
}

fn connect(uri: &str) -> Connection {
    Connection::open_with_flags(uri, OpenFlags::default() | OpenFlags::SQLITE_OPEN_URI).unwrap()
}

proptest! {
    #[test]
    fn the_counters_agree_with_the_rows_and_nothing_listed_is_forgotten(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
        world.drain();
    }
}
