//! Backups of a platform that runs, and what is made of them, through the real command line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    missing_docs
)]

mod payer;
mod platform;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use payer::{Client, PRICE, Phone, pay};
use platform::{Platform, tapfer};
use serde_json::Value;

const OPENING_BALANCE: i64 = 100_000;
/// As many decisions as one page lists.
const MOST_PAYMENTS: usize = 100;

fn restore(backup: &Path, home: &Path) -> Output {
    let mut command = tapfer();
    command.args(["restore", "--json", "--from"]).arg(backup).arg("--home").arg(home);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    error["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_backup_made_while_payments_go_on_has_all_that_was_acknowledged_before() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "1000.00"]);
    let card = platform.tapfer(&["card", "show"])["id"].as_str().unwrap().to_owned();
    let client = Client::new(&platform);
    let mut phone = Phone::open(&platform.home().join("wallet"), &client);
    let place = tempfile::tempdir().unwrap();
    let (paid, done) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let paid_so_far = || paid.lock().unwrap().clone();

    let backups: Vec<(PathBuf, Vec<String>)> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..MOST_PAYMENTS {
                let payment = pay(&client, &mut phone, number);
                paid.lock().unwrap().push(payment.answer["id"].as_str().unwrap().to_owned());
                if done.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let backups = (0..4).map(|number| {
            let least = number * 2 + 1;
            platform::until("payments go on", Duration::from_secs(60), || {
                (paid_so_far().len() >= least).then_some(())
            });
            let acknowledged = paid_so_far();
            let backup = place.path().join(format!("backup-{number}"));
            platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
            (backup, acknowledged)
        });
        let backups = backups.collect();
        done.store(true, Ordering::SeqCst);
        backups
    });

    for (number, (backup, acknowledged)) in backups.iter().enumerate() {
        let home = place.path().join(format!("home-{number}"));
        let restored = restore(backup, &home);
        assert!(restored.status.success(), "{restored:?}");
        let restored = Platform::on(&home);
        for id in acknowledged {
            let kept = restored.tapfer(&["authorization", "show", id]);
            assert_eq!(kept["outcome"], "approved");
        }
        // The copy is of one moment: what was approved was booked.
        let listed = restored.tapfer(&["authorization", "list", "--limit", "100"]);
        let approved = i64::try_from(listed["data"].as_array().unwrap().len()).unwrap();
        let card = restored.tapfer(&["card", "show", &card]);
        assert_eq!(card["balance"], OPENING_BALANCE - approved * PRICE);
    }
}

#[test]
fn a_restored_platform_knows_the_moment_of_the_backup_and_says_what_to_do() {
    let mut platform = Platform::start();
    platform.tapfer(&["init"]);
    platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    let made = platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
    platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "2.00"]);
    assert_eq!(platform.tapfer(&["backup", "verify", backup.to_str().unwrap()]), made);

    let card = platform.tapfer(&["card", "show"])["balance"].as_i64().unwrap();
    platform.kill();
    let elsewhere = place.path().join("elsewhere");
    let restored = restore(&backup, &elsewhere);
    assert!(restored.status.success(), "{restored:?}");
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert!(restored["restoration"].as_u64().unwrap() > 1_790_000_000_000, "{restored}");
    let to_do = restored["to_do"].to_string();
    for must in ["never runs again", "REVOKED", "API keys", "Payments", "PIN", "newest keys.json"] {
        assert!(to_do.contains(must), "{must} is not in {to_do}");
    }
    let there = format!("--home {}", elsewhere.display());
    for verb in ["keys ceremony install", "serve", "api-key create"] {
        assert!(to_do.contains(&format!("tapfer {verb} {there}")), "{verb} is not in {to_do}");
    }
    assert!(!elsewhere.join("operator.key").exists(), "a new one is made");
    fs::copy(platform.home().join("client.json"), elsewhere.join("client.json")).unwrap();
    let platform = Platform::on(&elsewhere);
    let then = platform.tapfer(&["card", "show"])["balance"].as_i64().unwrap();
    assert_eq!(then - card, 200, "the payment after the backup is not in it");
}

