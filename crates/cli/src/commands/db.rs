//! `tapfer db`: the database of a realm.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use tapfer_server::realm::{
    Owner, Partitions, close_partition, is_open, migrate_database, open_partition,
};
use tapfer_storage::DatabaseReader;
use tapfer_storage::sqlite::{self, CutLog};

use crate::clock;
use crate::context::Context;
use crate::database_choice::{DatabaseChoice, Looked};
use crate::failure::{Ending, UsageError};
use crate::output::Emphasis;
use crate::platform::open_realm;

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Make the schema of the database that database.toml names, or bring it forward while platforms run
    #[command(after_help = "\
Example:
  tapfer db migrate --owner tapfer_owner --password-file /root/tapfer_owner.password

database.toml, in the home directory of each platform of the realm:
  address = \"postgres://tapfer@db1:5432,db2:5432/tapfer\"   # of several the one that takes writes
  password_file = \"database.password\"              # of that login, in the role tapfer_server
  certificate_authority = \"database-authority.crt\" # not needed for a unix socket

A new realm: write the file, start `tapfer serve`, which makes the keys and says that the database is empty, run this, and start
again. The whole way, from the first CREATE ROLE on: docs/postgresql.md. Platforms of the version before go on beside the newer schema; a newer one waits for it.

A realm in several databases has a [[partition]] with the same lines for each behind the first; each is migrated for itself
(docs/partitions.md).")]
    Migrate {
        /// Login that the database belongs to; no platform uses it
        #[arg(long, value_name = "NAME", default_value = "tapfer_owner")]
        owner: String,
        /// File with the owner's password
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Which of several databases; 0 is the home
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        partition: u8,
    },
    /// A realm in several databases: which is where, and moving one
    #[command(subcommand)]
    Partitions(PartitionsCommand),
    /// Read the whole database, or each partition, and say whether it is sound: beside the running platform, or of a backup
    #[command(after_help = "\
Examples:
  tapfer db check
  tapfer db check --database /mnt/backup/2026-11-22/tapfer.db

Compares pages, types and references; the log and the journal with their checksums; balances with bookings, bookings
with payments, refunds and reversals; counters; answers; the audit log with its chain. Names the first rows of each kind of damage, and what to do. Exit
code 1 if anything is wrong. Opens no key: signatures are for `tapfer audit verify`. A PostgreSQL server's pages are for its own pg_amcheck.
A realm in several databases: each that database.toml names, one after the other, each at a moment of its own; one that cannot be read
is not sound either. With --address: that one, with the platform's login, or the owner's; an auditor's may not read all of it.")]
    Check(DatabaseChoice),
    /// Say what has ended and is past its limit, and what was erased when: beside the running platform, or of a backup
    #[command(after_help = "\
Examples:
  tapfer db retention
  tapfer db retention --database /mnt/backup/2026-11-22/tapfer.db

For each kind: rows past the limit that are not erased (none, where a platform runs: it erases them within the hour), the oldest of them, rows
within the limit, closed cards that have money, erased ones; and what the audit log tells of the newest erasures. Exit code 1 if
anything is past the limit, or if a database file was not written anew behind an erasure (the next start does it). It says if a clock is so far
ahead that nothing is erased by it. A realm in several databases: each that database.toml names, and exit code 1 too if one cannot
be read; phones are not counted, since none of them has all tokens of one. --address: that one alone. A PostgreSQL server's own
files: docs/stored-data.md.")]
    Retention(DatabaseChoice),
    /// Go on without what stands in a damaged write-ahead log behind its damage, or without a log that is gone
    #[command(after_help = "\
Example:
  tapfer db cut-log --yes-lose-what-stands-behind-it

