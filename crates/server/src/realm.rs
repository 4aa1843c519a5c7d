//! A realm: one platform with its keys, its database and its certificates, in one directory.
//!
//! | file | what |
//! |---|---|
//! | `realm.json` | which realm this is and of what kind, and the version of this layout |
//! | `keystore` | the software HSM's root keys, sealed; or in its place |
//! | `hsm.toml` | which HSMs hold the root keys |
//! | `keys.json` | the catalogue: all other keys, wrapped under the root keys |
//! | `protection-keys.json` | which key block protection keys the custodians have accepted |
//! | `tapfer.db` | the database, with `-wal` and `-shm` beside it |
//! | `tls/` | the realm's CA and server certificate with their keys |
//! | `operator.key` | the operator's API key |
//! | `configuration.key` | realm and public key, for phones and tills that are set up |
//! | `hsm.NAME.login` | which PIN a member's token refused, and which it took last |
//!
//! The directory is for its owner only (mode 0700). A backup needs all down to the database, of one moment; what
//! keeps the keystore sealed is not in the directory.
//!
//! Description, keystore, catalogue and database hold the realm's id, keystore and catalogue under their seals. A realm whose database is gone, empty or
//! another's does not open: it would otherwise go on as if nothing had ever been paid.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tapfer_hsm::pool::HsmPool;
use tapfer_hsm::{HsmError, PaymentHsm, SoftwareHsm, Unlock};
use tapfer_payment_types::{RealmId, Timestamp};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{Storage, StorageError};

use crate::entropy::{self, EntropyError, SystemEntropy};
use crate::members::{self, MemberError};
use crate::{newest_catalogue, private_file};

pub use tapfer_hsm::Realm as RealmKind;

/// Version of the directory's layout.
const LAYOUT: u32 = 2;

/// Why a realm cannot be created or opened.
#[derive(Debug, thiserror::Error)]
pub enum RealmError {
    /// There is one already.
    #[error("there is a realm in {0} already; open it, or name another directory")]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no realm in {0}; create one, or name the right directory")]
    Missing(PathBuf),
    /// The description is not one that this program reads.
    #[error(
        "{0} does not describe a realm that this program can open; use the program that made it"
    )]
    Unreadable(PathBuf),
    /// The keystore is not that of the realm.
    #[error(
        "the keystore in {0} is not the one that realm.json describes; restore both from one backup"
    )]
    Mixed(PathBuf),
    /// Another process has it open.
    #[error("the realm in {0} is in use by another process; stop that one first")]
    InUse(PathBuf),
    /// Parts of a realm, but not what describes it.
    #[error(
        "{0} holds keys or a database of a realm, but no realm.json; restore it from a backup, or name \
         another directory"
    )]
    Undescribed(PathBuf),
    /// Somebody else may put files into the directory.
    #[error(
        "others may write into {path} (mode {mode:04o}), so what lies there cannot be trusted; run: \
         chmod 700 {path:?}, or name a directory in it"
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something was done, and the second line about it could not be written.
    #[error(
        "{what} WAS DONE; only the audit log could not be told, which knows that it was ordered: {why}. Do not do it \
         again; look at `tapfer keys list`, and write down what was done"
    )]
    Unrecorded {
        /// What was done.
        what: String,
        /// Why the log does not say so.
        why: String,
    },
    /// Something was not done, and the second line about it could not be written either.
    #[error("{stopped}. The audit log could not be told, which knows that it was ordered: {why}")]
    NotWritten {
        /// Why it was not done.
        stopped: String,
        /// Why the log does not say so.
        why: String,
    },
    /// The audit log was changed.
    #[error("the audit log is not as it was written: {0}")]
    AuditChain(String),
    /// The file system.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Two places for the root keys.
    #[error(
        "{0} holds a keystore and an hsm.toml, and the root keys are in one of them; take the other one away"
    )]
    TwoPlaces(PathBuf),
    /// Neither.
    #[error("there is no hsm.toml in {0}; write one, or name the right directory")]
    NoHsms(PathBuf),
    /// `hsm.toml`.
    #[error(transparent)]
    Members(#[from] MemberError),
    /// Keys were changed, and the database has not heard of it.
    #[error(
        "the keys were changed, but the database could not be told which catalogue is the newest now: {0}; run \
         `tapfer keys list` to see what was done, and let the platform serve, which tells it"
    )]
    NotNoted(Box<Self>),
    /// The security module.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Where the parts of a realm lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealmPaths {
    home: PathBuf,
}

