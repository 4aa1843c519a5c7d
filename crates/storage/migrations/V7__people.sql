-- What issuers demand of the person, and what is known of PINs. No PIN is here, and no key in clear.

-- Every version of an issuer's verification policy. Phones sign the version they obeyed.
CREATE TABLE issuer_policies (
    issuer_id   TEXT NOT NULL REFERENCES issuers (id),
    version     INTEGER NOT NULL CHECK (version BETWEEN 1 AND 16777215),
    -- The document in JSON, with its version.
    document    TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    replaced_at INTEGER,
    UNIQUE (issuer_id, version)
) STRICT;
CREATE TRIGGER issuer_policies_are_final BEFORE UPDATE OF document ON issuer_policies
BEGIN SELECT RAISE(ABORT, 'a version of a policy is not changed; set a new one'); END;
CREATE TRIGGER issuer_policies_stay BEFORE DELETE ON issuer_policies
BEGIN SELECT RAISE(ABORT, 'a version of a policy is not deleted'); END;
-- Until now an issuer had a limit and nothing else.
INSERT INTO issuer_policies (issuer_id, version, document, created_at)
SELECT id, policy_version,
    '{"name":"limit","version":' || policy_version || ',"currency":"' || currency
        || '","limit":' || unverified_limit
        || ',"up_to_limit":"screen_on","above_limit":"unlocked"}',
    created_at
FROM issuers;

ALTER TABLE issuers ADD COLUMN single_use INTEGER NOT NULL DEFAULT 0 CHECK (single_use IN (0, 1));
ALTER TABLE issuers ADD COLUMN verified_payments INTEGER NOT NULL DEFAULT 32
    CHECK (verified_payments > 0);

-- A row of session keys is for these counters; a limited-use key has none.
ALTER TABLE limited_use_keys ADD COLUMN first_counter INTEGER
    CHECK (first_counter BETWEEN 0 AND 65535);
ALTER TABLE limited_use_keys ADD COLUMN counter_count INTEGER
    CHECK (counter_count BETWEEN 1 AND 65536);

-- 0: burnt by a wrong PIN, and so spent, but not seen.
ALTER TABLE transaction_counters ADD COLUMN verified INTEGER NOT NULL DEFAULT 1
    CHECK (verified IN (0, 1));

-- How the person was verified so far.
CREATE TABLE token_histories (
    token_id         TEXT PRIMARY KEY NOT NULL REFERENCES tokens (id),
    payments         INTEGER NOT NULL CHECK (payments >= 0),
    sum_minor        INTEGER NOT NULL CHECK (sum_minor >= 0),
    verified_counter INTEGER CHECK (verified_counter BETWEEN 0 AND 65535),
    verified_by      TEXT CHECK (verified_by IN ('unlocked', 'app_pin', 'terminal_pin')),
    logged_in_at     INTEGER,
    CHECK ((verified_counter IS NULL) = (verified_by IS NULL))
) STRICT;

-- The person's key of a token: sealed by the security module.
CREATE TABLE person_keys (
    token_id      TEXT PRIMARY KEY NOT NULL REFERENCES tokens (id),
    generation    INTEGER NOT NULL CHECK (generation > 0),
    key_sealed    BLOB NOT NULL,
    -- SHA-256 of the request that brought it: the same once more gets the same answer.
    request_hash  BLOB NOT NULL CHECK (length(request_hash) = 32),
    failed        INTEGER NOT NULL CHECK (failed BETWEEN 0 AND 255),
    reset_granted INTEGER NOT NULL CHECK (reset_granted IN (0, 1))
) STRICT;

-- What a PIN at a terminal is compared with, in the security module.
CREATE TABLE card_pins (
    card_id TEXT PRIMARY KEY NOT NULL REFERENCES cards (id),
    value   BLOB NOT NULL CHECK (length(value) = 32),
    failed  INTEGER NOT NULL CHECK (failed BETWEEN 0 AND 255)
) STRICT;
