//! Requests: one for each verb, and what pool and worker have to tell each other besides.

use serde::{Deserialize, Serialize};
use tapfer_emv::cryptogram::CryptogramInput;
use tapfer_payment_types::configuration::SignedConfiguration;
use tapfer_payment_types::messages::{CardProfileMessage, HexBytes, PinStatus};
use tapfer_payment_types::policy::{LastVerified, SinceVerified};
use tapfer_payment_types::{CatalogueMark, Timestamp, TokenPan};
use zeroize::Zeroizing;

use crate::{
    CryptogramRequest, HsmError, LimitedUseKeyTerms, PersonKeyInUse, ProvisioningRequest,
    RecordOwner, SingleUseKeyTerms,
};

/// What a worker is asked. Ids travel as their 128 bits, times in milliseconds since 1970. None of this has a
/// `Debug`: it holds card numbers and keys.
#[derive(Serialize, Deserialize)]
#[expect(missing_docs, reason = "fields are those of the verbs, which say what they are")]
pub enum Request<'a> {
    /// Whether the module serves: the probe of a breaker.
    Health,
    /// [`crate::PaymentHsm::follow_catalogue`]
    FollowCatalogue { known: Option<CatalogueMark> },
    /// [`crate::PaymentHsm::random`]
    Random { length: u32 },
    /// [`crate::PaymentHsm::create_certification_authority`]
    CreateCertificationAuthority { rid: [u8; 5], index: u8, now: i64 },
    /// [`crate::PaymentHsm::ca_public_key`]
    CaPublicKey { rid: [u8; 5], index: u8 },
    /// [`crate::PaymentHsm::create_issuer`]
    CreateIssuer { issuer: u128, now: i64 },
    /// [`crate::PaymentHsm::issuer_keys`]
    IssuerKeys { issuer: u128 },
    /// [`crate::PaymentHsm::issue_issuer_certificate`]
    IssueIssuerCertificate {
        issuer: u128,
        rid: [u8; 5],
        ca_index: u8,
        issuer_identifier: [u8; 5],
        expiry: (u16, u8, u8),
        serial: [u8; 3],
        now: i64,
    },
    /// [`crate::PaymentHsm::sign_icc_certificate`]
    SignIccCertificate {
        issuer: u128,
        public_key: [u8; 32],
        sda_hash: [u8; 32],
        serial: [u8; 6],
        expires_at: i64,
        now: i64,
    },
    /// [`crate::PaymentHsm::create_merchant_authority`]
    CreateMerchantAuthority { now: i64 },
    /// [`crate::PaymentHsm::merchant_ca_key`]
    MerchantCaKey,
    /// [`crate::PaymentHsm::sign_merchant_certificate`]
    SignMerchantCertificate {
        acquirer: [u8; 6],
        merchant: [u8; 15],
        terminal: [u8; 8],
        name: &'a str,
        public_key: &'a [u8],
        serial: [u8; 6],
        expires_at: i64,
        now: i64,
    },
    /// [`crate::PaymentHsm::create_access_keys`]
    CreateAccessKeys { now: i64 },
    /// [`crate::PaymentHsm::client_authorities`]
    ClientAuthorities,
    /// [`crate::PaymentHsm::sign_client_certificate`]
    SignClientCertificate {
        is_device: bool,
        client: u128,
        api_key: u128,
        public_key: &'a [u8],
        expires_at: i64,
        now: i64,
    },
    /// [`crate::PaymentHsm::repetition_secret`]
    RepetitionSecret,
    /// [`crate::PaymentHsm::create_document_keys`]
    CreateDocumentKeys { now: i64 },
    /// [`crate::PaymentHsm::document_keys`]; the purpose's place in `DocumentPurpose::ALL`.
    DocumentKeys { purpose: u8 },
    /// [`crate::PaymentHsm::sign_document`]
    SignDocument { purpose: u8, document: &'a [u8] },
    /// [`crate::PaymentHsm::verify_cryptogram`]
    #[serde(borrow)]
    VerifyCryptogram(Cryptogram<'a>),
    /// [`crate::PaymentHsm::seal_provisioning`]
    SealProvisioning(Provisioning<'a>),
    /// [`crate::PaymentHsm::person_key_recipient`]
    PersonKeyRecipient { issuer: u128 },
    /// [`crate::PaymentHsm::accept_person_key`]
    AcceptPersonKey {
        issuer: u128,
        token: u128,
        generation: u32,
        encapsulated_key: &'a [u8],
        ciphertext: &'a [u8],
        old: Option<(u32, &'a [u8])>,
    },
    /// [`crate::PaymentHsm::card_pin_value`]
    CardPinValue { issuer: u128, card: u128, encapsulated_key: &'a [u8], ciphertext: &'a [u8] },
    /// [`crate::PaymentHsm::verify_card_pin`]
    VerifyCardPin {
        issuer: u128,
        card: u128,
        value: [u8; 32],
        encapsulated_key: &'a [u8],
        ciphertext: &'a [u8],
        associated: &'a [u8],
    },
    /// [`crate::PaymentHsm::store_share`]
    StoreShare { issuer: u128, device: u128, epoch: u32 },
    /// [`crate::PaymentHsm::seal_card_record`]
    SealCardRecord { issuer: u128, owner: Owner, record: &'a [u8] },
    /// [`crate::PaymentHsm::open_card_record`]
    OpenCardRecord { issuer: u128, owner: Owner, record: &'a [u8], grant: Grant<'a> },
    /// [`crate::PaymentHsm::pan_lookup`]
    PanLookup { issuer: u128, pan: &'a str },
    /// [`crate::PaymentHsm::demo_keys`]
    DemoKeys { issuer: u128, index: u8 },
    /// [`crate::PaymentHsm::import_demo_issuer`]
    ImportDemoIssuer { issuer: u128, key: [u8; 16], now: i64 },
}

impl Request<'_> {
    /// Whether the catalogue answers it, so that it says nothing about the module.
    #[must_use]
    pub const fn asks_no_module(&self) -> bool {
        matches!(
            self,
            Self::FollowCatalogue { .. }
                | Self::CaPublicKey { .. }
                | Self::IssuerKeys { .. }
                | Self::MerchantCaKey
                | Self::DocumentKeys { .. }
        )
    }

    /// Whether it is what payments ask, and takes microseconds: an answer may wait for the next one.
    #[must_use]
    pub const fn is_brief(&self) -> bool {
        matches!(self, Self::VerifyCryptogram(_) | Self::PanLookup { .. })
    }
}

/// A token's number and what belongs to it.
#[derive(Serialize, Deserialize)]
#[expect(missing_docs, reason = "fields are those of the verbs, which say what they are")]
pub struct CardNumber<'a> {
    pub token: u128,
    pub token_pan: &'a str,
    pub sequence: u8,
}

/// A cryptogram to verify. See [`CryptogramRequest`].
#[derive(Serialize, Deserialize)]
#[expect(missing_docs, reason = "fields are those of the verb, which says what they are")]
pub struct Cryptogram<'a> {
    pub issuer: u128,
    pub derivation_key_index: u8,
    #[serde(borrow)]
    pub number: CardNumber<'a>,
    pub key_class: u8,
    pub key_index: [u8; 4],
    pub input: Signed<'a>,
    pub received: [u8; 8],
}

/// What a card signed. See [`CryptogramInput`].
#[derive(Serialize, Deserialize)]
pub struct Signed<'a> {
    amount_authorized: [u8; 6],
    amount_other: [u8; 6],
    terminal_country: [u8; 2],
    tvr: [u8; 5],
    currency: [u8; 2],
    date: [u8; 3],
    transaction_type: u8,
    unpredictable_number: [u8; 4],
    aip: [u8; 2],
    application_transaction_counter: u16,
    issuer_application_data: &'a [u8],
}

impl<'a> From<&'a CryptogramInput> for Signed<'a> {
    fn from(input: &'a CryptogramInput) -> Self {
        Self {
            amount_authorized: input.amount_authorized,
            amount_other: input.amount_other,
            terminal_country: input.terminal_country,
            tvr: input.tvr,
            currency: input.currency,
            date: input.date,
            transaction_type: input.transaction_type,
            unpredictable_number: input.unpredictable_number,
            aip: input.aip,
            application_transaction_counter: input.application_transaction_counter,
            issuer_application_data: &input.issuer_application_data,
        }
    }
}