impl RealmPaths {
    /// The parts of the realm in a directory.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// The directory itself.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The description of the realm.
    #[must_use]
    pub fn description(&self) -> PathBuf {
        self.home.join("realm.json")
    }

    /// The software HSM's root keys.
    #[must_use]
    pub fn keystore(&self) -> PathBuf {
        self.home.join("keystore")
    }

    /// The catalogue of keys.
    #[must_use]
    pub fn catalogue(&self) -> PathBuf {
        self.home.join("keys.json")
    }

    /// What is remembered of a refused PIN of a member.
    #[must_use]
    pub fn login_record(&self, member: &str) -> PathBuf {
        self.home.join(format!("hsm.{member}.login"))
    }

    /// Stands in the directory of a drill alone, whose tokens hold root keys for as long as it lasts.
    #[must_use]
    pub fn drill(&self) -> PathBuf {
        self.home.join("drill")
    }

    /// The HSMs that hold the root keys, where the software module does not.
    #[must_use]
    pub fn hsm_configuration(&self) -> PathBuf {
        self.home.join("hsm.toml")
    }

    /// Key block protection keys that the custodians have accepted.
    #[must_use]
    pub fn protection_keys(&self) -> PathBuf {
        self.home.join("protection-keys.json")
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.home.join("tapfer.db")
    }

    /// Certificates and their keys.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.home.join("tls")
    }

    /// The certificate that clients of the realm trust, PEM.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        crate::tls::authority_certificate_file(&self.tls())
    }

    /// The operator's API key, one line of text.
    #[must_use]
    pub fn operator_key(&self) -> PathBuf {
        self.home.join("operator.key")
    }

    /// Realm and public key of its configurations, one line of text: for phones and terminals that are set up.
    #[must_use]
    pub fn configuration_key(&self) -> PathBuf {
        self.home.join("configuration.key")
    }

    /// Whether there is a realm.
    #[must_use]
    pub fn is_realm(&self) -> bool {
        self.description().exists()
    }
}

/// What `realm.json` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    layout: u32,
    id: RealmId,
    kind: RealmKind,
    created_at: Timestamp,
}

/// Which realm lies in a directory and of what kind, by its own words.
pub(crate) fn describe(paths: &RealmPaths) -> Option<(RealmId, RealmKind)> {
    let text = fs::read(paths.description()).ok()?;
    let found: Description = serde_json::from_slice(&text).ok()?;
    (found.layout == LAYOUT).then_some((found.id, found.kind))
}

/// Which realm a directory says it holds, and of what kind. Nothing of it is proven.
#[must_use]
pub fn described(paths: &RealmPaths) -> Option<(RealmKind, RealmId)> {
    describe(paths).map(|(id, kind)| (kind, id))
}

