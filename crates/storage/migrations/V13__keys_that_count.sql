-- What a token's keys are asked for does not take longer the more keys it ever had.
CREATE INDEX limited_use_keys_by_end ON limited_use_keys (token_id, expires_at);
CREATE INDEX limited_use_keys_used ON limited_use_keys (token_id, granted_at) WHERE used_payments > 0;

-- When the phone got its first keys.
ALTER TABLE tokens ADD COLUMN first_granted_at INTEGER;
UPDATE tokens SET first_granted_at =
    (SELECT MIN(granted_at) FROM limited_use_keys WHERE token_id = tokens.id);
