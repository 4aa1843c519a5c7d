//! Root keys on their way into parts and out of them.

use aws_lc_rs::hkdf;
use tapfer_emv::mac::aes_256_cmac_8;
use tapfer_payment_types::Secret;

use super::{SecretKind, SharingError};
use crate::HsmError;
use crate::root_check::{self, wrapped_zeros};
use crate::software::RootKeys;

/// Keeps this derivation apart from all others.
const MIX_CONTEXT: &[u8] = b"tapfer root keys 1";
/// Each source gives so many bytes, which is as much as is drawn from them.
const CONTRIBUTION: usize = 64;

/// Fills a buffer with random bytes.
pub type RandomSource<'a> = &'a dyn Fn(&mut [u8]) -> Result<(), HsmError>;

/// Hands [`hkdf`] the length of both roots.
struct BothRoots;

impl hkdf::KeyType for BothRoots {
    fn len(&self) -> usize {
        SecretKind::RootKeys.length()
    }
}

impl RootKeys {
    /// Draws root keys from several random sources, such as a security module's and the system's: they are
    /// as good as the best of them (HKDF-SHA-256 over all, RFC 5869).
    ///
    /// # Errors
    /// A source fails.
    pub fn mixed(sources: &[RandomSource<'_>]) -> Result<Self, HsmError> {
        let failed = |_| HsmError::Internal { operation: "mixing randomness" };
        let mut drawn = Secret::new(vec![0; CONTRIBUTION.saturating_mul(sources.len())]);
        for (room, source) in drawn.expose_mut().chunks_mut(CONTRIBUTION).zip(sources) {
            source(room)?;
        }
        let mut both = Secret::new(vec![0; SecretKind::RootKeys.length()]);
        let pseudorandom = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(drawn.expose());
        let expanded = pseudorandom.expand(&[MIX_CONTEXT], BothRoots).map_err(failed)?;
        expanded.fill(both.expose_mut()).map_err(failed)?;
        Self::from_shared(&both).map_err(|_| HsmError::Internal { operation: "mixing randomness" })
    }

    /// Both roots as the secret that is shared: the sealing root, then the releasing root.
    #[must_use]
    pub fn to_shared(&self) -> Secret<Vec<u8>> {
        let mut both = Vec::with_capacity(SecretKind::RootKeys.length());
        both.extend_from_slice(self.sealing.expose());
        both.extend_from_slice(self.releasing.expose());
        Secret::new(both)
    }

    /// The roots that custodians rebuilt.
    ///
    /// # Errors
    /// [`SharingError::Length`]: it is no secret of this kind.
    pub fn from_shared(both: &Secret<Vec<u8>>) -> Result<Self, SharingError> {
        let (sealing, rest) = both.expose().split_first_chunk().ok_or(SharingError::Length)?;
        let releasing = rest.try_into().map_err(|_| SharingError::Length)?;
        Ok(Self::new(Secret::new(*sealing), Secret::new(releasing)))
    }

    /// To tell roots apart by eye: names, and the check values that an HSM shows of them
    /// ([`RootFingerprints`](crate::pkcs11::RootFingerprints)).
    ///
    /// # Errors
    /// The cryptographic library.
    pub fn check_values(&self) -> Result<[(&'static str, [u8; 3]); 2], HsmError> {
        let of = |root| wrapped_zeros(root).map(|wrapped| root_check::check_value(&wrapped));
        Ok([("sealing root", of(&self.sealing)?), ("releasing root", of(&self.releasing)?)])
    }
}

/// Check value of an AES-256 key: first three bytes of AES-CMAC over a block of zeros (ANSI X9.24-1 annex A).
#[must_use]
pub fn check_value(key: &[u8; 32]) -> [u8; 3] {
    let [a, b, c, ..] = aes_256_cmac_8(key, &[&[0; 16]]);
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::{RandomSource, RootKeys, check_value};
    use crate::HsmError;
    use tapfer_payment_types::Secret;

    #[test]
    fn roots_come_back_from_their_shared_form() {
        let both = Secret::new((0..64).collect::<Vec<u8>>());
        let roots = RootKeys::from_shared(&both).unwrap();
        assert_eq!(roots.to_shared().expose(), both.expose());
        assert!(RootKeys::from_shared(&Secret::new(vec![0; 63])).is_err());
        let [(sealing, first), (releasing, second)] = roots.check_values().unwrap();
        assert_eq!((sealing, releasing), ("sealing root", "releasing root"));
        assert_ne!(first, second);
    }

    /// AES-256-CMAC over sixteen zeros, computed with OpenSSL: `openssl mac -cipher AES-256-CBC
    /// -macopt hexkey:00...00 CMAC`.
    #[test]
    fn the_check_value_is_a_cmac() {
        assert_eq!(check_value(&[0; 32]), [0x92, 0x11, 0x05]);
    }

    #[test]
    fn one_bad_source_spoils_nothing_and_every_source_counts() {
        let constant = |out: &mut [u8]| -> Result<(), HsmError> {
            out.fill(0);
            Ok(())
        };
        let counting = |out: &mut [u8]| -> Result<(), HsmError> {
            (0_u8..).zip(out).for_each(|(value, byte)| *byte = value);
            Ok(())
        };
        let mixed = |sources: &[RandomSource<'_>]| {
            RootKeys::mixed(sources).unwrap().to_shared().expose().clone()
        };
        let both = mixed(&[&constant, &counting]);
        assert_ne!(both, mixed(&[&constant, &constant]));
        assert_ne!(both, mixed(&[&counting, &counting]));
        assert_eq!(both, mixed(&[&constant, &counting]));
        let broken = |_: &mut [u8]| Err(HsmError::Randomness);
        assert!(matches!(RootKeys::mixed(&[&counting, &broken]), Err(HsmError::Randomness)));
    }
}
