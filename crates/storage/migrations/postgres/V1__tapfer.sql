-- The whole schema as it is when PostgreSQL becomes a store: the same tables and columns as in SQLite after its
-- migrations, with the same meaning, so that verbs are written once. Truth values are 0 and 1, times are milliseconds since
-- 1970 in UTC, money is minor units, ids are text that sorts by time, byte by byte.
--
-- Rows that payments append are not checked against those they name by foreign keys: a commit has read and locked what
-- it names, and nobody may delete that. A check would lock it once more for every payment.

-- For tables whose rows are final.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$;

CREATE TABLE realm (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    id  TEXT NOT NULL CHECK (id LIKE 'realm\_%')
);
CREATE TRIGGER realm_stays BEFORE UPDATE OR DELETE ON realm
    FOR EACH ROW EXECUTE FUNCTION refuse('a database stays with its realm');

-- Who takes part.

CREATE TABLE issuers (
    id                     TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'iss\_%'),
    name                   TEXT NOT NULL,
    country                BIGINT NOT NULL CHECK (country BETWEEN 1 AND 999),
    pan_prefix             TEXT UNIQUE CHECK (length(pan_prefix) BETWEEN 6 AND 8),
    token_prefix           TEXT NOT NULL UNIQUE CHECK (length(token_prefix) BETWEEN 6 AND 8),
    currency               TEXT NOT NULL CHECK (length(currency) = 3),
    aid                    BYTEA NOT NULL CHECK (length(aid) BETWEEN 5 AND 16),
    unverified_limit       BIGINT NOT NULL CHECK (unverified_limit >= 0),
    policy_version         BIGINT NOT NULL CHECK (policy_version BETWEEN 0 AND 16777215),
    key_maximum_payments   BIGINT NOT NULL CHECK (key_maximum_payments > 0),
    key_maximum_total      BIGINT NOT NULL CHECK (key_maximum_total > 0),
    key_lifetime_seconds   BIGINT NOT NULL CHECK (key_lifetime_seconds > 0),
    keys_per_replenishment BIGINT NOT NULL CHECK (keys_per_replenishment > 0),
    derivation_key_index   BIGINT NOT NULL CHECK (derivation_key_index BETWEEN 0 AND 255),
    certificate            BYTEA NOT NULL,
    created_at             BIGINT NOT NULL,
    single_use             BIGINT NOT NULL DEFAULT 0 CHECK (single_use IN (0, 1)),
    verified_payments      BIGINT NOT NULL DEFAULT 32 CHECK (verified_payments > 0)
);

CREATE TABLE cards (
    id               TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'card\_%'),
    issuer_id        TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
    last_four        TEXT NOT NULL CHECK (length(last_four) = 4),
    sequence_number  BIGINT NOT NULL CHECK (sequence_number BETWEEN 0 AND 99),
    expiry           TEXT NOT NULL CHECK (expiry ~ '^[0-9]{4}-[0-9]{2}$'),
    status           TEXT NOT NULL CHECK (status IN ('active', 'blocked')),
    status_reason    TEXT,
    holder_reference TEXT,
    number_sealed    BYTEA NOT NULL,
    number_hash      BYTEA NOT NULL UNIQUE,
    created_at       BIGINT NOT NULL
);
CREATE INDEX cards_by_issuer ON cards (issuer_id, id);

CREATE TABLE devices (
    id                 TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'dev\_%'),
    issuer_id          TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
    label              TEXT NOT NULL,
    public_key         BYTEA NOT NULL CHECK (length(public_key) = 65),
    created_at         BIGINT NOT NULL,
    store_epoch        BIGINT NOT NULL DEFAULT 0 CHECK (store_epoch BETWEEN 0 AND 4294967295),
    store_next_offered BIGINT NOT NULL DEFAULT 0 CHECK (store_next_offered IN (0, 1)),
    store_generation   BIGINT NOT NULL DEFAULT 0 CHECK (store_generation >= 0),
    locked_by          TEXT CHECK (locked_by IN ('issuer', 'operator')),
    lock_reason        TEXT CHECK ((lock_reason IS NULL) = (locked_by IS NULL)),
    locked_at          BIGINT CHECK ((locked_at IS NULL) = (locked_by IS NULL)),
    store_may_be_ahead BIGINT NOT NULL DEFAULT 0 CHECK (store_may_be_ahead IN (0, 1))
);
CREATE INDEX devices_by_issuer ON devices (issuer_id, id);
CREATE TRIGGER devices_stores_go_forward BEFORE UPDATE OF store_epoch, store_generation ON devices
    FOR EACH ROW WHEN (NEW.store_epoch < OLD.store_epoch OR NEW.store_generation < OLD.store_generation)
    EXECUTE FUNCTION refuse('a store does not go back');

