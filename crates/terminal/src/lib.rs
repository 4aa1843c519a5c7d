//! The terminal: entry point, Kernel 8, outcomes and arming.
//!
//! A sans-IO core: it owns no reader, no clock and no random source. Whoever drives it sends the
//! commands it asks for, and brings answers, measured times and random numbers as arguments.
//!
//! - [`Terminal`]: armed for one payment ([`Arming`]), it takes a [`Tap`], which ends in an
//!   [`OnlinePayment`], a decision, or an invitation to try again ([`TapEnd`]).
//! - [`entry_point`]: which of the card's applications to try.
//! - [`kernel8`]: the dialogue with one application, to its outcome.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod arming;
mod authorization;
pub mod entry_point;
pub mod kernel8;
mod terminal;

pub use arming::{Arming, ArmingError};
pub use authorization::{AuthorizationRequest, HostDecision, PaymentState, Receipt};
pub use terminal::{
    Armed, NotArmed, OnlinePayment, Tap, TapAction, TapEnd, Terminal, TerminalConfiguration,
    Unarmed,
};
