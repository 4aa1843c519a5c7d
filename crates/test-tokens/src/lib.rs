//! Tokens of real PKCS#11 modules for tests.
//!
//! Both modules read where their tokens are from an environment variable when they are initialised, so a
//! process has one answer for all its tests. Therefore a test that opens a module runs in a process of
//! its own: [`isolated`] starts the test binary again for that one test, with a fresh directory, and this
//! works under `cargo test` and `cargo nextest` alike. A module that crashes takes only its test with it.
//!
//! Tests alone use this crate: failing is by panic.

#![allow(clippy::expect_used, clippy::panic)]

use std::any::type_name;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tapfer_payment_types::Secret;
use tapfer_pkcs11::{Calls, Module};

/// The PIN of every test token's user.
pub const USER_PIN: &str = "2468-user";
const OFFICER_PIN: &str = "1357-officer";

/// Says to the child where its directory is.
const DIRECTORY: &str = "TAPFER_TEST_TOKENS";

/// A module to test with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SoftHSM2, of Debian's package `softhsm2`.
    SoftHsm,
    /// Kryoptic, built by `scripts/test-modules`.
    Kryoptic,
}

impl Kind {
    /// The library. Panics with what to do if it is not there.
    #[must_use]
    pub fn module(self) -> PathBuf {
        match self {
            Self::SoftHsm => first_that_exists(
                &[
                    "/usr/lib/softhsm/libsofthsm2.so".into(),
                    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so".into(),
                    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so".into(),
                    "/usr/lib64/softhsm/libsofthsm.so".into(),
                ],
                "install Debian's package softhsm2 (scripts/test-modules does)",
            ),
            Self::Kryoptic => built("libkryoptic_pkcs11.so"),
        }
    }
}

/// Our module that forwards to a real one and fails as a file says (`test-modules/README.md`).
#[must_use]
pub fn faulty_module() -> PathBuf {
    built("libtapfer_faulty_module.so")
}

fn built(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-modules/target/release");
    first_that_exists(&[root.join(file)], "run scripts/test-modules, which builds it")
}

fn first_that_exists(candidates: &[PathBuf], otherwise: &str) -> PathBuf {
    let found = candidates.iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("none of {candidates:?} is there: {otherwise}")).clone()
}

/// A directory with a module's configuration, in which tokens are made.
#[derive(Debug, Clone)]
pub struct Place {
    /// The module.
    pub kind: Kind,
    /// The directory.
    pub directory: PathBuf,
}

impl Place {
    /// Writes a module's configuration into an empty directory. `without`: mechanisms that the module is
    /// not to offer, to see what happens with a poorer one.
    #[must_use]
    pub fn prepare(kind: Kind, directory: &Path, without: &[&str]) -> Self {
        let place = Self { kind, directory: directory.to_owned() };
        let text = match kind {
            Kind::SoftHsm => place.softhsm_configuration(without),
            Kind::Kryoptic => place.kryoptic_configuration(without),
        };
        fs::write(place.configuration(), text).expect("the configuration can be written");
        place
    }

    fn softhsm_configuration(&self, without: &[&str]) -> String {
        let tokens = self.directory.join("tokens");
        fs::create_dir_all(&tokens).expect("a directory for tokens can be made");
        let mechanisms =
            if without.is_empty() { "ALL".to_owned() } else { format!("-{}", without.join(",")) };
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n\
             slots.mechanisms = {mechanisms}\n",
            tokens.display()
        )
    }

    fn kryoptic_configuration(&self, without: &[&str]) -> String {
        let mut text = String::new();
        for slot in 0..4 {
            let file = self.directory.join(format!("token{slot}.sql"));
            text.push_str(&format!(
                "[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
                file.display()
            ));
            if !without.is_empty() {
                text.push_str(&format!(
                    "mechanisms = [\"DENY\", \"{}\"]\n",
                    without.join("\", \"")
                ));
            }
        }
        text
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("module.conf")
    }

    /// What a process that loads the module must have in its environment.
    #[must_use]
    pub fn environment(&self) -> (&'static str, PathBuf) {
        let variable = match self.kind {
            Kind::SoftHsm => "SOFTHSM2_CONF",
            Kind::Kryoptic => "KRYOPTIC_CONF",
        };
        (variable, self.configuration())
    }

    /// Makes a token, in a process that has [`Place::environment`], and ends the library's work: modules
    /// look for new tokens when they start.
    pub fn make_token(&self, label: &str) {
        let module = self.load();
        module.initialize_token(label, &officer_pin(), &user_pin()).expect("a token is made");
        module.finalize().expect("the library ends");
    }

    /// Loads the module.
    #[must_use]
    pub fn load(&self) -> Module {
        Module::load(&self.kind.module(), &Calls::default()).expect("the module loads")
    }
}

/// The PIN of every test token's user.
#[must_use]
pub fn user_pin() -> Secret<String> {
    Secret::new(USER_PIN.to_owned())
}

fn officer_pin() -> Secret<String> {
    Secret::new(OFFICER_PIN.to_owned())
}

/// Runs the rest of a test in a process of its own, with a place for tokens of this module. To be called
/// from the test function itself, with a closure: from its name the test is found again.
pub fn isolated<F: FnOnce(&Place)>(kind: Kind, body: F) {
    isolated_without(kind, &[], &[], body);
}

/// As [`isolated`], with a module that lacks some mechanisms, and more environment: `{}` in a value is
/// replaced by the directory.
pub fn isolated_without<F: FnOnce(&Place)>(
    kind: Kind,
    without: &[&str],
    environment: &[(&str, &str)],
    body: F,
) {
    let test = test_name::<F>();
    if let Some(directory) = env::var_os(DIRECTORY) {
        return body(&Place { kind, directory: directory.into() });
    }
    // What is missing is said here, and not below in a child.
    let _ = kind.module();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let place = Place::prepare(kind, directory.path(), without);
    let (variable, configuration) = place.environment();
    let path = directory.path().display().to_string();
    let output = Command::new(env::current_exe().expect("the test binary is known"))
        .args([&test, "--exact", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .env(variable, configuration)
        .envs(environment.iter().map(|(name, value)| (name, value.replace("{}", &path))))
        .output()
        .expect("the test binary starts again");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed, {}:\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "{test} is no test of this binary:\n{out}");
}

/// `crate::module::test::{{closure}}` without its crate and its closure.
fn test_name<F>() -> String {
    let name = type_name::<F>().split("::{{closure}}").next().unwrap_or_default();
    name.split_once("::").map(|(_, name)| name.to_owned()).expect("a test calls with a closure")
}
