//! A database as a platform would find it that starts on it.

use std::sync::Arc;

use tapfer_payment_types::RealmId;

use super::locks::{self, LockHolder};
use super::options::PostgresOptions;
use super::session::{SNAPSHOT, Session};
use super::slots::{self, Slot};
use super::{durability, migrations, rights};
use crate::relational::Result;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Which database, on which hosts.
    pub place: String,
    /// Version of the schema.
    pub schema: i64,
    /// Whether anybody who may connect may hold up payments by advisory locks.
    pub locks_are_open: bool,
    /// Sessions of other logins that hold some at this moment.
    pub lock_holders: Vec<LockHolder>,
    /// Logins that may make temporary tables.
    pub makers_of_temporary_tables: Vec<String>,
    /// Logins of people that may take all connections.
    pub logins_without_limit: Vec<String>,
    /// Whether anybody who may connect may fill the disk with large objects.
    pub large_objects_are_open: bool,
    /// Replication slots that are no partition's, or that nobody reads.
    pub strange_slots: Vec<Slot>,
}

/// Looks at a database with the platform's login, as its start does.
///
/// # Errors
/// Those of [`super::PostgresStorage::open`].
pub fn look(options: &PostgresOptions, realm: RealmId) -> Result<Look> {
    let session = Session::open(options, &Arc::default())?;
    session.begin(SNAPSHOT)?;
    migrations::check(&session, options, realm)?;
    rights::check(&session)?;
    durability::check(&session)?;
    let look = Look {
        place: options.place(),
        schema: migrations::version(&session)?,
        locks_are_open: locks::are_open(&session)?,
        lock_holders: locks::holders(&session)?,
        makers_of_temporary_tables: rights::makers_of_temporary_tables(&session)?,
        logins_without_limit: rights::logins_without_limit(&session)?,
        large_objects_are_open: rights::large_objects_are_open(&session)?,
        strange_slots: slots::strange(&session)?,
    };
    session.end()?;
    Ok(look)
}
