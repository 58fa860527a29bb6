//! Passes over a list that may move while it is read, and what is remembered of its rows.
//!
//! A row is remembered by a hash, and the rows of a pass by the sum of their hashes, so that a page
//! token stays small however long the list is.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use cynosure_engine::PageToken;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Maximum number of passes over one list before its end counts as unverified.
pub(in crate::source::rest) const PASSES_MAX: u32 = 5;

/// Rows of the first pass by which later ones find where it began. More would only help if so many
/// rows arrived or vanished between two passes.
const BASELINE_ROWS: usize = 32;

/// Maximum number of items in [`SeenItems`]: about 20 MB. The documents of further ones may be
/// requested twice.
const SEEN_ITEMS_MAX: usize = 1_000_000;

/// Bytes of a hash.
const HASH_BYTES: usize = 8;

/// Hash of a row: the first bytes of a SHA-256, so that the same row has the same hash in every
/// version of the program.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub(in crate::source::rest) struct RowHash(u64);

/// Hashes of rows, in the order of the list. Written as one text in base64.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(in crate::source::rest) struct RowHashes(Vec<RowHash>);

/// Passes over one list.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(in crate::source::rest) struct ListPasses {
    /// Number of complete passes.
    completed: u32,
    current: PassRows,
    /// Rows of the pass before.
    previous: Option<PassRows>,
    /// First rows of the first pass.
    baseline: RowHashes,
    /// Documents that the current pass found.
    documents: u64,
    /// Largest number of documents that a complete pass found.
    most_documents: u64,
    /// Number of documents that the server reported last.
    total: Option<u64>,
    /// True if these are the passes after an end that could not be verified.
    is_retried: bool,
}

/// Rows of a pass as a multiset: equal ones have the same number and the same sum of hashes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct PassRows {
    rows: u64,
    sum: u64,
}

/// Decision at the end of a pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::source::rest) enum PassVerdict {
    /// The list is complete, apart from documents that the server counts and does not list.
    Complete(Option<TotalShortfall>),
    /// Another pass follows.
    Repeat,
    /// No two passes agree.
    Contradicted,
}

/// Difference between the documents that a list contains and the server's total.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::source::rest) struct TotalShortfall {
    pub(in crate::source::rest) listed: u64,
    pub(in crate::source::rest) total: u64,
}

/// Items whose documents were requested since the listing began, so that another pass does not
/// request them again. They are lost with the process; then the requests are repeated.
///
/// An item counts only once the page with its documents is recorded, which shows in the next page
/// token: the caller may drop a page.
#[derive(Debug, Default)]
pub(in crate::source::rest) struct SeenItems {
    /// Items, each with the number of its documents.
    recorded: BTreeMap<RowHash, usize>,
    /// Items on the page that is being listed, or that was returned last.
    unrecorded: Vec<(RowHash, usize)>,
    /// Hash of the token that was returned with that page.
    token: Option<RowHash>,
}

impl RowHash {
    /// Hashes texts. Each is prefixed with its length, so that no two lists of texts are hashed
    /// alike.
    pub(in crate::source::rest) fn of(texts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for text in texts {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text);
        }
        Self::from_bytes(&hash.finalize())
    }

    /// Hashes the rows of a page.
    pub(in crate::source::rest) fn of_rows(rows: &[Self]) -> Self {
        let mut hash = Sha256::new();
        for row in rows {
            hash.update(row.0.to_be_bytes());
        }
        Self::from_bytes(&hash.finalize())
    }

    /// Adds the hash to a sum of hashes.
    pub(in crate::source::rest) fn add_to(self, sum: u64) -> u64 {
        sum.wrapping_add(self.0)
    }

    /// Subtracts the hash from a sum of hashes.
    pub(in crate::source::rest) fn subtract_from(self, sum: u64) -> u64 {
        sum.wrapping_sub(self.0)
    }

    /// Returns the hash in hexadecimal digits.
    pub(in crate::source::rest) fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let first = bytes.iter().take(HASH_BYTES);
        Self(first.fold(0, |hash, byte| (hash << 8) | u64::from(*byte)))
    }
}

