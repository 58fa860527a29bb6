-- Ledgers of all sources. Statuses and kinds are numbers: items are 0 pending, 1 stored, 2 gone,
-- 3 quarantined; documents are 0 pending, 1 stored, 2 gone, 3 failed; sessions are 0 full,
-- 1 changes, 2 recheck, 3 reconcile; listings are 0 full, 1 changes, 2 nothing, 3 reconcile. Times
-- are milliseconds since the Unix epoch. Numbers of rows are per source and begin with 1.
--
-- Texts that are compared or sorted have the collation "C", which compares bytes. It is fast, and
-- an update of the system's collations does not damage its indexes.

CREATE SCHEMA IF NOT EXISTS cynosure;

CREATE TABLE IF NOT EXISTS cynosure.schema_version (version INTEGER NOT NULL);

-- One row per source: its owner, the point in the stream of changes up to which all is listed, and
-- the numbers of the next rows.
CREATE TABLE cynosure.sources (
    no             BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           TEXT    COLLATE "C" NOT NULL UNIQUE,
    epoch          BIGINT  NOT NULL DEFAULT 0, -- of the owner
    revision       BIGINT  NOT NULL DEFAULT 0, -- grows with every change
    ledger_id      TEXT,                       -- random; the archive's marker names it
    account        TEXT,                       -- the cursor is valid for it only
    cursor         TEXT,
    snapshot       TEXT,                       -- newest execution state
    reconciled_at  BIGINT,                     -- when a listing of everything last completed
    lists_contents BOOLEAN NOT NULL DEFAULT FALSE,
    next_session   BIGINT  NOT NULL DEFAULT 1,
    next_item      BIGINT  NOT NULL DEFAULT 1,
    next_document  BIGINT  NOT NULL DEFAULT 1,
    next_history   BIGINT  NOT NULL DEFAULT 1,
    next_response  BIGINT  NOT NULL DEFAULT 1
) WITH (fillfactor = 50);

-- Last change of each worker, named by a random text. A change whose answer was lost is sent again,
-- and not made twice.
CREATE TABLE cynosure.last_changes (
    source BIGINT  NOT NULL,
    shard  INTEGER NOT NULL,
    name   TEXT    COLLATE "C" NOT NULL,
    PRIMARY KEY (source, shard)
) WITH (fillfactor = 50);

-- The newest row of a source is its open session until it is completed.
CREATE TABLE cynosure.sessions (
    source       BIGINT   NOT NULL,
    no           BIGINT   NOT NULL,
    id           TEXT     COLLATE "C" NOT NULL,
    kind         SMALLINT NOT NULL,
    listing      SMALLINT NOT NULL,            -- the current or last one
    started      BIGINT   NOT NULL,
    completed    BIGINT,
    folder       TEXT     COLLATE "C",         -- in the archive, once it is created
    start_cursor TEXT,                         -- taken before the listing
    page_token   TEXT,                         -- of the next page
    is_listed    BOOLEAN  NOT NULL,
    PRIMARY KEY (source, no)
);

-- Counters of a session, one row for each worker that counts. Their sums count; one row may be
-- negative.
CREATE TABLE cynosure.tallies (
    source         BIGINT  NOT NULL,
    session        BIGINT  NOT NULL,
    shard          INTEGER NOT NULL,
    listed         BIGINT  NOT NULL DEFAULT 0,
    stored         BIGINT  NOT NULL DEFAULT 0,
    gone           BIGINT  NOT NULL DEFAULT 0,
    quarantined    BIGINT  NOT NULL DEFAULT 0,
    documents      BIGINT  NOT NULL DEFAULT 0,
    bytes          BIGINT  NOT NULL DEFAULT 0,
    versions       BIGINT  NOT NULL DEFAULT 0, -- other content under a known id
    copies         BIGINT  NOT NULL DEFAULT 0, -- bytes that were stored before
    copied_bytes   BIGINT  NOT NULL DEFAULT 0, -- of fetched copies
    expected_bytes BIGINT  NOT NULL DEFAULT 0, -- estimate; 0: none
    PRIMARY KEY (source, session, shard)
) WITH (fillfactor = 50);

