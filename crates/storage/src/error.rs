//! What can go wrong, split by who has to do something about it.

use std::error::Error;
use std::sync::Arc;

use tapfer_payment_types::{MoneyError, PaymentIntentId, RealmId, Timestamp};
use tapfer_payments::cards::CardError;
use tapfer_payments::integrity::IntegrityError;
use tapfer_payments::intents::IntentError;
use tapfer_payments::issuers::IssuerError;
use tapfer_payments::keys::KeyError;
use tapfer_payments::ledger::LedgerError;
use tapfer_payments::pins::PinError;
use tapfer_payments::policies::PolicyRefusal;
use tapfer_payments::refunds::RefundError;
use tapfer_payments::reversals::ReversalError;
use tapfer_payments::store_shares::DeviceError;
use tapfer_payments::terminals::TerminalError;
use tapfer_payments::tokens::TokenError;

use crate::StandInRefusal;
use crate::idempotency::Difference;
use crate::journal::JournalFault;
use crate::sqlite::WalFault;

/// A rule that forbids what the caller asked for. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Rule of tokens.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Rule of keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Rule of cards.
    #[error(transparent)]
    Card(#[from] CardError),
    /// Rule of devices.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Rule of issuers.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Rule of payment intents.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// Rule of refunds.
    #[error(transparent)]
    Refund(#[from] RefundError),
    /// Rule of reversals.
    #[error(transparent)]
    Reversal(#[from] ReversalError),
    /// Rule of terminals.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// Rule of PINs.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Rule of policies.
    #[error(transparent)]
    Policy(#[from] PolicyRefusal),
    /// Rule of the ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Rule of device integrity.
    #[error(transparent)]
    Integrity(#[from] IntegrityError),
    /// Rule of money.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// Something like it is there already.
    #[error("there is one with the same {0} already; use that one, or give another {0}")]
    Exists(&'static str),
    /// The answer to it is not kept any more.
    #[error(
        "a request with this idempotency key has moved money before, and its answer is not kept any more: nothing was booked now. \
         Look at what was booked, and give another key if it is to be booked once more"
    )]
    BookedBefore,
    /// The terminal waits for another payment.
    #[error(
        "the terminal is armed for {0}; cancel that payment (`tapfer payment cancel {0}`) or let it expire first"
    )]
    TerminalBusy(PaymentIntentId),
    /// The clock stands further ahead than nobody looks after a platform.
    #[error(
        "the clock says {now}, and what has ended was erased last when it said {before}: nothing is erased by a clock that may be wrong. \
         Set it (timedatectl); if it is right, say so as the operator: `tapfer retention set --days {days} --reason \"the clock is right\"`"
    )]
    ClockAhead {
        /// What it says.
        now: Timestamp,
        /// What it said when it was believed last.
        before: Timestamp,
        /// The limit as it is.
        days: u16,
    },
    /// The number is of another partition than the card that it is to be for.
    #[error("the number is of another partition than its card; draw another")]
    OtherPartition,
    /// The two things belong to different owners.
    #[error("{0} belong to different owners")]
    OwnersDiffer(&'static str),
}

/// A row that makes no sense: somebody changed the database by hand, or there is a defect. Names
/// where, never what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {id} of table {table} makes no sense in column {column}; restore it from a backup")]
pub struct Inconsistency {
    /// Table.
    pub table: &'static str,
    /// Primary key of the row, as far as it could be read.
    pub id: String,
    /// Column, or the columns that contradict each other.
    pub column: &'static str,
}

/// What a database said of itself.
type Fault = Arc<dyn Error + Send + Sync>;

