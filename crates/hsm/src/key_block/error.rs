//! What can be wrong with a key block. Texts name fields, never their encrypted content.

/// Why a key block can't be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyBlockError {
    /// Characters that no key block has.
    #[error("a key block consists of printable ASCII characters; copy it again, as one line")]
    NotText,
    /// Less than a header, or less than it says.
    #[error("the key block is cut short; copy it again, as one line")]
    CutShort,
    /// The length in the header is not the length of the text.
    #[error(
        "the key block says it has {said:?} characters and has {is}; copy it again, as one line"
    )]
    Length {
        /// What the header says.
        said: String,
        /// What there is.
        is: usize,
    },
    /// A version that is not read here.
    #[error(
        "key blocks of version {0:?} are not taken: ask for version D (AES), or B (3DES); A and C are \
         deprecated because they do not bind the header to the key"
    )]
    Version(char),
    /// A header field with a value that ANSI X9.143 does not define.
    #[error("the key block's {field} {value:?} is none that ANSI X9.143 defines; ask its sender")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// An optional block that does not hold together.
    #[error("optional block {number} of the key block {why}; ask its sender")]
    OptionalBlock {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The encrypted part.
    #[error("the key block's encrypted part is not in capital hexadecimal digits; copy it again")]
    NotHexadecimal,
    /// Neither AES nor 3DES key length.
    #[error(
        "a protection key of version {version} key blocks does not have {length} bytes; D takes an AES key \
         of 16, 24 or 32, B a 3DES key of 16 or 24"
    )]
    ProtectionKey {
        /// Version of the blocks it was meant for.
        version: char,
        /// Bytes.
        length: usize,
    },
    /// The protection key is meant for another version.
    #[error("the key block is of version {block}, for which another protection key was agreed")]
    OtherVersion {
        /// The block's.
        block: char,
    },
    /// The MAC is wrong.
    #[error(
        "the key block does not open: it was changed on its way, or was sealed under another protection key; \
         compare the protection key's check value with its sender's"
    )]
    Mac,
    /// The MAC is right and the content makes no sense.
    #[error("the key in the key block has no length that a key can have; ask its sender")]
    KeyLength,
    /// An AES key under a shorter one.
    #[error(
        "the key is longer than the key that would protect it; take a protection key of 32 bytes"
    )]
    TooStrong,
    /// More than a key block holds.
    #[error("a key block has at most {maximum} characters; leave out optional blocks", maximum = super::MAXIMUM_LENGTH)]
    TooLong,
    /// 3DES blocks are not written.
    #[error("keys are given out in key blocks of version D (AES) only")]
    ReadOnly,
}