/// What a till says when it meets the platform after a restoration. Whether the phone can pay is another matter.
fn said_by_a_till(platform: &Platform, language: &str) -> String {
    let pay = ["terminal", "pay", "--wallet", "--amount", "1.00", "--language", language];
    String::from_utf8(platform.run(&pay).stderr).unwrap()
}

/// The till's last payments are not in the backup, and no signed head that the till has seen is behind them: it must not
/// say that nothing is missing.
#[test]
fn a_till_does_not_vouch_for_what_came_after_the_head_that_it_knows() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "100.00"]);
    platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    let place = tempfile::tempdir().unwrap();
    let mut before = platform.home().to_owned();
    let english = ["all that this till knew of at ", "this till cannot tell", "may be missing"];
    let german = ["alle, von denen diese Kasse am ", "kann die Kasse nicht sagen", "vielleicht"];
    for (language, must) in [("en", english), ("de", german)] {
        let backup = place.path().join(format!("backup-{language}"));
        platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
        platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "5.00"]);
        platform.kill();
        let home = place.path().join(language);
        assert!(restore(&backup, &home).status.success());
        take_along(&before, &home);
        platform = Platform::on(&home);
        let told = said_by_a_till(&platform, language);
        must.iter().for_each(|must| assert!(told.contains(must), "{must} is not in {told}"));
        // The phone has fetched new keys for the next round.
        platform.tapfer(&["wallet", "replenish"]);
        before = home;
    }
    // Where nothing was lost, and somebody says that it was restored.
    platform.tapfer(&["audit", "restored", "--reason", "a test"]);
    let told = said_by_a_till(&platform, "en");
    assert!(told.contains("are there; what is missing of the time since"), "{told}");
}

/// The phone and the till go on as they were at another platform.
fn take_along(before: &Path, home: &Path) {
    for kept in ["client.json", "wallet", "terminals"] {
        let mut copy = std::process::Command::new("cp");
        assert!(copy.arg("-a").arg(before.join(kept)).arg(home).status().unwrap().success());
    }
}

/// What a phone and a till say to a platform that came back: the phone's owner and the cashier are told once, and
/// both go on.
fn is_followed(platform: &Platform, language: &str, told: [&str; 2]) {
    let stderr = |arguments: &[&str]| {
        let output = platform.run(&[arguments, &["--language", language]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let [phone, till] = told;
    let (replenish, pay) =
        (["wallet", "replenish"], ["terminal", "pay", "--wallet", "--amount", "1.00"]);
    let said = stderr(&replenish);
    assert!(said.contains(phone), "{said}");
    let said = stderr(&pay);
    assert!(said.contains(till), "{said}");
    for again in [&replenish[..], &pay] {
        let said = stderr(again);
        assert!(!said.contains(phone) && !said.contains(till), "told twice: {said}");
    }
}

/// The second fire: the same backup is restored once more, and knows nothing of the first time.
#[test]
fn a_backup_that_is_restored_twice_is_followed_twice() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "100.00"]);
    platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
    let mut before = platform.home().to_owned();
    let english = ["Your bank's platform says that it was restored", "at least the last is lost"];
    let german = ["Die Plattform Ihrer Bank sagt", "ist mindestens die letzte verloren"];
    let mut restorations = Vec::new();
    for (language, told) in [("en", english), ("de", german)] {
        // Something that tills are told, and the backup does not know.
        for number in ["1", "2", "3"] {
            let (cards, tokens) = (format!("9998{number}1"), format!("9998{number}2"));
            let create = ["issuer", "create", "--name", "Another", "--pan-prefix", &cards];
            platform.tapfer(&[&create[..], &["--token-prefix", &tokens]].concat());
            platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
        }
        platform.kill();
        let home = place.path().join(language);
        let restored = restore(&backup, &home);
        let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
        restorations.push(restored["restoration"].as_u64().unwrap());
        take_along(&before, &home);
        platform = Platform::on(&home);
        is_followed(&platform, language, told);
        before = home;
    }
    assert!(restorations[0] < restorations[1], "{restorations:?}");
}

