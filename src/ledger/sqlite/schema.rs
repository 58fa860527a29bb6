//! Tables, as an append-only list of migrations.
//!
//! A released migration is never changed; another is added. The `user_version` of a file is the
//! number of migrations that were applied to it.

use rusqlite::{Connection, TransactionBehavior};

use crate::ledger::sqlite::rows::to_sql_integer;

/// SQLite application id that marks a file as a ledger: "CYNO" in ASCII.
pub(super) const APPLICATION_ID: i64 = 0x4359_4e4f;

/// Schema version that this program reads and writes.
pub(super) const SCHEMA_VERSION: usize = MIGRATIONS.len();

const MIGRATIONS: &[&str] = &[
    INITIAL_SCHEMA,
    ADD_FAILURE_DETAILS,
    ADD_IDENTITY_AND_VERSIONS,
    ADD_LABELS_AND_LISTED_CONTENTS,
];

/// First schema. Statuses and kinds are stored as numbers, as in `rows.rs`, because those take one
/// byte or none: items are 0 pending, 1 stored, 2 gone, 3 quarantined; documents are 0 pending, 1
/// stored, 2 gone, 3 failed; sessions are 0 full, 1 changes, 2 recheck. Times are milliseconds
/// since the Unix epoch.
const INITIAL_SCHEMA: &str = "
-- One row: the point in the stream of changes up to which all is listed, and the
-- newest execution state, from which a broken state file is rebuilt.
CREATE TABLE source (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    cursor   TEXT,
    snapshot TEXT
) STRICT;
INSERT INTO source (one) VALUES (1);

