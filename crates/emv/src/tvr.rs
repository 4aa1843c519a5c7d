//! Terminal verification results `95` of Kernel 8 (Book C-8 annex A).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TerminalVerificationResults([u8; 5]);
/// One bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TvrBit { pub byte: usize, pub mask: u8, pub meaning: &'static str }
impl TerminalVerificationResults {
    pub const fn from_bytes(bytes: [u8; 5]) -> Self { Self(bytes) }
    pub const fn bytes(self) -> [u8; 5] { self.0 }
    pub fn set(&mut self, bit: TvrBit) { todo!() }
    pub fn clear(&mut self, bit: TvrBit) { todo!() }
    pub fn contains(self, bit: TvrBit) -> bool { todo!() }
    /// Whether any bit is also set in `mask` (terminal action codes).
    pub fn intersects(self, mask: [u8; 5]) -> bool { todo!() }
    /// The bits that are set, in words.
    pub fn meanings(self) -> impl Iterator<Item = &'static str> { core::iter::empty() }
}
pub const LOCAL_AUTHENTICATION_NOT_PERFORMED: TvrBit = TvrBit { byte: 0, mask: 0x80, meaning: "local authentication was not performed" };
pub const LOCAL_AUTHENTICATION_FAILED: TvrBit = TvrBit { byte: 0, mask: 0x04, meaning: "local authentication failed" };
// ... all bits of kernel-8.md