/// Held by the one process that serves a realm, for as long as it does.
#[derive(Debug)]
pub(crate) struct RealmLock(#[expect(dead_code, reason = "held, not used")] File);

/// An open realm. Only one process at a time can have it open. Others may use and change its keys
/// meanwhile: the catalogue has a lock of its own.
pub struct Realm {
    paths: RealmPaths,
    kind: RealmKind,
    pub(crate) hsm: Arc<dyn PaymentHsm>,
    pub(crate) storage: Arc<dyn Storage>,
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
        let storage = SqliteStorage::create(&paths.database(), id, &SqliteOptions::default())?;
        // Last, so that whatever has a description is whole.
        let description = Description { layout: LAYOUT, id, kind, created_at: now };
        let path = paths.description();
        let text = serde_json::to_vec_pretty(&description).unwrap_or_default();
        private_file::write(&path, &text).map_err(|source| RealmError::File {
            action: "write",
            path,
            source,
        })?;
        Ok(Self { paths, kind, hsm, storage: Arc::new(storage), lock })
    }

    /// Opens the realm in a directory.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn open(home: &Path, unlock: &Unlock) -> Result<Self, RealmError> {
        Self::open_with(home, Some(unlock))
    }

    /// As [`Realm::open`], over the HSMs of `hsm.toml`.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn open_in_hsms(home: &Path) -> Result<Self, RealmError> {
        Self::open_with(home, None)
    }

    fn open_with(home: &Path, unlock: Option<&Unlock>) -> Result<Self, RealmError> {
        let paths = RealmPaths::new(home);
        let path = paths.description();
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RealmError::Missing(home.to_owned()),
            _ => RealmError::File { action: "read", path: path.clone(), source },
        })?;
        let description: Option<Description> = serde_json::from_slice(&text).ok();
        let description = description
            .filter(|found| found.layout == LAYOUT)
            .ok_or(RealmError::Unreadable(path))?;
        private(home, private_file::close_directory(home))?;
        let lock = lock(home)?;
        let Description { kind, id, .. } = description;
        let database = || SqliteStorage::open(&paths.database(), id, &SqliteOptions::default());
        let (hsm, storage): (Arc<dyn PaymentHsm>, _) = match place(&paths, unlock)? {
            Place::Hsms => {
                let (config, storage) = (members::configuration(&paths)?, database()?);
                // Before the first worker reads the file: whatever one has used, the pool goes by.
                let known = storage.newest_catalogue()?;
                let pool = members::open(&paths, config, Some((kind, id)), known)?;
                (Arc::new(pool), Some(storage))
            }
            Place::Keystore(unlock) => {
                let hsm = SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), unlock)?;
                (Arc::new(hsm), None)
            }
        };
        // What the module says is authenticated, what the description says is not.
        let module = hsm.describe();
        if (module.realm, module.realm_id) != (kind, id) {
            return Err(RealmError::Mixed(paths.home));
        }
        let storage = storage.map_or_else(database, Ok)?;
        // An old copy would bring back keys that were destroyed or retired, and lack newer ones.
        newest_catalogue::follow::<RealmError>(&storage, |known| Ok(hsm.follow_catalogue(known)?))?;
        Ok(Self { paths, kind, hsm, storage: Arc::new(storage), lock })
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

    /// Its security module.
    #[must_use]
    pub fn hsm(&self) -> Arc<dyn PaymentHsm> {
        Arc::clone(&self.hsm)
    }
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
        (true, true, _) => Err(RealmError::TwoPlaces(paths.home.clone())),
        (true, false, _) => Ok(Place::Hsms),
        (false, _, Some(unlock)) => Ok(Place::Keystore(unlock)),
        (false, _, None) => Err(RealmError::NoHsms(paths.home.clone())),
    }
}

