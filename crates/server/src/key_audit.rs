//! What the people who keep the keys do, in the realm's audit log. They work beside the platform, which
//! may run or not; the log is one.

use std::fmt;
use std::sync::Arc;

use tapfer_hsm::SealedCardRecord;
use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose};
use tapfer_hsm::custody::KeyCustody;
use tapfer_payment_types::{CatalogueMark, Timestamp};
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult};
use tapfer_storage::{KeyUse, Storage, StorageError};

use crate::newest_catalogue;
use crate::realm::{Partitions, RealmError, RealmPaths, database, described};

/// What the database knows of the catalogue of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownCatalogue {
    /// None was used yet.
    Nothing,
    /// The newest that was used.
    Version(CatalogueMark),
    /// Something that nobody noted who came by the rules of the table, and why it makes no sense.
    Broken(String),
}

impl fmt::Display for KnownCatalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("none"),
            Self::Version(known) => write!(f, "version {}", known.version),
            Self::Broken(why) => write!(f, "what makes no sense ({why})"),
        }
    }
}

/// The audit log, and who writes into it why.
pub struct KeyAudit {
    storage: Arc<dyn Storage>,
    paths: RealmPaths,
    who_and_why: String,
}

impl KeyAudit {
    /// Opens the audit log, before anything is done that it has to hold.
    ///
    /// # Errors
    /// There is no realm, or its database does not open.
    pub fn open(paths: &RealmPaths, who: &str, why: &str) -> Result<Self, RealmError> {
        let missing = || RealmError::Missing(paths.home().to_owned());
        let (_, realm) = described(paths).ok_or_else(missing)?;
        let storage = database::open_beside(paths, realm)?;
        Ok(Self { storage, paths: paths.clone(), who_and_why: format!("{who}: {why}") })
    }

