//! Every verb once, over any [`Vault`].
//!
//! What a verb consists of is here: which key, what is checked before and after, how the parts fit
//! together. What touches a key's bytes is the vault's, with two exceptions that no PKCS#11 module offers:
//! EC-SDSA, for which a scalar comes into this process while it signs, and session keys of limited-use
//! keys, which are on their way to a phone anyway.

mod certify;
mod client;
mod hpke;
mod keys;
mod life;
mod merchant;
mod person;
mod provisioning;
mod record;
mod self_test;
mod shelf;
mod verbs;

pub(crate) use provisioning::HPKE;

use std::fmt;
use std::path::Path;

use tapfer_payment_types::{CatalogueMark, RealmId};

use self::shelf::KeyShelves;
use crate::catalogue::UnverifiedCatalogue;
use crate::known_answers;
use crate::vault::Vault;
use crate::{HsmError, Realm};

/// A security module: a vault, and the catalogue of keys that it opens. See the [module](self).
pub struct VaultedHsm<V: Vault> {
    shelves: KeyShelves<V>,
}

impl<V: Vault> VaultedHsm<V> {
    /// Makes a catalogue without keys, for a realm whose root keys the vault has. The realm, its kind and
    /// its id, is fixed for ever.
    ///
    /// # Errors
    /// There is a catalogue already, or it cannot be written; a self-test failed; the vault failed.
    pub fn with_new_catalogue(
        vault: V,
        catalogue: &Path,
        realm: Realm,
        realm_id: RealmId,
    ) -> Result<Self, HsmError> {
        known_answers::run(known_answers::ALL)?;
        self_test::run(&vault)?;
        KeyShelves::create(vault, catalogue, realm, realm_id).map(Self::new)
    }

    /// Opens a catalogue, to use and to change it. Any number of processes may have it open: each change
    /// is made to the newest version, and found by the others when they need it.
    ///
    /// # Errors
    /// Each thing that can be wrong with the file has its [`crate::CatalogueError`]; a self-test failed;
    /// the vault failed.
    pub fn over_catalogue(vault: V, catalogue: &Path) -> Result<Self, HsmError> {
        known_answers::run(known_answers::ALL)?;
        self_test::run(&vault)?;
        KeyShelves::open(vault, catalogue).map(Self::new)
    }

    /// The mark of a catalogue that was shown to people before there were keys to prove it with; `None`: what is
    /// proven is not what they saw.
    #[must_use]
    pub fn proven_mark(&self, shown: &UnverifiedCatalogue<'_>) -> Option<CatalogueMark> {
        let shelf = self.shelves.now();
        let mark = shelf.mark();
        shown.is(&shelf.catalogue, mark).then_some(mark)
    }

    const fn new(shelves: KeyShelves<V>) -> Self {
        Self { shelves }
    }

    /// The vault behind it.
    #[must_use]
    pub const fn vault(&self) -> &V {
        &self.shelves.vault
    }

    /// The vault, from a module that is not needed any more.
    pub(crate) fn into_vault(self) -> V {
        self.shelves.vault
    }

    /// Every verb that touches a key comes through here, and none goes on with older keys than are known.
    fn working(&self) -> Result<&KeyShelves<V>, HsmError> {
        self.shelves.demand_newest()?;
        Ok(&self.shelves)
    }

    fn realm(&self) -> Realm {
        self.shelves.now().catalogue.realm
    }

    fn demand_demo_realm(&self) -> Result<(), HsmError> {
        self.working()?;
        match self.realm() {
            Realm::Demo => Ok(()),
            Realm::Production => Err(HsmError::NotADemoRealm),
        }
    }
}

impl<V: Vault> fmt::Debug for VaultedHsm<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultedHsm({}, {:?})", self.vault().describe().backend, self.realm())
    }
}
