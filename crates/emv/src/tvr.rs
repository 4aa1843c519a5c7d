//! Terminal verification results `95` of Kernel 8 (Book C-8 annex A).

use core::fmt;

/// Five bytes of bits: what the terminal found wrong, or did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TerminalVerificationResults([u8; 5]);

/// One bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TvrBit {
    /// Which byte, from 0.
    pub byte: usize,
    /// The bit in it.
    pub mask: u8,
    /// In words.
    pub meaning: &'static str,
}

impl TerminalVerificationResults {
    /// The bits as the terminal sends them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 5]) -> Self {
        Self(bytes)
    }

    /// The bits as the terminal sends them.
    #[must_use]
    pub const fn bytes(self) -> [u8; 5] {
        self.0
    }

    /// Sets one bit.
    pub fn set(&mut self, bit: TvrBit) {
        if let Some(byte) = self.0.get_mut(bit.byte) {
            *byte |= bit.mask;
        }
    }

    /// Clears one bit.
    pub fn clear(&mut self, bit: TvrBit) {
        if let Some(byte) = self.0.get_mut(bit.byte) {
            *byte &= !bit.mask;
        }
    }

    /// Whether one bit is set.
    #[must_use]
    pub fn contains(self, bit: TvrBit) -> bool {
        self.0.get(bit.byte).is_some_and(|byte| byte & bit.mask != 0)
    }

    /// Whether any bit is also set in `mask` (terminal action codes).
    #[must_use]
    pub fn intersects(self, mask: [u8; 5]) -> bool {
        self.0.iter().zip(mask).any(|(byte, mask)| byte & mask != 0)
    }

    /// The results as they were when the card signed them: without what Kernel 8 finds out only after
    /// GENERATE AC (local authentication failed, cardholder verification failed, online PIN captured).
    /// A cryptogram is computed over these. Holds for cards that send no Card TVR `9F8104`.
    #[must_use]
    pub fn as_signed(mut self) -> Self {
        self.clear(LOCAL_AUTHENTICATION_FAILED);
        self.clear(CARDHOLDER_VERIFICATION_FAILED);
        self.clear(ONLINE_CVM_CAPTURED);
        self
    }

    /// The bits that are set, in words. Bits without a meaning in Kernel 8 are left out.
    pub fn meanings(self) -> impl Iterator<Item = &'static str> {
        ALL.iter().filter(move |bit| self.contains(**bit)).map(|bit| bit.meaning)
    }
}

/// As hexadecimal digits, the way action codes are written.
impl fmt::Debug for TerminalVerificationResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

const fn bit(byte: usize, mask: u8, meaning: &'static str) -> TvrBit {
    TvrBit { byte, mask, meaning }
}

/// `8000000000`.
pub const LOCAL_AUTHENTICATION_NOT_PERFORMED: TvrBit =
    bit(0, 0x80, "local authentication was not performed");
/// `0400000000`.
pub const LOCAL_AUTHENTICATION_FAILED: TvrBit = bit(0, 0x04, "local authentication failed");
/// `0080000000`.
pub const APPLICATION_VERSIONS_DIFFER: TvrBit =
    bit(1, 0x80, "card and terminal have different application versions");
/// `0040000000`.
pub const APPLICATION_EXPIRED: TvrBit = bit(1, 0x40, "the application has expired");
/// `0020000000`.
pub const APPLICATION_NOT_YET_EFFECTIVE: TvrBit =
    bit(1, 0x20, "the application is not yet effective");
/// `0010000000`.
pub const SERVICE_NOT_ALLOWED: TvrBit =
    bit(1, 0x10, "the card's product does not allow the requested service");
/// `0000800000`.
pub const CARDHOLDER_VERIFICATION_FAILED: TvrBit = bit(2, 0x80, "cardholder verification failed");
/// `0000040000`.
pub const ONLINE_CVM_CAPTURED: TvrBit = bit(2, 0x04, "an online PIN was captured");
/// `0000008000`.
pub const FLOOR_LIMIT_EXCEEDED: TvrBit =
    bit(3, 0x80, "the reader contactless floor limit is exceeded");
