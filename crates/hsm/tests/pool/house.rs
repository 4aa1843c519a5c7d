//! A realm's keys, and a pool of two members that use them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_hsm::pool::{HsmPool, MemberStatus, PoolConfig, PoolStatus};
use tapfer_hsm::{HsmError, PaymentHsm, Realm, SoftwareHsm, Unlock};
use tapfer_payment_types::{IssuerId, RealmId, Timestamp};
use tempfile::TempDir;

use crate::faulty::{Fault, WORKER_OF};

pub const MASTER_KEY: [u8; 16] = [0x42; 16];
/// Far longer than anything here takes, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn unlock() -> Unlock {
    let key = "5a1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";
    Unlock::key_from_hex(key).unwrap()
}

/// Keystore and catalogue.
pub fn files(house: &Path) -> [PathBuf; 2] {
    ["keystore", "keys.json"].map(|name| house.join(name))
}

pub fn now() -> Timestamp {
    "2026-11-21T12:34:56Z".parse().unwrap()
}

pub fn issuer() -> IssuerId {
    IssuerId::new(now(), [1; 10])
}

pub struct House {
    directory: TempDir,
}

impl House {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let realm = RealmId::new(now(), [9; 10]);
        let [keystore, catalogue] = files(directory.path());
        let hsm =
            SoftwareHsm::create(&keystore, &catalogue, &unlock(), Realm::Demo, realm).unwrap();
        hsm.import_demo_issuer(issuer(), IssuerMasterKey::new(MASTER_KEY), now()).unwrap();
        Self { directory }
    }

    pub fn set(&self, member: &str, fault: Fault) {
        // In one step: a worker must not read half a word.
        let unfinished = self.directory.path().join(format!("{member}.new"));
        fs::write(&unfinished, fault.word()).unwrap();
        fs::rename(unfinished, self.directory.path().join(member)).unwrap();
    }

    pub fn try_open(&self, members: &[&str], workers: u8) -> Result<HsmPool, HsmError> {
        let limits = "silent_after_ms = 300\nstalled_after_ms = 600\nqueue = 64";
        self.try_open_with(limits, members, workers)
    }

    pub fn try_open_with(
        &self,
        limits: &str,
        members: &[&str],
        workers: u8,
    ) -> Result<HsmPool, HsmError> {
        let mut text = format!("[pool]\n{limits}\n");
        for name in members {
            text.push_str(&format!(
                "[[member]]\nname = \"{name}\"\nmodule = \"/none\"\ntoken = \"{name}\"\nworkers = {workers}\n\
                 pin = {{ env = \"NONE\" }}\n"
            ));
        }
        let house = self.directory.path().to_str().unwrap().to_owned();
        HsmPool::open(PoolConfig::parse(&text).unwrap(), None, move |member| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command
                .args(["faulty::pool_worker", "--exact", "--nocapture"])
                .env(WORKER_OF, format!("{house};{}", member.name));
            command
        })
    }

    /// Two members, two workers each, all of them serving.
    pub fn open(&self) -> HsmPool {
        let pool = self.try_open(&["north", "south"], 2).unwrap();
        until(&pool, all_serve);
        pool
    }
}

/// Waits until the pool stands so.
pub fn until(pool: &HsmPool, is_so: impl Fn(&PoolStatus) -> bool) {
    let looks = PATIENCE.as_millis() / 20;
    let stands = (0..looks).any(|_| pool.wait_until(Duration::from_millis(20), &is_so));
    assert!(stands, "{:#?}", pool.status());
}

pub fn all_serve(status: &PoolStatus) -> bool {
    status.members.iter().all(serves)
}

pub fn serves(member: &MemberStatus) -> bool {
    member.breaker == "closed" && member.workers.iter().all(|worker| worker.state == "serving")
}

pub fn member<'a>(status: &'a PoolStatus, name: &str) -> &'a MemberStatus {
    status.members.iter().find(|member| member.name == name).unwrap()
}

pub fn processes(pool: &HsmPool, name: &str) -> Vec<u32> {
    member(&pool.status(), name).workers.iter().filter_map(|worker| worker.process).collect()
}

pub fn kill(process: u32) {
    let process = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    kill_process(process, Signal::KILL).unwrap();
}
