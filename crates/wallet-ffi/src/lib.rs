//! The wallet for apps, in Kotlin, Swift and Python.
//!
//! A thin layer over `tapfer_wallet`: it maps types, carries out the card's effects in their order, and
//! brings time and randomness with it. It decides nothing, and it speaks to no network: what goes to
//! the platform and what comes from it passes through as JSON text, so that the app's own HTTP client
//! carries it.
//!
//! ```text
//! app                                     TapferWallet                      storage of the app
//!  │ open(storage, device secret) ───────────► │ ── load ──────────────────────► │
//!  │ registration_request ► issuer             │                                 │
//!  │ replenish_request ─► POST .../replenish   │                                 │
//!  │ accept(answer) ─────────────────────────► │ ── replace, durable ──────────► │
//!  │                                           │                                 │
//!  │ handle_apdu(command, device state) ─────► │ ── replace, durable ──────────► │
//!  │ ◄──────────────────── response and news ──┤    then the reply               │
//! ```
//!
//! # Threads
//! Every method may be called from any thread; one waits for the other. Storage is called while the
//! wallet is held: a storage that calls the wallet waits for itself for ever.
//!
//! # When something breaks
//! Errors are values with a text for developers. A panic does not cross into the app: it is caught, what was in
//! memory is wiped, and every later call answers [`WalletError::Closed`]; the app opens the wallet
//! again from what it stored last. This needs a build that unwinds, which is what Cargo makes by default.
//!
//! # Secrets
//! What an app hands over is wiped here when it has been used. On its way it passes through buffers of
//! the app's language and of the binding layer, which wipe nothing.

mod error;
mod file_storage;
mod news;
mod opened;
mod person;
mod policy;
mod records;
mod storage;
mod surroundings;
mod wallet;

pub use error::WalletError;
pub use file_storage::file_storage;
pub use news::{Merchant, News};
pub use policy::Policy;
pub use records::{Amount, DataEnvelope, DeviceState, Readiness, TapReply, TokenStatus};
pub use storage::{StorageError, WalletStorage};
pub use wallet::{TapferWallet, store_report};

uniffi::setup_scaffolding!();
