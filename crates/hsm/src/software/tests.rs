//! A module that lacks the newest catalogue does nothing; keystore and catalogue go together.

use tapfer_emv::certificate::CertificateDate;
use tapfer_emv::cryptogram::CryptogramInput;
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex};
use tapfer_emv::merchant::MerchantPrivateKey;
use tapfer_payment_types::configuration::{SignedConfiguration, SignedDocument};
use tapfer_payment_types::messages::{CardProfileMessage, HexBytes, SealedPayload};
use tapfer_payment_types::{
    CardId, CatalogueMark, DeviceId, IssuerId, PanSequenceNumber, RealmId, Secret, Timestamp,
    TokenId, TokenPan,
};

use super::keystore::Keystore;
use super::{RootKeys, SoftwareHsm, Unlock};
use crate::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyState};
use crate::{
    CardPinSubject, CardPinValue, CatalogueError, CryptogramRequest, DetokenizationGrant,
    DocumentPurpose, HsmError, IccCertificateRequest, IssuerCertificateRequest,
    MerchantCertificateRequest, OperatorGrant, PaymentHsm, PersonKeyImport, PersonKeySubject,
    ProvisioningRequest, Realm, RecordOwner,
};
use std::num::NonZeroU32;

const RID: [u8; 5] = [1; 5];

fn refused<T>(answer: Result<T, HsmError>) -> bool {
    matches!(answer, Err(HsmError::Catalogue(CatalogueError::RolledBack { .. })))
}

fn now() -> Timestamp {
    Timestamp::from_unix_millis(1_795_262_400_000)
}

fn issuer() -> IssuerId {
    IssuerId::new(now(), [1; 10])
}

/// A module with keys of everything, and the directory that holds its file.
fn working_module() -> (SoftwareHsm, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let realm_id = RealmId::new(now(), [4; 10]);
    let unlock = Unlock::key_from_hex(&"00".repeat(32)).unwrap();
    let [keystore, catalogue] = ["keystore", "keys.json"].map(|name| directory.path().join(name));
    let hsm = SoftwareHsm::create(&keystore, &catalogue, &unlock, Realm::Demo, realm_id).unwrap();
    hsm.create_certification_authority(RID, 1, now()).unwrap();
    hsm.create_merchant_authority(now()).unwrap();
    hsm.create_issuer(issuer(), now()).unwrap();
    (hsm, directory)
}

fn certificates_are_refused(hsm: &SoftwareHsm, public_key: tapfer_emv::curve::PublicX) -> bool {
    let issuer_certificate = hsm.issue_issuer_certificate(&IssuerCertificateRequest {
        issuer: issuer(),
        rid: RID,
        ca_index: 1,
        issuer_identifier: [0x99, 0x90, 0xFF, 0xFF, 0xFF],
        expiry: CertificateDate { year: 2027, month: 1, day: 1 },
        serial: [0; 3],
        now: now(),
    });
    let icc_certificate = hsm.sign_icc_certificate(&IccCertificateRequest {
        issuer: issuer(),
        public_key,
        sda_hash: [0; 32],
        serial: [0; 6],
        expires_at: now().plus_seconds(60),
        now: now(),
    });
    refused(issuer_certificate) && refused(icc_certificate)
}

fn merchant_certificate_is_refused(hsm: &SoftwareHsm) -> bool {
    let key = MerchantPrivateKey::from_bytes(&[3; 32]).unwrap();
    refused(hsm.sign_merchant_certificate(&MerchantCertificateRequest {
        acquirer: [0; 6],
        merchant: [b'M'; 15],
        terminal: [b'T'; 8],
        name: "Canteen".parse().unwrap(),
        public_key: key.public_key(),
        serial: [0; 6],
        expires_at: now().plus_seconds(60),
        now: now(),
    }))
}

fn cryptogram_is_refused(hsm: &SoftwareHsm, token_pan: &TokenPan) -> bool {
    let input = CryptogramInput {
        amount_authorized: [0; 6],
        amount_other: [0; 6],
        terminal_country: [0; 2],
        tvr: [0; 5],
        currency: [0; 2],
        date: [0; 3],
        transaction_type: 0,
        unpredictable_number: [0; 4],
        aip: [0; 2],
        application_transaction_counter: 1,
        issuer_application_data: Vec::new(),
    };
    refused(hsm.verify_cryptogram(&CryptogramRequest {
        issuer: issuer(),
        derivation_key_index: 1,
        token: TokenId::new(now(), [3; 10]),
        token_pan,
        sequence: PanSequenceNumber::ZERO,
        key_class: KeyClass::Unverified,
        key_index: KeyIndex::at(now(), 0).unwrap(),
        input: &input,
        received: &[0; 8],
    }))
}

/// What the module seals without reading it.
fn configuration() -> SignedConfiguration {
    let (document, key, signature) = (String::new(), HexBytes(vec![]), HexBytes(vec![]));
    let configuration = SignedDocument { document, key, signature };
    SignedConfiguration { configuration, successions: vec![] }
}

fn provisioning_is_refused(hsm: &SoftwareHsm, token_pan: &TokenPan) -> bool {
    let nothing = || HexBytes(Vec::new());
    refused(hsm.seal_provisioning(ProvisioningRequest {
        issuer: issuer(),
        derivation_key_index: 1,
        token: TokenId::new(now(), [1; 10]),
        token_pan,
        sequence: PanSequenceNumber::ZERO,
        recipient: &[0; 65],
        profile: CardProfileMessage {
            aid: nothing(),
            label: String::new(),
            aip: nothing(),
            pdol: nothing(),
            cdol1: nothing(),
            records: Vec::new(),
        },
        icc_certificate: nothing(),
        limited_use_keys: &[],
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
    }))
}

