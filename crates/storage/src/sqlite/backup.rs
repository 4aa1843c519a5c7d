//! A copy of a realm's database while the platform goes on writing it.

use std::fs::File;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use tapfer_payment_types::RealmId;

use super::{
    Result, SqliteOptions, connect, create_private, migrations, open_reader, wal_file,
    without_links,
};
use crate::StorageError;

/// Copies one moment of the database into a file that does not exist yet, checks the copy, and returns
/// when it is on the disk; tells the version of its schema. Whoever writes meanwhile does not wait (SQLite's
/// online backup, in one step).
///
/// # Errors
/// [`StorageError::OtherRealm`], [`StorageError::MissingDatabase`], [`StorageError::DamagedLog`]; [`StorageError::Damaged`] if what was
/// copied does not hold together; the file cannot be made, or the database is busy.
pub fn back_up(database: &Path, realm: RealmId, copy: &Path) -> Result<u32> {
    if std::fs::metadata(database).map_or(true, |found| found.len() == 0) {
        return Err(StorageError::MissingDatabase(database.display().to_string()));
    }
    let options = SqliteOptions::default();
    let path = &without_links(database);
    // Of a log that is damaged or gone SQLite takes what is left, and the copy would look sound.
    wal_file::demand_sound(path)?;
    let opened = || {
        let source = open_reader(path, &options)?;
        migrations::check_owner(&source, database, realm)?;
        Ok(source)
    };
    let source = opened().map_err(|error: StorageError| error.of_file(database))?;
    create_private(copy);
    let path = without_links(copy);
    let mut target = connect(&path, &options, OpenFlags::SQLITE_OPEN_CREATE)?;
    // One step holds one snapshot: several would begin again with every change in between.
    match Backup::new(&source, &mut target)?.step(-1)? {
        StepResult::Done => {}
        _ => return Err(StorageError::Busy),
    }
    // The copy is read by whoever restores it, perhaps from a medium that cannot be written.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    hold_together(&target, copy)?;
    let version = migrations::version(&target)?;
    drop(target);
    let synced = File::open(&path).and_then(|file| file.sync_all());
    synced.map_err(|error| StorageError::Damaged(copy.display().to_string(), error.to_string()))?;
    Ok(u32::try_from(version).unwrap_or(0))
}

/// Reads the whole database of a realm and says whether it holds together, and is one that this program
/// can open. Changes nothing.
///
/// # Errors
/// As [`back_up`].
pub fn check(database: &Path, realm: RealmId) -> Result<()> {
    let path = &without_links(database);
    wal_file::demand_sound(path)?;
    let connection = open_reader(path, &SqliteOptions::default())?;
    let open = migrations::check_owner(&connection, database, realm)
        .and_then(|()| hold_together(&connection, database));
    // What SQLite cannot even read is damaged, whatever it calls it.
    open.map_err(|error| match error {
        StorageError::Database(error) => {
            StorageError::Damaged(database.display().to_string(), error.to_string())
        }
        other => other,
    })
}

/// What SQLite itself knows to be wrong with pages, indices and references between tables.
fn hold_together(connection: &Connection, path: &Path) -> Result<()> {
    let damaged = |what| StorageError::Damaged(path.display().to_string(), what);
    let said: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if said != "ok" {
        return Err(damaged(said));
    }
    let mut loose = connection.prepare("PRAGMA foreign_key_check")?;
    match loose.query([])?.next()? {
        None => Ok(()),
        Some(row) => {
            Err(damaged(format!("a row of {} refers to nothing", row.get::<_, String>(0)?)))
        }
    }
}
