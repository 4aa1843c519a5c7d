//! What a node has promised goes into the database as soon as that is back, before it is asked for anything else.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use tapfer_payment_types::{PaymentIntentId, Timestamp};

use super::journal::{Found, Journal};
use super::limits::StandInRefusal;
use super::record::Record;
use super::{Kept, Phase, StandIn};
use crate::faults::SharedFaults;
use crate::relational::Result;
use crate::relational::stand_in::Booked;
use crate::{AnswerKey, StorageError};

/// How often it is tried to book what waits.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// How often it is tried to book what was set aside; any news of the database is an occasion too.
pub(super) const LATER: Duration = Duration::from_mins(5);
/// What the database refuses, and would not refuse for being busy or away, is tried so often before it is set aside.
const ATTEMPTS: u32 = 5;
/// A database that is back and has trouble of its own (no room, no login) is waited for so often before what it refuses counts.
const TROUBLES: u32 = 300;

/// How often the database has refused to take something.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    of_intents: HashMap<PaymentIntentId, u32>,
    for_trouble: u32,
}

/// What is to be done about an intent that was not booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// It is the database's matter: nothing else is tried now.
    Wait,
    /// It is tried again.
    Again,
    /// The node goes on without.
    SetAside,
}

impl Refusals {
    fn of(&mut self, intent: PaymentIntentId, error: &StorageError, is_trouble: bool) -> Failed {
        if is_passing(error) {
            return Failed::Wait;
        }
        if is_trouble && self.for_trouble < TROUBLES {
            self.for_trouble = self.for_trouble.saturating_add(1);
            return Failed::Wait;
        }
        let refused = self.of_intents.entry(intent).or_default();
        *refused = refused.saturating_add(1);
        if *refused < ATTEMPTS { Failed::Again } else { Failed::SetAside }
    }
}

/// What came of a round over intents that are not booked.
#[derive(Debug, Default)]
struct Round {
    booked: HashSet<PaymentIntentId>,
    set_aside: HashSet<PaymentIntentId>,
    is_to_go_on: bool,
}

/// What became of each intent, in the order of what became of it last.
fn grouped(records: &[Record]) -> Vec<(PaymentIntentId, Vec<Record>)> {
    let mut groups: HashMap<PaymentIntentId, (usize, Vec<Record>)> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        let (last, group) = groups.entry(record.intent()).or_default();
        *last = place;
        group.push(record.clone());
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (last, _))| *last);
    groups.into_iter().map(|(intent, (_, group))| (intent, group)).collect()
}

impl StandIn {
    /// At a start. Between two attempts `waits` is asked, which may give up.
    ///
    /// # Errors
    /// [`StorageError::StandIn`]: the database went before all was booked.
    pub(super) fn book_before_anything_else(&self, waits: impl Fn() -> Result<()>) -> Result<()> {
        let waiting = self.state().records.len();
        if waiting > 0 {
            tracing::warn!(target: "tapfer::stand_in", records = waiting, "what this node did alone before it ended is booked first");
        }
        while self.book() == Some(BEAT) {
            if self.database.is_away() {
                return Err(StandInRefusal::Booking.into());
            }
            waits()?;
        }
        Ok(())
    }

    /// Books what waits, if the database is back. After how long to try it again, if something waits still.
    pub(super) fn book(&self) -> Option<Duration> {
        let mut kept = self.look();
        if kept.phase == Phase::There && kept.is_behind {
            drop(kept);
            self.catch_up();
            kept = self.look();
        }
        match kept.phase {
            Phase::Alone => return Some(BEAT),
            Phase::There if kept.set_aside.is_empty() => return None,
            Phase::There => {
                let groups = grouped(&kept.set_aside);
                drop(kept);
                return self.book_set_aside(groups);
            }
            Phase::Booking => {}
        }
        if kept.is_torn_off {
            kept.read_again(read_as_it_is(&self.path, &self.key, self.database.faults()));
        }
        let groups = grouped(&kept.records);
        drop(kept);
        let round = self.book_each(groups);
        self.catch_up();
        let mut kept = self.state();
        kept.are_booked(&round.booked);
        let aside = |record: &mut Record| round.set_aside.contains(&record.intent());
        let aside: Vec<_> = kept.records.extract_if(.., aside).collect();
        kept.set_aside.extend(aside);
        if round.is_to_go_on {
            if self.database.is_away() {
                kept.phase = Phase::Alone;
            }
            return Some(BEAT);
        }
        kept.end((self.clock)());
        (!kept.set_aside.is_empty()).then_some(LATER)
    }

