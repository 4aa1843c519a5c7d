//! The journal of a node that stands in: a file of its own, in which everything stands that it has answered alone, before it is
//! answered.
//!
//! ```text
//! "TPSJ" version | entry | entry | ...        entry: length 4 | its complement 4 | tag 32 | records
//! ```
//!
//! Each tag is an HMAC, by a secret of the security module, over the one before, the number of the entry and its records: nothing is
//! booked that this platform has not written. The last entry may be torn: nobody was told of it, unless somebody has cut it. What is
//! damaged anywhere else was whole once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tapfer_payment_types::planted::{Control, is_skipped};

use super::record::Record;
use crate::AnswerKey;
use crate::faults::{Moment, NoFaults, SharedFaults};
use crate::journal::JournalFault;
use crate::journal::bytes::{NoRecord, Put, Take};

const MAGIC: &[u8; 5] = b"TPSJ\x01";
/// Length, complement, tag.
const HEAD: usize = 40;
/// So many torn files are kept.
const MOST_TORN: u8 = 10;
/// What ends in so many zeros was never written: no record ends in one.
const UNWRITTEN: usize = 16;
/// Disks write so many bytes at once, or none of them: a last sector that is nothing but zeros was not written either, however little
/// of the file is in it.
const SECTOR: usize = 512;

/// What a journal holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What was done, in order.
    pub(super) records: Vec<Record>,
    /// Where it ends.
    end: End,
    /// Bytes behind that, of an entry that was not written to its end, or was cut.
    pub(super) torn: usize,
    /// Why nothing behind the end can be believed.
    pub(super) fault: Option<JournalFault>,
}

#[derive(Debug, Default, Clone, Copy)]
struct End {
    entry: u64,
    tag: [u8; 32],
    /// In bytes of the file.
    length: usize,
}

/// Reads a journal to its end, or to where it is damaged.
pub(super) fn read(bytes: &[u8], tag_of: impl Fn(&[u8; 32], u64, &[u8]) -> [u8; 32]) -> Found {
    let mut found = Found::default();
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        match MAGIC.starts_with(bytes) || is_unwritten(bytes) {
            true => found.torn = bytes.len(),
            false => found.fault = Some(JournalFault::Altered(0)),
        }
        return found;
    };
    found.end.length = MAGIC.len();
    while !rest.is_empty() {
        let entry = found.end.entry.saturating_add(1);
        match next(rest) {
            Next::Torn => {
                found.torn = rest.len();
                return found;
            }
            // What is not written of a head is followed by nothing that is.
            Next::Damaged { behind } => {
                found.ends_in(rest, entry, is_unwritten(behind) && has_lost_its_end(bytes));
                return found;
            }
            Next::Entry { tag, records, behind } => {
                if tag_of(&found.end.tag, entry, records) != *tag {
                    found.ends_in(rest, entry, behind.is_empty() && has_lost_its_end(bytes));
                    return found;
                }
                match all(records) {
                    Ok(read) => found.records.extend(read),
                    Err(NoRecord(what)) => {
                        found.fault = Some(JournalFault::Unreadable { entry, what });
                        return found;
                    }
                }
                let length = bytes.len().saturating_sub(behind.len());
                found.end = End { entry, tag: *tag, length };
                rest = behind;
            }
        }
    }
    found
}

impl Found {
    /// What is left of the file is an entry that was not written to its end, or one that was whole once.
    fn ends_in(&mut self, rest: &[u8], entry: u64, is_torn: bool) {
        match is_torn {
            true => self.torn = rest.len(),
            false => self.fault = Some(JournalFault::Altered(entry)),
        }
    }
}

fn is_unwritten(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether the end of a file was never written, though the file is as long as if it was.
fn has_lost_its_end(file: &[u8]) -> bool {
    let last_sector = file.chunks(SECTOR).last().unwrap_or_default();
    let unwritten = file.iter().rev().take_while(|byte| **byte == 0).count();
    unwritten >= last_sector.len().min(UNWRITTEN)
}

/// What stands at the front.
enum Next<'a> {
    Entry { tag: &'a [u8; 32], records: &'a [u8], behind: &'a [u8] },
    Torn,
    Damaged { behind: &'a [u8] },
}

fn next(rest: &[u8]) -> Next<'_> {
    if is_unwritten(rest) {
        return Next::Torn;
    }
    let Some((length, behind)) = rest.split_first_chunk::<4>() else { return Next::Torn };
    let Some((complement, behind)) = behind.split_first_chunk::<4>() else { return Next::Torn };
    let length = u32::from_be_bytes(*length);
    if length != !u32::from_be_bytes(*complement) {
        return Next::Damaged { behind };
    }
    let Some((tag, behind)) = behind.split_first_chunk::<32>() else { return Next::Torn };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let Some((records, behind)) = behind.split_at_checked(length) else { return Next::Torn };
    Next::Entry { tag, records, behind }
}

fn all(records: &[u8]) -> Result<Vec<Record>, NoRecord> {
    let (mut from, mut read) = (Take(records), Vec::new());
    while !from.0.is_empty() {
        read.push(Record::take(&mut from)?);
    }
    Ok(read)
}

fn put_all(records: &[Record]) -> Vec<u8> {
    let mut to = Put::default();
    records.iter().for_each(|record| record.put(&mut to));
    to.0
}

/// Reads any bytes as the records of an entry: whether they are, and that written again they are the same bytes.
pub(super) fn reads_back(records: &[u8]) -> Option<bool> {
    Some(put_all(&all(records).ok()?) == records)
}

/// Reads any bytes as a journal whose tags nobody checks.
pub(super) fn records_of_anybody(bytes: &[u8]) -> Vec<Record> {
    let mut tags = Vec::new();
    let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
    while let Next::Entry { tag, behind, .. } = next(rest) {
        tags.push(*tag);
        rest = behind;
    }
    let found = read(bytes, |_, entry, _| {
        let place = usize::try_from(entry).unwrap_or(usize::MAX).saturating_sub(1);
        tags.get(place).copied().unwrap_or_default()
    });
    found.records
}

/// The file, which is there as long as something in it is not booked.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    key: AnswerKey,
    faults: SharedFaults,
    file: Option<File>,
    end: End,
}

