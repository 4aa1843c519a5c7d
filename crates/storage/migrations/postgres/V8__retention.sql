-- Cards are closed for good, and what has ended is erased behind a limit. A closed card's row says "blocked" as well: so it stands
-- for nodes of the version before.
ALTER TABLE cards ADD COLUMN closed_at BIGINT;
ALTER TABLE cards ADD COLUMN erased_at BIGINT;
ALTER TABLE tokens ADD COLUMN ended_at BIGINT;
ALTER TABLE tokens ADD COLUMN erased_at BIGINT;
-- The same by the database's own clock, which whoever writes the row cannot choose.
ALTER TABLE cards ADD COLUMN closed_seen_at BIGINT;
ALTER TABLE tokens ADD COLUMN ended_seen_at BIGINT;
UPDATE tokens SET ended_at = ended.at, ended_seen_at = ended.at FROM (
    SELECT t.id, coalesce(max(c.changed_at), t.created_at) AS at FROM tokens AS t
    LEFT JOIN token_changes AS c ON c.token_id = t.id AND c.action = 'delete'
    WHERE t.status = 'DEACTIVATED' GROUP BY t.id) AS ended WHERE tokens.id = ended.id;

CREATE TRIGGER cards_stay_closed BEFORE UPDATE OF status, closed_at ON cards
    FOR EACH ROW WHEN (OLD.closed_at IS NOT NULL
        AND (NEW.closed_at IS DISTINCT FROM OLD.closed_at OR NEW.status <> 'blocked'))
    EXECUTE FUNCTION refuse('a closed card stays closed');
CREATE TRIGGER cards_are_closed_blocked BEFORE UPDATE OF closed_at ON cards
    FOR EACH ROW WHEN (NEW.closed_at IS NOT NULL AND NEW.status <> 'blocked')
    EXECUTE FUNCTION refuse('a closed card is blocked as well');
CREATE FUNCTION see_closed() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    NEW.closed_seen_at := (date_part('epoch', clock_timestamp()) * 1000)::BIGINT;
    RETURN NEW;
END $$;
CREATE TRIGGER cards_seen_closed BEFORE UPDATE OF closed_at ON cards
    FOR EACH ROW WHEN (NEW.closed_at IS NOT NULL AND OLD.closed_at IS NULL) EXECUTE FUNCTION see_closed();
CREATE FUNCTION see_ended() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    NEW.ended_seen_at := (date_part('epoch', clock_timestamp()) * 1000)::BIGINT;
    -- A node of the version before does not say when.
    NEW.ended_at := coalesce(NEW.ended_at, NEW.ended_seen_at);
    RETURN NEW;
END $$;
CREATE TRIGGER tokens_seen_ended BEFORE UPDATE OF status ON tokens
    FOR EACH ROW WHEN (NEW.status = 'DEACTIVATED' AND OLD.status <> 'DEACTIVATED') EXECUTE FUNCTION see_ended();
GRANT UPDATE (closed_at) ON cards TO tapfer_server;
GRANT UPDATE (ended_at) ON tokens TO tapfer_server;
GRANT SELECT (closed_at, erased_at) ON cards TO tapfer_issuer;
GRANT SELECT (ended_at, erased_at) ON tokens TO tapfer_issuer;

-- So many days what has ended is kept.
CREATE TABLE retention (
    one  BIGINT PRIMARY KEY CHECK (one = 1),
    days BIGINT NOT NULL CHECK (days BETWEEN 180 AND 3650)
);
INSERT INTO retention (one, days) VALUES (1, 540);
CREATE TRIGGER retention_stays BEFORE DELETE ON retention
    FOR EACH ROW EXECUTE FUNCTION refuse('there is a limit, whatever it is');
GRANT SELECT, UPDATE (days) ON retention TO tapfer_server;

