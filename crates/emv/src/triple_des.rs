//! 3DES for kernels 2 and 3 and for published vectors: option A card keys, common session keys,
//! Visa limited-use keys, MACs (Book 2 annex A1).
//!
//! Cards of this platform use AES only. Keys are two-key 3DES, wiped on drop; DES ignores the lowest
//! bit of every key byte, so keys are equal when all other bits are.

use alloc::vec::Vec;

use des::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use des::{Des, TdesEde2};
use subtle::ConstantTimeEq;
use tapfer_payment_types::Secret;
use zeroize::Zeroizing;

use crate::keys::{CardDigits, KeyIndex};
use crate::packed_decimal::pack_right_aligned;

/// A DES block.
type Block = [u8; 8];

macro_rules! key_stage {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        ///
        /// Two-key 3DES. Wiped on drop; `Debug` shows nothing of it.
        #[derive(Debug)]
        pub struct $name(Secret<[u8; 16]>);

        impl $name {
            /// Takes the key's bytes.
            #[must_use]
            pub const fn new(key: [u8; 16]) -> Self {
                Self(Secret::new(key))
            }

            /// Lends the key's bytes.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 16] {
                self.0.expose()
            }

            /// Whether the other key does the same: all bits but the parity bits, in constant time.
            #[must_use]
            pub fn has_key_bits_of(&self, other: &[u8; 16]) -> bool {
                let without_parity =
                    |key: &[u8; 16]| Zeroizing::new(key.map(|byte| byte & 0xFE));
                without_parity(self.expose()).ct_eq(&*without_parity(other)).into()
            }
        }
    };
}

key_stage! {
    /// An issuer's master key for application cryptograms.
    IssuerMasterKey
}
key_stage! {
    /// A card's master key; Visa calls it the unique derivation key (UDK).
    CardMasterKey
}
key_stage! {
    /// The key that MACs one transaction, or one hour's transactions of a Visa limited-use key.
    SessionKey
}

impl IssuerMasterKey {
    /// Option A: 3DES over the rightmost 16 digits of PAN ‖ PSN, then over their complement, with
    /// odd parity (Book 2 A1.4.1).
    #[must_use]
    pub fn card_master_key(&self, digits: &CardDigits) -> CardMasterKey {
        CardMasterKey(with_odd_parity(self.card_master_key_as_encrypted(digits).0))
    }

    /// The same key with its parity bits as the encryption left them, the way some systems write it.
    #[must_use]
    pub fn card_master_key_as_encrypted(&self, digits: &CardDigits) -> CardMasterKey {
        let [.., a, b, c, d, e, f, g, h] = *digits.right_aligned();
        let left = Zeroizing::new([a, b, c, d, e, f, g, h]);
        let right = Zeroizing::new(left.map(|byte| !byte));
        CardMasterKey(encrypt_halves(self.expose(), &left, &right))
    }
}

impl CardMasterKey {
    /// Common session key: 3DES over ATC ‖ `F0` ‖ zeros, then ATC ‖ `0F` ‖ zeros, with odd parity
    /// (Book 2 A1.3.1).
    #[must_use]
    pub fn session_key(&self, application_transaction_counter: u16) -> SessionKey {
        let as_encrypted = self.session_key_as_encrypted(application_transaction_counter);
        SessionKey(with_odd_parity(as_encrypted.0))
    }

    /// The same key with its parity bits as the encryption left them, the way some systems write it.
    #[must_use]
    pub fn session_key_as_encrypted(&self, application_transaction_counter: u16) -> SessionKey {
        let [high, low] = application_transaction_counter.to_be_bytes();
        let half = |marker| [high, low, marker, 0, 0, 0, 0, 0];
        SessionKey(encrypt_halves(self.expose(), &half(0xF0), &half(0x0F)))
    }

    /// Visa limited-use key for an index YHHHHCC.
    #[must_use]
    pub fn visa_limited_use_key(&self, index: KeyIndex) -> SessionKey {
        // Seven digits behind a zero: the zero is not part of the index.
        let digits = index.to_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
        self.visa_limited_use_key_of_digits(&digits.skip(1).collect::<Vec<_>>())
    }