impl RowHashes {
    /// Returns the first `max` hashes.
    pub(in crate::source::rest) fn first(rows: &[RowHash], max: usize) -> Self {
        Self(rows.iter().take(max).copied().collect())
    }

    /// Returns the last `max` hashes.
    pub(in crate::source::rest) fn last(rows: &[RowHash], max: usize) -> Self {
        Self(rows.iter().skip(rows.len().saturating_sub(max)).copied().collect())
    }

    pub(in crate::source::rest) fn as_slice(&self) -> &[RowHash] {
        &self.0
    }

    pub(in crate::source::rest) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::source::rest) fn contains(&self, row: RowHash) -> bool {
        self.0.contains(&row)
    }

    /// Adds a hash, unless there are `max` already.
    pub(in crate::source::rest) fn push(&mut self, row: RowHash, max: usize) {
        if self.0.len() < max {
            self.0.push(row);
        }
    }

    /// Removes a hash.
    pub(in crate::source::rest) fn remove(&mut self, row: RowHash) {
        self.0.retain(|other| *other != row);
    }
}

impl From<RowHashes> for String {
    fn from(hashes: RowHashes) -> Self {
        let bytes: Vec<u8> = hashes.0.iter().flat_map(|row| row.0.to_be_bytes()).collect();
        BASE64_URL.encode(bytes)
    }
}

impl TryFrom<String> for RowHashes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = BASE64_URL.decode(text).map_err(|error| error.to_string())?;
        if bytes.len() % HASH_BYTES != 0 {
            return Err("the hashes are incomplete".to_owned());
        }
        Ok(Self(bytes.chunks_exact(HASH_BYTES).map(RowHash::from_bytes).collect()))
    }
}

impl ListPasses {
    /// Returns the passes after an end that could not be verified.
    pub(in crate::source::rest) fn retried() -> Self {
        Self { is_retried: true, ..Self::default() }
    }

    /// Returns the passes after the list has begun again.
    pub(in crate::source::rest) fn restarted(&self) -> Self {
        Self { is_retried: self.is_retried, ..Self::default() }
    }

    /// True if these are the passes after an end that could not be verified.
    pub(in crate::source::rest) fn is_retried(&self) -> bool {
        self.is_retried
    }

    /// Records the rows of a page, without those of the page before.
    pub(in crate::source::rest) fn record_page(&mut self, rows: &[RowHash], is_first_page: bool) {
        let counted = if is_first_page { self.without_arrivals(rows) } else { rows };
        for row in counted {
            self.current.rows += 1;
            self.current.sum = row.add_to(self.current.sum);
        }
    }

    /// Records documents that a page contains.
    pub(in crate::source::rest) fn record_documents(&mut self, documents: usize) {
        let documents = u64::try_from(documents).unwrap_or(u64::MAX);
        self.documents = self.documents.saturating_add(documents);
    }

    /// Records the number of documents that the server reports.
    pub(in crate::source::rest) fn record_total(&mut self, total: Option<u64>) {
        self.total = total.or(self.total);
    }

    /// True if pages with few rows are no end: the pass before ended with one, and found fewer
    /// documents than the server counts.
    pub(in crate::source::rest) fn reads_past_short_pages(&self) -> bool {
        self.completed > 0 && self.shortfall().is_some()
    }

    /// Ends a pass.
    ///
    /// Two passes are needed if the profile asks for them, or if the pass found fewer documents
    /// than the server counts. The total itself proves nothing, because it may count what the list
    /// leaves out.
    pub(in crate::source::rest) fn finish_pass(&mut self, needs_two_passes: bool) -> PassVerdict {
        self.completed = self.completed.saturating_add(1);
        self.most_documents = self.most_documents.max(self.documents);
        let shortfall = self.shortfall();
        let is_enough = !needs_two_passes && shortfall.is_none();
        if is_enough || self.previous == Some(self.current) {
            return PassVerdict::Complete(shortfall);
        }
        if PASSES_MAX <= self.completed {
            return PassVerdict::Contradicted;
        }
        self.previous = Some(std::mem::take(&mut self.current));
        self.documents = 0;
        PassVerdict::Repeat
    }

