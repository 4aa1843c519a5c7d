//! EC-SDSA over P-256 with SHA-256, the optimised form with x only (ISO/IEC 14888-3; Book E 8.8.7).
use rand_core::CryptoRng;
use crate::curve::{PrivateKey, PublicX};
/// R ‖ s.
pub type Signature = [u8; 64];
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct SignatureError;
pub fn sign(key: &PrivateKey, message: &[u8], rng: &mut impl CryptoRng) -> Signature { todo!() }
/// With a nonce the caller chose, for golden vectors. None if the nonce is no scalar or gives r = 0 or s = 0.
pub fn sign_with_nonce(key: &PrivateKey, message: &[u8], nonce: &[u8; 32]) -> Option<Signature> { todo!() }
pub fn verify(key: &PublicX, message: &[u8], signature: &Signature) -> Result<(), SignatureError> { todo!() }