CREATE TABLE cynosure.items (
    source      BIGINT   NOT NULL,
    no          BIGINT   NOT NULL,
    id          TEXT     COLLATE "C" NOT NULL,
    session     BIGINT   NOT NULL,             -- the last that it was assigned to
    status      SMALLINT NOT NULL,
    attempts    BIGINT   NOT NULL,
    next_at     BIGINT   NOT NULL,             -- 0: never tried, due at once
    cause       TEXT     COLLATE "C",          -- of the last failure
    message     TEXT,
    settled_at  BIGINT,
    failed_at   BIGINT,                        -- when it last failed
    quarantines BIGINT   NOT NULL DEFAULT 0,   -- in a row, without a success
    version     INTEGER  NOT NULL DEFAULT 1,   -- counts the changes of the row
    PRIMARY KEY (source, no),
    UNIQUE (source, id)
) PARTITION BY HASH (source);

-- Partial, so that the stored items, which are nearly all, are in none of them.
CREATE INDEX items_pending     ON cynosure.items (source, next_at, no)    WHERE status = 0;
CREATE INDEX items_gone        ON cynosure.items (source, settled_at, no) WHERE status = 2;
CREATE INDEX items_quarantined ON cynosure.items (source, next_at, no)    WHERE status = 3;

CREATE TABLE cynosure.documents (
    source  BIGINT   NOT NULL,
    no      BIGINT   NOT NULL,
    item    BIGINT   NOT NULL,
    id      TEXT     COLLATE "C" NOT NULL,
    blob    TEXT     COLLATE "C" NOT NULL,
    size    BIGINT,                            -- as the server announced it
    status  SMALLINT NOT NULL,
    session BIGINT,                            -- whose folder the file is in; that found it gone
    file    TEXT     COLLATE "C",              -- the path below the folder
    length  BIGINT,
    sha256  BYTEA,
    version INTEGER  NOT NULL DEFAULT 1,       -- counts the changes of the row
    PRIMARY KEY (source, no),
    UNIQUE (source, item, id)
) PARTITION BY HASH (source);

-- Finds bytes that are stored under another id, as when a server merges threads.
CREATE INDEX documents_blob ON cynosure.documents (source, blob, no) WHERE status = 1;

