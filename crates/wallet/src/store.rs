//! The wallet on the device's disk: one sealed blob, replaced as a whole.
//!
//! ```text
//! 0       4         5          17                 n-16       n
//! | TPFW  | version | nonce 12 | ciphertext       | tag 16   |
//! ```
//!
//! AES-256-GCM under a key that the device keeps in its key store. The first five bytes are the
//! associated data; the nonce is random, which is safe for 2^32 snapshots under one key (NIST SP
//! 800-38D, 8.3), two for each payment. The plaintext is the wallet as JSON, with a generation
//! number that rises with every snapshot, so that a device that can remember a number elsewhere
//! notices when an older blob is put back.
//!
//! # If the phone dies
//! The device must replace the blob atomically (write a new file, flush it, rename it over the old
//! one, flush the directory) before it goes on to the next effect:
//!
//! * before the replacement: the old blob is whole, and nothing that depends on the new one has left
//!   the phone;
//! * after it, before the reply: a counter value, or one payment of a key, is lost unused;
//! * after the reply: nothing is lost.
//!
//! A counter value is therefore never used twice. If replacing fails, the reply must not be sent;
//! the wallet in memory is ahead of the stored one, which is safe, and the next snapshot catches up.
//!
//! # In memory
//! The finished plaintext is wiped. While it is being written the buffer grows, and the allocator gets
//! the outgrown pieces back as they are; the same keys stand in the [`Wallet`] beside them.

use alloc::vec::Vec;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use rand_core::CryptoRng;
use tapfer_payment_types::Secret;
use zeroize::Zeroizing;

use crate::Wallet;

/// What stands in front of every sealed wallet.
const MAGIC: [u8; 4] = *b"TPFW";
/// The only version so far.
const VERSION: u8 = 1;
/// Length of magic and version.
const HEADER_LENGTH: usize = 5;
/// Length of an AES-GCM nonce.
const NONCE_LENGTH: usize = 12;
/// Length of an AES-GCM tag.
const TAG_LENGTH: usize = 16;

/// Why a wallet can't be stored or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The blob ends too early.
    #[error("the stored wallet is cut off: restore the file or enrol the cards again")]
    Truncated,
    /// The blob is something else.
    #[error("this is not a stored wallet: check the path")]
    NotAWallet,
    /// The blob was written by a later version.
    #[error(
        "the stored wallet has format {0}, this version knows format {VERSION}: update the app"
    )]
    UnknownVersion(u8),
    /// Another key, or altered bytes.
    #[error("the stored wallet does not open: the key is another one, or the file was altered")]
    Sealed,
    /// It opens, but the content is no wallet.
    #[error("the stored wallet opens, but its content makes no sense to this version")]
    Content,
    /// The wallet could not be written down or sealed.
    #[error("the wallet could not be written down")]
    Sealing,
}

/// The key that seals the store, 32 bytes from the device's key store.
pub struct StoreKey(Secret<[u8; 32]>);

impl StoreKey {
    /// Takes the device's key.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> Self {
        Self(Secret::new(key))
    }
}

/// The whole wallet at one moment, in clear: seal it before it leaves memory. Wiped on drop.
pub struct Snapshot {
    generation: u64,
    content: Zeroizing<Vec<u8>>,
}

impl Snapshot {
    pub(crate) fn of(wallet: &Wallet) -> Result<Self, StoreError> {
        let content = serde_json::to_vec(wallet).map_err(|_| StoreError::Sealing)?;
        Ok(Self { generation: wallet.generation(), content: Zeroizing::new(content) })
    }

    /// Number of this snapshot; each one has a higher number than the one before.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Seals the snapshot for the disk.
    ///
    /// # Errors
    /// [`StoreError::Sealing`] if the cipher refuses, which takes a wallet of 64 GiB.
    pub fn seal(&self, key: &StoreKey, rng: &mut impl CryptoRng) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0_u8; NONCE_LENGTH];
        rng.fill_bytes(&mut nonce);
        let header = header();
        let payload = Payload { msg: &self.content, aad: &header };
        let ciphertext = Aes256Gcm::new(key.0.expose().into())
            .encrypt(&nonce.into(), payload)
            .map_err(|_| StoreError::Sealing)?;
        Ok([header.as_slice(), &nonce, &ciphertext].concat())
    }

    /// The wallet as it was: what a restart finds after this snapshot was made durable.
    ///
    /// # Errors
    /// [`StoreError::Content`] if the content is no wallet.
    pub fn restore(&self) -> Result<Wallet, StoreError> {
        serde_json::from_slice(&self.content).map_err(|_| StoreError::Content)
    }
}

/// Opens what [`Snapshot::seal`] made.
///
/// # Errors
/// [`StoreError`] says what is wrong with the blob. No part of a refused blob is used.
pub fn open(key: &StoreKey, sealed: &[u8]) -> Result<Wallet, StoreError> {
    let (header, rest) = sealed.split_first_chunk().ok_or(StoreError::Truncated)?;
    check_header(header)?;
    let (nonce, ciphertext) =
        rest.split_first_chunk::<NONCE_LENGTH>().ok_or(StoreError::Truncated)?;
    if ciphertext.len() < TAG_LENGTH {
        return Err(StoreError::Truncated);
    }
    let payload = Payload { msg: ciphertext, aad: header };
    let content = Aes256Gcm::new(key.0.expose().into())
        .decrypt(nonce.into(), payload)
        .map(Zeroizing::new)
        .map_err(|_| StoreError::Sealed)?;
    serde_json::from_slice(&content).map_err(|_| StoreError::Content)
}

fn header() -> [u8; HEADER_LENGTH] {
    let [first, second, third, fourth] = MAGIC;
    [first, second, third, fourth, VERSION]
}

fn check_header(header: &[u8; HEADER_LENGTH]) -> Result<(), StoreError> {
    match header.strip_prefix(&MAGIC) {
        Some([VERSION]) => Ok(()),
        Some([version, ..]) => Err(StoreError::UnknownVersion(*version)),
        _ => Err(StoreError::NotAWallet),
    }
}
