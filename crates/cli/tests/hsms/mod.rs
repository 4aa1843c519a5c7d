//! A realm whose root keys are in two SoftHSM2 tokens, each behind the module that fails as its control file
//! says (`test-modules/README.md`), with the real server over them.

#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tapfer_test_tokens::{Kind, Place, USER_PIN, faulty_module};
use tempfile::TempDir;

use crate::platform::{Platform, tapfer, until};

/// The members of the pool.
pub(crate) const MEMBERS: [&str; 2] = ["north", "south"];
/// Of pauses between looks, most of which start a process and take ten times as long: what waits in vain has to end
/// before `scripts/controls` gives it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where tokens, control files, custodians' parts and the realm itself lie.
pub(crate) struct Hsms(TempDir);

impl Hsms {
    /// Two tokens, and a realm whose root keys a ceremony has put on both.
    pub(crate) fn with_realm(kind: &str) -> Self {
        let hsms = Self::without_realm();
        hold_ceremony(&hsms.home(), kind, hsms.0.path());
        hsms
    }

    /// Two tokens that are empty, and a home directory that names them.
    pub(crate) fn without_realm() -> Self {
        let hsms = Self(tempfile::tempdir().unwrap());
        private_directory(&hsms.home());
        let pin = hsms.pin();
        fs::write(&pin, USER_PIN).unwrap();
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
        hsms.make_site(&MEMBERS, &hsms.home().join("hsm.toml"));
        hsms
    }

    /// Makes empty tokens of these names, and the `hsm.toml` of a site that has them.
    pub(crate) fn make_site(&self, members: &[&str], file: &Path) {
        // A worker that owes an answer is given up soon, so that the test sees it.
        let mut text = "[pool]\nsilent_after_ms = 500\nstalled_after_ms = 1000\n".to_owned();
        text.extend(members.iter().map(|name| self.member(name, &self.pin())));
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn pin(&self) -> PathBuf {
        self.file("pin")
    }

    /// How many objects are on a token.
    pub(crate) fn objects(&self, name: &str) -> usize {
        let tokens = fs::read_dir(self.file(name).join("tokens")).unwrap();
        let files = tokens.flat_map(|token| fs::read_dir(token.unwrap().path()).unwrap());
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".object") && name != "token.object").count()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.file("home")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where the ceremony left the custodians' parts.
    pub(crate) fn parts(&self) -> PathBuf {
        self.file("parts")
    }

    fn member(&self, name: &str, pin: &Path) -> String {
        let directory = self.file(name);
        private_directory(&directory);
        let _prepared = Place::prepare(Kind::SoftHsm, &directory, &[]);
        let environment = self.environment(name);
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", name, "--so-pin", "1357-officer"])
            .args(["--pin", USER_PIN])
            .envs(environment.clone())
            .output()
            .expect("Debian's package softhsm2 is installed");
        assert!(made.status.success(), "{made:?}");
        format!(
            "[[member]]\nname = {name:?}\nmodule = {:?}\ntoken = {name:?}\npin = {{ file = {pin:?} }}\n\
             environment = {{ {} }}\n",
            faulty_module(),
            environment.map(|(variable, file)| format!("{variable} = {file:?}")).join(", "),
        )
    }

    /// What a process that loads a member's module has in its environment.
    pub(crate) fn environment(&self, name: &str) -> [(&'static str, PathBuf); 3] {
        let place = Place { kind: Kind::SoftHsm, directory: self.file(name) };
        let control = self.file(&format!("{name}.control"));
        let module = Kind::SoftHsm.module();
        [place.environment(), ("FAULTY_MODULE", module), ("FAULTY_CONTROL", control)]
    }

    /// Makes a member's module fail in this way; with nothing, it works again.
    pub(crate) fn set(&self, name: &str, fault: &str) {
        let unfinished = self.file(&format!("{name}.unfinished"));
        fs::write(&unfinished, fault).unwrap();
        fs::rename(unfinished, self.file(&format!("{name}.control"))).unwrap();
    }
}

fn private_directory(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Draws root keys into what the home directory has for them: two of three custodians' parts in `table/parts`.
pub(crate) fn hold_ceremony(home: &Path, kind: &str, table: &Path) {
    let held = tapfer()
        .args(["keys", "ceremony", "new", "--realm", kind, "--threshold", "2"])
        .args(["--custodian", "Ada", "--custodian", "Grace", "--custodian", "Edsger"])
        .args(["--officer", "Tony", "--witness", "Barbara", "--json"])
        .arg("--transcript")
        .arg(table.join("transcript.txt"))
        .arg("--parts-into")
        .arg(table.join("parts"))
        .arg("--home")
        .arg(home)
        .output()
        .unwrap();
    assert!(held.status.success(), "{held:?}");
}

/// What `tapfer hsm status` shows.
pub(crate) fn status(platform: &Platform) -> Value {
    let told = platform.run(&["hsm", "status"]);
    serde_json::from_slice(&told.stdout).unwrap_or_else(|error| panic!("{error}: {told:?}"))
}

/// Process ids of a member's workers.
pub(crate) fn workers(platform: &Platform, member: &str) -> Vec<u64> {
    let status = status(platform);
    let members = status["pool"]["members"].as_array().unwrap();
    let member = members.iter().find(|found| found["name"] == member).unwrap();
    let workers = member["workers"].as_array().unwrap();
    workers.iter().filter_map(|worker| worker["process"].as_u64()).collect()
}

/// Waits until every worker of every member serves and owes no answer, and every breaker is closed.
pub(crate) fn until_all_serve(platform: &Platform) {
    until("all security modules serve", PATIENCE, || {
        let status = status(platform);
        let members = status["pool"]["members"].as_array()?.clone();
        let serves = |member: &Value| {
            let workers = member["workers"].as_array().cloned().unwrap_or_default();
            let well = |worker: &Value| worker["state"] == "serving" && worker["waiting"] == 0;
            member["breaker"] == "closed" && workers.iter().all(well)
        };
        members.iter().all(serves).then_some(())
    });
}
