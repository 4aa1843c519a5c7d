//! What a machine finds on its disk when it starts again.
//!
//! All that is known of the store here is that its files lie in the realm's directory, that one of them is a database
//! and one its write-ahead log, and that nothing is promised of what was written behind the last sync: each sector of
//! it may be there or not, and the last one in part.

use std::fs;
use std::io;
use std::path::Path;

use crate::chance::Chance;

/// The unit in which a disk writes.
const SECTOR: usize = 512;
/// The head of a write-ahead log, which SQLite syncs before it writes behind it (`sqlite3WalFrames`).
const HEAD: usize = 32;
pub(crate) const DATABASE: &str = "tapfer.db";
const LOG: &str = "tapfer.db-wal";
/// What a node notes that is alone. It is only added to, or taken away.
const NOTES: &str = "stand-in.journal";
/// Shared memory of the processes that have the database open: nothing of it outlives the machine.
const SHARED_MEMORY: &str = "tapfer.db-shm";

/// What had reached the disk of the last transaction, which nobody was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// All of it.
    Whole,
    /// Its first bytes, so many of a thousand and never all.
    Cut(u16),
    /// Some of its sectors, by this seed, and never all.
    Sectors(u64),
}

/// The log as it was when it was synced last, and the database beside it: what is folded into the database was synced
/// before. And what a node that is alone has noted.
#[derive(Debug, Default)]
pub(crate) struct SyncedLog {
    log: Vec<u8>,
    database: Vec<u8>,
    notes: Vec<u8>,
}

impl SyncedLog {
    /// # Errors
    /// It cannot be read.
    pub(crate) fn of(home: &Path) -> io::Result<Self> {
        let read = |name| read_or_nothing(&home.join(name));
        Ok(Self { log: read(LOG)?, database: read(DATABASE)?, notes: read(NOTES)? })
    }
}

/// Copies a machine's files as it finds them after it lost its power at this moment. Whether something is missing of what
/// was written since the last sync; without one, everything was synced.
///
/// # Errors
/// They cannot be read or written.
pub(crate) fn after_power_loss(
    home: &Path,
    next: &Path,
    synced: Option<&SyncedLog>,
    tail: Tail,
) -> io::Result<bool> {
    copy(home, next)?;
    let Some(synced) = synced.filter(|_| tail != Tail::Whole) else { return Ok(false) };
    let noted = read_or_nothing(&home.join(NOTES))?;
    if noted != synced.notes {
        let left = left_of_notes(&synced.notes, &noted, tail);
        return fs::write(next.join(NOTES), left).map(|()| true);
    }
    // SQLite syncs the log before it folds it into the database.
    if read_or_nothing(&home.join(DATABASE))? != synced.database {
        return Ok(false);
    }
    let written = read_or_nothing(&home.join(LOG))?;
    match torn(&synced.log, &written, tail) {
        Some(torn) => fs::write(next.join(LOG), torn).map(|()| true),
        None => Ok(false),
    }
}

