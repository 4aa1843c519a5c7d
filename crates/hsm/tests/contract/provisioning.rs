use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, HpkeError, Kem, OpModeR, Serializable};
use tapfer_emv::keys::{KeyClass, KeyIndex, SessionKey};
use tapfer_emv::person_key::PersonKey;
use tapfer_hsm::{
    HsmError, LimitedUseKeyTerms, MAXIMUM_LIMITED_USE_KEYS, MAXIMUM_SINGLE_USE_KEYS, PaymentHsm,
    PersonKeyInUse, ProvisioningRequest, SingleUseKeyTerms,
};
use tapfer_payment_types::configuration::{SignedConfiguration, SignedDocument};
use tapfer_payment_types::messages::{
    CardProfileMessage, HexBytes, PROVISIONING_INFO, ProvisioningPayload, RecordMessage,
    SealedPayload,
};
use tapfer_payment_types::{PanSequenceNumber, TokenId, TokenPan};

use crate::cryptograms::{self, key_index};
use crate::{issuer, now, persons, token_pan};

type PrivateKey = <DhP256HkdfSha256 as Kem>::PrivateKey;

/// A phone's key pair, as the wallet's HPKE library makes it.
fn phone() -> (PrivateKey, [u8; 65]) {
    let private = PrivateKey::from_bytes(&[0x21; 32]).unwrap();
    let public = DhP256HkdfSha256::sk_to_pk(&private).to_bytes();
    (private, public.as_slice().try_into().unwrap())
}

fn token() -> TokenId {
    TokenId::new(now(), [3; 10])
}

fn open(
    private: &PrivateKey,
    sealed: &SealedPayload,
    info: &[u8],
    associated: &[u8],
) -> Result<Vec<u8>, HpkeError> {
    let encapsulated =
        <DhP256HkdfSha256 as Kem>::EncappedKey::from_bytes(&sealed.encapsulated_key.0)?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
        &OpModeR::Base,
        private,
        &encapsulated,
        info,
        &sealed.ciphertext.0,
        associated,
    )
}

fn terms(counter: u8) -> LimitedUseKeyTerms {
    LimitedUseKeyTerms {
        key_index: KeyIndex::at(now(), counter).unwrap(),
        expires_at: now().plus_seconds(3_600),
        maximum_payments: 5,
        maximum_total_minor: 10_000,
    }
}

fn profile() -> CardProfileMessage {
    CardProfileMessage {
        aid: HexBytes(vec![0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01]),
        label: "DEMO".into(),
        aip: HexBytes(vec![1, 4]),
        pdol: HexBytes(vec![0x9F, 0x37, 4]),
        cdol1: HexBytes(vec![0x9F, 0x02, 6]),
        records: vec![RecordMessage {
            short_file_identifier: 2,
            number: 1,
            value: HexBytes(vec![0x8F, 1, 1]),
            encrypted: false,
            signed: true,
        }],
    }
}

/// What the module seals without reading it.
fn configuration() -> SignedConfiguration {
    let (document, key, signature) = (String::new(), HexBytes(vec![]), HexBytes(vec![]));
    let configuration = SignedDocument { document, key, signature };
    SignedConfiguration { configuration, successions: vec![] }
}

fn request<'a>(
    token_pan: &'a TokenPan,
    recipient: &'a [u8; 65],
    limited_use_keys: &'a [LimitedUseKeyTerms],
) -> ProvisioningRequest<'a> {
    ProvisioningRequest {
        issuer: issuer(1),
        derivation_key_index: 1,
        token: token(),
        token_pan,
        sequence: PanSequenceNumber::ZERO,
        recipient,
        profile: profile(),
        icc_certificate: HexBytes(vec![0x14; 145]),
        limited_use_keys,
        single_use_keys: &[],
        verified_keys: &[],
        person_key: None,
        pin: None,
        since_verified: None,
        last_verified: None,
        counter_heard: None,
        logged_in_at: None,
        payments_since_login: None,
        configuration: configuration(),
    }
}

fn sealed(hsm: &impl PaymentHsm, recipient: &[u8; 65]) -> SealedPayload {
    hsm.create_issuer(issuer(1), now()).unwrap();
    hsm.seal_provisioning(request(&token_pan(), recipient, &[terms(1), terms(2)])).unwrap()
}

/// Keys for a phone under the generation that the caller names.
pub fn can_provision(
    hsm: &impl PaymentHsm,
    issuer: tapfer_payment_types::IssuerId,
    derivation_key_index: u8,
) -> Result<SealedPayload, HsmError> {
    let (number, recipient, keys) = (token_pan(), phone().1, [terms(1)]);
    let request = request(&number, &recipient, &keys);
    hsm.seal_provisioning(ProvisioningRequest { issuer, derivation_key_index, ..request })
}

