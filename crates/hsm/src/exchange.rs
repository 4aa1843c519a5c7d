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
    OptionalBlock, ProtectionKey, Version,
};
use crate::software::SoftwareVault;
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

impl Use {
    fn header(&self, generation: u8) -> Result<Header, KeyBlockError> {
        // `HM`: hash of an HMAC key, 21 for SHA-256.
        let hash = OptionalBlock::new("HM", "21");
        let optional_blocks = match self.algorithm {
            Algorithm::Hmac => vec![hash?],
            _ => Vec::new(),
        };
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

impl VaultedHsm<SoftwareVault> {
    /// Gives a key out under a key block protection key.
    ///
    /// # Errors
    /// [`ExchangeError`]; the key is unknown or destroyed.
    pub fn export_key_block(
        &self,
        name: KeyName,
        protection: &ProtectionKey,
        rng: &mut impl CryptoRng,
    ) -> Result<String, ExchangeError> {
        let header = use_of(name.purpose)?.header(name.generation)?;
        let clear = self.clear_key(name)?;
        Ok(key_block::seal(protection, &header, &clear, rng)?)
    }

    /// Takes a key as the next generation, if its block says that it is for that.
    ///
    /// # Errors
    /// [`ExchangeError`]; the errors of [`VaultedHsm::import_generation`].
    pub fn import_key_block(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        protection: &ProtectionKey,
        block: &str,
        now: Timestamp,
    ) -> Result<KeyRecord, ExchangeError> {
        let expected = use_of(purpose)?;
        let opened = key_block::open(protection, block)?;
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
        Ok(self.import_generation(owner, purpose, &opened.key, now)?)
    }
}
