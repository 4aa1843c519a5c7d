//! The store in use: opened with the platform's share, kept up to date, and moved to the next epoch.
//!
//! ```text
//! ClosedStore::find ── header ──► report() ── platform ──► share ── open() ──► SealedStore, Wallet
//!                                                                               │  keep(snapshot)
//!       confirmed: the old share is gone                                        │
//! platform ◄── report() ◄── reseal(next share, snapshot) ◄── rotate ◄── report()┘
//! ```
//!
//! The move may stop anywhere. Until the platform has been told of the new epoch, which happens when the
//! new blob is durable, it gives out the share of either: the blob's header says which one it needs.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use tapfer_payment_types::store_share::StoreReport;

use super::{DeviceSecret, Snapshot, StoreError, StoreHeader, StoreKey, StoreShare, open};
use crate::Wallet;

/// Where an app keeps the sealed wallet: a file ([`super::FileMedium`]), or whatever it has.
pub trait StoreMedium {
    /// What can go wrong.
    type Error;

    /// What is stored; `None` if nothing ever was. What is found here is durable: a loss of power
    /// after this call must not bring back what was there before.
    ///
    /// # Errors
    /// The medium can't be read.
    fn load(&self) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Replaces what is stored as a whole, and returns when the new content would survive a loss of
    /// power.
    ///
    /// # Errors
    /// It can't be replaced. Either the old content or the new is stored then, and nothing in between.
    fn replace(&self, sealed: &[u8]) -> Result<(), Self::Error>;
}

/// Why the store can't be used: its content, or what it is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeepError<E> {
    /// What is stored, or the share.
    #[error(transparent)]
    Store(StoreError),
    /// The medium. Nothing that depends on the snapshot may leave the phone.
    #[error("the wallet could not be stored or loaded")]
    Medium(#[source] E),
}

impl<E> From<StoreError> for KeepError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A store that was found, and waits for the platform's share.
pub struct ClosedStore<M> {
    medium: M,
    device: DeviceSecret,
    header: StoreHeader,
    sealed: Vec<u8>,
}

impl<M: StoreMedium> ClosedStore<M> {
    /// Looks for a stored wallet; `None` if there is none.
    ///
    /// # Errors
    /// The medium can't be read, or what it holds is no wallet of this version.
    pub fn find(medium: M, device: DeviceSecret) -> Result<Option<Self>, KeepError<M::Error>> {
        let Some(sealed) = medium.load().map_err(KeepError::Medium)? else { return Ok(None) };
        let header = StoreHeader::read(&sealed)?;
        Ok(Some(Self { medium, device, header, sealed }))
    }

    /// What to ask the platform for; `None` if the store opens without a share, because no platform
    /// knows the phone yet.
    #[must_use]
    pub fn report(&self) -> Option<StoreReport> {
        let StoreHeader { epoch, generation } = self.header;
        (epoch > 0).then_some(StoreReport { epoch, generation })
    }

    /// Opens it: with the share of the epoch in [`Self::report`], or without one if there is none.
    ///
    /// # Errors
    /// [`StoreError::OtherEpoch`] if it needs another share; [`StoreError::Sealed`] if secret or share
    /// is another one, or a byte was changed.
    pub fn open(self, share: Option<&StoreShare>) -> Result<(SealedStore<M>, Wallet), StoreError> {
        let Self { medium, device, header, sealed } = self;
        let key = match share {
            Some(share) => StoreKey::with_share(&device, share)?,
            None => StoreKey::without_share(&device)?,
        };
        let wallet = open(&key, &sealed)?;
        Ok((SealedStore { medium, device, key, durable: header.generation }, wallet))
    }
}

/// An open store: what keeps the wallet, and the key of this epoch.
pub struct SealedStore<M> {
    medium: M,
    device: DeviceSecret,
    key: StoreKey,
    /// Generation of the snapshot that is known to be durable.
    durable: u64,
}

impl<M: StoreMedium> SealedStore<M> {
    /// Stores a new wallet, in epoch 0. Replaces what is stored.
    ///
    /// # Errors
    /// [`KeepError`]; then there is no store.
    pub fn create(
        medium: M,
        device: DeviceSecret,
        wallet: &mut Wallet,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, KeepError<M::Error>> {
        let key = StoreKey::without_share(&device)?;
        let mut store = Self { medium, device, key, durable: 0 };
        store.keep(&wallet.snapshot()?, rng)?;
        Ok(store)
    }

    /// Replaces what is stored with a newer snapshot; durable when it returns.
    ///
    /// # Errors
    /// [`KeepError`]; then nothing that depends on the snapshot may leave the phone.
    pub fn keep(
        &mut self,
        snapshot: &Snapshot,
        rng: &mut impl CryptoRng,
    ) -> Result<(), KeepError<M::Error>> {
        if snapshot.generation() < self.durable {
            return Err(StoreError::OlderSnapshot.into());
        }
        self.medium.replace(&snapshot.seal(&self.key, rng)?).map_err(KeepError::Medium)?;
        self.durable = snapshot.generation();
        Ok(())
    }

    /// As [`Self::keep`], but under the platform's share of the next epoch. Report to the platform
    /// afterwards: with that the old epoch ends.
    ///
    /// # Errors
    /// [`StoreError::OtherEpoch`] if the share is not of the next epoch. After a [`KeepError::Medium`]
    /// the store may hold either epoch, and goes on in the old one.
    pub fn reseal(
        &mut self,
        share: &StoreShare,
        snapshot: &Snapshot,
        rng: &mut impl CryptoRng,
    ) -> Result<(), KeepError<M::Error>> {
        let needed = self.epoch().saturating_add(1);
        if share.epoch() != needed {
            return Err(StoreError::OtherEpoch { needed, given: share.epoch() }.into());
        }
        let next = StoreKey::with_share(&self.device, share)?;
        let old = core::mem::replace(&mut self.key, next);
        let kept = self.keep(snapshot, rng);
        if kept.is_err() {
            self.key = old;
        }
        kept
    }

    /// What to tell the platform, to move to the next epoch or to confirm the move. Names the snapshot
    /// that is durable, and not one that only memory knows: after a crash that one never was.
    #[must_use]
    pub const fn report(&self) -> StoreReport {
        StoreReport { epoch: self.epoch(), generation: self.durable }
    }

    /// The epoch it is sealed in.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.key.epoch()
    }
}
