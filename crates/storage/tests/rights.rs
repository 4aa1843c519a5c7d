//! What somebody comes to who has a login to a real PostgreSQL server: a platform's, an issuer's people's, an auditor's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod world;

use std::thread;

use tapfer_payment_types::Currency;
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payments::intents::CaptureMethod;
use tapfer_storage::postgres::{
    Part, PostgresStorage, Slot, close_partition, look, make_partition, migrate,
};
use tapfer_storage::{Page, StorageError};
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};
use world::backend::{migrated, options, platform};
use world::{World, certificate, done, issuer, realm, write};

/// A server that is as PostgreSQL makes it, where everybody may make temporary tables.
fn everybody_makes_temporary_tables(server: &TestPostgres) {
    server.say("GRANT TEMPORARY ON DATABASE postgres TO PUBLIC");
}

/// What a login might have come to, once it has tried.
fn rights_of(server: &TestPostgres, login: &str) -> String {
    server.ask(&format!(
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
         WHERE relnamespace = 'tapfer'::regnamespace AND relkind = 'r' AND has_table_privilege('{login}', oid, 'DELETE')"
    ))
}

/// Attack: a function that runs as the tables' owner is led to a temporary table or view of the attacker's, with a function
/// of his on it, which would run as the owner then.
#[test]
fn attack_functions_of_the_owner_led_to_temporary_tables() {
    let server = migrated();
    let world = World::new(platform(&server));
    world.pay_new(1, 100, CaptureMethod::Automatic);
    let end = world.store.audit_end().unwrap().sequence;
    everybody_makes_temporary_tables(&server);
    server.say("CREATE ROLE anna LOGIN IN ROLE tapfer_auditor; CREATE ROLE bert LOGIN IN ROLE tapfer_issuer");
    let evil = |returns: &str, what: &str| {
        format!(
            "CREATE FUNCTION pg_temp.evil() RETURNS {returns} LANGUAGE plpgsql AS $$ BEGIN
                 EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA tapfer TO %I', session_user);
                 RETURN {what}; END $$;"
        )
    };
    let view = evil("BOOLEAN", "true")
        + "CREATE TEMP VIEW issuer_logins AS
               SELECT session_user AS login, 'iss_x'::text AS issuer_id WHERE pg_temp.evil();
           GRANT SELECT ON issuer_logins TO PUBLIC;
           SELECT tapfer.issuer_of_login()";
    assert_eq!(server.try_as("bert", &view).unwrap(), "", "no issuer's");
    let refused = server.try_as("anna", &view).unwrap_err();
    assert!(refused.contains("permission denied for function issuer_of_login"), "{refused}");
    for last in [end, 1_000_000] {
        let table = evil("TRIGGER", "NULL")
            + &format!(
                "CREATE TEMP TABLE audit_links (sequence BIGINT, event_hash BYTEA, hash BYTEA);
                 INSERT INTO audit_links VALUES ({last}, 'x', 'x');
                 CREATE TRIGGER evil BEFORE INSERT ON audit_links FOR EACH ROW EXECUTE FUNCTION pg_temp.evil();
                 GRANT ALL ON audit_links TO PUBLIC;
                 INSERT INTO tapfer.audit_inbox (at, role, origin, request_id, action, object, result)
                     VALUES (1, 'operator', 'x', 'x', 'card.blocked', 'x', 'succeeded');
                 SELECT tapfer.link_audit_events({last}, ARRAY(SELECT number FROM tapfer.audit_inbox), ARRAY['x'::bytea], ARRAY['x'::bytea])"
            );
        let _perhaps = server.try_as(PLATFORM, &table);
    }
    for login in ["anna", "bert", PLATFORM] {
        assert_eq!(rights_of(&server, login), "", "{login}");
    }
    assert_eq!(world.store.verify_audit().unwrap().fault, None);

    // Rows of an issuer whose name he puts beside his own.
    let other = format!(
        "CREATE TEMP TABLE issuer_logins (login NAME, issuer_id TEXT); GRANT SELECT ON issuer_logins TO PUBLIC;
         INSERT INTO issuer_logins VALUES (session_user, '{}'); SELECT count(*) FROM tapfer.cards",
        world.issuer.id
    );
    assert_eq!(server.try_as("bert", &other).unwrap(), "0");

    // A partition that takes nothing more.
    let part = Part { number: 1, partitions: 2, place: 1 };
    server.say("TRUNCATE cards CASCADE");
    make_partition(&options(&server, OWNER), part).unwrap();
    close_partition(&options(&server, OWNER)).unwrap();
    let behind = "CREATE TEMP TABLE own_partition (closed BIGINT);
        INSERT INTO tapfer.audit_inbox (at, role, origin, request_id, action, object, result)
            VALUES (1, 'operator', 'x', 'x', 'card.blocked', 'x', 'succeeded')";
    let refused = server.try_as(PLATFORM, behind).unwrap_err();
    assert!(refused.contains("this partition was closed"), "{refused}");
}

