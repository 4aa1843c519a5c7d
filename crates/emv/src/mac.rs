//! AES-CMAC (NIST SP 800-38B) and what Book E makes of it. Keys of 16 or 32 bytes where said so.
pub fn aes_cmac(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] { todo!() }
/// First eight bytes of AES-CMAC.
pub fn aes_cmac_8(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 8] { todo!() }
/// AES-CMAC+ = D(cmac) xor cmac (Book E 8.5).
pub fn aes_cmac_plus(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] { todo!() }
