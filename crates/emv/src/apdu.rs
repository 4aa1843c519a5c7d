//! Command and response APDUs, short and extended (ISO/IEC 7816-4, 5.1).
use alloc::vec::Vec;
use crate::status::StatusWord;

/// A command. Which of the four cases it is follows from `data` and `expected`.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandApdu { pub class: u8, pub instruction: u8, pub p1: u8, pub p2: u8, pub data: Vec<u8>, /** Expected answer length Ne: None = no Le field; 256 = `00` short; 65536 = `0000` extended. */ pub expected: Option<u32> }
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApduError { }
impl CommandApdu {
    pub fn new(class: u8, instruction: u8, p1: u8, p2: u8, data: Vec<u8>) -> Self { /* expected: Some(256) */ todo!() }
    pub fn parse(bytes: &[u8]) -> Result<Self, ApduError> { todo!() }
    /// Short form where it fits, extended where not.
    pub fn encode(&self) -> Result<Vec<u8>, ApduError> { todo!() }
}
/// An answer: data and status word.
#[derive(Clone, PartialEq, Eq)]
pub struct ResponseApdu { pub data: Vec<u8>, pub status: StatusWord }
impl ResponseApdu {
    pub fn ok(data: Vec<u8>) -> Self { todo!() }
    pub fn refused(status: StatusWord) -> Self { todo!() }
    pub fn parse(bytes: &[u8]) -> Result<Self, ApduError> { todo!() }
    pub fn encode(&self) -> Vec<u8> { todo!() }
}
