-- The custodians may agree on another catalogue of keys than the newest one, also an older one. That is this function's, which
-- runs with its owner's rights; by every other way the version only counts up.
CREATE FUNCTION owns_key_catalogue() RETURNS BOOLEAN LANGUAGE sql STABLE SET search_path FROM CURRENT AS
$$ SELECT pg_get_userbyid(relowner) = current_user FROM pg_class WHERE oid = 'key_catalogue'::regclass $$;
DROP TRIGGER key_catalogue_counts_up ON key_catalogue;
CREATE TRIGGER key_catalogue_counts_up BEFORE UPDATE ON key_catalogue
    FOR EACH ROW WHEN ((NEW.version <= OLD.version OR NEW.key_hash <> OLD.key_hash) AND NOT owns_key_catalogue())
    EXECUTE FUNCTION refuse('the version of the catalogue counts up, and its key stays');

CREATE FUNCTION accept_key_catalogue(accepted_version BIGINT, accepted_mac BYTEA, accepted_key_hash BYTEA)
RETURNS VOID LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS
$$ INSERT INTO key_catalogue (one, version, mac, key_hash) VALUES (1, accepted_version, accepted_mac, accepted_key_hash)
   ON CONFLICT (one) DO UPDATE SET version = accepted_version, mac = accepted_mac, key_hash = accepted_key_hash $$;
REVOKE ALL ON FUNCTION accept_key_catalogue FROM PUBLIC;
GRANT EXECUTE ON FUNCTION accept_key_catalogue TO tapfer_server;
