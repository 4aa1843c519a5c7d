//! The commands: one file for each noun.

pub(crate) mod api_key;
pub(crate) mod authorization;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod card;
pub(crate) mod card_pin;
pub(crate) mod demo;
pub(crate) mod device;
pub(crate) mod doctor;
pub(crate) mod hsm;
pub(crate) mod init;
pub(crate) mod issuer;
pub(crate) mod issuer_integrity;
pub(crate) mod merchant;
pub(crate) mod payment;
pub(crate) mod policy;
pub(crate) mod refund;
pub(crate) mod serve;
pub(crate) mod terminal;
pub(crate) mod tlv;
pub(crate) mod token;
pub(crate) mod trust;
pub(crate) mod vectors;
pub(crate) mod wallet;
pub(crate) mod wallet_pin;