/// Each function looks for names among temporary tables last, and nobody calls one who has no need to.
#[test]
fn functions_are_led_nowhere_and_called_by_few() {
    let server = migrated();
    let led = "SELECT proname FROM pg_proc WHERE pronamespace = 'tapfer'::regnamespace
        AND proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, tapfer, pg_temp']";
    assert_eq!(server.ask(led), "");
    let elsewhere =
        "SELECT DISTINCT p.proname FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE NOT t.tgisinternal AND p.pronamespace <> 'tapfer'::regnamespace";
    assert_eq!(server.ask(elsewhere), "");
    let called = "SELECT proname FROM pg_proc WHERE pronamespace = 'tapfer'::regnamespace
        AND has_function_privilege('public', oid, 'EXECUTE')";
    assert_eq!(server.ask(called), "");
    let of_owner =
        "SELECT count(*) FROM pg_proc WHERE pronamespace = 'tapfer'::regnamespace AND prosecdef";
    assert!(server.ask(of_owner).parse::<u16>().unwrap() >= 5);
}

#[test]
fn nobody_needs_temporary_tables() {
    let server = migrated();
    drop(platform(&server));
    let make = "CREATE TEMP TABLE mine (one BIGINT)";
    assert!(server.try_as(PLATFORM, make).unwrap_err().contains("permission denied"));
    everybody_makes_temporary_tables(&server);
    server.try_as(PLATFORM, make).unwrap();
    let refused = PostgresStorage::open(&options(&server, PLATFORM), realm()).unwrap_err();
    assert!(matches!(refused, StorageError::TooManyRights(_)), "{refused}");
    assert!(refused.to_string().contains("REVOKE TEMPORARY ON DATABASE postgres"), "{refused}");
    look(&options(&server, PLATFORM), realm()).unwrap_err();
    migrate(&options(&server, OWNER), realm()).unwrap();
    // Of others it is said.
    server.say("CREATE ROLE anna LOGIN; GRANT TEMPORARY ON DATABASE postgres TO anna");
    drop(platform(&server));
    let found = look(&options(&server, PLATFORM), realm()).unwrap();
    assert_eq!(found.makers_of_temporary_tables, ["anna"]);
    assert_eq!(found.strange_slots, []);
}

#[test]
fn a_slot_that_nobody_reads_is_named() {
    let server = migrated();
    server.say("SELECT pg_create_physical_replication_slot('left')");
    let found = look(&options(&server, PLATFORM), realm()).unwrap().strange_slots;
    let expected = Slot { name: "left".into(), kind: "physical".into(), is_read: false };
    assert_eq!(found, [expected]);
}

/// Attack: rows with numbers that honest ones would get later, which are final and in their way.
#[test]
fn attack_numbers_of_rows_to_come() {
    let server = migrated();
    let world = World::new(platform(&server));
    world.pay_new(1, 100, CaptureMethod::Automatic);
    world.store.audit_end().unwrap();
    for (table, number) in [
        ("ledger_transfers", "sequence"),
        ("token_changes", "sequence"),
        ("audit_inbox", "number"),
        ("audit_heads", "rowid"),
    ] {
        let columns = server.ask(&format!(
            "SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = '{table}'::regclass AND attnum > 0 AND attidentity = ''"
        ));
        let insert = format!(
            "INSERT INTO {table} ({number}, {columns}) OVERRIDING SYSTEM VALUE
             SELECT (SELECT coalesce(max({number}), 0) FROM {table}) + i, {columns} FROM {table}, generate_series(1, 200) AS i"
        );
        let refused = server.try_as(PLATFORM, &insert).unwrap_err();
        assert!(refused.contains("permission denied for table"), "{table}: {refused}");
    }
    // Whichever tables come.
    let chosen = format!(
        "SELECT attrelid::regclass FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'tapfer'::regnamespace AND a.attidentity <> ''
             AND has_column_privilege('{PLATFORM}', a.attrelid, a.attnum, 'INSERT')"
    );
    assert_eq!(server.ask(&chosen), "");
    assert!(world.pay_new(2, 100, CaptureMethod::Automatic).outcome.is_approved());
}

