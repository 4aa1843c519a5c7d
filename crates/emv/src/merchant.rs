//! Who asks for the payment: the terminal's certificate `A2 00` from the merchant CA, and the proof in
//! `DF51` that it holds the certified key. Ours; no EMV book has it (`docs/adr/0008-merchant-proof.md`).
//!
//! ```text
//! MerchantCertificate ──verify(CA, now)──► TrustedMerchant ──verify_proof(input)──► MerchantProven
//! ```
//!
//! Each step makes the next one's only input, so that nobody can show a name whose proof was not
//! checked. ECDSA over P-256 with SHA-256, because every HSM and every phone's keystore has it.

mod certificate;
mod name;
mod proof;

pub use certificate::{
    MerchantCaKey, MerchantCertificate, MerchantCertificateError, TrustedMerchant,
};
pub use name::{MerchantName, MerchantNameError};
pub use proof::{
    MerchantPrivateKey, MerchantProofError, MerchantProofInput, MerchantProven, MerchantSigner,
    MerchantSigningError, refused_credential,
};

use core::fmt;
use core::num::NonZeroU64;

use p256::ecdsa::signature::Verifier;
use sha2::{Digest, Sha256};

use crate::curve::PublicPoint;

/// `9F01`: the acquirer, eleven digits and a zero in front, two to a byte.
pub type AcquirerId = [u8; 6];
/// `9F16`: printable ASCII, filled with spaces on the right.
pub type MerchantIdentifier = [u8; 15];
/// `9F1C`: printable ASCII.
pub type TerminalIdentifier = [u8; 8];
/// r ‖ s, 32 bytes each, big endian (FIPS 186-5). Either of s and n - s is taken, because HSMs and
/// keystores give either.
pub type MerchantSignature = [u8; 64];

/// Keeps the digest apart from every other one of the platform.
const IDENTITY_LABEL: &[u8] = b"tapfer-merchant-identity-1";

/// Which terminal of which merchant, in eight bytes: what the issuer application data has room for.
/// Never zero: zeros say that nobody proved anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MerchantIdentity(NonZeroU64);

impl MerchantIdentity {
    /// The first eight bytes of SHA-256 over the label and the three identifiers, which are all of
    /// fixed length.
    #[must_use]
    pub fn of(
        acquirer: &AcquirerId,
        merchant: &MerchantIdentifier,
        terminal: &TerminalIdentifier,
    ) -> Self {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(IDENTITY_LABEL)
            .chain_update(acquirer)
            .chain_update(merchant)
            .chain_update(terminal)
            .finalize()
            .into();
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            digest;
        // One digest in 2^64 begins with zeros; it must not read as "nobody".
        Self::from_bytes(first).unwrap_or(Self(NonZeroU64::MAX))
    }

    /// Reads the eight bytes; zeros are `None`: no merchant was proven.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        match NonZeroU64::new(u64::from_be_bytes(bytes)) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The eight bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for MerchantIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

impl fmt::Debug for MerchantIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MerchantIdentity({self})")
    }
}

/// Whether `signature` over `message` is the key's. Variable time: nothing here is secret.
#[must_use]
pub fn is_signed_by(key: &PublicPoint, message: &[u8], signature: &MerchantSignature) -> bool {
    let key = p256::ecdsa::VerifyingKey::from_affine(*key.point());
    let signature = p256::ecdsa::Signature::from_slice(signature);
    match (key, signature) {
        (Ok(key), Ok(signature)) => key.verify(message, &signature).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::MerchantIdentity;

    const ACQUIRER: [u8; 6] = [0x00, 0, 0, 0x12, 0x34, 0x56];
    const MERCHANT: &[u8; 15] = b"M00000000000042";
    const TERMINAL: &[u8; 8] = b"T0000001";

    #[test]
    fn an_identity_is_the_beginning_of_a_digest() {
        // printf 'tapfer-merchant-identity-1\x00\x00\x00\x12\x34\x56M00000000000042T0000001' | sha256sum
        let identity = MerchantIdentity::of(&ACQUIRER, MERCHANT, TERMINAL);
        assert_eq!(identity.to_string(), "AC07A38B456E1531");
        assert_eq!(MerchantIdentity::from_bytes(identity.bytes()), Some(identity));
        assert_eq!(MerchantIdentity::from_bytes([0; 8]), None);
    }

    #[test]
    fn every_identifier_counts() {
        let identity = MerchantIdentity::of(&ACQUIRER, MERCHANT, TERMINAL);
        assert_ne!(MerchantIdentity::of(&[0; 6], MERCHANT, TERMINAL), identity);
        assert_ne!(MerchantIdentity::of(&ACQUIRER, b"M00000000000043", TERMINAL), identity);
        assert_ne!(MerchantIdentity::of(&ACQUIRER, MERCHANT, b"T0000002"), identity);
    }
}
