-- What is known of the phones' sealed stores, and whose are kept closed.

-- Epoch that the phone has confirmed; 0 before its first share.
ALTER TABLE devices ADD COLUMN store_epoch INTEGER NOT NULL DEFAULT 0
    CHECK (store_epoch BETWEEN 0 AND 4294967295);
-- Whether the phone was given the share of the next epoch, and has not come back with it yet.
ALTER TABLE devices ADD COLUMN store_next_offered INTEGER NOT NULL DEFAULT 0
    CHECK (store_next_offered IN (0, 1));
-- Highest number of a snapshot that the phone has reported.
ALTER TABLE devices ADD COLUMN store_generation INTEGER NOT NULL DEFAULT 0
    CHECK (store_generation >= 0);
ALTER TABLE devices ADD COLUMN locked_by TEXT CHECK (locked_by IN ('issuer', 'operator'));
ALTER TABLE devices ADD COLUMN lock_reason TEXT
    CHECK ((lock_reason IS NULL) = (locked_by IS NULL));
ALTER TABLE devices ADD COLUMN locked_at INTEGER
    CHECK ((locked_at IS NULL) = (locked_by IS NULL));
-- An epoch that has ended never comes back. Beside the rules above it: belt and braces.
CREATE TRIGGER devices_stores_go_forward BEFORE UPDATE OF store_epoch, store_generation ON devices
WHEN NEW.store_epoch < OLD.store_epoch OR NEW.store_generation < OLD.store_generation
BEGIN SELECT RAISE(ABORT, 'a store does not go back'); END;
