//! The partition map of a realm that lies in several databases, and the way to them (docs/adr/0025-partitions.md).
//!
//! The map says how many partitions there are and at which place each is: how often it was moved, and one. The platform signs
//! it, with the key of audit heads, as API keys; it lies in the home. Where a place is reached from here says `database.toml`,
//! and the database itself says whether it is that place.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use tapfer_emv::document::{DocumentKey, DocumentPurpose};
use tapfer_hsm::catalogue::{KeyPurpose, KeyState, UnverifiedCatalogue};
use tapfer_hsm::{DocumentKeyRecord, HsmError, PaymentHsm};
use tapfer_payment_types::configuration::SignedDocument;
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{RealmId, Timestamp};
use tapfer_storage::StorageError;
use tapfer_storage::partitions::PartitionMap;
use tapfer_storage::postgres::{Found, Part, PostgresOptions, PostgresStorage, partition_of};

use super::{RealmError, RealmPaths, database, described};

/// The key that signs maps: every HSM signs with it.
const PURPOSE: DocumentPurpose = DocumentPurpose::AuditHead;
/// A realm's partitions, as a node sees them.
pub struct Partitions {
    home: Arc<PostgresStorage>,
    paths: RealmPaths,
    realm: RealmId,
    count: usize,
    /// Who verifies maps, once there is somebody.
    hsm: OnceLock<Arc<dyn PaymentHsm>>,
    /// The highest version that was read: nothing older is gone by.
    read: AtomicU32,
}

/// A key that signs maps, or has.
struct Signer {
    key: DocumentKey,
    is_destroyed: bool,
}

/// The newest map that the platform has signed.
struct Newest {
    map: PartitionMap,
    key: DocumentKey,
    /// Somebody else may have signed it as well.
    is_key_destroyed: bool,
}

/// The home, whichever place it is at.
pub(super) fn open_home(
    options: PostgresOptions,
    realm: RealmId,
    count: usize,
) -> Result<PostgresStorage, RealmError> {
    let part = match partition_of(&options)? {
        Some(Found { part, .. }) if part.number == 0 && usize::from(part.partitions) == count => {
            part
        }
        // The check below says what it is instead.
        _ => Part { number: 0, partitions: u16::try_from(count).unwrap_or(u16::MAX), place: 1 },
    };
    Ok(PostgresStorage::open(&options.as_partition(part), realm)?)
}

impl Partitions {
    /// Those of a realm, for who looks beside the platform that may run; `None` if it lies in one database.
    ///
    /// # Errors
    /// There is no realm, or its home cannot be reached.
    pub fn beside(paths: &RealmPaths) -> Result<Option<Arc<Self>>, RealmError> {
        let missing = || RealmError::Missing(paths.home().to_owned());
        let (_, realm) = described(paths).ok_or_else(missing)?;
        database::partitions_beside(paths, realm)
    }

    pub(super) fn new(
        home: Arc<PostgresStorage>,
        paths: &RealmPaths,
        realm: RealmId,
        count: usize,
    ) -> Arc<Self> {
        let (paths, hsm, read) = (paths.clone(), OnceLock::new(), AtomicU32::new(0));
        Arc::new(Self { home, paths, realm, count, hsm, read })
    }

    /// Has the map verified from here on, and looks whether the home is where it says. A map whose key was destroyed since is gone
    /// by if every database says the same: it is signed anew then ([`Self::ensure_map`]).
    ///
    /// # Errors
    /// The map is not the platform's, or the home is at another place.
    pub(super) fn verify_with(&self, hsm: &Arc<dyn PaymentHsm>) -> Result<(), RealmError> {
        let _before = self.hsm.set(Arc::clone(hsm));
        let Some(newest) = self.newest()? else { return Ok(()) };
        let map = &newest.map;
        let found = self.home.partition()?.map(|found| found.part);
        if map.places.len() != self.count || found != map.part(0) {
            let said = format!(
                "the map is version {} of {} partitions, and the home that database.toml leads to is {}",
                map.version,
                map.places.len(),
                found.map_or("none".to_owned(), |part| part.to_string())
            );
            return Err(StorageError::Moved(said).into());
        }
        if newest.is_key_destroyed { self.demand_where_it_says(map) } else { Ok(()) }
    }

