//! The backends that keep the contract.

use tapfer_hsm::{Realm, SoftwareHsm, Unlock};
use tapfer_payment_types::{RealmId, Timestamp};
use tempfile::TempDir;

/// A module, and what must live as long as it does.
pub struct Backend<Hsm> {
    pub hsm: Hsm,
    _directory: TempDir,
}

pub fn software(realm: Realm) -> Backend<SoftwareHsm> {
    let directory = tempfile::tempdir().unwrap();
    let key = "5a1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";
    let unlock = Unlock::key_from_hex(key).unwrap();
    let realm_id = RealmId::new(Timestamp::from_unix_millis(1), [9; 10]);
    let path = directory.path().join("keystore");
    let hsm = SoftwareHsm::create(&path, &unlock, realm, realm_id).unwrap();
    Backend { hsm, _directory: directory }
}
