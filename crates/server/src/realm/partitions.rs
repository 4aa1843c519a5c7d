//! The partition map of a realm that lies in several databases, and the way to them (docs/adr/0025-partitions.md).
//!
//! The map says how many partitions there are and at which place each is: how often it was moved, and one. The platform signs
//! it, with the key of audit heads, as API keys; it lies in the home. Where a place is reached from here says `database.toml`,
//! and the database itself says whether it is that place.

use std::fs;
use std::sync::{Arc, OnceLock};

use tapfer_emv::document::{DocumentKey, DocumentPurpose};
use tapfer_hsm::catalogue::{KeyPurpose, KeyState, UnverifiedCatalogue};
use tapfer_hsm::{HsmError, PaymentHsm};
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
        let (paths, hsm) = (paths.clone(), OnceLock::new());
        Arc::new(Self { home, paths, realm, count, hsm })
    }

    /// Has the map verified from here on, and looks whether the home is where it says.
    ///
    /// # Errors
    /// The map is not the platform's, or the home is at another place.
    pub(super) fn verify_with(&self, hsm: &Arc<dyn PaymentHsm>) -> Result<(), RealmError> {
        let _before = self.hsm.set(Arc::clone(hsm));
        let Some((map, _)) = self.newest()? else { return Ok(()) };
        let found = self.home.partition()?.map(|found| found.part);
        if map.places.len() != self.count || found != map.part(0) {
            let said = format!(
                "the map is version {} of {} partitions, and the home that database.toml leads to is {found:?}",
                map.version,
                map.places.len()
            );
            return Err(StorageError::Moved(said).into());
        }
        Ok(())
    }

    /// Whether a partition is where the newest map says.
    ///
    /// # Errors
    /// The home cannot be read, or its map is not the platform's.
    pub(super) fn is_at_its_place(&self, found: &Found) -> Result<bool, RealmError> {
        Ok(self.newest()?.is_some_and(|(map, _)| map.is_at(found)))
    }

    /// The newest map, and which key has signed it.
    fn newest(&self) -> Result<Option<(PartitionMap, DocumentKey)>, RealmError> {
        let Some(signed) = self.home.partition_map()? else { return Ok(None) };
        let read = self.keys()?.into_iter().find_map(|key| Some((self.read(&key, &signed)?, key)));
        read.map(Some).ok_or_else(|| {
            let said = "the newest partition map in the home was not signed by this platform";
            RealmError::Storage(StorageError::Moved(said.to_owned()))
        })
    }

    fn read(&self, key: &DocumentKey, signed: &SignedDocument) -> Option<PartitionMap> {
        let _signed: serde::de::IgnoredAny = key.read(PURPOSE, signed).ok()?;
        PartitionMap::parse(&signed.document).filter(|map| map.realm == self.realm)
    }

    /// Whose signatures count, the newest first.
    fn keys(&self) -> Result<Vec<DocumentKey>, RealmError> {
        let Some(hsm) = self.hsm.get() else { return self.keys_of_catalogue() };
        match hsm.document_keys(PURPOSE) {
            Ok(records) => {
                let lives = records.iter().rev().filter(|key| key.state != KeyState::Destroyed);
                Ok(lives.map(|record| record.key).collect())
            }
            // A new realm has none yet, and no map.
            Err(HsmError::UnknownDocumentKey) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, for who looks beside the platform and opens no keys.
    fn keys_of_catalogue(&self) -> Result<Vec<DocumentKey>, RealmError> {
        let path = self.paths.catalogue();
        let failed = |source| RealmError::File { action: "read", path: path.clone(), source };
        let bytes = fs::read(&path).map_err(failed)?;
        let catalogue = UnverifiedCatalogue::parse(&bytes);
        let catalogue = catalogue
            .map_err(|fault| RealmError::Database { path: path.clone(), why: fault.to_string() })?;
        let keys = catalogue.records().filter(|record| {
            record.name.purpose == KeyPurpose::AuditHead && record.state != KeyState::Destroyed
        });
        Ok(keys.filter_map(|record| record.public.map(DocumentKey::from)).collect())
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
        let map = self.newest().map_err(moved)?.map(|(map, _)| map);
        let place = map.and_then(|map| Some((map.part(number)?, map.name(number))));
        let unknown = || StorageError::Moved(format!("no partition map says where {number} is"));
        let (part, name) = place.ok_or_else(unknown)?;
        PostgresStorage::open(&options.as_partition(part).at_place(name), self.realm)
    }

    /// Signs the first map of a new realm, and the newest again when another key signs now: the one that did may be destroyed.
    ///
    /// # Errors
    /// The security module or the database failed.
    pub(crate) fn ensure_map(&self, now: Timestamp) -> Result<(), RealmError> {
        let (Some(newest), Some(hsm)) = (self.keys()?.first().copied(), self.hsm.get()) else {
            return Err(HsmError::UnknownDocumentKey.into());
        };
        let signed_by = self.newest()?;
        let next = match &signed_by {
            Some((_, key)) if *key == newest => return Ok(()),
            Some((map, _)) => map.again(now),
            None => PartitionMap::first(self.realm, self.count, now),
        };
        self.sign(&**hsm, &next)
    }

    /// Signs the next map: a partition is at its next place, where its database was opened before.
    ///
    /// # Errors
    /// There is no such partition or no map; it is not open at that place; the security module or the database failed.
    pub fn sign_moved(&self, number: u8, now: Timestamp) -> Result<PartitionMap, RealmError> {
        let refused = |why: String| RealmError::Storage(StorageError::Moved(why));
        let hsm = self.hsm.get().ok_or(HsmError::UnknownDocumentKey)?;
        let (map, _) = self.newest()?.ok_or_else(|| refused("there is no map yet".to_owned()))?;
        let found = partition_of(&database::partition(&self.paths, usize::from(number))?)?;
        let next = map.moved(number, found.map_or([0; 16], |found| found.name), now);
        let next = next.ok_or_else(|| refused(format!("there is no partition {number}")))?;
        if !found.is_some_and(|found| next.is_at(&found) && !found.is_closed) {
            let wanted = next.part(usize::from(number));
            let said = format!(
                "database.toml leads to {found:?}, and what is to be signed is {wanted:?}, open: first `tapfer db partitions \
                 open {number}` there"
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
        let map = self.newest()?.map(|(map, _)| map);
        let seen = (0..self.count).map(|number| {
            let options = database::partition(&self.paths, number);
            options.and_then(|options| Ok(partition_of(&options)?)).map_err(|why| why.to_string())
        });
        Ok((map, seen.collect()))
    }
}

/// What a partition's database says of itself, or why it does not.
pub type SeenPartition = Result<Option<Found>, String>;