CREATE TABLE tokens (
    id               TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'tok\_%'),
    issuer_id        TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
    card_id          TEXT COLLATE "C" NOT NULL REFERENCES cards (id),
    device_id        TEXT COLLATE "C" NOT NULL REFERENCES devices (id),
    last_four        TEXT NOT NULL CHECK (length(last_four) = 4),
    sequence_number  BIGINT NOT NULL CHECK (sequence_number BETWEEN 0 AND 99),
    status           TEXT NOT NULL CHECK (status IN ('INACTIVE', 'ACTIVE', 'SUSPENDED', 'DEACTIVATED')),
    -- Bit 0 cardholder, bit 1 issuer, bit 2 platform.
    suspended_by     BIGINT NOT NULL CHECK (suspended_by BETWEEN 0 AND 7),
    number_sealed    BYTEA NOT NULL,
    number_hash      BYTEA NOT NULL UNIQUE,
    created_at       BIGINT NOT NULL,
    first_granted_at BIGINT,
    CHECK ((status = 'SUSPENDED') = (suspended_by > 0))
);
CREATE INDEX tokens_by_card ON tokens (card_id, id);
CREATE INDEX tokens_by_device ON tokens (device_id, id);
CREATE INDEX tokens_by_issuer ON tokens (issuer_id, id);
CREATE TRIGGER tokens_stay_deactivated BEFORE UPDATE OF status ON tokens
    FOR EACH ROW WHEN (OLD.status = 'DEACTIVATED' AND NEW.status <> 'DEACTIVATED')
    EXECUTE FUNCTION refuse('a deactivated token stays deactivated');

CREATE TABLE token_changes (
    sequence     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_id     TEXT COLLATE "C" NOT NULL REFERENCES tokens (id),
    action       TEXT NOT NULL CHECK (action IN ('activate', 'suspend', 'unsuspend', 'delete')),
    actor        TEXT NOT NULL CHECK (actor IN ('cardholder', 'issuer', 'platform')),
    reason       TEXT NOT NULL,
    status       TEXT NOT NULL,
    suspended_by BIGINT NOT NULL,
    changed_at   BIGINT NOT NULL
);
CREATE INDEX token_changes_by_token ON token_changes (token_id, sequence);
CREATE TRIGGER token_changes_are_final BEFORE UPDATE OR DELETE ON token_changes
    FOR EACH ROW EXECUTE FUNCTION refuse('the history of a token is not changed');

CREATE TABLE limited_use_keys (
    token_id             TEXT COLLATE "C" NOT NULL REFERENCES tokens (id),
    key_class            BIGINT NOT NULL CHECK (key_class IN (1, 2)),
    key_index            BYTEA NOT NULL CHECK (length(key_index) = 4),
    expires_at           BIGINT NOT NULL,
    maximum_payments     BIGINT NOT NULL CHECK (maximum_payments > 0),
    maximum_total        BIGINT NOT NULL CHECK (maximum_total > 0),
    used_payments        BIGINT NOT NULL CHECK (used_payments >= 0),
    used_total           BIGINT NOT NULL CHECK (used_total >= 0),
    granted_at           BIGINT NOT NULL,
    derivation_key_index BIGINT NOT NULL DEFAULT 1 CHECK (derivation_key_index BETWEEN 0 AND 255),
    first_counter        BIGINT CHECK (first_counter BETWEEN 0 AND 65535),
    counter_count        BIGINT CHECK (counter_count BETWEEN 1 AND 65536),
    PRIMARY KEY (token_id, key_class, key_index)
);
CREATE INDEX limited_use_keys_by_end ON limited_use_keys (token_id, expires_at);
CREATE INDEX limited_use_keys_used ON limited_use_keys (token_id, granted_at) WHERE used_payments > 0;

