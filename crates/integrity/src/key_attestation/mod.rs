//! Android Key Attestation: is this chain genuine, and what does the phone's hardware say in it?

mod application;
mod chain;
mod description;
mod revocation;

pub use application::AttestedApplication;
pub use description::{KeyDescription, RootOfTrust, SecurityLevel, VerifiedBootState};
pub use revocation::{RevocationListError, RevokedCertificates};

use subtle::ConstantTimeEq;
use tapfer_payment_types::Timestamp;

/// More certificates than any phone sends: leaf, two or three intermediates, root.
pub const MAXIMUM_CHAIN: usize = 8;
/// A certificate longer than this is not one of a phone.
pub const MAXIMUM_CERTIFICATE: usize = 8_192;

/// Why a chain is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    /// Too few, too many, or too long.
    #[error(
        "a chain has 2 to {MAXIMUM_CHAIN} certificates of at most {MAXIMUM_CERTIFICATE} bytes, \
         the phone's own first and the root last"
    )]
    ChainLength,
    /// Not X.509 in DER.
    #[error("certificate {0} of the chain is not an X.509 certificate in DER")]
    Certificate(usize),
    /// Not yet or no longer good.
    #[error("certificate {0} of the chain is not valid at this time")]
    Validity(usize),
    /// Signed by another key than the next one's, or with an algorithm that is not accepted.
    #[error("certificate {0} of the chain is not signed by the one after it")]
    Signature(usize),
    /// A certificate that must not sign others has signed one.
    #[error("certificate {0} of the chain may not sign certificates")]
    NotAnAuthority(usize),
    /// The names do not link up.
    #[error("certificate {0} of the chain names another issuer than the one after it")]
    Issuer(usize),
    /// Nobody we trust.
    #[error("the chain does not end in a root that is trusted here")]
    UnknownRoot,
    /// On the manufacturer's list.
    #[error("certificate {0} of the chain has been revoked by its maker")]
    Revoked(usize),
    /// No statement in it.
    #[error("the phone's certificate holds no key description (1.3.6.1.4.1.11129.2.1.17)")]
    NoDescription,
    /// A key that was attested itself has signed on.
    #[error(
        "certificate {0} of the chain is itself an attested key: such a key can say anything about \
         the next one"
    )]
    Extended(usize),
    /// Not the structure that Android documents.
    #[error("the key description is not of the form that Android documents: {0}")]
    Description(&'static str),
    /// Made for another question.
    #[error("the key description answers another challenge: ask for a new one and attest again")]
    Challenge,
}

/// What the platform accepts.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Public keys of the roots, `SubjectPublicKeyInfo` in DER: Google's hardware attestation roots,
    /// or those of a maker or of a test.
    pub roots: Vec<Vec<u8>>,
    /// What has been revoked.
    pub revoked: RevokedCertificates,
}

/// A chain in which everything has been found good, and what it says. What to make of it is for the
/// policy to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttestation {
    /// What the hardware says.
    pub description: KeyDescription,
    /// The attested key, `SubjectPublicKeyInfo` in DER.
    pub public_key: Vec<u8>,
}

/// Verifies a chain, the phone's certificate first and the root last (DER each), made for
/// `challenge`.
///
/// # Errors
/// [`AttestationError`]; the number counts certificates from 0, the phone's own.
pub fn verify(
    chain: &[Vec<u8>],
    challenge: &[u8],
    trust: &Trust,
    now: Timestamp,
) -> Result<KeyAttestation, AttestationError> {
    let certificates = chain::parse(chain)?;
    chain::check(&certificates, trust, now)?;
    let leaf = chain::attested(&certificates)?;
    let description = KeyDescription::parse(leaf.description)?;
    if !bool::from(description.challenge.ct_eq(challenge)) {
        return Err(AttestationError::Challenge);
    }
    Ok(KeyAttestation { description, public_key: leaf.public_key.to_vec() })
}
