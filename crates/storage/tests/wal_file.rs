//! The log of a database, cut and damaged at any place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proptest::prelude::*;
use rusqlite::Connection;
use tapfer_storage::sqlite::{WalEnd, WalFault, examine_log};
use tempfile::TempDir;

/// A database whose commits are all in its log, and where each ends.
struct Logged {
    database: Vec<u8>,
    log: Vec<u8>,
    /// Length of the log behind each commit.
    ends: Vec<usize>,
    frame: usize,
}

const COMMITS: usize = 12;

/// Commits of one frame and of many, over pages of this size. Behind a log that was begun anew, if it is to be, lie frames of the
/// one before.
fn logged(page: usize, begun_anew: bool) -> Logged {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "page_size", i64::try_from(page).unwrap()).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    connection.execute_batch("CREATE TABLE t (commit_number INTEGER, filling BLOB)").unwrap();
    let fill = |number: usize, bytes: usize| {
        let sql = "INSERT INTO t VALUES (?1, randomblob(?2))";
        let values = [number, bytes].map(|value| i64::try_from(value).unwrap());
        connection.execute(sql, values).unwrap();
    };
    if begun_anew {
        (0..20).for_each(|_| fill(0, 9 * page));
        let checkpoint = "PRAGMA wal_checkpoint(RESTART)";
        connection.query_row(checkpoint, [], |_| Ok(())).unwrap();
    }
    let log = directory.path().join("a.db-wal");
    let mut ends = Vec::new();
    for number in 1..=COMMITS {
        fill(number, [10, 3 * page, 7 * page][(number + 1) % 3]);
        let end = examine_log(fs::read(&log).unwrap().as_slice()).unwrap().unwrap();
        ends.push(usize::try_from(end.end).unwrap());
    }
    let (database, log) = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    Logged { database, log, ends, frame: page + 24 }
}

/// Two logs, made once.
fn logs() -> &'static [Logged] {
    static MADE: OnceLock<Vec<Logged>> = OnceLock::new();
    MADE.get_or_init(|| vec![logged(4_096, false), logged(512, true)])
}

fn put(logged: &Logged, log: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    fs::write(&path, &logged.database).unwrap();
    fs::write(directory.path().join("a.db-wal"), log).unwrap();
    (directory, path)
}

/// The last commit that SQLite finds there.
fn last_commit(path: &Path) -> usize {
    let connection = Connection::open(path).unwrap();
    let last = "SELECT coalesce(max(commit_number), 0) FROM t";
    let found: i64 = connection.query_row(last, [], |row| row.get(0)).unwrap_or(0);
    usize::try_from(found).unwrap()
}

#[test]
fn a_whole_log_is_whole() {
    for logged in logs() {
        let end = examine_log(logged.log.as_slice()).unwrap().unwrap();
        let (last, frame) = (*logged.ends.last().unwrap(), logged.frame);
        let frames = u64::try_from((last - 32) / frame).unwrap();
        let end_at = u64::try_from(last).unwrap();
        assert_eq!(end, WalEnd { frames, end: end_at, ..WalEnd::default() });
        let (_directory, path) = put(logged, &logged.log);
        assert_eq!(last_commit(&path), COMMITS);
    }
    assert!(
        logs()[1].log.len() > *logs()[1].ends.last().unwrap(),
        "frames of the log before lie behind it"
    );
}

#[test]
fn no_log_and_half_a_header_are_nothing() {
    assert_eq!(examine_log([].as_slice()).unwrap(), Ok(WalEnd::default()));
    let half = examine_log(&logs()[0].log[..17]).unwrap().unwrap();
    assert_eq!((half.frames, half.dropped_bytes), (0, 17));
}

#[test]
fn a_header_is_damaged_if_what_stands_behind_it_went_on_from_it() {
    for logged in logs() {
        for place in 0..32 {
            let mut log = logged.log.clone();
            log[place] ^= 0x40;
            assert_eq!(examine_log(log.as_slice()).unwrap(), Err(WalFault::Header), "byte {place}");
        }
    }
}

