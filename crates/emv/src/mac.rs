//! AES-CMAC (NIST SP 800-38B) and what Book E makes of it.

use aes::cipher::{BlockCipherDecrypt, KeyInit};
use aes::{Aes128, Aes256};
use cmac::{Cmac, Mac};
use subtle::ConstantTimeEq;

/// AES-128-CMAC over the parts, one after another.
#[must_use]
pub fn aes_cmac(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = <Cmac<Aes128> as KeyInit>::new(key.into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// First eight bytes of AES-128-CMAC.
#[must_use]
pub fn aes_cmac_8(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 8] {
    first_eight(aes_cmac(key, parts))
}

/// First eight bytes of AES-256-CMAC.
#[must_use]
pub fn aes_256_cmac_8(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 8] {
    let mut mac = <Cmac<Aes256> as KeyInit>::new(key.into());
    parts.iter().for_each(|part| mac.update(part));
    first_eight(mac.finalize().into_bytes().into())
}

/// AES-CMAC+: the CMAC decrypted once in CBC mode with itself as initialisation vector, which is
/// D(cmac) xor cmac (Book E 8.5).
///
/// Golden vectors and an independent terminal agree with this; no published vector covers it.
#[must_use]
pub fn aes_cmac_plus(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] {
    let mac = aes_cmac(key, parts);
    let mut block = mac;
    Aes128::new(key.into()).decrypt_block((&mut block).into());
    block.iter_mut().zip(mac).for_each(|(byte, chained)| *byte ^= chained);
    block
}

/// Compares two MACs in constant time.
#[must_use]
pub fn equal(left: &[u8; 8], right: &[u8; 8]) -> bool {
    left.ct_eq(right).into()
}

pub(crate) const fn first_eight(mac: [u8; 16]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = mac;
    [a, b, c, d, e, f, g, h]
}
