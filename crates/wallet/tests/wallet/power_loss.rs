//! The power goes at every byte of every write, and the disk loses whatever it may lose then.
//!
//! A tap is played once on a disk that takes down every call. For each moment in that list the disk's
//! possible contents after a loss of power are worked out: names that were not flushed are there or not,
//! each by itself, and content that was not flushed is whole, cut, empty, or zeros. Each of them has to
//! open, as a wallet that is not behind what has left the phone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::rc::Rc;

use core::num::NonZeroU32;

use tapfer_wallet::store::{
    ClosedStore, DeviceSecret, Directory, FileMedium, SealedStore, StoreHeader, StoreMedium,
    StoreShare,
};
use tapfer_wallet::{Card, Effect, Wallet};

use crate::issuer::{Issuer, now};
use crate::kernel::{Kernel, Purchase};
use crate::phone::{IN_HAND, counter};
use crate::random::TestRng;

/// What happened, in order.
#[derive(Clone)]
enum Event {
    Create(String, usize),
    Write(usize, Vec<u8>),
    Sync(usize),
    Rename(String, String),
    Remove(String),
    SyncDirectory,
    /// A snapshot of this generation was reported durable.
    Kept(u64),
    /// A reply with this counter, or before there is one the counter of the wallet, left the phone.
    Replied(u16),
}

/// A disk that is never lost, and takes down what is done to it.
#[derive(Clone, Default)]
struct Disk(Rc<RefCell<Tape>>);

#[derive(Default)]
struct Tape {
    events: Vec<Event>,
    files: BTreeMap<usize, Vec<u8>>,
    names: BTreeMap<String, usize>,
}

impl Disk {
    /// A disk that the power has come back to.
    fn holding(file: Option<&[u8]>) -> Self {
        let disk = Self::default();
        if let Some(bytes) = file {
            let mut tape = disk.0.borrow_mut();
            tape.files.insert(0, bytes.to_vec());
            tape.names.insert(FileMedium::<Self>::NAME.to_owned(), 0);
            drop(tape);
        }
        disk
    }

    fn note(&self, event: Event) {
        self.0.borrow_mut().events.push(event);
    }
}

impl Directory for Disk {
    type Error = Infallible;
    type File = usize;

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Infallible> {
        let tape = self.0.borrow();
        Ok(tape.names.get(name).map(|file| tape.files[file].clone()))
    }

    fn remove(&self, name: &str) -> Result<(), Infallible> {
        let removed = self.0.borrow_mut().names.remove(name);
        if removed.is_some() {
            self.note(Event::Remove(name.to_owned()));
        }
        Ok(())
    }

    fn create(&self, name: &str) -> Result<usize, Infallible> {
        let mut tape = self.0.borrow_mut();
        let file = tape.files.len();
        tape.files.insert(file, Vec::new());
        assert!(tape.names.insert(name.to_owned(), file).is_none(), "written through");
        tape.events.push(Event::Create(name.to_owned(), file));
        Ok(file)
    }

