//! The wallet where the app keeps things: one sealed blob, replaced as a whole.
//!
//! ```text
//! 0      4         5           9              17         29                    n-16      n
//! | TPFW | version | epoch, BE | generation, BE | nonce 12 | ciphertext          | tag 16  |
//! ```
//!
//! AES-256-GCM; the first 17 bytes are the associated data. The nonce is random, which is safe for
//! 2^32 snapshots under one key (NIST SP 800-38D, 8.3), two for each payment. The plaintext is the
//! wallet as JSON.
//!
//! * The **key** is made from what the device keeps (its key store, else a random secret) and a share
//!   that the platform keeps: see [`StoreKey`]. The platform can withhold its share; then the store
//!   stays closed.
//! * The **epoch** says which share. It rises at every start and replenishment ([`SealedStore::reseal`]), and
//!   once the platform has seen the new one it never gives out the old share again. A copy from an
//!   earlier epoch is then noise, whoever holds it.
//! * The **generation** rises with every snapshot. The phone reports the one it opens, and the
//!   platform refuses a share for a generation below the highest it was told. It is the opener's own
//!   word: against one who lies, only the epoch helps.
//!
//! Both stand in front of the ciphertext because the phone has to name them before it can open
//! anything; they are authenticated, so that a blob can't be given the number of another.
//!
//! # If the phone dies
//! The medium replaces the blob atomically and durably ([`StoreMedium`], [`FileMedium`]) before the
//! device goes on to the next effect:
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

mod file_medium;
mod header;
mod key;
mod refusal;
mod sealed_store;

use alloc::vec::Vec;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

pub use self::file_medium::{Directory, FileMedium, replace_file};
pub use self::header::StoreHeader;
pub use self::key::{DeviceSecret, StoreKey, StoreShare};
pub use self::refusal::StoreRefusal;
pub use self::sealed_store::{ClosedStore, KeepError, SealedStore, StoreMedium};
use crate::Wallet;

/// Length of an AES-GCM nonce.
const NONCE_LENGTH: usize = 12;
/// Length of an AES-GCM tag.
const TAG_LENGTH: usize = 16;

/// Why a wallet can't be stored or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    // What is stored.
    /// The blob ends too early.
    #[error("the stored wallet is cut off: restore the file or enrol the cards again")]
    Truncated,
    /// The blob is something else.
    #[error("this is not a stored wallet: check the path")]
    NotAWallet,
    /// The blob was written by a version before the first release, under a key without a share.
    #[error(
        "the stored wallet has format {0}, from before the platform had a share in its key: remove \
         it and enrol the cards again"
    )]
    OldVersion(u8),
    /// The blob was written by a later version.
    #[error(
        "the stored wallet has format {0}, this version knows format {version}: update the app",
        version = header::VERSION
    )]
    UnknownVersion(u8),
    /// Another key, or altered bytes.
    #[error("the stored wallet does not open: the key is another one, or the file was altered")]
    Sealed,
    /// It opens, but the content is no wallet.
    #[error("the stored wallet opens, but its content makes no sense to this version")]
    Content,

    // What the caller brought.
    /// The share at hand is of another epoch than the one that is needed.
    #[error(
        "the stored wallet needs the platform's share of epoch {needed}, and this is epoch {given}: \
         ask the platform for the right one"
    )]
    OtherEpoch {
        /// The epoch of the blob, or the one that follows it.
        needed: u32,
        /// The epoch of the key that was tried; 0 is none.
        given: u32,
    },
    /// An older snapshot than the stored one was to be stored.
    #[error("a newer state of the wallet is stored already: use that one")]
    OlderSnapshot,

    // This program.
    /// The wallet could not be written down or sealed.
    #[error("the wallet could not be written down")]
    Sealing,
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

    /// Seals the snapshot for the disk, under the epoch of the key. The same snapshot may be sealed
    /// under the next epoch's key as well: that is how a store moves to it.
    ///
    /// # Errors
    /// [`StoreError::Sealing`] if the cipher refuses, which takes a wallet of 64 GiB.
    pub fn seal(&self, key: &StoreKey, rng: &mut impl CryptoRng) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0_u8; NONCE_LENGTH];
        rng.fill_bytes(&mut nonce);
        let header = StoreHeader { epoch: key.epoch(), generation: self.generation }.encode();
        let payload = Payload { msg: &self.content, aad: &header };
        let ciphertext = Aes256Gcm::new(key.expose().into())
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
    let (header, encoded, rest) = StoreHeader::split(sealed)?;
    let (nonce, ciphertext) =
        rest.split_first_chunk::<NONCE_LENGTH>().ok_or(StoreError::Truncated)?;
    if ciphertext.len() < TAG_LENGTH {
        return Err(StoreError::Truncated);
    }
    if header.epoch != key.epoch() {
        return Err(StoreError::OtherEpoch { needed: header.epoch, given: key.epoch() });
    }
    let payload = Payload { msg: ciphertext, aad: encoded };
    let content = Aes256Gcm::new(key.expose().into())
        .decrypt(nonce.into(), payload)
        .map(Zeroizing::new)
        .map_err(|_| StoreError::Sealed)?;
    let wallet: Wallet = serde_json::from_slice(&content).map_err(|_| StoreError::Content)?;
    // Written together, and authenticated together: anything else is a fault of this program.
    if wallet.generation() == header.generation { Ok(wallet) } else { Err(StoreError::Content) }
}
