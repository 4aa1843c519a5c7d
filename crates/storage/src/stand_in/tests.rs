//! Journals read back as they were written; what is torn is left out, and what is damaged is named.
#![allow(clippy::arithmetic_side_effects)]

use std::fs;
use std::sync::{Arc, Mutex};

use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use tapfer_payment_types::{Secret, Timestamp};
use tapfer_payments::access::Role;
use tapfer_payments::audit::{AuditAction, Caller};

use super::booking::read_journal;
use super::journal::{Found, Journal};
use super::record::{Changed, Promise, Record};
use super::{Kept, stand_in_reads_back, unbooked_in_journal};
use crate::AnswerKey;
use crate::faults::{Fault, Faults, Moment, NoFaults};
use crate::journal::JournalFault;
use crate::journal::tests::{answer, decided, intent, time};

fn changed() -> impl Strategy<Value = Record> {
    let action = prop::sample::select(vec![
        AuditAction::IntentCreated,
        AuditAction::IntentArmed,
        AuditAction::IntentCanceled,
    ]);
    let caller = prop::sample::select(Role::ALL).prop_map(|role| Caller {
        api_key: None,
        role,
        origin: "local".to_owned(),
        request_id: "one".to_owned(),
    });
    (action, intent(), caller, time(), option::of(answer())).prop_map(
        |(action, intent, caller, at, answer)| {
            Record::Changed(Box::new(Changed { action, intent, caller, at, answer }))
        },
    )
}

fn promised() -> impl Strategy<Value = Record> {
    (decided(), any::<(u16, i64)>())
        .prop_map(|(decided, of_key)| Record::Decided(Box::new(Promise { decided, of_key })))
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![changed(), promised()]
}

fn key(secret: u8) -> AnswerKey {
    AnswerKey::new(&Secret::new([secret; 32]))
}

type Lots = Vec<Vec<Record>>;

/// A journal of these lots, and where each entry ends.
fn written(lots: &Lots) -> (tempfile::TempDir, std::path::PathBuf, Vec<usize>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stand-in.journal");
    let (mut journal, found) = Journal::open(&path, key(1)).unwrap();
    assert!(found.records.is_empty() && found.fault.is_none());
    let ends = lots.iter().map(|lot| {
        journal.append(lot).unwrap();
        fs::read(&path).unwrap().len()
    });
    let ends = ends.collect();
    (directory, path, ends)
}

