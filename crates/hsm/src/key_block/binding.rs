//! What binds header and key: the two keys that come out of a protection key, and what they do (key
//! derivation binding method of ANSI X9.143).

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use cmac::block_api::CmacCipher;
use cmac::{Cmac, Mac};
use des::{TdesEde2, TdesEde3};
use tapfer_payment_types::Secret;
use zeroize::{Zeroize as _, Zeroizing};

use super::Version;

/// Whether blocks are chained forward or taken apart.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    /// Clear to encrypted.
    Encrypt,
    /// Encrypted to clear.
    Decrypt,
}

/// The cipher and key length of a protection key, which are those of what is derived from it.
#[derive(Clone, Copy)]
enum Cipher {
    Aes128,
    Aes192,
    Aes256,
    TwoKey3des,
    ThreeKey3des,
}

/// What is derived from a protection key.
pub(super) struct Protection {
    cipher: Cipher,
    encryption: Secret<Vec<u8>>,
    authentication: Secret<Vec<u8>>,
}

/// Key usage indicators of the derivation data.
const FOR_ENCRYPTION: [u8; 2] = [0, 0];
const FOR_AUTHENTICATION: [u8; 2] = [0, 1];

impl Protection {
    /// Derives both keys from a protection key of a length that goes with the version.
    pub(super) fn derive(version: Version, key: &[u8]) -> Self {
        let cipher = match (version, key.len()) {
            (Version::D, 16) => Cipher::Aes128,
            (Version::D, 24) => Cipher::Aes192,
            (Version::D, _) => Cipher::Aes256,
            (Version::B, 16) => Cipher::TwoKey3des,
            (Version::B, _) => Cipher::ThreeKey3des,
        };
        let derived = |usage| Secret::new(cipher.derive(key, usage));
        Self {
            cipher,
            encryption: derived(FOR_ENCRYPTION),
            authentication: derived(FOR_AUTHENTICATION),
        }
    }

    /// The block's MAC over header and clear content.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        self.cipher.cmac(self.authentication.expose(), parts)
    }

    /// Cipher block chaining in place; the MAC is the initialisation vector.
    pub(super) fn chain(&self, direction: Direction, mac: &[u8], content: &mut [u8]) {
        let key = self.encryption.expose();
        match self.cipher {
            Cipher::Aes128 => chain::<Aes128>(key, direction, mac, content),
            Cipher::Aes192 => chain::<Aes192>(key, direction, mac, content),
            Cipher::Aes256 => chain::<Aes256>(key, direction, mac, content),
            Cipher::TwoKey3des => chain::<TdesEde2>(key, direction, mac, content),
            Cipher::ThreeKey3des => chain::<TdesEde3>(key, direction, mac, content),
        }
    }
}

impl Cipher {
    /// Algorithm indicator and key length in bits, as the derivation data has them.
    const fn indicators(self) -> ([u8; 2], [u8; 2]) {
        match self {
            Self::TwoKey3des => ([0, 0], [0x00, 0x80]),
            Self::ThreeKey3des => ([0, 1], [0x00, 0xC0]),
            Self::Aes128 => ([0, 2], [0x00, 0x80]),
            Self::Aes192 => ([0, 3], [0x00, 0xC0]),
            Self::Aes256 => ([0, 4], [0x01, 0x00]),
        }
    }

    /// CMAC over counter ‖ usage ‖ separator ‖ algorithm ‖ length, for as many counters as the key needs.
    fn derive(self, key: &[u8], usage: [u8; 2]) -> Vec<u8> {
        let (algorithm, length) = self.indicators();
        // Three CMACs of 3DES make a three-key 3DES key; two of AES make more than any AES key.
        let mut derived = Vec::with_capacity(48);
        for counter in 1_u8..=3 {
            let data: [&[u8]; 5] = [&[counter], &usage, &[0], &algorithm, &length];
            derived.extend_from_slice(&self.cmac(key, &data));
        }
        derived.split_off(key.len()).zeroize();
        derived
    }

    fn cmac(self, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Aes128 => cmac::<Aes128>(key, parts),
            Self::Aes192 => cmac::<Aes192>(key, parts),
            Self::Aes256 => cmac::<Aes256>(key, parts),
            Self::TwoKey3des => cmac::<TdesEde2>(key, parts),
            Self::ThreeKey3des => cmac::<TdesEde3>(key, parts),
        }
    }
}

fn cmac<C: CmacCipher + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    // The lengths match by construction of `Cipher`; another would give an empty MAC, which equals none.
    let Ok(mut mac) = <Cmac<C> as KeyInit>::new_from_slice(key) else {
        return Zeroizing::default();
    };
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

fn chain<C>(key: &[u8], direction: Direction, vector: &[u8], content: &mut [u8])
where
    C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt,
{
    let Ok(cipher) = C::new_from_slice(key) else { return };
    let mut previous = vector.to_vec();
    for block in content.chunks_exact_mut(C::block_size()) {
        let Ok(block) = <&mut Array<u8, <C as BlockSizeUser>::BlockSize>>::try_from(block) else {
            return;
        };
        match direction {
            Direction::Encrypt => {
                xor(block, &previous);
                cipher.encrypt_block(block);
                previous.copy_from_slice(block);
            }
            Direction::Decrypt => {
                let encrypted = block.to_vec();
                cipher.decrypt_block(block);
                xor(block, &previous);
                previous = encrypted;
            }
        }
    }
}

fn xor(block: &mut [u8], with: &[u8]) {
    block.iter_mut().zip(with).for_each(|(byte, other)| *byte ^= other);
}
