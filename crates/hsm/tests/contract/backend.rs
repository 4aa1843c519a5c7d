//! The backends that keep the contract.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tapfer_hsm::pkcs11::{CacheLimits, Pkcs11Configuration, Pkcs11Vault};
use tapfer_hsm::pool::{self, HsmPool, PoolConfig};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::vault::Vault;
use tapfer_hsm::{Realm, VaultedHsm};
use tapfer_payment_types::{RealmId, Secret, Timestamp};
use tapfer_test_tokens::{Place, user_pin};
use tempfile::TempDir;

/// Sealing and releasing root of the tests, the same in every vault: a catalogue goes from one to the
/// other.
pub const ROOTS: [[u8; 32]; 2] = [[0x5A; 32], [0xC3; 32]];

/// The roots in the form in which the software vault takes them.
pub fn roots() -> RootKeys {
    let [sealing, releasing] = ROOTS;
    RootKeys::new(Secret::new(sealing), Secret::new(releasing))
}

/// A module over a vault, and what must live as long as it does.
pub struct Vaulted<V: Vault> {
    pub hsm: VaultedHsm<V>,
    pub catalogue: PathBuf,
    vault: Box<dyn Fn() -> V>,
    directory: TempDir,
}

impl<V: Vault> Vaulted<V> {
    /// A module over vaults with [`ROOTS`], each made as another process would make it.
    pub fn over(vault: impl Fn() -> V + 'static, realm: Realm) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let catalogue = directory.path().join("keys.json");
        let realm_id = RealmId::new(Timestamp::from_unix_millis(1), [9; 10]);
        let hsm = VaultedHsm::with_new_catalogue(vault(), &catalogue, realm, realm_id).unwrap();
        Self { hsm, catalogue, vault: Box::new(vault), directory }
    }

    /// The same keys, as another process has them.
    pub fn again(&self) -> VaultedHsm<V> {
        VaultedHsm::over_catalogue((self.vault)(), &self.catalogue).unwrap()
    }

    /// The same keys in software.
    pub fn in_software(&self) -> VaultedHsm<SoftwareVault> {
        VaultedHsm::over_catalogue(SoftwareVault::new(roots()), &self.catalogue).unwrap()
    }
}

pub fn software(realm: Realm) -> Vaulted<SoftwareVault> {
    Vaulted::over(|| SoftwareVault::new(roots()), realm)
}

/// A token of a PKCS#11 module with the same roots.
pub fn in_module(place: &Place, realm: Realm) -> Vaulted<Pkcs11Vault> {
    const TOKEN: &str = "contract";
    let library = place.kind.module();
    let configuration = move || Pkcs11Configuration {
        module: library.clone(),
        token: TOKEN.to_owned(),
        pin: user_pin(),
        login_record: None,
        realm: RealmId::new(Timestamp::from_unix_millis(1), [9; 10]),
        limits: CacheLimits::default(),
        // No time passes.
        stopwatch: Box::new(|| Duration::ZERO),
    };
    place.make_token(TOKEN);
    Pkcs11Vault::install_roots(&configuration(), &roots()).unwrap();
    Vaulted::over(move || Pkcs11Vault::open(configuration()).unwrap(), realm)
}

/// A pool, and what must live as long as it does.
pub struct Pooled {
    pub hsm: HsmPool,
    _directory: TempDir,
}

/// Says to this program, started anew, that it is a worker, and of which catalogue.
const WORKER_OF: &str = "TAPFER_CONTRACT_WORKER_OF";

/// The software module in a process of its own, behind a pool.
pub fn pooled(realm: Realm) -> Pooled {
    let Vaulted { hsm, catalogue, directory, .. } = software(realm);
    drop(hsm);
    let config = PoolConfig::parse(
        "[[member]]\nname = \"only\"\nmodule = \"/none\"\ntoken = \"none\"\npin = { env = \"NONE\" }\nworkers = 1",
    );
    let hsm = HsmPool::open(config.unwrap(), None, move |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["backend::pool_worker", "--exact", "--nocapture"]).env(WORKER_OF, &catalogue);
        command
    });
    Pooled { hsm: hsm.unwrap(), _directory: directory }
}

/// The worker: a test that does nothing where nobody asks for one.
#[test]
fn pool_worker() {
    let Some(catalogue) = std::env::var_os(WORKER_OF) else { return };
    let socket = pool::take_socket().unwrap();
    let open = || VaultedHsm::over_catalogue(SoftwareVault::new(roots()), catalogue.as_ref());
    pool::serve(socket, false, open).unwrap();
}