CREATE TABLE token_histories (
    token_id         TEXT COLLATE "C" PRIMARY KEY REFERENCES tokens (id),
    payments         BIGINT NOT NULL CHECK (payments >= 0),
    sum_minor        BIGINT NOT NULL CHECK (sum_minor >= 0),
    verified_counter BIGINT CHECK (verified_counter BETWEEN 0 AND 65535),
    verified_by      TEXT CHECK (verified_by IN ('unlocked', 'app_pin', 'terminal_pin')),
    logged_in_at     BIGINT,
    since_login      BIGINT NOT NULL DEFAULT 0 CHECK (since_login >= 0),
    CHECK ((verified_counter IS NULL) = (verified_by IS NULL))
);

CREATE TABLE person_keys (
    token_id      TEXT COLLATE "C" PRIMARY KEY REFERENCES tokens (id),
    generation    BIGINT NOT NULL CHECK (generation > 0),
    key_sealed    BYTEA NOT NULL,
    request_hash  BYTEA NOT NULL CHECK (length(request_hash) = 32),
    failed        BIGINT NOT NULL CHECK (failed BETWEEN 0 AND 255),
    reset_granted BIGINT NOT NULL CHECK (reset_granted IN (0, 1)),
    refused_hash  BYTEA CHECK (refused_hash IS NULL OR length(refused_hash) = 32)
);

CREATE TABLE card_pins (
    card_id TEXT COLLATE "C" PRIMARY KEY REFERENCES cards (id),
    value   BYTEA NOT NULL CHECK (length(value) = 32),
    failed  BIGINT NOT NULL CHECK (failed BETWEEN 0 AND 255)
);

CREATE TABLE merchants (
    id            TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'mer\_%'),
    name          TEXT NOT NULL,
    country       BIGINT NOT NULL CHECK (country BETWEEN 1 AND 999),
    category_code TEXT NOT NULL CHECK (category_code ~ '^[0-9]{4}$'),
    created_at    BIGINT NOT NULL
);

CREATE TABLE terminals (
    id                TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'term\_%'),
    merchant_id       TEXT COLLATE "C" NOT NULL REFERENCES merchants (id),
    label             TEXT NOT NULL,
    identification    TEXT NOT NULL UNIQUE CHECK (length(identification) = 8),
    created_at        BIGINT NOT NULL,
    revoked_at        BIGINT,
    revocation_reason TEXT CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL))
);
CREATE INDEX terminals_by_merchant ON terminals (merchant_id, id);
CREATE TRIGGER terminals_stay_revoked BEFORE UPDATE OF revoked_at ON terminals
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
    EXECUTE FUNCTION refuse('a revoked terminal stays revoked');

CREATE TABLE terminal_certificates (
    id          TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'cert\_%'),
    terminal_id TEXT COLLATE "C" NOT NULL REFERENCES terminals (id),
    serial      BYTEA NOT NULL UNIQUE CHECK (length(serial) = 6),
    certificate BYTEA NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL CHECK (expires_at > created_at),
    revoked_at  BIGINT
);
CREATE INDEX terminal_certificates_by_terminal ON terminal_certificates (terminal_id, id);
CREATE INDEX terminal_certificates_revoked ON terminal_certificates (expires_at) WHERE revoked_at IS NOT NULL;
CREATE TRIGGER terminal_certificates_stay_revoked BEFORE UPDATE OF revoked_at ON terminal_certificates
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
    EXECUTE FUNCTION refuse('a revoked certificate stays revoked');

CREATE TABLE revoked_issuer_certificates (
    rid        BYTEA NOT NULL CHECK (length(rid) = 5),
    ca_index   BIGINT NOT NULL CHECK (ca_index BETWEEN 0 AND 255),
    serial     BYTEA NOT NULL CHECK (length(serial) = 3),
    issuer_id  TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
    reason     TEXT NOT NULL,
    revoked_at BIGINT NOT NULL,
    PRIMARY KEY (rid, ca_index, serial)
);
CREATE TRIGGER revoked_issuer_certificates_stay BEFORE UPDATE OR DELETE ON revoked_issuer_certificates
    FOR EACH ROW EXECUTE FUNCTION refuse('a revoked certificate stays revoked');