-- Partitions of items and documents. Each has free space, so that a change of a row stays on its
-- page.
DO $partitions$
BEGIN
    FOR v_number IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE cynosure.items_%1$s PARTITION OF cynosure.items
             FOR VALUES WITH (MODULUS 16, REMAINDER %1$s) WITH (fillfactor = 85)', v_number);
        EXECUTE format(
            'CREATE TABLE cynosure.documents_%1$s PARTITION OF cynosure.documents
             FOR VALUES WITH (MODULUS 16, REMAINDER %1$s) WITH (fillfactor = 85)', v_number);
    END LOOP;
END;
$partitions$;

-- Stored versions of documents whose row holds a later one. The numbers grow over all sources.
CREATE TABLE cynosure.superseded (
    source   BIGINT NOT NULL,
    no       BIGINT GENERATED ALWAYS AS IDENTITY,
    document BIGINT NOT NULL,
    blob     TEXT   COLLATE "C" NOT NULL,
    size     BIGINT,
    session  BIGINT NOT NULL,
    file     TEXT   COLLATE "C" NOT NULL,
    length   BIGINT NOT NULL,
    sha256   BYTEA  NOT NULL,
    at       BIGINT NOT NULL,                  -- when the later one was listed
    PRIMARY KEY (source, no)
);
CREATE INDEX superseded_document ON cynosure.superseded (source, document);

-- Folders in which a document was seen.
CREATE TABLE cynosure.folders (
    source BIGINT NOT NULL,
    no     BIGINT NOT NULL,
    name   TEXT   COLLATE "C" NOT NULL,
    PRIMARY KEY (source, no),
    UNIQUE (source, name)
);

-- Places of documents. The numbers are 0 if the server has none.
CREATE TABLE cynosure.locations (
    source       BIGINT NOT NULL,
    document     BIGINT NOT NULL,
    folder       BIGINT NOT NULL,
    uid_validity BIGINT NOT NULL,
    uid          BIGINT NOT NULL,
    PRIMARY KEY (source, document, folder, uid_validity, uid)
);
CREATE INDEX locations_uid ON cynosure.locations (source, folder, uid_validity, uid);

-- Names and values of documents, for people.
CREATE TABLE cynosure.labels (
    source   BIGINT NOT NULL,
    document BIGINT NOT NULL,
    name     TEXT   COLLATE "C" NOT NULL,
    value    TEXT   COLLATE "C" NOT NULL,
    PRIMARY KEY (source, document, name)
);

-- Documents that a listing contained, until they are stored or gone. Nothing else has them.
CREATE TABLE cynosure.listed_contents (
    source   BIGINT NOT NULL,
    document BIGINT NOT NULL,
    content  TEXT   COLLATE "C" NOT NULL,
    PRIMARY KEY (source, document)
);

-- Finds equal bytes if blob ids do not identify content; filled for such sources only.
CREATE TABLE cynosure.contents (
    source   BIGINT NOT NULL,
    sha256   BYTEA  NOT NULL,
    document BIGINT NOT NULL,
    PRIMARY KEY (source, sha256)
);

-- Failure counts of a pending item, beside its attempts. Only items that fail have a row.
CREATE TABLE cynosure.trials (
    source   BIGINT NOT NULL,
    item     BIGINT NOT NULL,
    requests BIGINT NOT NULL,                  -- failed in a row
    strikes  BIGINT NOT NULL,                  -- throttles of its own
    since    BIGINT,                           -- time of the first failure
    PRIMARY KEY (source, item)
);

-- Last response to each failed item.
CREATE TABLE cynosure.replies (
    source  BIGINT  NOT NULL,
    no      BIGINT  NOT NULL,                  -- the oldest has the lowest
    item    BIGINT  NOT NULL,                  -- 0: the listing or the session as a whole
    at      BIGINT  NOT NULL,
    status  INTEGER NOT NULL,
    headers TEXT    NOT NULL,                  -- a JSON list of pairs
    body    TEXT    NOT NULL,                  -- its beginning
    is_cut  BOOLEAN NOT NULL,
    PRIMARY KEY (source, no),
    UNIQUE (source, item)
);

-- Transitions of the state machine.
CREATE TABLE cynosure.history (
    source     BIGINT NOT NULL,
    no         BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    from_state TEXT   NOT NULL,
    to_state   TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    session    TEXT,
    PRIMARY KEY (source, no)
);

-- Without statistics of the source, a planner assumes that a source has a share of each table. With
-- them, it takes a source that was added since for an empty one, and reads all rows of it to find
-- a few.
ALTER TABLE cynosure.items           ALTER COLUMN source SET STATISTICS 0;
ALTER TABLE cynosure.documents       ALTER COLUMN source SET STATISTICS 0;
ALTER TABLE cynosure.superseded      ALTER COLUMN source SET STATISTICS 0;
ALTER TABLE cynosure.folders         ALTER COLUMN source SET STATISTICS 0;
ALTER TABLE cynosure.locations       ALTER COLUMN source SET STATISTICS 0;
ALTER TABLE cynosure.labels          ALTER COLUMN source SET STATISTICS 0;
ALTER TABLE cynosure.listed_contents ALTER COLUMN source SET STATISTICS 0;
ALTER TABLE cynosure.contents        ALTER COLUMN source SET STATISTICS 0;
