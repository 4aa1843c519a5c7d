//! Status words under their specification names (ISO/IEC 7816-4, 5.6).

use core::fmt;

/// The two bytes that end every answer of a card.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusWord(u16);

impl StatusWord {
    /// `9000`: done.
    pub const OK: Self = Self(0x9000);
    /// `6700`: the command has a wrong length.
    pub const WRONG_LENGTH: Self = Self(0x6700);
    /// `6982`: something has to be proven first.
    pub const SECURITY_STATUS_NOT_SATISFIED: Self = Self(0x6982);
    /// `6985`: not in this state.
    pub const CONDITIONS_NOT_SATISFIED: Self = Self(0x6985);
    /// `6A80`: the data field makes no sense.
    pub const WRONG_DATA: Self = Self(0x6A80);
    /// `6A81`: not offered.
    pub const FUNCTION_NOT_SUPPORTED: Self = Self(0x6A81);
    /// `6A82`: no such application or file.
    pub const FILE_NOT_FOUND: Self = Self(0x6A82);
    /// `6A83`: no such record.
    pub const RECORD_NOT_FOUND: Self = Self(0x6A83);
    /// `6A86`: P1 and P2 make no sense.
    pub const INCORRECT_P1_P2: Self = Self(0x6A86);
    /// `6A88`: no such data object.
    pub const REFERENCED_DATA_NOT_FOUND: Self = Self(0x6A88);
    /// `6D00`: unknown instruction byte.
    pub const INSTRUCTION_NOT_SUPPORTED: Self = Self(0x6D00);
    /// `6E00`: unknown class byte.
    pub const CLASS_NOT_SUPPORTED: Self = Self(0x6E00);
    /// `6F00`: the card failed and does not say why.
    pub const NO_PRECISE_DIAGNOSIS: Self = Self(0x6F00);

    /// SW1 and SW2.
    #[must_use]
    pub const fn from_bytes(sw1: u8, sw2: u8) -> Self {
        Self(u16::from_be_bytes([sw1, sw2]))
    }

    /// SW1 and SW2.
    #[must_use]
    pub const fn bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }

    /// Whether the command was done: `9000`.
    #[must_use]
    pub fn is_ok(self) -> bool {
        self == Self::OK
    }

    /// In words, English.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self.0 {
            0x9000 => "done",
            0x6283 => "the selected application is blocked",
            0x6300 => "authentication failed",
            0x63C0..=0x63CF => "verification failed, the last digit says how many tries are left",
            0x6700 => "wrong length",
            0x6881 => "logical channels are not supported",
            0x6882 => "secure messaging is not supported",
            0x6982 => "security status not satisfied",
            0x6983 => "the authentication method is blocked",
            0x6984 => "the referenced data is no longer usable",
            0x6985 => "conditions of use not satisfied",
            0x6986 => "command not allowed, nothing is selected",
            0x6A80 => "wrong data in the command",
            0x6A81 => "function not supported",
            0x6A82 => "application or file not found",
            0x6A83 => "record not found",
            0x6A84 => "not enough memory",
            0x6A86 => "incorrect P1 or P2",
            0x6A88 => "referenced data not found",
            0x6D00 => "instruction not supported",
            0x6E00 => "class not supported",
            0x6F00 => "failed, no precise diagnosis",
            0x6100..=0x61FF => "done, more bytes are waiting",
            0x6200..=0x62FF => "warning, nothing was changed",
            0x6301..=0x63FF => "warning, something was changed",
            0x6400..=0x64FF => "execution error, nothing was changed",
            0x6500..=0x65FF => "execution error, something was changed",
            0x6C00..=0x6CFF => "wrong expected length, the last byte is the right one",
            _ => "unknown status",
        }
    }
}

impl fmt::Display for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X} ({})", self.0, self.describe())
    }
}

impl fmt::Debug for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::StatusWord;

    #[test]
    fn bytes_and_words() {
        let status = StatusWord::from_bytes(0x69, 0x85);
        assert_eq!(status, StatusWord::CONDITIONS_NOT_SATISFIED);
        assert_eq!(status.bytes(), [0x69, 0x85]);
        assert_eq!(std::format!("{status}"), "6985 (conditions of use not satisfied)");
        assert!(!status.is_ok());
        assert!(StatusWord::from_bytes(0x90, 0x00).is_ok());
    }

    #[test]
    fn only_9000_is_done_without_a_rest() {
        for word in u16::MIN..=u16::MAX {
            let [sw1, sw2] = word.to_be_bytes();
            let status = StatusWord::from_bytes(sw1, sw2);
            assert_eq!(status.is_ok(), status.describe() == "done");
        }
    }
}
