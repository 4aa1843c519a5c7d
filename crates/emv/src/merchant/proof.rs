//! The proof in `DF51`: the terminal signs what it asks for, with a number of the card in it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use tapfer_payment_types::Secret;

use super::{
    MerchantIdentity, MerchantSignature, TerminalIdentifier, TrustedMerchant, is_signed_by,
};
use crate::curve::{CurveError, PrivateKey, PublicPoint};
use crate::merchant::MerchantCertificate;

/// Keeps the proof apart from whatever else the key might sign.
const LABEL: &[u8] = b"tapfer-merchant-proof-1";

/// All that the terminal signs. Every field but the nonce is what the PDOL asks for, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MerchantProofInput {
    /// The card's answer to PRESENT MERCHANT CREDENTIAL: an old proof has another one.
    pub nonce: [u8; 8],
    /// `9E`: the proof belongs to this secure channel, and cannot be passed on to another.
    pub kernel_key_data: [u8; 64],
    /// `9F02`
    pub amount_authorized: [u8; 6],
    /// `9F03`
    pub amount_other: [u8; 6],
    /// `5F2A`
    pub currency: [u8; 2],
    /// `9F1A`
    pub country: [u8; 2],
    /// `9A`
    pub date: [u8; 3],
    /// `9C`
    pub transaction_type: u8,
    /// `9F37`
    pub unpredictable_number: [u8; 4],
    /// `9F1C`: the one in the certificate.
    pub terminal: TerminalIdentifier,
}

impl MerchantProofInput {
    /// The signed message: the label and the fields in this order, all of fixed length.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        [
            LABEL,
            &self.nonce,
            &self.kernel_key_data,
            &self.amount_authorized,
            &self.amount_other,
            &self.currency,
            &self.country,
            &self.date,
            &[self.transaction_type],
            &self.unpredictable_number,
            &self.terminal,
        ]
        .concat()
    }
}

/// Keeps the digest apart from every other one of the platform.
const REFUSED_LABEL: &[u8] = b"tapfer-refused-credential-1";

/// What stands in `DF51` when the card answered PRESENT MERCHANT CREDENTIAL with anything but a number: 32
/// zeros, which begin no signature, and SHA-256 over the label and the data that was presented.
///
/// A card that does not know the authority behind a certificate may pay an unproven terminal. By this value
/// it learns that the terminal presented just what arrived: somebody who spoils or keeps back a certificate
/// on its way would otherwise make a certified terminal pass for an unproven one.
#[must_use]
pub fn refused_credential(presented: &[u8]) -> MerchantSignature {
    let digest = Sha256::new().chain_update(REFUSED_LABEL).chain_update(presented).finalize();
    let mut value = [0; 64];
    let (_, second_half) = value.split_at_mut(32);
    second_half.copy_from_slice(&digest);
    value
}

/// Holds a terminal's key and signs with it: in software, or in a keystore, a secure element or an HSM.
pub trait MerchantSigner: fmt::Debug + Send + Sync {
    /// ECDSA over P-256 with SHA-256 of the message: r ‖ s.
    ///
    /// # Errors
    /// [`MerchantSigningError`] if the key cannot be used. Nothing is known of the payment then.
    fn sign(&self, message: &[u8]) -> Result<MerchantSignature, MerchantSigningError>;
}

/// The key could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the terminal's key could not sign ({0}): check the keystore that holds it")]
pub struct MerchantSigningError(pub String);

/// A terminal's key in software. Wiped on drop; `Debug` shows nothing of it.
pub struct MerchantPrivateKey(SigningKey);

impl MerchantPrivateKey {
    /// Draws a key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::of(&PrivateKey::generate(rng))
    }

    /// Takes a number from 1 to n-1, 32 bytes big endian.
    ///
    /// # Errors
    /// [`CurveError::Scalar`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CurveError> {
        PrivateKey::from_bytes(bytes).map(|key| Self::of(&key))
    }

    fn of(key: &PrivateKey) -> Self {
        Self(SigningKey::from(*key.non_zero_scalar()))
    }

    /// The number, 32 bytes big endian.
    #[must_use]
    pub fn to_bytes(&self) -> Secret<[u8; 32]> {
        Secret::new(self.0.to_bytes().into())
    }

    /// What the certificate certifies.
    #[must_use]
    pub fn public_key(&self) -> PublicPoint {
        PublicPoint::of(*self.0.verifying_key().as_affine())
    }
}

impl MerchantSigner for MerchantPrivateKey {
    /// The nonce follows from key and message (RFC 6979): no random source can spoil it.
    fn sign(&self, message: &[u8]) -> Result<MerchantSignature, MerchantSigningError> {
        let signature: Signature = self
            .0
            .try_sign(message)
            .map_err(|_| MerchantSigningError(String::from("the curve library refused")))?;
        Ok(signature.to_bytes().into())
    }
}

impl fmt::Debug for MerchantPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MerchantPrivateKey(..)")
    }
}

/// The proof is not the certified terminal's, or is about something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerchantProofError {
    /// The terminal names itself otherwise than its certificate does.
    #[error("the terminal identification 9F1C is not the certificate's")]
    Terminal,
    /// The signature does not verify.
    #[error("the proof DF51 does not verify: another key, another payment, or an old proof")]
    Signature,
}

/// A terminal that holds the certified key and asks for exactly this payment. Only
/// [`TrustedMerchant::verify_proof`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerchantProven {
    certificate: MerchantCertificate,
    input: MerchantProofInput,
}

impl TrustedMerchant {
    /// Checks `DF51` against what the terminal asks for.
    ///
    /// # Errors
    /// [`MerchantProofError`].
    pub fn verify_proof(
        &self,
        input: &MerchantProofInput,
        proof: &MerchantSignature,
    ) -> Result<MerchantProven, MerchantProofError> {
        let certificate = self.certificate();
        if input.terminal != certificate.terminal {
            return Err(MerchantProofError::Terminal);
        }
        if !is_signed_by(&certificate.public_key, &input.message(), proof) {
            return Err(MerchantProofError::Signature);
        }
        Ok(MerchantProven { certificate: certificate.clone(), input: *input })
    }
}

impl MerchantProven {
    /// The certificate of who proved it.
    #[must_use]
    pub const fn certificate(&self) -> &MerchantCertificate {
        &self.certificate
    }

    /// What was proven: amount, currency and the rest.
    #[must_use]
    pub const fn input(&self) -> &MerchantProofInput {
        &self.input
    }

    /// What goes into the issuer application data.
    #[must_use]
    pub fn identity(&self) -> MerchantIdentity {
        self.certificate.identity()
    }
}
