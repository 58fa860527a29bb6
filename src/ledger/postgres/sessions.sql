-- Owners and sessions of a source. Each function that changes a ledger first checks that the caller
-- owns the source.
--
-- Error codes: CY001 another worker owns the source; CY002 a row was changed meanwhile; CY003 the
-- call does not fit the content of the ledger.

-- Adds a source if there is none of this name, and makes the caller its owner.
CREATE OR REPLACE FUNCTION cynosure.open_source(p_name TEXT)
RETURNS TABLE (no BIGINT, epoch BIGINT)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        UPDATE cynosure.sources s SET epoch = s.epoch + 1 WHERE s.name = p_name
        RETURNING s.no, s.epoch;
    IF FOUND THEN
        RETURN;
    END IF;
    -- Not the only statement, because it uses up a number even if the source is there.
    RETURN QUERY
        INSERT INTO cynosure.sources AS s (name, epoch) VALUES (p_name, 1)
        ON CONFLICT (name) DO UPDATE SET epoch = s.epoch + 1
        RETURNING s.no, s.epoch;
END;
$$;

-- Fails unless the caller owns the source. Locks its row, so that changes of one source follow one
-- another.
CREATE OR REPLACE FUNCTION cynosure.fence(p_source BIGINT, p_epoch BIGINT) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE cynosure.sources SET revision = revision + 1 WHERE no = p_source AND epoch = p_epoch;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'CY001', MESSAGE = 'another worker owns the source';
    END IF;
END;
$$;

-- Records that a worker makes a change. Returns false if it is its last one, which was made already.
CREATE OR REPLACE FUNCTION cynosure.is_new_change(
    p_source BIGINT, p_shard INTEGER, p_name TEXT
) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO cynosure.last_changes AS c (source, shard, name)
        VALUES (p_source, p_shard, p_name)
        ON CONFLICT (source, shard) DO UPDATE SET name = excluded.name
            WHERE c.name <> excluded.name;
    RETURN FOUND;
END;
$$;

-- Returns the number of the open session. Fails if none is open.
CREATE OR REPLACE FUNCTION cynosure.open_session(p_source BIGINT) RETURNS BIGINT
LANGUAGE plpgsql AS $$
DECLARE
    v_session cynosure.sessions;
BEGIN
    SELECT * INTO v_session FROM cynosure.sessions
        WHERE source = p_source ORDER BY no DESC LIMIT 1;
    IF v_session.no IS NULL OR v_session.completed IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'CY003', MESSAGE = 'no session is open';
    END IF;
    RETURN v_session.no;
END;
$$;

-- Adds a session, and returns its number.
CREATE OR REPLACE FUNCTION cynosure.add_session(
    p_source BIGINT, p_id TEXT, p_kind INTEGER, p_listing INTEGER, p_started BIGINT,
    p_completed BIGINT, p_folder TEXT, p_start_cursor TEXT, p_is_listed BOOLEAN
) RETURNS BIGINT
LANGUAGE plpgsql AS $$
DECLARE
    v_no BIGINT;
BEGIN
    UPDATE cynosure.sources SET next_session = next_session + 1 WHERE no = p_source
        RETURNING next_session - 1 INTO v_no;
    INSERT INTO cynosure.sessions
        (source, no, id, kind, listing, started, completed, folder, start_cursor, is_listed)
        VALUES (p_source, v_no, p_id, p_kind, p_listing, p_started, p_completed, p_folder,
                p_start_cursor, p_is_listed);
    RETURN v_no;
END;
$$;

-- Adds to the counters of items of a session.
CREATE OR REPLACE FUNCTION cynosure.add_to_tally(
    p_source BIGINT, p_session BIGINT, p_shard INTEGER, p_listed BIGINT, p_stored BIGINT,
    p_gone BIGINT, p_quarantined BIGINT
) RETURNS VOID
LANGUAGE sql AS $$
    INSERT INTO cynosure.tallies AS t
        (source, session, shard, listed, stored, gone, quarantined)
        VALUES (p_source, p_session, p_shard, p_listed, p_stored, p_gone, p_quarantined)
    ON CONFLICT (source, session, shard) DO UPDATE SET
        listed = t.listed + excluded.listed, stored = t.stored + excluded.stored,
        gone = t.gone + excluded.gone, quarantined = t.quarantined + excluded.quarantined
$$;

-- Assigns the quarantined items that are due for a recheck to a session.
CREATE OR REPLACE FUNCTION cynosure.assign_due_items(
    p_source BIGINT, p_shard INTEGER, p_session BIGINT, p_now BIGINT
) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_due BIGINT[];
    v_assigned BIGINT;
    v_already_counted BIGINT;
