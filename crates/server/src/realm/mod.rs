//! A realm: one platform with its keys, its database and its certificates, in one directory.
//!
//! | file | what |
//! |---|---|
//! | `realm.json` | which realm this is and of what kind, and the version of this layout |
//! | `keystore` | the software HSM's root keys, sealed; or in its place |
//! | `hsm.toml` | which HSMs hold the root keys |
//! | `keys.json` | the catalogue: all other keys, wrapped under the root keys |
//! | `protection-keys.json` | which key block protection keys the custodians have accepted |
//! | `tapfer.db` | the database, with `-wal` and `-shm` beside it, and `-open` as long as a platform has not closed it; or in its place |
//! | `database.toml` | which PostgreSQL database it is, which several platforms of the realm share (ADR 21) |
//! | `stand-in.journal` | what this node decided alone while that database was away, as long as it is not booked (ADR 26) |
//! | `tls/` | the realm's CA and server certificate with their keys |
//! | `operator.key` | the operator's API key |
//! | `configuration.key` | realm and public key, for phones and tills that are set up |
//! | `hsm.NAME.login` | which PIN a member's token refused, and which it took last |
//!
//! The directory is for its owner only (mode 0700). A backup needs all down to the database, of one moment; what
//! keeps the keystore sealed is not in the directory.
//!
//! Description, keystore, catalogue and database hold the realm's id, keystore and catalogue under their seals. A realm
//! whose database is gone, empty or another's does not open: it would otherwise go on as if nothing had ever been paid.

pub(crate) mod database;
mod description;
mod error;
mod partitions;
mod paths;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use tapfer_hsm::pool::{HsmPool, NoneServes, PoolConfig};
use tapfer_hsm::{HsmError, PaymentHsm, SoftwareHsm, Unlock};
use tapfer_payment_types::{CatalogueMark, RealmId, Timestamp};
use tapfer_storage::faults::{NoFaults, SharedFaults};
use tapfer_storage::sqlite::simulated::SimulatedNode;
use tapfer_storage::{StandInLimits, Storage};

use self::database::{Alone, Opened};
use self::description::Description;
use crate::entropy::{self, SystemEntropy};
use crate::{members, newest_catalogue, private_file};

pub use self::database::{
    Owner, close_partition, demand_free as demand_free_database, look_at_servers,
    migrate as migrate_database, open_partition, reader as database_reader,
    readers as database_readers, stand_in_limits,
};
pub use self::description::described;
pub use self::error::RealmError;
pub use self::partitions::{Partitions, SeenPartition};
pub use self::paths::RealmPaths;
pub use tapfer_hsm::Realm as RealmKind;

/// Held by the one process that serves a realm, for as long as it does.
#[derive(Debug)]
pub(crate) struct RealmLock(#[expect(dead_code, reason = "held, not used")] File);

/// An open realm. Only one process at a time can have it open. Others may use and change its keys
/// meanwhile: the catalogue has a lock of its own.
pub struct Realm {
    pub(crate) paths: RealmPaths,
    kind: RealmKind,
    pub(crate) hsm: Arc<dyn PaymentHsm>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) partitions: Option<Arc<Partitions>>,
    pub(crate) alone: Option<Alone>,
    pub(crate) lock: RealmLock,
}