fn lots() -> impl Strategy<Value = Lots> {
    prop::collection::vec(prop::collection::vec(record(), 1..3), 2..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_written_is_read_back_and_goes_on(lots in lots(), more in record()) {
        let (_directory, path, _) = written(&lots);
        let (mut journal, found) = Journal::open(&path, key(1)).unwrap();
        prop_assert_eq!(&found.records, &lots.concat());
        prop_assert_eq!((found.torn, &found.fault), (0, &None));
        prop_assert_eq!(unbooked_in_journal(&path).unwrap().records, found.records.len());
        journal.append(std::slice::from_ref(&more)).unwrap();
        let (mut journal, found) = Journal::open(&path, key(1)).unwrap();
        prop_assert_eq!(found.records.last(), Some(&more));
        journal.clear().unwrap();
        prop_assert!(!path.exists());
        prop_assert_eq!(unbooked_in_journal(&path).unwrap().records, 0);
    }

    /// Wherever the last entry is torn, those before it stand, and the next one takes its place.
    #[test]
    fn a_torn_entry_is_left_out(lots in lots(), at in any::<prop::sample::Index>(), zeros in any::<bool>(), more in record()) {
        let (_directory, path, ends) = written(&lots);
        let whole = fs::read(&path).unwrap();
        let before = ends[ends.len() - 2];
        let cut = before + at.index(whole.len() - before);
        let mut torn = whole[..cut].to_vec();
        // A file may be longer already than what is on the disk of it.
        if zeros && cut + 16 <= whole.len() {
            torn.resize(whole.len(), 0);
        }
        fs::write(&path, &torn).unwrap();
        let (mut journal, found) = Journal::open(&path, key(1)).unwrap();
        prop_assert_eq!(&found.records, &lots[..lots.len() - 1].concat());
        prop_assert_eq!((found.torn, &found.fault), (torn.len() - before, &None));
        journal.append(std::slice::from_ref(&more)).unwrap();
        let (_, found) = Journal::open(&path, key(1)).unwrap();
        prop_assert_eq!(found.records.last(), Some(&more));
        prop_assert_eq!((found.torn, &found.fault), (0, &None));
    }

    #[test]
    fn whatever_bit_is_altered_nothing_behind_it_is_believed(lots in lots(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let (_directory, path, ends) = written(&lots);
        let mut bytes = fs::read(&path).unwrap();
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        let (_, found) = Journal::open(&path, key(1)).unwrap();
        let entry = ends.iter().filter(|end| **end <= place).count();
        let is_magic = place < 5;
        let before = if is_magic { Vec::new() } else { lots[..entry].concat() };
        prop_assert_eq!(&found.records, &before);
        let number = if is_magic { 0 } else { u64::try_from(entry + 1).unwrap() };
        prop_assert_eq!(found.fault, Some(JournalFault::Altered(number)));
    }

    #[test]
    fn any_bytes_are_a_journal_or_not(
        bytes in any::<Vec<u8>>(), whole in record(), at in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        prop_assert_ne!(stand_in_reads_back(&bytes), Some(false));
        let (_directory, path, _) = written(&vec![vec![whole]]);
        let bytes = fs::read(&path).unwrap();
        let mut records = bytes[45..].to_vec();
        prop_assert_eq!(stand_in_reads_back(&records), Some(true));
        let place = at.index(records.len());
        records[place] ^= 1 << bit;
        prop_assert_ne!(stand_in_reads_back(&records), Some(false));
        for cut in [0, 3, 5, 9, 44, bytes.len() - 1] {
            let _read = super::journal::records_of_anybody(&bytes[..cut]);
        }
    }
}

/// Whoever can write the file, and does not have the platform's keys, has nothing booked.
#[test]
fn attack_forged_journal() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let one = promised().new_tree(&mut runner).unwrap().current();
    let (_directory, path, _) = written(&vec![vec![one.clone()]]);
    let (_, found) = Journal::open(&path, key(2)).unwrap();
    assert_eq!(found.records, []);
    assert_eq!(found.fault, Some(JournalFault::Altered(1)));
    let (_, found) = Journal::open(&path, key(1)).unwrap();
    assert_eq!(found.records, [one]);
}

/// Promises are not dropped for a file that has lost them.
#[test]
fn a_journal_that_was_read_again_replaces_nothing_that_is_known() {
    let found = |records: &[Record]| {
        let mut found = Found::default();
        found.records = records.to_vec();
        found
    };
    let mut runner = proptest::test_runner::TestRunner::default();
    let lots = (prop::collection::vec(record(), 1..4), prop::collection::vec(record(), 0..2));
    runner
        .run(&lots, |(known, more)| {
            let directory = tempfile::tempdir().unwrap();
            let read = |found| {
                let path = directory.path().join("stand-in.journal");
                let (journal, _) = Journal::open(&path, key(1)).unwrap();
                let mut kept =
                    Kept::new(Timestamp::from_unix_millis(0), (None, None), known.clone());
                kept.break_off("on purpose".to_owned());
                kept.read_again((Some(journal), found, None));
                kept
            };
            let with_more = [known.clone(), more.clone()].concat();
            let whole = read(found(&with_more));
            prop_assert_eq!(&whole.records, &with_more);
            prop_assert!(whole.fault.is_none() && whole.journal.is_some());
            for short in [&known[1..], &[]] {
                let lost = read(found(short));
                prop_assert_eq!(&lost.records, &known);
                prop_assert!(lost.fault.is_some() && lost.journal.is_none());
            }
            Ok(())
        })
        .unwrap();
}

fn one(strategy: impl Strategy<Value = Record>) -> Record {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    strategy.new_tree(&mut runner).unwrap().current()
}

/// A file may be as long as it was to be behind a loss of power, and its last sectors nothing but zeros: an entry that ends there is
/// torn, however little of it stands in them. Fewer zeros were not left by a disk, and somebody has to look.
#[test]
fn an_entry_whose_last_sectors_were_not_written_is_torn() {
    let Record::Changed(first) = one(changed()) else { panic!("a change is a change") };
    let last = one(promised());
    let mut straddled = false;
    for length in 0..512 {
        // Each time the last entry lies one byte further behind.
        let mut first = first.clone();
        first.caller.request_id = "x".repeat(length);
        let first = Record::Changed(first);
        let (_directory, path, ends) = written(&vec![vec![first.clone()], vec![last.clone()]]);
        let whole = fs::read(&path).unwrap();
        let before = ends[0];
        let sectors = (before + 1..whole.len()).filter(|place| place % 512 == 0);
        let every = (before + 1..whole.len()).filter(|_| length % 32 == 0);
        for lost in sectors.chain(every) {
            straddled |= lost < before + 8;
            let mut bytes = whole.clone();
            bytes[lost..].fill(0);
            let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
            let is_torn = zeros >= 16 || zeros > (bytes.len() - 1) % 512;
            assert!(is_torn || lost % 512 != 0);
            fs::write(&path, &bytes).unwrap();
            let (_, found) = Journal::open(&path, key(1)).unwrap();
            assert_eq!(found.records, std::slice::from_ref(&first), "{lost} of {}", whole.len());
            let expected = match is_torn {
                true => (bytes.len() - before, None),
                false => (0, Some(JournalFault::Altered(2))),
            };
            assert_eq!((found.torn, found.fault), expected, "{lost} of {}", whole.len());
        }
    }
    assert!(straddled, "a sector has ended in the length of an entry");
}

/// Attack: somebody cuts the journal in its last entry, of which a till was told. What is left of it does not go with the file, however
/// often he does it.
#[test]
fn attack_journal_cut_in_its_last_entry() {
    let one = one(record());
    let (directory, path, ends) = written(&vec![vec![one.clone()], vec![one.clone()]]);
    let whole = fs::read(&path).unwrap();
    let kept = |number| directory.path().join(format!("stand-in.journal.torn-{number}"));
    for number in 0..10 {
        let at = if number == 0 { ends[0] + 3 } else { ends[1] - number };
        fs::write(&path, &whole[..at]).unwrap();
        // A node that is started again with it keeps no other copy.
        for _ in 0..2 {
            let (_, found, fault) = read_journal(&path, &key(1), Arc::new(NoFaults));
            assert_eq!((found.torn, fault), (at - ends[0], None));
            assert!(kept(number).exists() && !kept(number + 1).exists());
        }
        // The next entry takes its place, or all is booked and the file goes.
        let (journal, _, _) = read_journal(&path, &key(1), Arc::new(NoFaults));
        journal.unwrap().append(std::slice::from_ref(&one)).unwrap();
        assert_eq!(fs::read(kept(number)).unwrap(), &whole[..at]);
    }
    // None of them goes for another: that stays where it is, and the node does not go on with it.
    let more = &whole[..ends[1] - 10];
    fs::write(&path, more).unwrap();
    let (journal, found, fault) = read_journal(&path, &key(1), Arc::new(NoFaults));
    assert!(journal.is_none() && fault.is_some());
    assert_eq!(found.records, [one]);
    assert_eq!(fs::read(&path).unwrap(), more);
    assert_eq!(fs::read(kept(0)).unwrap(), &whole[..ends[0] + 3]);
    // Somebody has looked at one, and moved it away.
    fs::remove_file(kept(4)).unwrap();
    let (journal, _, fault) = read_journal(&path, &key(1), Arc::new(NoFaults));
    assert!(journal.is_some() && fault.is_none());
    assert_eq!(fs::read(kept(4)).unwrap(), more);
}

/// What was done to the disk, in its order.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<Moment>>);

impl Faults for Seen {
    fn at(&self, moment: Moment) -> Option<Fault> {
        self.0.lock().unwrap().push(moment);
        None
    }
}

impl Seen {
    fn take(&self) -> Vec<Moment> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// The copy of a torn journal is on the disk, and its name with it, before the end is cut off; also that of a start that came to an
/// end before it was.
#[test]
fn what_is_kept_of_a_torn_journal_is_on_the_disk_before_it_is_cut() {
    use Moment::{FileSynced, FolderSynced, NoteBegins, NoteKept, NoteWritten, TornCopied};
    let one = one(record());
    let (directory, path, ends) = written(&vec![vec![one.clone()], vec![one.clone()]]);
    let torn = &fs::read(&path).unwrap()[..ends[1] - 1];
    fs::write(&path, torn).unwrap();
    for _ in 0..2 {
        let seen = Arc::new(Seen::default());
        let (journal, ..) = read_journal(&path, &key(1), seen.clone());
        assert_eq!(seen.take(), [TornCopied, FileSynced, FolderSynced]);
        assert_eq!(fs::read(directory.path().join("stand-in.journal.torn-0")).unwrap(), torn);
        assert_eq!(fs::read(&path).unwrap(), torn);
        // Cut with the first entry that takes its place.
        journal.unwrap().append(std::slice::from_ref(&one)).unwrap();
        let noted = [NoteBegins, NoteWritten, FileSynced, FolderSynced, NoteKept];
        assert_eq!(seen.take(), noted);
        fs::write(&path, torn).unwrap();
    }
}

/// A file is said to be on the disk when the system says so: it does not say it of a pipe.
#[test]
fn nothing_is_said_to_be_synced_that_cannot_be() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&directory.path().join("stand-in.journal"), key(1)).unwrap();
    let seen = Arc::new(Seen::default());
    let journal = journal.with_faults(seen.clone());
    let (_reads, writes) = std::io::pipe().unwrap();
    let pipe = fs::File::from(std::os::fd::OwnedFd::from(writes));
    assert!(journal.sync(&pipe).is_err());
    assert_eq!(seen.take(), []);
}
