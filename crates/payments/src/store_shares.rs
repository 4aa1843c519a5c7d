//! The platform's share in the key of a phone's sealed store: who gets which share when, and how a store
//! that is older than it should be is noticed.
//!
//! The phone names the epoch its store is sealed in, and the number of its last snapshot. It gets the
//! share of the epoch that it has confirmed, or of the next one if that was offered; naming the next one
//! confirms it, and ends the one before for ever. So a phone that dies anywhere on the way can open its
//! store, and a copy from before the move never opens again.

use alloc::string::String;
use core::num::NonZeroU32;

use tapfer_payment_types::Timestamp;
use tapfer_payment_types::store_share::StoreReport;

use crate::words::words;

words! {
    /// Who keeps a store closed.
    Locker, "actor that locks devices" {
        /// The issuer whose app the phone runs.
        Issuer = "issuer",
        /// The operator of the platform.
        Operator = "operator",
    }
}

/// A phone reports its store at every start, and in between writes two or three snapshots for each payment;
/// a token has 65,535 payments in its life. Who reports more than this has made the number up.
pub const MOST_SNAPSHOTS_BETWEEN_REPORTS: u64 = 1 << 20;

/// A phone moves to the next epoch at every start and replenishment. A platform that was restored takes a
/// first report that is no further ahead than this, so that the numbers never run out.
pub const MOST_EPOCHS_BEHIND_A_BACKUP: u32 = 1 << 16;

/// A store that is kept closed: its share is withheld.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLock {
    /// By whom.
    pub by: Locker,
    /// Why. For the staff: whoever holds the phone does not read it.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

/// What a rule of devices forbids. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The share is withheld.
    #[error(
        "the phone is locked by the {0}: its store stays closed and it gets no keys; call them"
    )]
    Locked(Locker),
    /// The store is older than one that was seen.
    #[error(
        "the phone's store is an old copy: the platform has seen a newer one. Remove the cards from \
         this phone and enrol them again, or use the phone that has the newer store"
    )]
    StoreRolledBack,
    /// An epoch that was never offered.
    #[error(
        "the platform never gave out a share of this epoch: the store belongs to another device or \
         platform: enrol the cards again; or the platform was restored and has not said so yet: then wait for its operator (`tapfer audit \
         restored`), and nothing is to be enrolled"
    )]
    UnknownEpoch,
    /// The number of a snapshot is too high to be one.
    #[error(
        "generation is the number of a snapshot: no phone has written {MOST_SNAPSHOTS_BETWEEN_REPORTS} of \
         them since its last report. If this one has, enrol its cards again"
    )]
    Generation,
    /// There is no next epoch.
    #[error("this device has used up its epochs: register the phone anew")]
    NoNextEpoch,
    /// It had nothing left, and its key is gone.
    #[error(
        "the phone was erased, because it had no card for longer than the limit: register it anew"
    )]
    Erased,
    /// It is locked already.
    #[error("the device is locked already, by the {0}")]
    AlreadyLocked(Locker),
    /// There is nothing to unlock.
    #[error("the device is not locked")]
    NotLocked,
    /// Only who locked it, or the operator, unlocks it.
    #[error("the operator has locked the device, and only the operator can unlock it")]
    LockedByOperator,
}

/// What the platform knows of a phone's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreState {
    /// The epoch the phone has confirmed; 0 before its first share.
    pub confirmed_epoch: u32,
    /// Whether the phone was given the share of the next epoch, and has not come back with it yet.
    pub is_next_offered: bool,
    /// The highest snapshot number the phone has reported.
    pub highest_generation: u64,
    /// Whether the platform was restored from a backup since the phone last reported: then the phone may
    /// have moved on to epochs that were offered and forgotten.
    pub may_be_ahead: bool,
}

