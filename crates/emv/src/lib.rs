//! EMV building blocks for both sides of a tap and for the platform behind it.
//!
//! Encoding: [`tlv`], [`dol`], [`apdu`], [`status`], [`tags`], [`tvr`], and the card's static side in
//! [`profile`]. For people: [`tlv_tree`], [`meaning`].
//! Cryptography: [`curve`], [`ecsdsa`], [`channel`], [`mac`], [`certificate`], [`keys`],
//! [`cryptogram`], [`iad`], [`own_checks`], [`triple_des`]; who asks for the payment: [`merchant`];
//! what the platform signs: [`document`].
//!
//! Ground floor: no IO, no clock, no random source. "Book E" and "Book C-8" are EMVCo's contactless
//! security book and Kernel 8 book, version 1.1.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod apdu;
pub mod audit_chain;
pub mod certificate;
pub mod channel;
pub mod configuration;
pub mod cryptogram;
pub mod curve;
pub mod document;
pub mod dol;
pub mod ecsdsa;
pub mod iad;
pub mod keys;
pub mod mac;
pub mod meaning;
pub mod merchant;
pub mod own_checks;
pub mod packed_decimal;
pub mod person_key;
pub mod profile;
pub mod status;
pub mod tags;
pub mod tlv;
pub mod tlv_tree;
pub mod triple_des;
pub mod tvr;