/// Nor is anything said to be missing in it that is there.
#[test]
fn nothing_is_overwritten() {
    let platform = Platform::start();
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    let to = backup.to_str().unwrap();
    let made = platform.run(&["backup", "--to", to]);
    let remarks = String::from_utf8(made.stderr).unwrap();
    assert!(remarks.contains("IN IT: demo-unlock.key") && !remarks.contains("what opens the keys"));
    assert!(backup.join("demo-unlock.key").exists());
    let list = fs::read(backup.join("backup.json")).unwrap();
    let again = platform.run(&["backup", "--to", to]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("is there already"), "{}", said(&again));
    assert_eq!(fs::read(backup.join("backup.json")).unwrap(), list);
    let onto_itself = restore(&backup, platform.home());
    assert_eq!(onto_itself.status.code(), Some(1));
    assert!(said(&onto_itself).contains("is there already"), "{}", said(&onto_itself));
    assert_eq!(platform.run(&["backup"]).status.code(), Some(2), "usage");
}

#[test]
fn a_backup_is_for_its_owner_only() {
    let platform = Platform::start();
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for directory in [backup.clone(), backup.join("tls")] {
        assert_eq!(mode(&directory), 0o700);
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let expected = if entry.path().is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&entry.path()), expected, "{entry:?}");
        }
    }
    let home = place.path().join("home");
    assert!(restore(&backup, &home).status.success());
    assert_eq!((mode(&home), mode(&home.join("keystore"))), (0o700, 0o600));
}

/// Whatever has the name of a backup is whole; what a killed one leaves is seen and named.
#[test]
fn a_backup_that_is_killed_is_whole_or_has_no_name() {
    let platform = Platform::start();
    let place = tempfile::tempdir().unwrap();
    let mut torn = 0;
    for number in 0..40 {
        let backup = place.path().join(format!("backup-{number}"));
        let mut command = tapfer();
        command.args(["backup", "--json", "--to"]).arg(&backup).arg("--home").arg(platform.home());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut process = command.spawn().unwrap();
        let unfinished = place.path().join(format!("backup-{number}.unfinished"));
        // Not waiting for an outcome: these are the moments at which it dies.
        std::thread::park_timeout(Duration::from_millis(number * 3));
        process.kill().unwrap();
        process.wait().unwrap();
        let verified = platform.run(&["backup", "verify", backup.to_str().unwrap()]);
        assert_eq!(verified.status.success(), backup.exists(), "{verified:?}");
        if unfinished.exists() {
            torn += 1;
            let again = platform.run(&["backup", "--to", backup.to_str().unwrap()]);
            assert!(said(&again).contains("torn off"), "{}", said(&again));
            fs::remove_dir_all(&unfinished).unwrap();
        }
        if backup.exists() {
            break;
        }
    }
    assert!(torn > 0, "never killed in the middle");
}

