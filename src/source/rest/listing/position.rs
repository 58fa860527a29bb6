//! Position in a listing, as a page token stores it.

use std::collections::{BTreeSet, VecDeque};

use cynosure_engine::PageToken;
use cynosure_engine::rest::RestProfile;
use serde::{Deserialize, Serialize};

use crate::source::page_token;
use crate::source::rest::cursor::{ChangeMethod, ChangePosition};
use crate::source::rest::listing::documents::PendingItems;
use crate::source::rest::listing::passes::RowHash;
use crate::source::rest::listing::progress::{ListProgress, is_default};

/// Version of the format. A listing with a token of another version begins again.
const VERSION: u32 = 1;

/// Maximum number of times that a part which fails is moved behind the others.
const DEFERRALS_MAX: u32 = 2;

/// Position in a listing: first of the parts, then of the rows of each, then of the sweep.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct RestPosition {
    #[serde(rename = "v")]
    version: u32,
    /// Hash of the profile, without which the position has no meaning.
    profile: RowHash,
    pub(super) stage: RestStage,
    /// Parts that are not complete. The first one is being listed.
    pub(super) parts: VecDeque<QueuedPart>,
    /// Ids of the parts that the server has listed so far, while it lists them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) found_parts: Vec<String>,
    /// Progress in the list that is being read.
    pub(super) progress: ListProgress,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) pending: PendingItems,
    /// Place from which changes are known after the listing, as far as it is complete.
    pub(super) changes: ChangePosition,
    /// Number of documents when the listing started, if the server reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) outcomes: PartOutcomes,
    /// Reason why the end of the list that is being read cannot be verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contradiction: Option<String>,
}

/// Results of requests since the listing began, by which a failure is judged.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct PartOutcomes {
    /// Parts that were left out, because the server refuses to list them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) refused: BTreeSet<String>,
    /// Parts in a row that failed.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) failed_in_a_row: u32,
    /// True once a part was listed to its end.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) has_listed_part: bool,
    /// True once the documents of an item were listed.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) has_listed_documents: bool,
}

/// Stage of a listing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RestStage {
    /// The parts are listed.
    Parts,
    /// The rows of the parts are listed.
    Rows,
    /// The rows of the sweep are listed.
    Sweep,
    /// The sweep is complete.
    Swept,
}

/// Part to be listed. Without parts, there is one without an id.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct QueuedPart {
    pub(super) id: Option<String>,
    /// True if all of it is listed although the cursor knows it, because the server no longer
    /// accepts its position.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_whole: bool,
    /// True if the server did not find it, and still listed it after that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_checked: bool,
    /// Number of times that its listing failed and it was moved behind the others.
    #[serde(default, skip_serializing_if = "is_default")]
    failures: u32,
    /// Progress with which it is continued then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<Box<PartProgress>>,
}

/// Progress in a part that is continued later.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
struct PartProgress {
    list: ListProgress,
    pending: PendingItems,
}

impl RestPosition {
    /// Returns the start of a listing. `has_parts` is true if the parts are to be listed first.
    pub(super) fn start(profile: &RestProfile, method: ChangeMethod, has_parts: bool) -> Self {
        let (stage, parts) = if has_parts {
            (RestStage::Parts, VecDeque::new())
        } else {
            (RestStage::Rows, VecDeque::from([QueuedPart::new(None)]))
        };
        Self {
            version: VERSION,
            profile: hash_profile(profile),
            stage,
            parts,
            found_parts: Vec::new(),
            progress: ListProgress::default(),
            pending: PendingItems::default(),
            changes: method.start(),
            total: None,
            outcomes: PartOutcomes::default(),
            contradiction: None,
        }
    }

    /// Parses a page token. Returns `None` without a token, and for one of another version or of
    /// another profile.
    pub(super) fn decode(token: Option<&PageToken>, profile: &RestProfile) -> Option<Self> {
        let position: Self = page_token::decode(token)?;
        let is_valid = position.version == VERSION && position.profile == hash_profile(profile);
        is_valid.then_some(position)
    }

    pub(super) fn encode(&self) -> PageToken {
        page_token::encode(self)
    }

    /// Returns the id of the part that is being listed; `None` during the sweep.
    pub(super) fn part_id(&self) -> Option<&str> {
        match self.stage {
            RestStage::Rows => self.parts.front()?.id.as_deref(),
            RestStage::Parts | RestStage::Sweep | RestStage::Swept => None,
        }
    }

    /// Adds parts that the server has listed. Returns false if there are more than `max`.
    pub(super) fn add_parts(&mut self, ids: impl IntoIterator<Item = String>, max: usize) -> bool {
        let mut known: BTreeSet<String> = self.found_parts.iter().cloned().collect();
        self.found_parts.extend(ids.into_iter().filter(|id| known.insert(id.clone())));
        self.found_parts.len() <= max
    }