/// Attack: the platform's login has lines linked with hashes of its own making, or with none, so that the chain ends or is
/// another one from there on.
#[test]
fn attack_links_of_the_logins_own_making() {
    let server = migrated();
    let world = World::new(platform(&server));
    world.store.audit_end().unwrap();
    let line = line("card.blocked", "'x'");
    let hashes = "array[decode(repeat('ab', 32), 'hex')], array[decode(repeat('cd', 32), 'hex')]";
    for (counter, made_up) in (1..).zip(["NULL, NULL", hashes]) {
        let link = format!(
            "{line}; SELECT link_audit_events((SELECT max(sequence) FROM audit_links),
                 ARRAY(SELECT number FROM audit_inbox ORDER BY number), {made_up})"
        );
        server.try_as(PLATFORM, &link).unwrap();
        world.pay_new(counter, 100, CaptureMethod::Automatic);
        let report = world.store.verify_audit().unwrap();
        assert_eq!(report.fault, None, "{made_up}");
        assert_eq!(world.store.audit_end().unwrap(), report.sound);
    }
    assert_eq!(server.ask("SELECT count(*) FROM audit_events WHERE object = 'x'"), "2");
}

/// What the platform's login writes by hand.
fn line(action: &str, object: &str) -> String {
    format!(
        "INSERT INTO audit_inbox (at, role, origin, request_id, action, object, result)
         VALUES (1, 'operator', 'x', 'x', '{action}', {object}, 'succeeded')"
    )
}

/// Attack: the platform's login writes a line that no platform can read, so that none behind it is ever linked: nothing is signed
/// then, phones get no keys, and nobody can say that it goes on.
#[test]
fn attack_line_that_no_platform_can_read() {
    let server = migrated();
    let world = World::new(platform(&server));
    server.try_as(PLATFORM, &line("", "'Grüße, 3 €'")).unwrap();
    world.pay_new(1, 100, CaptureMethod::Automatic);
    let end = world.store.audit_end().unwrap();
    assert_eq!(server.ask("SELECT count(*) FROM audit_inbox"), "0");
    // One that is taken for a restoration, and says nothing of which.
    server.try_as(PLATFORM, &line("platform.restored", "'x'")).unwrap();
    assert!(matches!(world.store.audit_end(), Err(StorageError::Inconsistent(_))));
    let restored = done(world.store.restore("looked into it".into(), write()));
    let later = world.store.audit_end().unwrap();
    assert_eq!(later.restoration, restored);
    assert!(world.store.audit_leads(Some(end), later).unwrap());
    let report = world.store.verify_audit().unwrap();
    let found = (report.fault, report.sound.hash, report.unread);
    assert_eq!(found, (None, later.hash, 1));
    // One that cannot be hashed in the time that there is.
    let refused = server.try_as(PLATFORM, &line("x", "repeat('x', 140000)")).unwrap_err();
    assert!(refused.contains("audit_inbox_is_short"), "{refused}");
}

/// Which links lead to an end is the node's own to say, whoever wrote them.
#[test]
fn links_are_followed_from_a_head_or_from_the_last_restoration() {
    let server = migrated();
    let world = World::new(platform(&server));
    let store = &world.store;
    let head = store.audit_end().unwrap();
    let many = "INSERT INTO audit_inbox (at, role, origin, request_id, action, object, result)
        SELECT 1, 'operator', 'x', 'x', 'card.blocked', 'x', 'succeeded' FROM generate_series(1, 2500)";
    server.try_as(PLATFORM, many).unwrap();
    let end = store.audit_end().unwrap();
    assert_eq!(end.sequence, head.sequence + 2_500);
    assert!(store.audit_leads(Some(head), end).unwrap() && store.audit_leads(None, end).unwrap());
    assert!(store.audit_leads(Some(end), end).unwrap());
    server.say(&format!(
        "SET session_replication_role = replica;
         UPDATE audit_links SET hash = decode(repeat('cd', 32), 'hex') WHERE sequence = {}",
        head.sequence + 1_200
    ));
    assert!(!store.audit_leads(Some(head), end).unwrap());
    assert!(!store.audit_leads(None, end).unwrap());
    done(store.restore("looked into it".into(), write()));
    let end = store.audit_end().unwrap();
    assert!(store.audit_leads(None, end).unwrap());
    assert!(!store.audit_leads(Some(head), end).unwrap());
}

