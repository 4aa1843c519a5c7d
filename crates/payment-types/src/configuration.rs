//! What phones and terminals are told about whom to trust and what to ask for, as documents that the
//! platform's security module signs (`docs/adr/0016-signed-configuration-and-audit-heads.md`).
//!
//! A document is a JSON text, and what is signed is that text behind a label, byte for byte: nothing has to be written
//! in a canonical form, and nothing is read before its signature is verified. Whoever receives one
//! verifies it with `tapfer_emv::document`, which alone knows the order of the checks.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::messages::{HexBytes, MerchantTrust};
use crate::policy::VerificationPolicy;
use crate::{IssuerId, RealmId, Timestamp};

/// `format` of a [`Configuration`].
pub const CONFIGURATION_FORMAT: &str = "tapfer-configuration-1";
/// `format` of an [`AuditHead`].
pub const AUDIT_HEAD_FORMAT: &str = "tapfer-audit-head-1";
/// `format` of a [`KeySuccession`].
pub const SUCCESSION_FORMAT: &str = "tapfer-key-succession-1";
/// A document is no longer than this, in bytes of its text: room for some 400 issuers.
pub const MAXIMUM_DOCUMENT_LENGTH: usize = 256 * 1_024;
/// A configuration lives no longer than this: 30 days, in seconds.
pub const MAXIMUM_CONFIGURATION_LIFE_SECONDS: i64 = 30 * 86_400;
/// Most successions of the signing key that one configuration brings along.
pub const MAXIMUM_SUCCESSIONS: usize = 16;

/// Clocks of platform and devices agree this far, in seconds: a day. Nothing signed is of a later time.
pub const CLOCK_DIFFERENCE_SECONDS: i64 = 86_400;
/// A restoration is at most so long behind the document that names it.
pub const RESTORATION_AHEAD_SECONDS: i64 = 300;

/// When the platform last went on from a backup, as its audit chain says: milliseconds since 1970, and 0 if it
/// never did. Behind a restoration versions and the audit chain may go back, once.
///
/// A time and no count: two restorations of the same backup are two, although neither knows of the other. And
/// no restoration lies in the time to come, so nobody uses up the numbers of those that will be needed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Restoration(u64);

impl Restoration {
    /// The platform was never restored.
    pub const NEVER: Self = Self(0);

    /// The restoration of a moment. Of one before 1970: [`Self::NEVER`].
    #[must_use]
    pub fn at(time: Timestamp) -> Self {
        Self(u64::try_from(time.unix_millis()).unwrap_or(0))
    }

    /// The first one behind this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Reads what [`fmt::Display`] wrote: digits.
    #[must_use]
    pub fn from_digits(digits: &str) -> Option<Self> {
        digits.parse().ok().map(Self)
    }

    /// When it was; `None` if never.
    #[must_use]
    pub fn time(self) -> Option<Timestamp> {
        let is_one = self != Self::NEVER;
        is_one.then(|| Timestamp::from_unix_millis(i64::try_from(self.0).unwrap_or(i64::MAX)))
    }

    /// Whether it may have been, by a document that was signed at this time: one clock made both, and was set back
    /// by [`RESTORATION_AHEAD_SECONDS`] at most. A later number would be followed, and stand before all that really
    /// come until then.
    #[must_use]
    pub fn may_have_been(self, signed_at: Timestamp) -> bool {
        self <= Self::at(signed_at.plus_seconds(RESTORATION_AHEAD_SECONDS))
    }
}

impl fmt::Display for Restoration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text and who signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDocument {
    /// The document: JSON.
    pub document: String,
    /// The key that signed, x ‖ y on P-256, 64 bytes. A hint only: what it is worth follows from what the
    /// reader knows.
    pub key: HexBytes,
    /// ECDSA over P-256 with SHA-256 over a label of its purpose and the bytes of `document`
    /// (`tapfer_emv::document::DocumentPurpose`): r ‖ s, 64 bytes.
    pub signature: HexBytes,
}

/// A configuration as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedConfiguration {
    /// The [`Configuration`].
    pub configuration: SignedDocument,
    /// How the signing key became the one that signed: a [`KeySuccession`] each, the oldest first.
    pub successions: Vec<SignedDocument>,
}

/// Whom a configuration is for. As text `phones:iss_...` or `terminals`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Audience {
    /// The phones of an issuer.
    Phones(IssuerId),
    /// Every terminal.
    Terminals,
}

/// The text names no audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an audience: write \"terminals\", or \"phones:\" and an issuer's id")]
pub struct UnknownAudience;

impl FromStr for Audience {
    type Err = UnknownAudience;

    fn from_str(text: &str) -> Result<Self, UnknownAudience> {
        if text == "terminals" {
            return Ok(Self::Terminals);
        }
        let issuer = text.strip_prefix("phones:").and_then(|issuer| issuer.parse().ok());
        issuer.map(Self::Phones).ok_or(UnknownAudience)
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phones(issuer) => write!(f, "phones:{issuer}"),
            Self::Terminals => f.write_str("terminals"),
        }
    }
}

impl TryFrom<String> for Audience {
    type Error = UnknownAudience;

    fn try_from(text: String) -> Result<Self, UnknownAudience> {
        text.parse()
    }
}