/// Why a call to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The caller named something that is not there.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// What kind of thing.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// The caller asked for something that a rule forbids.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The idempotency key was used for another request.
    #[error(
        "this idempotency key was used for another request: the {0} was not the same. To repeat a request send it as it was, \
         byte by byte; for a new one make a new key"
    )]
    DifferentContent(Difference),
    /// The first request with this idempotency key has no answer yet.
    #[error("a request with this idempotency key is still running; ask again in a moment")]
    StillRunning,
    /// The payment is another merchant's than the terminal at which it was asked for.
    #[error("the payment intent is another merchant's than the terminal")]
    OfAnotherMerchant,
    /// What a decision rests on has changed since it was loaded. Load it again and decide again.
    #[error("the facts of this decision have changed; load them again and decide again")]
    Conflict,
    /// Too many changes wait for the disk.
    #[error("too many changes wait for the disk; try again in a moment")]
    Busy,
    /// The database's server has no connection left.
    #[error(
        "the database has no connection left for this login: {0}; nothing of this was written. Who has them: SELECT usename, count(*) FROM \
         pg_stat_activity GROUP BY 1. Logins of people get a CONNECTION LIMIT, and max_connections is as high as the nodes need \
         (docs/postgresql.md)"
    )]
    NoConnection(#[source] Fault),
    /// The store is being closed, or its writer is gone.
    #[error("the store is closed; nothing of this was written")]
    Closed,
    /// The database was written by a newer version of this program.
    #[error(
        "the database has schema version {found}, this program knows versions up to {known}; \
         start the newer program, or restore the backup from before the upgrade"
    )]
    NewerDatabase {
        /// The version in the database.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The database holds nothing.
    #[error(
        "the database {0} is empty. A new realm's is made by its owner with `tapfer db migrate`; that of a realm which had \
         one comes back from a backup: without it every counter, payment and audit record would be forgotten"
    )]
    Empty(String),
    /// The database was not brought to the schema of this program.
    #[error(
        "the database has schema version {found}, this program needs {known}; bring it forward as its owner with \
         `tapfer db migrate`. Platforms of the version before go on meanwhile"
    )]
    OlderDatabase {
        /// The version in the database.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The platform's login could rewrite what was.
    #[error("the platform's login may {0}")]
    TooManyRights(String),
    /// Who checks the database may not read all of it.
    #[error(
        "this login may not read {0} (and perhaps more): check with the platform's login or the owner's. An auditor's reads the audit log \
         alone, and says with `tapfer audit verify` whether that is whole"
    )]
    TooFewRights(String),
    /// What the server acknowledges may not outlast its power.
    #[error(
        "the database's server runs with {0} = off: what it has acknowledged may be gone, or torn, when its power fails; \
         switch it on (ALTER SYSTEM SET {0} = on; SELECT pg_reload_conf()), or take it out of the server's command line"
    )]
    Forgetful(String),
    /// Nobody answers, or not as the one who takes writes.
    #[error("the database cannot be reached, or takes no writes: {0}; nothing of this was written")]
    Unreachable(#[source] Fault),
    /// The database cannot be reached, and the node that stands in for it does not do this.
    #[error("the database cannot be reached; nothing of this was done: {}", .0.text())]
    StandIn(StandInRefusal),
    /// The partition is not where it was looked for.
    #[error(
        "this is not where the partition is: {0}; nothing of this was written, ask again. If it lasts: `tapfer db partitions \
         show`, and the addresses in database.toml"
    )]
    Moved(String),
    /// The file is a database, but not of this program.
    #[error("{0} is a database of another program; name another file")]
    ForeignDatabase(String),
    /// The realm has a database, and it is not there.
    #[error(
        "the database {0} is missing or empty, but the realm has keys; restore the database from a \
         backup. Without it every counter, payment and audit record would be forgotten"
    )]
    MissingDatabase(String),
    /// The database belongs to other keys.
    #[error(
        "the database {path} does not belong to {realm}, as the keys do; restore both from one backup. If this is to be a further \
         platform on that database, take its keys from the first one: realm.json, keystore or hsm.toml, keys.json and what else \
         docs/high-availability.md lists in step 9"
    )]
    OtherRealm {
        /// The database.
        path: String,
        /// The realm of the keys.
        realm: RealmId,
    },
    /// The file does not hold together.
    #[error(
        "the database {0} is damaged: {1}. Stop, keep a copy of it with its -wal file, look at the disk, and restore the newest backup \
         that `tapfer db check` finds sound (docs/disaster-recovery.md)"
    )]
    Damaged(String, String),
    /// What stands in the database besides its rows is not what this program puts there.
    #[error(
        "the database {path} was changed by hand: {}. What does not belong there works on when whoever left it is gone: \
         stop the platform, keep a copy of the file, look at it and take it away with sqlite3 (.schema NAME, DROP TRIGGER \
         NAME), and do again what it may have undone; what is missing or another comes back from a backup \
         (docs/disaster-recovery.md)",
        .differences.join("; ")
    )]
    ChangedSchema {
        /// The database.
        path: String,
        /// What is there and does not belong there, or is missing, one by one.
        differences: Vec<String>,
    },
    /// A row makes no sense.
    #[error(transparent)]
    Inconsistent(#[from] Inconsistency),
    /// The journal is not as it was written.
    #[error(
        "the journal of payments is damaged: {0}. Payments that were approved stand in it and nowhere else: stop the \
         platform, keep a copy of the database and its -wal file, look at the disk, and restore from a backup \
         (docs/disaster-recovery.md)"
    )]
    Journal(#[source] JournalFault),
    /// The log beside the file is damaged in front of what was acknowledged, or is not there.
    #[error(
        "the write-ahead log {path} {fault}. SQLite would leave out what stood there and all behind it, and payments that were \
         approved with it: {}; or go on without them (tapfer db cut-log; docs/disaster-recovery.md)",
        .fault.to_do()
    )]
    DamagedLog {
        /// The file.
        path: String,
        /// What is wrong with it.
        fault: WalFault,
    },
    /// What was decided stands in the journal, and does not go into the tables: a full or failing disk, or a defect.
    #[error(
        "the tables do not take entry {entry} of the journal of payments ({why}). Nothing of this was written, and nothing \
         that was acknowledged is lost; nothing is taken until they do. Look at the room on the disk; if there is enough, keep \
         a copy of the database and its -wal file and report it"
    )]
    TablesBehind {
        /// The entry.
        entry: u64,
        /// Why not: names the table, where a row is not taken.
        why: Box<StorageError>,
    },
    /// Migrations could not be applied.
    #[error("the database could not be brought to the current schema: {0}")]
    Migration(String),
    /// The writer gave up in the middle of a change, which was rolled back: a defect.
    #[error("the change was given up half-way and rolled back; this is a defect, report it")]
    Abandoned,
    /// The transaction that the change was in did not reach the disk, or nobody knows whether it did.
    #[error(
        "the database does not say that this is on the disk ({0}); ask again with the same idempotency key, and it is \
         made once or answered as it was"
    )]
    NotSynced(#[source] Fault),
    /// The database itself failed: disk full, file gone, broken.
    #[error("the database failed: {0}")]
    Database(#[source] Fault),
}

/// Columns whose values are unique, and what a caller calls them.
const UNIQUE: &[(&str, &str)] = &[
    ("cards.number_hash", "card number"),
    ("tokens.number_hash", "token number"),
    ("issuers.pan_prefix", "card number prefix"),
    ("issuers.token_prefix", "token number prefix"),
    ("terminals.identification", "terminal identification"),
    ("terminal_certificates.serial", "certificate serial number"),
    ("api_keys.secret_hash", "API key"),
    ("limited_use_keys.", "key index"),
    (".id", "id"),
];
/// Columns that only a decision on outdated facts can try to fill twice.
const DECIDED: &[&str] = &["transaction_counters.", "authorizations.", "payment_intents.armed"];

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{ConstraintViolation, DatabaseBusy, DatabaseLocked};
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => Self::Busy,
            Some(ConstraintViolation) => Self::constraint(error),
            _ => Self::Database(Arc::new(error)),
        }
    }
}