Of a platform that does not start because its tapfer.db-wal is damaged or gone, and has no better backup. PAYMENTS THAT WERE APPROVED
ARE LOST: the log is cut in front of the first damaged frame, and kept as it was in tapfer.db-wal.damaged. Behind the next start: tapfer db check, tapfer
audit restored --reason TEXT, and book what is missing by the tills' receipts (docs/disaster-recovery.md).")]
    CutLog {
        /// That this is wanted
        #[arg(long = "yes-lose-what-stands-behind-it")]
        confirmed: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PartitionsCommand {
    /// The newest map, and what each database says of itself
    #[command(after_help = "\
Example:
  tapfer db partitions show

Verifies the map with the catalogue of keys beside database.toml. Exit code 1 if a partition cannot be reached, is closed, or is not
at the place of the map.")]
    Show,
    /// Have a partition take no more changes where it is, to move it
    #[command(after_help = "\
Example:
  tapfer db partitions close 1 --owner tapfer_owner --password-file owner.password

From here until it is open at its next place its cards are refused (database_down), and no others. What was acknowledged before is
in every copy that is made behind this. At this place it is not opened again: here as well only as the next one.")]
    Close(OwnedPartition),
    /// Open a partition at its next place, where a copy of the closed one lies
    #[command(after_help = "\
Example:
  tapfer db partitions open 1 --owner tapfer_owner --password-file owner.password

database.toml leads to the copy already. Behind this: tapfer db partitions sign 1")]
    Open(OwnedPartition),
    /// Sign the next map: a partition is at its next place
    #[command(after_help = "\
Example:
  tapfer db partitions sign 1 --home /srv/tapfer-keeper

Needs the keys, and so a home directory of the realm in which no platform runs: a copy, as for one more node. Platforms that run
read the new map by themselves, and database.toml with it.")]
    Sign {
        /// Which; the home, 0, is not moved so
        #[arg(value_parser = clap::value_parser!(u8).range(1..))]
        number: u8,
        /// File with the passphrase of the key store [env: TAPFER_PASSPHRASE, or TAPFER_UNLOCK_KEY: 64
        /// hexadecimal digits]
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct OwnedPartition {
    /// Which; the home, 0, is not moved so
    #[arg(value_parser = clap::value_parser!(u8).range(1..))]
    number: u8,
    /// Login that the database belongs to; no platform uses it
    #[arg(long, value_name = "NAME", default_value = "tapfer_owner")]
    owner: String,
    /// File with the owner's password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, command: &DbCommand) -> anyhow::Result<Ending> {
    match command {
        DbCommand::Migrate { owner, password_file, partition } => {
            migrate(context, owner, password_file.as_deref(), *partition)
        }
        DbCommand::Partitions(command) => partitions(context, command),
        DbCommand::Check(databases) => {
            databases.look(context, "sound", |one| check(context, &one.reader))
        }
        DbCommand::Retention(databases) => {
            databases.look(context, "kept_to", |one| retention(context, &one.reader))
        }
        DbCommand::CutLog { confirmed } => cut_log(context, *confirmed),
    }
}

fn migrate(
    context: &Context,
    name: &str,
    password_file: Option<&Path>,
    partition: u8,
) -> anyhow::Result<Ending> {
    let password_file = password_file.map(std::path::absolute).transpose()?;
    let (password_file, partition) = (password_file.as_deref(), usize::from(partition));
    let owner = Owner { name, password_file, partition };
    let (before, after) = migrate_database(context.home.path(), owner)?;
    context.output.object(&json!({ "schema_before": before, "schema": after }))?;
    Ok(Ending::Done)
}

fn partitions(context: &Context, command: &PartitionsCommand) -> anyhow::Result<Ending> {
    let home = context.home.path();
    match command {
        PartitionsCommand::Show => show(context),
        PartitionsCommand::Close(of) => {
            of.as_owner(|owner| Ok(close_partition(home, owner)?))?;
            context.output.object(&json!({ "partition": of.number, "closed": true }))?;
            Ok(Ending::Done)
        }
        PartitionsCommand::Open(of) => {
            let part = of.as_owner(|owner| Ok(open_partition(home, owner)?))?;
            context.output.object(&json!({ "partition": part.number, "place": part.place }))?;
            Ok(Ending::Done)
        }
        PartitionsCommand::Sign { number, passphrase_file } => {
            let realm = open_realm(&context.home, None, passphrase_file.as_deref())?;
            let Some(partitions) = realm.partitions() else { bail!(NO_PARTITIONS) };
            let map = partitions.sign_moved(*number, clock::now())?;
            context.output.object(&json!({ "map": map.version, "places": map.places }))?;
            Ok(Ending::Done)
        }
    }
}

const NO_PARTITIONS: &str = "this realm lies in one database: database.toml has no [[partition]]";

impl OwnedPartition {
    fn as_owner<T>(&self, job: impl FnOnce(Owner<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let password_file = self.password_file.as_ref().map(std::path::absolute).transpose()?;
        let partition = usize::from(self.number);
        job(Owner { name: &self.owner, password_file: password_file.as_deref(), partition })
    }
}

fn show(context: &Context) -> anyhow::Result<Ending> {
    let Some(partitions) = Partitions::beside(&context.home.realm())? else { bail!(NO_PARTITIONS) };
    let (map, seen) = partitions.show()?;
    let mut is_well = map.is_some();
    let rows = (0_usize..).zip(seen).map(|(number, seen)| {
        let wanted = map.as_ref().and_then(|map| map.part(number));
        let found = seen.as_ref().ok().copied().flatten();
        let is_there = found.is_some_and(|found| {
            Some(found.part) == wanted && map.as_ref().is_some_and(|map| map.is_at(&found))
        });
        let is_closed = found.is_some_and(|found| found.is_closed);
        is_well &= is_there && !is_closed;
        json!({
            "partition": number, "place": wanted.map(|part| part.place),
            "found": found.map(|found| found.part.number), "at_place": found.map(|found| found.part.place),
            "closed": is_closed, "refused": seen.err(),
        })
    });
    let rows: Vec<_> = rows.collect();
    let version = map.as_ref().map(|map| map.version);
    context.output.object(&json!({ "map": version, "sound": is_well, "partitions": rows }))?;
    Ok(Ending::done_if(is_well))
}

fn retention(context: &Context, database: &DatabaseReader) -> anyhow::Result<Looked> {
    database.demand_rights_to_check()?;
    let said = database.retention(clock::now())?;
    let past: u64 = said.kinds.iter().map(|kind| kind.past).sum();
    let is_kept_to = past == 0 && said.is_rewritten != Some(false);
    let output = context.output;
    let facts = {
        let kinds = said.kinds.iter().map(|kind| {
            json!({
                "kind": kind.kind, "past": kind.past, "oldest": kind.oldest, "kept": kind.kept,
                "with_money": kind.with_money, "erased": kind.erased,
            })
        });
        let erasures = said.erasures.iter().map(|line| {
            json!({ "sequence": line.sequence, "at": line.event.at, "kind": line.event.object, "what": line.event.detail })
        });
        json!({
            "realm": database.realm(), "days": said.limit.days(), "kept_to": is_kept_to, "rewritten": said.is_rewritten,
            "clock_believed": said.is_clock_believed,
            "kinds": kinds.collect::<Vec<_>>(), "erasures": erasures.collect::<Vec<_>>(),
        })
    };
    output.line(format!(
        "realm {}: what has ended is kept for {} days",
        database.realm(),
        said.limit.days()
    ));
    for kind in &said.kinds {
        let since =
            kind.oldest.map(|oldest| format!(", since {oldest} the oldest")).unwrap_or_default();
        output.line(format!(
            "{:>8}  {} past the limit{since}; {} within it; {} with money; {} erased",
            kind.kind, kind.past, kind.kept, kind.with_money, kind.erased
        ));
    }
    for line in &said.erasures {
        let detail = line.event.detail.as_deref().unwrap_or_default();
        output.line(format!(
            "{}  event {}  {}: {detail}",
            line.event.at, line.sequence, line.event.object
        ));
    }
    if !said.is_clock_believed {
        output.line(format!(
            "the clock is more than 90 days ahead of what it said when something was erased last: nothing is erased before somebody sets it, or \
             says that it is right (`tapfer retention set --days {} --reason \"the clock is right\"`).",
            said.limit.days()
        ));
    }
    if said.is_rewritten == Some(false) {
        output.line(
            "the file was not written anew behind the newest erasure: its unused bytes may hold some of it. Start the platform again.",
        );
    }
    let (emphasis, said) = match is_kept_to {
        true => (Emphasis::Good, "the limit is kept to"),
        false => (
            Emphasis::Bad,
            "the limit is NOT kept to: a platform that runs erases within the hour; its log says if it cannot",
        ),
    };
    output.line(output.paint(emphasis, said));
    Ok(Looked { facts, is_good: is_kept_to })
}

fn check(context: &Context, database: &DatabaseReader) -> anyhow::Result<Looked> {
    database.demand_rights_to_check()?;
    let found = {
        let _progress = context.output.progress("reading the database");
        database.check()
    };
    let is_sound = found.faults.is_empty();
    let output = context.output;
    let schema = database.schema()?;
    let facts = {
        let checked = found.checked.iter();
        let checked: Vec<_> =
            checked.map(|one| json!({ "what": one.what, "count": one.count })).collect();
        let faults = found.faults.iter().map(|fault| {
            json!({ "place": fault.place, "row": fault.row, "what": fault.what, "to_do": fault.to_do })
        });
        json!({
            "realm": database.realm(), "schema": schema, "sound": is_sound,
            "checked": checked, "faults": faults.collect::<Vec<_>>(), "remarks": found.remarks,
        })
    };
    output.line(format!("realm {}, schema {schema}", database.realm()));
    output.line("rows that were looked at, and what was asked of them:");
    for one in &found.checked {
        output.line(format!("{:>12}  {}", one.count, one.what));
    }
    for fault in &found.faults {
        let place = output.paint(Emphasis::Bad, format!("{} {}", fault.place, fault.row).trim());
        output.line(format!("{place}: {}. To do: {}", fault.what, fault.to_do));
    }
    found.remarks.iter().for_each(|remark| output.line(remark));
    let (emphasis, said) = match is_sound {
        true => (Emphasis::Good, "the database is sound"),
        false => (Emphasis::Bad, "the database is NOT sound"),
    };
    output.line(output.paint(emphasis, said));
    Ok(Looked { facts, is_good: is_sound })
}

fn cut_log(context: &Context, confirmed: bool) -> anyhow::Result<Ending> {
    let home = context.home.realm();
    let database = home.embedded_database()?;
    if !confirmed {
        let said = "approved payments are lost with it: give --yes-lose-what-stands-behind-it";
        return Err(UsageError(said.to_owned()).into());
    }
    ensure!(!is_open(home.home())?, "the platform runs: stop it first");
    let Some(CutLog { kept_as, left, cut_bytes }) = sqlite::cut_log(&database)? else {
        bail!("the log of {} is not damaged; nothing was done", database.display());
    };
    context.output.object(&json!({
        "frames_left": left.frames, "bytes_cut_off": cut_bytes, "kept_as": kept_as,
    }))?;
    context.output.remark(
        "Start the platform, then: tapfer db check; tapfer audit restored --reason TEXT; and book what is missing by the tills' receipts.",
    );
    Ok(Ending::Done)
}
