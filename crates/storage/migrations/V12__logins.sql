-- Payments since the phone heard of the last login at the issuer. A phone hears of it with its next keys, and both begin
-- to count then.
ALTER TABLE token_histories ADD COLUMN since_login INTEGER NOT NULL DEFAULT 0 CHECK (since_login >= 0);
ALTER TABLE token_histories ADD COLUMN login_heard INTEGER NOT NULL DEFAULT 1 CHECK (login_heard IN (0, 1));
