-- Other changes of a ledger that depend on no loaded rows: adopted folders, transitions, responses,
-- deadlines, and items that are tried again.

-- Adds a completed session for a folder, and returns its number. Adding the newest one once more
-- changes nothing.
CREATE OR REPLACE FUNCTION cynosure.begin_adopted_session(
    p_source BIGINT, p_epoch BIGINT, p_id TEXT, p_started BIGINT, p_folder TEXT
) RETURNS BIGINT
LANGUAGE plpgsql AS $$
DECLARE
    v_newest cynosure.sessions;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    SELECT * INTO v_newest FROM cynosure.sessions
        WHERE source = p_source ORDER BY no DESC LIMIT 1;
    IF v_newest.id = p_id AND v_newest.folder = p_folder AND v_newest.completed = p_started THEN
        RETURN v_newest.no;
    END IF;
    RETURN cynosure.add_session(
        p_source, p_id, 0, 0, p_started, p_started, p_folder, NULL, TRUE);
END;
$$;

-- Recomputes the counts of all sessions from what was adopted.
CREATE OR REPLACE FUNCTION cynosure.rebuild_session_counts(p_source BIGINT, p_epoch BIGINT)
RETURNS VOID
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    UPDATE cynosure.tallies SET listed = 0, stored = 0, documents = 0, bytes = 0
        WHERE source = p_source;
    INSERT INTO cynosure.tallies AS t (source, session, shard, listed, stored, documents, bytes)
        SELECT p_source, s.no, 0, coalesce(i.number, 0), coalesce(i.number, 0),
                coalesce(d.number, 0), coalesce(d.bytes, 0)
            FROM cynosure.sessions s
                LEFT JOIN (
                    SELECT session, count(*) AS number FROM cynosure.items
                    WHERE source = p_source GROUP BY session) i ON i.session = s.no
                LEFT JOIN (
                    SELECT session, count(*) AS number, sum(length)::BIGINT AS bytes FROM (
                        SELECT session, length FROM cynosure.documents WHERE source = p_source
                        UNION ALL
                        SELECT session, length FROM cynosure.superseded
                        WHERE source = p_source) f
                    GROUP BY session) d ON d.session = s.no
            WHERE s.source = p_source
    ON CONFLICT (source, session, shard) DO UPDATE SET
        listed = excluded.listed, stored = excluded.stored,
        documents = excluded.documents, bytes = excluded.bytes;
END;
$$;

-- Records documents that were listed and not found as items that are gone.
CREATE OR REPLACE FUNCTION cynosure.record_missing(
    p_source BIGINT, p_epoch BIGINT, p_shard INTEGER, p_ids TEXT[], p_cause TEXT,
    p_message TEXT, p_now BIGINT
) RETURNS VOID
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_session BIGINT;
    v_added BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    v_session := cynosure.open_session(p_source);
    INSERT INTO cynosure.items
        (source, no, id, session, status, attempts, next_at, cause, message, settled_at)
        SELECT p_source, s.next_item + row_number() OVER (ORDER BY m.place) - 1, m.id, v_session,
                2, 0, 0, p_cause, p_message, p_now
            FROM cynosure.sources s CROSS JOIN (
                SELECT x.id, min(x.place) AS place
                FROM unnest(p_ids) WITH ORDINALITY AS x(id, place) GROUP BY x.id) m
            WHERE s.no = p_source AND (
                SELECT count(*) FROM cynosure.items i
                WHERE i.source = p_source AND i.id = m.id) = 0;
    GET DIAGNOSTICS v_added = ROW_COUNT;
    IF v_added > 0 THEN
        UPDATE cynosure.sources SET next_item = next_item + v_added WHERE no = p_source;
        PERFORM cynosure.add_to_tally(p_source, v_session, p_shard, v_added, 0, v_added, 0);
    END IF;
END;
$$;