-- One column for each kind of owner, so that an owner is always one that exists.
CREATE TABLE api_keys (
    id          TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'key\_%'),
    role        TEXT NOT NULL CHECK (role IN ('operator', 'issuer', 'merchant', 'terminal', 'device')),
    issuer_id   TEXT COLLATE "C" REFERENCES issuers (id),
    merchant_id TEXT COLLATE "C" REFERENCES merchants (id),
    terminal_id TEXT COLLATE "C" REFERENCES terminals (id),
    device_id   TEXT COLLATE "C" REFERENCES devices (id),
    secret_hash BYTEA NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
    created_at  BIGINT NOT NULL,
    revoked_at  BIGINT,
    signature   BYTEA CHECK (signature IS NULL OR length(signature) = 64),
    CHECK ((role = 'issuer') = (issuer_id IS NOT NULL)),
    CHECK ((role = 'merchant') = (merchant_id IS NOT NULL)),
    CHECK ((role = 'terminal') = (terminal_id IS NOT NULL)),
    CHECK ((role = 'device') = (device_id IS NOT NULL))
);
CREATE INDEX api_keys_by_issuer ON api_keys (issuer_id, id) WHERE issuer_id IS NOT NULL;
CREATE INDEX api_keys_by_merchant ON api_keys (merchant_id, id) WHERE merchant_id IS NOT NULL;
CREATE INDEX api_keys_by_terminal ON api_keys (terminal_id, id) WHERE terminal_id IS NOT NULL;
CREATE INDEX api_keys_by_device ON api_keys (device_id, id) WHERE device_id IS NOT NULL;
CREATE TRIGGER api_keys_stay_revoked BEFORE UPDATE OF revoked_at ON api_keys
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
    EXECUTE FUNCTION refuse('a revoked API key stays revoked');

-- What is demanded of persons and phones.

CREATE TABLE issuer_policies (
    issuer_id   TEXT COLLATE "C" NOT NULL REFERENCES issuers (id),
    version     BIGINT NOT NULL CHECK (version BETWEEN 1 AND 16777215),
    document    TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    replaced_at BIGINT,
    UNIQUE (issuer_id, version)
);
CREATE TRIGGER issuer_policies_are_final BEFORE UPDATE OF document ON issuer_policies
    FOR EACH ROW EXECUTE FUNCTION refuse('a version of a policy is not changed; set a new one');
CREATE TRIGGER issuer_policies_stay BEFORE DELETE ON issuer_policies
    FOR EACH ROW EXECUTE FUNCTION refuse('a version of a policy is not deleted');

CREATE TABLE integrity_policies (
    issuer_id  TEXT COLLATE "C" PRIMARY KEY REFERENCES issuers (id),
    document   TEXT NOT NULL CHECK (document::json IS NOT NULL),
    updated_at BIGINT NOT NULL
);

CREATE TABLE device_integrity (
    device_id            TEXT COLLATE "C" PRIMARY KEY REFERENCES devices (id),
    challenge            BYTEA CHECK (length(challenge) = 32),
    challenge_expires_at BIGINT,
    standing             TEXT CHECK (standing IN
        ('failed', 'unknown', 'software', 'trusted_environment', 'strongbox')),
    found_at             BIGINT,
    CHECK ((challenge IS NULL) = (challenge_expires_at IS NULL)),
    CHECK ((standing IS NULL) = (found_at IS NULL))
);

-- What happens to money.

