//! Where a realm's database is: the file beside its keys, or the PostgreSQL database that `database.toml` names.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tapfer_hsm::catalogue::UnverifiedCatalogue;
use tapfer_payment_types::{RealmId, Secret};
use tapfer_storage::faults::SharedFaults;
use tapfer_storage::postgres::{self, PostgresOptions, PostgresStorage};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{DatabaseReader, Storage};

use super::{RealmError, RealmPaths, described};
use crate::private_file::read_private;

/// What `database.toml` says. Files are beside it, unless their path says otherwise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    /// `postgres://name@host:5432/database`
    address: String,
    /// Holds the login's password, and nothing else.
    password_file: Option<PathBuf>,
    /// Who signs the certificates of the database's servers, as PEM.
    certificate_authority: Option<PathBuf>,
}

impl Named {
    fn read(paths: &RealmPaths) -> Result<Option<Self>, RealmError> {
        let path = paths.database_configuration();
        if !path.exists() {
            return Ok(None);
        }
        let text = String::from_utf8(read(&path)?).unwrap_or_default();
        let named = toml::from_str(&text).map_err(|error| unusable(&path, error.message()))?;
        Ok(Some(named))
    }

    fn options(
        &self,
        paths: &RealmPaths,
        password_file: Option<&Path>,
    ) -> Result<PostgresOptions, RealmError> {
        let password = password_file.map(|file| {
            let path = paths.home().join(file);
            read_private(&path).map_err(|source| RealmError::File { action: "read", path, source })
        });
        let password = password.transpose()?;
        let password = password.map(Secret::new);
        let password = password.as_ref().map(|password| {
            str::from_utf8(password.expose()).map(str::trim_end).unwrap_or_default()
        });
        let authority = self.certificate_authority.as_ref();
        let authority = authority.map(|file| read(&paths.home().join(file))).transpose()?;
        PostgresOptions::new(&self.address, password, authority.as_deref())
            .map_err(|error| unusable(&paths.database_configuration(), &error.to_string()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RealmError> {
    let failed = |source| RealmError::File { action: "read", path: path.to_owned(), source };
    fs::read(path).map_err(failed)
}

fn unusable(path: &Path, why: &str) -> RealmError {
    RealmError::Database { path: path.to_owned(), why: why.to_owned() }
}

/// The platform's own login to PostgreSQL, if the realm is kept there.
fn platform(paths: &RealmPaths) -> Result<Option<PostgresOptions>, RealmError> {
    let Some(named) = Named::read(paths)? else { return Ok(None) };
    named.options(paths, named.password_file.as_deref()).map(Some)
}

/// The database of a new realm. One in PostgreSQL was made by its owner before.
pub(super) fn create(paths: &RealmPaths, realm: RealmId) -> Result<Arc<dyn Storage>, RealmError> {
    Ok(match platform(paths)? {
        Some(options) => Arc::new(PostgresStorage::open(&options, realm)?),
        None => {
            let options = SqliteOptions::default();
            Arc::new(SqliteStorage::create(&paths.embedded_database()?, realm, &options)?)
        }
    })
}

/// The database of a realm that has one. What a simulation does to transactions it does to those of the embedded one.
pub(crate) fn open(
    paths: &RealmPaths,
    realm: RealmId,
    faults: &SharedFaults,
) -> Result<Arc<dyn Storage>, RealmError> {
    Ok(match platform(paths)? {
        Some(options) => Arc::new(PostgresStorage::open(&options, realm)?),
        None => {
            let options = SqliteOptions::default();
            let (file, faults) = (paths.embedded_database()?, Arc::clone(faults));
            Arc::new(SqliteStorage::open_with_faults(&file, realm, &options, faults)?)
        }
    })
}

/// The same, for whoever notes something beside the platforms that run, and takes no payments.
pub(crate) fn open_beside(
    paths: &RealmPaths,
    realm: RealmId,
) -> Result<Arc<dyn Storage>, RealmError> {
    Ok(match platform(paths)? {
        Some(options) => Arc::new(PostgresStorage::open(&options, realm)?),
        None => {
            let (file, options) = (paths.embedded_database()?, SqliteOptions::default());
            Arc::new(SqliteStorage::open_beside(&file, realm, &options)?)
        }
    })
}

/// The realm's database, to be read beside the platforms that run.
///
/// # Errors
/// It cannot be reached or read, or is not of this program.
pub fn reader(paths: &RealmPaths) -> Result<DatabaseReader, RealmError> {
    Ok(match platform(paths)? {
        Some(options) => DatabaseReader::server(&options)?,
        None => DatabaseReader::file(&paths.embedded_database()?)?,
    })
}

/// Makes the schema of the PostgreSQL database that `database.toml` names, or brings it forward while platforms go on with it:
/// from which version to which. `owner` is the login that the database belongs to.
///
/// # Errors
/// There is no `database.toml`; the database is of another realm, or that of a realm which had one is empty now.
pub fn migrate(
    home: &Path,
    owner: &str,
    password_file: Option<&Path>,
) -> Result<(i64, i64), RealmError> {
    let paths = RealmPaths::new(home);
    let configuration = paths.database_configuration();
    let named = Named::read(&paths)?.ok_or_else(|| {
        unusable(&configuration, "there is no such file: the realm is kept in tapfer.db")
    })?;
    let options = named.options(&paths, password_file)?.as_user(owner);
    Ok(match described(&paths) {
        // Its database must not begin anew as if nothing had ever been paid.
        Some((_, realm)) => postgres::migrate(&options, realm)?,
        None => postgres::make(&options, realm_of_keys(&paths)?)?,
    })
}

/// Whose keys lie there, of a realm that has not been started yet.
fn realm_of_keys(paths: &RealmPaths) -> Result<RealmId, RealmError> {
    let file = paths.catalogue();
    let bytes = read(&file)?;
    let catalogue = UnverifiedCatalogue::parse(&bytes);
    let (_, realm) = catalogue.map_err(|error| unusable(&file, &error.to_string()))?.realm();
    Ok(realm)
}
