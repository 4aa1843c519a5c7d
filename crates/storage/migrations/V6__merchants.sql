-- Terminals that end for good, the certificates with which they prove to phones whose they are, and
-- which payments were made with such a proof.

ALTER TABLE terminals ADD COLUMN revoked_at INTEGER;
ALTER TABLE terminals ADD COLUMN revocation_reason TEXT
    CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL));
CREATE TRIGGER terminals_stay_revoked BEFORE UPDATE OF revoked_at ON terminals
WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NOT OLD.revoked_at
BEGIN SELECT RAISE(ABORT, 'a revoked terminal stays revoked'); END;

CREATE TABLE terminal_certificates (
    id          TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'cert_*'),
    terminal_id TEXT NOT NULL REFERENCES terminals (id),
    serial      BLOB NOT NULL UNIQUE CHECK (length(serial) = 6),
    certificate BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL CHECK (expires_at > created_at),
    revoked_at  INTEGER
) STRICT;
CREATE INDEX terminal_certificates_by_terminal ON terminal_certificates (terminal_id, id);
-- What phones are told with every replenishment.
CREATE INDEX terminal_certificates_revoked ON terminal_certificates (expires_at)
    WHERE revoked_at IS NOT NULL;
CREATE TRIGGER terminal_certificates_stay_revoked BEFORE UPDATE OF revoked_at ON terminal_certificates
WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NOT OLD.revoked_at
BEGIN SELECT RAISE(ABORT, 'a revoked certificate stays revoked'); END;

-- Until now no phone could be shown any proof.
ALTER TABLE authorizations ADD COLUMN merchant_proven INTEGER NOT NULL DEFAULT 0
    CHECK (merchant_proven IN (0, 1));
