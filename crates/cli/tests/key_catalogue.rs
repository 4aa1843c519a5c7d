//! The list of keys of a realm, and what becomes of it where it is not the newest, through the real command line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    missing_docs
)]

mod custodians;
mod hsms;
mod payer;
mod platform;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use custodians::{Table, as_str, audit, done, error, issuer, run, text};
use hsms::{Hsms, PATIENCE, status, until_all_serve};
use payer::Client;
use platform::{Platform, tapfer, until};
use rusqlite::Connection;
use serde_json::Value;

/// A realm with custodians, whose catalogue of keys was changed once.
struct Changed {
    table: Table,
    platform: Platform,
    issuer: String,
    /// `keys.json` from before.
    older: String,
}

impl Changed {
    fn new() -> Self {
        let table = Table::new();
        let home = table.home();
        let platform = Platform::on(&home);
        platform.tapfer(&["init"]);
        let issuer = issuer(&platform);
        done(&home, &as_str(&table.hand_out("share", &[])));
        let older = fs::read_to_string(home.join("keys.json")).unwrap();
        let changed = Self { table, platform, issuer, older };
        assert!(changed.rotate().status.success());
        changed
    }

    /// Changes the catalogue, if it is one to go on with.
    fn rotate(&self) -> Output {
        self.platform.run(&["keys", "rotate", &self.issuer, "card-pins", "--reason", "a test"])
    }

    fn home(&self) -> PathBuf {
        self.table.home()
    }

    /// Custodians with these parts accept the catalogue that is there.
    fn accept(&self, transcript: &str, parts: &[String]) -> Output {
        let transcript = self.table.file(transcript);
        let catalogue = fs::read(self.home().join("keys.json")).unwrap();
        let catalogue: Value = serde_json::from_slice(&catalogue).unwrap();
        let agreed = format!("accept catalogue {}", catalogue["content"]["version"]);
        let held = ["--officer", "Tony", "--transcript", text(&transcript), "--agreed", &agreed];
        let verb = ["keys", "ceremony", "accept-catalogue"];
        run(&self.home(), &[&verb[..], &held, &as_str(parts)].concat())
    }

    fn database(&self) -> Connection {
        platform::database(&self.home())
    }

    /// The newest version that the database knows.
    fn known(&self) -> i64 {
        let newest = "SELECT version FROM key_catalogue";
        self.database().query_row(newest, [], |row| row.get(0)).unwrap()
    }
}

