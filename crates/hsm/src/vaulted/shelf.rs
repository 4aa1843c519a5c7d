//! The keys of this moment in memory, and the way from there to the catalogue's file and back.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::document::DocumentKey;
use tapfer_payment_types::configuration::{KeySuccession, SUCCESSION_FORMAT, SignedDocument};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{CatalogueMark, RealmId, Secret, Timestamp};

use crate::catalogue::{
    Catalogue, CatalogueError, KeyName, KeyOwner, KeyPurpose, KeyRecord, KeyState,
    UnverifiedCatalogue,
};
use crate::private_file::{self, FileStamp};
use crate::vault::{Custody, KeyAlgorithm, Vault};
use crate::{DocumentPurpose, HsmError, Realm};

/// A key, and what is known about it. Made ready once, when it is first used, and ready on every shelf that has
/// it.
pub(super) struct HeldKey<K> {
    pub(super) record: KeyRecord,
    ready: Arc<OnceLock<K>>,
}

/// All keys as one version of the catalogue has them. Never changed: another version is another shelf.
pub(super) struct Shelf<K> {
    pub(super) catalogue: Catalogue,
    mac: [u8; 32],
    stamp: FileStamp,
    mac_key: Arc<K>,
    keys: BTreeMap<KeyName, Arc<HeldKey<K>>>,
}

impl<K> Shelf<K> {
    /// Keys that are the same are taken over as they are, ready or not.
    fn new(
        catalogue: Catalogue,
        mac: [u8; 32],
        stamp: FileStamp,
        mac_key: Arc<K>,
        old: Option<&Self>,
    ) -> Self {
        let keys = catalogue.records.iter().map(|(name, record)| {
            let held = old.and_then(|shelf| shelf.keys.get(name));
            let same = held.filter(|held| held.record.wrapped == record.wrapped);
            let ready = same.map(|held| Arc::clone(&held.ready)).unwrap_or_default();
            (*name, Arc::new(HeldKey { record: record.clone(), ready }))
        });
        let keys = keys.collect();
        Self { catalogue, mac, stamp, mac_key, keys }
    }

    pub(super) fn mark(&self) -> CatalogueMark {
        self.catalogue.mark(self.mac)
    }

    /// Whether this is the version that was used before, or was made from it.
    fn demand_descent(&self, known: &CatalogueMark, path: &Path) -> Result<(), CatalogueError> {
        self.catalogue.demand_descent(self.mac, known, path)
    }

    /// All generations of a key, the newest first.
    pub(super) fn generations(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
    ) -> impl Iterator<Item = &Arc<HeldKey<K>>> {
        let of = |generation| KeyName { owner, purpose, generation };
        self.keys.range(of(0)..=of(u8::MAX)).rev().map(|(_, held)| held)
    }

    /// The generation that makes what is new.
    pub(super) fn active(&self, owner: KeyOwner, purpose: KeyPurpose) -> Option<&Arc<HeldKey<K>>> {
        self.generations(owner, purpose).find(|held| held.record.state == KeyState::Active)
    }
}

/// A vault, and the catalogue of the keys that it opens.
pub(super) struct KeyShelves<V: Vault> {
    pub(super) vault: V,
    path: PathBuf,
    now: RwLock<Arc<Shelf<V::Key>>>,
    /// A version that others have used and that the shelf does not come from. While there is one, no key is used.
    missing: RwLock<Option<CatalogueMark>>,
    /// Held while the file is read again or changed: one at a time in this process.
    changing: Mutex<()>,
}

impl<V: Vault> KeyShelves<V> {
    /// Makes a catalogue without keys.
    pub(super) fn create(
        vault: V,
        path: &Path,
        realm: Realm,
        realm_id: RealmId,
    ) -> Result<Self, HsmError> {
        let mac_key = vault.generate(KeyAlgorithm::Authentication, Custody::Sealed)?;
        let check = vault.generate(KeyAlgorithm::Authentication, Custody::Releasable)?;
        let key = vault.load(KeyAlgorithm::Authentication, Custody::Sealed, &mac_key.wrapped)?;
        let catalogue = Catalogue {
            realm,
            realm_id,
            history: Vec::new(),
            catalogue_key: mac_key.wrapped,
            releasing_check: check.wrapped,
            records: BTreeMap::new(),
        };
        let bytes = catalogue.encode(|parts| vault.authenticate(&key, parts))?;
        private_file::create(path, &bytes).map_err(CatalogueError::from)?;
        Self::open(vault, path)
    }