    fn shortfall(&self) -> Option<TotalShortfall> {
        let listed = self.most_documents;
        self.total.filter(|total| listed < *total).map(|total| TotalShortfall { listed, total })
    }

    /// Leaves out the rows before the first one with which the first pass began. They have arrived
    /// since and are listed; they are no sign that a pass has missed a row. Otherwise no two passes
    /// over a busy list would agree.
    ///
    /// If all of those have moved, the passes are compared from this one on.
    fn without_arrivals<'r>(&mut self, rows: &'r [RowHash]) -> &'r [RowHash] {
        if rows.is_empty() {
            return rows;
        }
        match rows.iter().position(|row| self.baseline.contains(*row)) {
            Some(arrivals) => rows.get(arrivals..).unwrap_or_default(),
            None => {
                self.baseline = RowHashes::first(rows, BASELINE_ROWS);
                self.previous = None;
                rows
            }
        }
    }
}

impl SeenItems {
    /// Begins a page. Without a token, a listing begins.
    pub(in crate::source::rest) fn resume(&mut self, token: Option<&PageToken>) {
        let Some(token) = token else {
            *self = Self::default();
            return;
        };
        let is_recorded = self.token.take() == Some(hash_token(token));
        let unrecorded = std::mem::take(&mut self.unrecorded);
        if is_recorded {
            let free = SEEN_ITEMS_MAX.saturating_sub(self.recorded.len());
            self.recorded.extend(unrecorded.into_iter().take(free));
        }
    }

    /// Returns the number of documents of an item, if they are on this page or on one that is
    /// recorded.
    pub(in crate::source::rest) fn documents(&self, item: RowHash) -> Option<usize> {
        let unrecorded = || self.unrecorded.iter().find(|(seen, _)| *seen == item);
        let recorded = self.recorded.get(&item).copied();
        recorded.or_else(|| unrecorded().map(|(_, documents)| *documents))
    }

    /// Adds an item whose documents are all on this page or on the pages before.
    pub(in crate::source::rest) fn add(&mut self, item: RowHash, documents: usize) {
        self.unrecorded.push((item, documents));
    }

    /// Ends a page, with which this token is returned.
    pub(in crate::source::rest) fn end_page(&mut self, token: &PageToken) {
        self.token = Some(hash_token(token));
    }
}

