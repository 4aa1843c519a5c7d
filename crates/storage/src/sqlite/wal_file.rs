//! The write-ahead log as it lies on the disk, read before SQLite opens it (sqlite.org/fileformat2.html, section 4).
//!
//! SQLite takes the log up to its last whole transaction in front of the first frame that does not hold together, and says
//! nothing of what it leaves. Mostly that is right: whoever loses power in the middle of a write leaves a torn
//! transaction, of which nobody was told. But each transaction is synced before the next one is written, so a frame that is broken
//! in front of a later transaction was whole once, and acknowledged payments stand in it and behind it.
//!
//! Each frame's checksum goes on from that of the frame before. So frames behind a broken one can be told from what lay there
//! before: they hold together among themselves.
//!
//! A log that is missing, empty or another one is told by the mark that whoever opened the database has left beside it
//! ([`super::mark`]).
//!
//! What cannot be told: a log that ends too early between two transactions is a shorter log, so is an older copy of it from the same
//! life of the process, and damage in the last transaction looks like a torn one. Phones, tills and kept heads are the witnesses of
//! that.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::mark;
use crate::StorageError;
use crate::relational::Result;

/// "WAL" in its high bytes; the lowest bit says in which order checksums take the bytes of a word.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
pub(super) const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// A file that a running platform writes is looked at again, so soon and so often, before it is called damaged.
const AGAIN: Duration = Duration::from_millis(20);
const LOOKS: usize = 3;
/// The first salt of a log is counted up when it is begun anew, which is seldom: it does not happen so often in one life of a
/// process.
const MOST_BEGUN_ANEW: u32 = 1 << 24;

/// What of a log counts, and what does not.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WalEnd {
    /// Frames up to the end of the last whole transaction.
    pub frames: u64,
    /// Where that ends, in bytes from the beginning of the file.
    pub end: u64,
    /// Frames of a transaction that was not finished, also broken ones.
    pub dropped_frames: u64,
    /// Their bytes, and those of a frame that was cut off.
    pub dropped_bytes: u64,
}

/// Why a log cannot be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalFault {
    /// Its header is not what was written, and its frames are.
    #[error(
        "is damaged: its header (bytes 0 to 31) is not as it was written, and transactions stand behind it"
    )]
    Header,
    /// The process that wrote it last has not closed the database, and it is not there.
    #[error("is missing, and the process that wrote it last did not close the database")]
    Missing,
    /// The same, and nothing is in it.
    #[error("is empty, and the process that wrote it last did not close the database")]
    Empty,
    /// The same, and it is not the one that was written then.
    #[error(
        "is another one than that of the process which wrote it last and did not close the database"
    )]
    Other,
    /// A frame is not what was written, and a later transaction is.
    #[error(
        "is damaged: frame {frame}, at byte {offset}, is not as it was written, and transactions that were written later stand behind it"
    )]
    Frame {
        /// Counted from 1.
        frame: u64,
        /// Where it begins.
        offset: u64,
        /// What counts in front of it.
        before: WalEnd,
    },
}

impl WalFault {
    /// What whoever runs the platform can do, short of going on without what stood there.
    pub(crate) const fn to_do(self) -> &'static str {
        match self {
            Self::Header | Self::Frame { .. } => {
                "stop, keep a copy of the database and of this file, look at the disk, and restore from a backup that is older than \
                 the damage"
            }
            Self::Missing | Self::Empty | Self::Other => {
                "put it back as it was (who copies or moves a database that is open has to take its -wal file along; who looks into it with \
                 sqlite3 behind a crash folds it in, and nothing is lost), or restore from a backup"
            }
        }
    }
}

/// What was found of a log, or why it cannot be gone on with.
pub(super) type Examined = std::result::Result<WalEnd, WalFault>;

