//! The one home of randomness for what the server itself names: ids, API keys, request ids.
//!
//! Cryptographic keys are not made here; they are born in the HSM.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use tapfer_payment_types::Secret;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes; nothing can be named or keyed without them")]
pub struct EntropyError;

/// Where random bytes come from: the operating system, or a test's seeded generator.
pub trait Entropy: Send + Sync {
    /// Fills the buffer with random bytes.
    ///
    /// # Errors
    /// [`EntropyError`] if there are none to be had.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}

/// A source of randomness that many parts of the server draw from.
pub type SharedEntropy = Arc<dyn Entropy>;

/// The random generator of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the single home of the system's randomness")]
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(buffer).map_err(|_| EntropyError)
    }
}

/// An array of random bytes.
///
/// # Errors
/// [`EntropyError`] if there are none to be had.
pub(crate) fn bytes<const N: usize>(source: &dyn Entropy) -> Result<[u8; N], EntropyError> {
    let mut buffer = [0_u8; N];
    source.fill(&mut buffer)?;
    Ok(buffer)
}

/// 256 random bits as 43 letters and digits of base64url: the secret part of an API key.
///
/// # Errors
/// [`EntropyError`] if there are none to be had.
pub(crate) fn secret_text(source: &dyn Entropy) -> Result<Secret<String>, EntropyError> {
    let random = Secret::new(bytes::<32>(source)?);
    Ok(Secret::new(BASE64URL_NOPAD.encode(random.expose())))
}