impl Journal {
    /// Opens the journal of this name, or none if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn open(path: &Path, key: AnswerKey) -> io::Result<(Self, Found)> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let found = read(&bytes, |before, entry, records| tag_of(&key, before, entry, records));
        let end = found.end;
        let faults = Arc::new(NoFaults);
        Ok((Self { path: path.to_owned(), key, faults, file: None, end }, found))
    }

    /// Keeps the file as it is under another name, before what is torn is cut off: somebody may have been told of it all the same. The
    /// copy is on the disk when this returns. There is one of the same file, however often a node starts with it.
    ///
    /// # Errors
    /// It cannot be copied, or there are as many copies as are kept: they are evidence, and none of them goes for another.
    pub(super) fn keep_torn(&self) -> io::Result<PathBuf> {
        let torn = fs::read(&self.path)?;
        for number in 0..MOST_TORN {
            let kept = self.path.with_extension(format!("journal.torn-{number}"));
            let (file, is_new) =
                match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&kept) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        if fs::read(&kept).ok().as_ref() != Some(&torn) {
                            continue;
                        }
                        (File::open(&kept), false)
                    }
                    made => (written(made?, &torn), true),
                };
            let on_disk = file.and_then(|file| {
                self.faults.at(Moment::TornCopied);
                self.sync(&file)?;
                self.sync_folder()
            });
            if on_disk.is_err() && is_new {
                // The system says once that bytes are lost: a copy that was not synced must not be taken for one that was.
                let _is_gone = fs::remove_file(&kept);
            }
            return on_disk.map(|()| kept);
        }
        Err(io::Error::other(format!("{MOST_TORN} copies of others are there already")))
    }

    /// With what a simulation does to it.
    pub(super) fn with_faults(self, faults: SharedFaults) -> Self {
        Self { faults, ..self }
    }

    /// Adds an entry, which is on the disk when this returns.
    ///
    /// # Errors
    /// Nobody knows whether it is.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if self.faults.at(Moment::NoteBegins).is_some() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if is_skipped(Control::StandInNotes) {
            return Ok(());
        }
        let records = put_all(records);
        let entry = self.end.entry.saturating_add(1);
        let tag = tag_of(&self.key, &self.end.tag, entry, &records);
        let length = u32::try_from(records.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(records.len().saturating_add(HEAD));
        let is_new = self.file.is_none();
        if is_new && self.end.length == 0 {
            bytes.extend_from_slice(MAGIC);
        }
        bytes.extend(length.to_be_bytes());
        bytes.extend((!length).to_be_bytes());
        bytes.extend(tag);
        bytes.extend(records);
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.begin()?,
        };
        file.write_all(&bytes)?;
        if self.faults.at(Moment::NoteWritten).is_some() {
            return Err(io::Error::other("as a simulation wanted it"));
        }
        self.sync(&file)?;
        if is_new {
            self.sync_folder()?;
        }
        self.faults.at(Moment::NoteKept);
        self.file = Some(file);
        let length = self.end.length.saturating_add(bytes.len());
        self.end = End { entry, tag, length };
        Ok(())
    }

    /// The file, cut behind its last whole entry.
    fn begin(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(&self.path)?;
        file.set_len(u64::try_from(self.end.length).map_err(io::Error::other)?)?;
        Ok(file)
    }

    /// Has a file on the disk. Whoever looks in is told here, and so of nothing that was not done.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()?;
        self.faults.at(Moment::FileSynced);
        Ok(())
    }

    /// The same of the names in its folder.
    fn sync_folder(&self) -> io::Result<()> {
        let Some(folder) = self.path.parent() else { return Ok(()) };
        File::open(folder)?.sync_all()?;
        self.faults.at(Moment::FolderSynced);
        Ok(())
    }

    /// Takes the file away: everything in it is booked.
    ///
    /// # Errors
    /// It is still there; what is booked is booked once.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        (self.file, self.end) = (None, End::default());
        self.faults.at(Moment::NotesBooked);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        self.faults.at(Moment::NotesGone);
        self.sync_folder()
    }
}

fn written(mut file: File, bytes: &[u8]) -> io::Result<File> {
    file.write_all(bytes)?;
    Ok(file)
}

fn tag_of(key: &AnswerKey, before: &[u8; 32], entry: u64, records: &[u8]) -> [u8; 32] {
    key.tag(&[b"stand-in", before, &entry.to_be_bytes(), records])
}
