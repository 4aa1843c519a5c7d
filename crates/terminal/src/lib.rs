//! The terminal: entry point, Kernel 8, outcomes and arming.
//!
//! A sans-IO core: it owns no reader, no clock and no random source. Whoever drives it sends the
//! commands it asks for, and brings answers, measured times and random numbers as arguments.
//!
//! - [`Terminal`]: armed for one payment ([`Arming`]), it takes a [`Tap`], which ends in an
//!   [`OnlinePayment`], a [`PinEntry`] before that, a decision, or an invitation to try again ([`TapEnd`]).
//! - [`MerchantCredential`]: what it proves to phones that ask who wants to be paid.
//! - [`profile`]: its set-up as data, as it stands in a file.
//! - [`entry_point`]: which of the card's applications to try.
//! - [`kernel8`]: the dialogue with one application, to its outcome.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod arming;
mod authorization;
pub mod entry_point;
pub mod kernel8;
mod merchant_proof;
mod messages;
mod online_pin;
pub mod profile;
mod reasons;
mod tap;
mod terminal;

pub use arming::{Arming, ArmingError};
pub use authorization::{AuthorizationRequest, HostDecision, PaymentState, Receipt};
pub use merchant_proof::{MerchantCredential, WithoutProof};
pub use messages::Language;
pub use online_pin::{PinEntry, PinNotSealed, PinRecipient, PinRecipientError, PinSealError};
pub use tap::{Tap, TapAction, TapEnd, TapError};
pub use terminal::{
    Armed, NotArmed, NotTapped, NotTappedError, OnlinePayment, Terminal, TerminalConfiguration,
    Unarmed,
};
