//! Keys that leave a realm or come into it as key blocks, through the real command line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod custodians;
mod platform;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use custodians::{Table, as_str, audit, done, error, issuer, masters, run, text};
use platform::{Platform, tapfer};
use serde_json::Value;

/// A realm with custodians, and a protection key that they have accepted.
struct Exchange {
    table: Table,
    platform: Platform,
    issuer: String,
    /// Check value of the protection key.
    value: String,
}

impl Exchange {
    fn new() -> Self {
        let table = Table::new();
        let home = table.home();
        done(&home, &as_str(&table.hand_out("new", &["--realm", "demo"])));
        let platform = Platform::on(&home);
        platform.tapfer(&["init"]);
        let (one, other) = (table.part("new", 2), table.part("new", 3));
        let roots = ["--part", &one, "--part", &other, "--agreed", "protection"];
        let drawn = done(&home, &as_str(&table.hand_out("protection", &roots)));
        let value = protection_value(&drawn);
        let issuer = issuer(&platform);
        Self { table, platform, issuer, value }
    }

    fn home(&self) -> PathBuf {
        self.table.home()
    }

    /// Arguments behind `tapfer keys export` and `import`: whose parts, from which ceremonies.
    fn parts(&self, roots: (&str, [u8; 2]), protection: (&Table, &str, [u8; 2])) -> Vec<String> {
        let (verb, numbers) = roots;
        let roots = numbers.map(|number| ["--part".to_owned(), self.table.part(verb, number)]);
        let (table, verb, numbers) = protection;
        let protection =
            numbers.map(|number| ["--protection-part".to_owned(), table.part(verb, number)]);
        let why = ["--reason", "second site", "--by", "Ada", "--officer", "Tony"];
        let why = why.map(str::to_owned);
        roots.concat().into_iter().chain(protection.concat()).chain(why).collect()
    }

    fn own_parts(&self, verb: &str) -> Vec<String> {
        let mut parts = self.parts(("new", [1, 3]), (&self.table, "protection", [2, 3]));
        parts.extend(["--agreed".to_owned(), format!("{verb} {}", self.value)]);
        parts
    }

    /// Asks for the issuer's first master key, with a transcript of its own.
    fn export(&self, to: &Path, parts: &[String]) -> Output {
        let transcript = text(to).replace(".tr31", ".txt");
        let head = ["keys", "export", &self.issuer, "issuer-master", "1", "--to", text(to)];
        run(&self.home(), &[&head[..], &["--transcript", &transcript], &as_str(parts)].concat())
    }

    fn import(&self, purpose: &str, block: &Path, more: &[&str]) -> Output {
        let transcript = self.table.file(&format!("import-{purpose}-{}.txt", more.len()));
        let head = ["keys", "import", &self.issuer, purpose, "--from", text(block)];
        let transcript = ["--transcript", text(&transcript)];
        run(
            &self.home(),
            &[&head[..], &transcript, &as_str(&self.own_parts("import")), more].concat(),
        )
    }
}

fn protection_value(told: &Value) -> String {
    let values = told["check_values"].as_array().unwrap().iter();
    let mut values = values
        .filter_map(|value| value.as_str().unwrap().strip_prefix("key block protection key "));
    values.next().unwrap().to_owned()
}