/// Reads a log.
///
/// # Errors
/// It cannot be read; the inner error says that it is damaged where it was whole once.
pub fn examine(mut log: impl Read) -> io::Result<std::result::Result<WalEnd, WalFault>> {
    let mut bytes = [0; HEADER];
    let length = fill(&mut log, &mut bytes)?;
    if length < HEADER {
        let dropped_bytes = u64::try_from(length).unwrap_or(0);
        return Ok(Ok(WalEnd { dropped_bytes, ..WalEnd::default() }));
    }
    let header = Header::read(&bytes);
    if header.is_whole() {
        let Some(page) = header.page_size() else { return Ok(Ok(WalEnd::default())) };
        return walk(&mut log, &header, page);
    }
    Ok(match header.in_front_of(&mut log)? {
        Behind::GoesOn => Err(WalFault::Header),
        Behind::WasBegunAnew | Behind::Unknown => Ok(WalEnd::default()),
    })
}

/// Refuses a database whose log is damaged, before it is opened; what a torn transaction leaves is said.
///
/// # Errors
/// [`StorageError::DamagedLog`]; the log cannot be read.
pub(super) fn demand_sound(database: &Path) -> Result<WalEnd> {
    let path = log_of(database).display().to_string();
    match examine_beside(database).map_err(|error| unreadable(&path, &error))? {
        Some(Err(fault)) => Err(StorageError::DamagedLog { path, fault }),
        Some(Ok(end)) if end.dropped_bytes > 0 => {
            tracing::warn!(
                log = path,
                kept_frames = end.frames,
                dropped_frames = end.dropped_frames,
                dropped_bytes = end.dropped_bytes,
                "the log ends with a transaction that was not finished: nobody was told of it, and it is left out. If this \
                 machine lost no power and no process was killed, look at the disk"
            );
            Ok(end)
        }
        Some(Ok(end)) => Ok(end),
        None => Ok(WalEnd::default()),
    }
}

fn unreadable(path: &str, error: &io::Error) -> StorageError {
    StorageError::Damaged(path.to_owned(), error.to_string())
}

/// What was cut off a damaged log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutLog {
    /// Where the log is kept as it was; `None` where there was none, or nothing in it.
    pub kept_as: Option<PathBuf>,
    /// What is left of it.
    pub left: WalEnd,
    /// How many bytes were cut off.
    pub cut_bytes: u64,
}

/// Cuts a damaged log in front of its damage, so that the database opens without what stood there and behind it; goes on without one
/// that is gone, or is another one. The log stays as it was, under another name. `None`: it is not damaged, and nothing was done.
/// Nobody may have the database open.
///
/// # Errors
/// The log cannot be read, or its copy not be made: one that is there is not overwritten.
pub fn cut_log(database: &Path) -> Result<Option<CutLog>> {
    let database = super::without_links(database);
    let log = log_of(&database);
    let path = log.display().to_string();
    let failed = |error: io::Error| unreadable(&path, &error);
    let left = match look(&database).map_err(failed)? {
        Some(Err(WalFault::Frame { before, .. })) => before,
        Some(Err(WalFault::Header | WalFault::Other)) => WalEnd::default(),
        Some(Err(WalFault::Missing | WalFault::Empty)) => {
            mark::forget(&database)?;
            return Ok(Some(CutLog { kept_as: None, left: WalEnd::default(), cut_bytes: 0 }));
        }
        Some(Ok(_)) | None => return Ok(None),
    };
    let mut kept_as = log.clone().into_os_string();
    kept_as.push(".damaged");
    let kept_as = PathBuf::from(kept_as);
    let keep = || {
        let mut copy = File::create_new(&kept_as)?;
        let mut whole = File::open(&log)?;
        copy.set_permissions(whole.metadata()?.permissions())?;
        let length = io::copy(&mut whole, &mut copy)?;
        copy.sync_all()?;
        Ok(length)
    };
    let length = keep().map_err(failed)?;
    if left.frames == 0 {
        // Nothing stands in it then, and it may be gone.
        mark::forget(&database)?;
    }
    let cut = || {
        let cut = File::options().write(true).open(&log)?;
        cut.set_len(left.end)?;
        cut.sync_all()?;
        Ok(length.saturating_sub(left.end))
    };
    let cut_bytes = cut().map_err(failed)?;
    Ok(Some(CutLog { kept_as: Some(kept_as), left, cut_bytes }))
}

