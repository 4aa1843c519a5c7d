-- What happens to money: intents, authorizations, the ledger, refunds, reversals.

CREATE TABLE payment_intents (
    id                TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'pi_*'),
    merchant_id       TEXT NOT NULL REFERENCES merchants (id),
    amount            INTEGER NOT NULL CHECK (amount BETWEEN 1 AND 999999999999),
    currency          TEXT NOT NULL CHECK (length(currency) = 3),
    reference         TEXT,
    capture_method    TEXT NOT NULL CHECK (capture_method IN ('automatic', 'manual')),
    status            TEXT NOT NULL CHECK (status IN (
        'requires_payment_method', 'requires_confirmation', 'requires_action', 'processing',
        'requires_capture', 'canceled', 'succeeded')),
    armed_terminal_id TEXT REFERENCES terminals (id),
    arming_state      TEXT CHECK (arming_state IN ('armed', 'consumed')),
    arming_expires_at INTEGER,
    authorization_id  TEXT REFERENCES authorizations (id),
    captured          INTEGER NOT NULL CHECK (captured BETWEEN 0 AND amount),
    refunded          INTEGER NOT NULL CHECK (refunded BETWEEN 0 AND captured),
    created_at        INTEGER NOT NULL,
    CHECK ((armed_terminal_id IS NULL) = (arming_state IS NULL)),
    CHECK ((armed_terminal_id IS NULL) = (arming_expires_at IS NULL)),
    -- Money is held or taken only after an approval.
    CHECK (status NOT IN ('requires_capture', 'succeeded') OR authorization_id IS NOT NULL)
) STRICT;
CREATE INDEX payment_intents_by_merchant ON payment_intents (merchant_id, id);
-- A terminal waits for one payment at a time.
CREATE UNIQUE INDEX payment_intents_armed ON payment_intents (armed_terminal_id)
    WHERE arming_state = 'armed';

CREATE TABLE authorizations (
    id                              TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'auth_*'),
    payment_intent_id               TEXT NOT NULL REFERENCES payment_intents (id),
    merchant_id                     TEXT NOT NULL REFERENCES merchants (id),
    terminal_id                     TEXT NOT NULL REFERENCES terminals (id),
    token_id                        TEXT REFERENCES tokens (id),
    card_id                         TEXT REFERENCES cards (id),
    -- 0 approved, otherwise the number of the reason.
    outcome                         INTEGER NOT NULL CHECK (outcome >= 0),
    amount                          INTEGER NOT NULL CHECK (amount > 0),
    currency                        TEXT NOT NULL CHECK (length(currency) = 3),
    application_transaction_counter INTEGER NOT NULL
        CHECK (application_transaction_counter BETWEEN 0 AND 65535),
    key_index                       BLOB CHECK (length(key_index) = 4),
    created_at                      INTEGER NOT NULL,
    CHECK (outcome <> 0 OR (token_id IS NOT NULL AND card_id IS NOT NULL)),
    CHECK ((token_id IS NULL) = (card_id IS NULL))
) STRICT;
CREATE INDEX authorizations_by_intent ON authorizations (payment_intent_id, id);
CREATE INDEX authorizations_by_merchant ON authorizations (merchant_id, id);
CREATE INDEX authorizations_by_terminal ON authorizations (terminal_id, id);
-- A payment is approved once.
CREATE UNIQUE INDEX authorizations_approved ON authorizations (payment_intent_id)
    WHERE outcome = 0;
-- A counter carries one approval. Beside the table below: belt and braces.
CREATE UNIQUE INDEX authorizations_by_counter
    ON authorizations (token_id, application_transaction_counter) WHERE outcome = 0;
CREATE TRIGGER authorizations_are_final BEFORE UPDATE ON authorizations
BEGIN SELECT RAISE(ABORT, 'a decision is not changed'); END;
CREATE TRIGGER authorizations_stay BEFORE DELETE ON authorizations
BEGIN SELECT RAISE(ABORT, 'a decision is not deleted'); END;

-- Every counter value that came with a right cryptogram, approved or not.
CREATE TABLE transaction_counters (
    token_id                        TEXT NOT NULL REFERENCES tokens (id),
    application_transaction_counter INTEGER NOT NULL
        CHECK (application_transaction_counter BETWEEN 0 AND 65535),
    authorization_id                TEXT NOT NULL REFERENCES authorizations (id),
    UNIQUE (token_id, application_transaction_counter)
) STRICT;

CREATE TABLE accounts (
    kind     TEXT NOT NULL
        CHECK (kind IN ('issuer_funding', 'cardholder', 'held', 'merchant_payable')),
    owner    TEXT NOT NULL,
    currency TEXT NOT NULL CHECK (length(currency) = 3),
    balance  INTEGER NOT NULL,
    PRIMARY KEY (kind, owner, currency),
    -- Only issuers may be below zero: by the money they have put into circulation.
    CHECK (balance >= 0 OR kind = 'issuer_funding')
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger_transfers (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL
        CHECK (kind IN ('top_up', 'hold', 'capture', 'release', 'refund', 'reversal')),
    from_kind  TEXT NOT NULL,
    from_owner TEXT NOT NULL,
    to_kind    TEXT NOT NULL,
    to_owner   TEXT NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount > 0),
    currency   TEXT NOT NULL,
    -- Id of what caused it, or the reference of a top-up.
    cause      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (from_kind, from_owner, currency) REFERENCES accounts (kind, owner, currency),
    FOREIGN KEY (to_kind, to_owner, currency) REFERENCES accounts (kind, owner, currency),
    CHECK (from_kind <> to_kind OR from_owner <> to_owner)
) STRICT;
CREATE INDEX ledger_transfers_by_source ON ledger_transfers (from_owner, from_kind, sequence);
CREATE INDEX ledger_transfers_by_target ON ledger_transfers (to_owner, to_kind, sequence);
CREATE TRIGGER ledger_transfers_are_final BEFORE UPDATE ON ledger_transfers
BEGIN SELECT RAISE(ABORT, 'a booking is not changed; book the opposite'); END;
CREATE TRIGGER ledger_transfers_stay BEFORE DELETE ON ledger_transfers
BEGIN SELECT RAISE(ABORT, 'a booking is not deleted; book the opposite'); END;

CREATE TABLE refunds (
    id                TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'ref_*'),
    payment_intent_id TEXT NOT NULL REFERENCES payment_intents (id),
    merchant_id       TEXT NOT NULL REFERENCES merchants (id),
    amount            INTEGER NOT NULL CHECK (amount > 0),
    currency          TEXT NOT NULL CHECK (length(currency) = 3),
    created_at        INTEGER NOT NULL
) STRICT;
CREATE INDEX refunds_by_intent ON refunds (payment_intent_id, id);
CREATE INDEX refunds_by_merchant ON refunds (merchant_id, id);

CREATE TABLE reversals (
    id               TEXT PRIMARY KEY NOT NULL CHECK (id GLOB 'rev_*'),
    -- An authorization is undone once.
    authorization_id TEXT NOT NULL UNIQUE REFERENCES authorizations (id),
    amount           INTEGER NOT NULL CHECK (amount > 0),
    currency         TEXT NOT NULL CHECK (length(currency) = 3),
    reason           TEXT NOT NULL,
    created_at       INTEGER NOT NULL
) STRICT;