    /// Reads a catalogue, and makes sure that it was made under this vault's roots.
    pub(super) fn open(vault: V, path: &Path) -> Result<Self, HsmError> {
        let (bytes, stamp) = private_file::read(path).map_err(CatalogueError::from)?;
        let shelf = Arc::new(read(&vault, path, &bytes, stamp, None)?);
        Ok(Self {
            vault,
            path: path.to_owned(),
            now: RwLock::new(shelf),
            missing: RwLock::new(None),
            changing: Mutex::new(()),
        })
    }

    pub(super) fn now(&self) -> Arc<Shelf<V::Key>> {
        // A panic elsewhere cannot leave the shelf half changed: it is swapped as a whole.
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn swap(&self, shelf: Shelf<V::Key>) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *now, Arc::new(shelf));
        let new = Arc::clone(&now);
        drop(now);
        for (name, held) in &old.keys {
            let kept = new.keys.get(name).map(|held| &held.record.wrapped);
            if kept != Some(&held.record.wrapped)
                && let Some(key) = held.ready.get()
            {
                self.vault.forget(key);
            }
        }
    }

    /// Takes over the newest version, and makes sure that it is `known` or was made from it. If it was not, no
    /// key is used until one that was lies there.
    pub(super) fn follow(&self, known: Option<&CatalogueMark>) -> Result<CatalogueMark, HsmError> {
        let mut refreshed = self.refresh();
        if let Some(known) = known
            && refreshed.is_err()
            && self.now().demand_descent(known, &self.path).is_err()
        {
            // What is held here is itself not the realm's, so what lies there now need not come from it.
            refreshed = self.begin_anew(known);
        }
        let shelf = self.now();
        let descends = |mark: &CatalogueMark| shelf.demand_descent(mark, &self.path);
        let mut missing = self.missing.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known
            && let Err(error) = descends(known)
        {
            if missing.is_none_or(|missing| missing.version <= known.version) {
                *missing = Some(*known);
            }
            return Err(error.into());
        }
        if let Some(other) = &*missing {
            descends(other)?;
            *missing = None;
        }
        refreshed?;
        Ok(shelf.mark())
    }

    /// Takes over what lies there, if it is `known` or was made from it, whatever is held here.
    fn begin_anew(&self, known: &CatalogueMark) -> Result<(), HsmError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, stamp) = private_file::read(&self.path).map_err(CatalogueError::from)?;
        let shelf = read(&self.vault, &self.path, &bytes, stamp, None)?;
        shelf.demand_descent(known, &self.path)?;
        self.swap(shelf);
        Ok(())
    }

    /// Whether keys may be used: see [`KeyShelves::follow`].
    pub(super) fn demand_newest(&self) -> Result<(), HsmError> {
        let missing = *self.missing.read().unwrap_or_else(PoisonError::into_inner);
        match missing {
            None => Ok(()),
            Some(missing) => self.follow(Some(&missing)).map(drop),
        }
    }

    /// Takes over what another process has changed. Looks at the file only, if nothing did.
    pub(super) fn refresh(&self) -> Result<(), HsmError> {
        let is_current = || -> Result<bool, HsmError> {
            let stamp = private_file::stamp(&self.path).map_err(CatalogueError::from)?;
            Ok(stamp == self.now().stamp)
        };
        if is_current()? {
            return Ok(());
        }
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if is_current()? {
            return Ok(());
        }
        let (bytes, stamp) = private_file::read(&self.path).map_err(CatalogueError::from)?;
        let shelf = read(&self.vault, &self.path, &bytes, stamp, Some(&*self.now()))?;
        self.swap(shelf);
        Ok(())
    }

    /// Looks for something, and once more in the file's newest version if it is not there.
    pub(super) fn find<T>(
        &self,
        look: impl Fn(&Shelf<V::Key>) -> Option<T>,
    ) -> Result<Option<T>, HsmError> {
        if let Some(found) = look(&self.now()) {
            return Ok(Some(found));
        }
        self.refresh()?;
        Ok(look(&self.now()))
    }

    /// A key to use.
    pub(super) fn ready<'a>(&self, held: &'a HeldKey<V::Key>) -> Result<&'a V::Key, HsmError> {
        if let Some(key) = held.ready.get() {
            return Ok(key);
        }
        let record = &held.record;
        if record.state == KeyState::Destroyed {
            return Err(HsmError::KeyDestroyed(record.name));
        }
        let key = self.vault.load(record.algorithm, record.custody, &record.wrapped)?;
        // Another thread may have been faster; one of the two is as good as the other.
        Ok(held.ready.get_or_init(|| key))
    }

    /// Changes the newest catalogue, writes it to the disk, and only then lets others see it.
    pub(super) fn change<T>(
        &self,
        apply: impl FnOnce(&mut Draft<'_, V>) -> Result<T, HsmError>,
    ) -> Result<T, HsmError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Until this is dropped no other process changes the file.
        let file = private_file::lock(&self.path).map_err(CatalogueError::from)?;
        let (bytes, stamp) =
            private_file::read_open(&self.path, &file).map_err(CatalogueError::from)?;
        let old = self.now();
        let current = if stamp == old.stamp {
            old
        } else {
            Arc::new(read(&self.vault, &self.path, &bytes, stamp, Some(&*old))?)
        };
        let mut draft = Draft { vault: &self.vault, catalogue: current.catalogue.clone() };
        let answer = apply(&mut draft)?;
        let mut catalogue = draft.catalogue;
        catalogue.history.push(current.mac);
        let mac_key = Arc::clone(&current.mac_key);
        let mut mac = [0; 32];
        let bytes = catalogue.encode(|parts| {
            mac = self.vault.authenticate(&mac_key, parts)?;
            Ok(mac)
        })?;
        private_file::replace(&self.path, &bytes).map_err(CatalogueError::from)?;
        let stamp = private_file::stamp(&self.path).map_err(CatalogueError::from)?;
        self.swap(Shelf::new(catalogue, mac, stamp, mac_key, Some(&*current)));
        Ok(answer)
    }
}

