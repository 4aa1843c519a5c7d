-- SHA-256 of the last request for a new person's key that was refused for a wrong PIN: a phone that sends it once more,
-- because it lost the answer, does not pay with another try.
ALTER TABLE person_keys
    ADD COLUMN refused_hash BLOB CHECK (refused_hash IS NULL OR length(refused_hash) = 32);
