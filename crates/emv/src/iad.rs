//! Issuer application data `9F10` of the platform's own cards, 32 bytes, cryptogram version `C8` (docs/ARCHITECTURE.md).
use crate::keys::{KeyClass, KeyIndex};
/// Offset of the IAD-MAC, as the card says in `9F8107`.
pub const IAD_MAC_OFFSET: u8 = 24;
/// How the person was verified on the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerificationMethod { None, DeviceUnlock, Pin }
/// [3..9] of the IAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationResults { pub method: VerificationMethod, pub screen_on: bool, pub unlocked: bool, pub key_class: KeyClass, pub merchant_proven: bool, pub relay_checked: bool, /** 0 = no verdict */ pub integrity_verdict: u8 }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerApplicationData { pub derivation_key_index: u8, pub results: VerificationResults, pub key_index: KeyIndex, pub policy_version: u32, pub iad_mac: [u8; 8] }
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IadError { }
impl IssuerApplicationData { pub fn encode(&self) -> [u8; 32] { todo!() } pub fn parse(bytes: &[u8]) -> Result<Self, IadError> { todo!() } }
