//! Keys that leave and come as key blocks (ANSI X9.143).
//!
//! Only a vault whose roots are in this process can do it, which is one that custodians have rebuilt them
//! for: [`VaultedHsm`] over a [`SoftwareVault`]. A login at a security module is not enough.
//!
//! Symmetric keys only. Private keys of P-256 move with the catalogue, whose custody they stay in.

use rand_core::CryptoRng;
use tapfer_payment_types::Timestamp;

use crate::HsmError;
use crate::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyRecord};
use crate::key_block::{
    self, Algorithm, Exportability, Header, KeyBlockError, KeyUsage, KeyVersion, ModeOfUse,
    OpenedKey, OptionalBlock, ProtectionKey, Version,
};
use crate::software::{SoftwareVault, check_value};
use crate::vault::KeyAlgorithm;
use crate::vaulted::VaultedHsm;

/// Why a key does not leave or come.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The security module.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The block.
    #[error(transparent)]
    KeyBlock(#[from] KeyBlockError),
    /// A private key.
    #[error(
        "keys for {0} are private keys, which do not travel as key blocks; move the catalogue and the root keys"
    )]
    Asymmetric(KeyPurpose),
    /// The block says that its key is for something else.
    #[error(
        "the key block is for usage {usage}, algorithm {algorithm}, mode {mode}; a key for {purpose} has \
         {expected}. It is not taken for what it was not made for"
    )]
    OtherUse {
        /// What it was to become.
        purpose: KeyPurpose,
        /// What such a key's header says: usage, algorithm, mode.
        expected: String,
        /// The block's usage.
        usage: String,
        /// The block's algorithm.
        algorithm: char,
        /// The block's mode of use.
        mode: char,
    },
    /// The block is for another of our keys.
    #[error("the key block holds {bound}; it is not taken for {owner} {purpose}")]
    OtherKey {
        /// What the block says.
        bound: KeyName,
        /// Whose key it was to become.
        owner: KeyOwner,
        /// What it was to become.
        purpose: KeyPurpose,
    },
    /// It does not say whose key it is.
    #[error(
        "the key block does not say whose key it holds and what for, as every block of tapfer does (optional block \
         {BINDING}). If it comes from another system, and its sender says on another way that it is for {owner} \
         {purpose}, name it as foreign (--foreign)"
    )]
    Unbound {
        /// Whose key it was to become.
        owner: KeyOwner,
        /// What it was to become.
        purpose: KeyPurpose,
    },
    /// It says so in a way that nobody understands.
    #[error("optional block {BINDING} of the key block is damaged, or of a newer tapfer: {0:?}")]
    Binding(String),
    /// It came in a block that forbids it.
    #[error(
        "{0} came in a key block that says it must not leave again (exportability N); ask whoever sent it"
    )]
    NotExportable(KeyName),
    /// The key has another length.
    #[error("the key in the block has {is} bytes; a key for {purpose} has {expected}")]
    Length {
        /// What it was to become.
        purpose: KeyPurpose,
        /// Bytes of such a key.
        expected: usize,
        /// Bytes it has.
        is: usize,
    },
}

/// What a key block says of a key of this platform.
struct Use {
    usage: KeyUsage,
    algorithm: Algorithm,
    mode: ModeOfUse,
    length: usize,
}

fn use_of(purpose: KeyPurpose) -> Result<Use, ExchangeError> {
    let (usage, algorithm, mode, length) = match purpose.algorithm() {
        KeyAlgorithm::CardKeyDerivation => {
            (KeyUsage::APPLICATION_CRYPTOGRAMS, Algorithm::Aes, ModeOfUse::Derive, 16)
        }
        KeyAlgorithm::KeyWrapping => {
            (KeyUsage::KEY_WRAPPING, Algorithm::Aes, ModeOfUse::EncryptAndDecrypt, 32)
        }
        KeyAlgorithm::Authentication => {
            (KeyUsage::HMAC, Algorithm::Hmac, ModeOfUse::GenerateAndVerify, 32)
        }
        KeyAlgorithm::Signing | KeyAlgorithm::Agreement | KeyAlgorithm::SchnorrSigning => {
            return Err(ExchangeError::Asymmetric(purpose));
        }
    };
    Ok(Use { usage, algorithm, mode, length })
}

/// Identifier of the optional block that says whose key it is. X9.143 leaves identifiers of two digits to those who
/// exchange blocks.
pub const BINDING: &str = "10";
/// Begins our binding: another system may use the same identifier for something else.
const BINDING_FORMAT: &str = "TAPFER1";

/// Where a block comes from, as the people who import it say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From tapfer: it says whose key it is and what for.
    Tapfer,
    /// From another system, which does not say it; the people know it from elsewhere.
    Foreign,
}

fn binding_of(name: KeyName) -> Result<OptionalBlock, KeyBlockError> {
    OptionalBlock::new(BINDING, &format!("{BINDING_FORMAT} {name}"))
}

