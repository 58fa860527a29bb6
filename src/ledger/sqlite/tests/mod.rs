//! Tests of what only the ledger in SQLite has: its statements and the migration of its files.

use cynosure_engine::{Cause, Failure, ItemId, ListedDocument, RecheckPolicy};
use rusqlite::Connection;

use crate::ledger::tests::{
    DAY, LATER, NOW, begin_session, commit_updates, describe_items, due_items, due_row_id,
    gone_update, item_row_id, location, record_entries, record_page, store_documents,
};
use crate::ledger::*;

pub(in crate::ledger) mod home;
mod statements;
mod upgrade;

fn ledger_with_open_session() -> SqliteLedger {
    let mut ledger = SqliteLedger::in_memory();
    begin_session(&mut ledger, "session_1", SessionKind::Full, NOW);
    ledger
}
