-- Answers kept for idempotency keys carry a MAC of the platform: who writes them by hand can vouch for none. Those from
-- before have none; they are taken as long as they can be that old.
ALTER TABLE idempotency_answers ADD COLUMN mac BLOB CHECK (mac IS NULL OR length(mac) = 32);
CREATE TABLE answers_vouched (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    -- When MACs began, milliseconds since 1970.
    since INTEGER NOT NULL
) STRICT;
INSERT INTO answers_vouched (one, since) VALUES (1, unixepoch() * 1000);
CREATE TRIGGER answers_vouched_stays_as_it_is BEFORE UPDATE ON answers_vouched
    BEGIN SELECT RAISE(ABORT, 'since when answers are vouched for does not change'); END;
CREATE TRIGGER answers_vouched_stays BEFORE DELETE ON answers_vouched
    BEGIN SELECT RAISE(ABORT, 'since when answers are vouched for is not forgotten'); END;
CREATE TRIGGER answers_vouched_is_one BEFORE INSERT ON answers_vouched
    BEGIN SELECT RAISE(ABORT, 'answers are vouched for since one moment'); END;
CREATE VIEW kept_answers AS
    SELECT a.api_key_id, a.key, a.fingerprint, a.status, a.body, a.created_at, a.mac,
        CASE WHEN a.mac IS NULL THEN coalesce((SELECT a.created_at <= v.since
                 AND unixepoch() * 1000 <= v.since + 30 * 86400000 FROM answers_vouched AS v WHERE v.one = 1), 0)
             ELSE 0 END AS from_before
    FROM idempotency_answers AS a;

-- Requests that moved money, for ever: the same idempotency key books once, also when its answer is gone.
CREATE TABLE booked_requests (
    request    BLOB NOT NULL UNIQUE CHECK (length(request) = 32),
    created_at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER booked_requests_are_final BEFORE UPDATE ON booked_requests
    BEGIN SELECT RAISE(ABORT, 'a request that booked is not changed'); END;
CREATE TRIGGER booked_requests_stay BEFORE DELETE ON booked_requests
    BEGIN SELECT RAISE(ABORT, 'a request that booked is not forgotten'); END;