/// Whose key the block says it is; `None` if it says nothing of it.
fn bound_to(header: &Header) -> Result<Option<KeyName>, ExchangeError> {
    let ours = |block: &&OptionalBlock| {
        block.identifier() == BINDING && block.data().starts_with(BINDING_FORMAT)
    };
    let Some(block) = header.optional_blocks.iter().find(ours) else { return Ok(None) };
    let read = || {
        let [_, owner, purpose, generation] =
            <[&str; 4]>::try_from(block.data().split(' ').collect::<Vec<_>>()).ok()?;
        Some(KeyName {
            owner: owner.parse().ok()?,
            purpose: purpose.parse().ok()?,
            generation: generation.parse().ok()?,
        })
    };
    read().map(Some).ok_or_else(|| ExchangeError::Binding(block.data().to_owned()))
}

impl Use {
    fn header(&self, name: KeyName) -> Result<Header, KeyBlockError> {
        let mut optional_blocks = vec![binding_of(name)?];
        if self.algorithm == Algorithm::Hmac {
            // `HM`: hash of an HMAC key, 21 for SHA-256.
            optional_blocks.push(OptionalBlock::new("HM", "21")?);
        }
        let generation = name.generation;
        Ok(Header {
            version: Version::D,
            usage: self.usage,
            algorithm: self.algorithm,
            mode: self.mode,
            // Two digits or letters: generations in hexadecimal.
            key_version: KeyVersion::new(&format!("{generation:02X}")).unwrap_or(KeyVersion::NONE),
            exportability: Exportability::UnderTrustedKey,
            optional_blocks,
        })
    }
}

/// What is in a key block, as its MAC proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockContent {
    /// Which key it says it is; `None` if it does not say, as one of another system.
    pub bound: Option<KeyName>,
    /// To tell its key from others by eye; as in the catalogue, were it taken in.
    pub check_value: [u8; 3],
}

/// Looks into a key block before anybody agrees to take its key in.
///
/// # Errors
/// As [`VaultedHsm::import_key_block`], but for what the catalogue says.
pub fn look_into(
    owner: KeyOwner,
    purpose: KeyPurpose,
    protection: &ProtectionKey,
    block: (&str, Origin),
) -> Result<BlockContent, ExchangeError> {
    let (opened, bound) = open_for(owner, purpose, protection, block)?;
    let check_value = check_value(purpose.algorithm(), opened.key.expose(), None)?;
    Ok(BlockContent { bound, check_value })
}

/// Opens a block whose header says that its key is for this.
fn open_for(
    owner: KeyOwner,
    purpose: KeyPurpose,
    protection: &ProtectionKey,
    (block, origin): (&str, Origin),
) -> Result<(OpenedKey, Option<KeyName>), ExchangeError> {
    let expected = use_of(purpose)?;
    let opened = key_block::open(protection, block)?;
    let bound = bound_to(&opened.header)?;
    match (bound, origin) {
        (Some(bound), _) if (bound.owner, bound.purpose) != (owner, purpose) => {
            return Err(ExchangeError::OtherKey { bound, owner, purpose });
        }
        (None, Origin::Tapfer) => return Err(ExchangeError::Unbound { owner, purpose }),
        (Some(_), _) | (None, Origin::Foreign) => {}
    }
    let Header { usage, algorithm, mode, .. } = opened.header;
    // A block without restrictions allows what this key is for.
    let mode_fits = mode == expected.mode || mode == ModeOfUse::Unrestricted;
    if (usage, algorithm) != (expected.usage, expected.algorithm) || !mode_fits {
        return Err(ExchangeError::OtherUse {
            purpose,
            expected: format!(
                "{}, {}, {}",
                expected.usage.as_str(),
                expected.algorithm.letter(),
                expected.mode.letter()
            ),
            usage: usage.as_str().to_owned(),
            algorithm: algorithm.letter(),
            mode: mode.letter(),
        });
    }
    let (is, expected) = (opened.key.expose().len(), expected.length);
    if is != expected {
        return Err(ExchangeError::Length { purpose, expected, is });
    }
    Ok((opened, bound))
}

impl VaultedHsm<SoftwareVault> {
    /// Gives a key out under a key block protection key. The block's MAC binds it to its name.
    ///
    /// # Errors
    /// [`ExchangeError`]; the key is unknown or destroyed.
    pub fn export_key_block(
        &self,
        name: KeyName,
        protection: &ProtectionKey,
        rng: &mut impl CryptoRng,
    ) -> Result<String, ExchangeError> {
        let header = use_of(name.purpose)?.header(name)?;
        let clear = self.clear_key(name)?;
        let records = self.key_records()?;
        if records.iter().any(|record| record.name == name && !record.exportable) {
            return Err(ExchangeError::NotExportable(name));
        }
        Ok(key_block::seal(protection, &header, &clear, rng)?)
    }

    /// Takes a key as the next generation, if its block says that it is for that: for this owner and purpose if it is
    /// of tapfer, in any case for this use. That a key must not leave again is kept.
    ///
    /// # Errors
    /// [`ExchangeError`]; the errors of [`VaultedHsm::import_generation`].
    pub fn import_key_block(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        protection: &ProtectionKey,
        block: (&str, Origin),
        now: Timestamp,
    ) -> Result<KeyRecord, ExchangeError> {
        let (opened, _) = open_for(owner, purpose, protection, block)?;
        let exportable = opened.header.exportability != Exportability::No;
        Ok(self.import_as(owner, purpose, &opened.key, exportable, now)?)
    }
}
