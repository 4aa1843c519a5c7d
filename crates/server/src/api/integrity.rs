//! Device integrity: what an issuer asks of phones, and how a phone stands.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::messages::HexBytes;
use tapfer_payments::integrity::{Consequence, Standing};
use utoipa::ToSchema;

use crate::api::ShortText;

/// What an issuer asks of phones.
///
/// The shape of [`tapfer_payments::integrity::IntegrityPolicy`], for the interface's description.
#[derive(ToSchema)]
#[schema(as = IntegrityPolicy)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct IntegrityPolicySchema {
    /// A phone that stands like this or better pays as it likes.
    #[schema(schema_with = crate::api::standing_schema)]
    least: Standing,
    /// What follows for one that stands worse, but has not failed.
    #[schema(value_type = ConsequenceSchema)]
    below: Consequence,
    /// What follows for one that has failed, or suspects itself. No milder than `below`.
    #[schema(value_type = ConsequenceSchema)]
    failed: Consequence,
    /// For how long a verdict counts, seconds.
    #[schema(minimum = 1)]
    maximum_age_seconds: i64,
    /// Whose Key Attestation is believed and about what. Without roots none is.
    #[schema(value_type = Option<AttestationTermsSchema>)]
    key_attestation: AttestationTermsSchema,
}

/// What follows: `"allow"`, `{"lower_limit": <minor units>}` or `"refuse"`.
#[derive(ToSchema)]
#[schema(as = Consequence, rename_all = "snake_case")]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) enum ConsequenceSchema {
    /// Nothing.
    Allow,
    /// The phone pays up to this amount only.
    LowerLimit(i64),
    /// It pays nothing and gets no keys.
    Refuse,
}

/// What a Key Attestation has to say to count.
#[derive(ToSchema)]
#[schema(as = AttestationTerms)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct AttestationTermsSchema {
    /// Roots that are trusted: `SubjectPublicKeyInfo`, DER, hexadecimal.
    roots: Vec<String>,
    /// Serial numbers that their makers revoked, hexadecimal.
    revoked_serials: Option<Vec<String>>,
    /// Package name of the app; needed with roots.
    package: Option<String>,
    /// SHA-256 of the certificates the app may be signed with, hexadecimal; needed with roots.
    signature_digests: Option<Vec<String>>,
    /// Security patches at least of this year and month, YYYYMM; any if 0.
    oldest_patch_level: Option<u32>,
}

/// A question that the next attestation has to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Challenge {
    /// 32 bytes. What goes to `setAttestationChallenge` is `tapfer-attested-1`, these bytes, and the device's
    /// public key (65 bytes), one behind the other.
    #[schema(value_type = String)]
    pub challenge: HexBytes,
    /// Answers after this do not count.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// A phone's answer: its Key Attestation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAttestation {
    /// Which question is answered.
    #[schema(value_type = String, pattern = "^[0-9a-fA-F]{64}$")]
    pub challenge: HexBytes,
    /// The certificates of the attested key as `KeyStore.getCertificateChain` gives them: DER,
    /// hexadecimal, the phone's own first.
    #[schema(value_type = Vec<String>, max_items = 8)]
    pub chain: Vec<HexBytes>,
}

/// What the issuer's own service found out, for evidence that only it can read (Play Integrity).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVerdict {
    /// How the phone stands.
    #[schema(schema_with = crate::api::standing_schema)]
    pub standing: Standing,
    /// By what it was found, such as `play_integrity`.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// How a phone stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// How it stands.
    #[schema(schema_with = crate::api::standing_schema)]
    pub standing: Standing,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub found_at: Timestamp,
}

impl From<&tapfer_payments::integrity::Verdict> for Verdict {
    fn from(verdict: &tapfer_payments::integrity::Verdict) -> Self {
        Self { standing: verdict.standing, found_at: verdict.found_at }
    }
}
