//! Which key: whose it is, what it is for, and the how manyth.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use tapfer_emv::certificate::Rid;
use tapfer_payment_types::IssuerId;

use crate::vault::{Custody, KeyAlgorithm};
use crate::{DocumentPurpose, Realm};

const SECONDS_A_YEAR: i64 = 366 * 86_400;

/// The text names no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this names no key: an owner is \"platform\", an issuer's id, or \"authority:\" with RID and index \
     in hexadecimal digits, such as authority:f054415046-01; its purposes are shown by `tapfer keys list`"
)]
pub struct KeyNameError;

/// Whose key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeyOwner {
    /// The realm's own.
    Platform,
    /// A certification authority's.
    Authority {
        /// Whose cards it certifies.
        rid: Rid,
        /// Index of its key, as cards and terminals name it.
        index: u8,
    },
    /// An issuer's.
    Issuer(IssuerId),
}

impl fmt::Display for KeyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::Authority { rid, index } => {
                write!(f, "authority:{}-{index:02x}", HEXLOWER.encode(rid))
            }
            Self::Issuer(issuer) => issuer.fmt(f),
        }
    }
}

impl FromStr for KeyOwner {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        if text == "platform" {
            return Ok(Self::Platform);
        }
        let Some(authority) = text.strip_prefix("authority:") else {
            return text.parse().map(Self::Issuer).map_err(|_| KeyNameError);
        };
        let hex = |digits: &str| HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
        let read = |(rid, index)| {
            let (rid, index): (Vec<u8>, Vec<u8>) = (hex(rid)?, hex(index)?);
            let [index] = index.as_slice() else { return None };
            Some(Self::Authority { rid: rid.try_into().ok()?, index: *index })
        };
        authority.split_once('-').and_then(read).ok_or(KeyNameError)
    }
}

impl TryFrom<String> for KeyOwner {
    type Error = KeyNameError;

    fn try_from(text: String) -> Result<Self, KeyNameError> {
        text.parse()
    }
}

impl From<KeyOwner> for String {
    fn from(owner: KeyOwner) -> Self {
        owner.to_string()
    }
}

/// What a key is for. It is used for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPurpose {
    /// The platform's: signs terminals' certificates.
    MerchantAuthority,
    /// The platform's: signs configuration.
    Configuration,
    /// The platform's: signs the end of the audit trail.
    AuditHead,
    /// The platform's: signs the TLS certificates of terminals and phones.
    ClientAuthority,
    /// The platform's: what tells repeated requests apart is derived from it.
    RepeatedRequests,
    /// A certification authority's: signs issuers' certificates.
    CertificationAuthority,
    /// An issuer's: card keys are derived from it. Its generation is the derivation key index.
    IssuerMaster,
    /// An issuer's: signs its cards' certificates.
    IccCertificates,
    /// An issuer's: keyed hash of card numbers.
    PanLookup,
    /// An issuer's: wraps the keys of card records.
    CardRecords,
    /// An issuer's: phones and tills seal person's keys and PINs to it.
    PersonKeys,
    /// An issuer's: values that cards' PINs are compared with.
    CardPins,
    /// An issuer's: shares of phones' stores are derived from it.
    StoreShares,
}

impl KeyPurpose {
    /// All keys that an issuer has, from its creation on.
    pub const OF_AN_ISSUER: [Self; 7] = [
        Self::IssuerMaster,
        Self::IccCertificates,
        Self::PanLookup,
        Self::CardRecords,
        Self::PersonKeys,
        Self::CardPins,
        Self::StoreShares,
    ];
    /// The keys by which the platform knows its callers.
    pub const OF_ACCESS: [Self; 2] = [Self::ClientAuthority, Self::RepeatedRequests];
    /// Every purpose.
    pub const ALL: [Self; 13] = [
        Self::MerchantAuthority,
        Self::Configuration,
        Self::AuditHead,
        Self::ClientAuthority,
        Self::RepeatedRequests,
        Self::CertificationAuthority,
        Self::IssuerMaster,
        Self::IccCertificates,
        Self::PanLookup,
        Self::CardRecords,
        Self::PersonKeys,
        Self::CardPins,
        Self::StoreShares,
    ];