-- The newest row is the open session until it is completed. Its counters move in
-- the transactions that move the items, so that no query has to count ten million rows.
CREATE TABLE sessions (
    no          INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL,
    kind        INTEGER NOT NULL,
    started     INTEGER NOT NULL,
    completed   INTEGER,
    folder      TEXT,                        -- in the archive, once it is created
    pinned      TEXT,                        -- the cursor taken before the listing
    place       TEXT,                        -- token of the next page
    is_listed   INTEGER NOT NULL,
    listed      INTEGER NOT NULL DEFAULT 0,
    stored      INTEGER NOT NULL DEFAULT 0,
    gone        INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    documents   INTEGER NOT NULL DEFAULT 0,
    bytes       INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE items (
    no         INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    session    INTEGER NOT NULL,             -- the last that it was assigned to
    status     INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    next_at    INTEGER NOT NULL,             -- 0: never tried, due at once
    cause      TEXT,                         -- of the last failure
    message    TEXT,
    settled_at INTEGER
) STRICT;

-- Partial, so that the stored items, which are nearly all, are in none of them.
CREATE INDEX items_pending     ON items (next_at)    WHERE status = 0;
CREATE INDEX items_gone        ON items (settled_at) WHERE status = 2;
CREATE INDEX items_quarantined ON items (next_at)    WHERE status = 3;

-- Item first in the key: new rows go to its end, which keeps inserts cheap at any size.
CREATE TABLE documents (
    no      INTEGER PRIMARY KEY,
    item    INTEGER NOT NULL,
    id      TEXT    NOT NULL,
    blob    TEXT    NOT NULL,
    size    INTEGER,                         -- as the server announced it
    status  INTEGER NOT NULL,
    session INTEGER,                         -- whose folder the file is in
    file    TEXT,                            -- the path below it
    length  INTEGER,
    sha256  BLOB,
    UNIQUE (item, id)
) STRICT;

-- Finds bytes that are stored under another id, as when a server merges threads.
CREATE INDEX documents_blob ON documents (blob) WHERE status = 1;

CREATE TABLE history (
    no         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    from_state TEXT    NOT NULL,
    to_state   TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    session    TEXT
) STRICT;
";

/// Adds the details of a failure: its time, the quarantines in a row, and the server's response.
const ADD_FAILURE_DETAILS: &str = "
ALTER TABLE items ADD COLUMN failed_at INTEGER;                      -- when it last failed
ALTER TABLE items ADD COLUMN quarantines INTEGER NOT NULL DEFAULT 0; -- in a row, without a success
UPDATE items SET failed_at = settled_at, quarantines = 1 WHERE status = 3;

-- A separate table, so that the millions of items that never fail need no space for it.
CREATE TABLE replies (
    no      INTEGER PRIMARY KEY,             -- grows with every response: the oldest has the lowest
    item    INTEGER NOT NULL UNIQUE,         -- 0: the listing or the session as a whole
    at      INTEGER NOT NULL,
    status  INTEGER NOT NULL,
    headers TEXT    NOT NULL,                -- a JSON list of pairs
    body    TEXT    NOT NULL,                -- its beginning
    is_cut  INTEGER NOT NULL
) STRICT;
";

/// Adds the account that a ledger belongs to, older versions of documents, and the folders in which
/// documents were seen.
///
/// From this version on, `documents.session` of a document that is gone is the session that found
/// it gone.
///
/// No column is added to `items` or `documents`, because after ALTER TABLE ADD COLUMN on a STRICT
/// table SQLite reads all its rows (`quick_check` in alter.c), which takes seconds at ten million.
const ADD_IDENTITY_AND_VERSIONS: &str = "
ALTER TABLE source ADD COLUMN id TEXT;                -- random; the archive's marker names it
ALTER TABLE source ADD COLUMN account TEXT;           -- as the server names it; the cursor is valid for it only
ALTER TABLE source ADD COLUMN reconciled_at INTEGER;  -- when a listing of everything last completed

-- Current listing: 0 everything, 1 changes, 2 nothing, 3 everything once more (reconcile). A
-- session may list more than once; its kind is the listing that it began with.
ALTER TABLE sessions ADD COLUMN listing  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN versions INTEGER NOT NULL DEFAULT 0; -- other content under a known id
ALTER TABLE sessions ADD COLUMN copies   INTEGER NOT NULL DEFAULT 0; -- bytes that were stored before
ALTER TABLE sessions ADD COLUMN copied_bytes   INTEGER NOT NULL DEFAULT 0; -- of fetched copies
ALTER TABLE sessions ADD COLUMN expected_bytes INTEGER NOT NULL DEFAULT 0; -- estimate; 0: none
UPDATE sessions SET listing = kind;

-- Stored versions of documents whose row holds a later one.
CREATE TABLE superseded (
    no       INTEGER PRIMARY KEY,
    document INTEGER NOT NULL,
    blob     TEXT    NOT NULL,
    size     INTEGER,
    session  INTEGER NOT NULL,
    file     TEXT    NOT NULL,
    length   INTEGER NOT NULL,
    sha256   BLOB    NOT NULL,
    at       INTEGER NOT NULL                -- when the later one was listed
) STRICT;
CREATE INDEX superseded_document ON superseded (document);

-- Failure counts of a pending item, beside its attempts. Only items that fail have a row.
CREATE TABLE trials (
    item     INTEGER PRIMARY KEY,
    requests INTEGER NOT NULL,               -- failed in a row
    strikes  INTEGER NOT NULL,               -- throttles of its own
    since    INTEGER                         -- time of the first failure; that of the last is items.failed_at
) STRICT;

-- Folders in which a document was seen. Numbers are 0 if the server has none.
CREATE TABLE folders (
    no   INTEGER PRIMARY KEY,
    name TEXT    NOT NULL UNIQUE
) STRICT;
CREATE TABLE locations (
    document     INTEGER NOT NULL,
    folder       INTEGER NOT NULL,
    uid_validity INTEGER NOT NULL,
    uid          INTEGER NOT NULL,
    PRIMARY KEY (document, folder, uid_validity, uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX locations_uid ON locations (folder, uid_validity, uid);

-- Finds equal bytes if blob ids do not identify content; filled for such sources only.
CREATE TABLE contents (
    sha256   BLOB    PRIMARY KEY,
    document INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Adds what a listing says of documents beside their ids: labels, and the documents themselves.
const ADD_LABELS_AND_LISTED_CONTENTS: &str = "
-- 1: the last page with documents contained them, so that only a listing brings one again.
ALTER TABLE source ADD COLUMN lists_contents INTEGER NOT NULL DEFAULT 0;

-- Names and values of documents, for people.
CREATE TABLE labels (
    document INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    value    TEXT    NOT NULL,
    PRIMARY KEY (document, name)
) STRICT, WITHOUT ROWID;

-- Documents that a listing contained, until they are stored or gone. Nothing else has them.
CREATE TABLE listed_contents (
    document INTEGER PRIMARY KEY,
    content  TEXT    NOT NULL
) STRICT;
";

/// Migrates the tables from `version` to [`SCHEMA_VERSION`], each step in a separate transaction.
pub(super) fn migrate(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", to_sql_integer(number as u64 + 1))?;
        transaction.commit()?;
    }
    Ok(())
}
