-- The highest version of the catalogue of keys that was ever used: an older one is an old copy.
CREATE TABLE key_catalogue (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL CHECK (version >= 0)
) STRICT;
INSERT INTO key_catalogue (one, version) VALUES (1, 0);
CREATE TRIGGER key_catalogue_counts_up BEFORE UPDATE ON key_catalogue WHEN NEW.version <= OLD.version
BEGIN SELECT RAISE(ABORT, 'the version of the catalogue counts up'); END;
CREATE TRIGGER key_catalogue_stays BEFORE DELETE ON key_catalogue
BEGIN SELECT RAISE(ABORT, 'the version of the catalogue is not forgotten'); END;