impl StoreState {
    /// A phone wants to open the store it reports: what is known afterwards. The share that it gets is
    /// the one of the epoch it named.
    ///
    /// # Errors
    /// [`DeviceError::StoreRolledBack`] for an epoch or a snapshot from before what was seen;
    /// [`DeviceError::UnknownEpoch`], [`DeviceError::Generation`].
    pub fn reported(self, report: StoreReport) -> Result<(Self, NonZeroU32), DeviceError> {
        let next = self.seen(report)?;
        let epoch = NonZeroU32::new(report.epoch).ok_or(DeviceError::UnknownEpoch)?;
        Ok((next, epoch))
    }

    /// A phone wants to move the store it reports to the next epoch: what is known afterwards, and the
    /// epoch whose share it gets. The first share is asked for in epoch 0. Asked again, the answer is
    /// the same.
    ///
    /// # Errors
    /// As [`Self::reported`], and [`DeviceError::NoNextEpoch`].
    pub fn rotated(self, report: StoreReport) -> Result<(Self, NonZeroU32), DeviceError> {
        let seen = self.seen(report)?;
        let next = seen.confirmed_epoch.checked_add(1).and_then(NonZeroU32::new);
        let next = next.ok_or(DeviceError::NoNextEpoch)?;
        Ok((Self { is_next_offered: true, ..seen }, next))
    }

    fn seen(self, StoreReport { epoch, generation }: StoreReport) -> Result<Self, DeviceError> {
        if epoch < self.confirmed_epoch || generation < self.highest_generation {
            return Err(DeviceError::StoreRolledBack);
        }
        let is_storable = i64::try_from(generation).is_ok();
        let step = generation.saturating_sub(self.highest_generation);
        if !is_storable || step > MOST_SNAPSHOTS_BETWEEN_REPORTS {
            return Err(DeviceError::Generation);
        }
        let is_next = self.is_next_offered && self.confirmed_epoch.checked_add(1) == Some(epoch);
        // What is below was refused already, so this is how far it is ahead.
        let ahead = epoch.saturating_sub(self.confirmed_epoch);
        let is_forgotten = self.may_be_ahead && ahead <= MOST_EPOCHS_BEHIND_A_BACKUP;
        if ahead > 0 && !is_next && !is_forgotten {
            return Err(DeviceError::UnknownEpoch);
        }
        Ok(Self {
            confirmed_epoch: epoch,
            is_next_offered: self.is_next_offered && ahead == 0,
            highest_generation: generation,
            may_be_ahead: false,
        })
    }
}

/// Whether a device may be locked. The operator's lock takes the place of the issuer's.
///
/// # Errors
/// [`DeviceError::AlreadyLocked`].
pub fn may_lock(lock: Option<&DeviceLock>, by: Locker) -> Result<(), DeviceError> {
    match (lock.map(|lock| lock.by), by) {
        (None, _) | (Some(Locker::Issuer), Locker::Operator) => Ok(()),
        (Some(holder), _) => Err(DeviceError::AlreadyLocked(holder)),
    }
}

/// Whether a device may be unlocked: by who locked it, or by the operator.
///
/// # Errors
/// [`DeviceError::NotLocked`], [`DeviceError::LockedByOperator`].
pub fn may_unlock(lock: Option<&DeviceLock>, by: Locker) -> Result<(), DeviceError> {
    match (lock.map(|lock| lock.by), by) {
        (None, _) => Err(DeviceError::NotLocked),
        (Some(Locker::Operator), Locker::Issuer) => Err(DeviceError::LockedByOperator),
        (Some(_), _) => Ok(()),
    }
}

/// Whether a device gets shares and keys.
///
/// # Errors
/// [`DeviceError::Locked`].
pub fn may_be_served(lock: Option<&DeviceLock>) -> Result<(), DeviceError> {
    lock.map_or(Ok(()), |lock| Err(DeviceError::Locked(lock.by)))
}

