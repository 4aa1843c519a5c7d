-- Phones go on while a platform burns: after a restoration a phone may come with a store of a later epoch than the
-- one the platform remembers, once. Its first report is taken for the truth.
ALTER TABLE devices ADD COLUMN store_may_be_ahead INTEGER NOT NULL DEFAULT 0
    CHECK (store_may_be_ahead IN (0, 1));
