//! API keys in the database count only as the platform has signed them. With the real binary, and a hand on its database.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod custodians;
mod platform;

use std::time::Duration;

use custodians::{Table, as_str, done, text};
use platform::{Platform, tapfer, until};
use rusqlite::Connection;
use serde_json::Value;

/// One more key of the operator: its id, and the text.
fn another_key(platform: &Platform) -> (String, String) {
    let made = platform.tapfer(&["api-key", "create", "--owner", "operator"]);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("api_key"))
}

fn is_let_in(platform: &Platform, key: &str) -> bool {
    let mut list = tapfer();
    list.args(["api-key", "list", "--json", "--home"]).arg(platform.home());
    let output = list.env("TAPFER_KEY", key).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() || said.contains("key that is known here"), "{said}");
    output.status.success()
}

/// What the auditor says.
fn verdict(platform: &Platform) -> Result<Value, String> {
    let output = platform.run(&["audit", "verify"]);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

fn database(platform: &Platform) -> Connection {
    platform::database(platform.home())
}

/// Attack: who writes to the database makes an operator's key, alters one, or wakes one that was revoked.
#[test]
fn attack_api_key_written_into_the_database() {
    let mut platform = Platform::start();
    let (first, key) = another_key(&platform);
    let (second, _) = another_key(&platform);
    assert!(is_let_in(&platform, &key));
    assert_eq!(verdict(&platform).unwrap()["signed_api_keys"], 3);
    let database = database(&platform);
    // While it runs, the platform goes by what it knows; what is in the file counts when it starts.
    let refused = |platform: &mut Platform, what: &str, key: &str| {
        platform.kill();
        platform.restart();
        assert!(!is_let_in(platform, key), "{what}");
        let told = verdict(platform).unwrap_err();
        assert!(told.contains("is not signed by the platform"), "{what}: {told}");
    };

    // A secret of his own in the row of another, with that one's signature.
    let hash_of = "(SELECT secret_hash FROM api_keys WHERE id = ?1)";
    database
        .execute(&format!("CREATE TEMP TABLE his AS SELECT {hash_of} AS hash"), [&first])
        .unwrap();
    let put = |hash: &str, id: &str| {
        let set = format!("UPDATE api_keys SET secret_hash = {hash} WHERE id = ?1");
        assert_eq!(database.execute(&set, [id]).unwrap(), 1);
    };
    put("randomblob(32)", &first);
    put("(SELECT hash FROM his)", &second);
    refused(&mut platform, "another secret", &key);
    // A row of his own, without a signature and with a copied one.
    database.execute("DELETE FROM api_keys WHERE id = ?1", [&second]).unwrap();
    for signature in ["NULL", &format!("(SELECT signature FROM api_keys WHERE id = '{first}')")] {
        let insert = format!(
            "INSERT OR REPLACE INTO api_keys (id, role, secret_hash, created_at, signature)
             SELECT ?1, 'operator', hash, 0, {signature} FROM his"
        );
        database.execute(&insert, [&second]).unwrap();
        refused(&mut platform, "a row of his own", &key);
    }
    database.execute("DELETE FROM api_keys WHERE id = ?1", [&second]).unwrap();
    // As it was made it is good again, and when it is revoked nobody wakes it.
    put("(SELECT hash FROM his)", &first);
    platform.kill();
    platform.restart();
    assert!(is_let_in(&platform, &key));
    verdict(&platform).unwrap();
    platform.tapfer(&["api-key", "revoke", &first, "--reason", "leaked"]);
    assert!(!is_let_in(&platform, &key));
    // The trigger that keeps it so, he takes away, and puts back.
    let trigger = "SELECT sql FROM sqlite_schema WHERE name = 'api_keys_stay_revoked'";
    let trigger: String = database.query_row(trigger, [], |row| row.get(0)).unwrap();
    database.execute_batch("DROP TRIGGER api_keys_stay_revoked").unwrap();
    database.execute("UPDATE api_keys SET revoked_at = NULL", []).unwrap();
    database.execute_batch(&trigger).unwrap();
    refused(&mut platform, "a revoked one", &key);
}

/// Keys from before they were signed are refused, until whoever starts the platform has them signed, which the audit log
/// tells.
#[test]
fn keys_from_before_are_signed_when_the_platform_is_told_to() {
    let mut platform = Platform::start();
    platform.tapfer(&["init"]);
    let (_, key) = another_key(&platform);
    platform.kill();
    database(&platform).execute("UPDATE api_keys SET signature = NULL", []).unwrap();
    platform.restart();
    assert!(!is_let_in(&platform, &key));
    platform.kill();
    platform.restart_with(&["--accept-api-keys"]);
    let accepted = |owner: &str| {
        let count = "SELECT count(*) FROM audit_events WHERE action = 'api_key.accepted' AND detail LIKE ?1";
        let pattern = format!("of {owner}%, made 20%");
        database(&platform).query_row(count, [&pattern], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert!(accepted("mer_") >= 1 && accepted("term_") >= 1);
    // A row of the operator's is what whoever writes to the database would like most.
    assert_eq!(accepted("operator"), 0);
    assert!(!is_let_in(&platform, &key));
    verdict(&platform).unwrap();
}

/// Attack: who writes to the database spoils one row, so that nobody is let in any more.
#[test]
fn attack_spoiled_api_key_keeps_everybody_out() {
    let mut platform = Platform::start();
    let (spoiled, key) = another_key(&platform);
    let spoil =
        "PRAGMA ignore_check_constraints = 1; UPDATE api_keys SET role = 'nobody' WHERE id = ";
    database(&platform).execute_batch(&format!("{spoil}'{spoiled}'")).unwrap();
    for more in [&[][..], &["--accept-api-keys"]] {
        assert!(!is_let_in(&platform, &key));
        assert!(platform.run(&["issuer", "list"]).status.success());
        let told = verdict(&platform).unwrap_err();
        assert!(
            told.contains(&format!("API key {spoiled} makes no sense in column role")),
            "{told}"
        );
        platform.kill();
        platform.restart_with(more);
    }
    // The operator's row is spoiled: he gets a new key, as if it were not there.
    let own = "(SELECT id FROM api_keys WHERE role = 'operator' AND revoked_at IS NULL LIMIT 1)";
    database(&platform).execute_batch(&format!("{spoil}{own}")).unwrap();
    platform.kill();
    platform.restart();
    assert!(platform.run(&["issuer", "list"]).status.success());
    let delete = "DELETE FROM api_keys WHERE role = 'nobody'";
    database(&platform).execute_batch(&format!("PRAGMA foreign_keys = 0; {delete}")).unwrap();
    verdict(&platform).unwrap();
}

/// Attack: who has copied a key of audit heads signs rows of his own, and goes on when the key is destroyed.
#[test]
fn attack_api_key_signed_with_a_destroyed_key() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let table = Table::new();
    let mut platform = Platform::on(&table.home());
    platform.tapfer(&["init"]);
    done(&table.home(), &as_str(&table.hand_out("share", &[])));
    let (first, key) = another_key(&platform);
    let signature = |platform: &Platform| -> Vec<u8> {
        let of = "SELECT signature FROM api_keys WHERE id = ?1";
        database(platform).query_row(of, [&first], |row| row.get(0)).unwrap()
    };
    let by_the_first = signature(&platform);
    let why = ["--reason", "somebody has a copy"];
    let audit_head = |verb, more: &[&str]| {
        let key = ["keys", verb, "platform", "audit-head"];
        done(&table.home(), &[&key[..], more, &why].concat());
    };
    // While it runs; and, as if it had died over it, at the next start: who was let in stays so.
    audit_head("rotate", &[]);
    let is_renewed =
        |before: &[u8], platform: &Platform| (signature(platform) != before).then_some(());
    until("the rows are signed anew", PATIENCE, || is_renewed(&by_the_first, &platform));
    platform.kill();
    let by_the_second = signature(&platform);
    audit_head("rotate", &[]);
    platform.restart();
    until("the rows are signed anew", PATIENCE, || is_renewed(&by_the_second, &platform));
    assert!(is_let_in(&platform, &key));
    verdict(&platform).unwrap();

    let put = |signature: &[u8]| {
        let put = "UPDATE api_keys SET signature = ?2 WHERE id = ?1";
        database(&platform).execute(put, rusqlite::params![first, signature]).unwrap();
    };
    let by_the_third = signature(&platform);
    put(&by_the_first);
    assert!(is_let_in(&platform, &key), "it is there still");
    put(&by_the_third);
    audit_head("retire", &["1"]);
    let transcript = table.file("destroyed.txt");
    let parts = table.two_custodians("share");
    let held = ["--officer", "Tony", "--transcript", text(&transcript), "--agreed", "destroy"];
    let held = [&["1", "--confirm", "platform audit-head 1"], &held[..], &as_str(&parts)].concat();
    audit_head("destroy", &held);
    assert!(is_let_in(&platform, &key), "everybody else");
    verdict(&platform).unwrap();
    put(&by_the_first);
    platform.kill();
    platform.restart();
    assert!(!is_let_in(&platform, &key));
    let told = verdict(&platform).unwrap_err();
    assert!(told.contains(&first) && told.contains("which is destroyed"), "{told}");
    platform.kill();
    platform.restart();
    assert!(!is_let_in(&platform, &key));
    assert!(platform.run(&["issuer", "list"]).status.success());
}