impl Realm {
    /// Makes a new realm in a directory that is empty or does not exist, and opens it.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn create(
        home: &Path,
        kind: RealmKind,
        unlock: &Unlock,
        now: Timestamp,
    ) -> Result<Self, RealmError> {
        Self::create_with(home, kind, Some(unlock), now)
    }

    /// As [`Realm::create`], over the HSMs of `hsm.toml`: a ceremony has put root keys into them and made the
    /// catalogue.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn create_in_hsms(
        home: &Path,
        kind: RealmKind,
        now: Timestamp,
    ) -> Result<Self, RealmError> {
        Self::create_with(home, kind, None, now)
    }

    fn create_with(
        home: &Path,
        kind: RealmKind,
        unlock: Option<&Unlock>,
        now: Timestamp,
    ) -> Result<Self, RealmError> {
        let paths = RealmPaths::new(home);
        if paths.is_realm() {
            return Err(RealmError::Exists(home.to_owned()));
        }
        private(home, private_file::claim_directory(home))?;
        let lock = lock(home)?;
        let hsm: Arc<dyn PaymentHsm> = match place(&paths, unlock)? {
            Place::Hsms => Arc::new(in_hsms_unused(&paths, kind)?),
            Place::Keystore(unlock) => Arc::new(create_or_finish(&paths, kind, unlock, now)?),
        };
        let id = hsm.describe().realm_id;
        let Opened { storage, partitions, alone } = database::create(&paths, id)?;
        verify_map(partitions.as_deref(), &hsm)?;
        // Last, so that whatever has a description is whole.
        Description::new(id, kind, now).write(&paths)?;
        Ok(Self { paths, kind, hsm, storage, partitions, alone, lock })
    }

    /// Opens the realm in a directory.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn open(home: &Path, unlock: &Unlock) -> Result<Self, RealmError> {
        Self::open_with_faults(home, unlock, Arc::new(NoFaults))
    }

    /// As [`Realm::open`], for a simulation.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn open_with_faults(
        home: &Path,
        unlock: &Unlock,
        faults: SharedFaults,
    ) -> Result<Self, RealmError> {
        Self::open_with(home, Some(unlock), |paths, id| database::open(paths, id, &faults))
    }

    /// As [`Realm::open`], for a simulation of several nodes: over a store of this realm that is there already, and what this node
    /// may decide alone while that is away.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn open_over(
        home: &Path,
        unlock: &Unlock,
        database: &Arc<SimulatedNode>,
        limits: Option<StandInLimits>,
    ) -> Result<Self, RealmError> {
        Self::open_with(home, Some(unlock), |_, _| Ok(Opened::replaceable(database, limits)))
    }

    /// As [`Realm::open`], over the HSMs of `hsm.toml`.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn open_in_hsms(home: &Path) -> Result<Self, RealmError> {
        let faults: SharedFaults = Arc::new(NoFaults);
        Self::open_with(home, None, |paths, id| database::open(paths, id, &faults))
    }

    fn open_with(
        home: &Path,
        unlock: Option<&Unlock>,
        database: impl Fn(&RealmPaths, RealmId) -> Result<Opened, RealmError>,
    ) -> Result<Self, RealmError> {
        let paths = RealmPaths::new(home);
        let Description { kind, id, .. } = Description::read(&paths)?;
        private(home, private_file::close_directory(home))?;
        let lock = lock(home)?;
        let database = || database(&paths, id);
        let (hsm, opened): (Arc<dyn PaymentHsm>, _) = match place(&paths, unlock)? {
            Place::Hsms => {
                let (config, opened) = (members::configuration(&paths)?, database()?);
                let storage = &opened.storage;
                // Before the first worker reads the file: whatever one has used, the pool goes by.
                let known = storage.newest_catalogue()?;
                let pool = match (launch(&paths, config, Some((kind, id)), known), &known) {
                    (Err(refused), Some(newest)) => {
                        newest_catalogue::take_over(&**storage, &paths, newest, refused, || {
                            let config = members::configuration(&paths)?;
                            launch(&paths, config, Some((kind, id)), known)
                        })?
                    }
                    (launched, _) => launched?,
                };
                (Arc::new(pool), Some(opened))
            }
            Place::Keystore(unlock) => {
                let hsm = SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), unlock)?;
                (Arc::new(hsm), None)
            }
        };
        // What the module says is authenticated, what the description says is not.
        let module = hsm.describe();
        if (module.realm, module.realm_id) != (kind, id) {
            return Err(RealmError::Mixed(home.to_owned()));
        }
        let Opened { storage, partitions, alone } = opened.map_or_else(database, Ok)?;
        // An old copy would bring back keys that were destroyed or retired, and lack newer ones.
        let follow = |known: Option<&CatalogueMark>| Ok(hsm.follow_catalogue(known)?);
        newest_catalogue::follow::<RealmError>(&*storage, &paths, follow)?;
        newest_catalogue::share(&*storage, &paths)?;
        newest_catalogue::say_unknown_owners(&*storage, &paths)?;
        verify_map(partitions.as_deref(), &hsm)?;
        Ok(Self { paths, kind, hsm, storage, partitions, alone, lock })
    }

    /// Where its parts lie.
    #[must_use]
    pub const fn paths(&self) -> &RealmPaths {
        &self.paths
    }

    /// Reads the whole audit log and compares it with its chain: how many events there are.
    ///
    /// # Errors
    /// [`RealmError::AuditChain`] says where it breaks.
    pub fn verify_audit(&self) -> Result<u64, RealmError> {
        let report = self.storage.verify_audit()?;
        match report.fault {
            None => Ok(report.sound.sequence),
            Some(fault) => Err(RealmError::AuditChain(fault.to_string())),
        }
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> RealmKind {
        self.kind
    }

    /// Its partitions, if it lies in several databases.
    #[must_use]
    pub fn partitions(&self) -> Option<&Partitions> {
        self.partitions.as_deref()
    }

    /// Its security module.
    #[must_use]
    pub fn hsm(&self) -> Arc<dyn PaymentHsm> {
        Arc::clone(&self.hsm)
    }
}

fn verify_map(
    partitions: Option<&Partitions>,
    hsm: &Arc<dyn PaymentHsm>,
) -> Result<(), RealmError> {
    partitions.map_or(Ok(()), |partitions| partitions.verify_with(hsm))
}

/// Where the root keys are.
enum Place<'a> {
    /// In the HSMs of `hsm.toml`.
    Hsms,
    /// In the keystore, which this opens.
    Keystore(&'a Unlock),
}