BEGIN
    -- Items of this session are already counted as listed and as quarantined.
    SELECT array_agg(no), count(*), count(*) FILTER (WHERE session = p_session)
        INTO v_due, v_assigned, v_already_counted
        FROM cynosure.items WHERE source = p_source AND status = 3 AND next_at <= p_now;
    IF v_assigned = 0 THEN
        RETURN;
    END IF;
    UPDATE cynosure.documents d SET status = 0, version = version + 1
        FROM unnest(v_due) AS x(item)
        WHERE d.source = p_source AND d.status = 3 AND d.item = x.item;
    DELETE FROM cynosure.trials t USING unnest(v_due) AS x(item)
        WHERE t.source = p_source AND t.item = x.item;
    UPDATE cynosure.items
        SET status = 0, session = p_session, attempts = 0, next_at = 0, settled_at = NULL,
            version = version + 1
        WHERE source = p_source AND status = 3 AND next_at <= p_now;
    PERFORM cynosure.add_to_tally(
        p_source, p_session, p_shard, v_assigned - v_already_counted, 0, 0, -v_already_counted);
END;
$$;

-- Begins a session. Beginning the one that is open changes nothing.
CREATE OR REPLACE FUNCTION cynosure.begin_session(
    p_source BIGINT, p_epoch BIGINT, p_shard INTEGER, p_id TEXT, p_kind INTEGER,
    p_listing INTEGER, p_started BIGINT, p_start_cursor TEXT
) RETURNS VOID
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_newest cynosure.sessions;
    v_session BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    SELECT * INTO v_newest FROM cynosure.sessions
        WHERE source = p_source ORDER BY no DESC LIMIT 1;
    IF v_newest.no IS NOT NULL AND v_newest.completed IS NULL THEN
        IF v_newest.id = p_id THEN
            RETURN;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'CY003', MESSAGE = v_newest.id || ' is still open';
    END IF;
    v_session := cynosure.add_session(
        p_source, p_id, p_kind, p_listing, p_started, NULL, NULL, p_start_cursor, p_kind = 2);
    PERFORM cynosure.assign_due_items(p_source, p_shard, v_session, p_started);
END;
$$;

-- Starts a full listing in the open session.
CREATE OR REPLACE FUNCTION cynosure.restart_listing(
    p_source BIGINT, p_epoch BIGINT, p_start_cursor TEXT
) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_session BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    v_session := cynosure.open_session(p_source);
    UPDATE cynosure.sessions
        SET listing = 0, page_token = NULL, is_listed = FALSE, start_cursor = p_start_cursor
        WHERE source = p_source AND no = v_session;
END;
$$;

-- Resets the listing of the open session to its first page.
CREATE OR REPLACE FUNCTION cynosure.reset_page_token(p_source BIGINT, p_epoch BIGINT) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_session BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    v_session := cynosure.open_session(p_source);
    UPDATE cynosure.sessions SET page_token = NULL
        WHERE source = p_source AND no = v_session;
END;
$$;

-- Starts a listing of the changes in the open session, and assigns the items that are due to it.
CREATE OR REPLACE FUNCTION cynosure.start_changes_listing(
    p_source BIGINT, p_epoch BIGINT, p_shard INTEGER, p_now BIGINT
) RETURNS VOID
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_session BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    v_session := cynosure.open_session(p_source);
    -- The start cursor of an earlier listing is older than the cursor by now.
    UPDATE cynosure.sessions
        SET listing = 1, page_token = NULL, is_listed = FALSE, start_cursor = NULL
        WHERE source = p_source AND no = v_session;
    PERFORM cynosure.assign_due_items(p_source, p_shard, v_session, p_now);
END;
$$;

-- Records the name of the open session's folder.
CREATE OR REPLACE FUNCTION cynosure.set_session_folder(
    p_source BIGINT, p_epoch BIGINT, p_folder TEXT
) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_session BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    v_session := cynosure.open_session(p_source);
    UPDATE cynosure.sessions SET folder = p_folder
        WHERE source = p_source AND no = v_session;
END;
$$;

-- Completes the open session. Completing it once more changes nothing.
CREATE OR REPLACE FUNCTION cynosure.complete_session(
    p_source BIGINT, p_epoch BIGINT, p_id TEXT, p_now BIGINT
) RETURNS VOID
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_session cynosure.sessions;
    v_pending BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    SELECT * INTO v_session FROM cynosure.sessions
        WHERE source = p_source ORDER BY no DESC LIMIT 1;
    IF v_session.no IS NULL OR v_session.id <> p_id THEN
        RAISE EXCEPTION USING ERRCODE = 'CY003', MESSAGE = p_id || ' is not the newest session';
    END IF;
    IF v_session.completed IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT greatest(coalesce(sum(listed - stored - gone - quarantined), 0), 0) INTO v_pending
        FROM cynosure.tallies WHERE source = p_source AND session = v_session.no;
    IF NOT v_session.is_listed OR v_pending > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'CY003', MESSAGE =
            v_pending || ' items are pending, or the listing is not complete';
    END IF;
    UPDATE cynosure.sessions SET completed = p_now
        WHERE source = p_source AND no = v_session.no;
    DELETE FROM cynosure.replies r USING cynosure.items i
        WHERE r.source = p_source AND i.source = p_source AND i.no = r.item AND i.status = 1;
    DELETE FROM cynosure.trials WHERE source = p_source;
END;
$$;
