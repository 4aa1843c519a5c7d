//! Where a realm's database is: the file beside its keys, or the PostgreSQL database that `database.toml` names.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tapfer_hsm::catalogue::UnverifiedCatalogue;
use tapfer_payment_types::{RealmId, Secret};
use tapfer_storage::faults::SharedFaults;
use tapfer_storage::partitions::PartitionedStorage;
use tapfer_storage::postgres::{self, Part, PostgresOptions, PostgresStorage};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{DatabaseReader, SharedDatabase, StandInLimits, Storage, StorageError};

use super::partitions::{self, Partitions};
use super::{RealmError, RealmPaths, described};
use crate::private_file::read_private;

/// What `database.toml` says: the realm's only database, or partition 0 and the others behind it. Files are beside it, unless
/// their path says otherwise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Configured {
    /// `postgres://name@host:5432/database`
    address: String,
    /// Holds the login's password, and nothing else.
    password_file: Option<PathBuf>,
    /// Who signs the certificates of the database's servers, as PEM.
    certificate_authority: Option<PathBuf>,
    /// Partitions from 1 on.
    #[serde(default)]
    partition: Vec<Named>,
    /// What this node may decide alone while the database is away: nothing, unless it says so.
    stand_in: Option<StandingIn>,
}

/// As [`StandInLimits`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StandingIn {
    currency: String,
    payment_minor: i64,
    token_payments: u32,
    token_minor: i64,
    node_payments: u32,
    node_minor: i64,
    minutes: u32,
    known_minutes: u32,
}

impl StandingIn {
    fn limits(&self) -> Result<StandInLimits, String> {
        let currency = self.currency.parse().map_err(|_| "no such currency".to_owned())?;
        let Self { payment_minor, token_payments, token_minor, node_payments, .. } = *self;
        let Self { node_minor, minutes, known_minutes, .. } = *self;
        let limits = StandInLimits {
            currency,
            payment_minor,
            token_payments,
            token_minor,
            node_payments,
            node_minor,
            minutes,
            known_minutes,
        };
        limits.checked().map_err(|error| error.to_string())
    }
}

/// One database: as in [`Configured`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    address: String,
    password_file: Option<PathBuf>,
    certificate_authority: Option<PathBuf>,
}

impl Configured {
    /// All databases, by number.
    fn databases(self) -> Vec<Named> {
        let Self { address, password_file, certificate_authority, partition, .. } = self;
        let home = Named { address, password_file, certificate_authority };
        [home].into_iter().chain(partition).collect()
    }

    fn read(paths: &RealmPaths) -> Result<Option<Self>, RealmError> {
        let path = paths.database_configuration();
        if !path.exists() {
            return Ok(None);
        }
        let text = String::from_utf8(read(&path)?).unwrap_or_default();
        let named: Self =
            toml::from_str(&text).map_err(|error| unusable(&path, error.message()))?;
        named.stand_in(paths)?;
        Ok(Some(named))
    }

    /// What this node may decide alone.
    fn stand_in(&self, paths: &RealmPaths) -> Result<Option<StandInLimits>, RealmError> {
        let wrong =
            |why: &str| unusable(&paths.database_configuration(), &format!("[stand_in]: {why}"));
        match &self.stand_in {
            Some(_) if !self.partition.is_empty() => {
                Err(wrong("a realm in several partitions has no stand-in; take it out"))
            }
            stand_in => {
                let limits = stand_in.as_ref().map(StandingIn::limits).transpose();
                limits.map_err(|why| wrong(&why))
            }
        }
    }
}

impl Named {
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

/// The platform's own login to PostgreSQL, if the realm is kept there: of each partition, the home first.
fn platform(paths: &RealmPaths) -> Result<Option<Vec<PostgresOptions>>, RealmError> {
    let Some(configured) = Configured::read(paths)? else { return Ok(None) };
    let databases = configured.databases();
    let options =
        databases.iter().map(|named| named.options(paths, named.password_file.as_deref()));
    options.collect::<Result<_, _>>().map(Some)
}

/// The way to one partition, as the file says it now.
pub(super) fn partition(paths: &RealmPaths, number: usize) -> Result<PostgresOptions, RealmError> {
    let options = platform(paths)?.unwrap_or_default().into_iter().nth(number);
    options.ok_or_else(|| {
        let file = paths.database_configuration();
        unusable(&file, &format!("there is no partition {number} in it"))
    })
}

/// A realm's database, and its partitions, if it has some.
pub(crate) struct Opened {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) partitions: Option<Arc<Partitions>>,
    pub(crate) alone: Option<Alone>,
}

