//! A phone that lies: it opens what the platform sends, and signs what no wallet and no terminal of ours
//! would ever let through. It is the platform that must not believe it.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, Serializable};
use serde_json::{Value, json};
use tapfer_emv::configuration::KnownConfiguration;
use tapfer_emv::cryptogram::{CryptogramInput, application_cryptogram};
use tapfer_emv::iad::{IssuerApplicationData, VerificationMethod, VerificationResults};
use tapfer_emv::keys::{KeyClass, LimitedUseKey};
use tapfer_emv::merchant::MerchantIdentity;
use tapfer_emv::profile::CardProfile;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_emv::tvr::TerminalVerificationResults;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::{Configuration, Content, PhoneConfiguration};
use tapfer_payment_types::messages::{PROVISIONING_INFO, ProvisioningPayload, SealedPayload};

use crate::phone::hex;
use crate::running::{Client, Reply};
use crate::shop::{Shop, by, id};

type PrivateKey = <DhP256HkdfSha256 as Kem>::PrivateKey;

/// A second phone for the same card.
pub(crate) struct Liar {
    pub(crate) device: Client,
    device_id: String,
    pub(crate) token: String,
    private: PrivateKey,
    icc_key: tapfer_emv::curve::PrivateKey,
    pub(crate) payload: Option<ProvisioningPayload>,
    /// The policy it says that it obeys.
    pub(crate) policy_version: u32,
    counter: u16,
}

/// What the terminal tells the card; the rest of the tap.
#[derive(Clone)]
pub(crate) struct Tap {
    pub(crate) amount: i64,
    pub(crate) now: Timestamp,
    pub(crate) currency: u16,
    pub(crate) key: usize,
    pub(crate) method: VerificationMethod,
    pub(crate) tvr: [u8; 5],
    /// The card declines, and whoever stands between passes it on as a request all the same.
    pub(crate) declined: bool,
    pub(crate) screen_on: bool,
    /// Which terminal proved itself, as the phone signs.
    pub(crate) merchant: Option<MerchantIdentity>,
    pub(crate) country: [u8; 2],
}

impl Tap {
    pub(crate) fn new(amount: i64, now: Timestamp) -> Self {
        let method = VerificationMethod::None;
        Self {
            amount,
            now,
            currency: 978,
            key: 0,
            method,
            tvr: [0, 0, 0, 0, 0x80],
            declined: false,
            screen_on: true,
            merchant: None,
            country: [0x02, 0x76],
        }
    }
}

impl Liar {
    /// Enrols it: its token is active and has its first keys.
    pub(crate) fn enrol(shop: &Shop) -> Self {
        let private = PrivateKey::from_bytes(&[0x21; 32]).unwrap();
        let public_key = hex(&DhP256HkdfSha256::sk_to_pk(&private).to_bytes());
        let device = json!({ "issuer": shop.issuer_id, "label": "x", "public_key": public_key });
        let device = shop.issuer.post("/v1/devices", &device).expect(201);
        let mut liar = Self {
            device: shop.issuer.with_key(&device["api_key"]),
            device_id: id(&device),
            token: String::new(),
            private,
            icc_key: tapfer_emv::curve::PrivateKey::from_bytes(&[0x22; 32]).unwrap(),
            payload: None,
            policy_version: 0,
            counter: 0,
        };
        liar.take_new_token(shop);
        shop.issuer.post(&format!("/v1/tokens/{}/activate", liar.token), &by("issuer")).expect(200);
        liar.replenish();
        liar
    }

    /// Another token for the same card, not activated yet.
    pub(crate) fn take_new_token(&mut self, shop: &Shop) {
        let token = json!({ "card": shop.card, "device": self.device_id });
        self.token = id(&shop.issuer.post("/v1/tokens", &token).expect(201));
        self.counter = 0;
    }

    pub(crate) fn ask_for_keys(&self) -> Reply {
        let path = format!("/v1/tokens/{}/replenish", self.token);
        self.device.post(&path, &self.replenish_request())
    }

    pub(crate) fn replenish(&mut self) {
        let answer = self.ask_for_keys().expect(200);
        self.accept(&answer);
    }

    pub(crate) fn icc_public_key(&self) -> String {
        hex(self.icc_key.public_x().bytes())
    }

    fn replenish_request(&self) -> Value {
        json!({
            "icc_public_key": self.icc_public_key(),
            "application_transaction_counter": self.counter,
        })
    }

