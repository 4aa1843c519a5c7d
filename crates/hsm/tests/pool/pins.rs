//! A PIN that is refused: how often the token hears it, and how its member goes on when it was put right. And one
//! that is not, while its token is away.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use std::{env, fs};

use tapfer_hsm::pkcs11::{LoginRecord, Pkcs11Configuration, Pkcs11Vault};
use tapfer_hsm::pool::{self, Assignment, HsmPool, Launcher, MemberConfig, PoolConfig};
use tapfer_hsm::{HsmError, VaultedHsm};
use tapfer_payment_types::Secret;
use tapfer_test_tokens::{Kind, USER_PIN, faulty_module};

use crate::house::{all_serve, kill, member, processes, serves, until};
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
        let record = LoginRecord::at(record.into());
        let overrules = assignment.overrules_refusal;
        let vault = Pkcs11Vault::open(Pkcs11Configuration {
            pin: assignment.pin,
            login_record: Some(if overrules { record.overruled() } else { record }),
            ..configuration(faulty_module())
        })?;
        VaultedHsm::over_catalogue(vault, Path::new(&env::var_os(CATALOGUE).unwrap()))
    };
    let _ended = pool::serve(socket, false, open);
}

/// Files of PINs, of what was refused, and of calls.
#[derive(Clone)]
struct Desk {
    directory: PathBuf,
    /// As `tapfer hsm login` does.
    overrules_refusal: bool,
}

impl Desk {
    fn at(modules: &Modules) -> Self {
        let directory = modules.directory.path().to_owned();
        let desk = Self { directory, overrules_refusal: false };
        ["north", "south"].iter().for_each(|name| desk.write_pin(name, USER_PIN));
        desk
    }

    fn file(&self, name: &str, what: &str) -> PathBuf {
        self.directory.join(format!("{name}.{what}"))
    }

    /// Logs in to one member, although its PIN was refused, in so many processes, and once in each.
    fn log_in(&self, config: &PoolConfig, name: &str, workers: u8) -> Result<HsmPool, HsmError> {
        let member = MemberConfig { workers, ..config.member(name).unwrap().clone() };
        let config = PoolConfig { members: vec![member], ..config.clone() };
        let desk = Self { overrules_refusal: true, ..self.clone() };
        Ok(HsmPool::launch(config, None, None, desk)?)
    }

    fn write_pin(&self, name: &str, pin: &str) {
        fs::write(self.file(name, "pin"), pin).unwrap();
    }

    /// From here on the last login to a member was so many seconds ago.
    #[expect(clippy::disallowed_methods, reason = "the time of a file is the system's")]
    fn set_last_login(&self, name: &str, seconds: u64) {
        let record = fs::File::options().write(true).open(self.file(name, "login")).unwrap();
        record.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
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
        command.env(CATALOGUE, self.directory.join("keys.json"));
        command.env(RECORD, self.file(&member.name, "login"));
        command.env("FAULTY_CALLS", self.file(&member.name, "calls"));
        command
    }

    fn assignment(&self, member: &MemberConfig) -> Result<Option<Assignment>, HsmError> {
        let pin = fs::read_to_string(self.file(&member.name, "pin")).unwrap();
        Ok(Some(Assignment { pin: Secret::new(pin), overrules_refusal: self.overrules_refusal }))
    }

    fn starts_again(&self) -> bool {
        !self.overrules_refusal
    }

    fn pin_stamp(&self, member: &MemberConfig) -> String {
        let stamp = |what| {
            let found = fs::metadata(self.file(&member.name, what)).ok()?;
            Some((found.mtime(), found.mtime_nsec(), found.len()))
        };
        format!("{:?} {:?}", stamp("pin"), stamp("login"))
    }
}

fn is_halted(pool: &HsmPool, name: &str) {
    is_halted_for(pool, name, "CKR_PIN_INCORRECT");
}