/// A database of several nodes that may be away, and what this node may decide then.
pub(crate) struct Alone {
    pub(crate) database: SharedDatabase,
    pub(crate) limits: Option<StandInLimits>,
}

impl Opened {
    fn embedded(storage: SqliteStorage) -> Self {
        Self { storage: Arc::new(storage), partitions: None, alone: None }
    }

    /// A database of several nodes, for which this one may stand in.
    pub(super) fn replaceable<D: Storage + 'static>(
        database: &Arc<D>,
        limits: Option<StandInLimits>,
    ) -> Self
    where
        Arc<D>: Into<SharedDatabase>,
    {
        let storage = Arc::<D>::clone(database);
        let alone = Some(Alone { database: Arc::clone(database).into(), limits });
        Self { storage, partitions: None, alone }
    }

    fn server(
        paths: &RealmPaths,
        realm: RealmId,
        databases: Vec<PostgresOptions>,
    ) -> Result<Self, RealmError> {
        let count = databases.len();
        let home = databases.into_iter().next();
        let home = home.ok_or_else(|| unusable(&paths.database_configuration(), "no address"))?;
        if count < 2 {
            let database = Arc::new(PostgresStorage::open(&home, realm)?);
            let limits = stand_in_limits(paths)?;
            return Ok(Self::replaceable(&database, limits));
        }
        let home = Arc::new(partitions::open_home(home, realm, count)?);
        let partitions = Partitions::new(Arc::clone(&home), paths, realm, count);
        let of_all = Arc::clone(&partitions);
        let open = Arc::new(move |number| of_all.open(number));
        let storage = Arc::new(PartitionedStorage::new(home, count, open));
        Ok(Self { storage, partitions: Some(partitions), alone: None })
    }
}

/// Before keys are made for a new realm: whether the PostgreSQL database that is named can be reached, and is nobody's.
///
/// # Errors
/// It cannot; it is a realm's. Of a realm that is kept in a file nothing is asked.
pub fn demand_free(home: &Path) -> Result<(), RealmError> {
    let paths = RealmPaths::new(home);
    for options in platform(&paths)?.unwrap_or_default() {
        match DatabaseReader::server(&options) {
            Err(StorageError::Empty(_)) => {}
            Err(error) => return Err(error.into()),
            Ok(database) => {
                return Err(RealmError::TakenDatabase {
                    path: paths.database_configuration(),
                    realm: database.realm(),
                });
            }
        }
    }
    Ok(())
}

/// The database of a new realm. One in PostgreSQL was made by its owner before.
pub(super) fn create(paths: &RealmPaths, realm: RealmId) -> Result<Opened, RealmError> {
    Ok(match platform(paths)? {
        Some(databases) => Opened::server(paths, realm, databases)?,
        None => {
            let (file, options) = (paths.embedded_database()?, SqliteOptions::default());
            Opened::embedded(SqliteStorage::create(&file, realm, &options)?)
        }
    })
}

/// The database of a realm that has one. What a simulation does to transactions it does to those of the embedded one.
pub(crate) fn open(
    paths: &RealmPaths,
    realm: RealmId,
    faults: &SharedFaults,
) -> Result<Opened, RealmError> {
    Ok(match platform(paths)? {
        Some(databases) => Opened::server(paths, realm, databases)?,
        None => {
            let options = SqliteOptions::default();
            let (file, faults) = (paths.embedded_database()?, Arc::clone(faults));
            Opened::embedded(SqliteStorage::open_with_faults(&file, realm, &options, faults)?)
        }
    })
}

