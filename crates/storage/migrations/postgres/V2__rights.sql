-- Who may do what. The migrations belong to the owner, whom no running platform logs in as. Roles are of the whole cluster:
-- another realm's database may have made them.
DO $$ DECLARE role TEXT; BEGIN
    FOREACH role IN ARRAY ARRAY['tapfer_server', 'tapfer_auditor', 'tapfer_issuer'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA tapfer TO %I', role);
    END LOOP;
END $$;

-- The platform: adds rows, and changes what is said here and nothing else. What was decided, booked or written into the
-- audit log it can neither change nor delete, nor can whoever got hold of it.
GRANT SELECT ON ALL TABLES IN SCHEMA tapfer TO tapfer_server;
GRANT INSERT ON issuers, cards, devices, tokens, token_changes, limited_use_keys, token_histories, person_keys, card_pins,
    merchants, terminals, terminal_certificates, revoked_issuer_certificates, api_keys, issuer_policies, integrity_policies,
    device_integrity, payment_intents, authorizations, transaction_counters, accounts, ledger_transfers, refunds, reversals,
    idempotency_answers, configurations, key_catalogue, audit_inbox, audit_heads TO tapfer_server;
GRANT UPDATE (derivation_key_index, certificate, policy_version, unverified_limit) ON issuers TO tapfer_server;
GRANT UPDATE (status, status_reason) ON cards TO tapfer_server;
GRANT UPDATE (store_epoch, store_next_offered, store_generation, locked_by, lock_reason, locked_at, store_may_be_ahead)
    ON devices TO tapfer_server;
GRANT UPDATE (status, suspended_by, first_granted_at) ON tokens TO tapfer_server;
GRANT UPDATE (used_payments, used_total, expires_at) ON limited_use_keys TO tapfer_server;
GRANT UPDATE (revoked_at, revocation_reason) ON terminals TO tapfer_server;
GRANT UPDATE (revoked_at) ON terminal_certificates TO tapfer_server;
GRANT UPDATE (revoked_at, signature) ON api_keys TO tapfer_server;
GRANT UPDATE (replaced_at) ON issuer_policies TO tapfer_server;
GRANT UPDATE (status, armed_terminal_id, arming_state, arming_expires_at, authorization_id, captured, refunded)
    ON payment_intents TO tapfer_server;
GRANT UPDATE (authorization_id, cryptogram, verified) ON transaction_counters TO tapfer_server;
GRANT UPDATE (balance) ON accounts TO tapfer_server;
GRANT UPDATE ON token_histories, person_keys, card_pins, integrity_policies, device_integrity, configurations,
    key_catalogue TO tapfer_server;
GRANT DELETE ON idempotency_answers TO tapfer_server;
REVOKE ALL ON FUNCTION link_audit_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION link_audit_events TO tapfer_server;

-- Auditors read the audit log, and what it takes to judge it.
GRANT SELECT ON realm, refinery_schema_history, audit_inbox, audit_events, audit_links, audit_heads, api_keys
    TO tapfer_auditor;

-- One issuer's own people, who read its rows with a login of their own: whose login it is stands here, where only the owner
-- writes. The platform serves all issuers and sees all rows; which caller may see which is its to decide.
CREATE TABLE issuer_logins (
    login     NAME PRIMARY KEY,
    issuer_id TEXT COLLATE "C" NOT NULL REFERENCES issuers (id)
);
CREATE FUNCTION issuer_of_login() RETURNS TEXT LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS
$$ SELECT issuer_id FROM issuer_logins WHERE login = session_user $$;
DO $$ DECLARE relation TEXT; column_of TEXT; BEGIN
    FOR relation, column_of IN VALUES ('issuers', 'id'), ('cards', 'issuer_id'), ('devices', 'issuer_id'),
        ('tokens', 'issuer_id'), ('issuer_policies', 'issuer_id'), ('integrity_policies', 'issuer_id') LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE format('CREATE POLICY platform ON %I TO tapfer_server USING (true) WITH CHECK (true)', relation);
        EXECUTE format('CREATE POLICY own_rows ON %I FOR SELECT TO tapfer_issuer USING (%I = issuer_of_login())',
            relation, column_of);
    END LOOP;
END $$;
-- Without sealed numbers, their hashes, and keys of phones.
GRANT SELECT ON issuers, issuer_policies, integrity_policies TO tapfer_issuer;
GRANT SELECT (id, issuer_id, last_four, expiry, status, status_reason, holder_reference, created_at) ON cards
    TO tapfer_issuer;
GRANT SELECT (id, issuer_id, label, created_at, locked_by, lock_reason, locked_at) ON devices TO tapfer_issuer;
GRANT SELECT (id, issuer_id, card_id, device_id, last_four, status, created_at) ON tokens TO tapfer_issuer;
