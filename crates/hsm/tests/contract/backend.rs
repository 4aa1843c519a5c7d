//! The backends that keep the contract.

use std::process::Command;

use tapfer_hsm::pool::{self, HsmPool, PoolConfig};
use tapfer_hsm::{Realm, SoftwareHsm, Unlock};
use tapfer_payment_types::{RealmId, Timestamp};
use tempfile::TempDir;

/// A module, and what must live as long as it does.
pub struct Backend<Hsm> {
    pub hsm: Hsm,
    _directory: TempDir,
}

fn unlock() -> Unlock {
    let key = "5a1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";
    Unlock::key_from_hex(key).unwrap()
}

pub fn software(realm: Realm) -> Backend<SoftwareHsm> {
    let directory = tempfile::tempdir().unwrap();
    let realm_id = RealmId::new(Timestamp::from_unix_millis(1), [9; 10]);
    let path = directory.path().join("keystore");
    let hsm = SoftwareHsm::create(&path, &unlock(), realm, realm_id).unwrap();
    Backend { hsm, _directory: directory }
}

/// Says to this program, started anew, that it is a worker, and of which keystore.
const WORKER_OF: &str = "TAPFER_CONTRACT_WORKER_OF";

/// The software module in a process of its own, behind a pool.
pub fn pooled(realm: Realm) -> Backend<HsmPool> {
    let Backend { hsm, _directory } = software(realm);
    let keystore = _directory.path().join("keystore");
    drop(hsm);
    let config = PoolConfig::parse(
        "[[member]]\nname = \"only\"\nmodule = \"/none\"\ntoken = \"none\"\npin = { env = \"NONE\" }\nworkers = 1",
    );
    let hsm = HsmPool::open(config.unwrap(), None, move |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["backend::pool_worker", "--exact", "--nocapture"]).env(WORKER_OF, &keystore);
        command
    });
    Backend { hsm: hsm.unwrap(), _directory }
}

/// The worker: a test that does nothing where nobody asks for one.
#[test]
fn pool_worker() {
    let Some(keystore) = std::env::var_os(WORKER_OF) else { return };
    let socket = pool::take_socket().unwrap();
    pool::serve(socket, false, || SoftwareHsm::open(keystore.as_ref(), &unlock())).unwrap();
}