/// Reads the log of a database, before it is opened. `None`: there is none, and need not be. Another process may write it
/// meanwhile, so what is wrong with it counts if it stays so.
///
/// # Errors
/// As [`examine`].
pub(super) fn examine_beside(database: &Path) -> io::Result<Option<Examined>> {
    let mut last = look(database)?;
    for _ in 1..LOOKS {
        match last {
            None => return Ok(None),
            Some(Ok(end)) if end.dropped_bytes == 0 => return Ok(last),
            Some(_) => {}
        }
        std::thread::park_timeout(AGAIN);
        let again = look(database)?;
        if again == last {
            return Ok(last);
        }
        last = again;
    }
    // Somebody is at work there, who knows what he writes.
    Ok(last.filter(std::result::Result::is_ok))
}

/// The log before the mark: who closes a database takes the mark away first.
fn look(database: &Path) -> io::Result<Option<Examined>> {
    let log = match File::open(log_of(database)) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let begin = log.as_ref().map(Begin::of).transpose()?;
    let found = log.map(|file| examine(BufReader::new(file))).transpose()?;
    let Some(mark) = mark::read(database)? else { return Ok(found) };
    let fault = match begin {
        None => Some(WalFault::Missing),
        Some(begin) if !begin.is_written => Some(WalFault::Empty),
        Some(Begin { header: Some(header), .. }) if !header.may_follow(&mark) => {
            Some(WalFault::Other)
        }
        // It was whole before there was a mark, and stands in one sector with the begin of the first frame.
        Some(Begin { header: None, behind: Behind::Unknown, .. }) => Some(WalFault::Header),
        Some(_) => None,
    };
    Ok(fault.map(Err).or(found))
}

/// The first bytes of a log, which there is.
struct Begin {
    /// Its header, if that is whole.
    header: Option<Header>,
    /// What the first frame says of one that is not.
    behind: Behind,
    /// Whether there is room for a frame.
    is_written: bool,
}

/// What the first frame says of a header that is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// It goes on from what the header was.
    GoesOn,
    /// It goes on from the header before: the log was being begun anew, and all that stood in it is in the database.
    WasBegunAnew,
    /// It goes on from neither, or there is none.
    Unknown,
}

impl Begin {
    fn of(log: &File) -> io::Result<Self> {
        let mut bytes = [0; HEADER];
        let mut rest = log;
        let length = fill(&mut rest, &mut bytes)?;
        let smallest = HEADER.saturating_add(FRAME_HEADER).saturating_add(512);
        let is_written = log.metadata()?.len() >= u64::try_from(smallest).unwrap_or(u64::MAX);
        let read = Header::read(&bytes);
        let header = Some(read).filter(|header| length == HEADER && header.is_whole());
        let behind = match header {
            Some(_) => Behind::GoesOn,
            None => read.in_front_of(&mut rest)?,
        };
        rest.rewind()?;
        Ok(Self { header, behind, is_written })
    }
}

