//! What a phone finds out about itself: the last byte of the verification results in the IAD.
//!
//! | bit | meaning |
//! |---|---|
//! | `80` | the checks were run |
//! | `04` | the phone seems to be an emulator |
//! | `02` | foreign code or a debugger seems to be in the app |
//! | `01` | the system seems to be changed (root) |
//!
//! Nothing of this can be proven by a phone in foreign hands: a clean report says little, a suspicion
//! says a lot. What can be proven comes to the platform as attestation.

/// The findings, as they travel. Bits without a meaning count as a suspicion of a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnChecks(u8);

const RUN: u8 = 0x80;
const CHANGED_SYSTEM: u8 = 0x01;
const FOREIGN_CODE: u8 = 0x02;
const EMULATOR: u8 = 0x04;

impl OwnChecks {
    /// No checks were made.
    pub const NOT_RUN: Self = Self(0x00);
    /// Checks were made and found nothing.
    pub const CLEAN: Self = Self(RUN);

    /// From the byte in the IAD.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte in the IAD.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        self.0
    }

    /// Adds the finding that the system seems to be changed.
    #[must_use]
    pub const fn with_changed_system(self) -> Self {
        Self(self.0 | RUN | CHANGED_SYSTEM)
    }

    /// Adds the finding that foreign code or a debugger seems to be in the app.
    #[must_use]
    pub const fn with_foreign_code(self) -> Self {
        Self(self.0 | RUN | FOREIGN_CODE)
    }

    /// Adds the finding that the phone seems to be an emulator.
    #[must_use]
    pub const fn with_emulator(self) -> Self {
        Self(self.0 | RUN | EMULATOR)
    }

    /// Whether the phone suspects anything about itself.
    #[must_use]
    pub const fn suspects_anything(self) -> bool {
        self.0 & !RUN != 0
    }
}

#[cfg(test)]
mod tests {
    use super::OwnChecks;

    #[test]
    fn only_a_finding_is_a_suspicion() {
        assert!(!OwnChecks::NOT_RUN.suspects_anything() && !OwnChecks::CLEAN.suspects_anything());
        let found = OwnChecks::NOT_RUN.with_changed_system().with_foreign_code().with_emulator();
        assert_eq!(found.to_byte(), 0x87);
        assert!(found.suspects_anything());
        assert!(OwnChecks::from_byte(0x90).suspects_anything());
    }
}
