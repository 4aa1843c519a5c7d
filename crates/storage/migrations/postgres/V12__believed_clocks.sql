-- By which time what has ended was erased last: a clock that stands far ahead of it is not believed. The database's own.
ALTER TABLE retention ADD COLUMN clock BIGINT;
UPDATE retention SET clock = (SELECT at FROM audit_events ORDER BY sequence DESC LIMIT 1);
GRANT UPDATE (clock) ON retention TO tapfer_server;

-- As it was, but for three things. The time that is written down is the database's as well, whatever the caller says. A partition
-- that is not the home erases no phone: it knows some of its tokens. And each kind locks by an index of its own.
CREATE OR REPLACE FUNCTION erase_ended(what TEXT, named TEXT[], at BIGINT) RETURNS SETOF TEXT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, tapfer, pg_temp AS $$
DECLARE
    kept BIGINT;
    present BIGINT := (date_part('epoch', clock_timestamp()) * 1000)::BIGINT;
    due TEXT[];
BEGIN
    SELECT days INTO kept FROM retention WHERE one = 1 FOR UPDATE SKIP LOCKED;
    IF kept IS NULL THEN RETURN; END IF;
    IF what = 'device' THEN
        IF EXISTS (SELECT 1 FROM own_partition WHERE number <> 0) THEN RETURN; END IF;
        PERFORM 1 FROM devices WHERE id = ANY (named) ORDER BY id FOR NO KEY UPDATE;
    ELSIF what = 'card' THEN
        PERFORM 1 FROM cards WHERE id = ANY (named) ORDER BY id FOR NO KEY UPDATE;
    ELSE
        PERFORM 1 FROM cards WHERE id IN (SELECT card_id FROM tokens WHERE tokens.id = ANY (named)) ORDER BY id FOR NO KEY UPDATE;
    END IF;
    SELECT array_agg(e.id ORDER BY e.id) INTO due FROM ended_data AS e
        WHERE e.kind = what AND e.id = ANY (named) AND e.ended_at < present - kept * 86400000;
    IF due IS NULL THEN RETURN; END IF;
    IF what = 'card' THEN
        UPDATE cards SET number_sealed = '', number_hash = convert_to(id, 'UTF8'), holder_reference = NULL, erased_at = present
            WHERE id = ANY (due);
        DELETE FROM card_pins WHERE card_id = ANY (due);
    ELSIF what = 'token' THEN
        UPDATE tokens SET number_sealed = '', number_hash = convert_to(id, 'UTF8'), erased_at = present WHERE id = ANY (due);
        DELETE FROM person_keys WHERE token_id = ANY (due);
    ELSE
        UPDATE devices SET label = 'erased', public_key = decode('04' || repeat('00', 64), 'hex') WHERE id = ANY (due);
        DELETE FROM device_integrity WHERE device_id = ANY (due);
        UPDATE api_keys SET revoked_at = present, signature = NULL WHERE device_id = ANY (due) AND revoked_at IS NULL;
    END IF;
    INSERT INTO audit_inbox (at, role, origin, request_id, action, object, result, detail)
        VALUES (present, 'operator', 'local', '', 'data.erased', what, 'succeeded',
            format('%s past %s days: %s', cardinality(due), kept, array_to_string(due, ' ')));
    RETURN QUERY SELECT unnest(due);
END $$;