#[cfg(test)]
mod tests {
    use super::{
        DeviceError, DeviceLock, Locker, MOST_EPOCHS_BEHIND_A_BACKUP,
        MOST_SNAPSHOTS_BETWEEN_REPORTS, StoreState, may_be_served, may_lock, may_unlock,
    };
    use tapfer_payment_types::Timestamp;
    use tapfer_payment_types::store_share::StoreReport;

    const fn state(confirmed_epoch: u32, is_next_offered: bool) -> StoreState {
        let (highest_generation, may_be_ahead) = (10, false);
        StoreState { confirmed_epoch, is_next_offered, highest_generation, may_be_ahead }
    }

    const fn report(epoch: u32, generation: u64) -> StoreReport {
        StoreReport { epoch, generation }
    }

    /// What is known, what is reported, and the epoch whose share is given by either question.
    #[test]
    fn which_share_for_which_report() {
        use DeviceError::{Generation, NoNextEpoch, StoreRolledBack, UnknownEpoch};
        let furthest = 10 + MOST_SNAPSHOTS_BETWEEN_REPORTS;
        let rows = [
            // Before the first share: only the first move.
            (state(0, false), report(0, 10), Err(UnknownEpoch), Ok(1)),
            (state(0, true), report(0, 10), Err(UnknownEpoch), Ok(1)),
            (state(0, true), report(1, 11), Ok(1), Ok(2)),
            (state(0, false), report(1, 11), Err(UnknownEpoch), Err(UnknownEpoch)),
            // In an epoch.
            (state(3, false), report(3, 10), Ok(3), Ok(4)),
            (state(3, false), report(3, furthest), Ok(3), Ok(4)),
            (state(3, false), report(3, furthest + 1), Err(Generation), Err(Generation)),
            (state(3, true), report(4, furthest + 1), Err(Generation), Err(Generation)),
            (state(0, false), report(0, u64::MAX), Err(Generation), Err(Generation)),
            (state(3, false), report(3, 9), Err(StoreRolledBack), Err(StoreRolledBack)),
            (state(3, false), report(2, 99), Err(StoreRolledBack), Err(StoreRolledBack)),
            (state(3, false), report(0, 99), Err(StoreRolledBack), Err(StoreRolledBack)),
            (state(3, false), report(4, 99), Err(UnknownEpoch), Err(UnknownEpoch)),
            // On the way to the next one: either opens, and the next but one does not.
            (state(3, true), report(3, 10), Ok(3), Ok(4)),
            (state(3, true), report(4, 11), Ok(4), Ok(5)),
            (state(3, true), report(4, 9), Err(StoreRolledBack), Err(StoreRolledBack)),
            (state(3, true), report(5, 11), Err(UnknownEpoch), Err(UnknownEpoch)),
            (state(u32::MAX, false), report(u32::MAX, 10), Ok(u32::MAX), Err(NoNextEpoch)),
        ];
        for (state, report, share, next) in rows {
            let epoch = |result: Result<(StoreState, core::num::NonZeroU32), _>| {
                result.map(|(_, epoch)| epoch.get())
            };
            assert_eq!(epoch(state.reported(report)), share, "{state:?} {report:?}");
            assert_eq!(epoch(state.rotated(report)), next, "{state:?} {report:?}");
        }
    }

    /// The last number that can be kept is the last one there is.
    #[test]
    fn generations_end_where_a_database_ends() {
        let last = u64::try_from(i64::MAX).unwrap();
        let known = StoreState { highest_generation: last - 1, ..state(3, false) };
        assert!(known.reported(report(3, last)).is_ok());
        assert_eq!(known.reported(report(3, last + 1)), Err(DeviceError::Generation));
    }