fn hash_token(token: &PageToken) -> RowHash {
    RowHash::of(&[token.as_str()])
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn hashes(rows: &[&str]) -> Vec<RowHash> {
        rows.iter().map(|row| RowHash::of(&[row])).collect()
    }

    /// Passes over lists of one page, and the verdict on each.
    fn verdicts(lists: &[&[&str]], needs_two_passes: bool) -> Vec<PassVerdict> {
        let mut passes = ListPasses::default();
        let verdict = |list: &&[&str]| {
            passes.record_page(&hashes(list), true);
            passes.finish_pass(needs_two_passes)
        };
        lists.iter().map(verdict).collect()
    }

    #[test]
    fn texts_are_hashed_with_their_boundaries() {
        assert_eq!(RowHash::of(&["a", "b"]), RowHash::of(&["a", "b"]));
        assert_ne!(RowHash::of(&["a", "b"]), RowHash::of(&["ab", ""]));
        assert_ne!(RowHash::of(&["a"]), RowHash::of(&["a", ""]));
        assert_eq!(RowHash::of(&["a"]).to_hex().len(), 16);
    }

    #[test]
    fn one_pass_is_enough_for_a_list_that_does_not_move() {
        assert_eq!(verdicts(&[&["a"]], false), [PassVerdict::Complete(None)]);
        assert_eq!(verdicts(&[&[], &[]], true), [PassVerdict::Repeat, PassVerdict::Complete(None)]);
    }

    #[test]
    fn a_moving_list_ends_once_two_passes_agree() {
        use PassVerdict::{Complete, Contradicted, Repeat};

        let ab: &[&str] = &["a", "b"];
        assert_eq!(verdicts(&[ab, &["b", "a"]], true), [Repeat, Complete(None)], "another order");
        assert_eq!(verdicts(&[ab, &["a"], &["a"]], true), [Repeat, Repeat, Complete(None)]);
        let lists: [&[&str]; 5] = [ab, &["a"], ab, &["a", "b", "b"], ab];
        let expected = [Repeat, Repeat, Repeat, Repeat, Contradicted];
        assert_eq!(verdicts(&lists, true), expected);
    }

    #[test]
    fn rows_that_arrive_before_the_others_are_no_difference() {
        use PassVerdict::{Complete, Repeat};

        let lists: [&[&str]; 2] = [&["a", "b", "c"], &["new", "a", "c"]];
        assert_eq!(verdicts(&lists, true)[1], Repeat, "a row has vanished");
        let lists: [&[&str]; 2] = [&["a", "b", "c"], &["newer", "new", "a", "b", "c"]];
        assert_eq!(verdicts(&lists, true)[1], Complete(None));
        let lists: [&[&str]; 3] = [&["a"], &["b", "c"], &["d", "b", "c"]];
        assert_eq!(verdicts(&lists, true), [Repeat, Repeat, Complete(None)], "all are new");
        let lists: [&[&str]; 3] = [&[], &["a"], &["a"]];
        assert_eq!(verdicts(&lists, true), [Repeat, Repeat, Complete(None)], "it was empty");
        let lists: [&[&str]; 3] = [&["a"], &[], &[]];
        assert_eq!(verdicts(&lists, true), [Repeat, Repeat, Complete(None)], "it is empty");
    }

    #[test]
    fn a_larger_total_takes_a_second_pass() {
        let mut passes = ListPasses::default();
        let mut pass = |documents, total| {
            passes.record_page(&hashes(&["a", "b"]), true);
            passes.record_documents(documents);
            passes.record_total(total);
            let verdict = passes.finish_pass(false);
            (verdict, passes.reads_past_short_pages())
        };

        assert_eq!(pass(2, Some(3)), (PassVerdict::Repeat, true));
        let shortfall = TotalShortfall { listed: 2, total: 3 };
        assert_eq!(pass(1, None), (PassVerdict::Complete(Some(shortfall)), true));
    }

    #[test]
    fn a_second_pass_that_reaches_the_total_is_the_last() {
        let mut passes = ListPasses::default();
        passes.record_page(&hashes(&["a"]), true);
        passes.record_documents(1);
        passes.record_total(Some(2));
        assert_eq!(passes.finish_pass(false), PassVerdict::Repeat);

        passes.record_page(&hashes(&["a", "b"]), true);
        passes.record_documents(2);

        assert_eq!(passes.finish_pass(false), PassVerdict::Complete(None));
        assert!(!passes.reads_past_short_pages());
    }

    #[test]
    fn an_item_is_seen_once_its_page_is_recorded() {
        let [first, second] = ["first", "second"].map(PageToken::new);
        let item = RowHash::of(&["item"]);
        let mut seen = SeenItems::default();
        seen.resume(None);
        seen.add(item, 3);
        assert_eq!(seen.documents(item), Some(3), "it is on the same page");
        seen.end_page(&first);

        // The page was dropped, and the one before is requested again.
        seen.resume(Some(&second));
        assert_eq!(seen.documents(item), None);

        seen.add(item, 3);
        seen.end_page(&first);
        seen.resume(Some(&first));
        assert_eq!(seen.documents(item), Some(3));
        // The request was dropped.
        let other = RowHash::of(&["other"]);
        seen.add(other, 1);
        seen.resume(Some(&first));
        assert_eq!([item, other].map(|item| seen.documents(item)), [Some(3), None]);
        seen.resume(None);
        assert_eq!(seen.documents(item), None, "another listing begins");
    }

    #[test]
    fn hashes_that_cannot_be_read_are_rejected() {
        for text in ["=", "AAAA", "AAAAAAAAAA"] {
            assert!(serde_json::from_value::<RowHashes>(text.into()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn hashes_are_read_back_from_a_short_text(rows in vec(".{0,5}", 0..50)) {
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            let original = RowHashes::first(&hashes(&rows), rows.len());

            let text = serde_json::to_string(&original).unwrap();

            prop_assert!(text.len() <= 11 * rows.len() + 2, "{}", text.len());
            prop_assert_eq!(serde_json::from_str::<RowHashes>(&text).unwrap(), original);
        }
    }
}
