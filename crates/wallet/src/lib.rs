//! The phone as a payment card: the card side of Kernel 8, limited-use keys, the transaction
//! counter, the verification policy and the sealed store. No secure hardware in the phone is needed.
//!
//! Ground floor: no IO, no clock, no random source, no thread. The device brings time, randomness,
//! its own state and the command bytes; it gets back effects to carry out in order:
//!
//! * [`Card`] answers a reader's commands, one at a time ([`Card::handle`]).
//! * [`Wallet`] holds the tokens; it asks the platform for keys ([`Wallet::replenish_request`]) and
//!   takes its answer ([`Wallet::accept`]).
//! * [`store`] seals a [`Snapshot`] of the wallet for whatever the device stores things in, under a key
//!   that the platform has a share in, and opens it again.
//! * [`policy`] decides when the person must be asked, [`pin`] keeps the person's key, [`texts`] has the
//!   words for the person.
//!
//! Whatever must survive a crash comes out as a [`Snapshot`]; the device replaces the stored one
//! atomically. In a payment the snapshot always stands in front of the reply that depends on it.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod card;
mod clock;
mod configuration;
mod data_storage;
mod device;
mod effect;
mod enrolment;
mod keys;
mod payment;
mod person;
pub mod pin;
pub mod policy;
mod secret_bytes;
pub mod store;
pub mod texts;
mod token;
mod wallet;

pub use card::Card;
pub use configuration::{ConfiguredBy, OtherKeyKnown, PlatformRestored};
pub use device::DeviceState;
pub use effect::{CredentialFault, Effect, Effects, Notification, ProvenMerchant};
pub use enrolment::{AcceptError, KeyGrantError};
pub use payment::PaymentAmount;
pub use person::ChooseLevelError;
pub use store::{Snapshot, StoreError};
pub use token::{Readiness, Token};
pub use wallet::{UnknownToken, Wallet};