/// The keys of a realm that is being made over HSMs: the ceremony has put root keys into them and made the
/// catalogue. What a crash leaves is taken over as long as no database was used with it.
fn in_hsms_unused(paths: &RealmPaths, kind: RealmKind) -> Result<HsmPool, RealmError> {
    let hsm = members::open(paths, members::configuration(paths)?, None, None)?;
    let description = hsm.describe();
    let is_unused = description.realm == kind
        && matches!(hsm.merchant_ca_key(), Err(HsmError::UnknownMerchantAuthority));
    if is_unused { Ok(hsm) } else { Err(RealmError::Undescribed(paths.home.clone())) }
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
    let undescribed = || RealmError::Undescribed(paths.home.clone());
    let (keystore, catalogue) = (paths.keystore(), paths.catalogue());
    // Keystore, catalogue, database: each comes after the one before, so one alone is not ours.
    match (keystore.exists(), catalogue.exists(), paths.database().exists()) {
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

#[cfg(test)]
mod tests {
    use super::{Realm, RealmError, RealmKind, RealmPaths};
    use std::fs;
    use std::path::Path;
    use tapfer_hsm::{PaymentHsm as _, SoftwareHsm, Unlock};
    use tapfer_payment_types::{RealmId, Timestamp};

    fn unlock() -> Unlock {
        let key = "5a1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";
        Unlock::key_from_hex(key).unwrap()
    }

    #[test]
    fn is_made_once_and_opened_again() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().join("realm");
        let now = Timestamp::from_unix_millis(1);
        assert!(matches!(Realm::open(&home, &unlock()), Err(RealmError::Missing(_))));
        drop(Realm::create(&home, RealmKind::Demo, &unlock(), now).unwrap());
        let again = Realm::create(&home, RealmKind::Demo, &unlock(), now);
        assert!(matches!(again, Err(RealmError::Exists(_))));
        assert_eq!(Realm::open(&home, &unlock()).unwrap().kind(), RealmKind::Demo);
    }

    #[test]
    fn a_demo_realm_cannot_be_relabelled() {
        let home = tempfile::tempdir().unwrap();
        let now = Timestamp::from_unix_millis(1);
        drop(Realm::create(home.path(), RealmKind::Demo, &unlock(), now).unwrap());
        let file = RealmPaths::new(home.path()).description();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("demo", "production")).unwrap();
        assert!(matches!(Realm::open(home.path(), &unlock()), Err(RealmError::Mixed(_))));
        let other = RealmId::new(now, [7; 10]).to_string();
        let own = text.split('"').find(|word| word.starts_with("realm_")).unwrap();
        fs::write(&file, text.replace(own, &other)).unwrap();
        assert!(matches!(Realm::open(home.path(), &unlock()), Err(RealmError::Mixed(_))));
        fs::write(&file, "{}").unwrap();
        assert!(matches!(Realm::open(home.path(), &unlock()), Err(RealmError::Unreadable(_))));
    }

    fn new_realm(kind: RealmKind) -> (tempfile::TempDir, RealmPaths) {
        let home = tempfile::tempdir().unwrap();
        drop(Realm::create(home.path(), kind, &unlock(), Timestamp::from_unix_millis(1)).unwrap());
        let paths = RealmPaths::new(home.path());
        (home, paths)
    }

    #[cfg(unix)]
    fn close(file: &Path) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn one_process_serves_a_realm() {
        let (home, paths) = new_realm(RealmKind::Demo);
        let open = || Realm::open(home.path(), &unlock());
        let realm = open().unwrap();
        assert!(matches!(open(), Err(RealmError::InUse(_))));
        // Its keys can be used and changed beside it.
        let hsm = SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), &unlock()).unwrap();
        let now = Timestamp::from_unix_millis(1);
        let key = hsm.create_certification_authority([1; 5], 1, now).unwrap();
        assert_eq!(realm.hsm().ca_public_key([1; 5], 1).unwrap(), key);
        drop(realm);
        open().unwrap();
    }

    #[test]
    fn a_realm_without_its_database_does_not_open() {
        for kind in [RealmKind::Demo, RealmKind::Production] {
            let (home, paths) = new_realm(kind);
            let (_other_home, other) = new_realm(kind);
            let open = || Realm::open(home.path(), &unlock()).map(drop).unwrap_err().to_string();
            let whole = fs::read(paths.database()).unwrap();

            fs::remove_file(paths.database()).unwrap();
            assert!(open().contains("restore the database from a backup"), "{}", open());
            assert!(!paths.database().exists(), "none is made");
            fs::write(paths.database(), b"").unwrap();
            assert!(open().contains("restore the database from a backup"), "{}", open());
            fs::copy(other.database(), paths.database()).unwrap();
            assert!(open().contains("restore both from one backup"), "{}", open());
            fs::write(paths.database(), whole).unwrap();
            Realm::open(home.path(), &unlock()).unwrap();

            let whole = fs::read(paths.catalogue()).unwrap();
            fs::copy(other.catalogue(), paths.catalogue()).unwrap();
            assert!(open().contains("made under other root keys"), "{}", open());
            fs::remove_file(paths.catalogue()).unwrap();
            assert!(open().contains("restore it from a backup"), "{}", open());
            assert!(!paths.catalogue().exists(), "none is made");
            fs::write(paths.catalogue(), whole).unwrap();
            #[cfg(unix)]
            close(&paths.catalogue());
            Realm::open(home.path(), &unlock()).unwrap();

            fs::copy(other.keystore(), paths.keystore()).unwrap();
            assert!(open().contains("made under other root keys"), "{}", open());
            fs::copy(other.catalogue(), paths.catalogue()).unwrap();
            assert!(open().contains("restore both from one backup"), "{}", open());
        }
    }

    /// An old copy of the catalogue, with keys that were destroyed since, does not open; nor does one that
    /// somebody went on with, nor one under another key of its MAC.
    #[cfg(unix)]
    #[test]
    fn attack_old_catalogue_put_back() {
        let now = Timestamp::from_unix_millis(1);
        let (home, paths) = new_realm(RealmKind::Production);
        let open = || Realm::open(home.path(), &unlock());
        let old = fs::read(paths.catalogue()).unwrap();
        let realm = open().unwrap();
        realm.hsm().create_merchant_authority(now).unwrap();
        drop(realm);
        let newest = fs::read(paths.catalogue()).unwrap();
        drop(open().unwrap());
        fs::write(paths.catalogue(), old).unwrap();
        let error = || open().map(drop).unwrap_err().to_string();
        assert!(error().contains("version 1, and version 2 was used already"), "{}", error());

        // Beside the platform, by whoever opens the keystore.
        let beside =
            || SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), &unlock()).unwrap();
        beside().create_document_keys(now).unwrap();
        assert!(error().contains("was not made from version 2"), "{}", error());
        beside().create_merchant_authority(now).unwrap();
        assert!(error().contains("is version 3, and was not made from version 2"), "{}", error());

        fs::remove_file(paths.catalogue()).unwrap();
        drop(SoftwareHsm::finish(&paths.keystore(), &paths.catalogue(), &unlock()).unwrap());
        for index in 1..=3 {
            assert!(error().contains("tampered with"), "{}", error());
            beside().create_certification_authority([1; 5], index, now).unwrap();
        }

        fs::write(paths.catalogue(), newest).unwrap();
        let realm = open().unwrap();
        for index in 1..=3 {
            realm.hsm().create_certification_authority([1; 5], index, now).unwrap();
        }
        drop(realm);
        open().unwrap();
    }

    /// What a crash leaves at each point of the first start can be started again.
    #[test]
    fn a_first_start_that_was_torn_off_is_finished() {
        let now = Timestamp::from_unix_millis(1);
        for remaining in
            [&["keystore"][..], &["keystore", "keys.json"], &["keystore", "keys.json", "tapfer.db"]]
        {
            let (home, paths) = new_realm(RealmKind::Demo);
            for file in fs::read_dir(home.path()).unwrap().map(Result::unwrap) {
                if !remaining.iter().any(|name| file.file_name() == *name) {
                    fs::remove_file(file.path()).unwrap();
                }
            }
            let (kind, unlock) = (RealmKind::Production, unlock());
            let other_kind = Realm::create(paths.home(), kind, &unlock, now);
            assert!(matches!(other_kind, Err(RealmError::Undescribed(_))));
            drop(Realm::create(paths.home(), RealmKind::Demo, &unlock, now).unwrap());
            Realm::open(paths.home(), &unlock).unwrap();
        }
        let (home, paths) = new_realm(RealmKind::Demo);
        fs::write(paths.database(), b"").unwrap();
        fs::remove_file(paths.description()).unwrap();
        drop(Realm::create(home.path(), RealmKind::Demo, &unlock(), now).unwrap());
    }

    #[test]
    fn a_realm_in_use_is_not_taken_for_a_new_one() {
        let now = Timestamp::from_unix_millis(1);
        let (home, paths) = new_realm(RealmKind::Demo);
        let realm = Realm::open(home.path(), &unlock()).unwrap();
        realm
            .hsm()
            .create_certification_authority([1; 5], 1, Timestamp::from_unix_millis(1))
            .unwrap();
        drop(realm);
        fs::remove_file(paths.description()).unwrap();
        let again = || Realm::create(home.path(), RealmKind::Demo, &unlock(), now);
        assert!(matches!(again(), Err(RealmError::Undescribed(_))), "there are keys");
        for file in [paths.keystore(), paths.catalogue()] {
            fs::remove_file(file).unwrap();
            assert!(matches!(again(), Err(RealmError::Undescribed(_))), "there is a database");
        }
        assert!(!paths.keystore().exists());
    }

    #[cfg(unix)]
    #[test]
    fn the_directory_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let now = Timestamp::from_unix_millis(1);
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        for writable in [0o777, 0o770, 0o702] {
            set(home, writable);
            let refused = Realm::create(home, RealmKind::Demo, &unlock(), now);
            assert!(matches!(refused, Err(RealmError::Writable { mode, .. }) if mode == writable));
            assert_eq!(fs::read_dir(home).unwrap().count(), 0, "nothing was written");
        }
        set(home, 0o755);
        drop(Realm::create(home, RealmKind::Demo, &unlock(), now).unwrap());
        assert_eq!(mode(home), 0o700);
        set(home, 0o750);
        drop(Realm::open(home, &unlock()).unwrap());
        assert_eq!(mode(home), 0o700);
        set(home, 0o730);
        let refused = Realm::open(home, &unlock());
        assert!(matches!(refused, Err(RealmError::Writable { mode: 0o730, .. })));
    }
}