    /// Refuses a map unless every partition's database says of itself what it says.
    fn demand_where_it_says(&self, map: &PartitionMap) -> Result<(), RealmError> {
        for number in 0..self.count {
            let wanted = map.part(number);
            let found = partition_of(&database::partition(&self.paths, number)?)?;
            if !found.is_some_and(|found| map.is_at(&found)) {
                let told =
                    |part: Option<Part>| part.map_or("none".to_owned(), |part| part.to_string());
                let said = format!(
                    "the key that signed version {} of the partition map is destroyed, and the map is not what the databases \
                     say: {} there, {} in the map",
                    map.version,
                    told(found.map(|found| found.part)),
                    told(wanted)
                );
                return Err(StorageError::Moved(said).into());
            }
        }
        Ok(())
    }

    /// Refuses to open a copy of another place than that of the newest map.
    ///
    /// # Errors
    /// It is one, or is open already and waits to be signed; the home cannot be read, or its map is not the platform's.
    pub(super) fn demand_its_place(&self, found: &Found) -> Result<(), RealmError> {
        let map = self.newest_in_force()?.map(|(map, _)| map);
        if map.as_ref().is_some_and(|map| map.is_at(found)) {
            return Ok(());
        }
        let Found { part, is_closed, .. } = *found;
        let before = map.and_then(|map| map.part(usize::from(part.number)));
        let is_next = before
            .is_some_and(|before| part == Part { place: before.place.saturating_add(1), ..before });
        let said = match (is_next, is_closed) {
            (true, false) => format!(
                "it leads to {part}, which is open already, and the newest map does not name it yet: `tapfer db partitions sign {}` does it",
                part.number
            ),
            (_, is_closed) => format!(
                "it leads to {part}{}, and the newest map names another place, which is the one to be copied from: has the partition left this \
                 one, or was a copy of it opened?",
                if is_closed { ", closed" } else { "" }
            ),
        };
        Err(RealmError::Database { path: self.paths.database_configuration(), why: said })
    }

    /// The newest map that the platform has signed. Rows that somebody else has written are passed over.
    fn newest(&self) -> Result<Option<Newest>, RealmError> {
        let signers = self.signers()?;
        let mut below = i64::MAX;
        while let Some((version, signed)) = self.home.partition_map_below(below)? {
            let read = signers.iter().find_map(|by| Some((self.read(by, version, &signed)?, by)));
            if let Some((map, by)) = read {
                let known = self.read.fetch_max(map.version, Ordering::AcqRel);
                if known > map.version {
                    let said = format!(
                        "the newest partition map in the home is version {}, and version {known} was used already",
                        map.version
                    );
                    return Err(StorageError::Moved(said).into());
                }
                let is_key_destroyed = by.is_destroyed;
                return Ok(Some(Newest { map, key: by.key, is_key_destroyed }));
            }
            tracing::warn!(
                target: "tapfer::security", event = "partition_map_not_signed", version,
                "a partition map in the home was not signed by this platform, and is passed over"
            );
            below = version;
        }
        if below == i64::MAX {
            return Ok(None);
        }
        let said = "no partition map in the home was signed by this platform";
        Err(StorageError::Moved(said.to_owned()).into())
    }

    /// The newest map, of which somebody else cannot have signed another.
    fn newest_in_force(&self) -> Result<Option<(PartitionMap, DocumentKey)>, RealmError> {
        match self.newest()? {
            Some(newest) if newest.is_key_destroyed => {
                let said = format!(
                    "the key that signed version {} of the partition map is destroyed: the map is signed anew when a platform \
                     starts",
                    newest.map.version
                );
                Err(StorageError::Moved(said).into())
            }
            newest => Ok(newest.map(|newest| (newest.map, newest.key))),
        }
    }

