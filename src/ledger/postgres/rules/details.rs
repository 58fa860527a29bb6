//! Rows beside items and documents: labels, listed contents, failure counts and responses.

use std::collections::{BTreeMap, BTreeSet};

use cynosure_engine::{Failure, ItemFailureCounts, Timestamp, truncate_to_bytes};

use crate::ledger::postgres::records::{
    LabelRecord, LastResponseRecord, ListedContentRecord, TrialRecord,
};
use crate::ledger::postgres::storable::storable;

/// Bytes of a value that are kept. A label is read by people and repeated in the manifest; what is
/// longer is a document.
const LABEL_BYTES_MAX: usize = 1024;

/// Item of a response that belongs to the listing or the session, not to an item.
const SESSION_ITEM: i64 = 0;

/// Changes of the rows beside items and documents. Of several changes of a row, the last counts.
#[derive(Debug, Default)]
pub(super) struct DetailChanges {
    /// Documents whose listed content is kept.
    with_content: BTreeSet<i64>,
    /// New contents by document; `None` for one that is deleted.
    contents: BTreeMap<i64, Option<String>>,
    /// Values by document and name.
    labels: BTreeMap<(i64, String), String>,
    /// New counts by item; `None` for those that are deleted.
    trials: BTreeMap<i64, Option<TrialRecord>>,
    /// The newest last, at most one of an item.
    responses: Vec<LastResponseRecord>,
}

/// Rows of a [`DetailChanges`], as they are written.
#[derive(Debug)]
pub(super) struct DetailRecords {
    pub(super) labels: Vec<LabelRecord>,
    pub(super) contents: Vec<ListedContentRecord>,
    pub(super) contents_deleted: Vec<i64>,
    pub(super) trials: Vec<TrialRecord>,
    pub(super) trials_deleted: Vec<i64>,
    pub(super) responses: Vec<LastResponseRecord>,
}

impl DetailChanges {
    pub(super) fn new(with_content: Vec<i64>) -> Self {
        Self { with_content: with_content.into_iter().collect(), ..Self::default() }
    }

    /// True if the listed content of a document is kept.
    pub(super) fn has_content(&self, document: i64) -> bool {
        self.with_content.contains(&document)
    }

    /// Keeps the listed content of a document in place of an earlier one.
    pub(super) fn store_content(&mut self, document: i64, content: &str) {
        self.with_content.insert(document);
        self.contents.insert(document, Some(content.to_owned()));
    }

    /// Deletes the listed content of a document, if there is one.
    pub(super) fn delete_content(&mut self, document: i64) {
        if self.with_content.remove(&document) {
            self.contents.insert(document, None);
        }
    }

    /// Stores labels of a document. One that is not among them keeps its value, because each
    /// request of a source may report other ones.
    pub(super) fn store_labels(&mut self, document: i64, labels: &[(String, String)]) {
        for (name, value) in labels {
            let value = truncate_to_bytes(value, LABEL_BYTES_MAX).to_owned();
            self.labels.insert((document, storable(name).into_owned()), value);
        }
    }

    /// Stores the failure counts of an item.
    pub(super) fn store_trial(&mut self, item: i64, counts: &ItemFailureCounts) {
        let trial = TrialRecord {
            item,
            requests: i64::from(counts.failed_requests),
            strikes: i64::from(counts.strikes),
            since: counts.failing_since.map(|since| since.0),
        };
        self.trials.insert(item, Some(trial));
    }

    /// Deletes the failure counts of an item that becomes pending again.
    pub(super) fn delete_trial(&mut self, item: i64) {
        self.trials.insert(item, None);
    }

    /// Stores the response of an item's failure in place of the previous one. A failure without a
    /// response leaves the previous one.
    pub(super) fn store_response(&mut self, item: i64, failure: &Failure, now: Timestamp) {
        if let Some(response) = to_response(item, failure, now) {
            self.responses.retain(|previous| previous.item != item);
            self.responses.push(response);
        }
    }

    /// Returns the rows to write.
    pub(super) fn into_records(self) -> DetailRecords {
        let labels = self.labels.into_iter();
        let labels = labels.map(|((document, name), value)| LabelRecord { document, name, value });
        let (mut contents, mut contents_deleted) = (Vec::new(), Vec::new());
        for (document, content) in self.contents {
            match content {
                Some(content) => contents.push(ListedContentRecord { document, content }),
                None => contents_deleted.push(document),
            }
        }
        let (mut trials, mut trials_deleted) = (Vec::new(), Vec::new());
        for (item, trial) in self.trials {
            match trial {
                Some(trial) => trials.push(trial),
                None => trials_deleted.push(item),
            }
        }
        DetailRecords {
            labels: labels.collect(),
            contents,
            contents_deleted,
            trials,
            trials_deleted,
            responses: self.responses,
        }
    }
}

/// Returns the row of the response of a failure that belongs to the session; `None` if the failure
/// has no response.
pub(in crate::ledger::postgres) fn session_response(
    failure: &Failure,
    now: Timestamp,
) -> Option<LastResponseRecord> {
    to_response(SESSION_ITEM, failure, now)
}

fn to_response(item: i64, failure: &Failure, now: Timestamp) -> Option<LastResponseRecord> {
    let response = failure.response.as_ref()?;
    let headers = serde_json::Value::from_iter(
        response.headers.iter().map(|(name, value)| vec![name.as_str(), value.as_str()]),
    );
    Some(LastResponseRecord {
        item,
        at: now.0,
        status: i32::from(response.status),
        headers: headers.to_string(),
        body: response.body.clone(),
        is_cut: response.is_truncated,
    })
}
