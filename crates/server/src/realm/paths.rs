//! Where the parts of a realm lie.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::RealmError;

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

    /// What is remembered of a refused PIN of a member. The directory of a drill goes with it, and what its tokens have
    /// counted does not: it remembers where [`Self::drill`] says.
    #[must_use]
    pub fn login_record(&self, member: &str) -> PathBuf {
        let elsewhere = fs::read(self.drill()).ok().filter(|begin| !begin.is_empty());
        let begin = elsewhere.map(OsString::from_vec);
        let mut path = begin.unwrap_or_else(|| self.home.join("hsm").into_os_string());
        path.push(format!(".{member}.login"));
        path.into()
    }

    /// Stands in the directory of a drill alone, whose tokens hold root keys for as long as it lasts: how paths of its
    /// login records begin.
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

    /// The database of a realm that has it beside its keys.
    ///
    /// # Errors
    /// [`RealmError::KeptInPostgres`]: a file of that name is nothing but what is left of another time.
    pub fn embedded_database(&self) -> Result<PathBuf, RealmError> {
        match self.database_configuration().exists() {
            true => Err(RealmError::KeptInPostgres(self.home.clone())),
            false => Ok(self.home.join("tapfer.db")),
        }
    }

    /// Whether the realm has a database, or the name of one.
    #[must_use]
    pub fn has_database(&self) -> bool {
        self.embedded_database().map_or(true, |file| file.exists())
    }

    /// Names the PostgreSQL database that is in the place of the file.
    #[must_use]
    pub fn database_configuration(&self) -> PathBuf {
        self.home.join("database.toml")
    }

    /// What this node decided alone while its database was away, as long as it is not booked.
    #[must_use]
    pub fn stand_in_journal(&self) -> PathBuf {
        self.home.join("stand-in.journal")
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
