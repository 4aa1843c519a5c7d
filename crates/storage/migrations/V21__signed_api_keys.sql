-- The platform's signature over what an API key is: id, owner, hash of the secret, time. A row without one, or with one that
-- does not fit, is no key. Taken away when the key is revoked, so that nobody wakes it by writing `revoked_at`.
-- Keys from before have none: whoever starts the platform may have them signed, once (`tapfer serve --accept-api-keys`).
ALTER TABLE api_keys ADD COLUMN signature BLOB CHECK (signature IS NULL OR length(signature) = 64);
