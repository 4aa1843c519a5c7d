//! Check values of root keys: the same in custodians' hands and on a token, so that a transcript can be held against
//! what `tapfer hsm status` shows.
//!
//! A root on a token wraps and unwraps, and nothing else: no AES-CMAC (the check value of other keys) can be asked
//! of it. What every holder of a root can do is to wrap sixteen zeros (RFC 3394 has no randomness); three bytes of
//! SHA-256 over that are shown.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use tapfer_payment_types::Secret;

use crate::HsmError;

/// What is wrapped.
pub(crate) const ZEROS: [u8; 16] = [0; 16];

/// [`ZEROS`] wrapped under a root in hand.
///
/// # Errors
/// The cryptographic library.
pub(crate) fn wrapped_zeros(root: &Secret<[u8; 32]>) -> Result<[u8; 24], HsmError> {
    let failed = |_| HsmError::Internal { operation: "wrapping zeros under a root key" };
    let mut wrapped = [0; 24];
    AesKek::new(&AES_256, root.expose())
        .map_err(failed)?
        .wrap(&ZEROS, &mut wrapped)
        .map_err(failed)?;
    Ok(wrapped)
}

/// What a person compares: three bytes.
pub(crate) fn check_value(wrapped_zeros: &[u8; 24]) -> [u8; 3] {
    digest(&SHA256, wrapped_zeros).as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{check_value, wrapped_zeros};
    use tapfer_payment_types::Secret;

    /// Computed with OpenSSL: `openssl enc -id-aes256-wrap -K 0001...1F -iv A6A6A6A6A6A6A6A6 | sha256sum`.
    #[test]
    fn the_check_value_is_of_wrapped_zeros() {
        let key: [u8; 32] = core::array::from_fn(|place| u8::try_from(place).unwrap());
        let wrapped = wrapped_zeros(&Secret::new(key)).unwrap();
        assert_eq!(check_value(&wrapped), [0x63, 0x96, 0x5B]);
    }
}
