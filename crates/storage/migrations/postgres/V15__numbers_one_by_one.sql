-- Who makes an issuer takes the turn that platforms take for it (`Guard::NumberRanges`), whoever he is: of two at once the second sees
-- what the first has taken. That needs a snapshot of its own behind the turn. And an issuer's own cards and tokens share no numbers.
CREATE OR REPLACE FUNCTION refuse_taken_numbers() RETURNS TRIGGER LANGUAGE plpgsql
SET search_path = pg_catalog, tapfer, pg_temp AS $$ BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'issuers are made at READ COMMITTED' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('NumberRanges number ranges', 0));
    IF starts_with(NEW.pan_prefix, NEW.token_prefix) OR starts_with(NEW.token_prefix, NEW.pan_prefix) THEN
        RAISE EXCEPTION 'an issuer''s cards and tokens have different numbers' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF EXISTS (SELECT FROM issuers AS other, unnest(ARRAY[other.pan_prefix, other.token_prefix]) AS taken,
            unnest(ARRAY[NEW.pan_prefix, NEW.token_prefix]) AS wanted
            WHERE starts_with(taken, wanted) OR starts_with(wanted, taken)) THEN
        RAISE EXCEPTION 'another issuer has these numbers' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION refuse_taken_numbers FROM PUBLIC;
