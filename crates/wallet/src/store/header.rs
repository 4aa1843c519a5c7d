//! What stands in front of a sealed wallet, for everyone to read and for nobody to change.

use super::StoreError;

/// What stands in front of every sealed wallet.
const MAGIC: [u8; 4] = *b"TPFW";
/// The only version that is written. Version 1 had neither epoch nor generation in clear.
pub(super) const VERSION: u8 = 2;
/// Length of magic, version, epoch and generation.
const LENGTH: usize = 17;

/// Which share opens a sealed wallet, and how new it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreHeader {
    /// Epoch of the platform's share; 0: sealed without one.
    pub epoch: u32,
    /// Number of the snapshot.
    pub generation: u64,
}

impl StoreHeader {
    /// Reads the header of a sealed wallet. Nothing of it is proven before the wallet is open.
    ///
    /// # Errors
    /// [`StoreError::Truncated`], [`StoreError::NotAWallet`], [`StoreError::OldVersion`],
    /// [`StoreError::UnknownVersion`].
    pub fn read(sealed: &[u8]) -> Result<Self, StoreError> {
        Self::split(sealed).map(|(header, _, _)| header)
    }

    /// The header, its bytes (the associated data of what follows), and what follows.
    pub(super) fn split(sealed: &[u8]) -> Result<(Self, &[u8], &[u8]), StoreError> {
        let (magic, rest) = sealed.split_first_chunk().ok_or(StoreError::Truncated)?;
        if *magic != MAGIC {
            return Err(StoreError::NotAWallet);
        }
        let (&version, rest) = rest.split_first().ok_or(StoreError::Truncated)?;
        match version {
            VERSION => {}
            0..VERSION => return Err(StoreError::OldVersion(version)),
            _ => return Err(StoreError::UnknownVersion(version)),
        }
        let (epoch, rest) = rest.split_first_chunk().ok_or(StoreError::Truncated)?;
        let (generation, rest) = rest.split_first_chunk().ok_or(StoreError::Truncated)?;
        let header =
            Self { epoch: u32::from_be_bytes(*epoch), generation: u64::from_be_bytes(*generation) };
        let (encoded, _) = sealed.split_at_checked(LENGTH).ok_or(StoreError::Truncated)?;
        Ok((header, encoded, rest))
    }

    pub(super) fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let parts: [&[u8]; 4] =
            [&MAGIC, &[VERSION], &self.epoch.to_be_bytes(), &self.generation.to_be_bytes()];
        for (place, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        bytes
    }
}