CREATE TABLE payment_intents (
    id                TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'pi\_%'),
    merchant_id       TEXT COLLATE "C" NOT NULL REFERENCES merchants (id),
    amount            BIGINT NOT NULL CHECK (amount BETWEEN 1 AND 999999999999),
    currency          TEXT NOT NULL CHECK (length(currency) = 3),
    reference         TEXT,
    capture_method    TEXT NOT NULL CHECK (capture_method IN ('automatic', 'manual')),
    status            TEXT NOT NULL CHECK (status IN (
        'requires_payment_method', 'requires_confirmation', 'requires_action', 'processing',
        'requires_capture', 'canceled', 'succeeded')),
    armed_terminal_id TEXT COLLATE "C" REFERENCES terminals (id),
    arming_state      TEXT CHECK (arming_state IN ('armed', 'consumed')),
    arming_expires_at BIGINT,
    authorization_id  TEXT COLLATE "C",
    captured          BIGINT NOT NULL CHECK (captured BETWEEN 0 AND amount),
    refunded          BIGINT NOT NULL CHECK (refunded BETWEEN 0 AND captured),
    created_at        BIGINT NOT NULL,
    CHECK ((armed_terminal_id IS NULL) = (arming_state IS NULL)),
    CHECK ((armed_terminal_id IS NULL) = (arming_expires_at IS NULL)),
    -- Money is held or taken only after an approval.
    CHECK (status NOT IN ('requires_capture', 'succeeded') OR authorization_id IS NOT NULL)
);
CREATE INDEX payment_intents_by_merchant ON payment_intents (merchant_id, id);
-- A terminal waits for one payment at a time.
CREATE UNIQUE INDEX payment_intents_armed ON payment_intents (armed_terminal_id) WHERE arming_state = 'armed';

CREATE TABLE authorizations (
    id                              TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'auth\_%'),
    payment_intent_id               TEXT COLLATE "C" NOT NULL,
    merchant_id                     TEXT COLLATE "C" NOT NULL,
    terminal_id                     TEXT COLLATE "C" NOT NULL,
    token_id                        TEXT COLLATE "C",
    card_id                         TEXT COLLATE "C",
    -- 0 approved, otherwise the number of the reason.
    outcome                         BIGINT NOT NULL CHECK (outcome >= 0),
    amount                          BIGINT NOT NULL CHECK (amount > 0),
    currency                        TEXT NOT NULL CHECK (length(currency) = 3),
    application_transaction_counter BIGINT NOT NULL
        CHECK (application_transaction_counter BETWEEN 0 AND 65535),
    key_index                       BYTEA CHECK (length(key_index) = 4),
    created_at                      BIGINT NOT NULL,
    merchant_proven                 BIGINT NOT NULL DEFAULT 0 CHECK (merchant_proven IN (0, 1)),
    CHECK (outcome <> 0 OR (token_id IS NOT NULL AND card_id IS NOT NULL)),
    CHECK ((token_id IS NULL) = (card_id IS NULL))
);
CREATE INDEX authorizations_by_intent ON authorizations (payment_intent_id, id);
CREATE INDEX authorizations_by_merchant ON authorizations (merchant_id, id);
CREATE INDEX authorizations_by_terminal ON authorizations (terminal_id, id);
-- A payment is approved once, and a counter carries one approval. Beside the rules above: belt and braces.
CREATE UNIQUE INDEX authorizations_approved ON authorizations (payment_intent_id) WHERE outcome = 0;
CREATE UNIQUE INDEX authorizations_by_counter
    ON authorizations (token_id, application_transaction_counter) WHERE outcome = 0;
CREATE TRIGGER authorizations_are_final BEFORE UPDATE OR DELETE ON authorizations
    FOR EACH ROW EXECUTE FUNCTION refuse('a decision is not changed');

CREATE TABLE transaction_counters (
    token_id                        TEXT COLLATE "C" NOT NULL,
    application_transaction_counter BIGINT NOT NULL
        CHECK (application_transaction_counter BETWEEN 0 AND 65535),
    authorization_id                TEXT COLLATE "C" NOT NULL,
    cryptogram                      BYTEA CHECK (length(cryptogram) = 8),
    verified                        BIGINT NOT NULL DEFAULT 1 CHECK (verified IN (0, 1)),
    UNIQUE (token_id, application_transaction_counter)
);

