//! Two sites with HSMs of their own, through the real command line: from the ceremony to the payment at the second
//! one, and the drill of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod hsms;
mod platform;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use hsms::{Hsms, PATIENCE, status};
use platform::{Platform, tapfer, until};
use serde_json::Value;
use tapfer_payment_types::{RealmId, Timestamp};

const SECOND: [&str; 2] = ["east", "west"];

/// The first site, with a payment behind it, and its backup; a second one whose tokens are empty.
struct Sites {
    hsms: Hsms,
    platform: Platform,
}

impl Sites {
    fn new() -> Self {
        let hsms = Hsms::with_realm("demo");
        let platform = Platform::on(&hsms.home());
        platform.tapfer(&["init", "--balance", "50.00"]);
        let sites = Self { hsms, platform };
        assert_eq!(pay(&sites.platform, None)["outcome"], "approved");
        sites.platform.tapfer(&["backup", "--to", sites.backup().to_str().unwrap()]);
        sites.hsms.make_site(&SECOND, &sites.second());
        sites
    }

    fn backup(&self) -> PathBuf {
        self.hsms.file("backup")
    }

    /// The `hsm.toml` of the second site.
    fn second(&self) -> PathBuf {
        self.hsms.file("second-site.toml")
    }

    fn part(&self, number: u8) -> String {
        self.hsms.parts().join(format!("part-{number}-of-3.txt")).to_str().unwrap().to_owned()
    }

    /// Objects on the tokens of the second site.
    fn objects(&self) -> [usize; 2] {
        SECOND.map(|name| self.hsms.objects(name))
    }