#[test]
fn keys_travel_as_key_blocks_with_the_custodians_only() {
    let exchange = Exchange::new();
    let block = exchange.table.file("imk.tr31");
    // A login alone: parts of the protection key in the place of the roots'.
    let mut swapped =
        exchange.parts(("protection", [1, 2]), (&exchange.table, "protection", [1, 2]));
    swapped.extend(["--agreed".to_owned(), format!("export {}", exchange.value)]);
    assert_eq!(
        exchange.export(&exchange.table.file("swapped.tr31"), &swapped).status.code(),
        Some(1)
    );
    // Custodians who have not said to what, or who think of another key.
    let mut parts = exchange.parts(("new", [1, 3]), (&exchange.table, "protection", [2, 3]));
    let unsaid = exchange.export(&exchange.table.file("unsaid.tr31"), &parts);
    assert_eq!(unsaid.status.code(), Some(2), "{unsaid:?}");
    assert!(error(&unsaid).contains("A KEY IS ABOUT TO BE GIVEN OUT"), "{unsaid:?}");
    parts.extend(["--agreed", "export 000000"].map(str::to_owned));
    let other = exchange.export(&exchange.table.file("other.tr31"), &parts);
    assert!(error(&other).contains("the custodians agreed to \"export 000000\""), "{other:?}");
    for name in ["swapped.tr31", "unsaid.tr31", "other.tr31"] {
        assert!(!exchange.table.file(name).exists(), "{name}");
    }

    let exported = exchange.export(&block, &exchange.own_parts("export"));
    assert!(exported.status.success(), "{exported:?}");
    let text_of_block = fs::read_to_string(&block).unwrap();
    assert_eq!(text_of_block.get(5..12), Some("E0AX01E"), "{text_of_block}");
    assert!(text_of_block.contains(&format!("TAPFER1 {} issuer-master 1", exchange.issuer)));
    let transcript = fs::read_to_string(exchange.table.file("imk.txt")).unwrap();
    for signs in ["officer   Tony", "custodian Ada", "custodian Grace", "custodian Edsger"] {
        assert!(transcript.contains(signs), "{signs}: {transcript}");
    }
    let told = audit(&exchange.platform, "key.exported");
    let [.., ordered, ended] = told.as_slice() else { panic!("{told:?}") };
    assert!(
        ordered.contains("ordered by Ada (user ") && ordered.contains("officer Tony"),
        "{ordered}"
    );
    let names = "root keys from part 1 of Ada and part 3 of Edsger, ceremony ";
    let value = format!("key block protection key {}", exchange.value);
    assert!(
        ended.starts_with("done: ") && ended.contains(names) && ended.contains(&value),
        "{ended}"
    );

    assert_eq!(
        exchange.import("card-records", &block, &[]).status.code(),
        Some(1),
        "for something else"
    );
    let known = error(&exchange.import("issuer-master", &block, &[]));
    assert!(known.contains("issuer-master 1, which is active"), "{known}");
    let imported = exchange.import("issuer-master", &block, &["--again"]);
    assert!(imported.status.success(), "{imported:?}");
    let shown = exchange.platform.tapfer(&["keys", "show", &exchange.issuer, "issuer-master"]);
    let (first, second) = (&shown["data"][0], &shown["data"][1]);
    assert_eq!(second["generation"], 2);
    assert_eq!(first["check_value"], second["check_value"], "the same key came back");
}

/// One officer, two custodians whom he has invented, and the realm's real ones, who come for something else.
#[test]
fn attack_protection_key_of_an_officer_alone() {
    let exchange = Exchange::new();
    // In the realm's directory its custodians would have to come.
    let mine = Table::new();
    let alone = run(&exchange.home(), &as_str(&mine.hand_out("protection", &[])));
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
    assert!(!mine.file("protection-parts").exists());
    let told = audit(&exchange.platform, "key.ceremony_held");
    let [.., ordered, ended] = told.as_slice() else { panic!("{told:?}") };
    assert!(ordered.starts_with("ordered by Tony"), "{ordered}");
    assert!(ended.contains("a ceremony needs a screen and a keyboard"), "{ended}");

    // Elsewhere nobody asks him, and nobody here has accepted what he draws.
    let mine = Table::new();
    let drawn = done(&mine.file("nothing"), &as_str(&mine.hand_out("protection", &[])));
    let value = protection_value(&drawn);
    let mut parts = exchange.parts(("new", [1, 3]), (&mine, "protection", [1, 2]));
    parts.extend(["--agreed".to_owned(), format!("export {value}")]);
    let block = mine.file("first.tr31");
    let refused = exchange.export(&block, &parts);
    assert!(error(&refused).contains("was not accepted by this realm's custodians"), "{refused:?}");

    // In a realm of his own he is all the custodians; what they accept there does not count here.
    let his = mine.file("his");
    done(&his, &as_str(&mine.hand_out("new", &["--realm", "demo"])));
    let roots = ["--part", &mine.part("new", 1), "--part", &mine.part("new", 2)];
    let protection = [1, 2]
        .map(|number| ["--protection-part".to_owned(), mine.part("protection", number)])
        .concat();
    let transcript = mine.file("accepted.txt");
    let agreed = format!("accept {value}");
    let accept =
        ["keys", "ceremony", "accept-protection", "--agreed", &agreed, "--officer", "Tony"];
    let accept = [&accept[..], &["--transcript", text(&transcript)], &roots, &as_str(&protection)];
    done(&his, &accept.concat());
    let realm = |home: &Path| {
        let catalogue: Value =
            serde_json::from_slice(&fs::read(home.join("keys.json")).unwrap()).unwrap();
        catalogue["content"]["realm_id"].as_str().unwrap().to_owned()
    };
    let list = fs::read_to_string(his.join("protection-keys.json")).unwrap();
    let list = list.replace(&realm(&his), &realm(&exchange.home()));
    fs::write(exchange.home().join("protection-keys.json"), list).unwrap();
    let block = mine.file("second.tr31");
    let refused = exchange.export(&block, &parts);
    assert!(error(&refused).contains("was not accepted by this realm's custodians"), "{refused:?}");
    assert!(!mine.file("first.tr31").exists() && !block.exists());
    assert!(!audit(&exchange.platform, "key.exported").iter().any(|line| line.starts_with("done")));
}

