-- What somebody with a login may make of functions that run with their owner's rights, and of what he writes himself.

-- The audit log's lines become links by this function alone: it takes the oldest ones from the inbox, and hashes them as they
-- stand (crates/payments/src/audit.rs `encode`, crates/emv/src/audit_chain.rs `link`). No caller chooses a hash, and a line that no
-- platform can read is linked as any other. Says how many it took, and the number of the newest of them.
CREATE FUNCTION link_waiting_lines(at_most BIGINT, OUT linked BIGINT, OUT newest BIGINT)
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    reached BIGINT;
    chained BYTEA;
    numbers BIGINT[];
    event BYTEA;
    events BYTEA[];
    links BYTEA[] := '{}';
BEGIN
    -- Whoever calls it, one at a time. "link".
    PERFORM pg_advisory_xact_lock(1818848875);
    SELECT l.sequence, l.hash INTO STRICT reached, chained FROM tapfer.audit_links AS l ORDER BY l.sequence DESC LIMIT 1;
    numbers := ARRAY(SELECT i.number FROM tapfer.audit_inbox AS i ORDER BY i.number LIMIT at_most);
    WITH taken AS (
        DELETE FROM tapfer.audit_inbox AS i WHERE i.number = ANY (numbers) RETURNING i.*
    ), kept AS (
        INSERT INTO tapfer.audit_events AS e
            (sequence, at, api_key_id, role, origin, request_id, action, object, result, detail)
        SELECT reached + row_number() OVER (ORDER BY t.number),
            t.at, t.api_key_id, t.role, t.origin, t.request_id, t.action, t.object, t.result, t.detail
        FROM taken AS t
        RETURNING e.sequence, sha256('tapfer-audit-event-1'::bytea || int8send(e.at) || (
            SELECT string_agg(coalesce(int4send(octet_length(word.bytes)) || word.bytes, '\xffffffff'), ''::bytea ORDER BY word.place)
            FROM (SELECT place, convert_to(said, 'UTF8') AS bytes FROM unnest(ARRAY[e.api_key_id, e.role, e.origin, e.request_id,
                e.action, e.object, e.result, e.detail]) WITH ORDINALITY AS words (said, place)) AS word)) AS hash
    )
    SELECT array_agg(k.hash ORDER BY k.sequence) INTO events FROM kept AS k;
    FOREACH event IN ARRAY coalesce(events, '{}') LOOP
        chained := sha256('tapfer-audit-link-1'::bytea || chained || int8send(reached + cardinality(links) + 1) || event);
        links := array_append(links, chained);
    END LOOP;
    INSERT INTO tapfer.audit_links (sequence, event_hash, hash)
        SELECT reached + made.place, made.event_hash, made.hash
        FROM unnest(events, links) WITH ORDINALITY AS made (event_hash, hash, place);
    linked := cardinality(links);
    newest := coalesce(numbers[linked], 0);
END $$;
-- As platforms of the version before call it: what hashes they made themselves does not matter.
CREATE OR REPLACE FUNCTION link_audit_events(last BIGINT, numbers BIGINT[], event_hashes BYTEA[], hashes BYTEA[])
RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF last IS DISTINCT FROM (SELECT max(sequence) FROM tapfer.audit_links) THEN
        RAISE EXCEPTION 'the audit chain has gone on' USING ERRCODE = 'serialization_failure';
    END IF;
    PERFORM tapfer.link_waiting_lines(coalesce(cardinality(numbers), 0));
END $$;
-- A line that is too long to be hashed with its neighbours would stop all that come behind it.
ALTER TABLE audit_inbox ADD CONSTRAINT audit_inbox_is_short CHECK (length(coalesce(api_key_id, '')) + length(origin) + length(request_id)
    + length(action) + length(object) + length(coalesce(detail, '')) <= 131072) NOT VALID;

-- What a function names is looked for among the realm's tables, and among temporary ones last, which anybody may make who has TEMP.
-- Without a word about them PostgreSQL looks among those first.
DO $$ DECLARE ours REGPROCEDURE; BEGIN
    FOR ours IN SELECT oid FROM pg_proc WHERE pronamespace = 'tapfer'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, tapfer, pg_temp', ours);
    END LOOP;
END $$;
-- Nobody calls one who has no need to. What a trigger calls needs no right.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tapfer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION issuer_of_login TO tapfer_issuer;
GRANT EXECUTE ON FUNCTION owns_key_catalogue, link_waiting_lines TO tapfer_server;

-- Whoever writes a row does not choose its number: one of the time to come would be in the way of honest ones, for ever. A column
-- that is added to one of these tables needs a grant of its own.
DO $$ DECLARE numbered REGCLASS; others TEXT; BEGIN
    FOR numbered, others IN
        SELECT a.attrelid, string_agg(quote_ident(a.attname), ', ') FILTER (WHERE a.attidentity = '')
        FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'tapfer'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
        GROUP BY a.attrelid HAVING bool_or(a.attidentity <> '') AND has_table_privilege('tapfer_server', a.attrelid, 'INSERT')
    LOOP
        EXECUTE format('REVOKE INSERT ON %s FROM tapfer_server', numbered);
        EXECUTE format('GRANT INSERT (%s) ON %s TO tapfer_server', others, numbered);
    END LOOP;
END $$;
