-- Rows that somebody with the platform's login adds to stop everybody, and that are there still when he is gone.

-- A revocation holds the certificate that it revokes, which is the issuer's at that moment: whoever adds one does not choose it.
-- Platforms tell of those alone that an authority of the realm has signed. Another with its serial number is in nobody's way.
ALTER TABLE revoked_issuer_certificates ADD COLUMN certificate BYTEA;
ALTER TABLE revoked_issuer_certificates DROP CONSTRAINT revoked_issuer_certificates_pkey;
ALTER TABLE revoked_issuer_certificates
    ADD CONSTRAINT revoked_issuer_certificates_once UNIQUE NULLS NOT DISTINCT (rid, ca_index, serial, certificate);
CREATE FUNCTION revoke_present_certificate() RETURNS TRIGGER LANGUAGE plpgsql
SET search_path = pg_catalog, tapfer, pg_temp AS $$ BEGIN
    NEW.certificate := (SELECT certificate FROM issuers WHERE id = NEW.issuer_id);
    -- Serial number, RID and index of the authority's key (Book E chapter 5).
    IF substring(NEW.certificate FROM 13 FOR 9) IS DISTINCT FROM
            NEW.serial || NEW.rid || decode(lpad(to_hex(NEW.ca_index), 2, '0'), 'hex') THEN
        RAISE EXCEPTION 'an issuer''s present certificate is revoked, and no other' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER revoked_issuer_certificates_are_present BEFORE INSERT ON revoked_issuer_certificates
    FOR EACH ROW EXECUTE FUNCTION revoke_present_certificate();

-- What platforms read of an issuer. Old rows are not looked at.
ALTER TABLE issuers ADD CONSTRAINT issuers_are_readable CHECK (
    id ~ '^iss_[0-7][0-9a-hjkmnp-tv-z]{25}$' AND length(name) <= 1024 AND pan_prefix ~ '^[0-9]{6,8}$' AND token_prefix ~ '^[0-9]{6,8}$'
    AND currency ~ '^[A-Z]{3}$' AND key_maximum_payments <= 65535 AND keys_per_replenishment <= 255 AND verified_payments <= 65535
    AND length(certificate) <= 1024) NOT VALID;
-- Payments find their issuer by the first digits.
CREATE FUNCTION refuse_taken_numbers() RETURNS TRIGGER LANGUAGE plpgsql
SET search_path = pg_catalog, tapfer, pg_temp AS $$ BEGIN
    IF EXISTS (SELECT FROM issuers AS other, unnest(ARRAY[other.pan_prefix, other.token_prefix]) AS taken,
            unnest(ARRAY[NEW.pan_prefix, NEW.token_prefix]) AS wanted
            WHERE starts_with(taken, wanted) OR starts_with(wanted, taken)) THEN
        RAISE EXCEPTION 'another issuer has these numbers' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER issuers_share_no_numbers BEFORE INSERT ON issuers FOR EACH ROW EXECUTE FUNCTION refuse_taken_numbers();

-- Versions of a policy count up: nobody uses up those to come, and the present one is there.
CREATE FUNCTION refuse_other_policy() RETURNS TRIGGER LANGUAGE plpgsql
SET search_path = pg_catalog, tapfer, pg_temp AS $$ BEGIN
    IF NEW.document::json ->> 'version' IS DISTINCT FROM NEW.version::text OR NEW.version IS DISTINCT FROM coalesce(
            (SELECT max(version) + 1 FROM issuer_policies WHERE issuer_id = NEW.issuer_id),
            (SELECT policy_version FROM issuers WHERE id = NEW.issuer_id)) THEN
        RAISE EXCEPTION 'a policy has the version behind its issuer''s newest, and says so' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER issuer_policies_count_up BEFORE INSERT ON issuer_policies FOR EACH ROW EXECUTE FUNCTION refuse_other_policy();
CREATE FUNCTION refuse_missing_policy() RETURNS TRIGGER LANGUAGE plpgsql
SET search_path = pg_catalog, tapfer, pg_temp AS $$ BEGIN
    IF NEW.policy_version < OLD.policy_version
            AND EXISTS (SELECT FROM issuer_policies WHERE issuer_id = OLD.id AND version = OLD.policy_version)
            OR NOT EXISTS (SELECT FROM issuer_policies WHERE issuer_id = NEW.id AND version = NEW.policy_version) THEN
        RAISE EXCEPTION 'an issuer''s policy is one that is there, and none from before' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER issuers_have_their_policy BEFORE UPDATE OF policy_version ON issuers
    FOR EACH ROW WHEN (NEW.policy_version <> OLD.policy_version) EXECUTE FUNCTION refuse_missing_policy();

-- Changes that all partitions hear of are counted one by one, and what was heard stays heard. In the home: where the number comes
-- by replication, no trigger is asked.
CREATE TRIGGER told_counts_up BEFORE UPDATE ON told
    FOR EACH ROW WHEN (NEW.number NOT IN (OLD.number, OLD.number + 1) OR NEW.heard < OLD.heard)
    EXECUTE FUNCTION refuse('what is told is counted one by one');

-- Phones of which a partition has said that they have a token there, and when, by the home's clock. The home does not see those
-- tokens: for 120 days it takes none of these phones for ended, and platforms ask again long before. In the home alone.
CREATE TABLE phones_in_use (
    device_id TEXT COLLATE "C" PRIMARY KEY,
    seen_at   BIGINT NOT NULL
);
CREATE FUNCTION see_phone() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = pg_catalog, tapfer, pg_temp AS $$ BEGIN
    NEW.seen_at := (date_part('epoch', clock_timestamp()) * 1000)::BIGINT;
    RETURN NEW;
END $$;
CREATE TRIGGER phones_in_use_are_seen BEFORE INSERT OR UPDATE ON phones_in_use FOR EACH ROW EXECUTE FUNCTION see_phone();
CREATE TRIGGER phones_in_use_stay BEFORE DELETE ON phones_in_use
    FOR EACH ROW EXECUTE FUNCTION refuse('a phone that was in use was in use');
-- Nobody has asked the partitions yet.
INSERT INTO phones_in_use (device_id, seen_at)
    SELECT id, 0 FROM devices WHERE EXISTS (SELECT FROM own_partition WHERE number = 0);
GRANT SELECT, INSERT, UPDATE (seen_at) ON phones_in_use TO tapfer_server;
CREATE OR REPLACE VIEW ended_data AS
    SELECT 'card' AS kind, c.id AS id, c.closed_seen_at AS ended_at FROM cards AS c
    WHERE c.closed_seen_at IS NOT NULL AND c.erased_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts AS a
        WHERE a.kind IN ('cardholder', 'held') AND a.owner = c.id AND a.balance <> 0)
    UNION ALL
    SELECT 'token', t.id, t.ended_seen_at FROM tokens AS t WHERE t.ended_seen_at IS NOT NULL AND t.erased_at IS NULL
    UNION ALL
    SELECT 'device', d.id, d.created_at FROM devices AS d
    WHERE substr(d.public_key, 2) <> decode(repeat('00', 64), 'hex')
        AND NOT EXISTS (SELECT 1 FROM tokens AS t WHERE t.device_id = d.id AND t.erased_at IS NULL)
        AND NOT EXISTS (SELECT 1 FROM phones_in_use AS p WHERE p.device_id = d.id
            AND p.seen_at > date_part('epoch', clock_timestamp()) * 1000 - 120 * 86400000::BIGINT);

REVOKE ALL ON FUNCTION revoke_present_certificate, refuse_taken_numbers, refuse_other_policy, refuse_missing_policy, see_phone FROM PUBLIC;