    /// As it stands in the catalogue and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MerchantAuthority => "merchant-authority",
            Self::Configuration => "configuration",
            Self::AuditHead => "audit-head",
            Self::ClientAuthority => "client-authority",
            Self::RepeatedRequests => "repeated-requests",
            Self::CertificationAuthority => "certification-authority",
            Self::IssuerMaster => "issuer-master",
            Self::IccCertificates => "icc-certificates",
            Self::PanLookup => "pan-lookup",
            Self::CardRecords => "card-records",
            Self::PersonKeys => "person-keys",
            Self::CardPins => "card-pins",
            Self::StoreShares => "store-shares",
        }
    }

    /// The key's algorithm.
    #[must_use]
    pub const fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::MerchantAuthority
            | Self::Configuration
            | Self::AuditHead
            | Self::ClientAuthority => KeyAlgorithm::Signing,
            Self::CertificationAuthority | Self::IccCertificates => KeyAlgorithm::SchnorrSigning,
            Self::IssuerMaster => KeyAlgorithm::CardKeyDerivation,
            Self::CardRecords => KeyAlgorithm::KeyWrapping,
            Self::PersonKeys => KeyAlgorithm::Agreement,
            Self::PanLookup | Self::CardPins | Self::StoreShares | Self::RepeatedRequests => {
                KeyAlgorithm::Authentication
            }
        }
    }

    /// Which root the key lies under. What no module can do is done in memory, and what a demo shows has
    /// to be shown; everything else stays inside.
    #[must_use]
    pub const fn custody(self, realm: Realm) -> Custody {
        match (self, realm) {
            (Self::CertificationAuthority | Self::IccCertificates, _)
            | (Self::IssuerMaster, Realm::Demo) => Custody::Releasable,
            _ => Custody::Sealed,
        }
    }

    /// Whether an owner of this kind has such a key.
    #[must_use]
    pub const fn fits(self, owner: KeyOwner) -> bool {
        match self {
            Self::MerchantAuthority
            | Self::Configuration
            | Self::AuditHead
            | Self::ClientAuthority
            | Self::RepeatedRequests => matches!(owner, KeyOwner::Platform),
            Self::CertificationAuthority => matches!(owner, KeyOwner::Authority { .. }),
            _ => matches!(owner, KeyOwner::Issuer(_)),
        }
    }

    /// Whether a new generation can take over while older ones still serve what was made under them.
    ///
    /// Not for keyed hashes that the database is searched by ([`Self::PanLookup`]) and for derivations
    /// that must stay the same ([`Self::StoreShares`], [`Self::RepeatedRequests`]); a certification
    /// authority's next key has an index of its own.
    #[must_use]
    pub const fn can_rotate(self) -> bool {
        !matches!(
            self,
            Self::PanLookup
                | Self::StoreShares
                | Self::RepeatedRequests
                | Self::CertificationAuthority
        )
    }

    /// Whether everyone who works with the older generation goes on by itself when a new one comes: phones
    /// get what is new with the keys they fetch anyway, and which key signs audit heads stands in every
    /// configuration. Not so the keys that phones and terminals hold on to as the beginning of trust; of
    /// these, the one that signs configurations signs for the next
    /// ([`crate::vaulted::VaultedHsm::succeed_configuration_key`]).
    #[must_use]
    pub const fn can_overlap(self) -> bool {
        self.can_rotate() && !matches!(self, Self::MerchantAuthority | Self::Configuration)
    }

    /// How long a key makes new things, in seconds from its creation (NIST SP 800-57 part 1 revision 5, 5.3.6,
    /// table 1: master and derivation keys about a year, keys that wrap, authenticate or agree up to two, keys
    /// that sign up to three; certification keys as long as what they certify). `None` for those that are not
    /// rotated.
    #[must_use]
    pub const fn cryptoperiod_seconds(self) -> Option<i64> {
        match self {
            Self::CertificationAuthority | Self::IccCertificates => {
                Some(SECONDS_A_YEAR.saturating_mul(10))
            }
            Self::MerchantAuthority
            | Self::Configuration
            | Self::AuditHead
            | Self::ClientAuthority => Some(SECONDS_A_YEAR.saturating_mul(3)),
            Self::CardRecords | Self::PersonKeys | Self::CardPins => {
                Some(SECONDS_A_YEAR.saturating_mul(2))
            }
            Self::IssuerMaster => Some(SECONDS_A_YEAR),
            Self::PanLookup | Self::StoreShares | Self::RepeatedRequests => None,
        }
    }
}

impl From<DocumentPurpose> for KeyPurpose {
    fn from(purpose: DocumentPurpose) -> Self {
        match purpose {
            DocumentPurpose::Configuration => Self::Configuration,
            DocumentPurpose::AuditHead => Self::AuditHead,
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyPurpose {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text).ok_or(KeyNameError)
    }
}

/// A key's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName {
    /// Whose it is.
    pub owner: KeyOwner,
    /// What it is for.
    pub purpose: KeyPurpose,
    /// The how manyth, from 1.
    pub generation: u8,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.owner, self.purpose, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyOwner, KeyPurpose};
    use tapfer_payment_types::{IssuerId, Timestamp};

    #[test]
    fn owners_are_read_as_they_are_written() {
        let issuer = IssuerId::new(Timestamp::from_unix_millis(1), [3; 10]);
        let authority = KeyOwner::Authority { rid: [0xF0, 0x54, 0x41, 0x50, 0x46], index: 0xA1 };
        assert_eq!(authority.to_string(), "authority:f054415046-a1");
        for owner in [KeyOwner::Platform, authority, KeyOwner::Issuer(issuer)] {
            assert_eq!(owner.to_string().parse(), Ok(owner));
        }
        for text in ["", "Platform", "authority:", "authority:f0-01", "authority:f054415046-0102"] {
            assert!(text.parse::<KeyOwner>().is_err(), "{text}");
        }
    }

    #[test]
    fn purposes_are_read_as_they_are_written() {
        for purpose in KeyPurpose::ALL {
            assert_eq!(purpose.as_str().parse(), Ok(purpose));
            let json = serde_json::to_string(&purpose).unwrap();
            assert_eq!(json, format!("\"{purpose}\""));
        }
        assert!("".parse::<KeyPurpose>().is_err());
    }
}