    /// What in the database is worth nothing without a key: kinds of rows, and how many of each.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn records_under(
        &self,
        name: KeyName,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, u64)>, RealmError> {
        if (name.owner, name.purpose) == (KeyOwner::Platform, KeyPurpose::AuditHead) {
            // The nodes of a realm with partitions go by the newest map, which running ones sign anew behind a rotation.
            let partitions = Partitions::beside(&self.paths)?;
            let maps = partitions.map_or(Ok(0), |of| of.maps_under(name.generation))?;
            return Ok(if maps == 0 { Vec::new() } else { vec![("partition map in force", maps)] });
        }
        let KeyOwner::Issuer(issuer) = name.owner else { return Ok(Vec::new()) };
        let key = match name.purpose {
            KeyPurpose::IssuerMaster => KeyUse::IssuerMaster { index: name.generation },
            KeyPurpose::CardRecords => {
                KeyUse::CardRecords { prefix: SealedCardRecord::prefix(name.generation) }
            }
            KeyPurpose::CardPins => KeyUse::CardPins,
            // They sign and open what is on its way; nothing that lies here needs them.
            _ => return Ok(Vec::new()),
        };
        Ok(self.storage.rows_under(issuer, key, now)?)
    }

    /// Changes keys of the newest catalogue that was used, and lets the database know what came of it: an old copy
    /// is not gone on with, and the one that was made is not taken back.
    ///
    /// # Errors
    /// What `act` fails with; the catalogue is an old one; module or database failed.
    pub fn over_newest<T, E: From<RealmError>>(
        &self,
        keys: &(impl KeyCustody + ?Sized),
        act: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let follow = || {
            let follow = |known: Option<&CatalogueMark>| Ok(keys.follow(known)?);
            newest_catalogue::follow::<RealmError>(&*self.storage, &self.paths, follow)
        };
        let _turn = self.storage.turn_to_make_keys().map_err(RealmError::from)?;
        follow()?;
        let done = act()?;
        follow().map_err(|error| RealmError::NotNoted(Box::new(error)))?;
        Ok(done)
    }

    /// The newest version of the catalogue of keys that the database knows.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn newest_catalogue(&self) -> Result<KnownCatalogue, RealmError> {
        match self.storage.newest_catalogue() {
            Ok(Some(known)) => Ok(KnownCatalogue::Version(known)),
            Ok(None) => Ok(KnownCatalogue::Nothing),
            Err(StorageError::Inconsistent(broken)) => {
                Ok(KnownCatalogue::Broken(broken.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Lets the database know a catalogue that does not come from the one it knows: the custodians have agreed. That
    /// is done and in the log, or neither.
    ///
    /// # Errors
    /// The database knows another one by now, or cannot be written.
    pub fn accept_catalogue(
        &self,
        known: &KnownCatalogue,
        accepted: CatalogueMark,
        now: Timestamp,
    ) -> Result<(), RealmError> {
        let detail = format!(
            "version {} accepted in the place of {known}; ordered by {}",
            accepted.version, self.who_and_why
        );
        let known = match known {
            KnownCatalogue::Version(known) => Some(*known),
            KnownCatalogue::Broken(_) | KnownCatalogue::Nothing => None,
        };
        let (action, object) = (AuditAction::KeyCeremonyHeld, "catalogue of keys".to_owned());
        let event = AuditEvent::of_platform(action, object, Some(detail), now);
        match self.storage.accept_catalogue(known, accepted, event)? {
            true => Ok(()),
            false => Err(StorageError::Busy.into()),
        }
    }

    /// Does something with a key. The log says that it was ordered before anything is done, and how it
    /// ended after: whoever dies in between leaves the order behind.
    ///
    /// # Errors
    /// What `act` fails with; that the log cannot be written.
    pub fn around<T, E: From<RealmError> + fmt::Display>(
        &self,
        action: AuditAction,
        object: &str,
        now: impl Fn() -> Timestamp,
        act: impl FnOnce() -> Result<T, E>,
        outcome: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        let write = |result, detail: String| {
            let event = AuditEvent::of_platform(action, object.to_owned(), Some(detail), now());
            let event = AuditEvent { result, ..event };
            self.storage.record_audit(event).map_err(RealmError::from)
        };
        write(AuditResult::Succeeded, format!("ordered by {}", self.who_and_why))?;
        match act() {
            Ok(done) => match write(AuditResult::Succeeded, format!("done: {}", outcome(&done))) {
                Ok(()) => Ok(done),
                Err(error) => Err(E::from(RealmError::Unrecorded {
                    what: format!("{} of {object}", action.as_str()),
                    why: error.to_string(),
                })),
            },
            Err(error) => {
                // With what lies beneath it, where the error has that to tell.
                let stopped = format!("{error:#}");
                match write(AuditResult::Refused, stopped.clone()) {
                    Ok(()) => Err(error),
                    Err(why) => {
                        Err(E::from(RealmError::NotWritten { stopped, why: why.to_string() }))
                    }
                }
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::KeyAudit;
    use crate::realm::{Realm, RealmError, RealmKind, RealmPaths};
    use std::fs;
    use tapfer_hsm::catalogue::{KeyOwner, KeyPurpose};
    use tapfer_hsm::custody::KeyCustody as _;
    use tapfer_hsm::{PaymentHsm as _, SoftwareHsm, Unlock};
    use tapfer_payment_types::{IssuerId, Timestamp};

    /// Those who keep the keys do not go on with an old copy, and what they have made is not taken back, whether
    /// the platform has seen it or not.
    #[test]
    fn attack_old_catalogue_given_to_those_who_keep_the_keys() {
        let (home, now) = (tempfile::tempdir().unwrap(), Timestamp::from_unix_millis(1));
        let key = "5a1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";
        let unlock = Unlock::key_from_hex(key).unwrap();
        drop(Realm::create(home.path(), RealmKind::Demo, &unlock, now).unwrap());
        let paths = RealmPaths::new(home.path());
        let open = || SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), &unlock).unwrap();
        let issuer = IssuerId::new(now, [1; 10]);
        open().create_issuer(issuer, now).unwrap();
        let old = fs::read(paths.catalogue()).unwrap();

        let audit = KeyAudit::open(&paths, "Ada", "a test").unwrap();
        let rotate = |keys: &SoftwareHsm| {
            let (owner, purpose) = (KeyOwner::Issuer(issuer), KeyPurpose::CardPins);
            let act = || Ok::<_, RealmError>(keys.rotate(owner, purpose, now)?);
            audit.over_newest(keys, act).map(|made| made.name.generation)
        };
        assert_eq!(rotate(&open()).unwrap(), 2);
        let newest = fs::read(paths.catalogue()).unwrap();

        fs::write(paths.catalogue(), &old).unwrap();
        let refused = rotate(&open()).unwrap_err().to_string();
        assert!(refused.contains("version 2, and version 3 was used already"), "{refused}");
        assert_eq!(fs::read(paths.catalogue()).unwrap(), old, "nothing was made");
        // No platform has served meanwhile.
        let refused = Realm::open(home.path(), &unlock).map(drop).unwrap_err().to_string();
        assert!(refused.contains("version 3 was used already"), "{refused}");
        fs::write(paths.catalogue(), newest).unwrap();
        assert_eq!(rotate(&open()).unwrap(), 3);
    }
}