    fn accept(&mut self, answer: &Value) {
        let sealed: SealedPayload = serde_json::from_value(answer.clone()).unwrap();
        let encapsulated =
            <DhP256HkdfSha256 as Kem>::EncappedKey::from_bytes(&sealed.encapsulated_key.0).unwrap();
        let clear = hpke::single_shot_open::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            PROVISIONING_INFO,
            &sealed.ciphertext.0,
            self.token.as_bytes(),
        )
        .unwrap();
        self.payload = Some(serde_json::from_slice(&clear).unwrap());
        self.policy_version = self.told().policy.version;
    }

    pub(crate) fn profile(&self) -> CardProfile {
        (&self.payload.as_ref().unwrap().profile).try_into().unwrap()
    }

    /// What the platform's signed configuration says to phones.
    pub(crate) fn told(&self) -> PhoneConfiguration {
        let signed = &self.payload.as_ref().unwrap().configuration;
        let said: Configuration = serde_json::from_str(&signed.configuration.document).unwrap();
        let (_, configuration) = KnownConfiguration::first(signed, said.issued_at).unwrap();
        match configuration.content {
            Content::Phones(told) => told,
            Content::Terminals(_) => panic!("for terminals"),
        }
    }

    /// Signs a payment, as GENERATE AC does, and gives field 55.
    pub(crate) fn tap(&mut self, tap: &Tap) -> String {
        self.counter += 1;
        let payload = self.payload.as_ref().unwrap();
        let grant = &payload.limited_use_keys[tap.key];
        let application_data = IssuerApplicationData {
            derivation_key_index: payload.derivation_key_index,
            results: VerificationResults {
                method: tap.method,
                screen_on: tap.screen_on,
                unlocked: tap.method != VerificationMethod::None,
                declined: tap.declined,
                key_class: KeyClass::Unverified,
                relay_checked: false,
                integrity_verdict: 0,
            },
            key_index: grant.key_index.parse().unwrap(),
            policy_version: self.policy_version,
            merchant_identity: tap.merchant,
            iad_mac: [0x5C; 8],
        };
        let today = tap.now.calendar();
        let input = CryptogramInput {
            amount_authorized: decimal(tap.amount),
            amount_other: [0; 6],
            terminal_country: tap.country,
            tvr: TerminalVerificationResults::from_bytes(tap.tvr).as_signed().bytes(),
            currency: decimal(i64::from(tap.currency)),
            date: decimal(
                i64::from(today.year % 100) * 10_000
                    + i64::from(today.month) * 100
                    + i64::from(today.day),
            ),
            transaction_type: 0,
            unpredictable_number: [1, 2, 3, 4],
            aip: self.profile().aip,
            application_transaction_counter: self.counter,
            issuer_application_data: application_data.encode().to_vec(),
        };
        let key = LimitedUseKey::new(grant.key.expose().try_into().unwrap());
        let cryptogram = application_cryptogram(&key.session_key(self.counter), &input.encode());
        hex(&self.field_55(&input, tap.tvr, &cryptogram))
    }

    fn field_55(&self, input: &CryptogramInput, tvr: [u8; 5], cryptogram: &[u8; 8]) -> Vec<u8> {
        let records = self.profile().records;
        let card_data = records.iter().find(|record| record.signed).unwrap();
        let of_card = |tag| tlv::find(&card_data.value, tag).unwrap().unwrap().to_vec();
        let counter = input.application_transaction_counter.to_be_bytes();
        let objects: [(Tag, &[u8]); 16] = [
            (tags::AMOUNT_AUTHORIZED, &input.amount_authorized),
            (tags::AMOUNT_OTHER, &input.amount_other),
            (tags::TERMINAL_COUNTRY_CODE, &input.terminal_country),
            (tags::TERMINAL_VERIFICATION_RESULTS, &tvr),
            (tags::TRANSACTION_CURRENCY_CODE, &input.currency),
            (tags::TRANSACTION_DATE, &input.date),
            (tags::TRANSACTION_TYPE, &[0]),
            (tags::UNPREDICTABLE_NUMBER, &input.unpredictable_number),
            (tags::APPLICATION_INTERCHANGE_PROFILE, &input.aip),
            (tags::APPLICATION_TRANSACTION_COUNTER, &counter),
            (tags::ISSUER_APPLICATION_DATA, &input.issuer_application_data),
            (tags::APPLICATION_CRYPTOGRAM, cryptogram),
            (tags::CRYPTOGRAM_INFORMATION_DATA, &[0x80]),
            (tags::APPLICATION_PAN, &of_card(tags::APPLICATION_PAN)),
            (tags::PAN_SEQUENCE_NUMBER, &of_card(tags::PAN_SEQUENCE_NUMBER)),
            (tags::DF_NAME, &self.profile().aid),
        ];
        let mut out = Vec::new();
        for (tag, value) in objects {
            tlv::write(&mut out, tag, value);
        }
        out
    }
}

/// Format n: decimal digits, two a byte.
fn decimal<const N: usize>(mut number: i64) -> [u8; N] {
    let mut bytes = [0; N];
    for byte in bytes.iter_mut().rev() {
        let two = u8::try_from(number % 100).unwrap();
        *byte = two / 10 * 16 + two % 10;
        number /= 100;
    }
    bytes
}
