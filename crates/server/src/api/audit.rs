//! Signed configurations and the audit chain.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::configuration::{Audience, Restoration, SignedDocument};
use tapfer_payment_types::messages::HexBytes;
use utoipa::{IntoParams, ToSchema};

use crate::api::ShortText;

/// A JSON text and who signed it: ECDSA over P-256 with SHA-256, over a label of its purpose and the text.
///
/// The shape of [`SignedDocument`], for the interface's description.
#[derive(ToSchema)]
#[schema(as = SignedDocument)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct SignedDocumentSchema {
    /// The document, byte for byte what was signed.
    document: String,
    /// The key that signed, x and y on P-256, 64 bytes.
    key: String,
    /// r and s, 64 bytes.
    signature: String,
}

/// A configuration as phones and terminals get it.
///
/// The shape of `SignedConfiguration`, for the interface's description.
#[derive(ToSchema)]
#[schema(as = SignedConfiguration)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct SignedConfigurationSchema {
    /// The configuration. Its version rises, and a device refuses one that is lower.
    #[schema(inline)]
    configuration: SignedDocumentSchema,
    /// How the signing key became the one that signed, each document signed with the key before.
    #[schema(inline)]
    successions: Vec<SignedDocumentSchema>,
}

/// Which configuration.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationQuery {
    /// `terminals`, or `phones:` and an issuer's id; the caller's own if not given.
    #[param(value_type = Option<String>)]
    pub audience: Option<Audience>,
}

/// The end of the audit chain, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHeadAnswer {
    /// Number of events.
    pub sequence: u64,
    /// Hash of the last link, 32 bytes.
    #[schema(value_type = String)]
    pub hash: HexBytes,
    /// When the platform last went on from a backup: milliseconds since 1970, 0 if it never did.
    #[schema(value_type = u64)]
    pub restoration: Restoration,
    /// The signed head.
    #[schema(inline, value_type = SignedDocumentSchema)]
    pub head: SignedDocument,
}

/// Which part of the chain.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LinksQuery {
    /// The place of the head that is known: 0 is the beginning.
    pub after: u64,
    /// 1 to 1000; 1000 if not given.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
}

/// What leads from a known head to a later one: nothing but hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Links {
    /// The place behind which these begin.
    pub after: u64,
    /// SHA-256 of one event each, 32 bytes.
    #[schema(value_type = Vec<String>)]
    pub event_hashes: Vec<HexBytes>,
}

/// The platform goes on from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordRestoration {
    /// Why, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// What devices are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restored {
    /// The restoration that heads and configurations name from now on: its time, in milliseconds since 1970.
    #[schema(value_type = u64)]
    pub restoration: Restoration,
}