/// The database knows a version that nobody has: the newest keys.json is lost, or a row was written.
#[test]
fn a_catalogue_older_than_the_database_knows_is_accepted_by_the_custodians() {
    let mut changed = Changed::new();
    let home = changed.home();
    let custodians = changed.table.two_custodians("share");
    let nothing = error(&changed.accept("nothing.txt", &custodians));
    assert!(nothing.contains("nothing to accept"), "{nothing}");

    changed.platform.kill();
    let lost = changed.known();
    let backup = changed.table.file("backup");
    let back_up = |to: &str| run(&home, &["backup", "--to", text(&changed.table.file(to))]);
    assert!(back_up("whole").status.success());
    fs::write(home.join("keys.json"), &changed.older).unwrap();
    // A nightly backup goes on meanwhile, and nobody takes it for a good one.
    let versions = format!("is version {}, and version {lost} was used already", lost - 1);
    let cautions = |output: &Output| {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(shown["caution"].as_str().unwrap().contains(&versions), "{shown}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("NO PLATFORM STARTS WITH"));
    };
    cautions(&back_up("backup"));
    cautions(&run(&home, &["backup", "verify", text(&backup)]));
    assert!(run(&home, &["backup", "verify", text(&changed.table.file("whole"))]).status.success());
    let restored = run(&changed.table.file("restored"), &["restore", "--from", text(&backup)]);
    assert!(restored.status.success(), "{restored:?}");
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert!(restored["caution"].as_str().unwrap().contains(&versions), "{restored}");
    // Nor does anybody take the keys that it lists for those of the realm.
    let list = ["keys", "list"];
    let show = ["keys", "show", &changed.issuer, "card-pins"];
    for shown in [&list[..], &show] {
        let shown = run(&home, shown);
        assert_eq!(shown.status.code(), Some(1), "{shown:?}");
        let said = String::from_utf8(shown.stderr).unwrap();
        let parts = ["NO PLATFORM STARTS WITH THIS CATALOGUE", &versions, "accept-catalogue"];
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert!(shown["caution"].as_str().unwrap().contains(&versions), "{shown}");
    }
    let doctor = run(&home, &["doctor"]);
    assert!(String::from_utf8(doctor.stdout).unwrap().contains(&versions));
    let alone = changed.accept("alone.txt", &["--part".to_owned(), changed.table.part("share", 1)]);
    assert!(error(&alone).contains("parts given: 1; parts needed: 2"), "{alone:?}");
    assert_eq!(changed.known(), lost, "one custodian is not enough");
    assert!(changed.accept("accepted.txt", &custodians).status.success());
    assert_eq!(changed.known(), lost - 1);
    assert_eq!(done(&home, &list)["caution"], Value::Null);
    changed.platform.restart();
    let told = audit(&changed.platform, "key.ceremony_held");
    let told =
        told.iter().filter(|line| line.starts_with(&format!("version {} accepted", lost - 1)));
    assert_eq!(told.count(), 1);
    assert!(changed.rotate().status.success(), "it is gone on with");
}

/// Whoever writes to the database can stop the platform, and not for good.
#[test]
fn a_row_that_no_catalogue_satisfies_is_gone_on_from_by_the_custodians() {
    let mut changed = Changed::new();
    let custodians = changed.table.two_custodians("share");
    let newest = changed.known();
    changed.platform.kill();
    let write = format!("UPDATE key_catalogue SET version = {}, mac = zeroblob(32)", i64::MAX);
    changed.database().execute(&write, []).unwrap();
    let stopped = error(&changed.rotate());
    assert!(stopped.contains("was used already"), "{stopped}");
    assert!(changed.accept("mended.txt", &custodians).status.success());
    assert_eq!(changed.known(), newest);
    changed.platform.restart();
    assert!(changed.rotate().status.success());

    // Nor with a row that does not read.
    changed.platform.kill();
    let write = "PRAGMA ignore_check_constraints = 1; UPDATE key_catalogue SET version = version + 1, mac = x'00'";
    changed.database().execute_batch(write).unwrap();
    let stopped = error(&changed.rotate());
    assert!(stopped.contains("makes no sense in column mac"), "{stopped}");
    assert!(changed.accept("unreadable.txt", &custodians).status.success());
    assert_eq!(changed.known(), newest + 1);
    changed.platform.restart();
    assert!(changed.rotate().status.success());
    let told = audit(&changed.platform, "key.ceremony_held");
    assert!(
        told.iter().any(|line| line.contains("in the place of what makes no sense")),
        "{told:?}"
    );

    // Beside a platform that runs: it may have to be started again, and that is said.
    let write = format!("UPDATE key_catalogue SET version = {}", i64::MAX);
    changed.database().execute(&write, []).unwrap();
    let accepted = changed.accept("running.txt", &custodians);
    assert!(accepted.status.success(), "{accepted:?}");
    assert!(String::from_utf8(accepted.stderr).unwrap().contains("A platform runs over this"));
    changed.platform.kill();
    changed.platform.restart();
    assert!(changed.rotate().status.success());
}

/// Over HSMs the running platform goes on by itself: nobody has to ask it whether it serves.
#[test]
fn a_platform_whose_hsms_wait_for_a_catalogue_goes_on_when_it_is_accepted() {
    let hsms = Hsms::with_realm("demo");
    let (home, platform) = (hsms.home(), Platform::on(&hsms.home()));
    platform.tapfer(&["init"]);
    until_all_serve(&platform);
    let client = Client::new(&platform);
    // Behind this it has followed what `init` changed, and asks for nothing by itself while all is well.
    let bytes = fs::read(home.join("keys.json")).unwrap();
    let (key, unfinished) = (home.join("configuration.key"), home.join("keys.again"));
    fs::remove_file(&key).unwrap();
    fs::write(&unfinished, &bytes).unwrap();
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&unfinished, home.join("keys.json")).unwrap();
    until("the platform has followed", PATIENCE, || key.exists().then_some(()));
    let write = format!("UPDATE key_catalogue SET version = {}, mac = zeroblob(32)", i64::MAX);
    platform::database(&home).execute(&write, []).unwrap();
    until("nobody serves", PATIENCE, || {
        (!client.is_ready() && status(&platform)["serves"] == false).then_some(())
    });

    let catalogue: Value = serde_json::from_slice(&bytes).unwrap();
    let agreed = format!("accept catalogue {}", catalogue["content"]["version"]);
    let transcript = hsms.file("accepted.txt");
    let parts = [1, 3].map(|number| hsms.parts().join(format!("part-{number}-of-3.txt")));
    let parts = parts.iter().flat_map(|part| ["--part", text(part)]);
    let verb = ["keys", "ceremony", "accept-catalogue", "--officer", "Tony", "--agreed", &agreed];
    let accept: Vec<_> =
        verb.into_iter().chain(["--transcript", text(&transcript)]).chain(parts).collect();
    done(&home, &accept);
    until_all_serve(&platform);
}

