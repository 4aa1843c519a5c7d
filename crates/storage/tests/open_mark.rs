//! The log of a database that was not closed: missing, empty, another one; and a process that dies between any two steps of opening
//! and closing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tapfer_payments::intents::CaptureMethod;
use tapfer_storage::faults::{Fault, Faults, Moment};
use tapfer_storage::sqlite::{self, SqliteOptions, SqliteStorage, WalFault};
use tapfer_storage::{DatabaseReader, Storage as _, StorageError, TokenStore as _};
use tempfile::TempDir;
use world::World;

const FILES: [&str; 3] = ["tapfer.db", "tapfer.db-wal", "tapfer.db-open"];

fn open(path: &Path) -> Result<SqliteStorage, StorageError> {
    SqliteStorage::open(path, world::realm(), &SqliteOptions::default())
}

/// A realm's database, and what a process that died has left of it.
struct Left {
    directory: TempDir,
}

impl Left {
    /// These files of a directory.
    fn of(home: &Path, files: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in files {
            let _not_there = fs::copy(home.join(name), directory.path().join(name));
        }
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("tapfer.db")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn fault(&self) -> WalFault {
        match open(&self.path()).map(drop).unwrap_err() {
            StorageError::DamagedLog { fault, .. } => fault,
            other => panic!("{other}"),
        }
    }
}

fn paid(directory: &TempDir) -> World {
    let path = directory.path().join("tapfer.db");
    let options = SqliteOptions::default();
    let store = SqliteStorage::create(&path, world::realm(), &options).unwrap();
    let world = World::new(Arc::new(store));
    for counter in 1..=3 {
        world.pay_new(counter, 100, CaptureMethod::Automatic);
    }
    world
}

#[test]
fn attack_log_taken_away_behind_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let world = paid(&directory);
    let whole = Left::of(directory.path(), &FILES);
    open(&whole.path()).expect("as the process left it").close();
    assert!(!whole.file("tapfer.db-open").exists(), "closed in good order");
    open(&whole.path()).expect("once more").close();

    let missing = Left::of(directory.path(), &["tapfer.db", "tapfer.db-open"]);
    assert_eq!(missing.fault(), WalFault::Missing);
    let copy = missing.file("copy.db");
    for refused in [
        sqlite::back_up(&missing.path(), world::realm(), &copy).map(drop),
        sqlite::check(&missing.path(), world::realm()),
        DatabaseReader::file(&missing.path()).and_then(|reader| reader.demand_whole_log()),
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, StorageError::DamagedLog { .. }), "{refused}");
    }

    let empty = Left::of(directory.path(), &FILES);
    fs::write(empty.file("tapfer.db-wal"), []).unwrap();
    assert_eq!(empty.fault(), WalFault::Empty);
    let faults = DatabaseReader::file(&empty.path()).unwrap().check().faults;
    let named = |fault: &&tapfer_storage::Unsound| fault.to_do.contains("tapfer db cut-log");
    assert_eq!(faults.iter().filter(named).count(), 1, "{faults:?}");

    // Who wants to can go on without it.
    for left in [missing, empty] {
        let cut = sqlite::cut_log(&left.path()).unwrap().expect("something to go on without");
        assert_eq!(cut.kept_as, None);
        assert_eq!(sqlite::cut_log(&left.path()).unwrap(), None);
        open(&left.path()).unwrap().close();
    }
    world.store.close();
}

/// A disk writes sectors whole, and loses them whole: the header, and the begin of what goes on from it.
#[test]
fn attack_first_sector_of_the_log_destroyed() {
    let directory = tempfile::tempdir().unwrap();
    let world = paid(&directory);
    let contents: [fn(usize) -> u8; 3] =
        [|_| 0, |_| 0xff, |number| u8::try_from(number.wrapping_mul(167) % 251).unwrap()];
    for sector in [512, 4_096] {
        for content in contents {
            let left = Left::of(directory.path(), &FILES);
            let mut log = fs::read(left.file("tapfer.db-wal")).unwrap();
            for (number, byte) in log[..sector].iter_mut().enumerate() {
                *byte = content(number);
            }
            fs::write(left.file("tapfer.db-wal"), &log).unwrap();
            assert_eq!(left.fault(), WalFault::Header);
            let faults = DatabaseReader::file(&left.path()).unwrap().check().faults;
            assert!(!faults.is_empty(), "`db check` says it as well");
            assert_eq!(fs::read(left.file("tapfer.db-wal")).unwrap(), log, "nothing was lost more");
            let cut = sqlite::cut_log(&left.path()).unwrap().unwrap();
            assert_eq!(fs::read(cut.kept_as.unwrap()).unwrap(), log);
            open(&left.path()).unwrap().close();
        }
    }
    world.store.close();
}