/// A header that was written half when the log was begun anew: what stands behind it is in the database.
#[test]
fn a_header_torn_when_the_log_was_begun_anew_loses_nothing() {
    let old = &logs()[0].log;
    let mut new = old[..32].to_vec();
    let count = u32::from_be_bytes(new[12..16].try_into().unwrap()) + 1;
    new[12..16].copy_from_slice(&count.to_be_bytes());
    new[16..32].fill(0x5a);
    for written in 16..32 {
        let log = [&new[..written], &old[written..]].concat();
        assert_eq!(examine_log(log.as_slice()).unwrap(), Ok(WalEnd::default()), "{written} bytes");
    }
}

/// The sectors of a transaction reach the disk in any order: its last frame may be there, and one before it not.
#[test]
fn a_last_transaction_of_which_a_part_is_missing_is_torn() {
    let logged = &logs()[0];
    let [.., before, last] = logged.ends.as_slice() else { panic!("commits") };
    let log = &logged.log[..*last];
    for at in (*before..*last).step_by(512) {
        let mut torn = log.to_vec();
        torn[at..(at + 512).min(*last)].fill(0);
        if torn == log {
            continue;
        }
        let end = examine_log(torn.as_slice()).unwrap().expect("nobody was told of it");
        assert_eq!(end.end, u64::try_from(*before).unwrap());
        let (_directory, path) = put(logged, &torn);
        assert_eq!(last_commit(&path), COMMITS - 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Cut at any byte: every commit in front of the cut is there, and the rest is named.
    #[test]
    fn a_log_cut_anywhere_keeps_what_was_acknowledged(which in 0_usize..2, place in any::<prop::sample::Index>()) {
        let logged = &logs()[which];
        let last = *logged.ends.last().unwrap();
        let cut = 32 + place.index(last - 32);
        let log = &logged.log[..cut];
        let end = examine_log(log).unwrap().expect("torn, not damaged");
        let kept = logged.ends.iter().filter(|end| **end <= cut).count();
        let kept_until = if kept == 0 { None } else { logged.ends.get(kept - 1).copied() };
        let reached = usize::try_from(end.end).unwrap();
        if let Some(kept_until) = kept_until {
            prop_assert_eq!(reached, kept_until);
        }
        prop_assert_eq!(usize::try_from(end.dropped_bytes).unwrap(), cut - reached);
        let (_directory, path) = put(logged, log);
        prop_assert_eq!(last_commit(&path), kept);
    }

    /// A byte that was turned in front of a later commit: refused, whatever it was. SQLite would leave out that commit, and all
    /// behind it.
    #[test]
    fn a_log_damaged_in_front_of_a_later_commit_is_refused(
        which in 0_usize..2, place in any::<prop::sample::Index>(), turned in 1_u8..,
    ) {
        let logged = &logs()[which];
        let [.., before, _] = logged.ends.as_slice() else { panic!("commits") };
        let at = 32 + place.index(*before - 32);
        let (frame, in_frame) = ((at - 32) / logged.frame, (at - 32) % logged.frame);
        let mut log = logged.log.clone();
        log[at] ^= turned;
        // A frame that says no longer that a transaction ends with it looks like one that was never written whole.
        let begin = 32 + frame * logged.frame;
        prop_assume!(!(4..8).contains(&in_frame) || log[begin + 4..begin + 8] != [0; 4] || logged.log[begin + 4..begin + 8] == [0; 4]);
        let found = examine_log(log.as_slice()).unwrap();
        let number = u64::try_from(frame + 1).unwrap();
        let offset = u64::try_from(begin).unwrap();
        match found {
            Err(WalFault::Frame { frame, offset: place, .. }) => {
                prop_assert_eq!((frame, place), (number, offset));
            }
            other => prop_assert!(false, "byte {} of frame {}: {:?}", in_frame, number, other),
        }
    }

    /// Any bytes are read, and no more is kept than there is.
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        if let Ok(end) = examine_log(bytes.as_slice()).unwrap() {
            prop_assert!(end.dropped_bytes <= u64::try_from(bytes.len()).unwrap());
        }
    }
}
