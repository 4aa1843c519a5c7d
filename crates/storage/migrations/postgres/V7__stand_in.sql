-- What a node decided alone while this database was away, and booked when it was back.
ALTER TABLE authorizations ADD COLUMN stand_in BIGINT NOT NULL DEFAULT 0;
ALTER TABLE authorizations ADD CONSTRAINT authorizations_stand_in_check CHECK (stand_in IN (0, 1)) NOT VALID;
-- Its counter may have been spent elsewhere meanwhile, and it is booked all the same. Which counters are spent says
-- transaction_counters, which is unique; an index without those payments would be built over every decision there is.
DROP INDEX authorizations_by_counter;

-- What an issuer pays in the place of cards that do not have it. Old rows are not looked at, so that no payment waits for this.
ALTER TABLE accounts DROP CONSTRAINT accounts_kind_check;
ALTER TABLE accounts ADD CONSTRAINT accounts_kind_check CHECK (kind IN
    ('issuer_funding', 'cardholder', 'held', 'merchant_payable', 'issuer_loss')) NOT VALID;
ALTER TABLE accounts DROP CONSTRAINT accounts_check;
ALTER TABLE accounts ADD CONSTRAINT accounts_check CHECK (balance >= 0 OR kind IN ('issuer_funding', 'issuer_loss')) NOT VALID;
ALTER TABLE ledger_transfers DROP CONSTRAINT ledger_transfers_kind_check;
ALTER TABLE ledger_transfers ADD CONSTRAINT ledger_transfers_kind_check CHECK (kind IN
    ('top_up', 'hold', 'capture', 'release', 'refund', 'reversal', 'loss')) NOT VALID;
