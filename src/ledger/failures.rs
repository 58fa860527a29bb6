//! Items that are not stored: shown, asked for again, and due for another look.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::engine::{Cause, Failure, ItemId, Moment};
use crate::ledger::failure::Trouble;
use crate::ledger::rows::ItemStatus;
use crate::ledger::{Ledger, Reader};

/// Which failures are shown.
#[derive(Clone, Copy, Debug)]
pub struct FailureFilter {
    /// Only those of this cause.
    pub cause: Option<Cause>,
    pub limit: usize,
}

/// One item that is not stored, or not whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailureRow {
    pub item: ItemId,
    pub status: ItemStatus,
    /// Attempts that failed.
    pub attempts: u32,
    /// When it is tried again; `None` for what is gone.
    pub next_at: Option<Moment>,
    pub cause: Option<Cause>,
    pub message: String,
}

/// What is to be tried again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Requeue {
    /// Everything in quarantine.
    All,
    /// What is in quarantine for one cause.
    Cause(Cause),
    /// One item, in quarantine or gone.
    Item(ItemId),
}

impl Reader {
    /// Returns items in quarantine, then those that wait for another attempt, then those gone.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn failures(&self, filter: FailureFilter) -> Result<Vec<FailureRow>, Failure> {
        const SOUGHT: [&str; 3] = [
            "status = 3 ORDER BY next_at, no",
            "status = 0 AND next_at > 0 ORDER BY next_at, no",
            "status = 2 ORDER BY settled_at, no",
        ];
        self.read("read the failures", |connection| {
            let mut found = Vec::new();
            for sought in SOUGHT {
                let sql = format!(
                    "SELECT id, status, attempts, next_at, cause, message FROM items WHERE {sought}"
                );
                let mut statement = connection.prepare(&sql)?;
                let mut rows = statement.query([])?;
                while found.len() < filter.limit
                    && let Some(row) = rows.next()?
                {
                    let row = FailureRow::from_row(row)?;
                    if filter.cause.is_none_or(|cause| row.cause == Some(cause)) {
                        found.push(row);
                    }
                }
            }
            Ok(found)
        })
    }

    /// Whether quarantined items are due for another look.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn rechecks_due(&self, now: Moment) -> Result<bool, Failure> {
        Ok(self.next_recheck()?.is_some_and(|next| next <= now))
    }

    /// Returns when the first quarantined item is due for another look.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn next_recheck(&self) -> Result<Option<Moment>, Failure> {
        self.read("read the quarantine", |connection| {
            let sql = "SELECT next_at FROM items WHERE status = 3 ORDER BY next_at LIMIT 1";
            Ok(connection.query_row(sql, [], |row| row.get(0).map(Moment)).optional()?)
        })
    }
}

impl Ledger {
    /// Makes items due for another look at once; returns how many.
    ///
    /// # Errors
    /// A ledger failure.
    pub fn requeue(&mut self, which: &Requeue, now: Moment) -> Result<usize, Failure> {
        self.write("requeue", |transaction| {
            let changed = match which {
                Requeue::All => transaction
                    .execute("UPDATE items SET next_at = ?1 WHERE status = 3", [now.0])?,
                Requeue::Cause(cause) => transaction.execute(
                    "UPDATE items SET next_at = ?1 WHERE status = 3 AND cause = ?2",
                    params![now.0, cause.name()],
                )?,
                Requeue::Item(item) => requeue_item(transaction, item, now)?,
            };
            Ok(changed)
        })
    }
}

/// One that is gone goes to quarantine, from where the next session takes it.
fn requeue_item(connection: &Connection, item: &ItemId, now: Moment) -> Result<usize, Trouble> {
    let gone = connection.query_row(
        "SELECT no, session FROM items WHERE id = ?1 AND status = 2",
        [item.as_str()],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
    );
    if let Some((no, session)) = gone.optional()? {
        connection.execute("UPDATE items SET status = 3 WHERE no = ?1", [no])?;
        connection
            .execute("UPDATE documents SET status = 0 WHERE item = ?1 AND status = 2", [no])?;
        connection.execute(
            "UPDATE sessions SET gone = gone - 1, quarantined = quarantined + 1 WHERE no = ?1",
            [session],
        )?;
    }
    let changed = connection.execute(
        "UPDATE items SET next_at = ?1 WHERE id = ?2 AND status = 3",
        params![now.0, item.as_str()],
    )?;
    Ok(changed)
}

impl FailureRow {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let status = row.get("status")?;
        let next_at = Moment(row.get("next_at")?);
        Ok(Self {
            item: ItemId::new(row.get::<_, String>("id")?),
            status,
            attempts: row.get("attempts")?,
            next_at: (status != ItemStatus::Gone).then_some(next_at),
            cause: row.get::<_, Option<String>>("cause")?.as_deref().and_then(Cause::from_name),
            message: row.get::<_, Option<String>>("message")?.unwrap_or_default(),
        })
    }
}
