//! Parts of a secret, so that no one person holds it: any `threshold` of them give it back, fewer say
//! nothing about it (Shamir 1979, bytewise over the field of 256 elements).
//!
//! Each part is the value of a random polynomial at the part's number; the secret is its value at zero.
//! Written here rather than taken: the crates there are look values up in tables, which the processor's
//! cache gives away, or bring a library of curves with them (ADR 17).

mod error;
mod field;
mod letters;
mod part;
mod roots;

pub use error::SharingError;
pub use part::{Part, PartReader};
pub use roots::{RandomSource, check_value};

use std::fmt;

use aws_lc_rs::digest;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use tapfer_payment_types::Secret;

/// No more parts than this, and no fewer than two have to come together.
const MAXIMUM_PARTS: u8 = 16;
/// Comes before a secret in the hash that tells whether the right one was rebuilt.
const CHECK_CONTEXT: &[u8] = b"tapfer shared secret 1";

/// What kind of secret was shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// A realm's root keys: sealing root, then releasing root.
    RootKeys,
    /// A key that protects key blocks.
    BlockProtection,
}

impl SecretKind {
    /// Its length in bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::RootKeys => 64,
            Self::BlockProtection => 32,
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RootKeys => "root keys",
            Self::BlockProtection => "key block protection key",
        })
    }
}

/// How many parts there are and how many of them suffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    threshold: u8,
    parts: u8,
}

impl Scheme {
    /// `threshold` of `parts`.
    ///
    /// # Errors
    /// [`SharingError::Scheme`] unless 2 ≤ threshold ≤ parts ≤ 16.
    pub const fn new(threshold: u8, parts: u8) -> Result<Self, SharingError> {
        if threshold >= 2 && threshold <= parts && parts <= MAXIMUM_PARTS {
            Ok(Self { threshold, parts })
        } else {
            Err(SharingError::Scheme)
        }
    }

    /// How many suffice.
    #[must_use]
    pub const fn threshold(self) -> u8 {
        self.threshold
    }

    /// How many there are.
    #[must_use]
    pub const fn parts(self) -> u8 {
        self.parts
    }
}

/// Which parts belong together: drawn anew each time a secret is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CeremonyId([u8; 4]);

impl CeremonyId {
    /// A fresh id.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(rng.next_u32().to_be_bytes())
    }
}

impl fmt::Display for CeremonyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = data_encoding::HEXUPPER.encode(&self.0);
        let (left, right) = digits.split_at_checked(4).unwrap_or_default();
        write!(f, "{left}-{right}")
    }
}

/// Divides a secret.
///
/// # Errors
/// [`SharingError::Length`] if it is not as long as its kind says.
pub fn split(
    kind: SecretKind,
    secret: &Secret<Vec<u8>>,
    scheme: Scheme,
    ceremony: CeremonyId,
    rng: &mut impl CryptoRng,
) -> Result<Vec<Part>, SharingError> {
    if secret.expose().len() != kind.length() {
        return Err(SharingError::Length);
    }
    let check = check_of(kind, secret.expose());
    let empty = |number| Part {
        kind,
        scheme,
        number,
        ceremony,
        check,
        share: Secret::new(Vec::with_capacity(kind.length())),
    };
    let mut parts: Vec<Part> = (1..=scheme.parts).map(empty).collect();
    for byte in secret.expose() {
        let mut coefficients = Secret::new(vec![0; usize::from(scheme.threshold)]);
        // All of them, the highest too: one that can't be zero would tell something.
        rng.fill_bytes(coefficients.expose_mut());
        if let Some(constant) = coefficients.expose_mut().first_mut() {
            *constant = *byte;
        }
        for part in &mut parts {
            let value = field::evaluate(coefficients.expose(), part.number);
            part.share.expose_mut().push(value);
        }
    }
    Ok(parts)
}

/// First bytes of a hash over the secret, which every part carries: the secret is longer than any
/// search, so they give nothing away.
fn check_of(kind: SecretKind, secret: &[u8]) -> [u8; 4] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(CHECK_CONTEXT);
    context.update(&[part::kind_code(kind)]);
    context.update(secret);
    let hash = context.finish();
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Parts that came together so far.
#[derive(Debug, Default)]
pub struct Gathering(Vec<Part>);

impl Gathering {
    /// Nobody came yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Puts a part to the others, and says which number it has.
    ///
    /// # Errors
    /// [`SharingError::OtherCeremony`], [`SharingError::OtherKind`], [`SharingError::Double`]: it does
    /// not belong to them, or is among them.
    pub fn add(&mut self, part: Part) -> Result<u8, SharingError> {
        if let Some(first) = self.0.first() {
            if part.kind != first.kind {
                return Err(SharingError::OtherKind { expected: first.kind, found: part.kind });
            }
            if (part.ceremony, part.scheme, part.check)
                != (first.ceremony, first.scheme, first.check)
            {
                return Err(SharingError::OtherCeremony {
                    expected: first.ceremony,
                    found: part.ceremony,
                });
            }
        }
        if self.0.iter().any(|other| other.number == part.number) {
            return Err(SharingError::Double { number: part.number });
        }
        let number = part.number;
        self.0.push(part);
        Ok(number)
    }

    /// The parts, in the order in which they came.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// How many are missing. The first part says how many it takes.
    #[must_use]
    pub fn missing(&self) -> Option<usize> {
        let threshold = self.0.first().map(|part| usize::from(part.scheme.threshold))?;
        Some(threshold.saturating_sub(self.0.len()))
    }

    /// The secret. Parts beyond the threshold have to agree with the others.
    ///
    /// # Errors
    /// [`SharingError::TooFew`]; [`SharingError::Disagrees`] or [`SharingError::Changed`] if a part is
    /// not what was given out.
    pub fn secret(&self) -> Result<Secret<Vec<u8>>, SharingError> {
        let first = self.0.first().ok_or(SharingError::TooFew { have: 0, need: 2 })?;
        let threshold = usize::from(first.scheme.threshold);
        let Some((base, others)) = self.0.split_at_checked(threshold) else {
            return Err(SharingError::TooFew { have: self.0.len(), need: threshold });
        };
        let secret = value_at(base, 0, first.kind);
        let check = check_of(first.kind, secret.expose());
        if !bool::from(check.ct_eq(&first.check)) {
            return Err(SharingError::Changed);
        }
        for other in others {
            let expected = value_at(base, other.number, first.kind);
            if !bool::from(expected.expose().ct_eq(other.share.expose())) {
                return Err(SharingError::Disagrees { number: other.number });
            }
        }
        Ok(secret)
    }
}

/// What the polynomials through `parts` are at `place`.
fn value_at(parts: &[Part], place: u8, kind: SecretKind) -> Secret<Vec<u8>> {
    let numbers: Vec<u8> = parts.iter().map(|part| part.number).collect();
    let mut sum = Secret::new(vec![0; kind.length()]);
    for (part, weight) in parts.iter().zip(field::weights(&numbers, place)) {
        let shares = part.share.expose();
        for (byte, share) in sum.expose_mut().iter_mut().zip(shares) {
            *byte ^= field::multiply(*share, weight);
        }
    }
    sum
}

#[cfg(test)]
mod tests;
