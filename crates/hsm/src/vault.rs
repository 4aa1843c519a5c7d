//! The seam between the verbs and where keys are: what a place for keys must be able to do.
//!
//! A vault holds two root keys and nothing else for good. Every other key is made inside, leaves it
//! wrapped under one of the roots, lies in the catalogue, and is loaded again to be used.

use serde::{Deserialize, Serialize};
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::keys::{KeyClass, KeyIndex, LimitedUseKey};
use tapfer_payment_types::{PanSequenceNumber, Secret, TokenPan};

use crate::HsmError;
use crate::pkcs11::ModuleReport;

/// What a key is used for, and with that its algorithm and length. A key is used for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyAlgorithm {
    /// AES-128 that card keys are derived from (EMV option C).
    CardKeyDerivation,
    /// AES-256 that wraps data keys (NIST SP 800-38F, KW).
    KeyWrapping,
    /// HMAC-SHA-256 with a key of 32 bytes.
    Authentication,
    /// ECDSA over P-256 with SHA-256.
    Signing,
    /// ECDH over P-256.
    Agreement,
    /// EC-SDSA over P-256 (ISO/IEC 14888-3), which no module offers: a scalar that is used in memory.
    SchnorrSigning,
}

impl KeyAlgorithm {
    /// Whether there is a public side.
    #[must_use]
    pub const fn is_asymmetric(self) -> bool {
        matches!(self, Self::Signing | Self::Agreement | Self::SchnorrSigning)
    }
}

/// Which root a key lies under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Custody {
    /// It opens only inside, and never leaves.
    Sealed,
    /// It may be released into this crate's memory.
    Releasable,
}

/// A key that has just been made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The key under its root: AES key wrap of the raw bytes (RFC 3394), for P-256 keys of a PKCS#8
    /// `PrivateKeyInfo` (RFC 5649); a [`KeyAlgorithm::SchnorrSigning`] scalar counts as raw bytes.
    pub wrapped: Vec<u8>,
    /// The public side of a P-256 key.
    pub public: Option<PublicPoint>,
    /// To tell keys apart by eye: the first three bytes of AES-CMAC over a block of zeros (AES keys,
    /// ANSI X9.24-1 annex A), of HMAC over nothing, or of SHA-256 over the public point x‖y.
    pub check_value: [u8; 3],
}

/// Which session key made a cryptogram.
#[derive(Debug, Clone, Copy)]
pub struct CardKeyPath<'a> {
    /// The number the phone paid with.
    pub token_pan: &'a TokenPan,
    /// Its sequence number.
    pub sequence: PanSequenceNumber,
    /// Class of the limited-use key.
    pub key_class: KeyClass,
    /// Index of the limited-use key.
    pub key_index: KeyIndex,
    /// Transaction counter.
    pub application_transaction_counter: u16,
}

/// What a vault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VaultDescription {
    /// Name of the backend, such as `software`.
    pub backend: &'static str,
    /// Whether the module calls itself hardware: its own word, no certificate.
    pub says_it_is_hardware: bool,
    /// What a person should know about it, in one sentence.
    pub notice: &'static str,
}

/// A place where keys are used.
///
/// Keys come in wrapped and are named by what [`Vault::load`] gave. A key that is used for what its
/// algorithm is not made for is a defect: [`HsmError::Internal`].
pub trait Vault: Send + Sync {
    /// A key that is ready for use. It is kept for as long as the catalogue holds the key unchanged, so
    /// it must outlive a lost session: what is bound to one belongs into a cache of the vault's own.
    type Key: Send + Sync;

    /// What this vault is. Asks nobody.
    fn describe(&self) -> VaultDescription;

    /// What was found out about the module behind it, if there is one. Asks nobody.
    fn report(&self) -> Option<ModuleReport> {
        None
    }

    /// Makes a key inside.
    ///
    /// # Errors
    /// The module failed.
    fn generate(&self, algorithm: KeyAlgorithm, custody: Custody) -> Result<NewKey, HsmError>;

    /// Takes a key that was made elsewhere: raw bytes, for P-256 keys the scalar.
    ///
    /// # Errors
    /// [`HsmError::KeyFormat`] if it is no key of this algorithm; the module failed.
    fn import(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        clear: &Secret<Vec<u8>>,
    ) -> Result<NewKey, HsmError>;

    /// Makes a wrapped key ready for use.
    ///
    /// # Errors
    /// [`HsmError::NotUnderRoot`] if it does not open under this vault's root; the module failed.
    fn load(
        &self,
        algorithm: KeyAlgorithm,
        custody: Custody,
        wrapped: &[u8],
    ) -> Result<Self::Key, HsmError>;

    /// Lets go of a key that the catalogue has not got any more, and of whatever was derived from it. Should that
    /// fail, everything at hand is let go of.
    fn forget(&self, key: &Self::Key) {
        let _ = key;
    }

    /// The application cryptogram over `message`: issuer master key, token key, limited-use key, session
    /// key, AES-CMAC, first eight bytes.
    ///
    /// # Errors
    /// The module failed.
    fn application_cryptogram(
        &self,
        master: &Self::Key,
        path: &CardKeyPath<'_>,
        message: &[u8],
    ) -> Result<[u8; 8], HsmError>;

    /// Limited-use keys, in the order asked for, which leave for the phone they are sealed to.
    ///
    /// # Errors
    /// The module failed.
    fn limited_use_keys(
        &self,
        master: &Self::Key,
        token_pan: &TokenPan,
        sequence: PanSequenceNumber,
        keys: &[(KeyClass, KeyIndex)],
    ) -> Result<Vec<LimitedUseKey>, HsmError>;

    /// HMAC-SHA-256 over the parts, one behind the other.
    ///
    /// # Errors
    /// The module failed.
    fn authenticate(&self, key: &Self::Key, parts: &[&[u8]]) -> Result<[u8; 32], HsmError>;

    /// ECDSA with SHA-256 over the message: r‖s.
    ///
    /// # Errors
    /// The module failed.
    fn sign(&self, key: &Self::Key, message: &[u8]) -> Result<[u8; 64], HsmError>;

    /// ECDH: the x coordinate that both sides share.
    ///
    /// # Errors
    /// The module failed.
    fn agree(&self, key: &Self::Key, peer: &PublicPoint) -> Result<Secret<[u8; 32]>, HsmError>;

    /// Wraps a data key (RFC 3394).
    ///
    /// # Errors
    /// The module failed.
    fn wrap_data_key(
        &self,
        key: &Self::Key,
        data_key: &Secret<[u8; 32]>,
    ) -> Result<[u8; 40], HsmError>;

    /// Opens a data key. `None` if it is not one of this key's.
    ///
    /// # Errors
    /// The module failed.
    fn unwrap_data_key(
        &self,
        key: &Self::Key,
        wrapped: &[u8; 40],
    ) -> Result<Option<Secret<[u8; 32]>>, HsmError>;

    /// The bytes of a [`Custody::Releasable`] key.
    ///
    /// # Errors
    /// The key is sealed; the module failed.
    fn release(&self, key: &Self::Key) -> Result<Secret<Vec<u8>>, HsmError>;

    /// Fills `out` with random bytes fit for keys.
    ///
    /// # Errors
    /// The module failed.
    fn random(&self, out: &mut [u8]) -> Result<(), HsmError>;

    /// Whether the vault serves. Asks whatever is behind it.
    ///
    /// # Errors
    /// What keeps it from serving.
    fn health(&self) -> Result<(), HsmError>;
}
