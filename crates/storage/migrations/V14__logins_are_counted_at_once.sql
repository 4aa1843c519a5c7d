-- Payments are counted from the login itself on, and phones are told the count with their keys: nothing depends on
-- which answer reached them.
ALTER TABLE token_histories DROP COLUMN login_heard;