/// Verifies a catalogue's file. With `old`, what it takes the place of, which it must have been made from.
fn read<V: Vault>(
    vault: &V,
    path: &Path,
    bytes: &[u8],
    stamp: FileStamp,
    old: Option<&Shelf<V::Key>>,
) -> Result<Shelf<V::Key>, HsmError> {
    let read = UnverifiedCatalogue::parse(bytes).map_err(|fault| fault.of(path))?;
    let mac_key = match old {
        // Whoever could wrap a key of his own once must not be able to put it in this one's place.
        Some(old)
            if old.catalogue.catalogue_key != read.catalogue_key()
                || old.catalogue.releasing_check != read.releasing_check() =>
        {
            return Err(CatalogueError::Tampered(path.to_owned()).into());
        }
        Some(old) => Arc::clone(&old.mac_key),
        None => Arc::new(open_own(vault, path, Custody::Sealed, read.catalogue_key())?),
    };
    let mac = vault.authenticate(&mac_key, &read.authenticated())?;
    if verify_slices_are_equal(&mac, read.mac()).is_err() {
        return Err(CatalogueError::Tampered(path.to_owned()).into());
    }
    if old.is_none() {
        let key = open_own(vault, path, Custody::Releasable, read.releasing_check())?;
        vault.forget(&key);
    }
    let shelf = Shelf::new(read.verified(), mac, stamp, mac_key, old);
    if let Some(old) = old {
        shelf.demand_descent(&old.mark(), path)?;
    }
    Ok(shelf)
}

/// Opens a key that the catalogue has for itself, which says whether the vault has the root that it lies under.
fn open_own<V: Vault>(
    vault: &V,
    path: &Path,
    custody: Custody,
    wrapped: &[u8],
) -> Result<V::Key, HsmError> {
    vault.load(KeyAlgorithm::Authentication, custody, wrapped).map_err(|error| {
        match (error, custody) {
            (HsmError::NotUnderRoot, Custody::Sealed) => {
                CatalogueError::OtherRoots(path.to_owned()).into()
            }
            (HsmError::NotUnderRoot, Custody::Releasable) => {
                CatalogueError::OtherReleasingRoot(path.to_owned()).into()
            }
            (other, _) => other,
        }
    })
}

/// A catalogue that is being changed.
pub(super) struct Draft<'a, V> {
    vault: &'a V,
    catalogue: Catalogue,
}

