//! A PIN that is refused: how often the token hears it, and how its member goes on when it was put right.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use tapfer_hsm::pkcs11::{LoginRecord, Pkcs11Configuration, Pkcs11Vault};
use tapfer_hsm::pool::{self, Assignment, HsmPool, Launcher, MemberConfig};
use tapfer_hsm::{HsmError, VaultedHsm};
use tapfer_payment_types::Secret;
use tapfer_test_tokens::{Kind, USER_PIN, faulty_module};

use crate::house::{all_serve, member, serves, until};
use crate::load::Payment;
use crate::modules::{CATALOGUE, Modules, child, configuration};

/// Says to this program, started anew, that it is a worker, and where it remembers a refused PIN.
const RECORD: &str = "TAPFER_POOL_TEST_LOGIN_RECORD";

/// A child: the worker, which is told its PIN over the socket.
#[test]
fn pin_worker() {
    let Some(record) = env::var_os(RECORD) else { return };
    let socket = pool::take_socket().unwrap();
    let assignment = pool::take_assignment(&socket).unwrap();
    let open = || {
        let vault = Pkcs11Vault::open(Pkcs11Configuration {
            pin: assignment.pin,
            login_record: Some(LoginRecord::at(record.into())),
            ..configuration(faulty_module())
        })?;
        VaultedHsm::over_catalogue(vault, Path::new(&env::var_os(CATALOGUE).unwrap()))
    };
    let _ended = pool::serve(socket, false, open);
}

/// Files of PINs, of what was refused, and of calls.
#[derive(Clone)]
struct Desk(PathBuf);

impl Desk {
    fn at(modules: &Modules) -> Self {
        let desk = Self(modules.directory.path().to_owned());
        ["north", "south"].iter().for_each(|name| desk.write_pin(name, USER_PIN));
        desk
    }

    fn file(&self, name: &str, what: &str) -> PathBuf {
        self.0.join(format!("{name}.{what}"))
    }

    fn write_pin(&self, name: &str, pin: &str) {
        fs::write(self.file(name, "pin"), pin).unwrap();
    }

    fn logins(&self, name: &str) -> usize {
        // Not there before the first call.
        let calls = fs::read_to_string(self.file(name, "calls")).unwrap_or_default();
        calls.lines().filter(|line| *line == "C_Login").count()
    }
}

impl Launcher for Desk {
    fn command(&self, member: &MemberConfig) -> Command {
        let mut command = child("pins::pin_worker");
        command.env(CATALOGUE, self.0.join("keys.json"));
        command.env(RECORD, self.file(&member.name, "login"));
        command.env("FAULTY_CALLS", self.file(&member.name, "calls"));
        command
    }

    fn assignment(&self, member: &MemberConfig) -> Result<Option<Assignment>, HsmError> {
        let pin = fs::read_to_string(self.file(&member.name, "pin")).unwrap();
        Ok(Some(Assignment { pin: Secret::new(pin), overrules_refusal: false }))
    }

    fn pin_stamp(&self, member: &MemberConfig) -> String {
        let read = |what| fs::read_to_string(self.file(&member.name, what)).unwrap_or_default();
        format!("{} {}", read("pin"), read("login"))
    }
}

fn is_halted(pool: &HsmPool, name: &str) {
    until(pool, |status| {
        let mut workers = member(status, name).workers.iter();
        workers.all(|worker| worker.state == "halted")
    });
    let status = pool.status();
    for worker in &member(&status, name).workers {
        let cause = worker.cause.clone().unwrap();
        assert!(
            cause.contains("CKR_PIN_INCORRECT") && cause.contains("tapfer hsm login"),
            "{cause}"
        );
    }
}

#[test]
fn attack_pin_locked_by_many_workers() {
    let (modules, mut config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let desk = Desk::at(&modules);
    for member in &mut config.members {
        desk.write_pin(&member.name, "wrong");
        member.workers = 6;
    }
    for _ in 0..2 {
        let refused = HsmPool::launch(config.clone(), None, desk.clone()).unwrap_err().to_string();
        assert!(refused.contains("CKR_PIN_INCORRECT"), "{refused}");
    }
    // Twelve workers, started twice: one try of each token.
    assert_eq!([desk.logins("north"), desk.logins("south")], [1, 1]);
}

#[test]
fn a_member_goes_on_by_itself_when_its_pin_was_corrected() {
    let (modules, config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let desk = Desk::at(&modules);
    desk.write_pin("north", "wrong");
    let pool = HsmPool::launch(config, None, desk.clone()).unwrap();
    is_halted(&pool, "north");
    assert_eq!(desk.logins("north"), 1);
    until(&pool, |status| serves(member(status, "south")));
    Payment::new().verify(&pool).unwrap();

    desk.write_pin("north", USER_PIN);
    until(&pool, all_serve);
}

#[test]
fn a_pin_refused_in_the_middle_of_work_halts_until_a_person_has_acted() {
    let (modules, config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let desk = Desk::at(&modules);
    let pool = HsmPool::launch(config, None, desk.clone()).unwrap();
    until(&pool, all_serve);
    let before = desk.logins("north");
    // The logins are lost, and the PIN has been changed meanwhile.
    let lost = "CKR_USER_NOT_LOGGED_IN C_DeriveKey\nCKR_USER_NOT_LOGGED_IN C_GenerateRandom\n";
    modules.set("north", &format!("{lost}CKR_PIN_INCORRECT C_Login\n"));
    until(&pool, |status| {
        Payment::new().verify(&pool).unwrap();
        let mut workers = member(status, "north").workers.iter();
        workers.all(|worker| worker.state == "halted")
    });
    is_halted(&pool, "north");
    assert_eq!(desk.logins("north"), before + 1, "by both of its workers together");

    // The token takes it again; what clears the record is `tapfer hsm login`.
    modules.set("north", "");
    fs::write(desk.file("north", "login"), "").unwrap();
    until(&pool, all_serve);
}
