-- Functions that load the rows on which a change depends, as one JSON document. They are STABLE, so
-- that all of their queries see the same state.
--
-- Their setting lets each query read one partition. Each key is searched by a subquery with a LIMIT
-- or an OFFSET, which the planner cannot turn into another join: that may read all rows of the
-- source, of which a planner expects too few.

-- Returns the sums of the counters of a session over its workers.
CREATE OR REPLACE FUNCTION cynosure.session_counts(p_source BIGINT, p_session BIGINT)
RETURNS TABLE (
    listed BIGINT, stored BIGINT, gone BIGINT, quarantined BIGINT, documents BIGINT, bytes BIGINT,
    versions BIGINT, copies BIGINT, copied_bytes BIGINT, expected_bytes BIGINT)
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(t.listed), 0)::BIGINT,
        coalesce(sum(t.stored), 0)::BIGINT,
        coalesce(sum(t.gone), 0)::BIGINT,
        coalesce(sum(t.quarantined), 0)::BIGINT,
        coalesce(sum(t.documents), 0)::BIGINT,
        coalesce(sum(t.bytes), 0)::BIGINT,
        coalesce(sum(t.versions), 0)::BIGINT,
        coalesce(sum(t.copies), 0)::BIGINT,
        coalesce(sum(t.copied_bytes), 0)::BIGINT,
        coalesce(sum(t.expected_bytes), 0)::BIGINT
    FROM cynosure.tallies t WHERE t.source = p_source AND t.session = p_session
$$;

-- Returns the newest session with the sums of its counters.
CREATE OR REPLACE FUNCTION cynosure.session_record(p_source BIGINT) RETURNS JSONB
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(s) - 'source' || jsonb_build_object('counts', to_jsonb(c))
    FROM (SELECT * FROM cynosure.sessions WHERE source = p_source ORDER BY no DESC LIMIT 1) s
        CROSS JOIN LATERAL cynosure.session_counts(p_source, s.no) c
$$;

-- Returns a document with its hash in hexadecimal.
CREATE OR REPLACE FUNCTION cynosure.document_record(p_row cynosure.documents) RETURNS JSONB
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object(
        'no', p_row.no, 'item', p_row.item, 'id', p_row.id, 'blob', p_row.blob,
        'size', p_row.size, 'status', p_row.status, 'session', p_row.session,
        'file', p_row.file, 'length', p_row.length, 'sha256', encode(p_row.sha256, 'hex'),
        'version', p_row.version)
$$;

-- Returns an earlier version of a document with its hash in hexadecimal.
CREATE OR REPLACE FUNCTION cynosure.superseded_record(p_row cynosure.superseded) RETURNS JSONB
LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object(
        'no', p_row.no, 'document', p_row.document, 'blob', p_row.blob, 'size', p_row.size,
        'session', p_row.session, 'file', p_row.file, 'length', p_row.length,
        'sha256', encode(p_row.sha256, 'hex'), 'at', p_row.at)
$$;

-- Returns what pages and batches have in common: the source, its newest session, the items and the
-- documents with these numbers, and the facts that are kept beside them.
CREATE OR REPLACE FUNCTION cynosure.load_rows(
    p_source BIGINT, p_items BIGINT[], p_documents BIGINT[]
) RETURNS JSONB
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_source JSONB;
    v_items JSONB;
    v_documents JSONB;
    v_counts JSONB;
    v_with_content JSONB;
BEGIN
    SELECT jsonb_build_object(
            'cursor', s.cursor, 'reconciled_at', s.reconciled_at,
            'lists_contents', s.lists_contents, 'next_item', s.next_item,
            'next_document', s.next_document, 'revision', s.revision)
        INTO v_source FROM cynosure.sources s WHERE s.no = p_source;
    SELECT coalesce(jsonb_agg(to_jsonb(i) - 'source' ORDER BY i.no), '[]') INTO v_items
        FROM unnest(p_items) AS x(no) CROSS JOIN LATERAL (
            SELECT * FROM cynosure.items WHERE source = p_source AND no = x.no LIMIT 1) i;
    SELECT coalesce(jsonb_agg(cynosure.document_record(d) ORDER BY d.no), '[]') INTO v_documents
        FROM unnest(p_documents) AS x(no) CROSS JOIN LATERAL (
            SELECT * FROM cynosure.documents WHERE source = p_source AND no = x.no LIMIT 1) d;
    SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.item, c.status), '[]') INTO v_counts
        FROM unnest(p_items) AS x(no) CROSS JOIN LATERAL (
            SELECT item, status, count(*) AS number FROM cynosure.documents
            WHERE source = p_source AND item = x.no GROUP BY item, status) c;
    SELECT coalesce(jsonb_agg(l.document ORDER BY l.document), '[]') INTO v_with_content
        FROM unnest(p_documents) AS x(no) CROSS JOIN LATERAL (
            SELECT document FROM cynosure.listed_contents
            WHERE source = p_source AND document = x.no LIMIT 1) l;
    RETURN jsonb_build_object(
        'source', v_source, 'session', cynosure.session_record(p_source), 'items', v_items,
        'documents', v_documents, 'document_counts', v_counts, 'with_content', v_with_content);