fn person_verbs_are_refused(hsm: &SoftwareHsm) -> bool {
    let nothing = || HexBytes(Vec::new());
    let sealed = SealedPayload { encapsulated_key: nothing(), ciphertext: nothing() };
    let token = TokenId::new(now(), [1; 10]);
    let subject = PersonKeySubject { issuer: issuer(), token, generation: 1 };
    let card = CardPinSubject { issuer: issuer(), card: CardId::new(now(), [1; 10]) };
    let import = PersonKeyImport { subject, sealed: &sealed, old: None };
    refused(hsm.person_key_recipient(issuer()))
        && refused(hsm.accept_person_key(&import))
        && refused(hsm.card_pin_value(card, &sealed))
        && refused(hsm.verify_card_pin(card, &CardPinValue([0; 32]), &sealed, b""))
}

#[test]
fn a_module_that_was_told_of_a_newer_catalogue_refuses_every_verb() {
    let (hsm, _directory) = working_module();
    let public_key = hsm.issuer_keys(issuer()).unwrap().public_key;
    let card = RecordOwner::Card(CardId::new(now(), [1; 10]));
    let record = hsm.seal_card_record(issuer(), card, b"record").unwrap();
    let (pan, token_pan) =
        ("4111111111111111".parse().unwrap(), "4111111111111111".parse().unwrap());
    let used = hsm.follow_catalogue(None).unwrap();
    let newer = CatalogueMark { version: used.version + 1, ..used };
    assert!(refused(hsm.follow_catalogue(Some(&newer))));

    assert!(refused(hsm.health()));
    assert!(refused(hsm.follow_catalogue(None)));
    assert!(refused(hsm.random(&mut [0; 4])));
    assert!(refused(hsm.create_certification_authority(RID, 2, now())));
    assert!(refused(hsm.ca_public_key(RID, 1)));
    assert!(refused(hsm.create_merchant_authority(now())));
    assert!(refused(hsm.merchant_ca_key()));
    assert!(merchant_certificate_is_refused(&hsm));
    assert!(refused(hsm.create_document_keys(now())));
    assert!(refused(hsm.create_access_keys(now())));
    assert!(refused(hsm.client_authorities()));
    assert!(refused(hsm.repetition_secret()));
    for purpose in DocumentPurpose::ALL {
        assert!(refused(hsm.document_key(purpose)));
        assert!(refused(hsm.sign_document(purpose, b"document")));
    }
    assert!(refused(hsm.create_issuer(IssuerId::new(now(), [2; 10]), now())));
    assert!(refused(hsm.issuer_keys(issuer())));
    assert!(refused(hsm.key_records()));
    let (owner, purpose) = (KeyOwner::Issuer(issuer()), KeyPurpose::IssuerMaster);
    assert!(refused(hsm.add_generation(owner, purpose, now())));
    let name = KeyName { owner, purpose, generation: 1 };
    assert!(refused(hsm.set_key_state(name, KeyState::Retired)));
    assert!(refused(hsm.store_share(issuer(), DeviceId::new(now(), [1; 10]), NonZeroU32::MIN)));
    assert!(certificates_are_refused(&hsm, public_key));
    assert!(cryptogram_is_refused(&hsm, &token_pan));
    assert!(provisioning_is_refused(&hsm, &token_pan));
    assert!(refused(hsm.seal_card_record(issuer(), card, b"record")));
    let grant = DetokenizationGrant::Operator(OperatorGrant::new("ada", "test").unwrap());
    assert!(refused(hsm.open_card_record(issuer(), card, &record, &grant)));
    assert!(refused(hsm.pan_lookup(issuer(), &pan)));
    assert!(refused(hsm.demo_keys(issuer(), 1)));
    assert!(person_verbs_are_refused(&hsm));
    let master_key = IssuerMasterKey::new([1; 16]);
    assert!(refused(hsm.import_demo_issuer(IssuerId::new(now(), [3; 10]), master_key, now())));
}

/// One pair of root keys may serve two realms of one site; their catalogues are not each other's.
#[test]
fn a_keystore_takes_no_other_realms_catalogue() {
    let directory = tempfile::tempdir().unwrap();
    let unlock = Unlock::key_from_hex(&"0f".repeat(32)).unwrap();
    let at = |name: &str, kind: &str| directory.path().join(format!("{name}.{kind}"));
    for (name, number) in [("one", 1), ("two", 2)] {
        let roots = RootKeys::new(Secret::new([5; 32]), Secret::new([6; 32]));
        let realm_id = RealmId::new(now(), [number; 10]);
        let keystore = Keystore { realm: Realm::Demo, realm_id, roots };
        keystore.create(&at(name, "keystore"), &unlock).unwrap();
        SoftwareHsm::finish(&at(name, "keystore"), &at(name, "json"), &unlock).unwrap();
    }
    let open = |keys, catalogue| {
        SoftwareHsm::open(&at(keys, "keystore"), &at(catalogue, "json"), &unlock).map(drop)
    };
    open("one", "one").unwrap();
    let mixed = open("one", "two");
    assert!(matches!(mixed, Err(HsmError::Catalogue(CatalogueError::OtherRealm(_)))), "{mixed:?}");
}
