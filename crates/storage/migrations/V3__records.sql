-- What is remembered about requests: their answers, and who did what.

-- Written in the transaction of the effect: a row means "done", there is no row for "running".
CREATE TABLE idempotency_answers (
    api_key_id  TEXT NOT NULL REFERENCES api_keys (id),
    key         TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    status      INTEGER NOT NULL CHECK (status BETWEEN 100 AND 599),
    body        BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (api_key_id, key)
) STRICT;
CREATE INDEX idempotency_answers_by_age ON idempotency_answers (created_at);

CREATE TABLE audit_events (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    api_key_id TEXT REFERENCES api_keys (id),
    role       TEXT NOT NULL CHECK (role IN ('operator', 'issuer', 'merchant', 'terminal', 'device')),
    origin     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,
    result     TEXT NOT NULL CHECK (result IN ('succeeded', 'refused')),
    detail     TEXT
) STRICT;
CREATE TRIGGER audit_events_are_final BEFORE UPDATE ON audit_events
BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;
CREATE TRIGGER audit_events_stay BEFORE DELETE ON audit_events
BEGIN SELECT RAISE(ABORT, 'the audit log is not deleted'); END;
