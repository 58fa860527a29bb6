//! Property tests: invariants of the ledger after any sequence of pages, updates, sessions and
//! restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cynosure_engine::{
    BlobId, Cause, DocumentId, Failure, ItemFailureCounts, ItemId, ListedDocument, NextPage,
    PageToken, RecheckPolicy, SessionId, Timestamp,
};
use proptest::prelude::*;

use super::*;

/// Time that an item stays in quarantine, in milliseconds; a step takes about a tenth of it.
const QUARANTINE_MS: i64 = 1000;

#[derive(Clone, Debug)]
enum Operation {
    /// Lists documents of items, by number, with a blob and a size.
    ListPage(Vec<EntrySpec>),
    EndListing,
    /// Commits one result for each due document, in turn.
    Fetch(Vec<FetchResult>),
    /// The same, with a page listed before the results are recorded.
    FetchAfterPage(Vec<FetchResult>, Vec<EntrySpec>),
    Fail(FailureOutcome),
    Requeue(u8),
    FinishAndBegin(SessionKind),
    Restart,
}

/// Item, document, blob and size; size 0 means none.
type EntrySpec = (u8, u8, u8, u8);

#[derive(Clone, Copy, Debug)]
enum FetchResult {
    Stored,
    /// Stored under another blob.
    StoredUnderOtherBlob,
    Gone,
    Forbidden,
    NoResponse,
}

#[derive(Clone, Copy, Debug)]
enum FailureOutcome {
    Retried,
    Quarantined,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let entry = || (0..6_u8, 0..4_u8, 0..12_u8, 0..3_u8);
    let result = prop_oneof![
        4 => Just(FetchResult::Stored),
        1 => Just(FetchResult::StoredUnderOtherBlob),
        1 => Just(FetchResult::Gone),
        1 => Just(FetchResult::Forbidden),
        2 => Just(FetchResult::NoResponse),
    ];
    let results = || prop::collection::vec(result.clone(), 1..6);
    let kind = prop_oneof![
        Just(SessionKind::Full),
        Just(SessionKind::Changes),
        Just(SessionKind::Recheck),
    ];
    let operation = prop_oneof![
        4 => prop::collection::vec(entry(), 0..8).prop_map(Operation::ListPage),
        1 => Just(Operation::EndListing),
        4 => results().prop_map(Operation::Fetch),
        1 => (results(), prop::collection::vec(entry(), 0..8))
            .prop_map(|(results, page)| Operation::FetchAfterPage(results, page)),
        1 => prop_oneof![Just(FailureOutcome::Retried), Just(FailureOutcome::Quarantined)].prop_map(Operation::Fail),
        1 => (0..8_u8).prop_map(Operation::Requeue),
        2 => kind.prop_map(Operation::FinishAndBegin),
        1 => Just(Operation::Restart),
    ];
    prop::collection::vec(operation, 1..60)
}

/// Ledger whose content survives restarts, and the facts that it must not lose.
struct TestLedger {
    home: LedgerHome,
    ledger: Box<dyn Ledger>,
    now: Timestamp,
    session_count: u32,
    /// Files recorded as stored.
    stored_files: BTreeSet<String>,
    /// Last listed blob of each document, by item and document.
    listed_blobs: BTreeMap<(String, String), BlobId>,
}

impl TestLedger {
    fn new() -> Self {
        let home = LedgerHome::new();
        let ledger = home.open();
        let mut test_ledger = Self {
            home,
            ledger,
            now: Timestamp(1_000_000),
            session_count: 0,
            stored_files: BTreeSet::new(),
            listed_blobs: BTreeMap::new(),
        };
        test_ledger.begin_session(SessionKind::Full);
        test_ledger
    }

    fn begin_session(&mut self, kind: SessionKind) {
        self.session_count += 1;
        let id = SessionId::new(format!("session_{}", self.session_count));
        let session = NewSession { id, kind, started_at: self.now, start_cursor: None };
        self.ledger.begin_session(&session).unwrap();
        self.ledger.set_session_folder("folder").unwrap();
    }

