//! The backends that keep the contract.

use tapfer_hsm::{Realm, SoftwareHsm, Unlock};
use tempfile::TempDir;

/// A module, and what must live as long as it does.
pub struct Backend<Hsm> {
    pub hsm: Hsm,
    _directory: TempDir,
}

pub fn software(realm: Realm) -> Backend<SoftwareHsm> {
    let directory = tempfile::tempdir().unwrap();
    let unlock = Unlock::key_from_hex(&"5a".repeat(32)).unwrap();
    let hsm = SoftwareHsm::create(&directory.path().join("keystore"), &unlock, realm).unwrap();
    Backend { hsm, _directory: directory }
}
