//! Issuers: who gives out cards and decides on payments.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{Currency, IssuerId, Timestamp};
use tapfer_payments::issuers::{CountryCode, KeyPolicy, NumberPrefix};
use utoipa::ToSchema;

use crate::api::ShortText;

/// A new issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateIssuer {
    /// The issuer's name.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub name: ShortText,
    /// ISO 3166 numeric country code, three digits.
    #[schema(value_type = String, pattern = "^[0-9]{3}$", example = "276")]
    pub country: CountryCode,
    /// First digits of the issuer's card numbers, needed to let the platform make card numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{6,8}$")]
    pub pan_prefix: Option<NumberPrefix>,
    /// First digits of the numbers that stand for cards on phones.
    #[schema(value_type = String, pattern = "^[0-9]{6,8}$")]
    pub token_prefix: NumberPrefix,
    /// The currency of the issuer's accounts.
    #[schema(value_type = String, example = "EUR")]
    pub currency: Currency,
    /// Application identifier, 5 to 16 bytes; the demo scheme's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "f054415046455201")]
    pub aid: Option<HexBytes>,
    /// Up to this amount, minor units, a payment needs no verification of the person; 2500 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub unverified_limit: Option<i64>,
    /// How far the keys go that phones are given; three keys of ten payments and 250.00 for one day if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<KeyPolicySchema>)]
    pub key_policy: Option<KeyPolicy>,
}

/// How far the keys go that a phone may use without verifying the person.
///
/// The shape of [`KeyPolicy`], for the interface's description.
#[derive(ToSchema)]
#[schema(as = KeyPolicy)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct KeyPolicySchema {
    /// Payments for each limited-use key.
    #[schema(minimum = 1)]
    maximum_payments: u16,
    /// What those payments may add up to, minor units of the issuer's currency.
    #[schema(minimum = 1)]
    maximum_total_minor: i64,
    /// How long a key and the device certificate renewed with it live: at most seven days.
    #[schema(minimum = 1, maximum = 604_800)]
    lifetime_seconds: i64,
    /// How many keys a phone gets at a time.
    #[schema(minimum = 1, maximum = 62)]
    keys_per_replenishment: u8,
    /// Whether a phone gets single-use session keys in the place of those keys; no if absent.
    single_use: Option<bool>,
    /// How many session keys under the person's key a phone with a PIN gets at a time; 32 if absent.
    #[schema(minimum = 1, maximum = 64)]
    verified_payments: Option<u16>,
}

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Issuer {
    /// The issuer's id.
    #[schema(value_type = String, example = "iss_01kaj5m8g0e9z1a2b3c4d5e6f7")]
    pub id: IssuerId,
    /// The issuer's name.
    pub name: String,
    /// ISO 3166 numeric country code.
    #[schema(value_type = String)]
    pub country: CountryCode,
    /// First digits of the issuer's card numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub pan_prefix: Option<NumberPrefix>,
    /// First digits of the numbers that stand for cards on phones.
    #[schema(value_type = String)]
    pub token_prefix: NumberPrefix,
    /// The currency of the issuer's accounts.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// Application identifier.
    #[schema(value_type = String)]
    pub aid: HexBytes,
    /// Up to this amount, minor units, a payment needs no verification of the person.
    pub unverified_limit: i64,
    /// How far the keys go that phones are given.
    #[schema(value_type = KeyPolicySchema)]
    pub key_policy: KeyPolicy,
    /// When the issuer was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Whom a terminal has to trust to take the cards of this platform, and whom phones trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trust {
    /// Registered application provider identifier, five bytes.
    #[schema(value_type = String, example = "f054415046")]
    pub rid: HexBytes,
    /// Index of the certification authority's key.
    pub ca_index: u8,
    /// x of the certification authority's public key on P-256, 32 bytes.
    #[schema(value_type = String)]
    pub ca_public_key_x: HexBytes,
    /// The authorities of issuers with a RID of their own.
    pub other_authorities: Vec<Authority>,
    /// The certified issuers.
    pub issuers: Vec<TrustedIssuer>,
    /// Certificates of issuers that are not to be trusted any more although they have not expired.
    pub revoked_certificates: Vec<RevokedCertificate>,
    /// x and y, 64 bytes, of the public keys on P-256 that certify terminals: whom phones believe when a
    /// terminal says whose it is.
    #[schema(value_type = Vec<String>)]
    pub merchant_authorities: Vec<HexBytes>,
}

/// An issuer's certificate is to be taken out of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeCertificate {
    /// Why, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// An issuer certificate that is not to be trusted any more (Book E annex B.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedCertificate {
    /// Provider identifier of the authority that signed it, five bytes.
    #[schema(value_type = String)]
    pub rid: HexBytes,
    /// Index of the authority's key.
    pub ca_index: u8,
    /// Serial number, three bytes.
    #[schema(value_type = String)]
    pub serial: HexBytes,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub revoked_at: Timestamp,
}

/// A certification authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Authority {
    /// Registered application provider identifier, five bytes.
    #[schema(value_type = String)]
    pub rid: HexBytes,
    /// Index of the authority's key.
    pub ca_index: u8,
    /// x of the authority's public key on P-256, 32 bytes.
    #[schema(value_type = String)]
    pub ca_public_key_x: HexBytes,
}

/// An issuer and its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrustedIssuer {
    /// The issuer's id.
    #[schema(value_type = String)]
    pub id: IssuerId,
    /// The issuer's name.
    pub name: String,
    /// Application identifier of its cards.
    #[schema(value_type = String)]
    pub aid: HexBytes,
    /// Issuer certificate `90` (Book E chapter 5).
    #[schema(value_type = String)]
    pub certificate: HexBytes,
    /// Where PINs are sealed to: an uncompressed P-256 point (HPKE, RFC 9180).
    #[schema(value_type = String)]
    pub pin_key: HexBytes,
}

impl From<&tapfer_payments::revocations::RevokedIssuerCertificate> for RevokedCertificate {
    fn from(revoked: &tapfer_payments::revocations::RevokedIssuerCertificate) -> Self {
        Self {
            rid: HexBytes(revoked.rid.to_vec()),
            ca_index: revoked.ca_index,
            serial: HexBytes(revoked.serial.to_vec()),
            revoked_at: revoked.revoked_at,
        }
    }
}

impl From<&tapfer_payments::issuers::Issuer> for Issuer {
    fn from(issuer: &tapfer_payments::issuers::Issuer) -> Self {
        Self {
            id: issuer.id,
            name: issuer.name.clone(),
            country: issuer.country,
            pan_prefix: issuer.pan_prefix.clone(),
            token_prefix: issuer.token_prefix.clone(),
            currency: issuer.currency,
            aid: HexBytes(issuer.aid.as_bytes().to_vec()),
            unverified_limit: issuer.unverified_limit_minor,
            key_policy: issuer.key_policy,
            created_at: issuer.created_at,
        }
    }
}
