-- Certificates of issuers that terminals are told not to trust any more. Nobody takes one back.
CREATE TABLE revoked_issuer_certificates (
    rid        BLOB NOT NULL CHECK (length(rid) = 5),
    ca_index   INTEGER NOT NULL CHECK (ca_index BETWEEN 0 AND 255),
    serial     BLOB NOT NULL CHECK (length(serial) = 3),
    issuer_id  TEXT NOT NULL REFERENCES issuers (id),
    reason     TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    PRIMARY KEY (rid, ca_index, serial)
) STRICT;

CREATE TRIGGER revoked_issuer_certificates_stay BEFORE UPDATE ON revoked_issuer_certificates
BEGIN SELECT RAISE(ABORT, 'a revoked certificate stays revoked'); END;
CREATE TRIGGER revoked_issuer_certificates_remain BEFORE DELETE ON revoked_issuer_certificates
BEGIN SELECT RAISE(ABORT, 'a revoked certificate stays revoked'); END;