fn drill(platform: &Platform, backup: &Path) -> (Option<i32>, Value) {
    let output = platform.run(&["dr", "drill", "--keystore", "--from", backup.to_str().unwrap()]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// A backup from before API keys were signed: the drill's platform takes them, and whoever restores it is told how.
#[test]
fn a_drill_takes_the_keys_of_a_phone_from_before_they_were_signed() {
    let mut platform = Platform::start();
    platform.tapfer(&["init"]);
    platform.kill();
    let database = platform::database(platform.home());
    assert!(database.execute("UPDATE api_keys SET signature = NULL", []).unwrap() > 0);
    drop(database);
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
    let (code, passed) = drill(&platform, &backup);
    assert_eq!((code, &passed["passed"]), (Some(0), &Value::Bool(true)), "{passed}");
    let mut restore = tapfer();
    restore.args(["restore", "--json", "--from"]).arg(&backup).arg("--home");
    let restored = restore.arg(place.path().join("restored")).output().unwrap();
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    let to_do = restored["to_do"].as_array().unwrap();
    let told = |step: &Value| step.as_str().unwrap().contains("--accept-api-keys");
    assert!(to_do.iter().any(told), "{restored}");
}

/// A drill on a backup with any part lost, cut short, changed or of another realm fails, names the part, and
/// touches nothing of the realm that runs.
#[test]
fn a_drill_names_what_is_wrong_with_a_backup() {
    let platform = Platform::start();
    platform.tapfer(&["init"]);
    let place = tempfile::tempdir().unwrap();
    let (backup, foreign) = (place.path().join("backup"), place.path().join("foreign"));
    platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
    Platform::start().tapfer(&["backup", "--to", foreign.to_str().unwrap()]);
    let before = platform.tapfer(&["authorization", "list"]);
    let (code, passed) = drill(&platform, &backup);
    assert_eq!((code, &passed["passed"]), (Some(0), &Value::Bool(true)), "{passed}");
    assert_eq!(platform.tapfer(&["authorization", "list"]), before, "it paid elsewhere");

    let text = fs::read_to_string(backup.join("backup.json")).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    for file in list["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        let whole = fs::read(backup.join(name)).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 3] ^= 0x10;
        let theirs = fs::read(foreign.join(name)).unwrap();
        for bad in [None, Some(whole[..whole.len() / 2].to_vec()), Some(flipped), Some(theirs)] {
            match &bad {
                Some(content) => fs::write(backup.join(name), content).unwrap(),
                None => fs::remove_file(backup.join(name)).unwrap(),
            }
            let (code, failed) = drill(&platform, &backup);
            let found = failed["steps"][0]["found"].as_str().unwrap();
            assert!(code == Some(1) && found.contains(name), "{name}: {failed}");
        }
        fs::write(backup.join(name), whole).unwrap();
    }

    // Somebody made the list fit: then the keys themselves tell.
    let theirs: Value =
        serde_json::from_slice(&fs::read(foreign.join("backup.json")).unwrap()).unwrap();
    let mut list = list;
    for file in list["files"].as_array_mut().unwrap() {
        let same = |other: &&Value| other["name"] == file["name"];
        let other = theirs["files"].as_array().unwrap().iter().find(same).unwrap().clone();
        if file["name"] == "keystore" || file["name"] == "demo-unlock.key" {
            let name = file["name"].as_str().unwrap();
            fs::copy(foreign.join(name), backup.join(name)).unwrap();
            *file = other;
        }
    }
    fs::write(backup.join("backup.json"), list.to_string()).unwrap();
    let (code, failed) = drill(&platform, &backup);
    assert_eq!(code, Some(1), "{failed}");
    assert!(failed.to_string().contains("other root keys"), "{failed}");
}

/// A platform is killed, and its log goes with the dust: neither it nor any command takes what is left for all that there was.
#[test]
fn a_log_that_is_gone_behind_a_kill_is_named_by_everybody() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "100.00"]);
    platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    platform.kill();
    let home = platform.home().to_owned();
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    for name in ["tapfer.db", "tapfer.db-wal", "tapfer.db-open"] {
        fs::copy(home.join(name), place.path().join(name)).unwrap();
    }
    fs::remove_file(home.join("tapfer.db-wal")).unwrap();
    let run = |arguments: &[&str]| {
        let output = tapfer().args(arguments).arg("--home").arg(&home).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    for arguments in [
        &["db", "check"][..],
        &["audit", "verify"],
        &["backup", "--to", backup.to_str().unwrap()],
        &["serve", "--listen", "127.0.0.1:0"],
        &["doctor"],
    ] {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.contains("did not close the database"), "{arguments:?}: {said}");
        assert!(said.contains("tapfer db cut-log"), "{arguments:?}: {said}");
        // SQLite makes an empty one for who looks.
        let _not_there = fs::remove_file(home.join("tapfer.db-wal"));
    }
    assert!(!backup.exists());
    // With the log it is as if nothing had been.
    fs::copy(place.path().join("tapfer.db-wal"), home.join("tapfer.db-wal")).unwrap();
    platform.restart();
    let paid = platform.tapfer(&["authorization", "list"]);
    assert_eq!(paid["data"].as_array().unwrap().len(), 1, "{paid}");
    platform.kill();
    // And without it, for who wants that.
    fs::remove_file(home.join("tapfer.db-wal")).unwrap();
    let (code, said) = run(&["db", "cut-log"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = run(&["db", "cut-log", "--yes-lose-what-stands-behind-it"]);
    assert_eq!(code, Some(0), "{said}");
    platform.restart();
    assert_eq!(platform.tapfer(&["db", "check"])["sound"], true);
}