/// Who writes into the realm's folder shows the custodians one file, and puts another one there while they give
/// their parts.
#[test]
fn attack_catalogue_exchanged_while_custodians_give_their_parts() {
    let mut changed = Changed::new();
    changed.platform.kill();
    let home = changed.home();
    let catalogue = home.join("keys.json");

    // As if a key of it were retired, with the genuine MAC.
    let forged = changed.older.replacen("\"state\":\"active\"", "\"state\":\"retired\"", 1);
    assert_ne!(forged, changed.older);
    fs::write(&catalogue, forged).unwrap();
    let version =
        serde_json::from_str::<Value>(&changed.older).unwrap()["content"]["version"].clone();
    let agreed = format!("accept catalogue {version}");
    let verb = ["keys", "ceremony", "accept-catalogue", "--officer", "Tony", "--agreed", &agreed];
    // What they agreed to is one version, and no other.
    let parts = changed.table.two_custodians("share");
    let another = ["keys", "ceremony", "accept-catalogue", "--officer", "Tony", "--agreed"];
    let transcript = changed.table.file("another.txt");
    let held = ["accept catalogue 1", "--transcript", text(&transcript)];
    let unagreed = run(&home, &[&another[..], &held, &as_str(&parts)].concat());
    assert!(error(&unagreed).contains(&format!("and this is \"{agreed}\"")), "{unagreed:?}");

    let slowly = changed.table.file("slowly");
    assert!(Command::new("mkfifo").arg(&slowly).status().unwrap().success());
    let (transcript, third) = (changed.table.file("exchanged.txt"), changed.table.part("share", 3));
    let mut accept = tapfer();
    accept.args(verb).args(["--transcript", text(&transcript), "--part", text(&slowly)]);
    accept.args(["--part", &third, "--json", "--home", text(&home)]);
    let accept = accept.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("the custodians have agreed", Duration::from_secs(60), || {
        fs::read_to_string(&transcript).ok()?.contains("agreed by argument").then_some(())
    });
    fs::write(&catalogue, &changed.older).unwrap();
    fs::write(&slowly, fs::read(changed.table.part("share", 1)).unwrap()).unwrap();
    let refused = error(&accept.wait_with_output().unwrap());
    assert!(refused.contains("is not the file any more"), "{refused}");
    let stopped = error(&changed.rotate());
    assert!(stopped.contains("was used already"), "{stopped}");

    // What is there now is shown, proven, and counted.
    let transcript = changed.table.file("accepted.txt");
    let held = [&verb[..], &["--transcript", text(&transcript)], &as_str(&parts)].concat();
    done(&home, &held);
    let transcript = fs::read_to_string(&transcript).unwrap();
    assert!(transcript.contains("as it was shown: "), "{transcript}");
    assert!(transcript.contains(" keys in use, 0 retired, 0 destroyed"), "{transcript}");
}
