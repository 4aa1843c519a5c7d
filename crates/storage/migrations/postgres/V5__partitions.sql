-- Partitions: a realm in several databases (ADR 25). Partition 0 is the home: what everybody needs is written there, and comes to
-- the others by logical replication.

-- Which one this is, and at which of its places: how often it was moved, and one. No row: the realm's only database.
CREATE TABLE own_partition (
    one        BIGINT PRIMARY KEY CHECK (one = 1),
    number     BIGINT NOT NULL CHECK (number BETWEEN 0 AND 255),
    partitions BIGINT NOT NULL CHECK (partitions BETWEEN 2 AND 256 AND number < partitions),
    place      BIGINT NOT NULL CHECK (place >= 1),
    closed     BIGINT NOT NULL DEFAULT 0 CHECK (closed IN (0, 1))
);
CREATE TRIGGER own_partition_stays BEFORE DELETE ON own_partition
    FOR EACH ROW EXECUTE FUNCTION refuse('a database stays the partition that it is');
CREATE TRIGGER own_partition_goes_forward BEFORE UPDATE ON own_partition
    FOR EACH ROW WHEN (NEW.number <> OLD.number OR NEW.partitions <> OLD.partitions OR NEW.place < OLD.place)
    EXECUTE FUNCTION refuse('a database stays the partition that it is, and a place is never gone back to');

-- A partition that is closed takes nothing more: whoever closes it waits for those who are writing, and what was acknowledged is
-- in every copy that is made behind that. "part".
CREATE FUNCTION refuse_when_closed() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
    PERFORM pg_advisory_xact_lock_shared(1885434484);
    IF EXISTS (SELECT FROM own_partition WHERE closed = 1) THEN
        RAISE EXCEPTION 'this partition was closed here, to be moved' USING ERRCODE = 'TP001';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION close_partition() RETURNS VOID LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
    PERFORM pg_advisory_xact_lock(1885434484);
    UPDATE own_partition SET closed = 1;
END $$;
REVOKE ALL ON FUNCTION close_partition FROM PUBLIC;
-- Every change writes a line of the audit log or an answer.
CREATE TRIGGER audit_inbox_is_open BEFORE INSERT ON audit_inbox
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_when_closed();
CREATE TRIGGER idempotency_answers_are_open BEFORE INSERT ON idempotency_answers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_when_closed();

-- The maps, each signed by the platform: how many partitions there are, and at which place each is. In the home alone.
CREATE TABLE partition_maps (
    version   BIGINT PRIMARY KEY CHECK (version >= 1),
    document  TEXT NOT NULL,
    key       BYTEA NOT NULL CHECK (length(key) = 64),
    signature BYTEA NOT NULL CHECK (length(signature) = 64)
);
CREATE TRIGGER partition_maps_are_final BEFORE UPDATE OR DELETE ON partition_maps
    FOR EACH ROW EXECUTE FUNCTION refuse('a partition map is not changed; sign the next version');

-- Counts up before and behind each change of what is told to all partitions: who sees a number there sees what was changed before
-- it. Which one all of them have heard.
CREATE TABLE told (
    one    BIGINT PRIMARY KEY CHECK (one = 1),
    number BIGINT NOT NULL CHECK (number >= 0),
    heard  BIGINT NOT NULL CHECK (heard BETWEEN 0 AND number)
);

GRANT SELECT ON own_partition, partition_maps, told TO tapfer_server;
GRANT INSERT ON partition_maps TO tapfer_server;
GRANT UPDATE (number, heard) ON told TO tapfer_server;

-- An intent is paid in the partition of the card: it is handed over there with the tap. The copy that stays behind says where to.
-- Old rows are what the conditions want, and are not looked at, so that no payment waits for this. The index for armed terminals
-- leaves handed over intents out in a database that becomes a partition, which is when it is made one.
ALTER TABLE payment_intents ADD COLUMN handed_to BIGINT;
ALTER TABLE payment_intents ADD COLUMN hops BIGINT NOT NULL DEFAULT 0;
ALTER TABLE payment_intents ADD CONSTRAINT payment_intents_handed_to CHECK (handed_to BETWEEN 0 AND 255) NOT VALID;
ALTER TABLE payment_intents ADD CONSTRAINT payment_intents_hops CHECK (hops >= 0) NOT VALID;
GRANT UPDATE (handed_to, hops) ON payment_intents TO tapfer_server;
-- What logical replication finds a row by.
ALTER TABLE issuer_policies REPLICA IDENTITY USING INDEX issuer_policies_issuer_id_version_key;