impl StorageError {
    /// Said of a file that was to be opened: what SQLite cannot read is damaged, and has a name.
    pub(crate) fn of_file(self, path: &std::path::Path) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let Self::Database(fault) = &self else { return self };
        let code =
            fault.downcast_ref::<rusqlite::Error>().and_then(|error| error.sqlite_error_code());
        match code {
            Some(NotADatabase | DatabaseCorrupt) => {
                Self::Damaged(path.display().to_string(), fault.to_string())
            }
            _ => self,
        }
    }

    /// Said of a transaction: why what was in it is not on the disk.
    pub(crate) fn not_synced(self) -> Self {
        match self {
            Self::Database(error) => Self::NotSynced(error),
            other => other,
        }
    }

    /// SQLite says "UNIQUE constraint failed: table.column, ..."; any other constraint that fails is
    /// a hole in the rules above it.
    fn constraint(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        let Some((_, columns)) = text.split_once("UNIQUE constraint failed: ") else {
            return Self::Database(Arc::new(error));
        };
        Self::taken(columns).unwrap_or_else(|| Self::Database(Arc::new(error)))
    }

    /// What it means that a value of these columns, each `table.column`, is there already; `None` for a hole in the rules.
    pub(crate) fn taken(columns: &str) -> Option<Self> {
        if let Some((_, what)) = UNIQUE.iter().find(|(column, _)| columns.contains(column)) {
            return Some(Refusal::Exists(what).into());
        }
        if DECIDED.iter().any(|column| columns.contains(column)) {
            return Some(Self::Conflict);
        }
        // Another node has answered the same request just now: asked again, that answer is given.
        columns.contains("idempotency_answers.").then_some(Self::StillRunning)
    }
}

macro_rules! rules_refuse {
    ($($error:ty),+) => {
        $(impl From<$error> for StorageError {
            fn from(error: $error) -> Self {
                Self::Refused(error.into())
            }
        })+
    };
}

rules_refuse!(
    TokenError,
    KeyError,
    CardError,
    DeviceError,
    IssuerError,
    IntentError,
    RefundError,
    ReversalError,
    TerminalError,
    PinError,
    PolicyRefusal,
    LedgerError,
    MoneyError
);
