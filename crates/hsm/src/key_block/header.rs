//! The header of a key block: sixteen characters, then optional blocks.

use super::optional_block::{self, OptionalBlock, is_printable};
use super::{FIXED_HEADER, KeyBlockError, MAXIMUM_LENGTH};

/// How header and key are protected (X9.143, key block version ID).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 3DES, key derivation binding. Read only.
    B,
    /// AES, key derivation binding.
    D,
}

/// What the key may be used for: two letters or digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage([u8; 2]);

/// Which algorithm the key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `A`
    Aes,
    /// `D`
    Des,
    /// `E`
    EllipticCurve,
    /// `H`
    Hmac,
    /// `R`
    Rsa,
    /// `S`
    Dsa,
    /// `T`
    TripleDes,
}

/// What may be done with the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeOfUse {
    /// `B`: encrypt and decrypt, wrap and unwrap.
    EncryptAndDecrypt,
    /// `C`: generate and verify.
    GenerateAndVerify,
    /// `D`: decrypt, unwrap.
    Decrypt,
    /// `E`: encrypt, wrap.
    Encrypt,
    /// `G`: generate.
    Generate,
    /// `N`: no special restrictions.
    Unrestricted,
    /// `S`: sign.
    Sign,
    /// `T`: sign and decrypt.
    SignAndDecrypt,
    /// `V`: verify.
    Verify,
    /// `X`: derive other keys.
    Derive,
    /// `Y`: make key variants.
    Variants,
}

/// Whether a key may leave the place it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exportability {
    /// `E`: in a form that meets ANSI X9.24.
    UnderTrustedKey,
    /// `N`: not at all.
    No,
    /// `S`: also in forms that do not meet ANSI X9.24.
    Sensitive,
}

/// Key version number: two letters or digits, `00` if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyVersion([u8; 2]);

/// What a key block says of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// How it is protected.
    pub version: Version,
    /// What the key is for.
    pub usage: KeyUsage,
    /// For which algorithm.
    pub algorithm: Algorithm,
    /// What may be done with it.
    pub mode: ModeOfUse,
    /// Its version.
    pub key_version: KeyVersion,
    /// Whether it may go further.
    pub exportability: Exportability,
    /// The rest, in the order of the block.
    pub optional_blocks: Vec<OptionalBlock>,
}

/// A key block taken apart.
pub(super) struct Parsed<'a> {
    pub(super) header: Header,
    /// The header as it was written, which is what the MAC covers.
    pub(super) text: &'a str,
    /// The encrypted part.
    pub(super) body: &'a str,
}

impl Version {
    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::B => 'B',
            Self::D => 'D',
        }
    }

    pub(super) const fn protection_key_lengths(self) -> &'static [usize] {
        match self {
            Self::B => &[16, 24],
            Self::D => &[16, 24, 32],
        }
    }

    pub(super) const fn block_length(self) -> usize {
        match self {
            Self::B => 8,
            Self::D => 16,
        }
    }

    /// The MAC is one cipher block.
    pub(super) const fn mac_length(self) -> usize {
        self.block_length()
    }
}

impl KeyUsage {
    /// `D0`: symmetric key for data encryption.
    pub const DATA_ENCRYPTION: Self = Self(*b"D0");
    /// `E0`: EMV issuer master key for application cryptograms.
    pub const APPLICATION_CRYPTOGRAMS: Self = Self(*b"E0");
    /// `K0`: key encryption or wrapping.
    pub const KEY_WRAPPING: Self = Self(*b"K0");
    /// `K1`: key block protection key.
    pub const KEY_BLOCK_PROTECTION: Self = Self(*b"K1");
    /// `K3`: asymmetric key for key agreement.
    pub const KEY_AGREEMENT: Self = Self(*b"K3");
    /// `M7`: HMAC.
    pub const HMAC: Self = Self(*b"M7");
    /// `P0`: PIN encryption.
    pub const PIN_ENCRYPTION: Self = Self(*b"P0");
    /// `S0`: asymmetric key pair for digital signatures.
    pub const SIGNATURE: Self = Self(*b"S0");
    /// `S1`: key pair of a certification authority.
    pub const CERTIFICATION_AUTHORITY: Self = Self(*b"S1");

    /// Two capital letters or digits.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        two_characters(text).map(Self)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl KeyVersion {
    /// `00`: no versions.
    pub const NONE: Self = Self(*b"00");

    /// Two capital letters or digits.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        two_characters(text).map(Self)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Algorithm {
    const ALL: [(u8, Self); 7] = [
        (b'A', Self::Aes),
        (b'D', Self::Des),
        (b'E', Self::EllipticCurve),
        (b'H', Self::Hmac),
        (b'R', Self::Rsa),
        (b'S', Self::Dsa),
        (b'T', Self::TripleDes),
    ];

    /// Its letter.
    #[must_use]
    pub fn letter(self) -> char {
        letter(&Self::ALL, self)
    }

    /// Keys are padded to this many bytes, so that the block does not tell how long they are; zero where
    /// lengths are no secret.
    pub(super) const fn longest_key(self) -> usize {
        match self {
            Self::Aes => 32,
            Self::Des | Self::TripleDes => 24,
            Self::EllipticCurve | Self::Hmac | Self::Rsa | Self::Dsa => 0,
        }
    }
}