/// Parts of the protection key are with Ada, Grace and Edsger; the list says first that Mallory has them, and says it in a
/// way that a terminal obeys.
#[test]
fn attack_list_of_accepted_keys_that_lies_to_custodians() {
    let exchange = Exchange::new();
    let file = exchange.home().join("protection-keys.json");
    let mut list: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut lie = list["keys"][0].clone();
    lie["accepted"]["held_by"] = serde_json::json!(["Mallory of Visa\u{1b}[2J"]);
    lie["mac"] = serde_json::json!("00".repeat(32));
    list["keys"].as_array_mut().unwrap().insert(0, lie);
    fs::write(&file, list.to_string()).unwrap();
    let parts = exchange.parts(("new", [1, 3]), (&exchange.table, "protection", [2, 3]));
    let told = exchange.export(&exchange.table.file("told.tr31"), &parts);
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let about = error(&told);
    assert!(about.contains(&exchange.value) && !about.contains("Mallory"), "{about}");
    let block = exchange.table.file("true.tr31");
    let exported = exchange.export(&block, &exchange.own_parts("export"));
    assert!(exported.status.success(), "{exported:?}");
    let transcript = fs::read_to_string(exchange.table.file("true.txt")).unwrap();
    assert!(transcript.contains("were named: Ada, Grace, Edsger"), "{transcript}");
    assert!(!transcript.contains("Mallory"), "{transcript}");
}

/// The key was destroyed because others know it; its block of before is still there.
#[test]
fn attack_destroyed_key_by_its_old_block() {
    let exchange = Exchange::new();
    let block = exchange.table.file("old.tr31");
    let exported = exchange.export(&block, &exchange.own_parts("export"));
    assert!(exported.status.success(), "{exported:?}");
    let why = ["--reason", "others know it"];
    let key = [&exchange.issuer, "issuer-master"];
    exchange.platform.tapfer(&[&["keys", "rotate"][..], &key, &why].concat());
    exchange.platform.tapfer(&[&["keys", "retire"][..], &key, &["1"], &why].concat());
    let transcript = exchange.table.file("destroyed.txt");
    let name = format!("{} issuer-master 1", exchange.issuer);
    let (one, other) = (exchange.table.part("new", 1), exchange.table.part("new", 2));
    let held = ["--part", &one, "--part", &other, "--agreed", "destroy", "--confirm", &name];
    let held = [&held[..], &["--officer", "Tony", "--transcript", text(&transcript)]].concat();
    let destroy = [&["keys", "destroy"][..], &key, &["1"], &why, &held].concat();
    let needed = error(&exchange.platform.run(&destroy));
    let (_, lose) = needed.rsplit_once("--lose ").unwrap();
    exchange.platform.tapfer(&[&destroy[..], &["--lose", lose]].concat());

    let said = error(&exchange.import("issuer-master", &block, &[]));
    assert!(said.contains("issuer-master 1, which is destroyed"), "{said}");
    // The list that says so may be another's: the proven one is asked again.
    assert_eq!(masters(&exchange.platform, &exchange.issuer).len(), 2);
    let again = exchange.import("issuer-master", &block, &["--again"]);
    assert!(again.status.success(), "{again:?}");
}

#[test]
fn a_key_block_goes_to_where_we_are_and_the_audit_log_says_what_happened() {
    let exchange = Exchange::new();
    let here = exchange.table.file("here");
    fs::create_dir(&here).unwrap();
    let export = |to: &str, transcript: &str| {
        let mut command = tapfer();
        command.current_dir(&here).args([
            "keys",
            "export",
            &exchange.issuer,
            "issuer-master",
            "--to",
            to,
        ]);
        command.args(["--transcript", transcript]).args(exchange.own_parts("export"));
        command.arg("--json").arg("--home").arg(exchange.home()).output().unwrap()
    };
    let exported = export("blk", "plain.txt");
    assert!(exported.status.success(), "{exported:?}");
    let last = || audit(&exchange.platform, "key.exported").pop().unwrap();
    assert!(here.join("blk").exists() && last().starts_with("done: "), "{}", last());
    // Where no file can be: refused, and nothing is left.
    let refused = export("blk/inside", "refused.txt");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(last().starts_with("no key block was given out"), "{}", last());
    assert!(
        fs::read_to_string(here.join("refused.txt")).unwrap().contains("STOPPED: no key block")
    );
    // The medium of the transcript is full when it is over: the key block is out all the same.
    std::os::unix::fs::symlink(here.join("gone/medium"), here.join("cut.txt.json")).unwrap();
    let unwritten = export("cut", "cut.txt");
    assert_eq!(unwritten.status.code(), Some(1), "{unwritten:?}");
    let said = error(&unwritten);
    assert!(said.contains("WAS DONE") && said.contains("Do not do it again"), "{said}");
    assert!(here.join("cut").exists() && last().starts_with("done: "), "{}", last());
    assert!(last().contains("its transcript could not be written"), "{}", last());
}
