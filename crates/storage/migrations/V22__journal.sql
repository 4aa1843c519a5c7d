-- Decided payments in front of the other tables, and how far those know them.
CREATE TABLE journal (
    entry   INTEGER PRIMARY KEY CHECK (entry > 0),
    hash    BLOB NOT NULL CHECK (length(hash) = 32),
    records BLOB NOT NULL
) STRICT;
CREATE TRIGGER journal_is_final BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is not changed'); END;

CREATE TABLE journal_written (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    entry INTEGER NOT NULL CHECK (entry >= 0),
    hash  BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO journal_written (one, entry, hash) VALUES (1, 0, zeroblob(32));
CREATE TRIGGER journal_written_goes_on BEFORE UPDATE ON journal_written WHEN NEW.entry < OLD.entry
BEGIN SELECT RAISE(ABORT, 'the journal does not go back'); END;
CREATE TRIGGER journal_written_stays BEFORE DELETE ON journal_written
BEGIN SELECT RAISE(ABORT, 'where the journal ends is not forgotten'); END;
CREATE TRIGGER journal_stays BEFORE DELETE ON journal
WHEN OLD.entry > (SELECT entry FROM journal_written)
BEGIN SELECT RAISE(ABORT, 'what no other table knows stays in the journal'); END;
