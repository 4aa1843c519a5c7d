-- The catalogue of keys itself, every key in it wrapped under root keys that are not here: what one node makes, all others
-- take over. Its MAC, which the root keys make, says whether it is the realm's.
CREATE TABLE key_catalogue_copy (
    one     BIGINT PRIMARY KEY CHECK (one = 1),
    version BIGINT NOT NULL CHECK (version >= 1),
    file    BYTEA NOT NULL
);
CREATE TRIGGER key_catalogue_copy_stays BEFORE DELETE ON key_catalogue_copy
    FOR EACH ROW EXECUTE FUNCTION refuse('the catalogue is not forgotten');
GRANT SELECT, INSERT, UPDATE ON key_catalogue_copy TO tapfer_server;

-- What nodes keep in memory and others change is told with the commit of the change. Only what changes seldom: PostgreSQL
-- puts all commits that tell something into one line.
CREATE FUNCTION tell_nodes() RETURNS TRIGGER LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('tapfer', TG_TABLE_NAME); RETURN NULL; END $$;
CREATE TRIGGER key_catalogue_is_told AFTER INSERT OR UPDATE ON key_catalogue
    FOR EACH STATEMENT EXECUTE FUNCTION tell_nodes();