impl From<&Signed<'_>> for CryptogramInput {
    fn from(signed: &Signed<'_>) -> Self {
        Self {
            amount_authorized: signed.amount_authorized,
            amount_other: signed.amount_other,
            terminal_country: signed.terminal_country,
            tvr: signed.tvr,
            currency: signed.currency,
            date: signed.date,
            transaction_type: signed.transaction_type,
            unpredictable_number: signed.unpredictable_number,
            aip: signed.aip,
            application_transaction_counter: signed.application_transaction_counter,
            issuer_application_data: signed.issuer_application_data.to_vec(),
        }
    }
}

impl<'a> From<&'a CryptogramRequest<'_>> for Cryptogram<'a> {
    fn from(request: &'a CryptogramRequest<'_>) -> Self {
        Self {
            issuer: request.issuer.to_bits(),
            derivation_key_index: request.derivation_key_index,
            number: CardNumber {
                token: request.token.to_bits(),
                token_pan: request.token_pan.expose(),
                sequence: request.sequence.value(),
            },
            key_class: request.key_class.to_byte(),
            key_index: request.key_index.to_bytes(),
            input: request.input.into(),
            received: *request.received,
        }
    }
}

/// Whose record. See [`RecordOwner`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Owner {
    /// A card's own number.
    Card(u128),
    /// A token's.
    Token(u128),
}