    fn apply(&mut self, operation: &Operation) {
        self.now = Timestamp(self.now.0 + QUARANTINE_MS / 10);
        match operation {
            Operation::ListPage(entries) => self.record_page(entries),
            Operation::EndListing => {
                if !self.open_session().is_listing_complete {
                    self.ledger.record_page(&[], &[], &NextPage::Done(None), self.now).unwrap();
                }
            }
            Operation::Fetch(results) => self.record_fetches(results, &[]),
            Operation::FetchAfterPage(results, page) => self.record_fetches(results, page),
            Operation::Fail(outcome) => self.fail_first_due(*outcome),
            Operation::Requeue(7) => drop(
                self.ledger
                    .requeue(&RequeueFilter::Quarantined(FailureFilter::default()), self.now)
                    .unwrap(),
            ),
            Operation::Requeue(item) => {
                let item = RequeueFilter::Item(ItemId::new(format!("t{item}")));
                self.ledger.requeue(&item, self.now).unwrap();
            }
            Operation::FinishAndBegin(kind) => {
                let session = self.open_session();
                let can_complete = session.is_listing_complete && session.counts.pending() == 0;
                let completed = self.ledger.complete_session(&session.id, self.now);
                assert_eq!(completed.is_ok(), can_complete);
                if can_complete {
                    self.begin_session(*kind);
                }
            }
            Operation::Restart => {
                self.ledger = self.home.open();
            }
        }
    }

    fn open_session(&self) -> SessionRow {
        self.ledger.open_session().unwrap().unwrap()
    }

    fn record_page(&mut self, entries: &[EntrySpec]) {
        if self.open_session().is_listing_complete {
            return;
        }
        let entries = entries.iter().map(|(item, document, blob, size)| {
            let (item, document) = (format!("t{item}"), format!("m{document}"));
            let (blob_id, has_content) = (format!("b{blob}"), *blob < 6);
            let content = has_content.then(|| blob_id.clone());
            let blob = BlobId::new(blob_id);
            let entry = ListedDocument::new(ItemId::new(item), DocumentId::new(document), blob);
            ListedDocument { size: (*size > 0).then(|| u64::from(*size)), content, ..entry }
        });
        let mut entries: Vec<_> = entries.collect();
        // A source lists each document once on a page.
        let mut seen = BTreeSet::new();
        entries.retain(|entry| seen.insert((entry.item.clone(), entry.document.clone())));
        let next = NextPage::More(PageToken::new("next"));
        self.ledger.record_page(&entries, &[], &next, self.now).unwrap();
        for ListedDocument { item, document, blob, .. } in &entries {
            self.listed_blobs.insert((item.to_string(), document.to_string()), blob.clone());
        }
        for entry in entries.iter().filter(|entry| entry.content.is_some()) {
            let (item, document) = (entry.item.as_str(), entry.document.as_str());
            assert!(!self.home.lacks_content(item, document), "{item} {document}");
        }
        let repeated = self.ledger.record_page(&entries, &[], &next, self.now).unwrap();
        assert_eq!(repeated, PageCounts::default(), "a repeated page changes nothing");
    }

    fn record_fetches(&mut self, results: &[FetchResult], page: &[EntrySpec]) {
        let items = self.due_items();
        let documents = items.iter().flat_map(|due| &due.documents);
        let mut updates = Vec::new();
        for (pending, result) in documents.zip(results.iter().cycle()) {
            let (document, expected_blob) = (pending.row_id, pending.blob.clone());
            match result {
                FetchResult::Stored => {
                    updates.push(self.stored_update(pending, &pending.blob, pending.size));
                }
                FetchResult::StoredUnderOtherBlob => {
                    updates.push(self.stored_update(pending, &BlobId::new("moved"), None));
                }
                FetchResult::Gone => {
                    let tried_locations = pending.locations.clone();
                    updates.push(LedgerUpdate::Gone { document, expected_blob, tried_locations });
                }
                FetchResult::Forbidden => {
                    let failure = Failure::new(Cause::Forbidden, "");
                    updates.push(LedgerUpdate::Failed { document, failure });
                }
                FetchResult::NoResponse => {}
            }
        }
        self.record_page(page);
        self.commit(&updates);
    }

    fn stored_update(
        &mut self,
        pending: &DocumentRow,
        blob: &BlobId,
        size: Option<u64>,
    ) -> LedgerUpdate {
        let file = format!("file-{}-{}", pending.row_id.0, self.now.0);
        self.stored_files.insert(file.clone());
        LedgerUpdate::Stored {
            document: pending.row_id,
            expected_blob: pending.blob.clone(),
            fetched_blob: blob.clone(),
            size,
            file,
            length: size.unwrap_or(1),
            sha256: [0; 32],
            is_identified_by_location: false,
            folders: Vec::new(),
        }
    }

