-- The answer to a change that every partition has to hear of, and the number it waits for. Taken out when all have heard it.
CREATE TABLE untold_answers (
    api_key_id TEXT NOT NULL,
    key        TEXT NOT NULL,
    number     BIGINT NOT NULL CHECK (number >= 1),
    PRIMARY KEY (api_key_id, key)
);
GRANT SELECT, INSERT, UPDATE ON untold_answers TO tapfer_server;
CREATE FUNCTION forget_told() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$ BEGIN
    DELETE FROM untold_answers WHERE number <= NEW.heard;
    RETURN NULL;
END $$;
CREATE TRIGGER told_is_forgotten AFTER UPDATE OF heard ON told FOR EACH ROW EXECUTE FUNCTION forget_told();

-- A map is kept under the version behind the newest: whoever writes here cannot take those that are still to come.
CREATE FUNCTION refuse_other_version() RETURNS TRIGGER LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
    IF NEW.version <> (SELECT coalesce(max(version), 0) + 1 FROM partition_maps) THEN
        RAISE EXCEPTION 'the next partition map has the version behind the newest';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER partition_maps_count_up BEFORE INSERT ON partition_maps
    FOR EACH ROW EXECUTE FUNCTION refuse_other_version();

-- As before (V6), and rows that are younger than they say keep none behind them.
CREATE OR REPLACE FUNCTION forget_answers(before BIGINT, at_most BIGINT) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    forgotten BIGINT;
    began BIGINT := (SELECT since FROM answers_vouched WHERE one = 1);
    youngest BIGINT := (date_part('epoch', clock_timestamp()) * 1000)::BIGINT - 29 * 86400000::BIGINT;
BEGIN
    WITH oldest AS (
        SELECT api_key_id, key FROM idempotency_answers
        WHERE created_at < before AND CASE WHEN inserted_at <= began THEN created_at ELSE inserted_at END < youngest
        ORDER BY created_at LIMIT at_most
    )
    DELETE FROM idempotency_answers AS a USING oldest
    WHERE a.api_key_id = oldest.api_key_id AND a.key = oldest.key;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $$;