    /// A map is what its row says that it is: an older one under a later version is none.
    fn read(&self, by: &Signer, version: i64, signed: &SignedDocument) -> Option<PartitionMap> {
        let _signed: serde::de::IgnoredAny = by.key.read(PURPOSE, signed).ok()?;
        PartitionMap::parse(&signed.document)
            .filter(|map| map.realm == self.realm && i64::from(map.version) == version)
    }

    /// Whose signatures there may be, the newest first.
    fn signers(&self) -> Result<Vec<Signer>, RealmError> {
        let Some(hsm) = self.hsm.get() else {
            let keys = self.keys_of_catalogue()?.into_iter().rev();
            return Ok(keys.map(|(_, signer)| signer).collect());
        };
        match hsm.document_keys(PURPOSE) {
            Ok(records) => {
                let signer = |record: &DocumentKeyRecord| Signer {
                    key: record.key,
                    is_destroyed: record.state == KeyState::Destroyed,
                };
                Ok(records.iter().rev().map(signer).collect())
            }
            // A new realm has none yet, and no map.
            Err(HsmError::UnknownDocumentKey) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The same with their generations, for who looks beside the platform and opens no keys.
    fn keys_of_catalogue(&self) -> Result<Vec<(u8, Signer)>, RealmError> {
        let path = self.paths.catalogue();
        let failed = |source| RealmError::File { action: "read", path: path.clone(), source };
        let bytes = fs::read(&path).map_err(failed)?;
        let catalogue = UnverifiedCatalogue::parse(&bytes);
        let catalogue = catalogue
            .map_err(|fault| RealmError::Database { path: path.clone(), why: fault.to_string() })?;
        let keys =
            catalogue.records().filter(|record| record.name.purpose == KeyPurpose::AuditHead);
        let keys = keys.filter_map(|record| {
            let is_destroyed = record.state == KeyState::Destroyed;
            let key = DocumentKey::from(record.public?);
            Some((record.name.generation, Signer { key, is_destroyed }))
        });
        Ok(keys.collect())
    }

    /// How many maps in force a key has signed: the newest, or none.
    ///
    /// # Errors
    /// The home cannot be read, or its map is not the platform's.
    pub(crate) fn maps_under(&self, generation: u8) -> Result<u64, RealmError> {
        let keys = self.keys_of_catalogue()?;
        let key = keys.iter().find(|(found, _)| *found == generation).map(|(_, signer)| signer.key);
        Ok(u64::from(self.newest()?.is_some_and(|newest| Some(newest.key) == key)))
    }

    /// Opens a partition where the newest map says that it is.
    ///
    /// # Errors
    /// [`StorageError::Moved`], or it cannot be reached.
    pub(super) fn open(&self, number: usize) -> Result<PostgresStorage, StorageError> {
        let moved = |error: RealmError| match error {
            RealmError::Storage(error) => error,
            error => StorageError::Moved(error.to_string()),
        };
        let options = database::partition(&self.paths, number).map_err(moved)?;
        let map = self.newest_in_force().map_err(moved)?.map(|(map, _)| map);
        let place = map.and_then(|map| Some((map.part(number)?, map.name(number))));
        let unknown = || StorageError::Moved(format!("no partition map says where {number} is"));
        let (part, name) = place.ok_or_else(unknown)?;
        PostgresStorage::open(&options.as_partition(part).at_place(name), self.realm)
    }

    /// Signs the first map of a new realm, and the newest again when another key signs now: the one that did may be destroyed. If
    /// it is, every database has to say of itself what the map says.
    ///
    /// # Errors
    /// The security module or the database failed.
    pub(crate) fn ensure_map(&self, now: Timestamp) -> Result<(), RealmError> {
        let hsm = self.hsm.get().ok_or(HsmError::UnknownDocumentKey)?;
        let signs_now = DocumentKey::from(hsm.document_key(PURPOSE)?);
        let next = match self.newest()? {
            Some(newest) if newest.key == signs_now => return Ok(()),
            Some(newest) => {
                if newest.is_key_destroyed {
                    self.demand_where_it_says(&newest.map)?;
                }
                newest.map.again(self.next_version()?, now)
            }
            None => PartitionMap::first(self.realm, self.count, self.next_version()?, now),
        };
        self.sign(&**hsm, &next)?;
        tracing::info!(target: "tapfer::keys", version = next.version, "the partition map is signed");
        Ok(())
    }

    /// Behind all that the home keeps, whoever wrote it.
    fn next_version(&self) -> Result<u32, RealmError> {
        let last = self.home.partition_map_below(i64::MAX)?.map_or(0, |(version, _)| version);
        let next = last.checked_add(1).and_then(|next| u32::try_from(next).ok());
        let said = "there are as many partition maps as there can be";
        Ok(next.ok_or_else(|| StorageError::Moved(said.to_owned()))?)
    }

    /// Signs the next map: a partition is at its next place, where its database was opened before.
    ///
    /// # Errors
    /// There is no such partition or no map; it is not open at that place; the security module or the database failed.
    pub fn sign_moved(&self, number: u8, now: Timestamp) -> Result<PartitionMap, RealmError> {
        let refused = |why: String| RealmError::Storage(StorageError::Moved(why));
        let hsm = self.hsm.get().ok_or(HsmError::UnknownDocumentKey)?;
        let (map, _) =
            self.newest_in_force()?.ok_or_else(|| refused("there is no map yet".to_owned()))?;
        let found = partition_of(&database::partition(&self.paths, usize::from(number))?)?;
        let name = found.map_or([0; 16], |found| found.name);
        let next = map.moved(number, name, self.next_version()?, now);
        let next = next.ok_or_else(|| refused(format!("there is no partition {number}")))?;
        if !found.is_some_and(|found| next.is_at(&found) && !found.is_closed) {
            let wanted = next.part(usize::from(number));
            let told = |part: Option<Part>| part.map_or("none".to_owned(), |part| part.to_string());
            let is_closed = found.is_some_and(|found| found.is_closed);
            let said = format!(
                "database.toml leads to {}{}, and what is to be signed is {}, open: first `tapfer db partitions open {number}` \
                 there",
                told(found.map(|found| found.part)),
                if is_closed { ", closed" } else { "" },
                told(wanted)
            );
            return Err(refused(said));
        }
        self.sign(&**hsm, &next)?;
        Ok(next)
    }

    fn sign(&self, hsm: &dyn PaymentHsm, map: &PartitionMap) -> Result<(), RealmError> {
        let document = map.to_text();
        let signature = hsm.sign_document(PURPOSE, document.as_bytes())?;
        let key = DocumentKey::from(hsm.document_key(PURPOSE)?);
        let (key, signature) = (HexBytes(key.bytes().to_vec()), HexBytes(signature.to_vec()));
        let signed = SignedDocument { document, key, signature };
        Ok(self.home.put_partition_map(map.version, signed)?)
    }

    /// The newest map, verified, and what each partition's database says of itself, or why it does not.
    ///
    /// # Errors
    /// The home cannot be read, or its map is not the platform's.
    pub fn show(&self) -> Result<(Option<PartitionMap>, Vec<SeenPartition>), RealmError> {
        let map = self.newest_in_force()?.map(|(map, _)| map);
        let seen = (0..self.count).map(|number| {
            let options = database::partition(&self.paths, number);
            options.and_then(|options| Ok(partition_of(&options)?)).map_err(|why| why.to_string())
        });
        Ok((map, seen.collect()))
    }
}

/// What a partition's database says of itself, or why it does not.
pub type SeenPartition = Result<Option<Found>, String>;
