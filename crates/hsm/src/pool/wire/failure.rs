//! Errors as they cross: every [`HsmError`] arrives as the one that was sent, so that a caller cannot tell a
//! worker's answer from that of a module in its own process.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize};
use tapfer_emv::certificate::CertificateError;
use tapfer_emv::merchant::{MerchantCertificateError, MerchantNameError};
use tapfer_payment_types::IssuerId;

use crate::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyState};
use crate::{CatalogueError, HsmError, KeystoreError};

/// By this name, because serde would borrow a plain `&'static str` from the frame.
type Name = &'static str;

/// Mirror of [`HsmError`]; one that lacks a case does not compile.
#[derive(Serialize, Deserialize)]
#[serde(remote = "HsmError")]
pub(super) enum HsmErrorFrame {
    UnknownIssuer(IssuerId),
    IssuerExists(IssuerId),
    UnknownDerivationKey {
        issuer: IssuerId,
        index: u8,
    },
    UnknownAuthority {
        index: u8,
    },
    AuthorityExists {
        index: u8,
    },
    MerchantAuthorityExists,
    UnknownMerchantAuthority,
    DocumentKeysExist,
    UnknownDocumentKey,
    AccessKeysExist,
    UnknownAccessKeys,
    CertificateLife {
        maximum_days: i64,
    },
    Certificate(#[serde(with = "CertificateErrorFrame")] CertificateError),
    MerchantCertificate(#[serde(with = "MerchantCertificateErrorFrame")] MerchantCertificateError),
    Recipient,
    LimitedUseKeys,
    SealedToIssuer,
    SingleUseKeys,
    OperatorGrant,
    GrantElsewhere,
    NotADemoRealm,
    NoActiveKey {
        owner: KeyOwner,
        purpose: KeyPurpose,
    },
    NotUnderRoot,
    KeyFormat,
    KeyDestroyed(#[serde(with = "KeyNameFrame")] KeyName),
    UnknownKey(#[serde(with = "KeyNameFrame")] KeyName),
    KeyLife {
        #[serde(with = "KeyNameFrame")]
        name: KeyName,
        from: KeyState,
        to: KeyState,
    },
    KeyStillMakes(#[serde(with = "KeyNameFrame")] KeyName),
    KeyRetired(#[serde(with = "KeyNameFrame")] KeyName),
    NotRotated(KeyPurpose),
    GenerationsExhausted {
        owner: KeyOwner,
        purpose: KeyPurpose,
    },
    CardRecord,
    SelfTestFailed {
        #[serde(deserialize_with = "interned")]
        test: Name,
    },
    ModuleFailed {
        operation: String,
        cause: String,
    },
    PinRefused {
        cause: String,
    },
    LoginUnclear {
        cause: String,
    },
    WrongRoots {
        cause: String,
    },
    Down {
        cause: String,
    },
    DeadlinePassed {
        milliseconds: u64,
    },
    QueueFull {
        waiting: usize,
    },
    Randomness,
    Internal {
        #[serde(deserialize_with = "interned")]
        operation: Name,
    },
    /// Goes through [`portable`].
    #[serde(skip)]
    Keystore(KeystoreError),
    /// Goes through [`portable`].
    #[serde(skip)]
    Catalogue(CatalogueError),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeyName")]
struct KeyNameFrame {
    owner: KeyOwner,
    purpose: KeyPurpose,
    generation: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "CertificateError")]
enum CertificateErrorFrame {
    Length(usize),
    Format,
    Suite,
    Date,
    IssuerIdentifier,
    PublicKey,
    Rid,
    CaIndex,
    Expired,
    SdaHash,
    Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "MerchantCertificateError")]
enum MerchantCertificateErrorFrame {
    Length(usize),
    Format,
    Identifier,
    Suite,
    Date,
    Name(#[serde(with = "MerchantNameErrorFrame")] MerchantNameError),
    PublicKey,
    Signature,
    Expired,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "MerchantNameError")]
enum MerchantNameErrorFrame {
    Length(usize),
    Utf8,
    Unreadable,
}

/// What holds an error of the operating system crosses as its text: it is the operator's to read.
pub(in crate::pool) fn portable(error: HsmError) -> HsmError {
    match error {
        HsmError::Keystore(error) => HsmError::ModuleFailed {
            operation: "opening its keys".to_owned(),
            cause: error.to_string(),
        },
        HsmError::Catalogue(
            error @ (CatalogueError::OtherRoots(_) | CatalogueError::OtherReleasingRoot(_)),
        ) => HsmError::WrongRoots { cause: error.to_string() },
        HsmError::Catalogue(error) => HsmError::ModuleFailed {
            operation: "reading its catalogue".to_owned(),
            cause: error.to_string(),
        },
        other => other,
    }
}

/// How many names are kept. Both ends are the same program, so they are its own few literals.
const MAXIMUM_NAMES: usize = 256;

/// A name that lives as long as the process.
pub(super) fn intern(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    if names.len() >= MAXIMUM_NAMES {
        return "(unnamed)";
    }
    let kept: &'static str = Box::leak(name.into());
    names.insert(kept);
    kept
}

fn interned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    <&str>::deserialize(deserializer).map(intern)
}
