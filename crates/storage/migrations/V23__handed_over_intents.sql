-- What databases need that are one of several partitions; the embedded store is never one. Where an intent was handed to, and
-- how often it was.
ALTER TABLE payment_intents ADD COLUMN handed_to INTEGER CHECK (handed_to BETWEEN 0 AND 255);
ALTER TABLE payment_intents ADD COLUMN hops INTEGER NOT NULL DEFAULT 0 CHECK (hops >= 0);