/// The header of the log of a database that is open.
///
/// # Errors
/// It cannot be read.
pub(super) fn header_of(database: &Path) -> io::Result<[u8; HEADER]> {
    let mut bytes = [0; HEADER];
    File::open(log_of(database))?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The file that SQLite writes beside a database.
pub(super) fn log_of(database: &Path) -> PathBuf {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// Fills the buffer as far as the file reaches.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(count) => length = length.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The word at a place, as headers have it.
fn word(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |word| u32::from_be_bytes(*word))
}

/// A checksum of the log: two sums that go on from one piece to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum(u32, u32);

impl Sum {
    const NOTHING: Self = Self(0, 0);

    fn stored(bytes: &[u8], at: usize) -> Self {
        Self(word(bytes, at), word(bytes, at.saturating_add(4)))
    }

    /// Goes on over whole pairs of words.
    fn over(self, bytes: &[u8], big_endian: bool) -> Self {
        let word = |bytes: [u8; 4]| match big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        };
        let (pairs, _) = bytes.as_chunks::<8>();
        pairs.iter().fold(self, |Self(first, second), [a, b, c, d, e, f, g, h]| {
            let first = first.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(second);
            let second = second.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(first);
            Self(first, second)
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    bytes: [u8; HEADER],
    big_endian: bool,
}

impl Header {
    fn read(bytes: &[u8; HEADER]) -> Self {
        Self { bytes: *bytes, big_endian: word(bytes, 0) & 1 == 1 }
    }

    fn is_whole(&self) -> bool {
        word(&self.bytes, 0) & !1 == MAGIC
            && word(&self.bytes, 4) == VERSION
            && self.computed() == self.sum()
    }

    /// The checksum that stands in it, from which the first frame's goes on.
    fn sum(&self) -> Sum {
        Sum::stored(&self.bytes, 24)
    }

    fn computed(&self) -> Sum {
        let (summed, _) = self.bytes.split_at(24);
        Sum::NOTHING.over(summed, self.big_endian)
    }

    fn salts(&self) -> &[u8] {
        self.bytes.get(16..24).unwrap_or_default()
    }

    /// Whether it is of the log whose header an open process has noted, or of what that has become. A note that is damaged says
    /// nothing.
    fn may_follow(&self, noted: &[u8]) -> bool {
        let noted = noted.first_chunk().map(Self::read).filter(Self::is_whole);
        noted.is_none_or(|noted| {
            let begun_anew = word(&self.bytes, 16).wrapping_sub(word(&noted.bytes, 16));
            begun_anew < MOST_BEGUN_ANEW
        })
    }

    fn page_size(&self) -> Option<usize> {
        let size = usize::try_from(word(&self.bytes, 8)).ok()?;
        (size.is_power_of_two() && (512..=65_536).contains(&size)).then_some(size)
    }

    /// As this one may have been before something in it was damaged.
    fn with(&self, at: usize, value: &[u8]) -> Self {
        let mut bytes = self.bytes;
        if let Some(place) = bytes.get_mut(at..at.saturating_add(value.len())) {
            place.copy_from_slice(value);
        }
        Self { bytes, ..*self }
    }

    /// Of a header that is not whole: what follows it. It is synced before anything is written behind it; and when the log is begun
    /// anew, which was taken over into the database whole, its number is counted up.
    fn in_front_of(&self, log: &mut impl Read) -> io::Result<Behind> {
        let mut rest = vec![0; FRAME_HEADER.saturating_add(65_536)];
        let length = fill(log, &mut rest)?;
        rest.truncate(length);
        let sizes = (9..=16).map(|power| 1_usize << power);
        let found = sizes.flat_map(|size| [false, true].map(|order| (size, order))).find_map(
            |(size, big_endian)| {
                let frame = Frame::in_front_of(&rest, size)?;
                let magic = (MAGIC | u32::from(big_endian)).to_be_bytes();
                let page = u32::try_from(size).unwrap_or(0).to_be_bytes();
                let likely = Self { big_endian, ..*self }.with(0, &magic);
                let likely = likely.with(4, &VERSION.to_be_bytes()).with(8, &page);
                let likely = likely.with(16, frame.salts());
                let before = word(&self.bytes, 12).wrapping_sub(1).to_be_bytes();
                let goes_on = |from: Sum| frame.computed(from, big_endian) == frame.sum();
                if goes_on(likely.with(12, &before).computed()) {
                    return Some(Behind::WasBegunAnew);
                }
                let goes_on = goes_on(self.sum()) || goes_on(likely.computed());
                goes_on.then_some(Behind::GoesOn)
            },
        );
        Ok(found.unwrap_or(Behind::Unknown))
    }
}

#[derive(Clone, Copy)]
struct Frame<'a>(&'a [u8]);

impl<'a> Frame<'a> {
    fn in_front_of(bytes: &'a [u8], page: usize) -> Option<Self> {
        bytes.get(..FRAME_HEADER.saturating_add(page)).map(Self)
    }

    fn page_number(self) -> u32 {
        word(self.0, 0)
    }

    /// The last one of a transaction says how long the database is then.
    fn is_commit(self) -> bool {
        word(self.0, 4) != 0
    }

    fn salts(self) -> &'a [u8] {
        self.0.get(8..16).unwrap_or_default()
    }

    fn sum(self) -> Sum {
        Sum::stored(self.0, 16)
    }

    fn computed(self, from: Sum, big_endian: bool) -> Sum {
        let head = self.0.get(..8).unwrap_or_default();
        let page = self.0.get(FRAME_HEADER..).unwrap_or_default();
        from.over(head, big_endian).over(page, big_endian)
    }
}

/// The first frame that does not hold together, and what is found behind it.
struct Broken {
    /// How many stand in front of it.
    before: u64,
    /// What its stored checksum should have been.
    computed: Sum,
    /// It says that a transaction ends with it, if one can believe it.
    says_end: bool,
    /// A transaction ends with it or behind it.
    is_ended: bool,
}

fn walk(log: &mut impl Read, header: &Header, page: usize) -> io::Result<Examined> {
    let mut buffer = vec![0; FRAME_HEADER.saturating_add(page)];
    let bytes = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let size = bytes(buffer.len());
    let offset_of = |frames: u64| frames.saturating_mul(size).saturating_add(bytes(HEADER));
    let (mut number, mut sum) = (0_u64, header.sum());
    let mut end = WalEnd { end: offset_of(0), ..WalEnd::default() };
    let mut broken: Option<Broken> = None;
    loop {
        let length = fill(log, &mut buffer)?;
        let Some(frame) = Frame::in_front_of(buffer.get(..length).unwrap_or_default(), page) else {
            end.dropped_bytes = end.dropped_bytes.saturating_add(bytes(length));
            return Ok(Ok(end));
        };
        let is_of_this_log = frame.salts() == header.salts();
        let goes_on = |from: Sum| frame.computed(from, header.big_endian) == frame.sum();
        match &mut broken {
            None if is_of_this_log && frame.page_number() != 0 && goes_on(sum) => {}
            None => {
                let (computed, says_end) =
                    (frame.computed(sum, header.big_endian), frame.is_commit());
                let is_ended = is_of_this_log && says_end;
                broken = Some(Broken { before: number, computed, says_end, is_ended });
            }
            Some(broken) => {
                let is_next = number == broken.before.saturating_add(1);
                // Then the checksum that stands in it is of this log, and with it what else does.
                broken.is_ended |= is_next && broken.says_end && goes_on(sum);
                let goes_on = goes_on(sum) || (is_next && goes_on(broken.computed));
                if broken.is_ended && is_of_this_log && goes_on {
                    let (frame, offset) =
                        (broken.before.saturating_add(1), offset_of(broken.before));
                    return Ok(Err(WalFault::Frame { frame, offset, before: end }));
                }
                broken.is_ended |= is_of_this_log && frame.is_commit();
            }
        }
        number = number.saturating_add(1);
        sum = frame.sum();
        if broken.is_none() && frame.is_commit() {
            end = WalEnd { frames: number, end: offset_of(number), ..WalEnd::default() };
        } else if is_of_this_log {
            end.dropped_frames = end.dropped_frames.saturating_add(1);
            end.dropped_bytes = end.dropped_bytes.saturating_add(size);
        }
    }
}
