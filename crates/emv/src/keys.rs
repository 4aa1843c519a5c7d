//! The stages of a card's symmetric keys, each its own type: issuer master key → token key → limited-use key → session key.
use tapfer_payment_types::{PanSequenceNumber, Secret, Timestamp, TokenPan};
/// AES-128 (the platform's own), wiped. In production it never leaves the HSM; the software HSM and tests hold it.
pub struct IssuerMasterKey(/* Secret<[u8;16]> */ Secret<[u8; 16]>);
pub struct TokenKey(Secret<[u8; 16]>);
pub struct LimitedUseKey(Secret<[u8; 16]>);
pub struct SessionKey(Secret<[u8; 16]>);
/// Class byte of a limited-use key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyClass { /** 01: usable without verifying the person */ Unverified, /** 02 */ Verified }
/// YHHHHCC: last digit of the year, hour of the year from 0001, counter within the hour. 7 digits packed into 4 bytes with a zero in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyIndex { year_digit: u8, hour_of_year: u16, counter: u8 }
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key index is seven digits YHHHHCC with the hour of the year from 0001 to 8784")]
pub struct KeyIndexError;
impl KeyIndex {
    pub fn at(now: Timestamp, counter: u8) -> Result<Self, KeyIndexError> { todo!() }
    pub fn to_bytes(self) -> [u8; 4] { todo!() }
    pub fn from_bytes(bytes: [u8; 4]) -> Result<Self, KeyIndexError> { todo!() }
    // Display/FromStr as seven digits
}
impl IssuerMasterKey { pub fn new(key: [u8; 16]) -> Self { Self(Secret::new(key)) } pub fn expose(&self) -> &[u8; 16] { self.0.expose() }
    /// Book E option C: AES-ECB(IMK, padded PAN‖PSN).
    pub fn token_key(&self, pan: &TokenPan, sequence: PanSequenceNumber) -> TokenKey { todo!() } }
impl TokenKey { pub fn new(key: [u8; 16]) -> Self { Self(Secret::new(key)) } pub fn expose(&self) -> &[u8; 16] { self.0.expose() }
    pub fn limited_use_key(&self, class: KeyClass, index: KeyIndex) -> LimitedUseKey { todo!() }
    /// A card's session key without a limited-use key between (published vectors, cards of others).
    pub fn session_key(&self, application_transaction_counter: u16) -> SessionKey { todo!() } }
impl LimitedUseKey { pub fn new(key: [u8; 16]) -> Self { Self(Secret::new(key)) } pub fn expose(&self) -> &[u8; 16] { self.0.expose() }
    pub fn session_key(&self, application_transaction_counter: u16) -> SessionKey { todo!() } }
impl SessionKey { pub fn new(key: [u8; 16]) -> Self { Self(Secret::new(key)) } pub fn expose(&self) -> &[u8; 16] { self.0.expose() } }
