//! The static side of a Kernel 8 card: what the issuer personalises and the card later sends. The platform builds it, the wallet plays it,
//! both compute the same SDA hash from it.
use alloc::vec::Vec;
/// One record of the card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record { pub short_file_identifier: u8, pub number: u8, /** value of template 70, without 70 and length */ pub value: Vec<u8>, pub encrypted: bool, pub signed: bool }
/// Everything that is fixed for a token: AID, label, AIP, PDOL, CDOL1, extended SDA tag list, records (but the ICC certificate, which is renewed with the keys).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardProfile { pub aid: Vec<u8>, pub label: Vec<u8>, pub aip: [u8; 2], pub pdol: Vec<u8>, pub cdol1: Vec<u8>, pub records: Vec<Record> }
/// What a profile is made from.
pub struct Personalisation<'a> { pub aid: &'a [u8], pub label: &'a str, pub token_pan: &'a str, pub sequence: u8, pub expiry: crate::certificate::CertificateDate, pub issuer_country: u16, pub ca_index: u8, pub issuer_certificate: &'a [u8] }
impl CardProfile { pub fn personalise(p: &Personalisation<'_>) -> Self { todo!() }
  pub fn sda_hash(&self) -> [u8; 32] { todo!() }
  pub fn application_file_locator(&self) -> Vec<u8> { todo!() } }
