//! The two root keys of a realm, and wrapping under them.

use aws_lc_rs::key_wrap::{self, AesKek, KeyWrap, KeyWrapPadded};
use tapfer_payment_types::Secret;

use crate::vault::{Custody, KeyAlgorithm};
use crate::{HsmError, randomness};

const FAILED: HsmError = HsmError::Internal { operation: "wrapping a key" };
/// A wrapped key is at most this many bytes longer than the key (RFC 5649: one block, and padding).
const OVERHEAD: usize = 16;

/// The root keys: whoever has both has every key of the catalogue. Wiped on drop.
pub struct RootKeys {
    pub(crate) sealing: Secret<[u8; 32]>,
    pub(crate) releasing: Secret<[u8; 32]>,
}

impl RootKeys {
    /// Draws both.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, HsmError> {
        Ok(Self { sealing: randomness::secret()?, releasing: randomness::secret()? })
    }

    /// Takes both as they are.
    #[must_use]
    pub const fn new(sealing: Secret<[u8; 32]>, releasing: Secret<[u8; 32]>) -> Self {
        Self { sealing, releasing }
    }

    /// The same roots for another holder, wiped with it.
    #[must_use]
    pub fn for_another(&self) -> Self {
        Self::new(Secret::new(*self.sealing.expose()), Secret::new(*self.releasing.expose()))
    }

    fn kek(&self, custody: Custody) -> Result<AesKek, HsmError> {
        let key = match custody {
            Custody::Sealed => &self.sealing,
            Custody::Releasable => &self.releasing,
        };
        AesKek::new(&key_wrap::AES_256, key.expose()).map_err(|_| FAILED)
    }

    /// Wraps a key: RFC 5649 where it is a PKCS#8 document, RFC 3394 where it is raw bytes.
    pub(super) fn wrap(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        key: &[u8],
    ) -> Result<Vec<u8>, HsmError> {
        let mut room = vec![0; key.len().saturating_add(OVERHEAD)];
        let kek = self.kek(custody)?;
        let wrapped = match is_document(algorithm) {
            true => kek.wrap_with_padding(key, &mut room),
            false => kek.wrap(key, &mut room),
        };
        let length = wrapped.map_err(|_| FAILED)?.len();
        room.truncate(length);
        Ok(room)
    }

    /// Opens a wrapped key.
    ///
    /// # Errors
    /// [`HsmError::NotUnderRoot`]
    pub(crate) fn unwrap(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        wrapped: &[u8],
    ) -> Result<Secret<Vec<u8>>, HsmError> {
        let mut room = Secret::new(vec![0; wrapped.len().saturating_add(OVERHEAD)]);
        let kek = self.kek(custody)?;
        let opened = match is_document(algorithm) {
            true => kek.unwrap_with_padding(wrapped, room.expose_mut()),
            false => kek.unwrap(wrapped, room.expose_mut()),
        };
        let length = opened.map_err(|_| HsmError::NotUnderRoot)?.len();
        room.expose_mut().truncate(length);
        Ok(room)
    }
}

impl std::fmt::Debug for RootKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKeys(redacted)")
    }
}

/// PKCS#11 gives EC keys out as PKCS#8 documents, and nothing else as one.
const fn is_document(algorithm: KeyAlgorithm) -> bool {
    matches!(algorithm, KeyAlgorithm::Signing | KeyAlgorithm::Agreement)
}

#[cfg(test)]
mod tests {
    use super::RootKeys;
    use crate::HsmError;
    use crate::vault::{Custody, KeyAlgorithm};
    use tapfer_payment_types::Secret;

    fn roots(sealing: u8, releasing: u8) -> RootKeys {
        RootKeys::new(Secret::new([sealing; 32]), Secret::new([releasing; 32]))
    }

    #[test]
    fn a_wrapped_key_opens_under_its_own_root_only() {
        let (own, others) = (roots(1, 2), roots(3, 4));
        for (algorithm, length) in [
            (KeyAlgorithm::CardKeyDerivation, 16),
            (KeyAlgorithm::Authentication, 32),
            (KeyAlgorithm::Signing, 121),
        ] {
            let key = vec![7; length];
            let wrapped = own.wrap(algorithm, Custody::Sealed, &key).unwrap();
            assert_eq!(wrapped.len(), length.next_multiple_of(8) + 8);
            let opened = own.unwrap(algorithm, Custody::Sealed, &wrapped).unwrap();
            assert_eq!(*opened.expose(), key);
            let refused = |roots: &RootKeys, custody, wrapped: &[u8]| {
                let opened = roots.unwrap(algorithm, custody, wrapped);
                matches!(opened, Err(HsmError::NotUnderRoot))
            };
            assert!(refused(&own, Custody::Releasable, &wrapped));
            assert!(refused(&others, Custody::Sealed, &wrapped));
            for position in 0..wrapped.len() {
                let mut changed = wrapped.clone();
                changed[position] ^= 1;
                assert!(refused(&own, Custody::Sealed, &changed));
                assert!(refused(&own, Custody::Sealed, &wrapped[..position]));
            }
        }
    }
}