-- Records a transition, and the execution state after it. The same one twice in a row is recorded
-- once. The newest 10,000 are kept.
CREATE OR REPLACE FUNCTION cynosure.record_transition(
    p_source BIGINT, p_epoch BIGINT, p_at BIGINT, p_from TEXT, p_to TEXT, p_reason TEXT,
    p_session TEXT, p_snapshot TEXT
) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    v_newest cynosure.history;
    v_no BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    SELECT * INTO v_newest FROM cynosure.history
        WHERE source = p_source ORDER BY no DESC LIMIT 1;
    IF (v_newest.at, v_newest.from_state, v_newest.to_state, v_newest.reason, v_newest.session)
        IS DISTINCT FROM (p_at, p_from, p_to, p_reason, p_session)
    THEN
        UPDATE cynosure.sources SET next_history = next_history + 1 WHERE no = p_source
            RETURNING next_history - 1 INTO v_no;
        INSERT INTO cynosure.history (source, no, at, from_state, to_state, reason, session)
            VALUES (p_source, v_no, p_at, p_from, p_to, p_reason, p_session);
        DELETE FROM cynosure.history WHERE source = p_source AND no <= v_no - 10000;
    END IF;
    UPDATE cynosure.sources SET snapshot = p_snapshot WHERE no = p_source;
END;
$$;

-- Stores the response to a failed request in place of the previous one of its item.
CREATE OR REPLACE FUNCTION cynosure.record_response(
    p_source BIGINT, p_epoch BIGINT, p_response JSONB
) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    PERFORM cynosure.store_responses(p_source, jsonb_build_array(p_response));
END;
$$;

-- Sets the ledger's id, unless it has one.
CREATE OR REPLACE FUNCTION cynosure.init_id(p_source BIGINT, p_epoch BIGINT, p_id TEXT)
RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    UPDATE cynosure.sources SET ledger_id = p_id WHERE no = p_source AND ledger_id IS NULL;
END;
$$;

-- Binds the ledger to an account unless it is bound; returns the account that it is bound to.
CREATE OR REPLACE FUNCTION cynosure.bind_account(p_source BIGINT, p_epoch BIGINT, p_account TEXT)
RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
    v_account TEXT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    UPDATE cynosure.sources SET account = coalesce(account, p_account) WHERE no = p_source
        RETURNING account INTO v_account;
    RETURN v_account;
END;
$$;

-- Sets the time of the last full listing, unless one is recorded.
CREATE OR REPLACE FUNCTION cynosure.init_reconciled_at(
    p_source BIGINT, p_epoch BIGINT, p_now BIGINT
) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    UPDATE cynosure.sources SET reconciled_at = p_now
        WHERE no = p_source AND reconciled_at IS NULL;
END;
$$;

-- Shifts the times that are compared with the current time. At least 1, because 0 marks an item
-- that was never tried.
CREATE OR REPLACE FUNCTION cynosure.shift_deadlines(
    p_source BIGINT, p_epoch BIGINT, p_shard INTEGER, p_name TEXT, p_millis BIGINT
) RETURNS VOID
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    IF NOT cynosure.is_new_change(p_source, p_shard, p_name) THEN
        RETURN;
    END IF;
    UPDATE cynosure.sources SET reconciled_at = reconciled_at + p_millis WHERE no = p_source;
    UPDATE cynosure.items
        SET next_at = greatest(1, next_at + p_millis), version = version + 1
        WHERE source = p_source AND status = 0 AND next_at > 0;
    UPDATE cynosure.items
        SET next_at = greatest(1, next_at + p_millis), version = version + 1
        WHERE source = p_source AND status = 3 AND next_at > 0;
    UPDATE cynosure.trials SET since = since + p_millis WHERE source = p_source;
END;
$$;

