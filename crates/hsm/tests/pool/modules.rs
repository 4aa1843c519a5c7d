//! The same with real PKCS#11 modules: SoftHSM2 and Kryoptic, one token each, behind the module that fails as its
//! control file says (`test-modules/README.md`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, thread};

use tapfer_emv::keys::IssuerMasterKey;
use tapfer_hsm::pkcs11::{
    CacheLimits, Operation, Pkcs11Configuration, Pkcs11Vault, Place as Where,
};
use tapfer_hsm::pool::{self, HsmPool, PoolConfig};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::{PaymentHsm, Realm, VaultedHsm};
use tapfer_payment_types::{RealmId, Secret};
use tapfer_test_tokens::{Kind, Place, faulty_module, user_pin};
use tempfile::TempDir;

use crate::failover::{nothing_refused, pay, until_balanced};
use crate::house::{MASTER_KEY, all_serve, issuer, kill, member, now, processes, until};
use crate::load::{Load, Payment, under_load};

const LABEL: &str = "pool";
const ROOTS: [[u8; 32]; 2] = [[0x5A; 32], [0xC3; 32]];
/// Say to this program, started anew, that it is a worker over a catalogue, or puts root keys on a new token.
pub const CATALOGUE: &str = "TAPFER_POOL_TEST_CATALOGUE";
const NEW_TOKEN: &str = "TAPFER_POOL_TEST_NEW_TOKEN";

fn realm() -> RealmId {
    RealmId::new(now(), [9; 10])
}

pub fn roots() -> RootKeys {
    let [sealing, releasing] = ROOTS.map(Secret::new);
    RootKeys::new(sealing, releasing)
}

pub fn configuration(module: PathBuf) -> Pkcs11Configuration {
    Pkcs11Configuration {
        module,
        token: LABEL.to_owned(),
        pin: user_pin(),
        login_record: None,
        realm: realm(),
        limits: CacheLimits::default(),
        // Keys at hand do not grow old in a test.
        stopwatch: Box::new(|| Duration::ZERO),
    }
}

/// A child: makes a token and puts the root keys on it.
#[test]
fn token_maker() {
    let Some(kind) = env::var_os(NEW_TOKEN) else { return };
    let kind = if kind == "Kryoptic" { Kind::Kryoptic } else { Kind::SoftHsm };
    let directory = env::current_dir().unwrap();
    Place { kind, directory }.make_token(LABEL);
    Pkcs11Vault::install_roots(&configuration(kind.module()), &roots()).unwrap();
}

/// A child: the worker.
#[test]
fn module_worker() {
    let Some(catalogue) = env::var_os(CATALOGUE) else { return };
    let socket = pool::take_socket().unwrap();
    let open = || {
        let vault = Pkcs11Vault::open(configuration(faulty_module()))?;
        VaultedHsm::over_catalogue(vault, Path::new(&catalogue))
    };
    let _ended = pool::serve(socket, false, open);
}

pub fn child(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]);
    command
}

/// Two members with the same root keys, and a catalogue.
pub struct Modules {
    pub directory: TempDir,
}

impl Modules {
    pub fn new(north: Kind, south: Kind) -> (Self, HsmPool) {
        let (modules, config) = Self::prepare(north, south);
        let catalogue = modules.catalogue();
        let pool = HsmPool::open(config, None, move |_| {
            let mut command = child("modules::module_worker");
            command.env(CATALOGUE, &catalogue);
            command
        })
        .unwrap();
        until(&pool, all_serve);
        (modules, pool)
    }

    /// Tokens and catalogue, and what `hsm.toml` would say.
    pub fn prepare(north: Kind, south: Kind) -> (Self, PoolConfig) {
        let modules = Self { directory: tempfile::tempdir().unwrap() };
        let mut text = "[pool]\nsilent_after_ms = 500\nstalled_after_ms = 1000\n".to_owned();
        for (name, kind) in [("north", north), ("south", south)] {
            text.push_str(&modules.member(name, kind));
        }
        let vault = SoftwareVault::new(roots());
        let catalogue = modules.catalogue();
        let hsm = VaultedHsm::with_new_catalogue(vault, &catalogue, Realm::Demo, realm()).unwrap();
        hsm.import_demo_issuer(issuer(), IssuerMasterKey::new(MASTER_KEY), now()).unwrap();
        (modules, PoolConfig::parse(&text).unwrap())
    }

    pub fn catalogue(&self) -> PathBuf {
        self.directory.path().join("keys.json")
    }

    /// Makes the token of a member, and says how it stands in `hsm.toml`.
    fn member(&self, name: &str, kind: Kind) -> String {
        let directory = self.directory.path().join(name);
        fs::create_dir(&directory).unwrap();
        let place = Place::prepare(kind, &directory, &[]);
        let (variable, file) = place.environment();
        let made = child("modules::token_maker")
            .env(NEW_TOKEN, format!("{kind:?}"))
            .env(variable, &file)
            .current_dir(&directory)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        format!(
            "[[member]]\nname = \"{name}\"\nmodule = {:?}\ntoken = \"{LABEL}\"\npin = {{ env = \"NONE\" }}\n\
             environment = {{ {variable} = {file:?}, FAULTY_MODULE = {:?}, FAULTY_CONTROL = {:?} }}\n",
            faulty_module(),
            kind.module(),
            self.control(name),
        )
    }

