//! Status words under their specification names (ISO/IEC 7816-4, 5.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusWord(u16);
impl StatusWord {
    pub const OK: Self = Self(0x9000);
    pub const WRONG_LENGTH: Self = Self(0x6700);
    pub const SECURITY_STATUS_NOT_SATISFIED: Self = Self(0x6982);
    pub const CONDITIONS_NOT_SATISFIED: Self = Self(0x6985);
    pub const WRONG_DATA: Self = Self(0x6A80);
    pub const FUNCTION_NOT_SUPPORTED: Self = Self(0x6A81);
    pub const FILE_NOT_FOUND: Self = Self(0x6A82);
    pub const RECORD_NOT_FOUND: Self = Self(0x6A83);
    pub const INCORRECT_P1_P2: Self = Self(0x6A86);
    pub const REFERENCED_DATA_NOT_FOUND: Self = Self(0x6A88);
    pub const INSTRUCTION_NOT_SUPPORTED: Self = Self(0x6D00);
    pub const CLASS_NOT_SUPPORTED: Self = Self(0x6E00);
    pub const NO_PRECISE_DIAGNOSIS: Self = Self(0x6F00);
    pub const fn from_bytes(sw1: u8, sw2: u8) -> Self { todo!() }
    pub const fn bytes(self) -> [u8; 2] { todo!() }
    pub fn is_ok(self) -> bool { self == Self::OK }
    /// In words, English.
    pub fn describe(self) -> &'static str { todo!() }
}
