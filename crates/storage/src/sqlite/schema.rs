//! What stands in a database besides its rows: what the migrations make, no more and no less.
//!
//! A trigger, view or index that somebody left in it works on when he is gone: it puts back what was revoked, and travels
//! through backups. No row tells of it. So what is there is compared with what belongs there, before anything else is
//! read, and an older schema before it is brought to the newest.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::{Result, migrations};
use crate::StorageError;

/// Made by the library that runs the migrations, which may word it otherwise from one version to the next.
const HISTORY: &str = "refinery_schema_history";
/// So many differences are named.
const NAMED: usize = 8;

/// Kind and name: `trigger`, `api_keys_stay_revoked`.
type Name = (String, String);
/// Table it belongs to, and the statement that made it.
type Made = (String, String);

/// Refuses a database that has anything else in it than the migrations up to its version make.
///
/// # Errors
/// [`StorageError::ChangedSchema`] names what; [`StorageError::NewerDatabase`].
pub(super) fn check(connection: &Connection, path: &Path) -> Result<()> {
    let found = objects(connection)?;
    // Asked for its version only where that is a table: a view need not come to an end.
    let history = found.keys().find(|(_, name)| name == HISTORY);
    let version = match history {
        Some((kind, _)) if kind != "table" => migrations::newest()?,
        _ => migrations::check_version(connection)?,
    };
    let expected = objects(&migrations::of_version(version)?)?;
    let differences = differences(&found, &expected);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(StorageError::ChangedSchema { path: path.display().to_string(), differences }),
    }
}

/// What indices SQLite makes for itself follows from the tables, and has no statement.
fn objects(connection: &Connection) -> Result<BTreeMap<Name, Made>> {
    let all = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL";
    let mut statement = connection.prepare(all)?;
    let rows = statement
        .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))))?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

fn differences(found: &BTreeMap<Name, Made>, expected: &BTreeMap<Name, Made>) -> Vec<String> {
    let is_history = |(kind, name): &Name| kind == "table" && name == HISTORY;
    let foreign = found.iter().filter(|(name, made)| expected.get(name) != Some(made));
    let foreign = foreign.filter(|(name, _)| !is_history(name)).map(|(name, (table, _))| {
        let (kind, called) = name;
        match expected.contains_key(name) {
            true => format!("the {kind} {called:?} is another than it should be"),
            false => format!("the {kind} {called:?} on {table:?} does not belong there"),
        }
    });
    let missing = expected.keys().filter(|name| !found.contains_key(name) && !is_history(name));
    let missing = missing.map(|(kind, name)| format!("the {kind} {name:?} is missing"));
    foreign.chain(missing).take(NAMED).collect()
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tapfer_payment_types::{RealmId, Timestamp};

    use super::super::{SqliteOptions, SqliteStorage, migrations};
    use crate::StorageError;

    /// What a version before has made is brought to the newest, unless something else stands in it, which might take part.
    #[test]
    fn what_an_older_version_made_is_no_difference() {
        let realm = RealmId::new(Timestamp::from_unix_millis(1), [1; 10]);
        for version in 0..=migrations::newest().unwrap() {
            for foreign in ["", "CREATE VIEW his AS SELECT 1"] {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("tapfer.db");
                let mut older = Connection::open(&path).unwrap();
                migrations::claim(&mut older, &path, realm).unwrap();
                migrations::bring_to(&mut older, version).unwrap();
                older.execute_batch(foreign).unwrap();
                drop(older);
                match SqliteStorage::open(&path, realm, &SqliteOptions::default()) {
                    Ok(_) => assert_eq!(foreign, "", "version {version}"),
                    Err(StorageError::ChangedSchema { differences, .. }) => {
                        assert!(!foreign.is_empty(), "version {version}: {differences:?}");
                    }
                    Err(error) => panic!("version {version}: {error}"),
                }
            }
        }
    }
}