fn place<'a>(paths: &RealmPaths, unlock: Option<&'a Unlock>) -> Result<Place<'a>, RealmError> {
    match (paths.hsm_configuration().exists(), paths.keystore().exists(), unlock) {
        (true, true, _) => Err(RealmError::TwoPlaces(paths.home().to_owned())),
        (true, false, _) => Ok(Place::Hsms),
        (false, _, Some(unlock)) => Ok(Place::Keystore(unlock)),
        (false, _, None) => Err(RealmError::NoHsms(paths.home().to_owned())),
    }
}

/// Starts the pool. What a running one says when no member serves is not true of one that does not run: whoever starts
/// it is told whether to wait for an HSM or for a person.
fn launch(
    paths: &RealmPaths,
    config: PoolConfig,
    realm: Option<(RealmKind, RealmId)>,
    known: Option<CatalogueMark>,
) -> Result<HsmPool, RealmError> {
    let configured = config.members.clone();
    members::open(paths, config, realm, known).map_err(|NoneServes { cause, waits_for_people }| {
        let waits_for_an_hsm = !waits_for_people
            && configured.iter().any(|member| members::may_serve_by_itself(paths, member))
            && newest_catalogue::catalogue_refusal(paths.home()).is_none();
        match waits_for_an_hsm {
            true => RealmError::NoneAnswers(cause),
            false => RealmError::NoneServes(cause),
        }
    })
}

/// The keys of a realm that is being made over HSMs: the ceremony has put root keys into them and made the
/// catalogue. What a crash leaves is taken over as long as no database was used with it.
fn in_hsms_unused(paths: &RealmPaths, kind: RealmKind) -> Result<HsmPool, RealmError> {
    let hsm = launch(paths, members::configuration(paths)?, None, None)?;
    let description = hsm.describe();
    let is_unused = description.realm == kind
        && matches!(hsm.merchant_ca_key(), Err(HsmError::UnknownMerchantAuthority));
    if is_unused { Ok(hsm) } else { Err(RealmError::Undescribed(paths.home().to_owned())) }
}

/// The keys of a realm that is being made. A crash in the middle leaves a keystore, perhaps with a catalogue
/// without keys, and perhaps a database with its id; all are taken over. Anything more is a realm that lost
/// its description.
fn create_or_finish(
    paths: &RealmPaths,
    kind: RealmKind,
    unlock: &Unlock,
    now: Timestamp,
) -> Result<SoftwareHsm, RealmError> {
    let undescribed = || RealmError::Undescribed(paths.home().to_owned());
    let (keystore, catalogue) = (paths.keystore(), paths.catalogue());
    // Keystore, catalogue, database: each comes after the one before, so one alone is not ours.
    match (
        keystore.exists(),
        catalogue.exists(),
        paths.embedded_database().is_ok_and(|file| file.exists()),
    ) {
        (false, false, false) => {
            let id = RealmId::new(now, entropy::bytes(&SystemEntropy)?);
            Ok(SoftwareHsm::create(&keystore, &catalogue, unlock, kind, id)?)
        }
        (true, false, false) => {
            let (found, _) = SoftwareHsm::realm_of_keystore(&keystore, unlock)?;
            let hsm = || SoftwareHsm::finish(&keystore, &catalogue, unlock);
            if found == kind { Ok(hsm()?) } else { Err(undescribed()) }
        }
        (true, true, _) => {
            let hsm = SoftwareHsm::open(&keystore, &catalogue, unlock)?;
            let is_unused = hsm.describe().realm == kind && !hsm.holds_keys()?;
            if is_unused { Ok(hsm) } else { Err(undescribed()) }
        }
        _ => Err(undescribed()),
    }
}

/// Whether some process has the realm in a home directory open.
///
/// # Errors
/// There is no such directory.
pub fn is_open(home: &Path) -> Result<bool, RealmError> {
    match lock(home) {
        Ok(_lock) => Ok(false),
        Err(RealmError::InUse(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes this the one process that serves the realm.
fn lock(home: &Path) -> Result<RealmLock, RealmError> {
    // The directory itself: a file in it could be removed, which would let a second process in.
    let failed = |source| RealmError::File { action: "lock", path: home.to_owned(), source };
    let directory = File::open(home).map_err(failed)?;
    match directory.try_lock() {
        Ok(()) => Ok(RealmLock(directory)),
        Err(TryLockError::WouldBlock) => Err(RealmError::InUse(home.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn private(path: &Path, claimed: io::Result<Result<(), u32>>) -> Result<(), RealmError> {
    let path = path.to_owned();
    match claimed {
        Ok(Ok(())) => Ok(()),
        Ok(Err(mode)) => Err(RealmError::Writable { path, mode }),
        Err(source) => Err(RealmError::File { action: "make private", path, source }),
    }
}
