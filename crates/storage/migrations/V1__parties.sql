-- Who takes part: issuers, cards, devices, tokens, merchants, terminals, API keys.
--
-- Times are milliseconds since 1970 in UTC, money is minor units, ids are text that sorts by time.
-- Card and token numbers are here only as `number_sealed` (encrypted by the HSM) and `number_hash`
-- (keyed by the HSM); their last four digits are in clear.

CREATE TABLE issuers (
    id                     TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'iss_*'),
    name                   TEXT NOT NULL,
    country                INTEGER NOT NULL CHECK (country BETWEEN 1 AND 999),
    pan_prefix             TEXT UNIQUE CHECK (length(pan_prefix) BETWEEN 6 AND 8),
    token_prefix           TEXT NOT NULL UNIQUE CHECK (length(token_prefix) BETWEEN 6 AND 8),
    currency               TEXT NOT NULL CHECK (length(currency) = 3),
    aid                    BLOB NOT NULL CHECK (length(aid) BETWEEN 5 AND 16),
    unverified_limit       INTEGER NOT NULL CHECK (unverified_limit >= 0),
    policy_version         INTEGER NOT NULL CHECK (policy_version BETWEEN 0 AND 16777215),
    key_maximum_payments   INTEGER NOT NULL CHECK (key_maximum_payments > 0),
    key_maximum_total      INTEGER NOT NULL CHECK (key_maximum_total > 0),
    key_lifetime_seconds   INTEGER NOT NULL CHECK (key_lifetime_seconds > 0),
    keys_per_replenishment INTEGER NOT NULL CHECK (keys_per_replenishment > 0),
    derivation_key_index   INTEGER NOT NULL CHECK (derivation_key_index BETWEEN 0 AND 255),
    certificate            BLOB NOT NULL,
    created_at             INTEGER NOT NULL
) STRICT;

CREATE TABLE cards (
    id               TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'card_*'),
    issuer_id        TEXT NOT NULL REFERENCES issuers (id),
    last_four        TEXT NOT NULL CHECK (length(last_four) = 4),
    sequence_number  INTEGER NOT NULL CHECK (sequence_number BETWEEN 0 AND 99),
    expiry           TEXT NOT NULL CHECK (expiry GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]'),
    status           TEXT NOT NULL CHECK (status IN ('active', 'blocked')),
    status_reason    TEXT,
    holder_reference TEXT,
    number_sealed    BLOB NOT NULL,
    number_hash      BLOB NOT NULL UNIQUE,
    created_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX cards_by_issuer ON cards (issuer_id, id);

CREATE TABLE devices (
    id         TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'dev_*'),
    issuer_id  TEXT NOT NULL REFERENCES issuers (id),
    label      TEXT NOT NULL,
    public_key BLOB NOT NULL CHECK (length(public_key) = 65),
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX devices_by_issuer ON devices (issuer_id, id);

CREATE TABLE tokens (
    id              TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'tok_*'),
    issuer_id       TEXT NOT NULL REFERENCES issuers (id),
    card_id         TEXT NOT NULL REFERENCES cards (id),
    device_id       TEXT NOT NULL REFERENCES devices (id),
    last_four       TEXT NOT NULL CHECK (length(last_four) = 4),
    sequence_number INTEGER NOT NULL CHECK (sequence_number BETWEEN 0 AND 99),
    status          TEXT NOT NULL CHECK (status IN ('INACTIVE', 'ACTIVE', 'SUSPENDED', 'DEACTIVATED')),
    -- Bit 0 cardholder, bit 1 issuer, bit 2 platform.
    suspended_by    INTEGER NOT NULL CHECK (suspended_by BETWEEN 0 AND 7),
    number_sealed   BLOB NOT NULL,
    number_hash     BLOB NOT NULL UNIQUE,
    created_at      INTEGER NOT NULL,
    CHECK ((status = 'SUSPENDED') = (suspended_by > 0))
) STRICT;
CREATE INDEX tokens_by_card ON tokens (card_id, id);
CREATE INDEX tokens_by_device ON tokens (device_id, id);
CREATE INDEX tokens_by_issuer ON tokens (issuer_id, id);
CREATE TRIGGER tokens_stay_deactivated BEFORE UPDATE OF status ON tokens
WHEN OLD.status = 'DEACTIVATED' AND NEW.status <> 'DEACTIVATED'
BEGIN SELECT RAISE(ABORT, 'a deactivated token stays deactivated'); END;

CREATE TABLE token_changes (
    sequence     INTEGER PRIMARY KEY AUTOINCREMENT,
    token_id     TEXT NOT NULL REFERENCES tokens (id),
    action       TEXT NOT NULL CHECK (action IN ('activate', 'suspend', 'unsuspend', 'delete')),
    actor        TEXT NOT NULL CHECK (actor IN ('cardholder', 'issuer', 'platform')),
    reason       TEXT NOT NULL,
    status       TEXT NOT NULL,
    suspended_by INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX token_changes_by_token ON token_changes (token_id, sequence);
CREATE TRIGGER token_changes_are_final BEFORE UPDATE ON token_changes
BEGIN SELECT RAISE(ABORT, 'the history of a token is not changed'); END;
CREATE TRIGGER token_changes_stay BEFORE DELETE ON token_changes
BEGIN SELECT RAISE(ABORT, 'the history of a token is not deleted'); END;

-- What phones were given; the keys themselves are derived in the HSM and kept nowhere.
CREATE TABLE limited_use_keys (
    token_id         TEXT NOT NULL REFERENCES tokens (id),
    key_class        INTEGER NOT NULL CHECK (key_class IN (1, 2)),
    key_index        BLOB NOT NULL CHECK (length(key_index) = 4),
    expires_at       INTEGER NOT NULL,
    maximum_payments INTEGER NOT NULL CHECK (maximum_payments > 0),
    maximum_total    INTEGER NOT NULL CHECK (maximum_total > 0),
    used_payments    INTEGER NOT NULL CHECK (used_payments >= 0),
    used_total       INTEGER NOT NULL CHECK (used_total >= 0),
    granted_at       INTEGER NOT NULL,
    PRIMARY KEY (token_id, key_class, key_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE merchants (
    id            TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'mer_*'),
    name          TEXT NOT NULL,
    country       INTEGER NOT NULL CHECK (country BETWEEN 1 AND 999),
    category_code TEXT NOT NULL CHECK (category_code GLOB '[0-9][0-9][0-9][0-9]'),
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE terminals (
    id             TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'term_*'),
    merchant_id    TEXT NOT NULL REFERENCES merchants (id),
    label          TEXT NOT NULL,
    identification TEXT NOT NULL UNIQUE CHECK (length(identification) = 8),
    created_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX terminals_by_merchant ON terminals (merchant_id, id);

-- One column for each kind of owner, so that an owner is always one that exists.
CREATE TABLE api_keys (
    id          TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'key_*'),
    role        TEXT NOT NULL CHECK (role IN ('operator', 'issuer', 'merchant', 'terminal', 'device')),
    issuer_id   TEXT REFERENCES issuers (id),
    merchant_id TEXT REFERENCES merchants (id),
    terminal_id TEXT REFERENCES terminals (id),
    device_id   TEXT REFERENCES devices (id),
    secret_hash BLOB NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER,
    CHECK ((role = 'issuer') = (issuer_id IS NOT NULL)),
    CHECK ((role = 'merchant') = (merchant_id IS NOT NULL)),
    CHECK ((role = 'terminal') = (terminal_id IS NOT NULL)),
    CHECK ((role = 'device') = (device_id IS NOT NULL))
) STRICT;
