//! Where the platform keeps what it knows: traits in the platform's words ([`Storage`] and its
//! parts), and two implementations of them: in one file ([`sqlite`]), and in a database of many platforms
//! ([`postgres`]).
//!
//! Every change is one method, and one method is one transaction: the change itself, its line in the
//! audit log and the answer kept for its idempotency key are written together or not at all. No
//! transaction is ever visible from outside, so none can be open while an HSM works or a network
//! answers.
//!
//! All calls block until the data is on the disk (changes) or read (reads). Asynchronous callers
//! bring their own threads.
//!
//! Card and token numbers arrive here sealed by the HSM, with a keyed hash to find them by. No
//! number in clear is in any table; the last four digits are.

mod decided;
mod error;
pub mod faults;
mod hot;
mod idempotency;
mod journal;
mod page;
pub mod partitions;
pub mod postgres;
mod reader;
mod records;
mod relational;
pub mod sqlite;
mod stand_in;
mod store;
mod undecided;
mod write;

pub use error::{Inconsistency, Refusal, StorageError};
pub use idempotency::{
    AnswerKey, Begun, Difference, IdempotencyClaim, IdempotencyKey, IdempotencyKeyError, Running,
};
pub use journal::{JournalFault, reads_back};
pub use page::{Page, Slice};
pub use reader::DatabaseReader;
pub use records::{
    AuditRecord, AuthorizationFilter, CardAccount, CardChange, ChainReport, Challenge, Closing,
    CommitAuthorization, FactsQuery, LedgerEntry, NewRefund, NewReversal, PersonKeyChange,
    PublishedConfiguration, RefundFilter, SealedNumber, StoredPersonKey, TokenFilter, TokenPerson,
    TopUp,
};
pub use relational::key_uses::KeyUse;
pub use relational::retention::{EndedRows, RetentionReport};
pub use relational::soundness::{Checked, Soundness, Unsound};
pub use stand_in::{
    SharedDatabase, StandIn, StandInLimits, StandInLimitsError, StandInRefusal, StandInStatus,
    TellTime, Unbooked, stand_in_reads_back, unbooked_in_journal,
};
pub use store::{
    AccessStore, AuditStore, AuthorizationStore, CardStore, CatalogueStore, ConfigurationStore,
    DeviceStore, IdempotencyStore, IntegrityStore, IntentStore, IssuerStore, LedgerStore, Load,
    MerchantStore, PinStore, PolicyStore, RefundStore, RetentionStore, ReversalStore,
    RevocationStore, Sharing, Storage, TerminalStore, TokenStore, Turn,
};
pub use undecided::{Evidence, Made, PresentedToken, Undecided};
pub use write::{Answer, StoredResponse, Write, Written};