/// Each life of a process has a log with salts of its own; one in 256 happens to look like what a log became.
#[test]
fn attack_log_of_another_life() {
    let directory = tempfile::tempdir().unwrap();
    let world = paid(&directory);
    let is_told = |_: &u32| {
        let another = tempfile::tempdir().unwrap();
        let other_world = paid(&another);
        let left = Left::of(directory.path(), &FILES);
        fs::copy(another.path().join("tapfer.db-wal"), left.file("tapfer.db-wal")).unwrap();
        other_world.store.close();
        let told = matches!(
            open(&left.path()),
            Err(StorageError::DamagedLog { fault: WalFault::Other, .. })
        );
        if told {
            let cut = sqlite::cut_log(&left.path()).unwrap().unwrap();
            assert!(cut.kept_as.unwrap().exists());
            open(&left.path()).unwrap().close();
        }
        told
    };
    assert!((0..8).filter(is_told).count() >= 6);
    world.store.close();
}

/// What lies in a directory at each step.
#[derive(Debug, Default)]
struct Steps {
    home: PathBuf,
    seen: Mutex<Vec<(Moment, TempDir)>>,
}

impl Faults for Steps {
    fn at(&self, moment: Moment) -> Option<Fault> {
        let is_wanted =
            matches!(moment, Moment::LogBegun | Moment::Marked | Moment::Folded | Moment::Unmarked);
        if is_wanted {
            let left = Left::of(&self.home, &FILES);
            self.seen.lock().unwrap().push((moment, left.directory));
        }
        None
    }
}

#[test]
fn a_process_may_die_between_any_two_steps() {
    let directory = tempfile::tempdir().unwrap();
    paid(&directory).store.close();
    let path = directory.path().join("tapfer.db");
    for from_a_crash in [false, true] {
        if from_a_crash {
            // The mark and the log of a life before.
            let store = open(&path).unwrap();
            let left = Left::of(directory.path(), &FILES);
            store.close();
            for name in FILES {
                fs::copy(left.file(name), directory.path().join(name)).unwrap();
            }
        }
        let steps = Arc::new(Steps { home: directory.path().to_owned(), ..Steps::default() });
        let options = SqliteOptions::default();
        let faults: Arc<Steps> = Arc::clone(&steps);
        let store = SqliteStorage::open_with_faults(&path, world::realm(), &options, faults);
        let world = World::reopened(Arc::new(store.unwrap()), 1_000 + u64::from(from_a_crash));
        let counter = 4 + u16::from(from_a_crash);
        world.pay_new(counter, 100, CaptureMethod::Automatic);
        world.store.close();
        let seen = std::mem::take(&mut *steps.seen.lock().unwrap());
        let moments: Vec<_> = seen.iter().map(|(moment, _)| *moment).collect();
        let all = [Moment::LogBegun, Moment::Marked, Moment::Folded, Moment::Unmarked];
        assert_eq!(moments, all);
        for (moment, left) in seen {
            let without = Left::of(left.path(), &["tapfer.db", "tapfer.db-open"]);
            let left = Left { directory: left };
            let store =
                open(&left.path()).unwrap_or_else(|refused| panic!("{moment:?}: {refused}"));
            let highest = store.highest_counter(world.token).unwrap();
            let is_behind = matches!(moment, Moment::Folded | Moment::Unmarked);
            assert_eq!(highest, Some(counter - u16::from(!is_behind)), "{moment:?}");
            store.close();
            // A log that went away meanwhile is told wherever there is a mark.
            let marked = without.file("tapfer.db-open").exists();
            assert_eq!(open(&without.path()).is_err(), marked, "{moment:?}");
        }
    }
}

/// Who notes something beside the platform, and goes, takes neither its mark nor its log away.
#[test]
fn who_is_beside_the_platform_leaves_its_mark() {
    let directory = tempfile::tempdir().unwrap();
    let world = paid(&directory);
    let path = directory.path().join("tapfer.db");
    let beside = || SqliteStorage::open_beside(&path, world::realm(), &SqliteOptions::default());
    beside().unwrap().close();
    let [_, log, mark] = FILES.map(|name| directory.path().join(name));
    assert!(log.exists() && mark.exists());
    let left = Left::of(directory.path(), &FILES);
    world.store.close();
    assert!(!log.exists() && !mark.exists());
    // Nor behind a crash, when it is alone.
    let alone = SqliteStorage::open_beside(&left.path(), world::realm(), &SqliteOptions::default());
    alone.unwrap().close();
    assert!(left.file("tapfer.db-wal").exists() && left.file("tapfer.db-open").exists());
    open(&left.path()).unwrap().close();
    // While no platform runs it closes as anybody does.
    beside().unwrap().close();
    assert!(!log.exists() && !mark.exists());
}
