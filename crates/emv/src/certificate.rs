//! Issuer certificate `90` and ICC certificate `9F46` (Book E chapter 5).
use alloc::vec::Vec;
use tapfer_payment_types::{PanError, Timestamp};
use crate::curve::PublicX;
use crate::ecsdsa::Signature;
/// Registered application provider identifier: first five bytes of an AID.
pub type Rid = [u8; 5];
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaPublicKey { pub rid: Rid, pub index: u8, pub key: PublicX }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateDate { pub year: u16, pub month: u8, pub day: u8 }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerCertificate { /** leading PAN digits, F padded */ pub issuer_identifier: [u8; 5], pub expiry: CertificateDate, pub serial: [u8; 3], pub rid: Rid, pub ca_index: u8, pub public_key: PublicX, pub signature: Signature }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IccCertificate { pub expiry: CertificateDate, pub hour: u8, pub minute: u8, pub serial: [u8; 6], pub sda_hash: [u8; 32], pub public_key: PublicX, pub signature: Signature }
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError { /* length, header, suite, date, not hex digits, expired, wrong RID, wrong CA index, issuer identifier does not match PAN, hash, signature */ }
impl IssuerCertificate {
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> { todo!() }
    /// All fields before the signature: what the CA signs.
    pub fn message(&self) -> Vec<u8> { todo!() }
    pub fn encode(&self) -> Vec<u8> { todo!() }
    pub fn verify(&self, ca: &CaPublicKey, now: Timestamp) -> Result<(), CertificateError> { todo!() }
    /// Leading digits of the card number must be the certificate's.
    pub fn matches_pan(&self, pan_digits: &str) -> bool { todo!() }
}
impl IccCertificate {
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> { todo!() }
    pub fn message(&self) -> Vec<u8> { todo!() }
    pub fn encode(&self) -> Vec<u8> { todo!() }
    pub fn verify(&self, issuer: &PublicX, sda_hash: &[u8; 32], now: Timestamp) -> Result<(), CertificateError> { todo!() }
    pub fn expires_at(&self) -> Timestamp { todo!() }
}
/// SDA hash: signed records' values ‖ TLVs of the extended SDA tag list ‖ AIP value.
pub fn sda_hash(signed_record_values: &[&[u8]], extended_sda_tlvs: &[u8], aip: [u8; 2]) -> [u8; 32] { todo!() }
#[allow(dead_code)] fn unused(_: PanError) {}