    fn control(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.control"))
    }

    pub fn set(&self, name: &str, fault: &str) {
        let unfinished = self.directory.path().join(format!("{name}.unfinished"));
        fs::write(&unfinished, fault).unwrap();
        fs::rename(unfinished, self.control(name)).unwrap();
    }
}

/// Payments go on while the first member does this and until it is well again.
fn survives(north: Kind, south: Kind, fault: &str, is_seen: impl Fn(&HsmPool, &Load)) {
    let (modules, pool) = Modules::new(north, south);
    let load = under_load(&pool, |load| {
        pay(&pool, load, 200);
        modules.set("north", fault);
        is_seen(&pool, load);
        pay(&pool, load, 300);
        modules.set("north", "");
        until(&pool, all_serve);
        until_balanced(&pool, load);
    });
    nothing_refused(&load);
}

fn breaker_opens(pool: &HsmPool, _: &Load) {
    until(pool, |status| member(status, "north").breaker_transitions > 0);
}

fn all_restart(pool: &HsmPool, _: &Load) {
    until(pool, |status| member(status, "north").workers.iter().all(|one| one.restarts > 0));
}

/// What a worker found out about its module is told by the pool.
#[test]
fn each_module_is_reported_with_what_it_does_where() {
    let (_modules, pool) = Modules::new(Kind::SoftHsm, Kind::Kryoptic);
    let status = pool.status();
    let report = |name: &str| member(&status, name).report.clone().unwrap();
    let (north, south) = (report("north"), report("south"));
    assert!(north.module.contains("SoftHSM") && south.module.contains("Kryoptic"));
    assert_eq!(north.roots, south.roots);
    for report in [north, south] {
        let place = |operation| {
            let mut all = report.capabilities.iter();
            all.find(|one| one.operation == operation).map(|one| one.place)
        };
        assert_eq!(place(Operation::CardKeys), Some(Where::Inside));
        assert_eq!(place(Operation::SchnorrSigning), Some(Where::LockedMemory));
    }
}

#[test]
fn a_device_error_costs_no_payment() {
    survives(Kind::SoftHsm, Kind::SoftHsm, "CKR_DEVICE_ERROR", breaker_opens);
}

/// A worker opens its session again by itself. Where that does not help, the other member is asked.
#[test]
fn an_invalid_session_costs_no_payment() {
    survives(Kind::SoftHsm, Kind::SoftHsm, "CKR_SESSION_HANDLE_INVALID", breaker_opens);
}

#[test]
fn a_library_that_hangs_for_ever_costs_no_payment() {
    survives(Kind::SoftHsm, Kind::SoftHsm, "hang", all_restart);
}

#[test]
fn a_library_that_crashes_costs_no_payment() {
    survives(Kind::SoftHsm, Kind::Kryoptic, "abort", all_restart);
}

#[test]
fn killed_processes_cost_no_payment() {
    survives(Kind::Kryoptic, Kind::SoftHsm, "", |pool, load| {
        processes(pool, "north").into_iter().for_each(kill);
        all_restart(pool, load);
    });
}

/// The token is taken out: the worker that is running finds its session gone, a new one finds no token.
#[test]
fn a_token_that_is_taken_out_costs_no_payment() {
    survives(Kind::SoftHsm, Kind::Kryoptic, "CKR_TOKEN_NOT_PRESENT", |pool, load| {
        breaker_opens(pool, load);
        processes(pool, "north").into_iter().for_each(kill);
        until(pool, |status| {
            let mut workers = member(status, "north").workers.iter();
            workers.all(|one| one.state != "serving" && one.cause.is_some())
        });
    });
}

#[test]
fn without_both_modules_payments_are_refused_with_the_reason_and_go_on_by_themselves() {
    let (modules, pool) = Modules::new(Kind::SoftHsm, Kind::Kryoptic);
    for name in ["north", "south"] {
        modules.set(name, "CKR_DEVICE_ERROR");
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| drop(Payment::new().verify(&pool))));
        }
    });
    until(&pool, |status| !status.serves);
    let said = Payment::new().verify(&pool).unwrap_err().to_string();
    assert!(said.contains("CKR_DEVICE_ERROR"), "{said}");
    modules.set("south", "");
    until(&pool, |status| status.serves);
    Payment::new().verify(&pool).unwrap();
}

/// Every worker of every member knows keys that one of them has made, before the answer is given.
#[test]
fn keys_that_one_worker_made_are_known_to_all() {
    let (_modules, pool) = Modules::new(Kind::SoftHsm, Kind::Kryoptic);
    for number in 20..23 {
        let made = tapfer_payment_types::IssuerId::new(now(), [number; 10]);
        let keys = pool.create_issuer(made, now()).unwrap();
        for _ in 0..20 {
            assert_eq!(pool.issuer_keys(made).unwrap(), keys);
        }
    }
}