    /// The same for index digits (0 to 9 each) as other systems write them, at most 14.
    ///
    /// Block i is the digit i (1, then 2), the index, the digit 8, and zeros to 16 digits; parity is
    /// not adjusted.
    #[must_use]
    pub fn visa_limited_use_key_of_digits(&self, index: &[u8]) -> SessionKey {
        let block = |number| -> Block {
            let digits = core::iter::once(number).chain(index.iter().copied()).chain([8]);
            let mut padded: Vec<u8> = digits.collect();
            padded.resize(16, 0);
            pack_right_aligned(padded.into_iter())
        };
        SessionKey(encrypt_halves(self.expose(), &block(1), &block(2)))
    }
}

/// Application cryptogram: MAC with padding method 2 (CVN 18, M/Chip, qVSDC with a limited-use key).
#[must_use]
pub fn application_cryptogram(key: &SessionKey, input: &[u8]) -> [u8; 8] {
    retail_mac(key.expose(), input, Padding::Method2)
}

/// ARPC method 2: the first four bytes of the MAC over ARQC ‖ card status update ‖ proprietary data
/// (Book 2, 8.2.2).
#[must_use]
pub fn response_cryptogram_method_2(
    key: &SessionKey,
    arqc: &[u8; 8],
    card_status_update: &[u8; 4],
    proprietary_data: &[u8],
) -> [u8; 4] {
    let input = [arqc.as_slice(), card_status_update, proprietary_data].concat();
    let [a, b, c, d, ..] = retail_mac(key.expose(), &input, Padding::Method2);
    [a, b, c, d]
}

/// How a message is filled up to whole blocks (ISO/IEC 9797-1, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Zeros up to the next block; none if the message fills its blocks. An empty message becomes
    /// one block of zeros.
    Method1,
    /// `80`, then zeros.
    Method2,
}

/// MAC algorithm 3 of ISO/IEC 9797-1: DES in CBC mode under the left half, the last block once more
/// decrypted under the right and encrypted under the left half ("retail MAC").
#[must_use]
pub fn retail_mac(key: &[u8; 16], message: &[u8], padding: Padding) -> [u8; 8] {
    let (left, right) = halves(key);
    let (left, right) = (Des::new((&*left).into()), Des::new((&*right).into()));
    let mut chained: Block = [0; 8];
    for block in pad(message, padding).chunks_exact(8) {
        chained.iter_mut().zip(block).for_each(|(byte, next)| *byte ^= next);
        left.encrypt_block((&mut chained).into());
    }
    right.decrypt_block((&mut chained).into());
    left.encrypt_block((&mut chained).into());
    chained
}

fn pad(message: &[u8], padding: Padding) -> Vec<u8> {
    let mut padded = message.to_vec();
    if padding == Padding::Method2 {
        padded.push(0x80);
    }
    let blocks = padded.len().div_ceil(8).max(1);
    padded.resize(blocks.saturating_mul(8), 0);
    padded
}

fn halves(key: &[u8; 16]) -> (Zeroizing<Block>, Zeroizing<Block>) {
    let (mut left, mut right) = (Zeroizing::new([0; 8]), Zeroizing::new([0; 8]));
    let (from_left, from_right) = key.split_at(8);
    left.copy_from_slice(from_left);
    right.copy_from_slice(from_right);
    (left, right)
}

/// Two blocks in ECB mode as the halves of a new key.
fn encrypt_halves(key: &[u8; 16], left: &Block, right: &Block) -> Secret<[u8; 16]> {
    let cipher = TdesEde2::new(key.into());
    let mut derived = Secret::new([0; 16]);
    for (half, block) in derived.expose_mut().chunks_exact_mut(8).zip([left, right]) {
        let mut block = Zeroizing::new(*block);
        cipher.encrypt_block((&mut *block).into());
        half.copy_from_slice(block.as_slice());
    }
    derived
}

/// Sets the lowest bit of every byte so that the byte has an odd number of ones.
fn with_odd_parity(mut key: Secret<[u8; 16]>) -> Secret<[u8; 16]> {
    for byte in key.expose_mut() {
        let others = *byte & 0xFE;
        *byte = others | u8::from(others.count_ones() & 1 == 0);
    }
    key
}
