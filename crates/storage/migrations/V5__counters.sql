-- Which cryptogram spent a counter, so that the same question is told from another one. Not known of
-- counters that were spent before.
ALTER TABLE transaction_counters ADD COLUMN cryptogram BLOB CHECK (length(cryptogram) = 8);