    fn fail_first_due(&mut self, outcome: FailureOutcome) {
        let Some(due) = self.due_items().into_iter().next() else { return };
        let (item, failure) = (due.row_id, Failure::new(Cause::Timeout, ""));
        let next_attempt_at = Timestamp(self.now.0 + 150);
        self.commit(&[match outcome {
            FailureOutcome::Retried => {
                let failure_counts = ItemFailureCounts {
                    failed_attempts: due.failure_counts.failed_attempts + 1,
                    ..due.failure_counts
                };
                LedgerUpdate::Retry { item, failure_counts, next_attempt_at, failure }
            }
            FailureOutcome::Quarantined => LedgerUpdate::Quarantined { item, failure },
        }]);
    }

    fn commit(&mut self, updates: &[LedgerUpdate]) {
        let interval = Duration::from_millis(QUARANTINE_MS.unsigned_abs());
        let recheck = RecheckPolicy { interval, max_interval: interval };
        self.ledger.commit(updates, recheck, self.now).unwrap();
        let before = self.ledger.session_counts().unwrap();
        self.ledger.commit(updates, recheck, self.now).unwrap();
        assert_eq!(
            self.ledger.session_counts().unwrap(),
            before,
            "repeated updates change nothing"
        );
    }

    fn due_items(&self) -> Vec<DueItem> {
        self.ledger
            .due_items(self.now, DueLimits { untried: 100, retries: 100 }, &BTreeSet::new())
            .unwrap()
    }

    fn check_invariants(&self) {
        let check = self.ledger.check_counters().unwrap();
        assert!(check.is_consistent(), "{check:?}");
        for due in self.due_items() {
            assert!(!due.documents.is_empty(), "{} has nothing to fetch", due.item);
        }
        let next_due_at = self.ledger.next_due_at(&BTreeSet::new()).unwrap();
        assert_eq!(next_due_at.is_some(), self.ledger.session_counts().unwrap().pending() > 0);
        let mut files = BTreeSet::new();
        let mut after = None;
        loop {
            let page = self.ledger.stored_files(after, 7).unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.row_id);
            files.extend(page.into_iter().map(|stored| stored.file));
        }
        assert_eq!(files, self.stored_files, "what is stored stays stored");
        let count = self.home.count_misplaced_contents();
        assert_eq!(count, 0, "contents of settled documents, or of other blobs");
    }

    /// Lets every fetch succeed from now on, rechecks the quarantined items, and asserts that every
    /// listed document is stored or gone.
    fn store_everything(&mut self) {
        for _ in 0..3 {
            self.now = Timestamp(self.now.0 + 10 * QUARANTINE_MS);
            self.apply(&Operation::EndListing);
            self.record_fetches(&[FetchResult::Stored], &[]);
            self.apply(&Operation::FinishAndBegin(SessionKind::Recheck));
        }
        assert_eq!(self.ledger.next_recheck_at().unwrap(), None);
        let failures = self.ledger.failures(FailureFilter::default(), 100).unwrap();
        let gone: BTreeSet<_> = failures.iter().map(|row| row.item.to_string()).collect();
        for ((item, document), blob) in &self.listed_blobs {
            let known = self.home.recorded_blob(item, document);
            assert!(known == blob.as_str() || known == "moved", "{item} {document}: {known}");
            let ids = (ItemId::new(item.as_str()), DocumentId::new(document.as_str()));
            let is_stored = self.ledger.stored_file(&ids.0, &ids.1).unwrap().is_some();
            assert!(
                is_stored || gone.contains(item) || self.is_partly_gone(item),
                "{item} {document}"
            );
        }
    }

    /// True if some documents of a stored item were gone, as its row says.
    fn is_partly_gone(&self, item: &str) -> bool {
        let report = self.ledger.item_report(&ItemId::new(item)).unwrap().unwrap();
        report.status == ItemStatus::Stored && !report.message.is_empty()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(LedgerHome::LAW_CASES))]

    #[test]
    fn counters_match_the_rows_and_no_listed_item_is_lost(sequence in operations()) {
        let mut test_ledger = TestLedger::new();
        for operation in &sequence {
            test_ledger.apply(operation);
            test_ledger.check_invariants();
        }
        test_ledger.store_everything();
    }
}
