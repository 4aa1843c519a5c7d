-- The audit log's lines become links with less work, and with the same hashes (crates/payments/src/audit.rs `encode`,
-- crates/emv/src/audit_chain.rs `link`): a line is hashed by one expression, and the oldest ones are taken out of the inbox in one
-- statement, by its index where the session says so. The octets of a text are counted as they stand, which are those that are hashed
-- where the database is in UTF-8, or converts nothing.
DO $$ BEGIN
    IF current_setting('server_encoding') NOT IN ('UTF8', 'SQL_ASCII') THEN
        RAISE EXCEPTION 'this database is in %; tapfer keeps names in UTF-8: make a database with ENCODING ''UTF8'' and restore into it',
            current_setting('server_encoding');
    END IF;
END $$;
CREATE OR REPLACE FUNCTION link_waiting_lines(at_most BIGINT, OUT linked BIGINT, OUT newest BIGINT)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, tapfer, pg_temp AS $$
DECLARE
    reached BIGINT;
    chained BYTEA;
    event BYTEA;
    events BYTEA[];
    links BYTEA[] := '{}';
BEGIN
    -- Whoever calls it, one at a time. "link".
    PERFORM pg_advisory_xact_lock(1818848875);
    SELECT l.sequence, l.hash INTO STRICT reached, chained FROM tapfer.audit_links AS l ORDER BY l.sequence DESC LIMIT 1;
    WITH oldest AS MATERIALIZED (
        SELECT i.number FROM tapfer.audit_inbox AS i ORDER BY i.number LIMIT at_most
    ), taken AS (
        DELETE FROM tapfer.audit_inbox AS i
            WHERE i.number BETWEEN (SELECT min(o.number) FROM oldest AS o) AND (SELECT max(o.number) FROM oldest AS o) RETURNING i.*
    ), kept AS (
        INSERT INTO tapfer.audit_events AS e
            (sequence, at, api_key_id, role, origin, request_id, action, object, result, detail)
        SELECT reached + row_number() OVER (ORDER BY t.number),
            t.at, t.api_key_id, t.role, t.origin, t.request_id, t.action, t.object, t.result, t.detail
        FROM taken AS t
        RETURNING e.sequence, sha256('tapfer-audit-event-1'::bytea || int8send(e.at)
            || coalesce(int4send(octet_length(e.api_key_id)) || convert_to(e.api_key_id, 'UTF8'), '\xffffffff'::bytea)
            || int4send(octet_length(e.role)) || convert_to(e.role, 'UTF8')
            || int4send(octet_length(e.origin)) || convert_to(e.origin, 'UTF8')
            || int4send(octet_length(e.request_id)) || convert_to(e.request_id, 'UTF8')
            || int4send(octet_length(e.action)) || convert_to(e.action, 'UTF8')
            || int4send(octet_length(e.object)) || convert_to(e.object, 'UTF8')
            || int4send(octet_length(e.result)) || convert_to(e.result, 'UTF8')
            || coalesce(int4send(octet_length(e.detail)) || convert_to(e.detail, 'UTF8'), '\xffffffff'::bytea)) AS hash
    )
    SELECT array_agg(k.hash ORDER BY k.sequence), (SELECT max(o.number) FROM oldest AS o) INTO events, newest FROM kept AS k;
    FOREACH event IN ARRAY coalesce(events, '{}') LOOP
        reached := reached + 1;
        chained := sha256('tapfer-audit-link-1'::bytea || chained || int8send(reached) || event);
        links := array_append(links, chained);
    END LOOP;
    linked := cardinality(links);
    newest := coalesce(newest, 0);
    INSERT INTO tapfer.audit_links (sequence, event_hash, hash)
        SELECT reached - linked + made.place, made.event_hash, made.hash
        FROM unnest(events, links) WITH ORDINALITY AS made (event_hash, hash, place);
END $$;
