//! Where a simulation looks in on the store, and lets a transaction fail.
//!
//! What a machine can do to a transaction between its steps: die, have no room, or not say what became of it. In
//! service [`NoFaults`] stands here and nothing happens.

use std::fmt::Debug;
use std::sync::Arc;

/// A place between two steps of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A server is asked for something that changes nothing. Of a file nobody says this.
    Asked,
    /// Nothing is changed yet.
    Begins,
    /// Everything is changed, and nothing is on the disk for certain.
    Made,
    /// It is on the disk, or given up. Nobody was told yet.
    Over {
        /// Whether it is on the disk.
        synced: bool,
    },
    /// The tables begin to catch up with the journal.
    CatchUpBegins,
    /// They have caught up, and nothing is on the disk for certain.
    CatchUpMade,
    /// It is on the disk, or given up.
    CatchUpOver,
    /// The store opens: its log has a transaction.
    LogBegun,
    /// A mark says that it is open; nothing was taken yet.
    Marked,
    /// The store closes: the log is folded into the database.
    Folded,
    /// Nothing says any more that it is open.
    Unmarked,
    /// A node that is alone is to note what it has decided: nothing of it is in its journal.
    NoteBegins,
    /// It is written there, and not on the disk for certain.
    NoteWritten,
    /// It is on the disk. Nobody was told yet.
    NoteKept,
    /// Of a torn journal of this kind a copy is written, and not on the disk for certain.
    TornCopied,
    /// A file is on the disk: that journal, or a copy of it.
    FileSynced,
    /// The names of the files in its folder are.
    FolderSynced,
    /// Everything in that journal is booked, and it is there still.
    NotesBooked,
    /// It was taken away, and may be there again when the machine has lost its power.
    NotesGone,
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// From the beginning of a transaction, or of a note, on: there is no room for more than there is.
    DiskFull,
    /// Where a server is asked, or a transaction begins there: nobody is there.
    Away,
    /// Once it is made, or written: it is lost, and whoever waits hears that nobody knows. Once it is over: it stands, and they
    /// hear the same; for the tables that catch up, nobody waits.
    Lost,
}

/// What a simulation does at each place.
pub trait Faults: Debug + Send + Sync {
    /// What happens at this place, if anything does.
    fn at(&self, moment: Moment) -> Option<Fault>;
    /// By how many payments the tables catch up with the journal now, behind a transaction. `None`: when it is quiet for a
    /// while, by the machine's own clock, as in service.
    fn catches_up(&self) -> Option<usize> {
        None
    }
}

/// What a simulation does, shared with the threads that work.
pub type SharedFaults = Arc<dyn Faults>;

/// Nothing happens.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn at(&self, _: Moment) -> Option<Fault> {
        None
    }
}
