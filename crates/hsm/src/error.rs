//! What can go wrong, by who has to act. No text holds card data or keys.

use std::io;
use std::path::PathBuf;

use tapfer_emv::certificate::CertificateError;
use tapfer_emv::merchant::MerchantCertificateError;
use tapfer_payment_types::IssuerId;

use crate::catalogue::{CatalogueError, KeyName, KeyOwner, KeyPurpose, KeyState};
use crate::private_file::FileFault;

/// Why a security module did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HsmError {
    // The caller asked for something that is not there or not allowed.
    /// No such issuer.
    #[error("the module has no keys of issuer {0}; create the issuer first")]
    UnknownIssuer(IssuerId),
    /// The issuer has keys already.
    #[error("the module has keys of issuer {0} already; use those, or create another issuer")]
    IssuerExists(IssuerId),
    /// No such generation of an issuer master key.
    #[error("issuer {issuer} has no master key with derivation key index {index}")]
    UnknownDerivationKey {
        /// Whose key.
        issuer: IssuerId,
        /// Which generation.
        index: u8,
    },
    /// No such certification authority.
    #[error(
        "the module has no certification authority key with index {index:02X} for this RID; create it first"
    )]
    UnknownAuthority {
        /// Index of the key.
        index: u8,
    },
    /// The certification authority exists.
    #[error(
        "the module has a certification authority key with index {index:02X} for this RID already"
    )]
    AuthorityExists {
        /// Index of the key.
        index: u8,
    },
    /// The merchant CA exists.
    #[error("the module has a merchant CA key already; a realm has one")]
    MerchantAuthorityExists,
    /// The realm was made before terminals were certified.
    #[error(
        "the module has no merchant CA key: the realm was made before there was one. Start the platform \
         once, which makes it"
    )]
    UnknownMerchantAuthority,
    /// The realm's document keys exist.
    #[error("the module has the keys that sign documents already; a realm has them once")]
    DocumentKeysExist,
    /// The realm has no key for this purpose.
    #[error(
        "the module has no key to sign documents of this kind with; create the document keys first"
    )]
    UnknownDocumentKey,
    /// The realm's keys of access exist.
    #[error("the module has the keys by which callers are known already; a realm has them once")]
    AccessKeysExist,
    /// The realm was made before callers had certificates.
    #[error(
        "the module has no keys by which callers are known: the realm was made before there were any. Start \
         the platform once, which makes them"
    )]
    UnknownAccessKeys,
    /// The certificate would be dead already, or live too long.
    #[error(
        "the certificate has to end after now and within {maximum_days} days; ask for another date"
    )]
    CertificateLife {
        /// Longest life of this kind of certificate.
        maximum_days: i64,
    },
    /// The certificate that was asked for would be refused by a terminal.
    #[error("a terminal would refuse the certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The terminal's certificate that was asked for would be refused by a phone.
    #[error("a phone would refuse the certificate: {0}")]
    MerchantCertificate(#[from] MerchantCertificateError),
    /// The device's key is not a point on the curve.
    #[error("the device's public key is not an uncompressed P-256 point; register the device anew")]
    Recipient,
    /// Not one to [`crate::MAXIMUM_LIMITED_USE_KEYS`] different keys, each for at least one payment.
    #[error(
        "ask for 1 to {maximum} limited-use keys with different indices, each good for a payment or \
         more, and for no negative sum",
        maximum = crate::MAXIMUM_LIMITED_USE_KEYS
    )]
    LimitedUseKeys,
    /// What a phone or till sealed to its issuer does not open, or is not what it should be. Which of
    /// the two, nobody is told.
    #[error(
        "what was sealed to the issuer cannot be used; fetch the issuer's key again and seal it anew"
    )]
    SealedToIssuer,
    /// A row of single-use keys without keys, beyond the last counter, or without a person's key.
    #[error(
        "ask for rows of 1 to {maximum} single-use keys with different indices, none beyond counter \
         65535, and for class 02 only where there is a person's key",
        maximum = crate::MAXIMUM_SINGLE_USE_KEYS
    )]
    SingleUseKeys,
    /// An operator without name or reason.
    #[error(
        "an operator who wants to see card data gives a name and a reason, up to {maximum} bytes each",
        maximum = crate::OperatorGrant::MAXIMUM_LENGTH
    )]
    OperatorGrant,
    /// The grant entitles to another record, or to none of this kind.
    #[error(
        "the grant does not cover this record: personalising a token opens its own number only"
    )]
    GrantElsewhere,
    /// Keys are shown and imported only where nothing is at stake.
    #[error(
        "keys are shown or imported only in a demo realm; this keystore was created for production"
    )]
    NotADemoRealm,

    /// The realm's merchant CA, document or issuer key of this purpose has no active generation.
    #[error(
        "no key {owner} {purpose} is active: all of them were retired; make a new generation first"
    )]
    NoActiveKey {
        /// Whose.
        owner: KeyOwner,
        /// What for.
        purpose: KeyPurpose,
    },
    /// A wrapped key does not open.
    #[error(
        "a key does not open under this security module's root keys: it was damaged, or made under others"
    )]
    NotUnderRoot,
    /// Bytes that are no key of the kind that was asked for.
    #[error(
        "this is no key of that kind: 16 bytes for AES-128, 32 for others, for P-256 a number from 1 to n-1"
    )]
    KeyFormat,
    /// What was asked for needs a key that was destroyed.
    #[error("the key {0} was destroyed; what was sealed under it is gone for good")]
    KeyDestroyed(KeyName),
    /// There is no such key in the catalogue.
    #[error("there is no key {0}; see `tapfer keys list`")]
    UnknownKey(KeyName),
    /// A key does not go from one state to the other.
    #[error(
        "the key {name} is {from} and cannot become {to}: a key is retired first, destroyed then, and never comes \
         back"
    )]
    KeyLife {
        /// Which key.
        name: KeyName,
        /// Where it is in its life.
        from: KeyState,
        /// Where it should have gone.
        to: KeyState,
    },
    /// A key is to be retired that nothing newer takes the place of.
    #[error("{0} makes what is new, and nothing newer would take its place: rotate it first")]
    KeyStillMakes(KeyName),
    /// Something new was to be made under a generation that is retired.
    #[error("the key {0} is retired and makes nothing new; ask for a newer generation")]
    KeyRetired(KeyName),
    /// Keys of this purpose have no generations.
    #[error(
        "keys for {0} are not rotated: what the database is searched by, or what a phone's store opens with, \
         would be lost; a certification authority's next key has an index of its own"
    )]
    NotRotated(KeyPurpose),
    /// 255 generations were made.
    #[error("the key {owner} {purpose} has had its 255 generations; nothing can follow")]
    GenerationsExhausted {
        /// Whose.
        owner: KeyOwner,
        /// What for.
        purpose: KeyPurpose,
    },

    // What the caller stored has changed.
    /// A card record does not open.
    #[error(
        "the card record is damaged, or belongs to another owner or issuer; restore it from a backup"
    )]
    CardRecord,

    // The module or the system below it failed.
    /// A known-answer test failed: nothing this machine computes can be trusted.
    #[error(
        "self-test {test:?} failed; the module refuses all work: check this build and this machine's processor, then start again"
    )]
    SelfTestFailed {
        /// Name of the test.
        test: &'static str,
    },
    /// A module, or the way to it, failed at this one call.
    #[error("the security module failed at {operation}: {cause}")]
    ModuleFailed {
        /// What was being done.
        operation: String,
        /// What the module said, by its name in the specification of the interface.
        cause: String,
    },
    /// The token did not take its PIN, or would lock if it refused once more.
    #[error(
        "the token did not take its PIN: {cause}. So that it does not lock, nobody tries that PIN again: correct it, \
         or run `tapfer hsm login` with the member's name once the token takes it"
    )]
    PinRefused {
        /// What the module said, and what to do where more is known.
        cause: String,
    },
    /// The token did not say whether it took its PIN, as is the way of some whose device is away.
    #[error(
        "the token did not say whether it took its PIN: {cause}. It is asked again by itself, after a pause"
    )]
    LoginUnclear {
        /// What the module said.
        cause: String,
    },
    /// Its root keys are others than the catalogue's. A person has to act on the token.
    #[error("{cause}")]
    WrongRoots {
        /// Which ones, and what to do.
        cause: String,
    },
    /// No module serves.
    #[error(
        "no security module serves ({cause}); look at `tapfer hsm status` and bring one back: work goes on \
         by itself then"
    )]
    Down {
        /// What each one said last.
        cause: String,
    },
    /// None answered in time.
    #[error(
        "no security module answered within {milliseconds} ms; ask again, and look at `tapfer hsm status` \
         if it goes on"
    )]
    DeadlinePassed {
        /// The deadline.
        milliseconds: u64,
    },
    /// Too many calls wait already.
    #[error(
        "{waiting} calls wait for the security modules already; ask again in a second, and add workers or \
         members to hsm.toml if it goes on"
    )]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes; nothing can be made safely")]
    Randomness,
    /// A cryptographic operation failed that cannot fail on sound input.
    #[error(
        "{operation} failed inside the cryptographic library; this is a defect, please report it"
    )]
    Internal {
        /// What was being done.
        operation: &'static str,
    },
    /// The keystore file.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The catalogue of keys.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl HsmError {
    /// Whether this says something about the module that was asked, so that another may well do what this
    /// one did not. Anything else is an answer: every module of the realm would give the same.
    #[must_use]
    pub const fn is_of_the_module(&self) -> bool {
        matches!(
            self,
            Self::SelfTestFailed { .. }
                | Self::ModuleFailed { .. }
                | Self::PinRefused { .. }
                | Self::LoginUnclear { .. }
                | Self::WrongRoots { .. }
                | Self::Down { .. }
                | Self::DeadlinePassed { .. }
                | Self::QueueFull { .. }
                | Self::Randomness
                | Self::Keystore(_)
                | Self::Catalogue(_)
                | Self::NotUnderRoot
        )
    }

    /// Whether nothing was decided because no module serves in time, now, or none has the keys that it should
    /// have: ask again later.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::ModuleFailed { .. }
                | Self::PinRefused { .. }
                | Self::LoginUnclear { .. }
                | Self::WrongRoots { .. }
                | Self::Down { .. }
                | Self::DeadlinePassed { .. }
                | Self::QueueFull { .. }
                | Self::Catalogue(_)
        )
    }
}