/// Attack: the platform's login adds rows that stand when he is gone: versions of a policy up to the last, revocations of what an
/// issuer does not have, issuers that cannot be read or have the numbers of others. Payments, or what tills are told, are to stop.
#[test]
fn attack_rows_added_to_stop_a_platform() {
    let server = migrated();
    let world = World::new(platform(&server));
    let issuer_id = world.issuer.id;
    done(world.store.renew_issuer_keys(issuer_id, 1, certificate(1), write()));
    let policy = |version: &str, document: &str| {
        format!(
            "INSERT INTO issuer_policies (issuer_id, version, document, created_at) VALUES ('{issuer_id}', {version}, '{document}', 1)"
        )
    };
    let stranger = |id: &str, prefix: &str, currency: &str, payments: &str| {
        format!(
            "INSERT INTO issuers SELECT '{id}', name, country, NULL, '{prefix}', '{currency}', aid, unverified_limit, policy_version, {payments},
                 key_maximum_total, key_lifetime_seconds, keys_per_replenishment, derivation_key_index, certificate FROM issuers LIMIT 1"
        )
        .replace("certificate FROM", "certificate, created_at, single_use, verified_payments FROM")
    };
    let revoked = |serial: &str| {
        format!(
            "INSERT INTO revoked_issuer_certificates (rid, ca_index, serial, issuer_id, reason, revoked_at)
             SELECT '\\xf054415046', 1, substring(int4send(n) FROM 2), '{issuer_id}', 'x', 1 FROM generate_series({serial}) AS n"
        )
    };
    let one = format!("iss_{}", "1".repeat(26));
    let longer = format!("{}00", &world.issuer.token_prefix.as_str()[..6]);
    for (sql, said) in [
        (policy("16777215", "{\"version\":16777215}"), "the version behind its issuer's newest"),
        (policy("3", "{\"version\":3}"), "the version behind its issuer's newest"),
        (policy("2", "{\"version\":3}"), "the version behind its issuer's newest"),
        ("UPDATE issuers SET policy_version = 16777215".to_owned(), "one that is there"),
        ("UPDATE issuers SET policy_version = 0".to_owned(), "one that is there"),
        (revoked("2, 20000"), "present certificate"),
        (stranger("iss_bad", "45670000", "EUR", "1"), "issuers_are_readable"),
        (stranger(&one.replace('1', "u"), "45670000", "EUR", "1"), "issuers_are_readable"),
        (stranger(&one, "4567ABCD", "EUR", "1"), "issuers_are_readable"),
        (stranger(&one, "45670000", "eur", "1"), "issuers_are_readable"),
        (stranger(&one, "45670000", "EUR", "70000"), "issuers_are_readable"),
        (stranger(&one, &longer, "EUR", "1"), "has these numbers"),
    ] {
        let refused = server.try_as(PLATFORM, &sql).unwrap_err();
        assert!(refused.contains(said), "{sql}: {refused}");
    }

    // A version that waits is stepped over, and so is one that was made the present one; no payment is judged by it for long.
    let set = |limit| {
        let policy = VerificationPolicy::by_limit(0, Currency::EUR, limit);
        done(world.store.set_policy(issuer_id, policy, write())).policy.version
    };
    server.try_as(PLATFORM, &policy("2", "{\"version\":2}")).unwrap();
    assert_eq!(set(3_000), 3);
    let nothing = "SELECT count(*) FROM issuer_policies WHERE replaced_at IS NULL";
    assert_eq!(server.ask(nothing), "1");
    let present = policy("4", "{\"version\":4}") + "; UPDATE issuers SET policy_version = 4";
    server.try_as(PLATFORM, &present).unwrap();
    assert!(matches!(world.store.policy(issuer_id), Err(StorageError::Inconsistent(_))));
    assert_eq!(set(2_500), 5);
    assert_eq!(world.store.policy(issuer_id).unwrap().unwrap().policy.version, 5);
    assert!(world.pay_new(1, 100, CaptureMethod::Automatic).outcome.is_approved());

    // What cannot be read and stands there from before keeps nobody from the others, nor from new ones.
    server.say("ALTER TABLE issuers DROP CONSTRAINT issuers_are_readable");
    let unreadable = (800_000..800_150)
        .map(|number| stranger(&format!("iss_{number}"), &number.to_string(), "XXX", "1"));
    server.say(&unreadable.collect::<Vec<_>>().join(";"));
    let listed = world.store.list_issuers(Page::first(1)).unwrap();
    assert_eq!(listed.items.iter().map(|found| found.id).collect::<Vec<_>>(), [issuer_id]);
    assert_eq!(listed.next, None);
    done(world.store.create_issuer(issuer(9, "46000000"), write()));
    let mut page = Page::first(1);
    page.cursor = world.store.list_issuers(page).unwrap().next;
    assert_eq!(world.store.list_issuers(page).unwrap().items[0].id, issuer_id);
    let taken = world.store.create_issuer(issuer(8, "80014900"), write());
    assert!(matches!(taken, Err(StorageError::Refused(_))), "it has its numbers");
    assert!(world.pay_new(2, 100, CaptureMethod::Automatic).outcome.is_approved());
}