fn is_halted_for(pool: &HsmPool, name: &str, why: &str) {
    until(pool, |status| {
        let mut workers = member(status, name).workers.iter();
        workers.all(|worker| worker.state == "halted")
    });
    let status = pool.status();
    for worker in &member(&status, name).workers {
        let cause = worker.cause.clone().unwrap();
        assert!(cause.contains(why) && cause.contains("tapfer hsm login"), "{cause}");
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
        let refused = HsmPool::launch(config.clone(), None, None, desk.clone()).unwrap_err();
        assert!(refused.cause.contains("CKR_PIN_INCORRECT"), "{refused}");
        assert!(refused.waits_for_people, "nobody but a person brings one back: {refused}");
    }
    // Twelve workers, started twice: one try of each token.
    assert_eq!([desk.logins("north"), desk.logins("south")], [1, 1]);
}

#[test]
fn a_member_goes_on_by_itself_when_its_pin_was_corrected() {
    let (modules, config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let desk = Desk::at(&modules);
    desk.write_pin("north", "wrong");
    let pool = HsmPool::launch(config, None, None, desk.clone()).unwrap();
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
    let pool = HsmPool::launch(config.clone(), None, None, desk.clone()).unwrap();
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

    // The token takes it again, and a person says so.
    modules.set("north", "");
    drop(desk.log_in(&config, "north", 1).unwrap());
    until(&pool, all_serve);
}

const MEMBERS: [&str; 2] = ["north", "south"];

/// Some modules answer so when their device is away: it says nothing of the PIN.
#[test]
fn an_outage_that_says_nothing_halts_no_member_whose_pin_was_taken() {
    let (modules, config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let desk = Desk::at(&modules);
    let pool = HsmPool::launch(config, None, None, desk.clone()).unwrap();
    until(&pool, all_serve);
    let calls = "C_Login C_DeriveKey C_GenerateRandom C_Sign C_SignInit C_GetSessionInfo";
    for fault in [format!("CKR_FUNCTION_FAILED {calls}"), "abort C_Login".to_owned()] {
        let before = MEMBERS.map(|name| desk.logins(name));
        for name in MEMBERS {
            modules.set(name, &fault);
            // None is left that is logged in.
            processes(&pool, name).into_iter().for_each(kill);
        }
        until(&pool, |status| {
            let _refused = Payment::new().is_verified(&pool);
            MEMBERS.iter().for_each(|name| desk.set_last_login(name, 60));
            let workers = status.members.iter().flat_map(|member| &member.workers);
            assert_eq!(workers.filter(|worker| worker.state == "halted").count(), 0, "{status:#?}");
            let logins =
                MEMBERS.iter().zip(before).map(|(name, before)| desk.logins(name) - before);
            logins.min().unwrap() >= 6
        });
        MEMBERS.iter().for_each(|name| modules.set(name, ""));
        until(&pool, |status| {
            MEMBERS.iter().for_each(|name| desk.set_last_login(name, 60));
            all_serve(status)
        });
        Payment::new().verify(&pool).unwrap();
    }
}

/// The token has counted what it heard, whether or not anybody waited for its answer.
#[test]
fn attack_pin_locked_by_logins_that_nobody_saw_the_end_of() {
    let (modules, config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let desk = Desk::at(&modules);
    desk.write_pin("north", "wrong");
    modules.set("north", "abort C_Login");
    let pool = HsmPool::launch(config.clone(), None, None, desk.clone()).unwrap();
    is_halted_for(&pool, "north", "its process ended before the token had answered");
    assert_eq!(desk.logins("north"), 2, "as often as unclear answers are borne, by both workers");
    until(&pool, |status| serves(member(status, "south")));

    // The same if it is the person's own try that nobody sees the end of: a refusal stays one until the PIN is taken.
    desk.log_in(&config, "north", 1).unwrap_err();
    is_halted_for(&pool, "north", "its process ended before the token had answered");
    assert_eq!(desk.logins("north"), 3);
    modules.set("north", "");
    desk.write_pin("north", USER_PIN);
    until(&pool, all_serve);
}

/// The token took the PIN, and it was changed there since; but the module dies before anybody hears that.
#[test]
fn attack_pin_locked_by_logins_without_an_end_although_it_was_taken() {
    let (modules, config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let desk = Desk::at(&modules);
    let pool = HsmPool::launch(config.clone(), None, None, desk.clone()).unwrap();
    until(&pool, all_serve);
    let before = desk.logins("north");
    modules.set("north", "abort C_Login");
    processes(&pool, "north").into_iter().for_each(kill);
    until(&pool, |status| {
        desk.set_last_login("north", 0);
        let mut workers = member(status, "north").workers.iter();
        workers.all(|worker| {
            worker.cause.as_ref().is_some_and(|cause| cause.contains("2 logins in a row"))
        })
    });
    assert_eq!(desk.logins("north"), before + 2, "by both workers, and then none for some time");

    // An outage looks the same, so it is asked on, and nobody has to act when that is over.
    for seconds in [9, 17, 31] {
        let logins = desk.logins("north");
        until(&pool, |_| {
            desk.set_last_login("north", seconds);
            desk.logins("north") > logins
        });
    }
    modules.set("north", "");
    until(&pool, |status| {
        desk.set_last_login("north", 31);
        all_serve(status)
    });

    // Unless the token itself says that it has counted one.
    let before = desk.logins("north");
    modules.set("north", "abort C_Login");
    processes(&pool, "north").into_iter().for_each(kill);
    until(&pool, |_| desk.logins("north") > before);
    modules.set("north", "abort C_Login\nflags CKF_USER_PIN_COUNT_LOW\n");
    is_halted_for(&pool, "north", "it counted one since");
    assert!(desk.logins("north") <= before + 2, "whoever had looked before that");
    modules.set("north", "");
    drop(desk.log_in(&config, "north", 1).unwrap());
    until(&pool, all_serve);
}

/// Each process that overrules a refusal writes the record, and so changes what the others wait for.
#[test]
fn attack_pin_locked_by_a_person_who_tries_once() {
    let (modules, config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let desk = Desk::at(&modules);
    desk.write_pin("north", "wrong");
    for round in 1..=3 {
        desk.log_in(&config, "north", 4).unwrap_err();
        assert_eq!(desk.logins("north"), round * 4, "one in each process");
    }
    // Nor is it tried again where the answer says nothing, or the device is away.
    for (fault, logins) in [("CKR_FUNCTION_FAILED C_Login", 13), ("CKR_DEVICE_ERROR C_Login", 14)] {
        modules.set("north", fault);
        desk.log_in(&config, "north", 1).unwrap_err();
        assert_eq!(desk.logins("north"), logins, "{fault}");
    }
}

/// Others have used the tries up. Nothing was written, for nothing was tried.
#[test]
fn a_member_whose_last_try_was_left_to_people_goes_on_when_one_has_logged_in() {
    let (modules, config) = Modules::prepare(Kind::SoftHsm, Kind::SoftHsm);
    let desk = Desk::at(&modules);
    let pool = HsmPool::launch(config.clone(), None, None, desk.clone()).unwrap();
    for flag in ["CKF_USER_PIN_FINAL_TRY", "CKF_USER_PIN_LOCKED"] {
        until(&pool, all_serve);
        let before = desk.logins("north");
        modules.set("north", &format!("flags {flag}"));
        processes(&pool, "north").into_iter().for_each(kill);
        is_halted_for(&pool, "north", flag);
        desk.log_in(&config, "north", 1).unwrap_err();
        assert_eq!(desk.logins("north"), before, "no process takes the last try");
        // The vendor's tool gave it its tries back.
        modules.set("north", "");
        drop(desk.log_in(&config, "north", 1).unwrap());
        until(&pool, all_serve);
    }
}
