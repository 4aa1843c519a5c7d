-- Answers kept for idempotency keys carry a MAC of the platform: who has its login, and not its keys, can vouch for none. Old rows
-- are not looked at, so that no payment waits for this.
ALTER TABLE idempotency_answers ADD COLUMN mac BYTEA;
ALTER TABLE idempotency_answers ADD CONSTRAINT idempotency_answers_mac CHECK (mac IS NULL OR length(mac) = 32) NOT VALID;
-- When a row was written, which whoever writes it cannot choose. Rows from before this are of its own moment.
ALTER TABLE idempotency_answers ADD COLUMN inserted_at BIGINT NOT NULL DEFAULT (date_part('epoch', now()) * 1000)::BIGINT;
ALTER TABLE idempotency_answers ALTER COLUMN inserted_at SET DEFAULT (date_part('epoch', clock_timestamp()) * 1000)::BIGINT;
REVOKE INSERT ON idempotency_answers FROM tapfer_server;
GRANT INSERT (api_key_id, key, fingerprint, status, body, created_at, mac) ON idempotency_answers TO tapfer_server;

CREATE TABLE answers_vouched (
    one   BIGINT PRIMARY KEY CHECK (one = 1),
    -- When MACs began, milliseconds since 1970.
    since BIGINT NOT NULL
);
INSERT INTO answers_vouched (one, since) VALUES (1, (date_part('epoch', now()) * 1000)::BIGINT);
CREATE TRIGGER answers_vouched_stays BEFORE INSERT OR UPDATE OR DELETE ON answers_vouched
    FOR EACH ROW EXECUTE FUNCTION refuse('answers are vouched for since one moment');
-- Without a MAC are answers from before, and those of platforms of the version before that go on for up to a day.
CREATE VIEW kept_answers AS
    SELECT a.api_key_id, a.key, a.fingerprint, a.status, a.body, a.created_at, a.mac,
        CASE WHEN a.mac IS NULL AND a.inserted_at <= (SELECT v.since + 86400000 FROM answers_vouched AS v WHERE v.one = 1)
             THEN 1 ELSE 0 END AS from_before
    FROM idempotency_answers AS a;
GRANT SELECT ON kept_answers TO tapfer_server;

-- Old answers are forgotten, and no young one: by the database's clock, whatever a row says of itself. A day less than the platform keeps
-- them, for clocks that differ.
CREATE FUNCTION forget_answers(before BIGINT, at_most BIGINT) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    forgotten BIGINT;
    began BIGINT := (SELECT since FROM answers_vouched WHERE one = 1);
    youngest BIGINT := (date_part('epoch', clock_timestamp()) * 1000)::BIGINT - 29 * 86400000::BIGINT;
BEGIN
    WITH oldest AS (
        SELECT api_key_id, key FROM idempotency_answers WHERE created_at < before ORDER BY created_at LIMIT at_most
    )
    DELETE FROM idempotency_answers AS a USING oldest
    WHERE a.api_key_id = oldest.api_key_id AND a.key = oldest.key
        AND CASE WHEN a.inserted_at <= began THEN a.created_at ELSE a.inserted_at END < youngest;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $$;
REVOKE ALL ON FUNCTION forget_answers FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_answers TO tapfer_server;
REVOKE DELETE ON idempotency_answers FROM tapfer_server;

-- Requests that moved money, for ever: the same idempotency key books once, also when its answer is gone.
CREATE TABLE booked_requests (
    request    BYTEA NOT NULL UNIQUE CHECK (length(request) = 32),
    created_at BIGINT NOT NULL
);
CREATE TRIGGER booked_requests_are_final BEFORE UPDATE OR DELETE ON booked_requests
    FOR EACH ROW EXECUTE FUNCTION refuse('a request that booked is not forgotten');
GRANT SELECT, INSERT ON booked_requests TO tapfer_server;