impl From<RecordOwner> for Owner {
    fn from(owner: RecordOwner) -> Self {
        match owner {
            RecordOwner::Card(card) => Self::Card(card.to_bits()),
            RecordOwner::Token(token) => Self::Token(token.to_bits()),
        }
    }
}

/// Who may see a record. See [`crate::DetokenizationGrant`]. The pool has checked that it covers the record; a
/// payment's proof is made anew in the worker, which believes the process that started it.
#[derive(Serialize, Deserialize)]
#[expect(missing_docs, reason = "fields are those of the grant, which says what they are")]
pub enum Grant<'a> {
    /// A verified cryptogram.
    Payment {
        token: u128,
        #[serde(borrow)]
        input: Signed<'a>,
        cryptogram: [u8; 8],
    },
    /// A person.
    Operator { actor: &'a str, reason: &'a str },
    /// A token's own personalisation.
    Personalisation { token: u128 },
}

/// What a phone gets. See [`ProvisioningRequest`].
#[derive(Serialize, Deserialize)]
#[expect(missing_docs, reason = "fields are those of the verb, which says what they are")]
pub struct Provisioning<'a> {
    pub issuer: u128,
    pub derivation_key_index: u8,
    #[serde(borrow)]
    pub number: CardNumber<'a>,
    pub recipient: &'a [u8],
    pub limited_use_keys: Vec<([u8; 4], i64, u16, i64)>,
    pub single_use_keys: Vec<([u8; 4], i64, u16, u16)>,
    pub verified_keys: Vec<([u8; 4], i64, u16, u16)>,
    pub person_key: Option<(u32, &'a [u8])>,
    /// [`Documents`] as JSON: their form leaves fields out, which this encoding cannot.
    pub documents: &'a [u8],
}

/// The parts of a provisioning request that have a form of their own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Documents {
    pub(super) profile: CardProfileMessage,
    pub(super) icc_certificate: HexBytes,
    pub(super) pin: Option<PinStatus>,
    pub(super) since_verified: Option<SinceVerified>,
    pub(super) last_verified: Option<LastVerified>,
    pub(super) counter_heard: Option<u16>,
    pub(super) logged_in_at: Option<Timestamp>,
    pub(super) payments_since_login: Option<u32>,
    pub(super) configuration: SignedConfiguration,
}

/// As [`Documents`], borrowed.
#[derive(Serialize)]
struct DocumentsOf<'a> {
    profile: &'a CardProfileMessage,
    icc_certificate: &'a HexBytes,
    pin: &'a Option<PinStatus>,
    since_verified: &'a Option<SinceVerified>,
    last_verified: &'a Option<LastVerified>,
    counter_heard: Option<u16>,
    logged_in_at: Option<Timestamp>,
    payments_since_login: Option<u32>,
    configuration: &'a SignedConfiguration,
}

/// The documents of a request, for [`Provisioning::of`].
///
/// # Errors
/// One of them has no JSON form, which none is without.
pub(in crate::pool) fn provisioning_documents(
    request: &ProvisioningRequest<'_>,
) -> Result<Zeroizing<Vec<u8>>, HsmError> {
    let documents = DocumentsOf {
        profile: &request.profile,
        icc_certificate: &request.icc_certificate,
        pin: &request.pin,
        since_verified: &request.since_verified,
        last_verified: &request.last_verified,
        counter_heard: request.counter_heard,
        logged_in_at: request.logged_in_at,
        payments_since_login: request.payments_since_login,
        configuration: &request.configuration,
    };
    let json = serde_json::to_vec(&documents);
    json.map(Zeroizing::new)
        .map_err(|_| HsmError::Internal { operation: "writing a provisioning request" })
}

impl<'a> Provisioning<'a> {
    /// What a worker is asked for this request; `documents` are its documents.
    pub(in crate::pool) fn of(request: &ProvisioningRequest<'a>, documents: &'a [u8]) -> Self {
        let limited = |terms: &LimitedUseKeyTerms| {
            let expires_at = terms.expires_at.unix_millis();
            (
                terms.key_index.to_bytes(),
                expires_at,
                terms.maximum_payments,
                terms.maximum_total_minor,
            )
        };
        let single = |terms: &SingleUseKeyTerms| {
            let expires_at = terms.expires_at.unix_millis();
            (terms.key_index.to_bytes(), expires_at, terms.first_counter, terms.count)
        };
        let token_pan: &'a TokenPan = request.token_pan;
        Self {
            issuer: request.issuer.to_bits(),
            derivation_key_index: request.derivation_key_index,
            number: CardNumber {
                token: request.token.to_bits(),
                token_pan: token_pan.expose(),
                sequence: request.sequence.value(),
            },
            recipient: request.recipient,
            limited_use_keys: request.limited_use_keys.iter().map(limited).collect(),
            single_use_keys: request.single_use_keys.iter().map(single).collect(),
            verified_keys: request.verified_keys.iter().map(single).collect(),
            person_key: request
                .person_key
                .map(|PersonKeyInUse { generation, key }| (generation, &*key.0)),
            documents,
        }
    }
}