/// What this node may decide alone while its database is away.
///
/// # Errors
/// `database.toml` makes no sense.
pub fn stand_in_limits(paths: &RealmPaths) -> Result<Option<StandInLimits>, RealmError> {
    let limits = Configured::read(paths)?.map(|named| named.stand_in(paths)).transpose()?;
    Ok(limits.flatten())
}

/// The same, for whoever notes something beside the platforms that run, and takes no payments.
pub(crate) fn open_beside(
    paths: &RealmPaths,
    realm: RealmId,
) -> Result<Arc<dyn Storage>, RealmError> {
    Ok(match platform(paths)? {
        Some(databases) => Opened::server(paths, realm, databases)?.storage,
        None => {
            let (file, options) = (paths.embedded_database()?, SqliteOptions::default());
            Arc::new(SqliteStorage::open_beside(&file, realm, &options)?)
        }
    })
}

/// A realm's partitions, if it has some, for whoever looks at them beside the platforms that run.
pub(super) fn partitions_beside(
    paths: &RealmPaths,
    realm: RealmId,
) -> Result<Option<Arc<Partitions>>, RealmError> {
    let Some(databases) = platform(paths)? else { return Ok(None) };
    Ok(Opened::server(paths, realm, databases)?.partitions)
}

/// The realm's database, or its home, to be read beside the platforms that run.
///
/// # Errors
/// It cannot be reached or read, or is not of this program.
pub fn reader(paths: &RealmPaths) -> Result<DatabaseReader, RealmError> {
    Ok(match platform(paths)? {
        Some(_) => DatabaseReader::server(&partition(paths, 0)?)?,
        None => DatabaseReader::file(&paths.embedded_database()?)?,
    })
}

/// Each database of the realm, the home first, opened when its turn comes, to be read beside the platforms that run. One that says of
/// itself that it is another than `database.toml` says is refused.
///
/// # Errors
/// `database.toml` makes no sense, or names a file that cannot be read.
pub fn readers(
    paths: &RealmPaths,
) -> Result<impl ExactSizeIterator<Item = Result<DatabaseReader, RealmError>> + use<>, RealmError> {
    let databases = match platform(paths)? {
        Some(databases) => databases.into_iter().map(Some).collect(),
        None => vec![None],
    };
    let (paths, count) = (paths.clone(), databases.len());
    Ok(databases.into_iter().enumerate().map(move |(number, options)| match options {
        Some(options) => partition_reader(&options, &paths, number, count),
        None => Ok(DatabaseReader::file(&paths.embedded_database()?)?),
    }))
}

fn partition_reader(
    options: &PostgresOptions,
    paths: &RealmPaths,
    number: usize,
    count: usize,
) -> Result<DatabaseReader, RealmError> {
    let database = DatabaseReader::server(options)?;
    let part = postgres::partition_of(options)?.map(|found| found.part);
    let found = part.map(|part| (usize::from(part.number), usize::from(part.partitions)));
    let unusable = |why: String| {
        let named = format!("database {number} of the {count} that it names");
        Err(unusable(&paths.database_configuration(), &format!("{named} {why}")))
    };
    if found != (count > 1).then_some((number, count)) {
        let told = part.map_or("a realm's only one".to_owned(), |part| part.to_string());
        return unusable(format!("says of itself that it is {told}"));
    }
    match described(paths) {
        Some((_, realm)) if realm != database.realm() => {
            unusable(format!("is the database of {}", database.realm()))
        }
        _ => Ok(database),
    }
}

/// Looks at the PostgreSQL databases of a realm as its start does; none of a realm that is kept in a file.
///
/// # Errors
/// What the start would say.
pub fn look_at_servers(paths: &RealmPaths) -> Result<Vec<postgres::Look>, RealmError> {
    let Some(databases) = platform(paths)? else { return Ok(Vec::new()) };
    let realm = match described(paths) {
        Some((_, realm)) => realm,
        None => realm_of_keys(paths)?,
    };
    databases.iter().map(|options| Ok(postgres::look(options, realm)?)).collect()
}

/// The login that a database of `database.toml` belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Its name.
    pub name: &'a str,
    /// Holds its password.
    pub password_file: Option<&'a Path>,
    /// Which partition; 0 is the home, or the only database.
    pub partition: usize,
}