END;
$$;

-- Returns the earlier versions of documents.
CREATE OR REPLACE FUNCTION cynosure.superseded_versions(p_source BIGINT, p_documents BIGINT[])
RETURNS SETOF cynosure.superseded
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
        SELECT v.* FROM unnest(p_documents) AS x(no) CROSS JOIN LATERAL (
            SELECT * FROM cynosure.superseded
            WHERE source = p_source AND document = x.no OFFSET 0) v;
END;
$$;

-- Returns folders of documents without numbers, among the first 1,024 locations of each.
CREATE OR REPLACE FUNCTION cynosure.unnumbered_locations(p_source BIGINT, p_documents BIGINT[])
RETURNS SETOF cynosure.locations
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
        SELECT l.* FROM unnest(p_documents) AS x(no) CROSS JOIN LATERAL (
            SELECT * FROM cynosure.locations WHERE source = p_source AND document = x.no
            ORDER BY folder, uid_validity, uid LIMIT 1024) l
        WHERE l.uid_validity = 0 AND l.uid = 0;
END;
$$;

-- Returns locations as a JSON list: by document, the newest folder first, and in each the newest
-- location.
CREATE OR REPLACE FUNCTION cynosure.location_records(
    p_source BIGINT, p_locations cynosure.locations[]
) RETURNS JSONB
LANGUAGE sql STABLE AS $$
    SELECT coalesce(jsonb_agg(
            jsonb_build_object('document', l.document, 'folder', f.name,
                               'uid_validity', l.uid_validity, 'uid', l.uid)
            ORDER BY l.document, l.folder DESC, l.uid_validity DESC, l.uid DESC), '[]')
        FROM (SELECT DISTINCT * FROM unnest(p_locations)) l CROSS JOIN LATERAL (
            SELECT name FROM cynosure.folders
            WHERE source = p_source AND no = l.folder LIMIT 1) f
$$;

-- Returns those of the locations of entries that are known.
CREATE OR REPLACE FUNCTION cynosure.known_locations(p_source BIGINT, p_entries JSONB)
RETURNS SETOF cynosure.locations
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
        SELECT l.* FROM jsonb_to_recordset(p_entries) AS x(
                item TEXT, document TEXT, folder TEXT, uid_validity BIGINT, uid BIGINT)
            CROSS JOIN LATERAL (
                SELECT no FROM cynosure.items
                WHERE source = p_source AND id = x.item LIMIT 1) i
            CROSS JOIN LATERAL (
                SELECT no FROM cynosure.documents
                WHERE source = p_source AND item = i.no AND id = x.document LIMIT 1) d
            CROSS JOIN LATERAL (
                SELECT no FROM cynosure.folders
                WHERE source = p_source AND name = x.folder LIMIT 1) f
            CROSS JOIN LATERAL (
                SELECT * FROM cynosure.locations
                WHERE source = p_source AND document = d.no AND folder = f.no
                    AND uid_validity = x.uid_validity AND uid = x.uid LIMIT 1) l
            WHERE x.folder IS NOT NULL;
END;
$$;

-- Loads the rows that a page needs. Each entry is an object with item, document, blob, folder,
-- uid_validity and uid; the last three are null without a location.
CREATE OR REPLACE FUNCTION cynosure.load_page(p_source BIGINT, p_entries JSONB) RETURNS JSONB
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_items BIGINT[];
    v_documents BIGINT[];
    v_blobs TEXT[];
    v_stored JSONB;
    v_superseded JSONB;
    v_locations cynosure.locations[];