-- Makes quarantined items due at once: those with a cause, or that failed since a time; NULL
-- selects all. Returns their number.
CREATE OR REPLACE FUNCTION cynosure.requeue(
    p_source BIGINT, p_epoch BIGINT, p_shard INTEGER, p_now BIGINT, p_cause TEXT, p_since BIGINT
) RETURNS BIGINT
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_changed BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    UPDATE cynosure.items SET next_at = p_now, quarantines = 0, version = version + 1
        WHERE source = p_source AND status = 3 AND (p_cause IS NULL OR cause = p_cause)
            AND (p_since IS NULL OR failed_at >= p_since);
    GET DIAGNOSTICS v_changed = ROW_COUNT;
    RETURN v_changed;
END;
$$;

-- Makes one item due at once, and returns 1; 0 if it is neither quarantined nor gone. A gone item
-- is quarantined first. One without documents is skipped, because there is nothing to fetch.
CREATE OR REPLACE FUNCTION cynosure.requeue_item(
    p_source BIGINT, p_epoch BIGINT, p_shard INTEGER, p_now BIGINT, p_item TEXT
) RETURNS BIGINT
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_no BIGINT;
    v_session BIGINT;
    v_changed BIGINT;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    UPDATE cynosure.items i SET status = 3, version = version + 1
        WHERE source = p_source AND id = p_item AND status = 2 AND EXISTS (
            SELECT 1 FROM cynosure.documents d WHERE d.source = p_source AND d.item = i.no)
        RETURNING no, session INTO v_no, v_session;
    IF FOUND THEN
        UPDATE cynosure.documents SET status = 0, version = version + 1
            WHERE source = p_source AND item = v_no AND status = 2;
        PERFORM cynosure.add_to_tally(p_source, v_session, p_shard, 0, 0, -1, 1);
    END IF;
    UPDATE cynosure.items SET next_at = p_now, quarantines = 0, version = version + 1
        WHERE source = p_source AND id = p_item AND status = 3;
    GET DIAGNOSTICS v_changed = ROW_COUNT;
    RETURN v_changed;
END;
$$;

-- Requeues a stored document whose file is damaged; returns FALSE if it was not stored. If only a
-- listing brings its content, everything is listed again, and the item is tried without one at
-- p_listing_at.
CREATE OR REPLACE FUNCTION cynosure.requeue_damaged(
    p_source BIGINT, p_epoch BIGINT, p_shard INTEGER, p_document BIGINT, p_reason TEXT,
    p_cause TEXT, p_now BIGINT, p_listing_at BIGINT
) RETURNS BOOLEAN
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_lists_contents BOOLEAN;
    v_document cynosure.documents;
    v_item cynosure.items;
BEGIN
    PERFORM cynosure.fence(p_source, p_epoch);
    SELECT lists_contents INTO v_lists_contents FROM cynosure.sources WHERE no = p_source;
    UPDATE cynosure.documents
        SET status = CASE WHEN v_lists_contents THEN 3 ELSE 0 END, version = version + 1
        WHERE source = p_source AND no = p_document AND status = 1 RETURNING * INTO v_document;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    DELETE FROM cynosure.contents WHERE source = p_source AND sha256 = v_document.sha256;
    IF v_lists_contents THEN
        UPDATE cynosure.sources SET reconciled_at = 0 WHERE no = p_source;
    END IF;
    SELECT * INTO v_item FROM cynosure.items WHERE source = p_source AND no = v_document.item;
    IF v_item.status = 0 THEN
        RETURN TRUE;
    END IF;
    UPDATE cynosure.items
        SET status = 3, next_at = CASE WHEN v_lists_contents THEN p_listing_at ELSE p_now END,
            quarantines = 0, cause = p_cause, message = p_reason, failed_at = p_now,
            settled_at = p_now, version = version + 1
        WHERE source = p_source AND no = v_item.no;
    IF v_item.status IN (1, 2) THEN
        PERFORM cynosure.add_to_tally(
            p_source, v_item.session, p_shard, 0, -(v_item.status = 1)::INTEGER,
            -(v_item.status = 2)::INTEGER, 1);
    END IF;
    RETURN TRUE;
END;
$$;
