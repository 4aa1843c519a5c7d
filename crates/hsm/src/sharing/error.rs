//! What can be wrong with parts, said so that the person who holds one knows what to do.

use super::{CeremonyId, SecretKind};

/// Why a secret can't be divided, a part not read, or parts not put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SharingError {
    /// Numbers that make no scheme.
    #[error("a secret has 2 to 16 parts, and 2 up to all of them are needed to rebuild it")]
    Scheme,
    /// The secret is not as long as its kind says.
    #[error("the secret does not have the length of its kind; this is a defect, please report it")]
    Length,

    // One part, as it was typed.
    /// A group with more or fewer than five characters.
    #[error("group {group} does not have five characters; type it again")]
    GroupLength {
        /// Counted from 1 over the whole part.
        group: usize,
    },
    /// A character that stands in no part.
    #[error(
        "group {group} has a character that no part has; parts have digits and letters without I, L, O, U"
    )]
    Character {
        /// Counted from 1 over the whole part.
        group: usize,
    },
    /// The check character does not go with the four before it, or the group stands elsewhere.
    #[error("group {group} is mistyped or out of order; compare it with the paper")]
    Mistyped {
        /// Counted from 1 over the whole part.
        group: usize,
    },
    /// The first group is right and says nothing this program knows.
    #[error(
        "this is no part that this version of tapfer reads; take the version that goes with it"
    )]
    Format,
    /// Something follows the last group.
    #[error("the part has {expected} groups, and more were typed; one part at a time")]
    TooManyGroups {
        /// How many it has.
        expected: usize,
    },
    /// The last groups are missing.
    #[error("the part has {expected} groups, and {typed} were typed")]
    TooFewGroups {
        /// How many it has.
        expected: usize,
        /// How many came.
        typed: usize,
    },
    /// Every group is plausible, the part is not.
    #[error(
        "every group of the part looks right, and the part as a whole is not: two mistakes in one group, or \
         groups from two papers; compare group by group and type it again"
    )]
    Whole,

    // Parts among each other.
    /// Of another kind.
    #[error("this is a part of a {found}; what is asked for here are parts of {expected}")]
    OtherKind {
        /// What the others are.
        expected: SecretKind,
        /// What this is.
        found: SecretKind,
    },
    /// From another time that a secret was divided.
    #[error(
        "this part is from ceremony {found}, the others are from {expected}; parts of two ceremonies do not go \
         together, even if they are of the same keys"
    )]
    OtherCeremony {
        /// The others'.
        expected: CeremonyId,
        /// This one's.
        found: CeremonyId,
    },
    /// The same part twice.
    #[error("part {number} was given already; another custodian's part is needed")]
    Double {
        /// Its number.
        number: u8,
    },
    /// Not enough of them.
    #[error("parts given: {have}; parts needed: {need}")]
    TooFew {
        /// How many came.
        have: usize,
        /// How many it takes.
        need: usize,
    },
    /// More parts than needed were given, and one lies beside the others.
    #[error("part {number} does not agree with the others: it was changed since it was given out")]
    Disagrees {
        /// Its number.
        number: u8,
    },
    /// They give something, and not what was shared.
    #[error(
        "these parts do not give the secret that was shared: one of them was changed since it was given out; \
         try with another custodian"
    )]
    Changed,
}