    fn write(&self, file: &mut usize, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.borrow_mut().files.get_mut(file).unwrap().extend(bytes);
        self.note(Event::Write(*file, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self, file: &mut usize) -> Result<(), Infallible> {
        self.note(Event::Sync(*file));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Infallible> {
        let mut tape = self.0.borrow_mut();
        let file = tape.names.remove(from).expect("renamed from nothing");
        tape.names.insert(to.to_owned(), file);
        tape.events.push(Event::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> Result<(), Infallible> {
        self.note(Event::SyncDirectory);
        Ok(())
    }
}

/// What the disk has for certain, and what it may lose.
#[derive(Clone)]
struct Platter {
    names: BTreeMap<String, usize>,
    files: BTreeMap<usize, Vec<u8>>,
    unsynced_files: BTreeSet<usize>,
    /// What was done to names since the last flush; what a rename moves is settled when it is done.
    unsynced_names: Vec<NameChange>,
    /// The names as programs see them.
    seen: BTreeMap<String, usize>,
}

#[derive(Clone)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Move(String, String, usize),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Unlink(name) => drop(names.remove(name)),
            Self::Move(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Platter {
    fn holding(file: Option<&[u8]>) -> Self {
        let name = FileMedium::<Disk>::NAME.to_owned();
        let names: BTreeMap<_, _> = file.iter().map(|_| (name.clone(), 0)).collect();
        Self {
            seen: names.clone(),
            names,
            files: file.iter().map(|bytes| (0, bytes.to_vec())).collect(),
            unsynced_files: BTreeSet::new(),
            unsynced_names: Vec::new(),
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.unsynced_names.push(change);
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::Create(name, file) => {
                self.files.insert(*file, Vec::new());
                self.unsynced_files.insert(*file);
                self.change(NameChange::Link(name.clone(), *file));
            }
            Event::Write(file, bytes) => {
                self.files.get_mut(file).unwrap().extend(bytes);
                self.unsynced_files.insert(*file);
            }
            Event::Sync(file) => drop(self.unsynced_files.remove(file)),
            Event::Rename(from, to) => {
                let file = self.seen[from];
                self.change(NameChange::Move(from.clone(), to.clone(), file));
            }
            Event::Remove(name) => self.change(NameChange::Unlink(name.clone())),
            Event::SyncDirectory => {
                self.names = self.seen.clone();
                self.unsynced_names.clear();
            }
            Event::Kept(_) | Event::Replied(_) => {}
        }
    }

    /// Every content that the wallet's file may have when the power comes back; `None`: no such file.
    fn survivors(&self) -> BTreeSet<Option<Vec<u8>>> {
        let mut found = BTreeSet::new();
        for kept in 0..1_usize << self.unsynced_names.len() {
            let mut names = self.names.clone();
            for (position, change) in self.unsynced_names.iter().enumerate() {
                if kept >> position & 1 == 1 {
                    change.apply(&mut names);
                }
            }
            let Some(file) = names.get(FileMedium::<Disk>::NAME) else {
                found.insert(None);
                continue;
            };
            let bytes = &self.files[file];
            found.insert(Some(bytes.clone()));
            if self.unsynced_files.contains(file) {
                found.insert(Some(Vec::new()));
                found.insert(Some(vec![0; bytes.len()]));
                found.extend((0..bytes.len()).map(|length| Some(bytes[..length].to_vec())));
            }
        }
        found
    }
}

fn device() -> DeviceSecret {
    DeviceSecret::new([0x33; 32])
}

fn share(epoch: u32) -> StoreShare {
    StoreShare::new(NonZeroU32::new(epoch).unwrap(), [0x44 ^ epoch.to_be_bytes()[3]; 32])
}

/// Opens what is on a disk, as the platform's answer allows: it gives the share that is asked for.
fn opened(disk: Disk) -> (SealedStore<FileMedium<Disk>>, Wallet) {
    let closed = ClosedStore::find(FileMedium::new(disk), device()).unwrap().expect("a store");
    let share = closed.report().map(|report| share(report.epoch));
    closed.open(share.as_ref()).expect("the store opens")
}

/// What must be true after a loss of power: the file opens, and nothing that left the phone is ahead
/// of it. Returns what it opened as.
fn check(file: Option<&[u8]>, events: &[Event], from: u64) -> (u32, u64) {
    let file = file.expect("the wallet is gone");
    let header = StoreHeader::read(file).unwrap();
    let (_, wallet) = opened(Disk::holding(Some(file)));
    for event in events {
        match event {
            Event::Kept(generation) => assert!(header.generation >= *generation, "lost a snapshot"),
            Event::Replied(seen) => assert!(counter(&wallet) >= *seen, "counter went back"),
            _ => {}
        }
    }
    assert_eq!(wallet.generation(), header.generation);
    assert!(header.generation >= from);
    (header.epoch, header.generation)
}

/// Plays the events up to every byte, and opens what may be left. What each moment may open as.
fn lose_power_everywhere(before: &[u8], events: &[Event]) -> BTreeSet<(u32, u64)> {
    let from = StoreHeader::read(before).unwrap().generation;
    let mut platter = Platter::holding(Some(before));
    let mut opened_as = BTreeSet::new();
    let mut known = BTreeMap::new();
    let mut moments = 0_usize;
    for (position, event) in events.iter().enumerate() {
        let cuts: Vec<Event> = match event {
            Event::Write(file, bytes) => {
                (0..bytes.len()).map(|cut| Event::Write(*file, bytes[..cut].to_vec())).collect()
            }
            _ => Vec::new(),
        };
        let left = &events[..position];
        for cut in cuts {
            let mut torn = platter.clone();
            torn.play(&cut);
            moments += 1;
            for file in torn.survivors() {
                let key = (file, position);
                let state = known
                    .entry(key)
                    .or_insert_with_key(|(file, _)| check(file.as_deref(), left, from));
                opened_as.insert(*state);
            }
        }
        platter.play(event);
        for file in platter.survivors() {
            opened_as.insert(check(file.as_deref(), &events[..=position], from));
        }
    }
    let bytes: usize = events
        .iter()
        .map(|event| if let Event::Write(_, bytes) = event { bytes.len() } else { 0 })
        .sum();
    assert_eq!(moments, bytes, "every byte of every write");
    opened_as
}

/// A phone with a card on it, in epoch 1, on a disk that takes everything down from now on.
fn enrolled(issuer: &Issuer) -> (Disk, Vec<u8>) {
    let disk = Disk::default();
    let mut rng = TestRng(5);
    let mut wallet = Wallet::new(&mut TestRng(1));
    let medium = FileMedium::new(disk.clone());
    let mut store = SealedStore::create(medium, device(), &mut wallet, &mut rng).unwrap();
    issuer.provision(&mut wallet, now());
    store.reseal(&share(1), &wallet.snapshot().unwrap(), &mut rng).unwrap();
    let before = disk.read(FileMedium::<Disk>::NAME).unwrap().unwrap();
    (Disk::holding(Some(&before)), before)
}

#[test]
fn a_tap_survives_the_loss_of_power_at_every_byte() {
    let issuer = Issuer::new();
    let (disk, before) = enrolled(&issuer);
    let (mut store, wallet) = opened(disk.clone());
    let mut card = Card::new(wallet);
    let mut rng = TestRng(6);
    let kernel = Kernel::new(&issuer, now(), 1);
    let paid = kernel.tap(&Purchase::euros(100), |command| {
        let mut reply = None;
        for effect in card.handle(command, now(), &mut rng, &IN_HAND) {
            match effect {
                Effect::Persist(snapshot) => {
                    store.keep(&snapshot, &mut TestRng(7)).unwrap();
                    disk.note(Event::Kept(snapshot.generation()));
                }
                Effect::Reply(response) => {
                    disk.note(Event::Replied(counter(card.wallet())));
                    reply = Some(response.encode());
                }
                Effect::Notify(_) => {}
            }
        }
        reply
    });
    assert_eq!(paid.unwrap().counter, 1);
    let events = disk.0.borrow().events.clone();
    let opened_as = lose_power_everywhere(&before, &events);
    let first = StoreHeader::read(&before).unwrap().generation;
    let expected: BTreeSet<_> = (first..=first + 2).map(|generation| (1, generation)).collect();
    assert_eq!(
        opened_as, expected,
        "before the tap, after the counter moved, after the key was used"
    );
}

/// The phone moves to the next epoch: at every byte it opens with the share of one or the other, and the
/// platform still has both, since it is told of the new one behind the last event only.
#[test]
fn a_move_to_the_next_epoch_survives_the_loss_of_power_at_every_byte() {
    let issuer = Issuer::new();
    let (disk, before) = enrolled(&issuer);
    let (mut store, mut wallet) = opened(disk.clone());
    let snapshot = wallet.snapshot().unwrap();
    store.reseal(&share(2), &snapshot, &mut TestRng(8)).unwrap();
    disk.note(Event::Kept(snapshot.generation()));
    let events = disk.0.borrow().events.clone();
    let opened_as = lose_power_everywhere(&before, &events);
    let old = StoreHeader::read(&before).unwrap().generation;
    assert_eq!(opened_as, BTreeSet::from([(1, old), (2, snapshot.generation())]));
    let report = store.report();
    assert_eq!((report.epoch, report.generation), (2, snapshot.generation()));
    let at_rest = platter_after(&before, &events).survivors();
    assert_eq!(at_rest.len(), 1, "when the platform is told, the old blob is gone for good");
}

fn platter_after(before: &[u8], events: &[Event]) -> Platter {
    let mut platter = Platter::holding(Some(before));
    events.iter().for_each(|event| platter.play(event));
    platter
}

/// The process is killed between renaming and flushing the directory, and the next one starts. What it
/// reads, and tells the platform, must not be lost any more when the power goes after that.
#[test]
fn what_was_loaded_is_never_lost_again() {
    let issuer = Issuer::new();
    let (disk, before) = enrolled(&issuer);
    let (mut store, mut wallet) = opened(disk.clone());
    store.keep(&wallet.snapshot().unwrap(), &mut TestRng(9)).unwrap();
    let killed = disk.0.borrow_mut().events.pop();
    assert!(matches!(killed, Some(Event::SyncDirectory)));
    let left = |disk: &Disk| platter_after(&before, &disk.0.borrow().events).survivors();
    assert_eq!(left(&disk).len(), 2, "old or new");
    let loaded = FileMedium::new(disk.clone()).load().unwrap().unwrap();
    assert_eq!(left(&disk), BTreeSet::from([Some(loaded)]));
}

/// What lies there from a write that was torn off does not stand in the way of the next one.
#[test]
fn a_torn_file_is_cleared_away() {
    let issuer = Issuer::new();
    let (disk, _) = enrolled(&issuer);
    let mut torn = disk.create("wallet.sealed.new").unwrap();
    disk.write(&mut torn, b"half a wal").unwrap();
    let (mut store, mut wallet) = opened(disk.clone());
    store.keep(&wallet.snapshot().unwrap(), &mut TestRng(9)).unwrap();
    assert_eq!(opened(disk.clone()).1.generation(), wallet.generation());
    assert_eq!(disk.read("wallet.sealed.new").unwrap(), None);
}

/// A medium that takes nothing any more.
#[derive(Clone, Default)]
struct Full(Rc<RefCell<Option<Vec<u8>>>>, Rc<RefCell<bool>>);

#[derive(Debug)]
struct NoSpace;

impl StoreMedium for Full {
    type Error = NoSpace;

    fn load(&self) -> Result<Option<Vec<u8>>, NoSpace> {
        Ok(self.0.borrow().clone())
    }

    fn replace(&self, sealed: &[u8]) -> Result<(), NoSpace> {
        if *self.1.borrow() {
            return Err(NoSpace);
        }
        *self.0.borrow_mut() = Some(sealed.to_vec());
        Ok(())
    }
}

/// The wallet in memory goes ahead of the disk. The platform must hear of the disk, or a restart would
/// look like an older copy; and the store stays in its epoch, or the next snapshot would not open.
#[test]
fn what_could_not_be_stored_is_not_reported() {
    let (medium, mut rng) = (Full::default(), TestRng(5));
    let mut wallet = Wallet::new(&mut TestRng(1));
    let mut store = SealedStore::create(medium.clone(), device(), &mut wallet, &mut rng).unwrap();
    let before = store.report();
    *medium.1.borrow_mut() = true;
    assert!(store.keep(&wallet.snapshot().unwrap(), &mut rng).is_err());
    assert!(store.reseal(&share(1), &wallet.snapshot().unwrap(), &mut rng).is_err());
    assert_eq!(store.report(), before);
    *medium.1.borrow_mut() = false;
    store.keep(&wallet.snapshot().unwrap(), &mut rng).unwrap();
    let again = ClosedStore::find(medium, device()).unwrap().unwrap();
    assert_eq!(again.report(), None, "still in epoch 0");
    assert_eq!(again.open(None).unwrap().1.generation(), wallet.generation());
}

/// Snapshots are stored in the order they were made, and epochs one after the other.
#[test]
fn nothing_goes_backwards() {
    let issuer = Issuer::new();
    let (disk, _) = enrolled(&issuer);
    let (mut store, mut wallet) = opened(disk);
    let mut rng = TestRng(9);
    let older = wallet.snapshot().unwrap();
    store.keep(&wallet.snapshot().unwrap(), &mut rng).unwrap();
    assert!(store.keep(&older, &mut rng).is_err());
    for epoch in [1, 3] {
        assert!(store.reseal(&share(epoch), &wallet.snapshot().unwrap(), &mut rng).is_err());
        assert_eq!(store.epoch(), 1);
    }
    store.reseal(&share(2), &wallet.snapshot().unwrap(), &mut rng).unwrap();
    assert_eq!(store.epoch(), 2);
}
