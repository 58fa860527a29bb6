-- Writes the changes that were decided on a copy of the rows. Nothing is written if one of the rows
-- was changed meanwhile (CY002).
--
-- Rows are replaced by ON CONFLICT and deleted by their address, because a join with a table may
-- read all rows of the source, of which a planner expects too few.

CREATE OR REPLACE FUNCTION cynosure.raise_conflict() RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'CY002', MESSAGE = 'a row was changed meanwhile';
END;
$$;

-- Returns a JSON list of numbers as an array.
CREATE OR REPLACE FUNCTION cynosure.to_numbers(p_list JSONB) RETURNS BIGINT[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY(SELECT x.number::BIGINT FROM jsonb_array_elements_text(p_list) AS x(number))
$$;

-- Writes the row of the source. Numbers of rows never go back.
CREATE OR REPLACE FUNCTION cynosure.apply_source(p_source BIGINT, p_row JSONB) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE cynosure.sources s SET
        cursor = x.cursor, reconciled_at = x.reconciled_at, lists_contents = x.lists_contents,
        next_item = greatest(s.next_item, x.next_item),
        next_document = greatest(s.next_document, x.next_document)
    FROM jsonb_to_record(p_row) AS x(
        cursor TEXT, reconciled_at BIGINT, lists_contents BOOLEAN, next_item BIGINT,
        next_document BIGINT, revision BIGINT)
    -- The fence of this change has raised the revision by 1.
    WHERE s.no = p_source AND s.revision = x.revision + 1;
    IF NOT FOUND THEN
        PERFORM cynosure.raise_conflict();
    END IF;
END;
$$;

-- Adds to the counters of a session. The sum of the expected bytes stays within 8 PiB, because
-- absurd sizes of a server must not exceed the range of the column.
CREATE OR REPLACE FUNCTION cynosure.apply_counters(
    p_source BIGINT, p_session BIGINT, p_shard INTEGER, p_counters JSONB
) RETURNS VOID
LANGUAGE sql AS $$
    INSERT INTO cynosure.tallies AS t
        (source, session, shard, listed, stored, gone, quarantined, documents, bytes, versions,
         copies, copied_bytes, expected_bytes)
    SELECT p_source, p_session, p_shard, x.listed, x.stored, x.gone, x.quarantined, x.documents,
            x.bytes, x.versions, x.copies, x.copied_bytes,
            least(x.expected_bytes, (1::BIGINT << 53) - (
                SELECT coalesce(sum(o.expected_bytes), 0)::BIGINT FROM cynosure.tallies o
                WHERE o.source = p_source AND o.session = p_session))
        FROM jsonb_to_record(p_counters) AS x(
            listed BIGINT, stored BIGINT, gone BIGINT, quarantined BIGINT, documents BIGINT,
            bytes BIGINT, versions BIGINT, copies BIGINT, copied_bytes BIGINT,
            expected_bytes BIGINT)
    ON CONFLICT (source, session, shard) DO UPDATE SET
        listed = t.listed + excluded.listed, stored = t.stored + excluded.stored,
        gone = t.gone + excluded.gone, quarantined = t.quarantined + excluded.quarantined,
        documents = t.documents + excluded.documents, bytes = t.bytes + excluded.bytes,
        versions = t.versions + excluded.versions, copies = t.copies + excluded.copies,
        copied_bytes = t.copied_bytes + excluded.copied_bytes,
        expected_bytes = t.expected_bytes + excluded.expected_bytes
$$;

-- Writes the progress and the counters of a session, which must still be open.
CREATE OR REPLACE FUNCTION cynosure.apply_session(
    p_source BIGINT, p_session BIGINT, p_shard INTEGER, p_progress JSONB, p_counters JSONB
) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_has_progress BOOLEAN := jsonb_typeof(p_progress) = 'object';
    v_has_counters BOOLEAN := EXISTS (
        SELECT 1 FROM jsonb_each_text(p_counters) AS x(name, value) WHERE x.value <> '0');
BEGIN
    IF NOT v_has_progress AND NOT v_has_counters THEN
        RETURN;
    END IF;
    PERFORM 1 FROM cynosure.sessions
        WHERE source = p_source AND no = p_session AND completed IS NULL;
    IF NOT FOUND THEN
        PERFORM cynosure.raise_conflict();
    END IF;
    IF v_has_progress THEN
        UPDATE cynosure.sessions
            SET page_token = p_progress ->> 'page_token',
                is_listed = (p_progress ->> 'is_listed')::BOOLEAN
            WHERE source = p_source AND no = p_session;
    END IF;
    IF v_has_counters THEN
        PERFORM cynosure.apply_counters(p_source, p_session, p_shard, p_counters);
    END IF;
END;
$$;

-- Adds and replaces items. New ones have the version 0.
CREATE OR REPLACE FUNCTION cynosure.apply_items(p_source BIGINT, p_items JSONB) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_inserted BIGINT;
    v_replaced BIGINT;
BEGIN
    IF jsonb_array_length(p_items) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO cynosure.items
            (source, no, id, session, status, attempts, next_at, cause, message, settled_at,
             failed_at, quarantines, version)
        SELECT p_source, x.no, x.id, x.session, x.status, x.attempts, x.next_at, x.cause,
                x.message, x.settled_at, x.failed_at, x.quarantines, 1
            FROM jsonb_populate_recordset(NULL::cynosure.items, p_items) x WHERE x.version = 0
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_inserted = ROW_COUNT;
    INSERT INTO cynosure.items AS i
            (source, no, id, session, status, attempts, next_at, cause, message, settled_at,
             failed_at, quarantines, version)
        SELECT p_source, x.no, x.id, x.session, x.status, x.attempts, x.next_at, x.cause,
                x.message, x.settled_at, x.failed_at, x.quarantines, x.version + 1
            FROM jsonb_populate_recordset(NULL::cynosure.items, p_items) x WHERE x.version > 0
        ON CONFLICT (source, no) DO UPDATE SET
                session = excluded.session, status = excluded.status,
                attempts = excluded.attempts, next_at = excluded.next_at,
                cause = excluded.cause, message = excluded.message,
                settled_at = excluded.settled_at, failed_at = excluded.failed_at,
                quarantines = excluded.quarantines, version = excluded.version
            WHERE i.version = excluded.version - 1;
    GET DIAGNOSTICS v_replaced = ROW_COUNT;
    IF v_inserted + v_replaced <> jsonb_array_length(p_items) THEN
        PERFORM cynosure.raise_conflict();
    END IF;
END;
$$;

-- Adds and replaces documents. New ones have the version 0.
CREATE OR REPLACE FUNCTION cynosure.apply_documents(p_source BIGINT, p_documents JSONB)
RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_inserted BIGINT;
    v_replaced BIGINT;
BEGIN
    IF jsonb_array_length(p_documents) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO cynosure.documents
            (source, no, item, id, blob, size, status, session, file, length, sha256, version)
        SELECT p_source, x.no, x.item, x.id, x.blob, x.size, x.status, x.session, x.file,
                x.length, decode(x.sha256, 'hex'), 1
            FROM jsonb_to_recordset(p_documents) AS x(
                no BIGINT, item BIGINT, id TEXT, blob TEXT, size BIGINT, status SMALLINT,
                session BIGINT, file TEXT, length BIGINT, sha256 TEXT, version INTEGER)
            WHERE x.version = 0
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_inserted = ROW_COUNT;
    INSERT INTO cynosure.documents AS d
            (source, no, item, id, blob, size, status, session, file, length, sha256, version)
        SELECT p_source, x.no, x.item, x.id, x.blob, x.size, x.status, x.session, x.file,
                x.length, decode(x.sha256, 'hex'), x.version + 1
            FROM jsonb_to_recordset(p_documents) AS x(
                no BIGINT, item BIGINT, id TEXT, blob TEXT, size BIGINT, status SMALLINT,
                session BIGINT, file TEXT, length BIGINT, sha256 TEXT, version INTEGER)
            WHERE x.version > 0
        ON CONFLICT (source, no) DO UPDATE SET
                blob = excluded.blob, size = excluded.size, status = excluded.status,
                session = excluded.session, file = excluded.file, length = excluded.length,
                sha256 = excluded.sha256, version = excluded.version
            WHERE d.version = excluded.version - 1;
    GET DIAGNOSTICS v_replaced = ROW_COUNT;
    IF v_inserted + v_replaced <> jsonb_array_length(p_documents) THEN
        PERFORM cynosure.raise_conflict();
    END IF;
END;
$$;

-- Adds earlier versions of documents, in their order. The version of a document's row does not
-- protect one that is added without a change of that row, so that it must not be there yet.
CREATE OR REPLACE FUNCTION cynosure.apply_superseded(
    p_source BIGINT, p_superseded JSONB, p_documents JSONB
) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    IF jsonb_array_length(p_superseded) = 0 THEN
        RETURN;
    END IF;
    PERFORM 1
        FROM jsonb_to_recordset(p_superseded) AS x(document BIGINT, session BIGINT, file TEXT)
            CROSS JOIN LATERAL (
                SELECT 1 FROM cynosure.superseded
                WHERE source = p_source AND document = x.document AND session = x.session
                    AND file = x.file LIMIT 1) v
        WHERE NOT EXISTS (
            SELECT 1 FROM jsonb_to_recordset(p_documents) AS d(no BIGINT)
            WHERE d.no = x.document);
    IF FOUND THEN
        PERFORM cynosure.raise_conflict();
    END IF;
    INSERT INTO cynosure.superseded
            (source, document, blob, size, session, file, length, sha256, at)
        SELECT p_source, x.document, x.blob, x.size, x.session, x.file, x.length,
                decode(x.sha256, 'hex'), x.at
            FROM ROWS FROM (jsonb_to_recordset(p_superseded) AS (
                document BIGINT, blob TEXT, size BIGINT, session BIGINT, file TEXT,
                length BIGINT, sha256 TEXT, at BIGINT)) WITH ORDINALITY AS x(
                document, blob, size, session, file, length, sha256, at, place)
            ORDER BY x.place;
END;
$$;

-- Deletes locations: those that another numbering of their folder voids, and those of a list.
CREATE OR REPLACE FUNCTION cynosure.delete_locations(
    p_source BIGINT, p_renumbered JSONB, p_deleted JSONB
) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    IF jsonb_array_length(p_renumbered) > 0 THEN
        DELETE FROM cynosure.locations WHERE ctid = ANY (ARRAY(
            SELECT l.ctid
                FROM jsonb_to_recordset(p_renumbered) AS x(
                        document BIGINT, folder TEXT, uid_validity BIGINT)
                    JOIN cynosure.folders f ON f.source = p_source AND f.name = x.folder
                    CROSS JOIN LATERAL (
                        SELECT k.ctid FROM cynosure.locations k
                        WHERE k.source = p_source AND k.document = x.document
                            AND k.folder = f.no AND k.uid_validity <> x.uid_validity
                            AND k.uid <> 0 OFFSET 0) l));
    END IF;
    IF jsonb_array_length(p_deleted) > 0 THEN
        DELETE FROM cynosure.locations WHERE ctid = ANY (ARRAY(
            SELECT l.ctid
                FROM jsonb_to_recordset(p_deleted) AS x(
                        document BIGINT, folder TEXT, uid_validity BIGINT, uid BIGINT)
                    JOIN cynosure.folders f ON f.source = p_source AND f.name = x.folder
                    CROSS JOIN LATERAL (
                        SELECT k.ctid FROM cynosure.locations k
                        WHERE k.source = p_source AND k.document = x.document
                            AND k.folder = f.no AND k.uid_validity = x.uid_validity
                            AND k.uid = x.uid LIMIT 1) l));
    END IF;
END;
$$;

-- Adds locations, and the folders that are not known, in their order.
CREATE OR REPLACE FUNCTION cynosure.add_locations(p_source BIGINT, p_locations JSONB)
RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    IF jsonb_array_length(p_locations) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO cynosure.folders (source, no, name)
        SELECT p_source, row_number() OVER (ORDER BY n.place) + (
                    SELECT coalesce(max(o.no), 0) FROM cynosure.folders o
                    WHERE o.source = p_source), n.name
            FROM (SELECT x.folder AS name, min(x.place) AS place
                  FROM ROWS FROM (jsonb_to_recordset(p_locations) AS (folder TEXT))
                      WITH ORDINALITY AS x(folder, place)
                  GROUP BY x.folder) n
            WHERE NOT EXISTS (
                SELECT 1 FROM cynosure.folders f WHERE f.source = p_source AND f.name = n.name);
    INSERT INTO cynosure.locations (source, document, folder, uid_validity, uid)
        SELECT p_source, x.document, f.no, x.uid_validity, x.uid
            FROM jsonb_to_recordset(p_locations) AS x(
                    document BIGINT, folder TEXT, uid_validity BIGINT, uid BIGINT)
                JOIN cynosure.folders f ON f.source = p_source AND f.name = x.folder
        ON CONFLICT DO NOTHING;
END;
$$;

-- Deletes the locations in ranges of UIDs, except the last one of a document: each whose document
-- has another numbered location before the range, or after it in the order of the index.
CREATE OR REPLACE FUNCTION cynosure.delete_vanished(p_source BIGINT, p_vanished JSONB)
RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_range RECORD;
BEGIN
    FOR v_range IN
        SELECT f.no AS folder, x.uid_validity, x.first, x.last
            FROM ROWS FROM (jsonb_to_recordset(p_vanished) AS (
                    folder TEXT, uid_validity BIGINT, first BIGINT, last BIGINT))
                    WITH ORDINALITY AS x(folder, uid_validity, first, last, place)
                JOIN cynosure.folders f ON f.source = p_source AND f.name = x.folder
            ORDER BY x.place
    LOOP
        DELETE FROM cynosure.locations l
            WHERE l.source = p_source AND l.folder = v_range.folder
                AND l.uid_validity = v_range.uid_validity
                AND l.uid BETWEEN v_range.first AND v_range.last
                AND (EXISTS (
                        SELECT 1 FROM cynosure.locations o
                        WHERE o.source = p_source AND o.document = l.document AND o.uid <> 0
                            AND (o.folder, o.uid_validity, o.uid)
                                < (v_range.folder, v_range.uid_validity, v_range.first))
                    OR EXISTS (
                        SELECT 1 FROM cynosure.locations o
                        WHERE o.source = p_source AND o.document = l.document AND o.uid <> 0
                            AND (o.folder, o.uid_validity, o.uid)
                                > (v_range.folder, v_range.uid_validity, l.uid)));
    END LOOP;
END;
$$;

-- Writes labels, the last one of a name.
CREATE OR REPLACE FUNCTION cynosure.store_labels(p_source BIGINT, p_labels JSONB) RETURNS VOID
LANGUAGE sql AS $$
    INSERT INTO cynosure.labels AS l (source, document, name, value)
        SELECT DISTINCT ON (x.document, x.name) p_source, x.document, x.name, x.value
            FROM ROWS FROM (jsonb_to_recordset(p_labels) AS (
                document BIGINT, name TEXT, value TEXT))
                WITH ORDINALITY AS x(document, name, value, place)
            ORDER BY x.document, x.name, x.place DESC
    ON CONFLICT (source, document, name) DO UPDATE SET value = excluded.value
        WHERE l.value <> excluded.value
$$;

-- Writes listed contents, the last one of a document.
CREATE OR REPLACE FUNCTION cynosure.store_contents(p_source BIGINT, p_contents JSONB)
RETURNS VOID
LANGUAGE sql AS $$
    INSERT INTO cynosure.listed_contents AS l (source, document, content)
        SELECT DISTINCT ON (x.document) p_source, x.document, x.content
            FROM ROWS FROM (jsonb_to_recordset(p_contents) AS (document BIGINT, content TEXT))
                WITH ORDINALITY AS x(document, content, place)
            ORDER BY x.document, x.place DESC
    ON CONFLICT (source, document) DO UPDATE SET content = excluded.content
        WHERE l.content <> excluded.content
$$;

-- Writes which document has a hash, the last one of each hash.
CREATE OR REPLACE FUNCTION cynosure.index_contents(p_source BIGINT, p_indexed JSONB) RETURNS VOID
LANGUAGE sql AS $$
    INSERT INTO cynosure.contents AS c (source, sha256, document)
        SELECT DISTINCT ON (x.sha256) p_source, decode(x.sha256, 'hex'), x.document
            FROM ROWS FROM (jsonb_to_recordset(p_indexed) AS (sha256 TEXT, document BIGINT))
                WITH ORDINALITY AS x(sha256, document, place)
            ORDER BY x.sha256, x.place DESC
    ON CONFLICT (source, sha256) DO UPDATE SET document = excluded.document
        WHERE c.document <> excluded.document
$$;

-- Writes failure counts, the last ones of an item.
CREATE OR REPLACE FUNCTION cynosure.store_trials(p_source BIGINT, p_trials JSONB) RETURNS VOID
LANGUAGE sql AS $$
    INSERT INTO cynosure.trials (source, item, requests, strikes, since)
        SELECT DISTINCT ON (x.item) p_source, x.item, x.requests, x.strikes, x.since
            FROM ROWS FROM (jsonb_to_recordset(p_trials) AS (
                item BIGINT, requests BIGINT, strikes BIGINT, since BIGINT))
                WITH ORDINALITY AS x(item, requests, strikes, since, place)
            ORDER BY x.item, x.place DESC
    ON CONFLICT (source, item) DO UPDATE SET
        requests = excluded.requests, strikes = excluded.strikes, since = excluded.since
$$;

-- Writes responses in place of the previous ones of their items. A new one has a new number, so
-- that the oldest has the lowest. The newest 10,000 are kept.
CREATE OR REPLACE FUNCTION cynosure.store_responses(p_source BIGINT, p_responses JSONB)
RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_next BIGINT;
BEGIN
    IF jsonb_array_length(p_responses) = 0 THEN
        RETURN;
    END IF;
    UPDATE cynosure.sources SET next_response = next_response + jsonb_array_length(p_responses)
        WHERE no = p_source RETURNING next_response INTO v_next;
    INSERT INTO cynosure.replies (source, no, item, at, status, headers, body, is_cut)
        SELECT DISTINCT ON (x.item)
                p_source, v_next - jsonb_array_length(p_responses) + x.place - 1, x.item, x.at,
                x.status, x.headers, x.body, x.is_cut
            FROM ROWS FROM (jsonb_to_recordset(p_responses) AS (
                item BIGINT, at BIGINT, status INTEGER, headers TEXT, body TEXT,
                is_cut BOOLEAN)) WITH ORDINALITY AS x(
                item, at, status, headers, body, is_cut, place)
            ORDER BY x.item, x.place DESC
    ON CONFLICT (source, item) DO UPDATE SET
        no = excluded.no, at = excluded.at, status = excluded.status,
        headers = excluded.headers, body = excluded.body, is_cut = excluded.is_cut;
    DELETE FROM cynosure.replies WHERE source = p_source AND no <= v_next - 1 - 10000;
END;
$$;

-- Writes the changes that a page, a batch or a folder makes.
CREATE OR REPLACE FUNCTION cynosure.apply(
    p_source BIGINT, p_epoch BIGINT, p_shard INTEGER, p_name TEXT, p_changes JSONB
) RETURNS VOID
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    IF NOT cynosure.is_new_change(p_source, p_shard, p_name) THEN
        RETURN;
    END IF;
    IF jsonb_typeof(p_changes -> 'source') = 'object' THEN
        PERFORM cynosure.apply_source(p_source, p_changes -> 'source');
    END IF;
    IF jsonb_typeof(p_changes -> 'session') = 'number' THEN
        PERFORM cynosure.apply_session(
            p_source, (p_changes ->> 'session')::BIGINT, p_shard, p_changes -> 'progress',
            p_changes -> 'counters');
    END IF;
    IF jsonb_array_length(p_changes -> 'superseded_deleted') > 0 THEN
        DELETE FROM cynosure.superseded WHERE source = p_source
            AND no = ANY (cynosure.to_numbers(p_changes -> 'superseded_deleted'));
    END IF;
    PERFORM cynosure.apply_items(p_source, p_changes -> 'items');
    PERFORM cynosure.apply_documents(p_source, p_changes -> 'documents');
    PERFORM cynosure.apply_superseded(
        p_source, p_changes -> 'superseded', p_changes -> 'documents');
    PERFORM cynosure.delete_locations(
        p_source, p_changes -> 'renumbered', p_changes -> 'locations_deleted');
    PERFORM cynosure.add_locations(p_source, p_changes -> 'locations');
    PERFORM cynosure.delete_vanished(p_source, p_changes -> 'vanished');
    PERFORM cynosure.apply_facts(p_source, p_changes);
END;
$$;

-- Writes what is kept beside items and documents.
CREATE OR REPLACE FUNCTION cynosure.apply_facts(p_source BIGINT, p_changes JSONB) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    IF jsonb_array_length(p_changes -> 'labels') > 0 THEN
        PERFORM cynosure.store_labels(p_source, p_changes -> 'labels');
    END IF;
    IF jsonb_array_length(p_changes -> 'contents') > 0 THEN
        PERFORM cynosure.store_contents(p_source, p_changes -> 'contents');
    END IF;
    IF jsonb_array_length(p_changes -> 'contents_deleted') > 0 THEN
        DELETE FROM cynosure.listed_contents WHERE ctid = ANY (ARRAY(
            SELECT l.ctid
                FROM unnest(cynosure.to_numbers(p_changes -> 'contents_deleted')) AS x(no)
                    CROSS JOIN LATERAL (
                        SELECT k.ctid FROM cynosure.listed_contents k
                        WHERE k.source = p_source AND k.document = x.no LIMIT 1) l));
    END IF;
    IF jsonb_array_length(p_changes -> 'indexed') > 0 THEN
        PERFORM cynosure.index_contents(p_source, p_changes -> 'indexed');
    END IF;
    IF jsonb_array_length(p_changes -> 'trials') > 0 THEN
        PERFORM cynosure.store_trials(p_source, p_changes -> 'trials');
    END IF;
    IF jsonb_array_length(p_changes -> 'trials_deleted') > 0 THEN
        DELETE FROM cynosure.trials WHERE source = p_source
            AND item = ANY (cynosure.to_numbers(p_changes -> 'trials_deleted'));
    END IF;
    PERFORM cynosure.store_responses(p_source, p_changes -> 'responses');
END;
$$;