impl ModeOfUse {
    const ALL: [(u8, Self); 11] = [
        (b'B', Self::EncryptAndDecrypt),
        (b'C', Self::GenerateAndVerify),
        (b'D', Self::Decrypt),
        (b'E', Self::Encrypt),
        (b'G', Self::Generate),
        (b'N', Self::Unrestricted),
        (b'S', Self::Sign),
        (b'T', Self::SignAndDecrypt),
        (b'V', Self::Verify),
        (b'X', Self::Derive),
        (b'Y', Self::Variants),
    ];

    /// Its letter.
    #[must_use]
    pub fn letter(self) -> char {
        letter(&Self::ALL, self)
    }
}

impl Exportability {
    const ALL: [(u8, Self); 3] =
        [(b'E', Self::UnderTrustedKey), (b'N', Self::No), (b'S', Self::Sensitive)];
}

impl Header {
    /// The header's text for a block whose encrypted part and MAC take `tail` characters.
    pub(super) fn encode(&self, tail: usize) -> Result<String, KeyBlockError> {
        let (count, blocks) =
            optional_block::encode(&self.optional_blocks, self.version.block_length());
        let length = FIXED_HEADER.saturating_add(blocks.len()).saturating_add(tail);
        if length > MAXIMUM_LENGTH || count > 99 {
            return Err(KeyBlockError::TooLong);
        }
        Ok(format!(
            "{}{length:04}{}{}{}{}{}{count:02}00{blocks}",
            self.version.letter(),
            self.usage.as_str(),
            self.algorithm.letter(),
            self.mode.letter(),
            self.key_version.as_str(),
            letter(&Exportability::ALL, self.exportability),
        ))
    }
}

/// Takes a key block apart. Nothing is proven by that.
pub(super) fn parse(block: &str) -> Result<Parsed<'_>, KeyBlockError> {
    if !block.bytes().all(is_printable) {
        return Err(KeyBlockError::NotText);
    }
    let mut fields = Fields { fixed: block.get(..FIXED_HEADER).ok_or(KeyBlockError::CutShort)? };
    let version = match fields.take(1) {
        "B" => Version::B,
        "D" => Version::D,
        other => return Err(KeyBlockError::Version(other.chars().next().unwrap_or(' '))),
    };
    let said = fields.take(4);
    if *said != format!("{:04}", block.len()) {
        return Err(KeyBlockError::Length { said: said.to_owned(), is: block.len() });
    }
    let usage = fields.two("key usage").map(KeyUsage)?;
    let algorithm = fields.one("algorithm", &Algorithm::ALL)?;
    let mode = fields.one("mode of use", &ModeOfUse::ALL)?;
    let key_version = fields.two("key version number").map(KeyVersion)?;
    let exportability = fields.one("exportability", &Exportability::ALL)?;
    let count = fields.count()?;
    fields.reserved()?;

    let (_, rest) = block.split_at_checked(FIXED_HEADER).ok_or(KeyBlockError::CutShort)?;
    let (optional_blocks, body) = optional_block::parse(rest, count)?;
    let length = block.len().saturating_sub(body.len());
    if !length.is_multiple_of(version.block_length()) {
        return Err(KeyBlockError::OptionalBlock {
            number: count,
            why: "does not end at a whole cipher block",
        });
    }
    let text = block.get(..length).ok_or(KeyBlockError::CutShort)?;
    let header =
        Header { version, usage, algorithm, mode, key_version, exportability, optional_blocks };
    Ok(Parsed { header, text, body })
}

/// The fixed header, field by field.
struct Fields<'a> {
    fixed: &'a str,
}

impl<'a> Fields<'a> {
    /// The next `length` characters; the lengths of all fields add up to the fixed header's.
    fn take(&mut self, length: usize) -> &'a str {
        let (field, rest) = self.fixed.split_at_checked(length).unwrap_or_default();
        self.fixed = rest;
        field
    }

    fn two(&mut self, field: &'static str) -> Result<[u8; 2], KeyBlockError> {
        let text = self.take(2);
        two_characters(text).ok_or_else(|| unknown(field, text))
    }

    fn one<T: Copy>(&mut self, field: &'static str, all: &[(u8, T)]) -> Result<T, KeyBlockError> {
        let text = self.take(1);
        let found = all.iter().find(|(letter, _)| text.as_bytes() == [*letter]);
        found.map(|(_, value)| *value).ok_or_else(|| unknown(field, text))
    }

    fn count(&mut self) -> Result<usize, KeyBlockError> {
        let text = self.take(2);
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let count = if digits { text.parse().ok() } else { None };
        count.ok_or_else(|| unknown("number of optional blocks", text))
    }

    fn reserved(&mut self) -> Result<(), KeyBlockError> {
        match self.take(2) {
            "00" => Ok(()),
            other => Err(unknown("reserved field", other)),
        }
    }
}

fn unknown(field: &'static str, value: &str) -> KeyBlockError {
    KeyBlockError::Field { field, value: value.to_owned() }
}

fn two_characters(text: &str) -> Option<[u8; 2]> {
    let bytes: [u8; 2] = text.as_bytes().try_into().ok()?;
    let known = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    bytes.iter().all(known).then_some(bytes)
}

fn letter<T: PartialEq>(all: &[(u8, T)], value: T) -> char {
    all.iter().find(|(_, other)| *other == value).map_or('0', |(letter, _)| char::from(*letter))
}
