//! Application cryptograms of the AES card (Book E chapters 3 and 4), and the proof that one was verified.
use alloc::vec::Vec;
use crate::keys::SessionKey;
/// The 29 bytes from the terminal, then AIP, ATC and the IAD with its MAC in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CryptogramInput { pub amount_authorized: [u8; 6], pub amount_other: [u8; 6], pub terminal_country: [u8; 2], pub tvr: [u8; 5], pub currency: [u8; 2], pub date: [u8; 3], pub transaction_type: u8, pub unpredictable_number: [u8; 4], pub aip: [u8; 2], pub application_transaction_counter: u16, pub issuer_application_data: Vec<u8> }
impl CryptogramInput { pub fn encode(&self) -> Vec<u8> { todo!() } }
/// First 8 bytes of AES-CMAC(session key, input).
pub fn application_cryptogram(key: &SessionKey, input: &[u8]) -> [u8; 8] { todo!() }
/// ARPC = first 8 bytes of AES-CMAC(SK, ARQC ‖ response code ‖ six zeros).
pub fn response_cryptogram(key: &SessionKey, arqc: &[u8; 8], response_code: &[u8; 2]) -> [u8; 8] { todo!() }
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptogram is not what the card's key gives for this data")]
pub struct CryptogramMismatch;
/// Proof that a cryptogram was compared and found equal; only [`verify`] makes one. Not Clone, not Copy: one payment, one proof.
#[derive(Debug)]
pub struct CryptogramVerified { application_transaction_counter: u16 }
impl CryptogramVerified { pub fn application_transaction_counter(&self) -> u16 { self.application_transaction_counter } }
/// Constant-time comparison of what the card sent with what `oracle` (an HSM, or the software in its place) computed for exactly this input.
pub fn verify(input: &CryptogramInput, received: &[u8; 8], oracle: impl FnOnce(&[u8]) -> [u8; 8]) -> Result<CryptogramVerified, CryptogramMismatch> { todo!() }