/// Attack: an issuer with numbers that another one is just being given, or with one number for its own cards and tokens: payments
/// would find either.
#[test]
fn attack_issuers_with_the_same_numbers_at_once() {
    let server = migrated();
    let world = World::new(platform(&server));
    let [one, other] = ["1", "2"].map(|digit| format!("iss_{}", digit.repeat(26)));
    let add = |id: &str, pan: &str, token: &str| {
        format!(
            "INSERT INTO issuers SELECT '{id}', name, country, {pan}, '{token}', currency, aid, unverified_limit, policy_version,
                 key_maximum_payments, key_maximum_total, key_lifetime_seconds, keys_per_replenishment, derivation_key_index, certificate,
                 created_at, single_use, verified_payments FROM issuers WHERE id = '{}'",
            world.issuer.id
        )
    };
    for (pan, token) in [("'456000'", "45600000"), ("'45600000'", "456000"), ("'456000'", "456000")]
    {
        let refused = server.try_as(PLATFORM, &add(&one, pan, token)).unwrap_err();
        assert!(refused.contains("different numbers"), "{refused}");
    }
    // Who looked before another was there sees it never.
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let late =
            format!("BEGIN ISOLATION LEVEL {level}; {}; COMMIT", add(&other, "NULL", "456000"));
        let refused = server.try_as(PLATFORM, &late).unwrap_err();
        assert!(refused.contains("READ COMMITTED"), "{refused}");
    }

    // One commits once the other waits for it, or did not.
    let first = format!(
        "BEGIN; {}; SELECT pg_advisory_xact_lock(77);
         DO $$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted)
             OR EXISTS (SELECT FROM issuers WHERE id = '{other}'); END LOOP; END $$;
         COMMIT",
        add(&one, "NULL", "456000")
    );
    thread::scope(|scope| {
        let first = scope.spawn(|| server.try_as(PLATFORM, &first));
        let holds = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77";
        while server.ask(holds) == "0" && !first.is_finished() {
            thread::yield_now();
        }
        let second = server.try_as(PLATFORM, &add(&other, "'45600011'", "46000000"));
        first.join().unwrap().unwrap();
        let refused = second.unwrap_err();
        assert!(refused.contains("another issuer has these numbers"), "{refused}");
    });
    let taken = world.store.create_issuer(issuer(9, "45600022"), write());
    assert!(matches!(taken, Err(StorageError::Refused(_))), "it has its numbers");
    done(world.store.create_issuer(issuer(9, "46000000"), write()));
}

/// Attack: a login that only reads takes all connections there are, and a platform that starts gets none. Who looks hears of it before,
/// and who gets none hears why.
#[test]
fn attack_connections_taken_by_a_login_that_only_reads() {
    let server = migrated();
    server.say(
        "CREATE ROLE anna LOGIN IN ROLE tapfer_auditor; CREATE ROLE bert LOGIN CONNECTION LIMIT 3 IN ROLE tapfer_issuer;
         GRANT EXECUTE ON FUNCTION lo_create TO PUBLIC",
    );
    let found = look(&options(&server, PLATFORM), realm()).unwrap();
    assert_eq!(found.logins_without_limit, ["anna"]);
    assert!(found.large_objects_are_open);
    migrate(&options(&server, OWNER), realm()).unwrap();
    server.say("ALTER ROLE anna CONNECTION LIMIT 3");
    let found = look(&options(&server, PLATFORM), realm()).unwrap();
    assert_eq!((found.logins_without_limit, found.large_objects_are_open), (vec![], false));

    server.say(&format!("ALTER ROLE {PLATFORM} CONNECTION LIMIT 0"));
    let refused = PostgresStorage::open(&options(&server, PLATFORM), realm()).unwrap_err();
    assert!(matches!(refused, StorageError::NoConnection(_)), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("no connection left") && said.contains("CONNECTION LIMIT"), "{said}");
}