BEGIN
    v_items := ARRAY(
        SELECT DISTINCT i.no FROM jsonb_to_recordset(p_entries) AS x(item TEXT)
            CROSS JOIN LATERAL (
                SELECT no FROM cynosure.items
                WHERE source = p_source AND id = x.item LIMIT 1) i);
    v_documents := ARRAY(
        SELECT DISTINCT d.no FROM jsonb_to_recordset(p_entries) AS x(item TEXT, document TEXT)
            CROSS JOIN LATERAL (
                SELECT no FROM cynosure.items
                WHERE source = p_source AND id = x.item LIMIT 1) i
            CROSS JOIN LATERAL (
                SELECT no FROM cynosure.documents
                WHERE source = p_source AND item = i.no AND id = x.document LIMIT 1) d);
    v_blobs := ARRAY(
        SELECT DISTINCT x.blob FROM jsonb_to_recordset(p_entries) AS x(blob TEXT)
        WHERE x.blob IS NOT NULL);
    -- Limited so that a server which gives one blob id to everything costs no more than others.
    SELECT coalesce(jsonb_agg(cynosure.document_record(d) ORDER BY d.no), '[]') INTO v_stored
        FROM unnest(v_blobs) AS x(blob) CROSS JOIN LATERAL (
            SELECT * FROM cynosure.documents
            WHERE source = p_source AND blob = x.blob AND status = 1
            ORDER BY no LIMIT 16) d;
    SELECT coalesce(jsonb_agg(cynosure.superseded_record(v) ORDER BY v.no), '[]')
        INTO v_superseded FROM cynosure.superseded_versions(p_source, v_documents) v
        WHERE v.blob = ANY (v_blobs);
    v_locations := ARRAY(
        SELECT l FROM cynosure.known_locations(p_source, p_entries) l
        UNION ALL SELECT u FROM cynosure.unnumbered_locations(p_source, v_documents) u);
    RETURN cynosure.load_rows(p_source, v_items, v_documents) || jsonb_build_object(
        'stored', v_stored, 'superseded', v_superseded,
        'locations', cynosure.location_records(p_source, v_locations), 'indexed', '[]'::JSONB);
END;
$$;

-- Loads the rows that a batch needs. The hashes are in hexadecimal; the numbered locations are
-- those of the documents in p_gone.
CREATE OR REPLACE FUNCTION cynosure.load_batch(
    p_source BIGINT, p_documents BIGINT[], p_items BIGINT[], p_hashes TEXT[], p_gone BIGINT[]
) RETURNS JSONB
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_documents BIGINT[] := ARRAY(SELECT DISTINCT unnest(p_documents));
    v_items BIGINT[];
    v_superseded JSONB;
    v_indexed JSONB;
    v_locations cynosure.locations[];
BEGIN
    v_items := ARRAY(
        SELECT d.item FROM unnest(v_documents) AS x(no) CROSS JOIN LATERAL (
            SELECT item FROM cynosure.documents
            WHERE source = p_source AND no = x.no LIMIT 1) d
        UNION SELECT unnest(p_items));
    SELECT coalesce(jsonb_agg(cynosure.superseded_record(v) ORDER BY v.no), '[]')
        INTO v_superseded FROM cynosure.superseded_versions(p_source, v_documents) v;
    -- The index may name a document that has other bytes by now, or is no longer stored.
    SELECT coalesce(jsonb_agg(cynosure.document_record(d) ORDER BY d.no), '[]') INTO v_indexed
        FROM (SELECT DISTINCT decode(h.hash, 'hex') AS hash
              FROM unnest(p_hashes) AS h(hash)) x
            CROSS JOIN LATERAL (
                SELECT document FROM cynosure.contents
                WHERE source = p_source AND sha256 = x.hash LIMIT 1) c
            CROSS JOIN LATERAL (
                SELECT * FROM cynosure.documents
                WHERE source = p_source AND no = c.document LIMIT 1) d
        WHERE d.status = 1 AND d.sha256 = x.hash;
    v_locations := ARRAY(
        SELECT u FROM cynosure.unnumbered_locations(p_source, v_documents) u
        UNION ALL
        SELECT n.location FROM unnest(p_gone) AS x(no) CROSS JOIN LATERAL (
            SELECT l AS location FROM cynosure.locations l
            WHERE l.source = p_source AND l.document = x.no AND l.uid <> 0
            ORDER BY l.folder DESC, l.uid_validity DESC, l.uid DESC LIMIT 1025) n);
    RETURN cynosure.load_rows(p_source, v_items, v_documents) || jsonb_build_object(
        'stored', '[]'::JSONB, 'superseded', v_superseded,
        'locations', cynosure.location_records(p_source, v_locations), 'indexed', v_indexed);
END;
$$;
