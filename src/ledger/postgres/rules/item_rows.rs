//! Items of a change: loaded, changed and new ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::postgres::records::ItemRecord;

/// Items that a change needs, as they are after its decisions so far.
#[derive(Debug, Default)]
pub(super) struct ItemRows {
    rows: BTreeMap<i64, ItemRecord>,
    changed: BTreeSet<i64>,
    /// Numbers of the rows, by id.
    numbers: BTreeMap<String, i64>,
}

impl ItemRows {
    pub(super) fn new(loaded: Vec<ItemRecord>) -> Self {
        let mut items = Self::default();
        for row in loaded {
            items.insert(row);
        }
        items
    }

    /// Finds the number of an item by its id at the source.
    pub(super) fn find(&self, id: &str) -> Option<i64> {
        self.numbers.get(id).copied()
    }

    /// Returns the row with a number.
    ///
    /// # Errors
    /// The reason, if the row was not loaded: the ledger has no such item.
    pub(super) fn get(&self, no: i64) -> Result<&ItemRecord, String> {
        self.rows.get(&no).ok_or_else(|| format!("there is no item {no}"))
    }

    /// Changes a row, if there is one with this number.
    pub(super) fn change(&mut self, no: i64, change: impl FnOnce(&mut ItemRecord)) {
        if let Some(row) = self.rows.get_mut(&no) {
            change(row);
            self.changed.insert(no);
        }
    }

    /// Adds a row that is to be written.
    pub(super) fn add(&mut self, row: ItemRecord) {
        self.changed.insert(row.no);
        self.insert(row);
    }

    /// Returns the rows to write, by number.
    pub(super) fn into_changed(self) -> Vec<ItemRecord> {
        let Self { rows, changed, .. } = self;
        rows.into_values().filter(|row| changed.contains(&row.no)).collect()
    }

    fn insert(&mut self, row: ItemRecord) {
        self.numbers.insert(row.id.clone(), row.no);
        self.rows.insert(row.no, row);
    }
}
