//! What somebody has added to the database who had the platform's login to it, when he is gone.

use serde_json::json;
use tapfer_test_postgres::{PLATFORM, TestPostgres};

use crate::phone::Till;
use crate::running::Platform;
use crate::shop::{Shop, issuer_request};
use crate::stand_in::until;

/// What docs/disaster-recovery.md has the database's owner say.
fn cure() -> &'static str {
    let page = include_str!("../../../../docs/disaster-recovery.md");
    let (_, section) = page.split_once("## When somebody added rows that stop a platform").unwrap();
    let (_, block) = section.split_once("```sql").unwrap();
    block.split_once("```").unwrap().0
}

/// Attack: revocations of certificates that nobody has signed, as many as fit into no document; an issuer that nobody knows; another
/// certificate in the place of an issuer's. Tills and phones are to hear nothing any more.
#[test]
fn attack_rows_that_keep_tills_from_hearing() {
    let database = TestPostgres::start();
    let platform = Platform::start_on(&database, "");
    let mut shop = Shop::open_at(platform, &issuer_request());
    assert_eq!(shop.pay(500)["outcome"], "approved");
    let path = format!("/v1/issuers/{}/certificate/revoke", shop.issuer_id);

    let revoke = "DO $$ DECLARE own BYTEA; made BYTEA; BEGIN
            SELECT certificate INTO own FROM tapfer.issuers;
            FOR n IN 1..20 LOOP
                made := overlay(own PLACING substring(int4send(n) FROM 2) FROM 13);
                UPDATE tapfer.issuers SET certificate = made;
                INSERT INTO tapfer.revoked_issuer_certificates (rid, ca_index, serial, issuer_id, reason, revoked_at)
                    SELECT substring(made FROM 16 FOR 5), get_byte(made, 20), substring(made FROM 13 FOR 3), id, 'his', 1
                    FROM tapfer.issuers;
            END LOOP;
        END $$";
    database.try_as(PLATFORM, revoke).unwrap();
    assert_eq!(database.ask("SELECT count(*) FROM tapfer.revoked_issuer_certificates"), "20");
    let stranger = "iss_11111111111111111111111111";
    let add = format!(
        "INSERT INTO tapfer.issuers SELECT '{stranger}', name, country, NULL, '456700', currency, aid, unverified_limit, policy_version,
             key_maximum_payments, key_maximum_total, key_lifetime_seconds, keys_per_replenishment, derivation_key_index, certificate,
             created_at, single_use, verified_payments FROM tapfer.issuers"
    );
    database.try_as(PLATFORM, &add).unwrap();
    // A policy that no platform can read, as the present one.
    let policy = "INSERT INTO tapfer.issuer_policies (issuer_id, version, document, created_at)
            SELECT id, 2, '{\"version\":2}', 1 FROM tapfer.issuers WHERE pan_prefix IS NOT NULL;
        UPDATE tapfer.issuers SET policy_version = 2 WHERE pan_prefix IS NOT NULL";
    database.try_as(PLATFORM, policy).unwrap();

    for client in [&shop.terminal, &shop.platform.operator] {
        let trust = client.get("/v1/trust").expect(200);
        assert_eq!(trust["revoked_certificates"], json!([]));
        assert_eq!(trust["issuers"].as_array().unwrap().len(), 1, "{trust}");
    }
    let made_up = shop.terminal.get("/v1/trust").expect(200)["issuers"][0]["certificate"].clone();
    shop.terminal.get("/v1/configuration").expect(200);
    // Nobody revokes what no authority has signed.
    let operator = shop.platform.operator.clone();
    let refused = operator.post(&path, &json!({ "reason": "his" }));
    assert_eq!(refused.problem(500), "internal");
    let next = json!({
        "name": "limit", "version": 0, "currency": "EUR", "limit": 2500, "up_to_limit": "screen_on", "above_limit": "unlocked"
    });
    let set = operator.put(&format!("/v1/issuers/{}/policy", shop.issuer_id), &next).expect(200);
    assert_eq!(set["policy"]["version"], 3, "{set}");

    // Its certificate is made anew when a platform starts.
    shop.platform.restart();
    let now_at = shop.platform.operator.clone();
    for client in [&mut shop.issuer, &mut shop.device, &mut shop.merchant, &mut shop.terminal] {
        *client = client.at(&now_at);
    }
    let trust = until("the issuer is certified anew", || {
        let trust = shop.terminal.get("/v1/trust").expect(200);
        (trust["issuers"][0]["certificate"] != made_up).then_some(trust)
    });
    shop.till = Till::trusting(&trust);
    shop.replenish();
    assert_eq!(shop.pay(500)["outcome"], "approved");

    // The owner of the database takes away what was added, and a genuine revocation is told.
    let cure = cure()
        .replace("REASON", "his")
        .replace("STRANGER", stranger)
        .replace("VERSION", "2")
        .replace("ISSUER", &shop.issuer_id);
    database.say(&cure);
    assert_eq!(database.ask("SELECT count(*) FROM tapfer.revoked_issuer_certificates"), "0");
    assert_eq!(
        database.ask(
            "SELECT string_agg(version::text, ' ' ORDER BY version) FROM tapfer.issuer_policies"
        ),
        "1 3"
    );
    let refused = database.try_as(PLATFORM, "UPDATE tapfer.issuers SET policy_version = 9");
    assert!(refused.is_err(), "the triggers are there again");
    assert_eq!(shop.pay(500)["outcome"], "approved");
    let revoked = now_at.post(&path, &json!({ "reason": "copied" })).expect(200);
    let trust = shop.terminal.get("/v1/trust").expect(200);
    assert_eq!(trust["revoked_certificates"], json!([revoked]));
}