/// What is wrong with the file that holds the software module's keys.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// There is none.
    #[error("there is no keystore at {0}; create one, or name the right file")]
    NotFound(PathBuf),
    /// There is one already.
    #[error("there is a keystore at {0} already; open it, or name another file")]
    Exists(PathBuf),
    /// Others could read it.
    #[error(
        "keystore {path} can be read or written by others (mode {mode:04o}); run: chmod 600 {path:?}"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Some other kind of file.
    #[error("{0} is not a tapfer keystore; name the right file")]
    NotAKeystore(PathBuf),
    /// Written by another version.
    #[error(
        "keystore {path} has format {version}, this program reads format {supported}; use the tapfer that \
         goes with it"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u16,
        /// The format this program reads.
        supported: u16,
    },
    /// Shorter than it says.
    #[error("keystore {0} is cut short; restore it from a backup")]
    Truncated(PathBuf),
    /// The header is damaged.
    #[error("the header of keystore {0} is damaged; restore it from a backup")]
    HeaderDamaged(PathBuf),
    /// The header is whole but asks for something unreasonable.
    #[error(
        "keystore {path} asks for {what} outside sane bounds; do not trust it, restore it from a backup"
    )]
    Parameters {
        /// The file.
        path: PathBuf,
        /// Which parameter.
        what: &'static str,
    },
    /// Opened with a key though sealed with a passphrase, or the other way round.
    #[error("keystore {path} opens with {expected}, not with what was given")]
    UnlockKind {
        /// The file.
        path: PathBuf,
        /// What it opens with.
        expected: &'static str,
    },
    /// The passphrase or key is not the one.
    #[error("wrong {given} for keystore {path}")]
    WrongSecret {
        /// The file.
        path: PathBuf,
        /// What was given.
        given: &'static str,
    },
    /// The secret is right but the content was changed.
    #[error(
        "the content of keystore {0} is damaged or was tampered with; restore it from a backup"
    )]
    ContentDamaged(PathBuf),
    /// A passphrase that can be guessed.
    #[error("the passphrase is too short; take at least {minimum} characters")]
    PassphraseTooShort {
        /// Fewest characters.
        minimum: usize,
    },
    /// A passphrase that is among the first anyone tries.
    #[error(
        "the passphrase is easy to guess: few different characters beside common words; take several \
         words that do not belong together"
    )]
    PassphraseGuessable,
    /// A key for production that no random source made.
    #[error("the keystore key is not random; make one with: openssl rand -hex 32")]
    KeyGuessable,
    /// Not 32 bytes in hexadecimal.
    #[error(
        "the keystore key is 32 bytes, written as 64 hexadecimal digits; make one with: openssl rand -hex 32"
    )]
    KeyFormat,
    /// The file system.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<FileFault> for KeystoreError {
    fn from(fault: FileFault) -> Self {
        match fault {
            FileFault::Missing(path) => Self::NotFound(path),
            FileFault::Exists(path) => Self::Exists(path),
            FileFault::Permissions { path, mode } => Self::Permissions { path, mode },
            FileFault::Io { action, path, source } => Self::Io { action, path, source },
        }
    }
}
