//! The rules: who may pay whom, when, and what is booked.
//!
//! Entities with their states: [`issuers`], [`cards`], [`devices`] and the platform's share in their stores
//! ([`store_shares`]), [`tokens`] and their [`keys`], [`policies`] and [`pins`], [`revocations`], [`merchants`],
//! [`terminals`], [`intents`], [`access`]. What happens to money: [`authorization`] decides,
//! [`ledger`] books, [`refunds`] and [`reversals`] give back. [`audit`] names what is recorded.
//!
//! Ground floor: everything is a function of its arguments. Nothing here stores, sends, waits or
//! asks for the time; an impossible state change is an error value and a declined payment is an
//! outcome, not an error. Serde is derived for the words that cross the edge (states, actors,
//! reasons); the entities themselves are not the API and are not serialised as they stand.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod access;
pub mod audit;
pub mod audit_chain;
pub mod authorization;
pub mod cards;
pub mod devices;
pub mod integrity;
pub mod intents;
pub mod issuers;
pub mod keys;
pub mod ledger;
pub mod merchants;
pub mod pins;
pub mod policies;
pub mod refunds;
pub mod retention;
pub mod reversals;
pub mod revocations;
pub mod store_shares;
pub mod terminals;
pub mod tokens;
mod words;

pub use words::UnknownWord;
