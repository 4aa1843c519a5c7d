-- That the platform goes on from a backup is an event of the audit chain, and stands nowhere else: a row beside the
-- chain could be put in by itself.
DROP TABLE restorations;
CREATE INDEX audit_events_of_restorations ON audit_events (sequence) WHERE action = 'platform.restored';

-- Version, restoration and age of a configuration stand in the signed text, and nowhere else: a column beside it
-- says what whoever writes it wants.
CREATE TABLE signed_configurations (
    audience  TEXT NOT NULL UNIQUE,
    document  TEXT NOT NULL,
    key       BLOB NOT NULL CHECK (length(key) = 64),
    signature BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;
INSERT INTO signed_configurations SELECT audience, document, key, signature FROM configurations;
DROP TABLE configurations;
ALTER TABLE signed_configurations RENAME TO configurations;
CREATE TRIGGER configurations_stay BEFORE DELETE ON configurations
BEGIN SELECT RAISE(ABORT, 'a configuration is not deleted'); END;