pub fn phone_opens_and_pays(hsm: &impl PaymentHsm) {
    let (private, public) = phone();
    let sealed = sealed(hsm, &public);
    let plain = open(&private, &sealed, PROVISIONING_INFO, token().to_string().as_bytes()).unwrap();
    let payload: ProvisioningPayload = serde_json::from_slice(&plain).unwrap();
    assert_eq!((payload.token, payload.derivation_key_index), (token(), 1));
    assert_eq!((payload.profile, payload.configuration), (profile(), configuration()));
    assert_eq!(payload.icc_certificate.0, [0x14; 145]);

    let keys = &payload.limited_use_keys;
    assert_eq!(keys.len(), 2);
    let [first, second] = [&keys[0], &keys[1]];
    assert_eq!(first.key_index.parse(), Ok(key_index()));
    assert_eq!((first.maximum_payments, first.maximum_total_minor), (5, 10_000));
    assert_eq!(first.expires_at, now().plus_seconds(3_600));
    assert_ne!(first.key.expose(), second.key.expose());
    assert!(cryptograms::pays(hsm, &token_pan(), first.key.expose().try_into().unwrap()));
    assert!(!cryptograms::pays(hsm, &token_pan(), second.key.expose().try_into().unwrap()));
}

pub fn other_info_or_token_is_refused(hsm: &impl PaymentHsm) {
    let (private, public) = phone();
    let mut sealed = sealed(hsm, &public);
    let associated = token().to_string();
    let associated = associated.as_bytes();
    assert!(open(&private, &sealed, PROVISIONING_INFO, associated).is_ok());
    assert!(open(&private, &sealed, b"tapfer-provisioning-2", associated).is_err());
    let other = TokenId::new(now(), [4; 10]).to_string();
    assert!(open(&private, &sealed, PROVISIONING_INFO, other.as_bytes()).is_err());
    let stranger = PrivateKey::from_bytes(&[0x22; 32]).unwrap();
    assert!(open(&stranger, &sealed, PROVISIONING_INFO, associated).is_err());
    sealed.ciphertext.0[0] ^= 1;
    assert!(open(&private, &sealed, PROVISIONING_INFO, associated).is_err());
}

pub fn bad_recipient_is_refused(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let (_, good) = phone();
    let mut off_the_curve = good;
    off_the_curve[64] ^= 1;
    let mut compressed = good;
    compressed[0] = 2;
    for bad in [off_the_curve, compressed, [0; 65], [0xFF; 65]] {
        let refused = hsm.seal_provisioning(request(&token_pan(), &bad, &[terms(1)]));
        assert!(matches!(refused, Err(HsmError::Recipient)), "{refused:?}");
    }
}

pub fn bad_terms_are_refused(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let (_, public) = phone();
    let seal = |terms: &[_]| hsm.seal_provisioning(request(&token_pan(), &public, terms));
    let count = u8::try_from(MAXIMUM_LIMITED_USE_KEYS).unwrap();
    assert!(seal(&(0..count).map(terms).collect::<Vec<_>>()).is_ok());
    let no_payment = LimitedUseKeyTerms { maximum_payments: 0, ..terms(1) };
    let negative = LimitedUseKeyTerms { maximum_total_minor: -1, ..terms(1) };
    let too_many: Vec<_> = (0..=count).map(terms).collect();
    for bad in [&[][..], &too_many, &[terms(1), terms(2), terms(1)], &[no_payment], &[negative]] {
        assert!(matches!(seal(bad), Err(HsmError::LimitedUseKeys)), "{bad:?}");
    }
    let (token_pan, terms) = (token_pan(), [terms(1)]);
    let request = request(&token_pan, &public, &terms);
    let old = ProvisioningRequest { derivation_key_index: 9, ..request };
    let unknown = hsm.seal_provisioning(old);
    assert!(matches!(unknown, Err(HsmError::UnknownDerivationKey { index: 9, .. })));
}