impl Owner<'_> {
    /// The way in, and how many databases there are.
    fn options(&self, paths: &RealmPaths) -> Result<(PostgresOptions, usize), RealmError> {
        let configuration = paths.database_configuration();
        let configured = Configured::read(paths)?.ok_or_else(|| {
            unusable(&configuration, "there is no such file: the realm is kept in tapfer.db")
        })?;
        let databases = configured.databases();
        let named = databases.get(self.partition).ok_or_else(|| {
            unusable(&configuration, &format!("there is no partition {} in it", self.partition))
        })?;
        Ok((named.options(paths, self.password_file)?.as_user(self.name), databases.len()))
    }

    /// Where the home is moved everybody would have to be told by somebody else.
    fn moving(self) -> Result<Self, RealmError> {
        let why = "the home is not moved like a partition: let a standby of it take over";
        let is_home = self.partition == 0;
        if is_home { Err(StorageError::Moved(why.to_owned()).into()) } else { Ok(self) }
    }

    fn part(&self, count: usize, place: u32) -> Result<Part, RealmError> {
        let too_many = |_| StorageError::Moved("there are 256 partitions at most".to_owned());
        let number = u8::try_from(self.partition).map_err(too_many)?;
        Ok(Part { number, partitions: u16::try_from(count).unwrap_or(u16::MAX), place })
    }
}

/// Makes the schema of a PostgreSQL database that `database.toml` names, or brings it forward while platforms go on with it:
/// from which version to which. Of several it becomes the partition that it is to be.
///
/// # Errors
/// There is no `database.toml`; the database is of another realm, or that of a realm which had one is empty now; it is another
/// partition, or holds cards and is none.
pub fn migrate(home: &Path, owner: Owner<'_>) -> Result<(i64, i64), RealmError> {
    let paths = RealmPaths::new(home);
    let (options, count) = owner.options(&paths)?;
    let versions = match described(&paths) {
        // A realm's database must not begin anew as if nothing had ever been paid. Another partition is begun behind the home.
        Some((_, realm)) if owner.partition == 0 => postgres::migrate(&options, realm)?,
        Some((_, realm)) => postgres::make(&options, realm)?,
        None => postgres::make(&options, realm_of_keys(&paths)?)?,
    };
    if count > 1 {
        let place = postgres::partition_of(&options)?.map_or(1, |found| found.part.place);
        postgres::make_partition(&options, owner.part(count, place)?)?;
    }
    Ok(versions)
}

/// Has a partition take no more changes where it is, because it is moved: see [`postgres::close_partition`].
///
/// # Errors
/// There is no such partition, or it cannot be reached.
pub fn close_partition(home: &Path, owner: Owner<'_>) -> Result<(), RealmError> {
    let (options, _) = owner.moving()?.options(&RealmPaths::new(home))?;
    Ok(postgres::close_partition(&options)?)
}

/// Opens a partition at its next place, to which `database.toml` leads now: see [`postgres::open_partition`]. The newest map has to
/// say that it is at the one before: a place that it has left long ago is as closed as a copy of it.
///
/// # Errors
/// It is no closed copy of the partition as the map has it, or cannot be reached, nor can the home.
pub fn open_partition(home: &Path, owner: Owner<'_>) -> Result<Part, RealmError> {
    let paths = RealmPaths::new(home);
    let (options, count) = owner.moving()?.options(&paths)?;
    let found = postgres::partition_of(&options)?;
    if let (Some(found), Some(partitions)) = (found, Partitions::beside(&paths)?) {
        partitions.demand_its_place(&found)?;
    }
    let place = found.map_or(0, |found| found.part.place);
    let part = owner.part(count, place.saturating_add(1))?;
    postgres::open_partition(&options, part)?;
    Ok(part)
}

/// Whose keys lie there, of a realm that has not been started yet.
fn realm_of_keys(paths: &RealmPaths) -> Result<RealmId, RealmError> {
    let file = paths.catalogue();
    let bytes = read(&file)?;
    let catalogue = UnverifiedCatalogue::parse(&bytes);
    let (_, realm) = catalogue.map_err(|error| unusable(&file, &error.to_string()))?.realm();
    Ok(realm)
}
