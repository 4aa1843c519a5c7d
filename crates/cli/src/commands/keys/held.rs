//! A ceremony from its first line in the audit log to its last: before anything is done the log says that it was
//! ordered, and however it ends the transcript and the log say so.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use tapfer_hsm::SoftwareHsm;
use tapfer_hsm::sharing::{CeremonyId, Gathering, SecretKind, split};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_payment_types::Secret;
use tapfer_payments::audit::AuditAction;
use tapfer_server::{KeyAudit, RealmError};

use super::keeper::{Order, who};
use crate::ceremony::{
    Agreement, Custodians, PartsFrom, PartsTo, People, Transcript, Wanted, gather, hand_out,
    lock_memory,
};
use crate::clock;
use crate::context::Context;
use crate::output::Output;

/// Who is at the table, and where the transcript goes.
#[derive(Debug, Args)]
pub(crate) struct Record {
    #[command(flatten)]
    people: People,
    /// New file for the transcript; one for programs is written beside it, with .json behind
    #[arg(long, value_name = "FILE")]
    transcript: PathBuf,
}

impl Record {
    pub(super) fn officer(&self) -> &str {
        &self.people.officer
    }
}

/// What people came together for.
pub(super) struct Occasion<'a> {
    /// In a few words, for the transcript.
    pub(super) purpose: &'a str,
    /// Who gets a part.
    pub(super) custodians: &'a [String],
    /// What the audit log calls it.
    pub(super) action: AuditAction,
    /// Which key, for the audit log.
    pub(super) object: String,
    /// Who ordered it and why. Without, it may be held where there is no audit log yet.
    pub(super) order: Option<&'a Order>,
}

/// A ceremony that goes on.
pub(super) struct Ceremony {
    pub(super) output: Output,
    pub(super) transcript: Transcript,
    pub(super) audit: Option<Rc<KeyAudit>>,
}

/// What stopped a ceremony. The person reads the error; the audit log also learns who had brought what.
struct Stopped {
    error: anyhow::Error,
    so_far: Option<String>,
}

impl From<RealmError> for Stopped {
    fn from(error: RealmError) -> Self {
        Self { error: error.into(), so_far: None }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)?;
        self.so_far.as_ref().map_or(Ok(()), |so_far| write!(f, "; {so_far}"))
    }
}

/// Holds a ceremony. Gives back what came of it, and what a program is told at the end.
///
/// # Errors
/// What `body` fails with; neither transcript nor audit log can be written.
pub(super) fn hold<T>(
    context: &Context,
    record: &Record,
    occasion: Occasion<'_>,
    body: impl FnOnce(&mut Ceremony) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Value)> {
    Transcript::demand_room(&record.transcript)?;
    let participants = record.people.participants(occasion.custodians)?;
    let audit = audit_log(context, record, &occasion)?.map(Rc::new);
    let memory_locked = lock_memory(context.output);
    let mut transcript = Transcript::begin(occasion.purpose, memory_locked, participants);
    transcript.keep_in(&record.transcript)?;
    let act = || {
        if audit.is_none() {
            transcript.step("there is no audit log here that this could be written to");
        }
        let mut ceremony = Ceremony { output: context.output, transcript, audit: audit.clone() };
        let done = body(&mut ceremony);
        let Ceremony { transcript, .. } = ceremony;
        let failure = done.as_ref().err().map(|error| format!("{error:#}"));
        let (mut told, outcome) = (transcript.summary(), transcript.outcome());
        let hash = transcript.end(failure);
        // What stopped it says more than that its record could not be written.
        let done = done.map_err(|error| Stopped { error, so_far: Some(outcome.clone()) })?;
        // What was done stays done, whatever becomes of its record.
        let outcome = match &hash {
            Ok(hash) => format!("{outcome}; SHA-256 of the transcript {hash}"),
            Err(error) => format!("{outcome}; its transcript could not be written: {error:#}"),
        };
        if let (Some(fields), Ok(hash)) = (told.as_object_mut(), &hash) {
            fields.insert("transcript".to_owned(), json!(record.transcript));
            fields.insert("transcript_sha256".to_owned(), json!(hash));
        }
        Ok((done, told, outcome, hash))
    };
    let held = match &audit {
        None => act(),
        Some(audit) => {
            let summary = |(_, _, outcome, _): &(_, _, String, _)| outcome.clone();
            audit.around(occasion.action, &occasion.object, clock::now, act, summary)
        }
    };
    let (done, told, outcome, hash) = held.map_err(|stopped: Stopped| stopped.error)?;
    hash.with_context(|| {
        format!(
            "{} WAS DONE; only its transcript could not be written. Do not do it again; write down what was done: \
             {outcome}",
            occasion.object
        )
    })?;
    Ok((done, told))
}

