//! EC-SDSA over P-256 with SHA-256, the optimised form with x only (ISO/IEC 14888-3; Book E 8.8.7).
//!
//! Nonces are plain random numbers drawn by rejection. They are not hedged with the key and the
//! message: whoever signs here (certification authority, issuer) has a good random source, and the
//! phone signs nothing with EC-SDSA.

#![expect(clippy::arithmetic_side_effects, reason = "arithmetic of the curve is modulo p and n")]

use p256::elliptic_curve::ops::{MulByGeneratorVartime, Reduce};
use p256::elliptic_curve::{Field, Group, PrimeField};
use p256::{FieldBytes, ProjectivePoint, Scalar};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::curve::{PrivateKey, PublicX};

/// R ‖ s, 32 bytes each, big endian.
pub type Signature = [u8; 64];

/// The signature was not made with this key over this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify: key, message or signature is not the signer's")]
pub struct SignatureError;

/// Signs a message so that whoever has x of the public key can verify.
pub fn sign(key: &PrivateKey, message: &[u8], rng: &mut impl CryptoRng) -> Signature {
    loop {
        if let Some(signature) = sign_with(key, message, &PrivateKey::draw(rng)) {
            return signature;
        }
    }
}

/// Signs with a nonce the caller chose, for golden vectors: a nonce used twice gives the key away.
///
/// `None` if the nonce is not 1 to n-1 or gives r = 0 or s = 0.
#[must_use]
pub fn sign_with_nonce(key: &PrivateKey, message: &[u8], nonce: &[u8; 32]) -> Option<Signature> {
    sign_with(key, message, &PrivateKey::from_bytes(nonce).ok()?)
}

/// R = SHA-256(x(k·G) ‖ M), r = R mod n, s = k + r·d mod n.
fn sign_with(key: &PrivateKey, message: &[u8], nonce: &PrivateKey) -> Option<Signature> {
    let commitment = commit(nonce.public_x().bytes(), message);
    let r = reduce(&commitment);
    let s = *nonce.scalar() + r * key.signing_scalar().expose();
    let degenerate = bool::from(r.is_zero() | s.is_zero());
    (!degenerate).then(|| join(&commitment, &s.to_repr().into()))
}

/// Verifies: x(s·G - r·Q), hashed again, must equal R; 0 < s < n, r > 0.
///
/// Runs in variable time: nothing here is secret.
///
/// # Errors
/// [`SignatureError`], whatever the reason.
pub fn verify(key: &PublicX, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
    let (commitment, s_bytes) = split(signature);
    let s = Option::<Scalar>::from(Scalar::from_repr(FieldBytes::from(s_bytes)))
        .ok_or(SignatureError)?;
    let r = reduce(&commitment);
    let public = ProjectivePoint::from(*key.point());
    let point = ProjectivePoint::mul_by_generator_and_mul_add_vartime(&s, &-r, &public);
    if bool::from(r.is_zero() | s.is_zero() | point.is_identity()) {
        return Err(SignatureError);
    }
    let recomputed = commit(PublicX::of(point.to_affine()).bytes(), message);
    if bool::from(recomputed.ct_eq(&commitment)) { Ok(()) } else { Err(SignatureError) }
}

fn commit(x: &[u8; 32], message: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(x).chain_update(message).finalize().into()
}

fn reduce(commitment: &[u8; 32]) -> Scalar {
    <Scalar as Reduce<FieldBytes>>::reduce(&FieldBytes::from(*commitment))
}

fn join(commitment: &[u8; 32], s: &[u8; 32]) -> Signature {
    let mut signature = [0; 64];
    let (left, right) = signature.split_at_mut(32);
    left.copy_from_slice(commitment);
    right.copy_from_slice(s);
    signature
}

fn split(signature: &Signature) -> ([u8; 32], [u8; 32]) {
    let (mut commitment, mut s) = ([0; 32], [0; 32]);
    let (left, right) = signature.split_at(32);
    commitment.copy_from_slice(left);
    s.copy_from_slice(right);
    (commitment, s)
}
