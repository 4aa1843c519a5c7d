-- A node that stands in goes by what it has seen. What takes trust away at another node is told with the commit, row by row; it
-- changes seldom, and no payment does it.
CREATE FUNCTION tell_row() RETURNS TRIGGER LANGUAGE plpgsql
SET search_path = pg_catalog, tapfer, pg_temp AS $$ BEGIN PERFORM pg_notify('tapfer', TG_TABLE_NAME || ' ' || NEW.id); RETURN NULL; END $$;
CREATE TRIGGER cards_tell_blocks AFTER UPDATE OF status ON cards
    FOR EACH ROW WHEN (NEW.status <> 'active' AND OLD.status = 'active') EXECUTE FUNCTION tell_row();
CREATE TRIGGER tokens_tell_ends AFTER UPDATE OF status ON tokens
    FOR EACH ROW WHEN (NEW.status <> 'ACTIVE' AND OLD.status = 'ACTIVE') EXECUTE FUNCTION tell_row();
CREATE TRIGGER terminals_tell_ends AFTER UPDATE OF revoked_at ON terminals
    FOR EACH ROW WHEN (NEW.revoked_at IS NOT NULL AND OLD.revoked_at IS NULL) EXECUTE FUNCTION tell_row();
CREATE TRIGGER api_keys_tell_ends AFTER UPDATE OF revoked_at ON api_keys
    FOR EACH ROW WHEN (NEW.revoked_at IS NOT NULL AND OLD.revoked_at IS NULL) EXECUTE FUNCTION tell_row();
CREATE TRIGGER issuers_tell AFTER UPDATE ON issuers FOR EACH ROW EXECUTE FUNCTION tell_row();

-- What an issuer asks of phones, and a phone that failed it.
CREATE FUNCTION tell_issuer() RETURNS TRIGGER LANGUAGE plpgsql
SET search_path = pg_catalog, tapfer, pg_temp AS $$ BEGIN PERFORM pg_notify('tapfer', 'issuers ' || NEW.issuer_id); RETURN NULL; END $$;
CREATE TRIGGER integrity_policies_tell AFTER INSERT OR UPDATE ON integrity_policies
    FOR EACH ROW EXECUTE FUNCTION tell_issuer();
CREATE FUNCTION tell_device() RETURNS TRIGGER LANGUAGE plpgsql
SET search_path = pg_catalog, tapfer, pg_temp AS $$ BEGIN PERFORM pg_notify('tapfer', 'devices ' || NEW.device_id); RETURN NULL; END $$;
CREATE TRIGGER device_integrity_tells AFTER INSERT OR UPDATE OF standing ON device_integrity
    FOR EACH ROW WHEN (NEW.standing = 'failed') EXECUTE FUNCTION tell_device();

REVOKE ALL ON FUNCTION tell_row, tell_issuer, tell_device FROM PUBLIC;

-- The server's statistics keep samples of columns, in clear, behind the end of their rows. No plan needs these. A column's
-- samples go with a change of its type, which this is not one of.
ALTER TABLE cards ALTER COLUMN number_sealed SET STATISTICS 0, ALTER COLUMN number_hash SET STATISTICS 0,
    ALTER COLUMN holder_reference SET STATISTICS 0,
    ALTER COLUMN number_sealed TYPE BYTEA, ALTER COLUMN number_hash TYPE BYTEA, ALTER COLUMN holder_reference TYPE TEXT;
ALTER TABLE tokens ALTER COLUMN number_sealed SET STATISTICS 0, ALTER COLUMN number_hash SET STATISTICS 0,
    ALTER COLUMN number_sealed TYPE BYTEA, ALTER COLUMN number_hash TYPE BYTEA;
ALTER TABLE card_pins ALTER COLUMN value SET STATISTICS 0, ALTER COLUMN value TYPE BYTEA;
ALTER TABLE person_keys ALTER COLUMN key_sealed SET STATISTICS 0, ALTER COLUMN request_hash SET STATISTICS 0,
    ALTER COLUMN refused_hash SET STATISTICS 0, ALTER COLUMN key_sealed TYPE BYTEA,
    ALTER COLUMN request_hash TYPE BYTEA, ALTER COLUMN refused_hash TYPE BYTEA;
ALTER TABLE devices ALTER COLUMN label SET STATISTICS 0, ALTER COLUMN public_key SET STATISTICS 0,
    ALTER COLUMN label TYPE TEXT;
ALTER TABLE device_integrity ALTER COLUMN challenge SET STATISTICS 0, ALTER COLUMN challenge TYPE BYTEA;
