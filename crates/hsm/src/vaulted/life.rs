//! The life of keys: what there is, the next generation, retired, destroyed. For the people who keep the
//! keys; payments know nothing of it.
//!
//! Each change is one locked, durable replacement of the catalogue, and other processes see it when they
//! next look: at a key they do not know, at [`crate::PaymentHsm::health`], or when told
//! ([`VaultedHsm::reload`]).

use tapfer_payment_types::{RealmId, Secret, Timestamp};

use super::VaultedHsm;
use crate::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyRecord, KeyState};
use crate::vault::Vault;
use crate::{HsmError, Realm};

impl<V: Vault> VaultedHsm<V> {
    /// Every key that there is or was, in the order of owner, purpose and generation. Of the newest
    /// version of the catalogue.
    ///
    /// # Errors
    /// A self-test failed, or the catalogue cannot be read.
    pub fn key_records(&self) -> Result<Vec<KeyRecord>, HsmError> {
        self.working()?.refresh()?;
        Ok(self.shelves.now().catalogue.records.values().cloned().collect())
    }

    /// Whether there is any key in it yet.
    ///
    /// # Errors
    /// As [`VaultedHsm::key_records`].
    pub fn holds_keys(&self) -> Result<bool, HsmError> {
        Ok(!self.key_records()?.is_empty())
    }

    /// Makes the next generation of a key, which takes over from here on. Older ones stay active until
    /// they are retired, and go on serving what was made under them.
    ///
    /// Not for [`KeyPurpose::Configuration`], which has [`VaultedHsm::succeed_configuration_key`].
    ///
    /// A new [`KeyPurpose::IccCertificates`] key needs a new issuer certificate, and a new
    /// [`KeyPurpose::IssuerMaster`] the new index in the issuer's record: the caller's part.
    ///
    /// # Errors
    /// [`HsmError::NotRotated`], [`HsmError::GenerationsExhausted`], the errors of an unknown owner, or
    /// the vault or the disk failed.
    pub fn add_generation(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        now: Timestamp,
    ) -> Result<KeyRecord, HsmError> {
        self.demand_rotatable(owner, purpose)?;
        // Before the catalogue's lock is taken: nobody waits for a module that makes up its mind.
        let (realm, vault) = (self.realm_of_catalogue().0, self.vault());
        let key = vault.generate(purpose.algorithm(), purpose.custody(realm))?;
        self.shelves.change(|draft| draft.add(owner, purpose, key, now))
    }

    /// As [`VaultedHsm::add_generation`], with a key that was made elsewhere: raw bytes, for P-256 keys the
    /// scalar.
    ///
    /// # Errors
    /// As [`VaultedHsm::add_generation`]; or it is no key of this purpose.
    pub fn import_generation(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        clear: &Secret<Vec<u8>>,
        now: Timestamp,
    ) -> Result<KeyRecord, HsmError> {
        self.import_as(owner, purpose, clear, true, now)
    }

    pub(crate) fn import_as(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        clear: &Secret<Vec<u8>>,
        exportable: bool,
        now: Timestamp,
    ) -> Result<KeyRecord, HsmError> {
        self.demand_rotatable(owner, purpose)?;
        self.shelves.change(|draft| {
            let record = draft.import(owner, purpose, clear, now)?;
            if exportable { Ok(record) } else { draft.keep(record.name) }
        })
    }

    /// Makes the next generation of the key that signs configurations. The one until now signs, inside, that it is
    /// followed by this one, and is retired with its last signature. The document stands in the new key's record:
    /// nobody meets a key of configurations to which nothing leads.
    ///
    /// # Errors
    /// As [`VaultedHsm::add_generation`].
    pub fn succeed_configuration_key(&self, now: Timestamp) -> Result<KeyRecord, HsmError> {
        let (owner, purpose) = (KeyOwner::Platform, KeyPurpose::Configuration);
        self.usable(owner, purpose)?;
        // As in `add_generation`. To sign, the lock is needed: whose turn it is must not change meanwhile.
        let (realm, vault) = (self.realm_of_catalogue().0, self.vault());
        let key = vault.generate(purpose.algorithm(), purpose.custody(realm))?;
        self.shelves.change(|draft| {
            let old = draft.active(owner, purpose).ok_or(HsmError::UnknownDocumentKey)?;
            let new = draft.add(owner, purpose, key, now)?;
            let signed = draft.sign_succession(&old, &new, now)?;
            let new = draft.follows(new.name, signed)?;
            draft.advance(old.name, KeyState::Retired)?;
            Ok(new)
        })
    }

    /// Takes a key on in its life: from active to retired, from retired to destroyed. What is destroyed
    /// is gone from this file; that no copy of it stays in backups is for people to see to.
    ///
    /// # Errors
    /// [`HsmError::UnknownKey`], [`HsmError::KeyLife`]; [`HsmError::KeyStillMakes`] for what makes what is new,
    /// as long as nothing newer is active; or the disk failed.
    pub fn set_key_state(&self, name: KeyName, state: KeyState) -> Result<KeyRecord, HsmError> {
        self.working()?.change(|draft| draft.advance(name, state))
    }

    /// Which realm the catalogue is of.
    #[must_use]
    pub fn realm_of_catalogue(&self) -> (Realm, RealmId) {
        let shelf = self.shelves.now();
        (shelf.catalogue.realm, shelf.catalogue.realm_id)
    }

    /// Opens every key that is not destroyed, and says how many there are: that catalogue and roots go
    /// together is known then, and not only hoped.
    ///
    /// # Errors
    /// A key does not open under the vault's roots.
    pub fn try_every_key(&self) -> Result<usize, HsmError> {
        self.working()?.refresh()?;
        let mut opened: usize = 0;
        for record in self.shelves.now().catalogue.records.values() {
            if record.state != KeyState::Destroyed {
                self.vault().load(record.algorithm, record.custody, &record.wrapped)?;
                opened = opened.saturating_add(1);
            }
        }
        Ok(opened)
    }

    fn demand_rotatable(&self, owner: KeyOwner, purpose: KeyPurpose) -> Result<(), HsmError> {
        if !purpose.can_rotate() || purpose == KeyPurpose::Configuration {
            self.working()?;
            return Err(HsmError::NotRotated(purpose));
        }
        // Nothing is rotated that its owner has not got.
        self.usable(owner, purpose).map(drop)
    }
}