/// `0000000080`.
pub const KERNEL_8_FORMAT: TvrBit = bit(4, 0x80, "these are verification results of Kernel 8");
/// `0000000040`.
pub const AID_MISMATCH: TvrBit =
    bit(4, 0x40, "the application identifiers of card and terminal differ");
/// `0000000008`.
pub const RELAY_THRESHOLD_EXCEEDED: TvrBit =
    bit(4, 0x08, "the relay resistance threshold is exceeded");
/// `0000000004`.
pub const RELAY_TIME_LIMITS_EXCEEDED: TvrBit =
    bit(4, 0x04, "the relay resistance time limits are exceeded");
/// `0000000002`.
pub const RELAY_RESISTANCE_PERFORMED: TvrBit =
    bit(4, 0x02, "the relay resistance check was performed");
/// `0000000001`.
pub const RELAY_RESISTANCE_NOT_PERFORMED: TvrBit =
    bit(4, 0x01, "the relay resistance check was not performed");

/// Every bit that has a meaning, from the left.
pub const ALL: &[TvrBit] = &[
    LOCAL_AUTHENTICATION_NOT_PERFORMED,
    LOCAL_AUTHENTICATION_FAILED,
    APPLICATION_VERSIONS_DIFFER,
    APPLICATION_EXPIRED,
    APPLICATION_NOT_YET_EFFECTIVE,
    SERVICE_NOT_ALLOWED,
    CARDHOLDER_VERIFICATION_FAILED,
    ONLINE_CVM_CAPTURED,
    FLOOR_LIMIT_EXCEEDED,
    KERNEL_8_FORMAT,
    AID_MISMATCH,
    RELAY_THRESHOLD_EXCEEDED,
    RELAY_TIME_LIMITS_EXCEEDED,
    RELAY_RESISTANCE_PERFORMED,
    RELAY_RESISTANCE_NOT_PERFORMED,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stand_where_the_book_puts_them() {
        let table = [
            (LOCAL_AUTHENTICATION_NOT_PERFORMED, 0x80_0000_0000_u64),
            (LOCAL_AUTHENTICATION_FAILED, 0x04_0000_0000),
            (APPLICATION_VERSIONS_DIFFER, 0x00_8000_0000),
            (APPLICATION_EXPIRED, 0x00_4000_0000),
            (APPLICATION_NOT_YET_EFFECTIVE, 0x00_2000_0000),
            (SERVICE_NOT_ALLOWED, 0x00_1000_0000),
            (CARDHOLDER_VERIFICATION_FAILED, 0x00_0080_0000),
            (ONLINE_CVM_CAPTURED, 0x00_0004_0000),
            (FLOOR_LIMIT_EXCEEDED, 0x00_0000_8000),
            (KERNEL_8_FORMAT, 0x80),
            (AID_MISMATCH, 0x40),
            (RELAY_THRESHOLD_EXCEEDED, 0x08),
            (RELAY_TIME_LIMITS_EXCEEDED, 0x04),
            (RELAY_RESISTANCE_PERFORMED, 0x02),
            (RELAY_RESISTANCE_NOT_PERFORMED, 0x01),
        ];
        assert_eq!(table.len(), ALL.len());
        for (bit, number) in table {
            let mut results = TerminalVerificationResults::default();
            results.set(bit);
            assert_eq!(results.bytes(), number.to_be_bytes()[3..], "{}", bit.meaning);
            assert!(results.contains(bit));
            assert_eq!(results.meanings().collect::<Vec<_>>(), [bit.meaning]);
            results.clear(bit);
            assert_eq!(results, TerminalVerificationResults::default());
        }
    }

    #[test]
    fn action_codes_are_masks() {
        let results = TerminalVerificationResults::from_bytes([0x04, 0, 0, 0x80, 0x81]);
        assert!(results.intersects([0, 0, 0, 0x80, 0]));
        assert!(!results.intersects([0x80, 0xFF, 0xFF, 0x7F, 0]));
        assert_eq!(std::format!("{results:?}"), "0400008081");
    }
}