/// The audit log, open before anything is done; `None` where there is no realm yet and none is demanded.
fn audit_log(
    context: &Context,
    record: &Record,
    occasion: &Occasion<'_>,
) -> anyhow::Result<Option<KeyAudit>> {
    let paths = context.home.realm();
    let Record { people, transcript } = record;
    let (ordered_by, why) = match occasion.order {
        Some(order) => (order.who(), order.reason.as_str()),
        None if !paths.is_realm() => return Ok(None),
        None if !paths.has_database() => return Ok(None),
        None => (who(&people.officer), occasion.purpose),
    };
    let why = format!("{why}; officer {}, transcript {}", people.officer, transcript.display());
    Ok(Some(KeyAudit::open(&paths, &ordered_by, &why)?))
}

impl Ceremony {
    /// Divides a secret and gives its parts out.
    pub(super) fn divide(
        &mut self,
        kind: SecretKind,
        secret: &Secret<Vec<u8>>,
        custodians: &Custodians,
        to: &PartsTo,
    ) -> anyhow::Result<CeremonyId> {
        let scheme = custodians.scheme()?;
        let id = CeremonyId::random(&mut clock::random());
        let parts = split(kind, secret, scheme, id, &mut clock::random())?;
        self.transcript.divided(id, scheme);
        hand_out(self.output, to, &parts, &custodians.names, &mut self.transcript)?;
        Ok(id)
    }

    pub(super) fn roots_are(&mut self, roots: &RootKeys) -> anyhow::Result<()> {
        for (name, value) in roots.check_values()? {
            self.transcript.check_value(name, value);
        }
        Ok(())
    }

    /// Takes parts in; custodians of root keys agree first.
    pub(super) fn gather(
        &mut self,
        from: &PartsFrom,
        wanted: Wanted<'_>,
    ) -> anyhow::Result<(Gathering, Secret<Vec<u8>>)> {
        let gathering = gather(self.output, from, wanted, &mut self.transcript)?;
        let secret = gathering.secret()?;
        Ok((gathering, secret))
    }

    /// The root keys, from custodians who know what for.
    pub(super) fn roots_of(
        &mut self,
        from: &PartsFrom,
        agreement: &Agreement,
    ) -> anyhow::Result<(RootKeys, Gathering)> {
        let (gathering, secret) = self.gather(from, Wanted::RootKeys(agreement))?;
        let roots = RootKeys::from_shared(&secret)?;
        if let Some(part) = gathering.parts().first() {
            self.transcript.divided(part.ceremony(), part.scheme());
        }
        self.roots_are(&roots)?;
        Ok((roots, gathering))
    }

    /// The realm's keys over root keys that custodians rebuilt.
    pub(super) fn keys_over(
        &mut self,
        context: &Context,
        roots: RootKeys,
    ) -> anyhow::Result<SoftwareHsm> {
        let catalogue = context.home.realm().catalogue();
        let keys = SoftwareHsm::over_catalogue(SoftwareVault::new(roots), &catalogue)?;
        self.transcript.realm(keys.realm_of_catalogue().1);
        self.transcript.step("the root keys open the realm's catalogue");
        self.over_newest(&keys, || Ok(()))?;
        Ok(keys)
    }

    /// Does something with keys that are the newest the database knows, and lets it know what came of it.
    pub(super) fn over_newest<T>(
        &self,
        keys: &SoftwareHsm,
        act: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        match &self.audit {
            None => act(),
            Some(audit) => audit.over_newest(keys, act),
        }
    }
}
