//! Records what a source lists: ids first, then the place from which the listing goes on.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use crate::engine::{BlobId, Cursor, DocumentId, Failure, ItemId, Moment, Place, Recheck};
use crate::ledger::Ledger;
use crate::ledger::failure::Trouble;
use crate::ledger::rows::{DocumentStatus, ItemNo, as_integer};
use crate::ledger::standing::{Counting, find_item};

/// One document, as listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    pub item: ItemId,
    pub document: DocumentId,
    pub blob: BlobId,
    /// In bytes, where the server tells it.
    pub size: Option<u64>,
}

/// How the listing goes on after a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NextPlace {
    More(Place),
    /// That was all. The cursor is where a listing of changes says that the stream
    /// stands; after a full listing it is the pinned one.
    Done(Option<Cursor>),
}

/// What a page added.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PageOutcome {
    /// Items that the session has taken on by it.
    pub items: u64,
    /// Documents that were not known.
    pub documents: u64,
}

impl Ledger {
    /// Records a page and the place after it, in one transaction.
    ///
    /// An item is taken on when it has a document that is not in the archive. One
    /// whose bytes are there under another id is not fetched again. A document that
    /// an earlier session found gone is wanted again, since the source lists it.
    /// After the last page all that was listed is durable, and the cursor moves.
    ///
    /// # Errors
    /// A ledger failure; also when no session is open or its listing is complete.
    pub fn record_page(
        &mut self,
        entries: &[Listed],
        next: &NextPlace,
        now: Moment,
    ) -> Result<PageOutcome, Failure> {
        self.write("record a page", |transaction| {
            let counting = Counting::start(transaction)?;
            if counting.session.is_listed {
                return Err(Trouble::Unfit("the listing of the session is complete".to_owned()));
            }
            move_place(transaction, &counting, next)?;
            let mut page = Page {
                connection: transaction,
                counting,
                ready: BTreeSet::new(),
                outcome: PageOutcome::default(),
            };
            entries.iter().try_for_each(|entry| page.record(entry))?;
            // Nothing is refused by a listing, so that there is no next look to set.
            page.counting.settle(page.ready, Recheck::AT_ONCE, now)?;
            page.counting.finish()?;
            Ok(page.outcome)
        })
    }
}

fn move_place(
    connection: &Connection,
    counting: &Counting<'_>,
    next: &NextPlace,
) -> Result<(), Trouble> {
    match next {
        NextPlace::More(place) => connection.execute(
            "UPDATE sessions SET place = ?2 WHERE no = ?1",
            params![counting.session.no, place.as_str()],
        )?,
        NextPlace::Done(cursor) => {
            connection.execute(
                "UPDATE sessions SET place = NULL, is_listed = 1 WHERE no = ?1",
                [counting.session.no],
            )?;
            let cursor = cursor.as_ref().or(counting.session.pinned.as_ref());
            connection.execute(
                "UPDATE source SET cursor = coalesce(?1, cursor)",
                [cursor.map(Cursor::as_str)],
            )?
        }
    };
    Ok(())
}

/// A page while it is recorded.
struct Page<'a> {
    connection: &'a Connection,
    counting: Counting<'a>,
    /// Items that may have nothing left to fetch.
    ready: BTreeSet<ItemNo>,
    outcome: PageOutcome,
}

impl Page<'_> {
    fn record(&mut self, entry: &Listed) -> Result<(), Trouble> {
        match find_item(self.connection, entry.item.as_str())? {
            None => {
                let item = self.add_item(&entry.item)?;
                self.add_document(item, entry)
            }
            Some(item) => match self.find_document(item, &entry.document)? {
                None => self.add_document(item, entry),
                Some((document, DocumentStatus::Gone)) => self.want_again(item, document, entry),
                Some((
                    _,
                    DocumentStatus::Wanted | DocumentStatus::Stored | DocumentStatus::Refused,
                )) => Ok(()),
            },
        }
    }

    fn add_item(&mut self, id: &ItemId) -> Result<ItemNo, Trouble> {
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO items (id, session, status, attempts, next_at) VALUES (?1, ?2, 0, 0, 0)",
        )?;
        statement.execute(params![id.as_str(), self.counting.session.no])?;
        self.counting.took_on();
        self.outcome.items += 1;
        Ok(ItemNo(self.connection.last_insert_rowid()))
    }

    fn add_document(&mut self, item: ItemNo, entry: &Listed) -> Result<(), Trouble> {
        self.outcome.documents += 1;
        // Equal blobs are equal bytes: what is in the archive already is taken from there.
        let mut copy = self.connection.prepare_cached(
            "INSERT INTO documents (item, id, blob, size, status, session, file, length, sha256)
             SELECT ?1, ?2, blob, size, status, session, file, length, sha256
             FROM documents WHERE blob = ?3 AND status = 1 LIMIT 1",
        )?;
        let copied = copy.execute(params![item.0, entry.document.as_str(), entry.blob.as_str()])?;
        if copied > 0 {
            self.ready.insert(item);
            return Ok(());
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO documents (item, id, blob, size, status) VALUES (?1, ?2, ?3, ?4, 0)",
        )?;
        insert.execute(params![
            item.0,
            entry.document.as_str(),
            entry.blob.as_str(),
            entry.size.map(as_integer)
        ])?;
        self.take_on(item)
    }

    fn find_document(
        &self,
        item: ItemNo,
        document: &DocumentId,
    ) -> Result<Option<(i64, DocumentStatus)>, Trouble> {
        let sql = "SELECT no, status FROM documents WHERE item = ?1 AND id = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement
            .query_row(params![item.0, document.as_str()], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(found.optional()?)
    }

    fn want_again(&mut self, item: ItemNo, document: i64, entry: &Listed) -> Result<(), Trouble> {
        let session: i64 = self.connection.query_row(
            "SELECT session FROM items WHERE no = ?1",
            [item.0],
            |row| row.get(0),
        )?;
        if session == self.counting.session.no {
            // It was asked for in this session, and the answer stands.
            return Ok(());
        }
        self.connection.execute(
            "UPDATE documents SET status = 0, blob = ?2, size = ?3 WHERE no = ?1",
            params![document, entry.blob.as_str(), entry.size.map(as_integer)],
        )?;
        self.take_on(item)
    }

    fn take_on(&mut self, item: ItemNo) -> Result<(), Trouble> {
        if self.counting.reopen(item)? {
            self.outcome.items += 1;
        }
        Ok(())
    }
}