    /// Naming the offered epoch ends the one before for ever.
    #[test]
    fn a_confirmed_epoch_ends_the_one_before() {
        let (offered, _) = state(3, false).rotated(report(3, 10)).unwrap();
        assert!(offered.reported(report(3, 10)).is_ok(), "until then either opens");
        let (confirmed, _) = offered.reported(report(4, 11)).unwrap();
        let expected = StoreState { highest_generation: 11, ..state(4, false) };
        assert_eq!(confirmed, expected);
        for generation in [10, 11, 12] {
            let error = confirmed.reported(report(3, generation)).unwrap_err();
            assert_eq!(error, DeviceError::StoreRolledBack);
        }
    }

    /// Behind a restoration the first report is taken as it comes, if it can be true; the second is not.
    #[test]
    fn a_restored_platform_follows_a_phone_that_moved_on_once() {
        let restored = StoreState { may_be_ahead: true, ..state(3, true) };
        let furthest = 3 + MOST_EPOCHS_BEHIND_A_BACKUP;
        for (epoch, result) in [
            (2, Err(DeviceError::StoreRolledBack)),
            (3, Ok(3)),
            (4, Ok(4)),
            (9, Ok(9)),
            (furthest, Ok(furthest)),
            (furthest + 1, Err(DeviceError::UnknownEpoch)),
        ] {
            let share = restored.reported(report(epoch, 10)).map(|(_, epoch)| epoch.get());
            assert_eq!(share, result, "{epoch}");
        }
        let (known, next) = restored.rotated(report(9, 12)).unwrap();
        assert_eq!((known.confirmed_epoch, next.get()), (9, 10));
        assert_eq!(known.reported(report(9, 12)).unwrap().1.get(), 9);
        assert_eq!(known.reported(report(11, 12)), Err(DeviceError::UnknownEpoch));
        for older in [3, 8] {
            assert_eq!(known.reported(report(older, 12)), Err(DeviceError::StoreRolledBack));
        }
    }

    /// The state of a phone that reports the truth never goes back, whatever it asks for.
    #[test]
    fn what_is_known_never_goes_back() {
        let mut known = StoreState::default();
        for step in 0..60_u64 {
            let is_new = known.is_next_offered && step % 3 == 0;
            let epoch = known.confirmed_epoch + u32::from(is_new);
            let asked = if step % 2 == 0 { StoreState::rotated } else { StoreState::reported };
            let Ok((next, _)) = asked(known, report(epoch, step)) else { continue };
            assert!(next.confirmed_epoch >= known.confirmed_epoch);
            assert!(next.highest_generation >= known.highest_generation);
            known = next;
        }
        assert!(known.confirmed_epoch > 5, "{known:?}");
    }

    #[test]
    fn who_locks_and_who_unlocks() {
        use Locker::{Issuer, Operator};
        let locked = |by| {
            let at = Timestamp::from_unix_millis(0);
            Some(DeviceLock { by, reason: "lost".into(), at })
        };
        let lock = |held: Option<_>, by| may_lock(held.and_then(locked).as_ref(), by);
        let unlock = |held: Option<_>, by| may_unlock(held.and_then(locked).as_ref(), by);
        assert_eq!(lock(None, Issuer), Ok(()));
        assert_eq!(lock(Some(Issuer), Issuer), Err(DeviceError::AlreadyLocked(Issuer)));
        assert_eq!(lock(Some(Issuer), Operator), Ok(()));
        assert_eq!(lock(Some(Operator), Issuer), Err(DeviceError::AlreadyLocked(Operator)));
        assert_eq!(unlock(None, Operator), Err(DeviceError::NotLocked));
        assert_eq!(unlock(Some(Issuer), Issuer), Ok(()));
        assert_eq!(unlock(Some(Issuer), Operator), Ok(()));
        assert_eq!(unlock(Some(Operator), Issuer), Err(DeviceError::LockedByOperator));
        assert_eq!(may_be_served(None), Ok(()));
        assert_eq!(
            may_be_served(locked(Issuer).as_ref()),
            Err(DeviceError::Locked(Issuer)),
            "no share and no key"
        );
    }
}