    /// Begins to list the rows of the parts that the server has listed.
    ///
    /// If parts were being listed already, those that exist no longer are dropped. New ones are
    /// found by the next listing of changes.
    pub(super) fn begin_rows(&mut self) {
        let found = std::mem::take(&mut self.found_parts);
        if self.parts.is_empty() {
            self.parts = found.into_iter().map(|id| QueuedPart::new(Some(id))).collect();
        } else {
            let found: BTreeSet<String> = found.into_iter().collect();
            self.parts.retain(|part| part.id.as_ref().is_some_and(|id| found.contains(id)));
        }
        self.begin_part();
    }

    /// Lists the parts again, because the server does not find the current one. Returns false, and
    /// changes nothing, if that was done before: it lists a part that it does not find.
    #[must_use]
    pub(super) fn check_part(&mut self) -> bool {
        let is_part = |part: &&mut QueuedPart| part.id.is_some() && !part.is_checked;
        let Some(part) = self.parts.front_mut().filter(is_part) else { return false };
        part.is_checked = true;
        self.pending = PendingItems::default();
        self.begin_list(RestStage::Parts);
        true
    }

    /// Lists all of the current part, because the server no longer accepts its position. Returns
    /// false, and changes nothing, if there are no parts.
    #[must_use]
    pub(super) fn list_whole_part(&mut self) -> bool {
        let Some(part) = self.parts.front_mut().filter(|part| part.id.is_some()) else {
            return false;
        };
        part.is_whole = true;
        self.begin_list(RestStage::Rows);
        true
    }

    /// Continues with the next part.
    pub(super) fn finish_part(&mut self) {
        self.parts.pop_front();
        self.begin_part();
    }

    /// Moves the current part behind the others, because its listing failed. It is continued there.
    /// Returns false, and changes nothing, if no other is left that did not fail as often.
    #[must_use]
    pub(super) fn defer_part(&mut self) -> bool {
        let may_be_deferred = |part: &QueuedPart| part.failures < DEFERRALS_MAX;
        let has_others = self.parts.iter().skip(1).any(may_be_deferred);
        let is_movable = has_others && self.parts.front().is_some_and(may_be_deferred);
        if self.stage != RestStage::Rows || !is_movable {
            return false;
        }
        let Some(mut part) = self.parts.pop_front() else { return false };
        part.failures += 1;
        self.outcomes.failed_in_a_row = self.outcomes.failed_in_a_row.saturating_add(1);
        let (list, pending) =
            (std::mem::take(&mut self.progress), std::mem::take(&mut self.pending));
        part.progress = Some(Box::new(PartProgress { list, pending }));
        self.parts.push_back(part);
        self.begin_part();
        true
    }

    /// Leaves out the current part, which the server refuses to list. Returns its id; `None`, and
    /// changes nothing, if there are no parts.
    pub(super) fn refuse_part(&mut self) -> Option<String> {
        let part = self.part_id()?.to_owned();
        self.outcomes.refused.insert(part.clone());
        self.pending = PendingItems::default();
        self.finish_part();
        Some(part)
    }

    /// Begins the first part of the queue, or continues it.
    fn begin_part(&mut self) {
        self.begin_list(RestStage::Rows);
        let continued = self.parts.front_mut().and_then(|part| part.progress.take());
        if let Some(continued) = continued {
            let PartProgress { list, pending } = *continued;
            (self.progress, self.pending) = (list, pending);
        }
    }

    /// Begins to read a list.
    pub(super) fn begin_list(&mut self, stage: RestStage) {
        self.stage = stage;
        self.progress = ListProgress::default();
    }

    /// Records that the end of the list that is being read cannot be verified.
    pub(super) fn contradict(&mut self, reason: String) {
        self.contradiction = Some(reason);
    }

    /// True if the end of the list cannot be verified.
    pub(super) fn is_contradicted(&self) -> bool {
        self.contradiction.is_some()
    }

    /// Returns the reason why the end of the list cannot be verified, if there is one, with the
    /// position from which the listing resumes.
    ///
    /// The list is read from its start once more. If its end cannot be verified then, the position
    /// stays at that end, so that the listing does not go on for ever.
    pub(super) fn contradiction(&self) -> Option<(String, Self)> {
        let reason = self.contradiction.clone()?;
        let mut resumed = self.clone();
        if !self.progress.passes.is_retried() {
            resumed.contradiction = None;
            resumed.progress = ListProgress::retried();
        }
        Some((reason, resumed))
    }
}

impl QueuedPart {
    pub(super) fn new(id: Option<String>) -> Self {
        Self { id, is_whole: false, is_checked: false, failures: 0, progress: None }
    }

    /// True if its listing failed, and it was moved behind the others.
    pub(super) fn is_deferred(&self) -> bool {
        0 < self.failures
    }
}

/// Returns the hash of all that gives a position its meaning.
fn hash_profile(profile: &RestProfile) -> RowHash {
    RowHash::of(&[&format!("{:?}", profile.tables), &format!("{:?}", profile.options)])
}
