//! Controls that a simulation takes away by name, to see that somebody notices.
//!
//! Only a build with the feature `planted-faults` can: in any other [`is_skipped`] is a constant `false`, and nothing
//! of this is left in the machine code. A build without debug assertions, as every release is, refuses the feature.

#[cfg(all(feature = "planted-faults", not(debug_assertions)))]
compile_error!(
    "planted faults are for the simulation's own tests: build without them, or not for release"
);

macro_rules! controls {
    ($($(#[$meta:meta])* $variant:ident = $word:literal,)+) => {
        /// A control without which something must go wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Control { $($(#[$meta])* $variant,)+ }

        impl Control {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

controls! {
    /// A cryptogram is compared with what the card's key gives.
    Cryptogram = "cryptogram",
    /// What the card signed is what is paid.
    SignedAmount = "signed-amount",
    /// A tap that is older than the newest one is stale.
    CounterOrder = "counter-order",
    /// A blocked card pays nothing.
    CardBlock = "card-block",
    /// A suspended token pays nothing.
    TokenSuspension = "token-suspension",
    /// An arming is good for one tap.
    ArmingOnce = "arming-once",
    /// A decision stands only on facts that still hold when it is written down.
    RecheckAtCommit = "recheck-at-commit",
    /// The same idempotency key has one effect.
    Idempotency = "idempotency",
    /// A reversal gives back what is left of a payment, and no more.
    ReversalRemainder = "reversal-remainder",
    /// Nobody is answered before the transaction is on the disk.
    AnswerAfterCommit = "answer-after-commit",
    /// A transaction that is lost is told to everybody who was in it.
    LostCommitTold = "lost-commit-told",
    /// A phone keeps its counter before it answers.
    PersistBeforeReply = "persist-before-reply",
    /// A node that is alone keeps to its limits.
    StandInLimits = "stand-in-limits",
    /// It decides for phones alone that it has seen pay lately.
    StandInKnown = "stand-in-known",
    /// It does not go by what it was told is blocked.
    StandInBlocks = "stand-in-blocks",
    /// It notes what it decides before it answers.
    StandInNotes = "stand-in-notes",
    /// What it has noted is booked once.
    StandInBookedOnce = "stand-in-booked-once",
}

#[cfg(feature = "planted-faults")]
mod switch {
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::Control;

    /// One bit for each control, by its place in [`Control::ALL`].
    static SKIPPED: AtomicU32 = AtomicU32::new(0);

    fn bit(control: Control) -> u32 {
        let place = Control::ALL.iter().position(|one| *one == control);
        place
            .and_then(|place| u32::try_from(place).ok())
            .map_or(0, |place| 1_u32.wrapping_shl(place))
    }

    pub(super) fn skip(control: Option<Control>) {
        SKIPPED.store(control.map_or(0, bit), Ordering::SeqCst);
    }

    pub(super) fn is_skipped(control: Control) -> bool {
        SKIPPED.load(Ordering::SeqCst) & bit(control) != 0
    }
}

/// Skips one control in this whole process from now on, or none.
#[cfg(feature = "planted-faults")]
pub fn skip(control: Option<Control>) {
    switch::skip(control);
}

/// Whether a simulation has taken this control away.
#[cfg(feature = "planted-faults")]
#[must_use]
pub fn is_skipped(control: Control) -> bool {
    switch::is_skipped(control)
}

/// No control is ever skipped.
#[cfg(not(feature = "planted-faults"))]
#[must_use]
pub const fn is_skipped(_: Control) -> bool {
    false
}
