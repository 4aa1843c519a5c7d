//! The words every other crate speaks: money and currencies, card numbers, typed ids, timestamps,
//! secrets, and the messages that phone and platform exchange.
//!
//! Ground floor: no IO, no clock, no random source. Time and randomness come in as arguments.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod catalogue_mark;
pub mod configuration;
pub mod data_storage;
pub mod id;
pub mod language;
pub mod messages;
pub mod money;
pub mod pan;
pub mod pin;
pub mod planted;
pub mod policy;
pub mod secret;
pub mod store_share;
pub mod timestamp;

pub use catalogue_mark::CatalogueMark;
pub use id::{
    ApiKeyId, AuthorizationId, CardId, DeviceId, IssuerId, LedgerEntryId, MerchantId,
    PaymentIntentId, RealmId, RefundId, ReversalId, TerminalCertificateId, TerminalId, TokenId,
};
pub use language::Language;
pub use money::{Currency, Money, MoneyError};
pub use pan::{Pan, PanError, PanSequenceNumber, TokenPan};
pub use pin::{Pin, PinError};
pub use secret::Secret;
pub use timestamp::Timestamp;