impl<V: Vault> Draft<'_, V> {
    /// Whether the owner has a key of this purpose, or had one.
    pub(super) fn has(&self, owner: KeyOwner, purpose: KeyPurpose) -> bool {
        self.newest(owner, purpose).is_some()
    }

    fn newest(&self, owner: KeyOwner, purpose: KeyPurpose) -> Option<u8> {
        let of = |generation| KeyName { owner, purpose, generation };
        let newest = self.catalogue.records.range(of(0)..=of(u8::MAX)).next_back();
        newest.map(|(name, _)| name.generation)
    }

    /// The generation that makes what is new.
    pub(super) fn active(&self, owner: KeyOwner, purpose: KeyPurpose) -> Option<KeyRecord> {
        let of = |generation| KeyName { owner, purpose, generation };
        let generations = self.catalogue.records.range(of(0)..=of(u8::MAX)).rev();
        let active = generations.map(|(_, record)| record);
        active.into_iter().find(|record| record.state == KeyState::Active).cloned()
    }

    /// A key signs that another one follows it.
    pub(super) fn sign_succession(
        &self,
        old: &KeyRecord,
        new: &KeyRecord,
        now: Timestamp,
    ) -> Result<SignedDocument, HsmError> {
        let failed = HsmError::Internal { operation: "signing a succession of keys" };
        let (Some(from), Some(to)) = (old.public, new.public) else { return Err(failed) };
        let bytes = |key: PublicPoint| HexBytes(DocumentKey::from(key).bytes().to_vec());
        let document = serde_json::to_string(&KeySuccession {
            format: SUCCESSION_FORMAT.to_owned(),
            realm: self.catalogue.realm_id,
            from: bytes(from),
            to: bytes(to),
            at: now,
        });
        let Ok(document) = document else { return Err(failed) };
        let purpose = DocumentPurpose::Configuration;
        let key = self.vault.load(old.algorithm, old.custody, &old.wrapped)?;
        let signature = self.vault.sign(&key, &purpose.message(document.as_bytes()))?;
        if !purpose.is_signed_by(&from, document.as_bytes(), &signature) {
            return Err(failed);
        }
        Ok(SignedDocument { document, key: bytes(from), signature: HexBytes(signature.to_vec()) })
    }

    /// Makes the next generation of a key; the first, if there is none.
    pub(super) fn generate(
        &mut self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        now: Timestamp,
    ) -> Result<KeyRecord, HsmError> {
        let custody = purpose.custody(self.catalogue.realm);
        let key = self.vault.generate(purpose.algorithm(), custody)?;
        self.add(owner, purpose, key, now)
    }

    /// Takes a key as the next generation.
    pub(super) fn import(
        &mut self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        clear: &Secret<Vec<u8>>,
        now: Timestamp,
    ) -> Result<KeyRecord, HsmError> {
        let custody = purpose.custody(self.catalogue.realm);
        let key = self.vault.import(purpose.algorithm(), custody, clear)?;
        self.add(owner, purpose, key, now)
    }

    /// Takes a key that was made already.
    pub(super) fn add(
        &mut self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        key: crate::vault::NewKey,
        now: Timestamp,
    ) -> Result<KeyRecord, HsmError> {
        let newest = self.newest(owner, purpose).unwrap_or(0);
        let exhausted = HsmError::GenerationsExhausted { owner, purpose };
        let generation = newest.checked_add(1).ok_or(exhausted)?;
        let name = KeyName { owner, purpose, generation };
        let record = KeyRecord::new(name, self.catalogue.realm, key, now);
        self.catalogue.records.insert(name, record.clone());
        Ok(record)
    }

    /// A key, and what the one before it signed for it.
    pub(super) fn follows(
        &mut self,
        name: KeyName,
        signed: SignedDocument,
    ) -> Result<KeyRecord, HsmError> {
        let record = self.catalogue.records.get_mut(&name).ok_or(HsmError::UnknownKey(name))?;
        record.succession = Some(signed);
        Ok(record.clone())
    }

    /// A key that must not leave again.
    pub(super) fn keep(&mut self, name: KeyName) -> Result<KeyRecord, HsmError> {
        let record = self.catalogue.records.get_mut(&name).ok_or(HsmError::UnknownKey(name))?;
        record.exportable = false;
        Ok(record.clone())
    }

    /// Takes a key on in its life. What makes what is new is retired only when a newer one does.
    pub(super) fn advance(
        &mut self,
        name: KeyName,
        state: KeyState,
    ) -> Result<KeyRecord, HsmError> {
        let newest = KeyName { generation: u8::MAX, ..name };
        let newer = (Bound::Excluded(name), Bound::Included(newest));
        let mut newer = self.catalogue.records.range(newer);
        let has_newer = newer.any(|(_, record)| record.state == KeyState::Active);
        let record = self.catalogue.records.get_mut(&name).ok_or(HsmError::UnknownKey(name))?;
        if (record.state, state) == (KeyState::Active, KeyState::Retired) && !has_newer {
            return Err(HsmError::KeyStillMakes(name));
        }
        record.advance(state)?;
        Ok(record.clone())
    }
}