    /// Where drills work.
    fn temporary(&self) -> PathBuf {
        let directory = self.hsms.file("temporary");
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn drill(&self, site: &Path) -> Command {
        let mut drill = tapfer();
        drill.args(["dr", "drill", "--from"]).arg(self.backup()).arg("--hsm").arg(site);
        drill.args([
            "--part",
            &self.part(3),
            "--part",
            &self.part(1),
            "--agreed",
            "drill",
            "--home",
        ]);
        drill.arg(self.platform.home()).env("TMPDIR", self.temporary());
        drill
    }

    /// What the tokens have counted outlives the directory of a drill.
    fn a_wrong_pin_is_tried_once_by_all_drills(&self) {
        let right = fs::read_to_string(self.second()).unwrap();
        let (pin, wrong) = (self.hsms.file("pin"), self.hsms.file("wrong.pin"));
        fs::copy(&pin, &wrong).unwrap();
        fs::write(&wrong, "1111-wrong").unwrap();
        let quoted = |path: &Path| format!("{path:?}");
        assert!(right.contains(&quoted(&pin)), "{right}");
        fs::write(self.second(), right.replace(&quoted(&pin), &quoted(&wrong))).unwrap();
        for is_known in [false, true] {
            let output = self.drill(&self.second()).arg("--json").output().unwrap();
            let refused = report(&output).to_string();
            assert!(refused.contains("CKR_PIN_INCORRECT"), "{refused}");
            assert_eq!(refused.contains("as it was found before"), is_known, "{refused}");
        }
        assert!(self.hsms.file("second-site.east.login").exists(), "where its platform looks too");
        fs::write(self.second(), right).unwrap();
    }

    fn leftovers(&self) -> usize {
        fs::read_dir(self.temporary()).unwrap().count()
    }
}

fn pay(platform: &Platform, wallet: Option<&Path>) -> Value {
    let wallet = wallet.map(|path| format!("--wallet={}", path.display()));
    let wallet = wallet.as_deref().unwrap_or("--wallet");
    platform.tapfer(&["terminal", "pay", wallet, "--amount", "1.00"])
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn from_the_ceremony_to_a_payment_at_the_second_site() {
    let mut sites = Sites::new();
    sites.platform.kill();

    let home = sites.hsms.file("second-home");
    let restored = tapfer()
        .args(["restore", "--accept-modules", "--from"])
        .arg(sites.backup())
        .arg("--home")
        .arg(&home)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    fs::copy(sites.second(), home.join("hsm.toml")).unwrap();
    let installed = tapfer()
        .args(["keys", "ceremony", "install", "--officer", "Tony", "--transcript"])
        .arg(sites.hsms.file("installed.txt"))
        .args(["--part", &sites.part(2), "--part", &sites.part(3), "--agreed", "install", "--home"])
        .arg(&home)
        .output()
        .unwrap();
    assert!(installed.status.success(), "{installed:?}");
    assert_eq!(sites.objects(), [2, 2], "two root keys on each token");

    // What the people at the tills and the phone keep moves with them.
    fs::copy(sites.platform.home().join("client.json"), home.join("client.json")).unwrap();
    let second = Platform::on(&home);
    let answer = pay(&second, Some(&sites.platform.home().join("wallet")));
    assert_eq!(answer["outcome"], "approved", "{answer}");
    assert_eq!(second.tapfer(&["card", "show"])["balance"], 4_800, "both payments");
    let names: Vec<Value> = status(&second)["pool"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member["name"].clone())
        .collect();
    assert_eq!(names, SECOND);
}

#[test]
fn a_drill_at_a_second_site_pays_and_leaves_its_tokens_empty() {
    let sites = Sites::new();
    sites.a_wrong_pin_is_tried_once_by_all_drills();
    let output = sites.drill(&sites.second()).arg("--json").output().unwrap();
    let passed = report(&output);
    assert_eq!(passed["passed"], true, "{passed}");
    let steps: Vec<&str> = passed["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["what"].as_str().unwrap())
        .collect();
    let [.., pays, empty] = steps.as_slice() else { panic!("{passed}") };
    assert_eq!((*pays, *empty), ("its token pays", "nothing of the drill is left on the tokens"));
    assert_eq!((sites.objects(), sites.leftovers()), ([0, 0], 0));

    // The first site goes on; a drill that is pointed at it touches nothing there.
    assert_eq!(pay(&sites.platform, None)["outcome"], "approved");
    let mut at_the_first = sites.drill(&sites.platform.home().join("hsm.toml"));
    let output = at_the_first.arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let refused = report(&output).to_string();
    assert!(refused.contains("a platform works with them"), "{refused}");
    assert!(!refused.contains("\\\"error\\\""), "the member's own words: {refused}");
    assert_eq!(hsms::MEMBERS.map(|name| sites.hsms.objects(name)), [2, 2]);
    assert_eq!(pay(&sites.platform, None)["outcome"], "approved");
}

/// A drill is killed while the process of a member has just begun: what comes out of the pipe later is put nowhere.
#[test]
fn a_process_whose_drill_is_killed_puts_nothing_on_its_token() {
    let hsms = Hsms::without_realm();
    let realm = RealmId::new(Timestamp::from_unix_millis(0), [9; 10]).to_string();
    // Its parent, which a test can kill: what is started in the background would have nothing to read.
    let begin = || {
        let mut parent = Command::new("sh");
        parent.args(["-c", "exec 3<&0; \"$@\" <&3 & wait", "sh"]);
        parent.arg(tapfer().get_program()).arg("--json").arg("--home").arg(hsms.home());
        parent.args(["hsm", "begin-drill", "north", &realm]).envs(hsms.environment("north"));
        parent.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    for is_killed in [true, false] {
        let mut parent = begin();
        let (mut pipe, said) = (parent.stdin.take().unwrap(), parent.stdout.take().unwrap());
        let mut said = BufReader::new(said);
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "\"ready\"\n");
        if is_killed {
            parent.kill().unwrap();
            parent.wait().unwrap();
        }
        // Nobody may be there to take them.
        let _taken = pipe.write_all(&[0x5A; 2 * 32]);
        said.read_to_string(&mut String::new()).unwrap();
        assert_eq!(hsms.objects("north"), if is_killed { 0 } else { 2 });
        parent.wait().unwrap();
    }
}

#[test]
fn what_a_killed_drill_left_is_wiped_by_the_next_one() {
    let sites = Sites::new();
    let mut killed = sites.drill(&sites.second());
    let mut killed = killed.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(killed.stdout.take().unwrap()).lines().map(Result::unwrap);
    let on_the_tokens = lines.map_while(|line| line.starts_with("good").then_some(line));
    assert!(on_the_tokens.into_iter().any(|line| line.contains("they open every key")));
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!((sites.objects(), sites.leftovers()), ([2, 2], 1), "two root keys");

    // Whoever puts it to work would lose the root keys to the next drill.
    let left = fs::read_dir(sites.temporary()).unwrap().next().unwrap().unwrap().path();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut serve = tapfer();
    serve.args(["serve", "--listen", &taken.local_addr().unwrap().to_string(), "--home"]);
    let served = serve.arg(left.join("home")).output().unwrap();
    assert_eq!(served.status.code(), Some(1), "{served:?}");
    let said = String::from_utf8(served.stderr).unwrap();
    assert!(said.contains("is the directory of a recovery drill"), "{said}");

    // A worker that the killed one left may be at a token for a moment yet.
    until("a drill passes", PATIENCE, || {
        let output = sites.drill(&sites.second()).arg("--json").output().unwrap();
        (report(&output)["passed"] == true).then_some(())
    });
    assert_eq!((sites.objects(), sites.leftovers()), ([0, 0], 0));
}
