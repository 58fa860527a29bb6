//! Places of the documents of a change.

use std::collections::{BTreeMap, BTreeSet};

use cynosure_engine::{DocumentLocation, ListedDocument, VanishedMessages};

use crate::ledger::postgres::records::{LocationRecord, VanishedRecord};
use crate::ledger::postgres::storable::storable;

/// Locations of one document that are compared with the folders reported of it. Limited so that a
/// server which gives one id to everything costs no more than others.
const LOCATION_ROWS_MAX: usize = 1_024;

/// Locations that a change needs, as they are after its decisions so far, and what it does to them.
#[derive(Debug, Default)]
pub(super) struct LocationChanges {
    present: BTreeSet<LocationRecord>,
    added: BTreeSet<LocationRecord>,
    deleted: BTreeSet<LocationRecord>,
    /// Folders of documents with a numbering that makes all others void. Their UIDs are 0.
    renumbered: BTreeSet<LocationRecord>,
    vanished: Vec<VanishedRecord>,
    /// Places of the folders in the order in which the change named them first. New folders get
    /// their numbers in this order, in which a fetch tries them.
    folders: BTreeMap<String, usize>,
}

/// Rows of a [`LocationChanges`], as they are written: deletions before additions, and both before
/// messages vanish.
#[derive(Debug)]
pub(super) struct LocationRecords {
    /// By folder, in the order in which the change named the folders first.
    pub(super) added: Vec<LocationRecord>,
    pub(super) deleted: Vec<LocationRecord>,
    pub(super) renumbered: Vec<LocationRecord>,
    /// In the order in which they vanish.
    pub(super) vanished: Vec<VanishedRecord>,
}

impl LocationChanges {
    pub(super) fn new(loaded: Vec<LocationRecord>) -> Self {
        Self { present: loaded.into_iter().collect(), ..Self::default() }
    }

    /// Records a location of a document; returns true if it was not known. Recording one again
    /// changes nothing.
    pub(super) fn record(&mut self, document: i64, location: &DocumentLocation) -> bool {
        let location = to_record(document, location);
        self.name_folder(&location.folder);
        if !self.add(location.clone()) {
            return false;
        }
        // Another numbering of the folder is void (RFC 3501 §2.3.1.1).
        let is_void = |other: &&LocationRecord| {
            other.folder == location.folder
                && other.uid_validity != location.uid_validity
                && other.uid != 0
        };
        let void: Vec<_> = self.of_document(document).filter(is_void).cloned().collect();
        for other in void {
            self.present.remove(&other);
            self.added.remove(&other);
        }
        self.renumbered.insert(LocationRecord { uid: 0, ..location });
        true
    }

    /// Records the names of all folders that contain a document, which have no numbers, in place
    /// of those recorded before. Without names nothing changes. Folders that are recorded already
    /// are not written again.
    pub(super) fn record_folders(&mut self, document: i64, names: &[String]) {
        let names = ListedDocument::kept_folders(names).into_iter();
        let mut missing: BTreeSet<String> = names.map(|name| storable(name).into_owned()).collect();
        if missing.is_empty() {
            return;
        }
        for name in &missing {
            self.name_folder(name);
        }
        let first = self.of_document(document).take(LOCATION_ROWS_MAX);
        let is_unnumbered = |known: &&LocationRecord| known.uid_validity == 0 && known.uid == 0;
        let unnumbered: Vec<_> = first.filter(is_unnumbered).cloned().collect();
        for known in unnumbered {
            if !missing.remove(&known.folder) {
                self.delete(known);
            }
        }
        for folder in missing {
            self.add(LocationRecord { document, folder, uid_validity: 0, uid: 0 });
        }
    }

    /// Adds messages that are no longer at their locations.
    pub(super) fn vanish(&mut self, messages: &VanishedMessages) {
        let VanishedMessages { folder, uid_validity, uids } = messages;
        self.vanished.extend(uids.iter().map(|range| VanishedRecord {
            folder: storable(folder).into_owned(),
            uid_validity: i64::from(*uid_validity),
            first: i64::from(*range.start()),
            last: i64::from(*range.end()),
        }));
    }

    /// True if a document has a numbered location that is not in `tried`.
    pub(super) fn has_untried(&self, document: i64, tried: &[DocumentLocation]) -> bool {
        let tried: BTreeSet<_> = tried.iter().map(|place| to_record(document, place)).collect();
        self.of_document(document).any(|known| known.uid != 0 && !tried.contains(known))
    }

    /// Deletes locations at which a document was not found.
    pub(super) fn delete_tried(&mut self, document: i64, tried: &[DocumentLocation]) {
        for location in tried {
            self.delete(to_record(document, location));
        }
    }

    /// Returns the rows to write.
    pub(super) fn into_records(self) -> LocationRecords {
        let Self { added, deleted, renumbered, vanished, folders, .. } = self;
        let mut added: Vec<_> = added.into_iter().collect();
        added.sort_by_key(|location| folders.get(&location.folder));
        LocationRecords {
            added,
            deleted: deleted.into_iter().collect(),
            renumbered: renumbered.into_iter().collect(),
            vanished,
        }
    }

    /// Returns the known locations of a document, by folder and numbers.
    fn of_document(&self, document: i64) -> impl Iterator<Item = &LocationRecord> {
        let first = LocationRecord { document, folder: String::new(), uid_validity: 0, uid: 0 };
        self.present.range(first..).take_while(move |known| known.document == document)
    }

    /// Gives a folder the next place, unless it has one.
    fn name_folder(&mut self, name: &str) {
        let place = self.folders.len();
        if !self.folders.contains_key(name) {
            self.folders.insert(name.to_owned(), place);
        }
    }

    fn add(&mut self, location: LocationRecord) -> bool {
        let is_new = self.present.insert(location.clone());
        if is_new {
            self.added.insert(location);
        }
        is_new
    }

    fn delete(&mut self, location: LocationRecord) {
        self.present.remove(&location);
        self.added.remove(&location);
        self.deleted.insert(location);
    }
}

fn to_record(document: i64, location: &DocumentLocation) -> LocationRecord {
    LocationRecord {
        document,
        folder: storable(&location.folder).into_owned(),
        uid_validity: i64::from(location.uid_validity),
        uid: i64::from(location.uid),
    }
}