/// Session keys come in clear without the PIN, and as one block each under the person's key with it.
pub fn session_keys_pay_once_and_their_class_shows(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let (private, public) = phone();
    let (person_key, stored) = persons::a_persons_key(hsm, token());
    let (token_pan, limited) = (token_pan(), [terms(1)]);
    let row = |counter, first_counter, count| SingleUseKeyTerms {
        key_index: KeyIndex::at(now(), counter).unwrap(),
        expires_at: now().plus_seconds(3_600),
        first_counter,
        count,
    };
    let (single_use, verified) = ([row(2, 7, 3)], [row(3, 6, 4)]);
    let request = ProvisioningRequest {
        single_use_keys: &single_use,
        verified_keys: &verified,
        person_key: Some(PersonKeyInUse { generation: 1, key: &stored }),
        ..request(&token_pan, &public, &limited)
    };
    let sealed = hsm.seal_provisioning(request).unwrap();
    let plain = open(&private, &sealed, PROVISIONING_INFO, token().to_string().as_bytes()).unwrap();
    let payload: ProvisioningPayload = serde_json::from_slice(&plain).unwrap();
    let recipient = hsm.person_key_recipient(issuer(1)).unwrap();
    assert_eq!(payload.person_key_recipient.unwrap().0, recipient.0);

    let (single_use, verified) = (&payload.single_use_keys[0], &payload.verified_keys[0]);
    assert_eq!((single_use.first_counter, single_use.blocks.len()), (7, 3));
    assert_eq!((verified.first_counter, verified.blocks.len()), (6, 4));
    for (offset, block) in (0..).zip(&single_use.blocks) {
        let key = SessionKey::new(block.expose().try_into().unwrap());
        let index = single_use.key_index.parse().unwrap();
        let pays =
            |class, counter| cryptograms::pays_with(hsm, &token_pan, class, index, counter, &key);
        assert!(pays(KeyClass::Unverified, 7 + offset));
        assert!(!pays(KeyClass::Unverified, 8 + offset), "another counter's");
        assert!(!pays(KeyClass::Verified, 7 + offset), "another class");
    }
    for (offset, block) in (0..).zip(&verified.blocks) {
        let block: [u8; 16] = block.expose().try_into().unwrap();
        let index = verified.key_index.parse().unwrap();
        let pays = |key: &SessionKey| {
            cryptograms::pays_with(hsm, &token_pan, KeyClass::Verified, index, 6 + offset, key)
        };
        assert!(pays(&person_key.open_session_key(block)));
        assert!(!pays(&SessionKey::new(block)), "in clear");
        assert!(!pays(&PersonKey::new([9; 16]).open_session_key(block)), "a wrong PIN");
    }
}

pub fn bad_rows_are_refused(hsm: &impl PaymentHsm) {
    hsm.create_issuer(issuer(1), now()).unwrap();
    let (_, public) = phone();
    let (_, stored) = persons::a_persons_key(hsm, token());
    let (token_pan, limited) = (token_pan(), [terms(1)]);
    let row = |counter, first_counter, count| SingleUseKeyTerms {
        key_index: KeyIndex::at(now(), counter).unwrap(),
        expires_at: now().plus_seconds(3_600),
        first_counter,
        count,
    };
    let seal = |rows: &[SingleUseKeyTerms], generation| {
        let person_key = Some(PersonKeyInUse { generation, key: &stored });
        let request = request(&token_pan, &public, &limited);
        hsm.seal_provisioning(ProvisioningRequest { verified_keys: rows, person_key, ..request })
    };
    assert!(seal(&[row(2, 65_535, 1)], 1).is_ok());
    assert!(seal(&[row(2, 1, MAXIMUM_SINGLE_USE_KEYS)], 1).is_ok());
    for bad in [row(2, 1, 0), row(2, 1, MAXIMUM_SINGLE_USE_KEYS + 1), row(2, 65_535, 2)] {
        assert!(matches!(seal(&[bad], 1), Err(HsmError::SingleUseKeys)), "{bad:?}");
    }
    assert!(matches!(seal(&[row(1, 1, 1)], 1), Err(HsmError::LimitedUseKeys)), "one index twice");
    assert!(matches!(seal(&[row(2, 1, 1)], 2), Err(HsmError::CardRecord)), "another generation");
    let without = ProvisioningRequest {
        verified_keys: &[row(2, 1, 1)],
        ..request(&token_pan, &public, &limited)
    };
    assert!(matches!(hsm.seal_provisioning(without), Err(HsmError::SingleUseKeys)));
}

pub fn no_key_in_what_travels(hsm: &impl PaymentHsm) {
    let (private, public) = phone();
    let sealed = sealed(hsm, &public);
    let associated = token().to_string();
    let plain = open(&private, &sealed, PROVISIONING_INFO, associated.as_bytes()).unwrap();
    let payload: ProvisioningPayload = serde_json::from_slice(&plain).unwrap();
    let key = payload.limited_use_keys[0].key.expose();
    let hex = data_encoding::HEXLOWER.encode(key);
    let travels = serde_json::to_string(&sealed).unwrap();
    assert!(!travels.contains(&hex));
    assert!(!sealed.ciphertext.0.windows(hex.len()).any(|window| window == hex.as_bytes()));
    assert!(String::from_utf8(plain).unwrap().contains(&hex), "the key is where it belongs");
}
