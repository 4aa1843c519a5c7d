-- Cards are closed for good, and what has ended is erased behind a limit. A closed card's row says "blocked" as well.
ALTER TABLE cards ADD COLUMN closed_at INTEGER;
ALTER TABLE cards ADD COLUMN erased_at INTEGER;
CREATE TRIGGER cards_stay_closed BEFORE UPDATE OF status, closed_at ON cards
WHEN OLD.closed_at IS NOT NULL AND (NEW.closed_at IS NOT OLD.closed_at OR NEW.status <> 'blocked')
BEGIN SELECT RAISE(ABORT, 'a closed card stays closed'); END;
CREATE TRIGGER cards_are_closed_blocked BEFORE UPDATE OF closed_at ON cards
WHEN NEW.closed_at IS NOT NULL AND NEW.status <> 'blocked'
BEGIN SELECT RAISE(ABORT, 'a closed card is blocked as well'); END;

ALTER TABLE tokens ADD COLUMN ended_at INTEGER;
ALTER TABLE tokens ADD COLUMN erased_at INTEGER;
UPDATE tokens SET ended_at = coalesce((SELECT max(changed_at) FROM token_changes
    WHERE token_id = tokens.id AND action = 'delete'), created_at) WHERE status = 'DEACTIVATED';

-- So many days what has ended is kept.
CREATE TABLE retention (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    days INTEGER NOT NULL CHECK (days BETWEEN 180 AND 3650),
    -- Whether the file was written anew behind the newest erasure: pages may hold more than their rows.
    is_rewritten INTEGER NOT NULL DEFAULT 1 CHECK (is_rewritten IN (0, 1))
) STRICT;
INSERT INTO retention (one, days) VALUES (1, 540);
CREATE TRIGGER retention_stays BEFORE DELETE ON retention
BEGIN SELECT RAISE(ABORT, 'there is a limit, whatever it is'); END;

-- What has ended and is not erased, and since when. A card with money waits until it is paid out; a phone counts from its
-- registration, and as long as it has a token that is not erased it has not ended.
CREATE INDEX cards_ended ON cards (closed_at) WHERE closed_at IS NOT NULL AND erased_at IS NULL;
CREATE INDEX tokens_ended ON tokens (ended_at) WHERE ended_at IS NOT NULL AND erased_at IS NULL;
CREATE VIEW ended_data AS
    SELECT 'card' AS kind, c.id AS id, c.closed_at AS ended_at FROM cards AS c
    WHERE c.closed_at IS NOT NULL AND c.erased_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts AS a
        WHERE a.kind IN ('cardholder', 'held') AND a.owner = c.id AND a.balance <> 0)
    UNION ALL
    SELECT 'token', t.id, t.ended_at FROM tokens AS t WHERE t.ended_at IS NOT NULL AND t.erased_at IS NULL
    UNION ALL
    SELECT 'device', d.id, d.created_at FROM devices AS d
    WHERE substr(d.public_key, 2) <> zeroblob(64)
        AND NOT EXISTS (SELECT 1 FROM tokens AS t WHERE t.device_id = d.id AND t.erased_at IS NULL);

-- Bookings may be of one kind more.
CREATE TABLE ledger_transfers_of_seven_kinds (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL
        CHECK (kind IN ('top_up', 'hold', 'capture', 'release', 'refund', 'reversal', 'pay_out')),
    from_kind  TEXT NOT NULL,
    from_owner TEXT NOT NULL,
    to_kind    TEXT NOT NULL,
    to_owner   TEXT NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount > 0),
    currency   TEXT NOT NULL,
    -- Id of what caused it, the reference of a top-up, or the reason of a pay-out.
    cause      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (from_kind, from_owner, currency) REFERENCES accounts (kind, owner, currency),
    FOREIGN KEY (to_kind, to_owner, currency) REFERENCES accounts (kind, owner, currency),
    CHECK (from_kind <> to_kind OR from_owner <> to_owner)
) STRICT;
INSERT INTO ledger_transfers_of_seven_kinds
    SELECT sequence, kind, from_kind, from_owner, to_kind, to_owner, amount, currency, cause, created_at FROM ledger_transfers;
DROP TABLE ledger_transfers;
ALTER TABLE ledger_transfers_of_seven_kinds RENAME TO ledger_transfers;
CREATE INDEX ledger_transfers_by_source ON ledger_transfers (from_owner, from_kind, sequence);
CREATE INDEX ledger_transfers_by_target ON ledger_transfers (to_owner, to_kind, sequence);
CREATE TRIGGER ledger_transfers_are_final BEFORE UPDATE ON ledger_transfers
BEGIN SELECT RAISE(ABORT, 'a booking is not changed; book the opposite'); END;
CREATE TRIGGER ledger_transfers_stay BEFORE DELETE ON ledger_transfers
BEGIN SELECT RAISE(ABORT, 'a booking is not deleted; book the opposite'); END;
