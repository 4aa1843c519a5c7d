-- Each audit event is a link of a chain of hashes. Link 0 is the beginning; the program that first opens the
-- database with this schema writes it, together with the links of the events that are there already.
CREATE TABLE audit_links (
    sequence   INTEGER PRIMARY KEY CHECK (sequence >= 0),
    event_hash BLOB NOT NULL CHECK (length(event_hash) = 32),
    hash       BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX audit_links_by_event ON audit_links (event_hash);
CREATE TRIGGER audit_links_have_no_gaps BEFORE INSERT ON audit_links
WHEN NEW.sequence <> (SELECT coalesce(max(sequence), -1) + 1 FROM audit_links)
BEGIN SELECT RAISE(ABORT, 'the audit chain has no gaps'); END;
CREATE TRIGGER audit_links_are_final BEFORE UPDATE ON audit_links
BEGIN SELECT RAISE(ABORT, 'the audit chain is not changed'); END;
CREATE TRIGGER audit_links_stay BEFORE DELETE ON audit_links
BEGIN SELECT RAISE(ABORT, 'the audit chain is not deleted'); END;

-- Ends of the chain that the security module signed.
CREATE TABLE audit_heads (
    restoration INTEGER NOT NULL CHECK (restoration >= 0),
    sequence    INTEGER NOT NULL REFERENCES audit_links (sequence),
    document    TEXT NOT NULL,
    key         BLOB NOT NULL CHECK (length(key) = 64),
    signature   BLOB NOT NULL CHECK (length(signature) = 64),
    UNIQUE (restoration, sequence)
) STRICT;
CREATE TRIGGER audit_heads_are_final BEFORE UPDATE ON audit_heads
BEGIN SELECT RAISE(ABORT, 'an audit head is not changed'); END;
CREATE TRIGGER audit_heads_stay BEFORE DELETE ON audit_heads
BEGIN SELECT RAISE(ABORT, 'an audit head is not deleted'); END;

-- How often the platform said that it goes on from a backup.
CREATE TABLE restorations (
    number      INTEGER PRIMARY KEY CHECK (number > 0),
    reason      TEXT NOT NULL,
    restored_at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER restorations_are_final BEFORE UPDATE ON restorations
BEGIN SELECT RAISE(ABORT, 'a restoration is not changed'); END;
CREATE TRIGGER restorations_stay BEFORE DELETE ON restorations
BEGIN SELECT RAISE(ABORT, 'a restoration is not deleted'); END;

-- The newest signed configuration of each audience.
CREATE TABLE configurations (
    audience    TEXT NOT NULL UNIQUE,
    restoration INTEGER NOT NULL CHECK (restoration >= 0),
    version     INTEGER NOT NULL CHECK (version > 0),
    content     BLOB NOT NULL CHECK (length(content) = 32),
    issued_at   INTEGER NOT NULL,
    document    TEXT NOT NULL,
    key         BLOB NOT NULL CHECK (length(key) = 64),
    signature   BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;
CREATE TRIGGER configurations_rise BEFORE UPDATE ON configurations
WHEN (NEW.restoration, NEW.version) <= (OLD.restoration, OLD.version)
BEGIN SELECT RAISE(ABORT, 'the version of a configuration is not lowered'); END;
CREATE TRIGGER configurations_stay BEFORE DELETE ON configurations
BEGIN SELECT RAISE(ABORT, 'a configuration is not deleted'); END;

-- How the key that signs configurations was followed by the next: each document is signed with the one before.
CREATE TABLE key_successions (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    document  TEXT NOT NULL,
    key       BLOB NOT NULL CHECK (length(key) = 64),
    signature BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;
CREATE TRIGGER key_successions_are_final BEFORE UPDATE ON key_successions
BEGIN SELECT RAISE(ABORT, 'a succession of keys is not changed'); END;
CREATE TRIGGER key_successions_stay BEFORE DELETE ON key_successions
BEGIN SELECT RAISE(ABORT, 'a succession of keys is not deleted'); END;