    /// The database is asked by everybody meanwhile.
    fn book_set_aside(&self, groups: Vec<(PaymentIntentId, Vec<Record>)>) -> Option<Duration> {
        let round = self.book_each(groups);
        let mut kept = self.state();
        kept.are_booked(&round.booked);
        if !kept.set_aside.is_empty() {
            return Some(LATER);
        }
        kept.clear();
        None
    }

    fn book_each(&self, groups: Vec<(PaymentIntentId, Vec<Record>)>) -> Round {
        let mut round = Round::default();
        for (intent, records) in groups {
            let Err(error) = self.book_one(intent, records) else {
                round.booked.insert(intent);
                continue;
            };
            let is_trouble = self.database.is_trouble(&error);
            let failed = self.state().refusals.of(intent, &error, is_trouble);
            if failed == Failed::SetAside {
                tracing::error!(
                    target: "tapfer::stand_in", %intent, %error,
                    "a payment that this node promised cannot be booked: it stays in the journal, which is kept, is told to who \
                     asks again, and is tried again every few minutes and at the next start. Until it is booked this node does not \
                     stand in. Keep a copy of the journal and report it"
                );
                round.set_aside.insert(intent);
                continue;
            }
            tracing::warn!(target: "tapfer::stand_in", %intent, %error, "what this node promised is not booked yet");
            round.is_to_go_on = true;
            if failed == Failed::Wait {
                break;
            }
        }
        round
    }

    fn book_one(&self, intent: PaymentIntentId, records: Vec<Record>) -> Result<()> {
        let now = (self.clock)();
        let booked: Booked = self.database.book_intent(intent, records, now)?;
        if booked.before {
            tracing::info!(target: "tapfer::stand_in", %intent, "what this node decided alone was booked before");
        }
        for (authorization, remarks) in &booked.remarks {
            if remarks.is_empty() {
                tracing::info!(target: "tapfer::stand_in", %authorization, "what this node decided alone is booked");
            } else {
                tracing::warn!(target: "tapfer::stand_in", %authorization, remarks, "what this node decided alone is booked");
            }
        }
        if let Some(lost) = booked.lost {
            tracing::warn!(target: "tapfer::security", event = "stand_in_loss", %intent, %lost, "a card lacked what was promised: its issuer pays");
        }
        Ok(())
    }
}

impl Kept {
    /// What was answered for these is the database's to tell from now on.
    fn are_booked(&mut self, booked: &HashSet<PaymentIntentId>) {
        let Self { records, set_aside, known, .. } = self;
        let is_over = |record: &mut Record| booked.contains(&record.intent());
        let over = records.extract_if(.., is_over).chain(set_aside.extract_if(.., is_over));
        for record in over {
            if let Some(given) = record.answer() {
                known.has_answered(given);
            }
        }
    }

    /// The journal could not be written, and is read again: it has all that is known here, and perhaps what nobody was told of.
    pub(super) fn read_again(
        &mut self,
        (journal, found, fault): (Option<Journal>, Found, Option<String>),
    ) {
        (self.journal, self.fault, self.is_torn_off) = (journal, fault, false);
        if self.fault.is_some() {
            return;
        }
        if found.records.starts_with(&self.records) {
            self.records = found.records;
            return;
        }
        tracing::error!(
            target: "tapfer::stand_in",
            "the journal of what this node decided alone has lost some of it: what this node remembers is booked, and it does not stand \
             in until somebody has looked at its disk and taken the file away"
        );
        self.journal = None;
        self.fault = Some("it has lost some of what was written to it".to_owned());
    }

