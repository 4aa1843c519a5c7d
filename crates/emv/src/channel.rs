//! The secure channel of Book E chapter 7: blinded Diffie-Hellman, then AES-CTR for records and CMACs for integrity.
use alloc::vec::Vec;
use rand_core::CryptoRng;
use crate::curve::{CurveError, PrivateKey, PublicPoint, PublicX};
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError { /* counter exhausted at FFFF; bad MAC; bad point; too short */ }
/// SKc and SKi with the two message counters. Wiped on drop. Neither Clone nor Debug of keys.
pub struct SecureChannel { /* skc, ski, card_counter: u16 (starts 8000), kernel_counter: u16 (starts 0000) */ }
/// What the card sends as `9F8103`: x of the blinded key ‖ encrypted blinding factor, 64 bytes.
pub type CardKeyData = [u8; 64];
impl SecureChannel {
    /// Card side: fresh blinding factor from rng. Uses counter 8000.
    pub fn card(card_key: &PrivateKey, kernel_key: &PublicPoint, rng: &mut impl CryptoRng) -> Result<(Self, CardKeyData), ChannelError> { todo!() }
    /// Card side with a given blinding factor (golden vectors).
    pub fn card_with_blinding_factor(card_key: &PrivateKey, kernel_key: &PublicPoint, factor: &[u8; 32]) -> Result<(Self, CardKeyData), ChannelError> { todo!() }
    /// Kernel side: derives the keys and recovers the blinding factor. The check of the factor comes later: `BlindingFactor::check`.
    pub fn kernel(kernel_key: &PrivateKey, card_key_data: &CardKeyData) -> Result<(Self, BlindingFactor), ChannelError> { todo!() }
    /// Test and vector tooling: the channel from its parts.
    pub fn from_session_keys(skc: [u8; 16], ski: [u8; 16], card_counter: u16, kernel_counter: u16) -> Self { todo!() }
    /// Encrypts the value of a record (card side; counter moves by one).
    pub fn encrypt_record(&mut self, value: &[u8]) -> Result<Vec<u8>, ChannelError> { todo!() }
    /// Decrypts the value of a `DA` record (kernel side).
    pub fn decrypt_record(&mut self, value: &[u8]) -> Result<Vec<u8>, ChannelError> { todo!() }
    /// READ DATA: card seals / kernel opens (encrypted TLV ‖ 8-byte MAC).
    pub fn seal_read_data(&mut self, plain: &[u8]) -> Result<Vec<u8>, ChannelError> { todo!() }
    pub fn open_read_data(&mut self, answer: &[u8]) -> Result<Vec<u8>, ChannelError> { todo!() }
    /// WRITE DATA: kernel encrypts / card decrypts, and the 8-byte MAC over the plain TLV.
    pub fn encrypt_write_data(&mut self, plain: &[u8]) -> Result<(Vec<u8>, [u8; 8]), ChannelError> { todo!() }
    pub fn decrypt_write_data(&mut self, data: &[u8]) -> Result<(Vec<u8>, [u8; 8]), ChannelError> { todo!() }
    pub fn iad_mac(&self, input: &IadMacInput<'_>) -> [u8; 8] { todo!() }
    pub fn eda_mac(&self, application_cryptogram: &[u8; 8], iad_mac: &[u8; 8]) -> [u8; 8] { todo!() }
}
/// What the IAD-MAC covers, in order (Book E; see kernel-8 facts).
pub struct IadMacInput<'a> { pub pdol_values: &'a [u8], pub cdol1_values: &'a [u8], /** entropy (4) and last ERRD answer value (10) */ pub relay_resistance: Option<(&'a [u8; 4], &'a [u8; 10])>, pub generate_ac_tlvs: &'a [u8], pub sda_hash: &'a [u8; 32] }
/// r, recovered by the kernel. Wiped on drop.
pub struct BlindingFactor(/* secret 32 bytes */ PublicX);
impl BlindingFactor { /// r·Qc must give Pc.
    pub fn check(&self, card_public_key: &PublicX) -> Result<(), ChannelError> { todo!() } }
#[allow(dead_code)] fn unused(_: CurveError) {}