CREATE TABLE accounts (
    kind     TEXT NOT NULL CHECK (kind IN ('issuer_funding', 'cardholder', 'held', 'merchant_payable')),
    owner    TEXT COLLATE "C" NOT NULL,
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    balance  BIGINT NOT NULL,
    PRIMARY KEY (kind, owner, currency),
    -- Only issuers may be below zero: by the money they have put into circulation.
    CHECK (balance >= 0 OR kind = 'issuer_funding')
);

CREATE TABLE ledger_transfers (
    sequence   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('top_up', 'hold', 'capture', 'release', 'refund', 'reversal')),
    from_kind  TEXT NOT NULL,
    from_owner TEXT COLLATE "C" NOT NULL,
    to_kind    TEXT NOT NULL,
    to_owner   TEXT COLLATE "C" NOT NULL,
    amount     BIGINT NOT NULL CHECK (amount > 0),
    currency   TEXT NOT NULL,
    -- Id of what caused it, or the reference of a top-up.
    cause      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CHECK (from_kind <> to_kind OR from_owner <> to_owner)
);
CREATE INDEX ledger_transfers_by_source ON ledger_transfers (from_owner, from_kind, sequence);
CREATE INDEX ledger_transfers_by_target ON ledger_transfers (to_owner, to_kind, sequence);
CREATE TRIGGER ledger_transfers_are_final BEFORE UPDATE OR DELETE ON ledger_transfers
    FOR EACH ROW EXECUTE FUNCTION refuse('a booking is not changed; book the opposite');

CREATE TABLE refunds (
    id                TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'ref\_%'),
    payment_intent_id TEXT COLLATE "C" NOT NULL REFERENCES payment_intents (id),
    merchant_id       TEXT COLLATE "C" NOT NULL REFERENCES merchants (id),
    amount            BIGINT NOT NULL CHECK (amount > 0),
    currency          TEXT NOT NULL CHECK (length(currency) = 3),
    created_at        BIGINT NOT NULL
);
CREATE INDEX refunds_by_intent ON refunds (payment_intent_id, id);
CREATE INDEX refunds_by_merchant ON refunds (merchant_id, id);

CREATE TABLE reversals (
    id               TEXT COLLATE "C" PRIMARY KEY CHECK (id LIKE 'rev\_%'),
    -- An authorization is undone once.
    authorization_id TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES authorizations (id),
    amount           BIGINT NOT NULL CHECK (amount > 0),
    currency         TEXT NOT NULL CHECK (length(currency) = 3),
    reason           TEXT NOT NULL,
    created_at       BIGINT NOT NULL
);

-- What is remembered about requests.

-- Written in the transaction of the effect: a row means "done", there is no row for "running".
CREATE TABLE idempotency_answers (
    api_key_id  TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint BYTEA NOT NULL CHECK (length(fingerprint) = 32),
    status      BIGINT NOT NULL CHECK (status BETWEEN 100 AND 599),
    body        BYTEA NOT NULL,
    created_at  BIGINT NOT NULL,
    UNIQUE (api_key_id, key)
);
CREATE INDEX idempotency_answers_by_age ON idempotency_answers (created_at);

CREATE TABLE configurations (
    audience  TEXT NOT NULL UNIQUE,
    document  TEXT NOT NULL,
    key       BYTEA NOT NULL CHECK (length(key) = 64),
    signature BYTEA NOT NULL CHECK (length(signature) = 64)
);
CREATE TRIGGER configurations_stay BEFORE DELETE ON configurations
    FOR EACH ROW EXECUTE FUNCTION refuse('a configuration is not deleted');

CREATE TABLE key_catalogue (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    version  BIGINT NOT NULL CHECK (version >= 1),
    mac      BYTEA NOT NULL CHECK (length(mac) = 32),
    key_hash BYTEA NOT NULL CHECK (length(key_hash) = 32)
);
CREATE TRIGGER key_catalogue_counts_up BEFORE UPDATE ON key_catalogue
    FOR EACH ROW WHEN (NEW.version <= OLD.version OR NEW.key_hash <> OLD.key_hash)
    EXECUTE FUNCTION refuse('the version of the catalogue counts up, and its key stays');
CREATE TRIGGER key_catalogue_stays BEFORE DELETE ON key_catalogue
    FOR EACH ROW EXECUTE FUNCTION refuse('the version of the catalogue is not forgotten');

