//! The software module: the root keys in one sealed file, and all keys in this process's memory.
//!
//! It is the embedded default, to try, to test and for closed loops with little at stake. It keeps keys
//! from whoever reads the disk, not from whoever reads the memory of the process: keys are wiped with
//! their holders, but the memory is not locked, and the compiler may leave copies on the stack. It is
//! **not** for production, and says so in [`crate::PaymentHsm::describe`].
//!
//! AES-GCM, key wrap, HMAC, HKDF, HPKE, ECDSA, ECDH and random bytes come from aws-lc-rs; card-key
//! derivations, CMAC and EC-SDSA from the RustCrypto crates beneath `tapfer-emv`; Argon2id from RustCrypto.
//! Known-answer tests of all of them pass before a keystore is touched.

mod keystore;
mod roots;
#[cfg(test)]
mod tests;
mod unlock;
mod vault;

use std::path::Path;

use tapfer_payment_types::{RealmId, Secret};

use self::keystore::Keystore;
pub use self::roots::RootKeys;
pub use self::unlock::{MINIMUM_PASSPHRASE_LENGTH, Unlock};
pub(crate) use self::vault::check_value;
pub use self::vault::{SoftwareKey, SoftwareVault};
use crate::catalogue::{CatalogueError, KeyName, KeyState};
use crate::vaulted::VaultedHsm;
use crate::{HsmError, Realm, known_answers};

/// A security module without hardware. See the [module](self).
///
/// ```
/// use tapfer_hsm::{PaymentHsm, Realm, SoftwareHsm, Unlock};
/// use tapfer_payment_types::{IssuerId, RealmId, Timestamp};
///
/// # let directory = tempfile::tempdir()?;
/// # let [keystore, catalogue] = ["keystore", "keys.json"].map(|name| directory.path().join(name));
/// let unlock = Unlock::passphrase("correct horse battery staple".to_owned());
/// let now: Timestamp = "2026-11-21T12:00:00Z".parse()?;
/// let realm = RealmId::new(now, [7; 10]);
/// let hsm = SoftwareHsm::create(&keystore, &catalogue, &unlock, Realm::Demo, realm)?;
/// let mut random = [0; 10];
/// hsm.random(&mut random)?;
/// let keys = hsm.create_issuer(IssuerId::new(now, random), now)?;
/// assert_eq!(keys.derivation_key_index, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type SoftwareHsm = VaultedHsm<SoftwareVault>;

impl SoftwareHsm {
    /// Draws root keys, makes the keystore file that holds them and a catalogue without keys, and opens
    /// both. The realm, its kind and its id, is fixed for ever.
    ///
    /// # Errors
    /// A file exists or cannot be written; what opens the keystore can be guessed; a self-test failed.
    pub fn create(
        keystore: &Path,
        catalogue: &Path,
        unlock: &Unlock,
        realm: Realm,
        realm_id: RealmId,
    ) -> Result<Self, HsmError> {
        known_answers::run(known_answers::ALL)?;
        if catalogue.exists() {
            return Err(CatalogueError::Exists(catalogue.to_owned()).into());
        }
        Keystore { realm, realm_id, roots: RootKeys::generate()? }.create(keystore, unlock)?;
        Self::finish(keystore, catalogue, unlock)
    }

    /// As [`SoftwareHsm::create`], with root keys that were drawn at a ceremony.
    ///
    /// # Errors
    /// As [`SoftwareHsm::create`].
    pub fn create_with_roots(
        keystore: &Path,
        catalogue: &Path,
        unlock: &Unlock,
        realm: Realm,
        realm_id: RealmId,
        roots: RootKeys,
    ) -> Result<Self, HsmError> {
        known_answers::run(known_answers::ALL)?;
        if catalogue.exists() {
            return Err(CatalogueError::Exists(catalogue.to_owned()).into());
        }
        Keystore { realm, realm_id, roots }.create(keystore, unlock)?;
        Self::finish(keystore, catalogue, unlock)
    }

    /// Makes the keystore of a realm whose catalogue is there, from root keys that custodians rebuilt.
    /// Writes nothing unless they open the catalogue, and it is the realm's.
    ///
    /// # Errors
    /// As [`SoftwareHsm::open`]; there is a keystore.
    pub fn install_roots(
        keystore: &Path,
        catalogue: &Path,
        unlock: &Unlock,
        realm: Realm,
        realm_id: RealmId,
        roots: RootKeys,
    ) -> Result<(), HsmError> {
        let hsm = Self::over_catalogue(SoftwareVault::new(roots), catalogue)?;
        if hsm.realm_of_catalogue() != (realm, realm_id) {
            return Err(CatalogueError::OtherRealm(catalogue.to_owned()).into());
        }
        let roots = hsm.into_vault().into_roots();
        Keystore { realm, realm_id, roots }.create(keystore, unlock)
    }

    /// The root keys that a keystore holds, to be given to custodians, and whose they are.
    ///
    /// # Errors
    /// Each thing that can be wrong with the file has its [`crate::KeystoreError`].
    pub fn roots_of_keystore(
        keystore: &Path,
        unlock: &Unlock,
    ) -> Result<(RealmId, RootKeys), HsmError> {
        let Keystore { realm_id, roots, .. } = Keystore::open(keystore, unlock)?;
        Ok((realm_id, roots))
    }

    /// The bytes of a key that is not destroyed, for [`crate::exchange`].
    pub(crate) fn clear_key(&self, name: KeyName) -> Result<Secret<Vec<u8>>, HsmError> {
        let records = self.key_records()?;
        let record = records.iter().find(|record| record.name == name);
        let record = record.ok_or(HsmError::UnknownKey(name))?;
        if record.state == KeyState::Destroyed {
            return Err(HsmError::KeyDestroyed(name));
        }
        self.vault().open_wrapped(record.algorithm, record.custody, &record.wrapped)
    }

    /// Makes the catalogue of a keystore that was created and not finished.
    ///
    /// # Errors
    /// As [`SoftwareHsm::open`]; there is a catalogue.
    pub fn finish(keystore: &Path, catalogue: &Path, unlock: &Unlock) -> Result<Self, HsmError> {
        known_answers::run(known_answers::ALL)?;
        let Keystore { realm, realm_id, roots } = Keystore::open(keystore, unlock)?;
        Self::with_new_catalogue(SoftwareVault::new(roots), catalogue, realm, realm_id)
    }

    /// Opens keystore and catalogue. Any number of processes can: see [`VaultedHsm::over_catalogue`].
    ///
    /// # Errors
    /// Each thing that can be wrong with the files has its [`crate::KeystoreError`] or
    /// [`crate::CatalogueError`]; a self-test failed.
    pub fn open(keystore: &Path, catalogue: &Path, unlock: &Unlock) -> Result<Self, HsmError> {
        known_answers::run(known_answers::ALL)?;
        let Keystore { realm, realm_id, roots } = Keystore::open(keystore, unlock)?;
        let hsm = Self::over_catalogue(SoftwareVault::new(roots), catalogue)?;
        if hsm.realm_of_catalogue() != (realm, realm_id) {
            return Err(CatalogueError::OtherRealm(catalogue.to_owned()).into());
        }
        Ok(hsm)
    }

    /// Which realm a keystore's root keys are of.
    ///
    /// # Errors
    /// Each thing that can be wrong with the file has its [`crate::KeystoreError`].
    pub fn realm_of_keystore(
        keystore: &Path,
        unlock: &Unlock,
    ) -> Result<(Realm, RealmId), HsmError> {
        let Keystore { realm, realm_id, .. } = Keystore::open(keystore, unlock)?;
        Ok((realm, realm_id))
    }
}