impl From<Audience> for String {
    fn from(audience: Audience) -> Self {
        alloc::format!("{audience}")
    }
}

/// What an audience is told, in one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// [`CONFIGURATION_FORMAT`].
    pub format: String,
    /// Whose platform says it.
    pub realm: RealmId,
    /// To whom.
    pub audience: Audience,
    /// When the platform last went on from a backup; the same as [`AuditHead::restoration`].
    pub restoration: Restoration,
    /// Counts up within a restoration, from 1, each time anything here changes.
    pub version: u64,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// It is not to be used after this: who gets none that is newer is being kept from it.
    pub expires_at: Timestamp,
    /// The key that signs audit heads, x ‖ y, 64 bytes.
    pub audit_key: HexBytes,
    /// The newest [`AuditHead`], signed with that key.
    pub audit_head: SignedDocument,
    /// What is told.
    pub content: Content,
}

/// What a configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Content {
    /// To [`Audience::Phones`].
    Phones(PhoneConfiguration),
    /// To [`Audience::Terminals`].
    Terminals(TerminalTrust),
}

/// What the phones of an issuer obey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhoneConfiguration {
    /// When the phone has to ask for what.
    pub policy: VerificationPolicy,
    /// Whom the phone believes when a terminal says who it is.
    pub merchant_trust: MerchantTrust,
}

/// Whom terminals trust.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalTrust {
    /// Certification authorities.
    pub authorities: Vec<CardAuthority>,
    /// Issuers whose cards are taken.
    pub issuers: Vec<CardIssuer>,
    /// Issuer certificates that are not trusted any more although they have not expired.
    pub revoked_certificates: Vec<RevokedIssuerCertificate>,
}

/// A certification authority of cards (Book E chapter 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardAuthority {
    /// Registered application provider identifier, five bytes.
    pub rid: HexBytes,
    /// Index of the authority's key.
    pub ca_index: u8,
    /// x of its public key on P-256, 32 bytes.
    pub public_key_x: HexBytes,
}

/// An issuer whose cards are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardIssuer {
    /// Application identifier, 5 to 16 bytes.
    pub aid: HexBytes,
    /// Issuer certificate `90`.
    pub certificate: HexBytes,
    /// Where PINs are sealed to that are entered at a terminal: an uncompressed P-256 point, 65 bytes.
    pub pin_key: HexBytes,
}

/// An issuer certificate that is not trusted any more (Book E annex B.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedIssuerCertificate {
    /// Provider identifier of the authority that signed it, five bytes.
    pub rid: HexBytes,
    /// Index of the authority's key.
    pub ca_index: u8,
    /// Serial number, three bytes.
    pub serial: HexBytes,
}

/// The end of the platform's audit chain at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// [`AUDIT_HEAD_FORMAT`].
    pub format: String,
    /// Whose chain.
    pub realm: RealmId,
    /// When the platform last went on from a backup. Behind a restoration the chain may be shorter than
    /// before, once; without one it never is.
    pub restoration: Restoration,
    /// How many events the chain has.
    pub sequence: u64,
    /// Hash of the last link, 32 bytes.
    pub hash: HexBytes,
    /// When it was signed.
    pub at: Timestamp,
}

/// The key that signs configurations is another one from now on: signed with the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySuccession {
    /// [`SUCCESSION_FORMAT`].
    pub format: String,
    /// Whose key.
    pub realm: RealmId,
    /// The key until now, x ‖ y, 64 bytes.
    pub from: HexBytes,
    /// The key from now on, x ‖ y, 64 bytes.
    pub to: HexBytes,
    /// Since when.
    pub at: Timestamp,
}

impl Configuration {
    /// Whether format, numbers, life, audience and lengths are as they have to be. What keys and
    /// certificates are worth is for whoever uses them.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let life = self.expires_at.millis_since(self.issued_at);
        self.format == CONFIGURATION_FORMAT
            && self.version > 0
            && self.restoration.may_have_been(self.issued_at)
            && life > 0
            && life <= MAXIMUM_CONFIGURATION_LIFE_SECONDS.saturating_mul(1_000)
            && self.audit_key.0.len() == 64
            && match (&self.audience, &self.content) {
                (Audience::Phones(_), Content::Phones(phones)) => phones.is_well_formed(),
                (Audience::Terminals, Content::Terminals(trust)) => trust.is_well_formed(),
                _ => false,
            }
    }
}

impl PhoneConfiguration {
    fn is_well_formed(&self) -> bool {
        self.policy.check().is_ok() && self.merchant_trust.is_well_formed()
    }
}

impl TerminalTrust {
    fn is_well_formed(&self) -> bool {
        let is_rid = |rid: &HexBytes| rid.0.len() == 5;
        self.authorities
            .iter()
            .all(|authority| is_rid(&authority.rid) && authority.public_key_x.0.len() == 32)
            && self.issuers.iter().all(|issuer| (5..=16).contains(&issuer.aid.0.len()))
            && self
                .revoked_certificates
                .iter()
                .all(|revoked| is_rid(&revoked.rid) && revoked.serial.0.len() == 3)
    }
}

impl AuditHead {
    /// Whether format, times and lengths are as they have to be.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.format == AUDIT_HEAD_FORMAT
            && self.hash.0.len() == 32
            && self.restoration.may_have_been(self.at)
    }
}
