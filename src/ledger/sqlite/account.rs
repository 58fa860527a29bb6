//! Account of a ledger's source, and the time of its last complete listing.

use cynosure_engine::{AccountId, Timestamp};
use rusqlite::Connection;

use crate::ledger::sqlite::error::LedgerError;

pub(super) fn bound_account(connection: &Connection) -> Result<Option<AccountId>, LedgerError> {
    let sql = "SELECT account FROM source";
    let account = connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0))?;
    Ok(account.map(AccountId::new))
}

pub(super) fn reconciled_at(connection: &Connection) -> Result<Option<Timestamp>, LedgerError> {
    let sql = "SELECT reconciled_at FROM source";
    let at = connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0))?;
    Ok(at.map(Timestamp))
}

pub(super) fn bind_account(
    connection: &Connection,
    account: &AccountId,
) -> Result<AccountId, LedgerError> {
    let sql = "UPDATE source SET account = coalesce(account, ?1) RETURNING account";
    let bound: String = connection.query_row(sql, [account.as_str()], |row| row.get(0))?;
    Ok(AccountId::new(bound))
}

pub(super) fn init_reconciled_at(
    connection: &Connection,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let sql = "UPDATE source SET reconciled_at = coalesce(reconciled_at, ?1)";
    connection.execute(sql, [now.0])?;
    Ok(())
}