/// Copies a machine's files.
///
/// # Errors
/// They cannot be read or written.
pub(crate) fn copy(home: &Path, next: &Path) -> io::Result<()> {
    fs::create_dir(next)?;
    #[cfg(unix)]
    fs::set_permissions(next, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &next.join(entry.file_name()))?;
        } else if entry.file_name() != SHARED_MEMORY {
            fs::copy(entry.path(), next.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Notes with a part of what was added behind their last sync; those that were taken away are there again. Where their length
/// reached the disk before they did, zeros stand in the place of sectors.
fn left_of_notes(synced: &[u8], written: &[u8], tail: Tail) -> Vec<u8> {
    let added = written.len().saturating_sub(synced.len());
    if added == 0 {
        return synced.to_vec();
    }
    match tail {
        Tail::Whole => written.to_vec(),
        Tail::Cut(of_thousand) => {
            let kept = added.saturating_mul(usize::from(of_thousand.min(999))).div_euclid(1_000);
            written.iter().take(synced.len().saturating_add(kept)).copied().collect()
        }
        Tail::Sectors(seed) => {
            let first = synced.len().div_euclid(SECTOR);
            let last = written.len().saturating_sub(1).div_euclid(SECTOR);
            let among = last.saturating_sub(first).saturating_add(1);
            let missing = first.saturating_add(Chance::new(seed, 0).index(among));
            let from = missing.saturating_mul(SECTOR).max(synced.len());
            let byte = |(place, byte): (usize, &u8)| if place < from { *byte } else { 0 };
            written.iter().enumerate().map(byte).collect()
        }
    }
}

/// The log with a part of what was written behind its last sync; nothing if nothing was written.
fn torn(synced: &[u8], written: &[u8], tail: Tail) -> Option<Vec<u8>> {
    let differs = |place: &usize| synced.get(*place) != written.get(*place);
    let places: Vec<usize> = (0..written.len()).filter(differs).collect();
    let last = *places.last()?;
    let old = |place: usize| synced.get(place).copied();
    match tail {
        Tail::Whole => None,
        Tail::Cut(of_thousand) => {
            let length = places.len().saturating_mul(usize::from(of_thousand.min(999)));
            let end = *places.get(length.checked_div(1_000)?).unwrap_or(&last);
            let kept = written.iter().take(end).copied();
            Some(kept.chain(synced.iter().skip(end).copied()).collect())
        }
        Tail::Sectors(seed) => {
            let mut chance = Chance::new(seed, 0);
            let mut is_new = Vec::new();
            is_new.resize_with(written.len().div_ceil(SECTOR), || chance.percent(50));
            // The first behind the head stays old, so that it is never the whole transaction.
            let first = *places.iter().find(|place| **place >= HEAD)?;
            *is_new.get_mut(first.checked_div(SECTOR)?)? = false;
            let sector_is_new =
                |place: usize| place.checked_div(SECTOR).and_then(|at| is_new.get(at).copied());
            let byte = |(place, byte): (usize, &u8)| match sector_is_new(place) {
                _ if place < HEAD => *byte,
                Some(true) => *byte,
                // What was never written reads as zeros.
                _ => old(place).unwrap_or(0),
            };
            Some(written.iter().enumerate().map(byte).collect())
        }
    }
}

fn read_or_nothing(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::{SECTOR, Tail, left_of_notes, torn};

    #[test]
    fn what_was_synced_stays_and_what_was_not_is_never_whole() {
        let synced = vec![1_u8; 3 * SECTOR];
        // A log that was begun anew from its head, and goes on behind its old end.
        let written: Vec<u8> = [vec![2; 2 * SECTOR], vec![1; SECTOR], vec![2; 700]].concat();
        for tail in (0..1_000).map(Tail::Cut).chain((0..200).map(Tail::Sectors)) {
            let torn = torn(&synced, &written, tail).unwrap();
            assert_ne!(torn, written, "{tail:?}");
            let is_of_either = |(place, byte): (usize, &u8)| {
                [written.get(place), synced.get(place).or(Some(&0))].contains(&Some(byte))
            };
            assert!(torn.iter().enumerate().all(is_of_either), "{tail:?}");
        }
        assert_eq!(torn(&synced, &synced, Tail::Cut(500)), None, "nothing was written");
    }

    #[test]
    fn notes_lose_their_end_and_never_what_was_synced() {
        let synced = vec![1_u8; 700];
        let written: Vec<u8> = [synced.clone(), vec![2; 1_500]].concat();
        for tail in (0..1_000).map(Tail::Cut).chain((0..50).map(Tail::Sectors)) {
            let left = left_of_notes(&synced, &written, tail);
            assert!(left.starts_with(&synced) && left != written, "{tail:?}");
        }
        assert_eq!(left_of_notes(&synced, &[], Tail::Cut(500)), synced, "taken away");
    }
}