    /// Nothing waits any more but what was set aside: the database is asked again.
    fn end(&mut self, now: Timestamp) {
        (self.back_at, self.refusals) = (Some(now), Refusals::default());
        self.armed.clear();
        self.phase = Phase::There;
        if self.set_aside.is_empty() {
            self.clear();
            tracing::info!(target: "tapfer::stand_in", "all that this node promised is booked: the database is asked again");
        } else {
            self.index();
        }
    }

    /// Everything is booked: the journal is taken away, unless it may hold something else.
    fn clear(&mut self) {
        if self.fault.is_none()
            && let Some(Err(error)) = self.journal.as_mut().map(Journal::clear)
        {
            tracing::warn!(target: "tapfer::stand_in", %error, "the journal cannot be taken away; what stands in it is booked, and once");
        }
        self.index();
    }
}

/// The journal that a node has left, what it holds, and why nothing may be added to it. Of a torn one a copy is kept before anything
/// else: while there is none, the file stays as it is.
pub(super) fn read_journal(
    path: &Path,
    key: &AnswerKey,
    faults: SharedFaults,
) -> (Option<Journal>, Found, Option<String>) {
    let (journal, found, fault) = read_as_it_is(path, key, faults);
    let Some(torn) = journal.as_ref().filter(|_| found.torn > 0) else {
        return (journal, found, fault);
    };
    match torn.keep_torn() {
        Ok(kept) => {
            tracing::warn!(
                target: "tapfer::stand_in", bytes = found.torn, kept = %kept.display(),
                "the journal of what this node decided alone ends in a torn entry, which is left out: after a loss of power nobody was told \
                 of it. Without one, compare what tills were told since with the books, and look who had the file"
            );
            (journal, found, fault)
        }
        Err(error) => {
            tracing::error!(
                target: "tapfer::stand_in", bytes = found.torn, path = %path.display(), %error,
                "the journal of what this node decided alone ends in a torn entry, of which no copy can be kept: what stands in front of it \
                 is booked, the file stays as it is, and the node does not stand in. Look at the copies beside it (.torn-0 and so on), move \
                 them away or make room, and start the node anew"
            );
            (None, found, Some(format!("no copy of its torn end can be kept: {error}")))
        }
    }
}

/// The same of the journal of a node that runs, which knows what it has told: nobody was told of a torn end.
fn read_as_it_is(
    path: &Path,
    key: &AnswerKey,
    faults: SharedFaults,
) -> (Option<Journal>, Found, Option<String>) {
    let (journal, found) = match Journal::open(path, key.clone()) {
        Ok((journal, found)) => (journal.with_faults(faults), found),
        Err(error) => return (None, Found::default(), Some(format!("it cannot be read: {error}"))),
    };
    let Some(fault) = &found.fault else { return (Some(journal), found, None) };
    tracing::error!(
        target: "tapfer::stand_in", path = %path.display(), %fault,
        "the journal of what this node decided alone is damaged: what stands in front of the damage is booked, what stands behind it \
         is not, and the node does not stand in. Keep a copy, compare what tills were told with the books, then take the file away"
    );
    let fault = Some(fault.to_string());
    (None, found, fault)
}

/// Whether it may go well the next time, and nothing need be done for it.
fn is_passing(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::Unreachable(_)
            | StorageError::NotSynced(_)
            | StorageError::Busy
            | StorageError::NoConnection(_)
            | StorageError::Closed
            | StorageError::StillRunning
            | StorageError::Conflict
            | StorageError::Moved(_)
    )
}
