//! What stands in a database besides its rows: what the migrations make, no more and no less.
//!
//! A trigger, view or index that somebody left in it works on when he is gone: it puts back what was revoked, and travels
//! through backups. No row tells of it. So what is there is compared with what belongs there, before anything else is
//! read, and an older schema before it is brought to the newest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rusqlite::Connection;

use super::{Result, migrations};
use crate::StorageError;

/// Made by the library that runs the migrations, which may word it otherwise from one version to the next.
const HISTORY: &str = "refinery_schema_history";
/// Tables that SQLite makes for itself, of no row of ours, and how: ANALYZE, which an administrator may run. The very
/// statement, since a file may be written to past SQLite's rules of what may be called so.
const OF_SQLITE: [&str; 2] = [
    "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
];
/// So many differences are named.
const NAMED: usize = 8;

/// Kind and name: `trigger`, `api_keys_stay_revoked`.
type Name = (String, String);
/// Table it belongs to, and the statement that made it.
type Made = (String, String);
type Objects = BTreeMap<Name, Made>;

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
    let differences = differences(&found, &*expected(version)?);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(StorageError::ChangedSchema { path: path.display().to_string(), differences }),
    }
}

/// What belongs into a database of a version. That of the newest is worked out once in the life of a process, which may
/// open many.
fn expected(version: i64) -> Result<Arc<Objects>> {
    static NEWEST: OnceLock<Arc<Objects>> = OnceLock::new();
    let is_newest = version == migrations::newest()?;
    if let (true, Some(known)) = (is_newest, NEWEST.get()) {
        return Ok(Arc::clone(known));
    }
    let expected = Arc::new(objects(&migrations::of_version(version)?)?);
    if is_newest {
        // Another thread that was faster has found the same.
        let _known = NEWEST.set(Arc::clone(&expected));
    }
    Ok(expected)
}

/// What indices SQLite makes for itself follows from the tables, and has no statement.
fn objects(connection: &Connection) -> Result<Objects> {
    let all = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL";
    let mut statement = connection.prepare(all)?;
    let rows = statement
        .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))))?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

fn differences(found: &Objects, expected: &Objects) -> Vec<String> {
    let is_history = |(kind, name): &Name| kind == "table" && name == HISTORY;
    let foreign = found.iter().filter(|(name, made)| match expected.get(name) {
        Some(expected) => !is_same(made, expected),
        None => !OF_SQLITE.contains(&made.1.as_str()),
    });
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

/// Whether they are the same but for quotes around a table's own name: ALTER TABLE may write it with or without them,
/// from one version of SQLite to the next.
fn is_same((table, made): &Made, (expected_table, expected): &Made) -> bool {
    let quoted = format!("CREATE TABLE \"{table}\"");
    let bare = |made: &str| match made.strip_prefix(&quoted) {
        Some(columns) => format!("CREATE TABLE {table}{columns}"),
        None => made.to_owned(),
    };
    table == expected_table && bare(made) == bare(expected)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tapfer_payment_types::{RealmId, Timestamp};

    use super::super::{SqliteOptions, SqliteStorage, migrations};
    use super::is_same;
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

    /// Opens a new database behind what `hand` says in it: the differences that are found.
    fn found_behind(hand: &str) -> Vec<String> {
        let realm = RealmId::new(Timestamp::from_unix_millis(1), [1; 10]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tapfer.db");
        let mut made = Connection::open(&path).unwrap();
        migrations::claim(&mut made, &path, realm).unwrap();
        migrations::bring_to(&mut made, migrations::newest().unwrap()).unwrap();
        made.execute_batch(hand).unwrap();
        drop(made);
        match SqliteStorage::open(&path, realm, &SqliteOptions::default()) {
            Ok(_) => Vec::new(),
            Err(StorageError::ChangedSchema { differences, .. }) => differences,
            Err(error) => panic!("{hand}: {error}"),
        }
    }

    #[test]
    fn what_sqlite_makes_for_itself_belongs_there() {
        assert_eq!(found_behind("ANALYZE"), [""; 0]);
        // Only that: its names may be given by whoever writes past its rules.
        let his = "PRAGMA writable_schema = ON;
                   INSERT INTO sqlite_schema VALUES ('trigger', 'sqlite_stat1', 'api_keys', 0,
                   'CREATE TRIGGER sqlite_stat1 AFTER INSERT ON api_keys BEGIN SELECT 1; END')";
        let found = found_behind(his);
        assert!(found.iter().any(|one| one.contains("sqlite_stat1")), "{found:?}");
    }

    #[test]
    fn quotes_around_a_tables_own_name_are_no_difference() {
        let made = |statement: &str| ("cards".to_owned(), statement.to_owned());
        let expected = made("CREATE TABLE cards (state TEXT)");
        assert!(is_same(&made("CREATE TABLE \"cards\" (state TEXT)"), &expected));
        assert!(is_same(&expected, &made("CREATE TABLE \"cards\" (state TEXT)")));
        // Words in quotes may be a text rather than a name.
        assert!(!is_same(&made("CREATE TABLE cards (\"state\" TEXT)"), &expected));
        assert!(!is_same(&made("CREATE TABLE \"card\" (state TEXT)"), &expected));
    }
}
