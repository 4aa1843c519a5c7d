//! Key blocks: how keys travel between payment systems (ANSI X9.143, formerly TR-31).
//!
//! A key block is printable text: a header that says what the key is for, then the key, encrypted and
//! bound to the header by a MAC, both under a key block protection key. Version D (AES) is written and
//! read; version B (3DES) is read only, to take keys over from systems that have nothing better. Versions
//! A and C bind the header to the key by a mere variant of the protection key and are deprecated by the
//! standard: they are refused.

mod binding;
mod error;
mod header;
mod optional_block;

pub use error::KeyBlockError;
pub use header::{Algorithm, Exportability, Header, KeyUsage, KeyVersion, ModeOfUse, Version};
pub use optional_block::OptionalBlock;

use data_encoding::HEXUPPER;
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use tapfer_payment_types::Secret;
use zeroize::Zeroizing;

use binding::{Direction, Protection};

/// A key block is no longer than four decimal digits can say.
const MAXIMUM_LENGTH: usize = 9_999;
/// Characters of the header before the optional blocks.
const FIXED_HEADER: usize = 16;
/// Two bytes before the key say how many bits it has.
const KEY_LENGTH_FIELD: usize = 2;

/// The key that protects key blocks (KBPK) of one version.
#[derive(Debug)]
pub struct ProtectionKey {
    version: Version,
    bytes: Secret<Vec<u8>>,
}

impl ProtectionKey {
    /// Takes a protection key: for version D an AES key of 16, 24 or 32 bytes, for version B a 3DES key
    /// of 16 or 24 bytes.
    ///
    /// # Errors
    /// [`KeyBlockError::ProtectionKey`] for another length.
    pub fn new(version: Version, bytes: Secret<Vec<u8>>) -> Result<Self, KeyBlockError> {
        let length = bytes.expose().len();
        if version.protection_key_lengths().contains(&length) {
            Ok(Self { version, bytes })
        } else {
            Err(KeyBlockError::ProtectionKey { version: version.letter(), length })
        }
    }
}

/// A key block that was opened: its MAC is right.
#[derive(Debug)]
pub struct OpenedKey {
    /// What the key is for.
    pub header: Header,
    /// The key.
    pub key: Secret<Vec<u8>>,
}

/// Seals `key` under `protection`. Random padding hides how long an AES or 3DES key is.
///
/// # Errors
/// [`KeyBlockError::ReadOnly`] for version B; [`KeyBlockError::TooStrong`] for an AES key that is longer
/// than what protects it; [`KeyBlockError::TooLong`].
pub fn seal(
    protection: &ProtectionKey,
    header: &Header,
    key: &Secret<Vec<u8>>,
    rng: &mut impl CryptoRng,
) -> Result<String, KeyBlockError> {
    let length = key.expose().len().max(header.algorithm.longest_key());
    let padded =
        length.saturating_add(KEY_LENGTH_FIELD).next_multiple_of(Version::D.block_length());
    let mut padding = Zeroizing::new(vec![0; padded]);
    rng.fill_bytes(&mut padding);
    seal_with(protection, header, key, padding)
}

/// Seals into `room`, which is random and as long as what is encrypted.
fn seal_with(
    protection: &ProtectionKey,
    header: &Header,
    key: &Secret<Vec<u8>>,
    mut room: Zeroizing<Vec<u8>>,
) -> Result<String, KeyBlockError> {
    if (header.version, protection.version) != (Version::D, Version::D) {
        return Err(KeyBlockError::ReadOnly);
    }
    let key = key.expose();
    if header.algorithm == Algorithm::Aes && key.len() > protection.bytes.expose().len() {
        return Err(KeyBlockError::TooStrong);
    }
    let bits = key.len().checked_mul(8).and_then(|bits| u16::try_from(bits).ok());
    let bits = bits.ok_or(KeyBlockError::TooLong)?.to_be_bytes();
    room.iter_mut().zip(bits.iter().chain(key)).for_each(|(byte, content)| *byte = *content);

    let tail = room.len().saturating_add(Version::D.mac_length()).saturating_mul(2);
    let header = header.encode(tail)?;
    let derived = Protection::derive(protection.version, protection.bytes.expose());
    let mac = derived.mac(&[header.as_bytes(), &room]);
    derived.chain(Direction::Encrypt, &mac, &mut room);
    Ok(format!("{header}{}{}", HEXUPPER.encode(&room), HEXUPPER.encode(&mac)))
}

/// Opens a key block.
///
/// # Errors
/// What is wrong with the text. [`KeyBlockError::Mac`] if the protection key is another one or anything
/// in the block was changed.
pub fn open(protection: &ProtectionKey, block: &str) -> Result<OpenedKey, KeyBlockError> {
    let parsed = header::parse(block)?;
    let version = parsed.header.version;
    if version != protection.version {
        return Err(KeyBlockError::OtherVersion { block: version.letter() });
    }
    let body =
        HEXUPPER.decode(parsed.body.as_bytes()).map_err(|_| KeyBlockError::NotHexadecimal)?;
    let mut content = Zeroizing::new(body);
    let split = content.len().checked_sub(version.mac_length()).ok_or(KeyBlockError::CutShort)?;
    let mac = content.split_off(split);
    if content.is_empty() || !content.len().is_multiple_of(version.block_length()) {
        return Err(KeyBlockError::CutShort);
    }

    let derived = Protection::derive(version, protection.bytes.expose());
    derived.chain(Direction::Decrypt, &mac, &mut content);
    let expected = derived.mac(&[parsed.text.as_bytes(), &content]);
    if !bool::from(expected.ct_eq(&mac)) {
        return Err(KeyBlockError::Mac);
    }
    Ok(OpenedKey { header: parsed.header, key: key_within(&content)? })
}

/// What a key block says of itself, without the key that opens it: nothing of it is proven.
///
/// # Errors
/// What is wrong with the text.
pub fn inspect(block: &str) -> Result<Header, KeyBlockError> {
    header::parse(block).map(|parsed| parsed.header)
}

/// The key between its length in bits and the padding.
fn key_within(content: &[u8]) -> Result<Secret<Vec<u8>>, KeyBlockError> {
    let (bits, rest) = content.split_first_chunk().ok_or(KeyBlockError::KeyLength)?;
    let bits = usize::from(u16::from_be_bytes(*bits));
    if bits == 0 || !bits.is_multiple_of(8) {
        return Err(KeyBlockError::KeyLength);
    }
    let key = rest.get(..bits / 8).ok_or(KeyBlockError::KeyLength)?;
    Ok(Secret::new(key.to_vec()))
}

#[cfg(test)]
mod tests;
