-- The newest version of the catalogue of keys that was ever used: its number, its MAC, and the hash of its wrapped
-- key. What does not come from it is an old copy, somebody else's, or was made from an old copy. No row before
-- the first use.
DROP TABLE key_catalogue;
CREATE TABLE key_catalogue (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    version  INTEGER NOT NULL CHECK (version >= 1),
    mac      BLOB NOT NULL CHECK (length(mac) = 32),
    key_hash BLOB NOT NULL CHECK (length(key_hash) = 32)
) STRICT;
CREATE TRIGGER key_catalogue_counts_up BEFORE UPDATE ON key_catalogue
WHEN NEW.version <= OLD.version OR NEW.key_hash <> OLD.key_hash
BEGIN SELECT RAISE(ABORT, 'the version of the catalogue counts up, and its key stays'); END;
CREATE TRIGGER key_catalogue_stays BEFORE DELETE ON key_catalogue
BEGIN SELECT RAISE(ABORT, 'the version of the catalogue is not forgotten'); END;
