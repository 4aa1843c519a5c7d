-- What is known about the integrity of phones, and what issuers make of it.

CREATE TABLE integrity_policies (
    issuer_id  TEXT PRIMARY KEY NOT NULL REFERENCES issuers (id),
    -- JSON, as `tapfer_payments::integrity::IntegrityPolicy`.
    document   TEXT NOT NULL CHECK (json_valid(document)),
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE device_integrity (
    device_id            TEXT PRIMARY KEY NOT NULL REFERENCES devices (id),
    -- The question that the next attestation has to answer, once.
    challenge            BLOB CHECK (length(challenge) = 32),
    challenge_expires_at INTEGER,
    standing             TEXT CHECK (standing IN
        ('failed', 'unknown', 'software', 'trusted_environment', 'strongbox')),
    found_at             INTEGER,
    CHECK ((challenge IS NULL) = (challenge_expires_at IS NULL)),
    CHECK ((standing IS NULL) = (found_at IS NULL))
) STRICT;