-- What has ended and is not erased, and since when. A card with money waits until it is paid out; a phone counts from its
-- registration, and as long as it has a token that is not erased it has not ended.
CREATE INDEX cards_ended ON cards (closed_seen_at) WHERE closed_seen_at IS NOT NULL AND erased_at IS NULL;
CREATE INDEX tokens_ended ON tokens (ended_seen_at) WHERE ended_seen_at IS NOT NULL AND erased_at IS NULL;
CREATE VIEW ended_data AS
    SELECT 'card' AS kind, c.id AS id, c.closed_seen_at AS ended_at FROM cards AS c
    WHERE c.closed_seen_at IS NOT NULL AND c.erased_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts AS a
        WHERE a.kind IN ('cardholder', 'held') AND a.owner = c.id AND a.balance <> 0)
    UNION ALL
    SELECT 'token', t.id, t.ended_seen_at FROM tokens AS t WHERE t.ended_seen_at IS NOT NULL AND t.erased_at IS NULL
    UNION ALL
    SELECT 'device', d.id, d.created_at FROM devices AS d
    WHERE substr(d.public_key, 2) <> decode(repeat('00', 64), 'hex')
        AND NOT EXISTS (SELECT 1 FROM tokens AS t WHERE t.device_id = d.id AND t.erased_at IS NULL);
GRANT SELECT ON ended_data TO tapfer_server;

-- Erases what is past the limit, and nothing else of what is named: by the database's clock, whatever a row says of itself. With its
-- line in the audit log, so that whoever calls it cannot do without. One at a time.
CREATE FUNCTION erase_ended(what TEXT, named TEXT[], at BIGINT) RETURNS SETOF TEXT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, tapfer, pg_temp AS $$
DECLARE
    kept BIGINT;
    past BIGINT;
    due TEXT[];
BEGIN
    SELECT days INTO kept FROM retention WHERE one = 1 FOR UPDATE SKIP LOCKED;
    IF kept IS NULL THEN RETURN; END IF;
    past := (date_part('epoch', clock_timestamp()) * 1000)::BIGINT - kept * 86400000;
    PERFORM 1 FROM devices WHERE what = 'device' AND id = ANY (named) ORDER BY id FOR NO KEY UPDATE;
    PERFORM 1 FROM cards WHERE what = 'card' AND id = ANY (named)
        OR what = 'token' AND id IN (SELECT card_id FROM tokens WHERE tokens.id = ANY (named))
        ORDER BY id FOR NO KEY UPDATE;
    SELECT array_agg(e.id ORDER BY e.id) INTO due FROM ended_data AS e
        WHERE e.kind = what AND e.id = ANY (named) AND e.ended_at < past;
    IF due IS NULL THEN RETURN; END IF;
    IF what = 'card' THEN
        UPDATE cards SET number_sealed = '', number_hash = convert_to(id, 'UTF8'), holder_reference = NULL, erased_at = at
            WHERE id = ANY (due);
        DELETE FROM card_pins WHERE card_id = ANY (due);
    ELSIF what = 'token' THEN
        UPDATE tokens SET number_sealed = '', number_hash = convert_to(id, 'UTF8'), erased_at = at WHERE id = ANY (due);
        DELETE FROM person_keys WHERE token_id = ANY (due);
    ELSE
        UPDATE devices SET label = 'erased', public_key = decode('04' || repeat('00', 64), 'hex') WHERE id = ANY (due);
        DELETE FROM device_integrity WHERE device_id = ANY (due);
        UPDATE api_keys SET revoked_at = at, signature = NULL WHERE device_id = ANY (due) AND revoked_at IS NULL;
    END IF;
    INSERT INTO audit_inbox (at, role, origin, request_id, action, object, result, detail)
        VALUES (at, 'operator', 'local', '', 'data.erased', what, 'succeeded',
            format('%s past %s days: %s', cardinality(due), kept, array_to_string(due, ' ')));
    RETURN QUERY SELECT unnest(due);
END $$;
REVOKE ALL ON FUNCTION erase_ended FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_ended TO tapfer_server;

-- Bookings may be of one kind more. Old ones are not looked at, so that no payment waits for this.
ALTER TABLE ledger_transfers DROP CONSTRAINT ledger_transfers_kind_check;
ALTER TABLE ledger_transfers ADD CONSTRAINT ledger_transfers_kind_check
    CHECK (kind IN ('top_up', 'hold', 'capture', 'release', 'refund', 'reversal', 'loss', 'pay_out')) NOT VALID;