-- The audit log. A change puts its line here and commits; nobody waits for anybody else's.
CREATE TABLE audit_inbox (
    number     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         BIGINT NOT NULL,
    api_key_id TEXT,
    role       TEXT NOT NULL CHECK (role IN ('operator', 'issuer', 'merchant', 'terminal', 'device')),
    origin     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,
    result     TEXT NOT NULL CHECK (result IN ('succeeded', 'refused')),
    detail     TEXT
);
CREATE TABLE audit_events (
    sequence   BIGINT PRIMARY KEY,
    at         BIGINT NOT NULL,
    api_key_id TEXT,
    role       TEXT NOT NULL CHECK (role IN ('operator', 'issuer', 'merchant', 'terminal', 'device')),
    origin     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,
    result     TEXT NOT NULL CHECK (result IN ('succeeded', 'refused')),
    detail     TEXT
);
CREATE INDEX audit_events_of_restorations ON audit_events (sequence) WHERE action = 'platform.restored';
CREATE TABLE audit_links (
    sequence   BIGINT PRIMARY KEY CHECK (sequence >= 0),
    event_hash BYTEA NOT NULL CHECK (length(event_hash) = 32),
    hash       BYTEA NOT NULL CHECK (length(hash) = 32)
);
CREATE INDEX audit_links_by_event ON audit_links (event_hash);
CREATE TABLE audit_heads (
    -- In the order in which they were signed. SQLite has such a column in every table.
    rowid       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    restoration BIGINT NOT NULL CHECK (restoration >= 0),
    sequence    BIGINT NOT NULL REFERENCES audit_links (sequence),
    document    TEXT NOT NULL,
    key         BYTEA NOT NULL CHECK (length(key) = 64),
    signature   BYTEA NOT NULL CHECK (length(signature) = 64),
    UNIQUE (restoration, sequence)
);
CREATE TRIGGER audit_inbox_is_final BEFORE UPDATE ON audit_inbox
    FOR EACH ROW EXECUTE FUNCTION refuse('the audit log is not changed');
CREATE TRIGGER audit_events_are_final BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse('the audit log is not changed');
CREATE TRIGGER audit_links_are_final BEFORE UPDATE OR DELETE ON audit_links
    FOR EACH ROW EXECUTE FUNCTION refuse('the audit chain is not changed');
CREATE TRIGGER audit_heads_are_final BEFORE UPDATE OR DELETE ON audit_heads
    FOR EACH ROW EXECUTE FUNCTION refuse('an audit head is not changed');

-- Moves lines from the inbox behind the last link, with hashes that the platform made, all or none. It runs with the
-- owner's rights: a server can neither write a link in any other way nor take a line out of the inbox.
CREATE FUNCTION link_audit_events(last BIGINT, numbers BIGINT[], event_hashes BYTEA[], hashes BYTEA[])
RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    moved BIGINT;
BEGIN
    IF last <> (SELECT max(sequence) FROM audit_links) THEN
        RAISE EXCEPTION 'the audit chain has gone on' USING ERRCODE = 'serialization_failure';
    END IF;
    WITH waiting AS (
        SELECT number, last + place AS sequence
        FROM unnest(numbers) WITH ORDINALITY AS waiting (number, place)
    ), taken AS (
        DELETE FROM audit_inbox USING waiting WHERE audit_inbox.number = waiting.number
        RETURNING waiting.sequence, at, api_key_id, role, origin, request_id, action, object, result, detail
    ), linked AS (INSERT INTO audit_events SELECT * FROM taken RETURNING sequence)
    SELECT count(*) INTO moved FROM linked;
    IF moved <> cardinality(numbers) OR moved <> cardinality(hashes) OR moved <> cardinality(event_hashes) THEN
        RAISE EXCEPTION 'these are not all lines that wait in the inbox';
    END IF;
    INSERT INTO audit_links (sequence, event_hash, hash)
        SELECT last + place, event_hash, hash
        FROM unnest(event_hashes, hashes) WITH ORDINALITY AS made (event_hash, hash, place);
END $$;
