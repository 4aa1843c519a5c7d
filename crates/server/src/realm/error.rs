//! Why a realm cannot be created or opened.

use std::io;
use std::path::PathBuf;

use tapfer_hsm::HsmError;
use tapfer_payment_types::RealmId;
use tapfer_storage::StorageError;

use crate::entropy::EntropyError;
use crate::members::MemberError;

/// Why a realm cannot be created or opened.
#[derive(Debug, thiserror::Error)]
pub enum RealmError {
    /// There is one already.
    #[error("there is a realm in {0} already; open it, or name another directory")]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no realm in {0}; create one, or name the right directory")]
    Missing(PathBuf),
    /// The description is not one that this program reads.
    #[error(
        "{0} does not describe a realm that this program can open; use the program that made it"
    )]
    Unreadable(PathBuf),
    /// The keystore is not that of the realm.
    #[error(
        "the keystore in {0} is not the one that realm.json describes; restore both from one backup"
    )]
    Mixed(PathBuf),
    /// Another process has it open.
    #[error("the realm in {0} is in use by another process; stop that one first")]
    InUse(PathBuf),
    /// Parts of a realm, but not what describes it.
    #[error(
        "{0} holds keys or a database of a realm, but no realm.json; restore it from a backup, or name \
         another directory"
    )]
    Undescribed(PathBuf),
    /// Somebody else may put files into the directory.
    #[error(
        "others may write into {path} (mode {mode:04o}), so what lies there cannot be trusted; run: \
         chmod 700 {path:?}, or name a directory in it"
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something was done, and the second line about it could not be written.
    #[error(
        "{what} WAS DONE; only the audit log could not be told, which knows that it was ordered: {why}. Do not do it \
         again; look at `tapfer keys list`, and write down what was done"
    )]
    Unrecorded {
        /// What was done.
        what: String,
        /// Why the log does not say so.
        why: String,
    },
    /// Something was not done, and the second line about it could not be written either.
    #[error("{stopped}. The audit log could not be told, which knows that it was ordered: {why}")]
    NotWritten {
        /// Why it was not done.
        stopped: String,
        /// Why the log does not say so.
        why: String,
    },
    /// The audit log was changed.
    #[error("the audit log is not as it was written: {0}")]
    AuditChain(String),
    /// `database.toml` names no database that can be used.
    #[error("{path}: {why}")]
    Database {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A new realm was to be made, and the database has one.
    #[error(
        "{path} names the database of {realm}, and there are no keys of it here; nothing was made. If this is to be a further node of that \
         realm, copy the first one's realm.json, keystore (or write an hsm.toml), keys.json, operator.key, configuration.key and tls/ \
         (docs/postgresql.md); else name another database"
    )]
    TakenDatabase {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        realm: RealmId,
    },
    /// The realm has no database in its directory.
    #[error(
        "the realm in {0} is kept in the PostgreSQL database that its database.toml names, and in no file; a tapfer.db beside it is not \
         the realm's"
    )]
    KeptInPostgres(PathBuf),
    /// The file system.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Two places for the root keys.
    #[error(
        "{0} holds a keystore and an hsm.toml, and the root keys are in one of them; take the other one away"
    )]
    TwoPlaces(PathBuf),
    /// Neither.
    #[error("there is no hsm.toml in {0}; write one, or name the right directory")]
    NoHsms(PathBuf),
    /// No HSM of a realm serves that is to be opened, and none will before a person has put something right.
    #[error(
        "no HSM of this realm serves ({0}), so nothing was started. That needs a person: put it right (tapfer doctor looks \
         at hsm.toml, libraries and PIN files), and start again"
    )]
    NoneServes(String),
    /// No HSM of a realm answers that is to be opened. One may by itself, at any time.
    #[error(
        "no HSM of this realm serves ({0}), so nothing was started. One that is away may come back by itself, as \
         tapfer doctor sees: start again then"
    )]
    NoneAnswers(String),
    /// `hsm.toml`.
    #[error(transparent)]
    Members(#[from] MemberError),
    /// Keys were changed, and the database has not heard of it.
    #[error(
        "the keys were changed, but the database could not be told which catalogue is the newest now: {0}; run \
         `tapfer keys list` to see what was done, and let the platform serve, which tells it"
    )]
    NotNoted(Box<Self>),
    /// The security module.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
