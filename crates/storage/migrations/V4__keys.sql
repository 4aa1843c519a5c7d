-- Who has which API keys, and of which generation a limited-use key is.

CREATE INDEX api_keys_by_issuer ON api_keys (issuer_id, id) WHERE issuer_id IS NOT NULL;
CREATE INDEX api_keys_by_merchant ON api_keys (merchant_id, id) WHERE merchant_id IS NOT NULL;
CREATE INDEX api_keys_by_terminal ON api_keys (terminal_id, id) WHERE terminal_id IS NOT NULL;
CREATE INDEX api_keys_by_device ON api_keys (device_id, id) WHERE device_id IS NOT NULL;
CREATE TRIGGER api_keys_stay_revoked BEFORE UPDATE OF revoked_at ON api_keys
WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NOT OLD.revoked_at
BEGIN SELECT RAISE(ABORT, 'a revoked API key stays revoked'); END;

-- Generation of the issuer master key that the key is derived from. Until now there was one.
ALTER TABLE limited_use_keys ADD COLUMN derivation_key_index INTEGER NOT NULL DEFAULT 1
    CHECK (derivation_key_index BETWEEN 0 AND 255);
