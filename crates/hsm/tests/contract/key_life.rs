//! The life of keys: generations overlap, and what is retired or destroyed does what that says.

use tapfer_emv::document::DocumentKey;
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyRecord, KeyState};
use tapfer_hsm::vault::{Custody, KeyAlgorithm, Vault};
use tapfer_hsm::{
    CardPinSubject, CryptogramVerdict, DetokenizationGrant, DocumentPurpose, HsmError,
    OperatorGrant, PaymentHsm, VaultedHsm,
};
use tapfer_payment_types::configuration::KeySuccession;
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::pin::{CARD_PIN_INFO, ONLINE_PIN_INFO};
use tapfer_payment_types::{CardId, Secret};

use crate::backend::Vaulted;
use crate::{RID, card, clients, cryptograms, issuer, now, persons, provisioning};

const OWNER: fn() -> KeyOwner = || KeyOwner::Issuer(issuer(1));

fn name(purpose: KeyPurpose, generation: u8) -> KeyName {
    KeyName { owner: OWNER(), purpose, generation }
}

fn rotate(hsm: &VaultedHsm<impl Vault>, purpose: KeyPurpose) -> KeyRecord {
    hsm.add_generation(OWNER(), purpose, now()).unwrap()
}

fn retire(hsm: &VaultedHsm<impl Vault>, purpose: KeyPurpose, generation: u8) {
    let record = hsm.set_key_state(name(purpose, generation), KeyState::Retired).unwrap();
    assert_eq!(record.state, KeyState::Retired);
}

fn destroy(hsm: &VaultedHsm<impl Vault>, purpose: KeyPurpose, generation: u8) {
    retire(hsm, purpose, generation);
    hsm.set_key_state(name(purpose, generation), KeyState::Destroyed).unwrap();
}

fn operator() -> DetokenizationGrant<'static> {
    DetokenizationGrant::Operator(OperatorGrant::new("ada", "test").unwrap())
}

/// The verdict over a cryptogram that a key of this generation made.
fn verdict(hsm: &impl PaymentHsm, master: &IssuerMasterKey, generation: u8) -> CryptogramVerdict {
    cryptograms::verdict(hsm, issuer(1), master, generation)
}

fn verifies(hsm: &impl PaymentHsm, master: &IssuerMasterKey, generation: u8) -> bool {
    matches!(verdict(hsm, master, generation), CryptogramVerdict::Verified(_))
}

pub fn every_key_is_listed(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    assert!(!hsm.holds_keys().unwrap());
    hsm.create_certification_authority(RID, 7, now()).unwrap();
    hsm.create_merchant_authority(now()).unwrap();
    hsm.create_document_keys(now()).unwrap();
    hsm.create_access_keys(now()).unwrap();
    hsm.create_issuer(issuer(1), now()).unwrap();
    let records = hsm.key_records().unwrap();
    assert_eq!(records.len(), 13, "every purpose once");
    for purpose in KeyPurpose::ALL {
        let record = records.iter().find(|record| record.name.purpose == purpose).unwrap();
        assert_eq!((record.name.generation, record.state), (1, KeyState::Active));
        assert_eq!(record.created_at, now());
        assert_eq!(record.use_until.is_some(), purpose.cryptoperiod_seconds().is_some());
        assert_eq!(record.public.is_some(), record.algorithm.is_asymmetric());
    }
    let mut check_values: Vec<_> = records.iter().map(|record| record.check_value).collect();
    check_values.sort_unstable();
    check_values.dedup();
    assert_eq!(check_values.len(), 13, "check values tell keys apart");
    assert_eq!(hsm.follow_catalogue(None).unwrap().version, 6);
}

/// Certificates of the authority's older key are good until it is destroyed.
pub fn rotated_client_authorities_overlap(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_access_keys(now()).unwrap();
    let old = hsm.sign_client_certificate(&clients::in_a_day()).unwrap();
    let (owner, purpose) = (KeyOwner::Platform, KeyPurpose::ClientAuthority);
    hsm.add_generation(owner, purpose, now()).unwrap();
    let new = hsm.sign_client_certificate(&clients::in_a_day()).unwrap();
    let both = hsm.client_authorities().unwrap();
    let [newest, oldest] = [0, 1].map(|place| vec![both[place].clone()]);
    assert!(clients::is_let_in(&both, &old, 0) && clients::is_let_in(&both, &new, 0));
    assert!(clients::is_let_in(&oldest, &old, 0) && !clients::is_let_in(&oldest, &new, 0));
    let first = KeyName { owner, purpose, generation: 1 };
    hsm.set_key_state(first, KeyState::Retired).unwrap();
    assert_eq!(hsm.client_authorities().unwrap().len(), 2, "a retired key verifies");
    hsm.set_key_state(first, KeyState::Destroyed).unwrap();
    let left = hsm.client_authorities().unwrap();
    assert!(clients::is_let_in(&left, &new, 0) && !clients::is_let_in(&left, &old, 0));
    assert!(clients::is_let_in(&newest, &new, 0) && left.len() == 1);
}

/// Old tokens go on working while new keys come from the new master key.
pub fn rotated_master_keys_overlap(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_issuer(issuer(1), now()).unwrap();
    let old = hsm.demo_keys(issuer(1), 1).unwrap().issuer_master_key;
    assert_eq!(rotate(hsm, KeyPurpose::IssuerMaster).name.generation, 2);
    let new = hsm.demo_keys(issuer(1), 2).unwrap().issuer_master_key;
    assert_ne!(old.expose(), new.expose());
    assert_eq!(hsm.issuer_keys(issuer(1)).unwrap().derivation_key_index, 2);
    assert!(verifies(hsm, &old, 1) && verifies(hsm, &new, 2));
    assert!(!verifies(hsm, &old, 2) && !verifies(hsm, &new, 1));

    retire(hsm, KeyPurpose::IssuerMaster, 1);
    assert!(verifies(hsm, &old, 1), "a retired key verifies");
    hsm.set_key_state(name(KeyPurpose::IssuerMaster, 1), KeyState::Destroyed).unwrap();
    let gone = verdict(hsm, &old, 1);
    assert!(matches!(gone, CryptogramVerdict::UnknownDerivationKey), "a destroyed key is gone");
    let gone = hsm.demo_keys(issuer(1), 1);
    assert!(matches!(gone, Err(HsmError::UnknownDerivationKey { index: 1, .. })));
    assert!(verifies(hsm, &new, 2));
}

pub fn an_imported_generation_takes_over(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_issuer(issuer(1), now()).unwrap();
    let purpose = KeyPurpose::IssuerMaster;
    for bad in [vec![], vec![1; 15], vec![1; 17]] {
        let refused = hsm.import_generation(OWNER(), purpose, &Secret::new(bad), now());
        assert!(matches!(refused, Err(HsmError::KeyFormat)), "{refused:?}");
    }
    let zero = Secret::new(vec![0; 32]);
    let refused = hsm.import_generation(OWNER(), KeyPurpose::PersonKeys, &zero, now());
    assert!(matches!(refused, Err(HsmError::KeyFormat)), "zero is no scalar");
    let clear = Secret::new(vec![0x42; 16]);
    let record = hsm.import_generation(OWNER(), purpose, &clear, now()).unwrap();
    // AES-CMAC under 42..42 over a block of zeros, by Python's `cryptography`.
    assert_eq!(record.check_value, [0xF1, 0x7F, 0x59]);
    assert!(verifies(hsm, &IssuerMasterKey::new([0x42; 16]), 2));
}

pub fn rotated_record_keys_overlap(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_issuer(issuer(1), now()).unwrap();
    let old = hsm.seal_card_record(issuer(1), card(1), b"old").unwrap();
    rotate(hsm, KeyPurpose::CardRecords);
    let new = hsm.seal_card_record(issuer(1), card(1), b"new").unwrap();
    assert_eq!((old.0[1], new.0[1]), (1, 2), "the record says which generation");
    let open = |record| hsm.open_card_record(issuer(1), card(1), record, &operator());
    assert_eq!(open(&old).unwrap().expose(), b"old");
    assert_eq!(open(&new).unwrap().expose(), b"new");
    let mut relabelled = new.clone();
    relabelled.0[1] = 1;
    assert!(matches!(open(&relabelled), Err(HsmError::CardRecord)));
    destroy(hsm, KeyPurpose::CardRecords, 1);
    let gone = name(KeyPurpose::CardRecords, 1);
    assert!(matches!(open(&old), Err(HsmError::KeyDestroyed(found)) if found == gone));
    assert_eq!(open(&new).unwrap().expose(), b"new");
}

/// What was on its way to the old key when the new one came still arrives.
pub fn rotated_person_and_pin_keys_overlap(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_issuer(issuer(1), now()).unwrap();
    let card = CardId::new(now(), [1; 10]);
    let subject = CardPinSubject { issuer: issuer(1), card };
    let bound_to = card.to_string();
    let set: SealedPayload = persons::sealed_pin(hsm, CARD_PIN_INFO, bound_to.as_bytes(), "1234");
    let entered = persons::sealed_pin(hsm, ONLINE_PIN_INFO, b"here", "1234");
    let first = hsm.person_key_recipient(issuer(1)).unwrap();
    let value = hsm.card_pin_value(subject, &set).unwrap();

    rotate(hsm, KeyPurpose::PersonKeys);
    rotate(hsm, KeyPurpose::CardPins);
    assert_ne!(hsm.person_key_recipient(issuer(1)).unwrap(), first);
    assert!(hsm.verify_card_pin(subject, &value, &entered, b"here").unwrap());
    assert_ne!(hsm.card_pin_value(subject, &set).unwrap(), value, "new values are of the new key");
    let wrong = persons::sealed_pin(hsm, ONLINE_PIN_INFO, b"here", "1235");
    assert!(!hsm.verify_card_pin(subject, &value, &wrong, b"here").unwrap());

    destroy(hsm, KeyPurpose::PersonKeys, 1);
    let gone = hsm.verify_card_pin(subject, &value, &entered, b"here");
    assert!(matches!(gone, Err(HsmError::SealedToIssuer)));
    let entered = persons::sealed_pin(hsm, ONLINE_PIN_INFO, b"here", "1234");
    assert!(hsm.verify_card_pin(subject, &value, &entered, b"here").unwrap());
    destroy(hsm, KeyPurpose::CardPins, 1);
    assert!(!hsm.verify_card_pin(subject, &value, &entered, b"here").unwrap());
}

/// The key of configurations signs, inside, for the one that follows it, and nothing after that.
pub fn the_configuration_key_signs_for_the_next(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_document_keys(now()).unwrap();
    let purpose = DocumentPurpose::Configuration;
    let old = hsm.document_key(purpose).unwrap();
    let alone = hsm.add_generation(KeyOwner::Platform, purpose.into(), now());
    assert!(matches!(alone, Err(HsmError::NotRotated(KeyPurpose::Configuration))));
    let made = hsm.succeed_configuration_key(now()).unwrap();
    let new = hsm.document_key(purpose).unwrap();
    assert_eq!((made.name.generation, made.public), (2, Some(new)));
    let signed = made.succession.unwrap();
    for hsm in [hsm, &backend.again()] {
        let records = hsm.key_records().unwrap().into_iter();
        let stands: Vec<_> = records.filter_map(|record| record.succession).collect();
        assert_eq!(stands, std::slice::from_ref(&signed), "it goes where the key goes");
    }
    let said: KeySuccession =
        DocumentKey::from(old).read(purpose, &signed).expect("the old key has signed");
    assert_eq!(said.from.0, DocumentKey::from(old).bytes());
    assert_eq!(said.to.0, DocumentKey::from(new).bytes());
    assert_eq!((said.realm, said.at), (hsm.describe().realm_id, now()));
    assert!(purpose.is_signed_by(&new, b"1", &hsm.sign_document(purpose, b"1").unwrap()));
    let states: Vec<_> =
        hsm.key_records().unwrap().into_iter().map(|one| (one.name, one.state)).collect();
    let first = KeyName { owner: KeyOwner::Platform, purpose: purpose.into(), generation: 1 };
    assert!(states.contains(&(first, KeyState::Retired)));
}

pub fn rotated_document_keys_sign_anew(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_document_keys(now()).unwrap();
    let purpose = DocumentPurpose::AuditHead;
    let (old, before) =
        (hsm.document_key(purpose).unwrap(), hsm.sign_document(purpose, b"1").unwrap());
    hsm.add_generation(KeyOwner::Platform, purpose.into(), now()).unwrap();
    let (new, after) =
        (hsm.document_key(purpose).unwrap(), hsm.sign_document(purpose, b"1").unwrap());
    assert!(purpose.is_signed_by(&old, b"1", &before) && purpose.is_signed_by(&new, b"1", &after));
    assert!(
        !purpose.is_signed_by(&old, b"1", &after) && !purpose.is_signed_by(&new, b"1", &before)
    );
}

pub fn what_is_retired_makes_nothing(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_issuer(issuer(1), now()).unwrap();
    let record = hsm.seal_card_record(issuer(1), card(1), b"record").unwrap();
    rotate(hsm, KeyPurpose::CardRecords);
    retire(hsm, KeyPurpose::CardRecords, 1);
    hsm.open_card_record(issuer(1), card(1), &record, &operator()).unwrap();
    assert_eq!(hsm.seal_card_record(issuer(1), card(1), b"record").unwrap().0[1], 2);

    // A caller who names a generation gets keys of an active one only.
    assert!(provisioning::can_provision(hsm, issuer(1), 1).is_ok());
    rotate(hsm, KeyPurpose::IssuerMaster);
    assert!(provisioning::can_provision(hsm, issuer(1), 1).is_ok(), "both are active");
    retire(hsm, KeyPurpose::IssuerMaster, 1);
    let retired = name(KeyPurpose::IssuerMaster, 1);
    let refused = provisioning::can_provision(hsm, issuer(1), 1);
    assert!(matches!(refused, Err(HsmError::KeyRetired(found)) if found == retired), "{refused:?}");
    assert!(provisioning::can_provision(hsm, issuer(1), 2).is_ok());
}

/// What makes what is new goes only when something newer does, whoever asks, and in however many processes.
pub fn what_makes_what_is_new_stays(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_issuer(issuer(1), now()).unwrap();
    let stays = |purpose, generation| {
        let key = name(purpose, generation);
        let refused = backend.hsm.set_key_state(key, KeyState::Retired);
        assert!(matches!(refused, Err(HsmError::KeyStillMakes(found)) if found == key));
    };
    KeyPurpose::OF_AN_ISSUER.into_iter().for_each(|purpose| stays(purpose, 1));
    for generation in 2..=3 {
        assert_eq!(rotate(hsm, KeyPurpose::CardPins).name.generation, generation);
    }
    // Older ones that are active do not count: they would make what is new again.
    stays(KeyPurpose::CardPins, 3);
    retire(&backend.again(), KeyPurpose::CardPins, 2);
    retire(hsm, KeyPurpose::CardPins, 1);
    stays(KeyPurpose::CardPins, 3);
}

/// From active to retired, from retired to destroyed, and nothing else.
pub fn a_key_lives_forwards(backend: &Vaulted<impl Vault>) {
    use KeyState::{Active, Destroyed, Retired};
    let hsm = &backend.hsm;
    hsm.create_issuer(issuer(1), now()).unwrap();
    let key = name(KeyPurpose::IssuerMaster, 1);
    rotate(hsm, KeyPurpose::IssuerMaster);
    let wrapped_before = std::fs::read_to_string(&backend.catalogue).unwrap();
    assert!(!wrapped_before.contains("\"wrapped\":\"\""));
    for (from, allowed) in [(Active, Retired), (Retired, Destroyed)] {
        for to in [Active, Retired, Destroyed].into_iter().filter(|to| *to != allowed) {
            let refused = hsm.set_key_state(key, to);
            let refused = matches!(refused, Err(HsmError::KeyLife { from: f, to: t, .. }) if (f, t) == (from, to));
            assert!(refused, "{from} {to}");
        }
        hsm.set_key_state(key, allowed).unwrap();
    }
    assert!(hsm.set_key_state(key, Active).is_err(), "nothing comes back");
    let records = hsm.key_records().unwrap();
    assert!(records.iter().any(|record| record.name == key && record.state == Destroyed));
    let after = std::fs::read_to_string(&backend.catalogue).unwrap();
    assert!(wrapped_before.contains("\"wrapped\":\"") && after.contains("\"wrapped\":\"\""));
    let unknown = name(KeyPurpose::IssuerMaster, 9);
    let refused = hsm.set_key_state(unknown, Retired);
    assert!(matches!(refused, Err(HsmError::UnknownKey(found)) if found == unknown));
}

pub fn what_must_stay_the_same_is_not_rotated(backend: &Vaulted<impl Vault>) {
    let hsm = &backend.hsm;
    hsm.create_issuer(issuer(1), now()).unwrap();
    for purpose in [KeyPurpose::PanLookup, KeyPurpose::StoreShares] {
        let refused = hsm.add_generation(OWNER(), purpose, now());
        assert!(matches!(refused, Err(HsmError::NotRotated(found)) if found == purpose));
    }
    let stranger = KeyOwner::Issuer(issuer(9));
    let refused = hsm.add_generation(stranger, KeyPurpose::IssuerMaster, now());
    assert!(matches!(refused, Err(HsmError::UnknownIssuer(_))));
}

/// Keys of another process are found when they are needed; what became of known ones, at a look at the
/// module's health.
pub fn another_process_sees_every_change(backend: &Vaulted<impl Vault>) {
    let (one, other) = (&backend.hsm, backend.again());
    one.create_issuer(issuer(1), now()).unwrap();
    let record = other.seal_card_record(issuer(1), card(1), b"record").unwrap();
    one.open_card_record(issuer(1), card(1), &record, &operator()).unwrap();
    other.add_generation(OWNER(), KeyPurpose::IssuerMaster, now()).unwrap();
    let new = one.demo_keys(issuer(1), 2).unwrap().issuer_master_key;
    assert!(verifies(one, &new, 2) && verifies(&other, &new, 2));
    other.add_generation(OWNER(), KeyPurpose::IssuerMaster, now()).unwrap();
    destroy(&other, KeyPurpose::IssuerMaster, 2);
    assert!(verifies(one, &new, 2), "not looked at yet");
    one.health().unwrap();
    assert!(!verifies(one, &new, 2));
    assert_eq!(one.follow_catalogue(None).unwrap(), other.follow_catalogue(None).unwrap());
}

/// Two processes and several threads make keys at once: none is lost, and none is made twice.
pub fn changes_from_all_sides_are_kept(backend: &Vaulted<impl Vault>) {
    let other = backend.again();
    std::thread::scope(|scope| {
        for thread in 0..2_u8 {
            let (one, other) = (&backend.hsm, &other);
            scope.spawn(move || {
                for number in 0..4 {
                    one.create_issuer(issuer(thread * 4 + number), now()).unwrap();
                }
            });
            scope.spawn(move || {
                for number in 0..4 {
                    other.create_issuer(issuer(100 + thread * 4 + number), now()).unwrap();
                }
            });
        }
    });
    for hsm in [&backend.hsm, &other] {
        for number in (0..8).chain(100..108) {
            hsm.issuer_keys(issuer(number)).unwrap();
        }
        assert_eq!(hsm.key_records().unwrap().len(), 16 * KeyPurpose::OF_AN_ISSUER.len());
    }
    let again = other.create_issuer(issuer(0), now());
    assert!(matches!(again, Err(HsmError::IssuerExists(_))));
}

/// With the same roots, a catalogue goes from one vault to another and back.
pub fn a_catalogue_is_portable(backend: &Vaulted<impl Vault>) {
    fn all_works(maker: &impl PaymentHsm, user: &impl PaymentHsm, number: u8) {
        let keys = maker.create_issuer(issuer(number), now()).unwrap();
        assert_eq!(user.issuer_keys(issuer(number)).unwrap(), keys);
        let master = user.demo_keys(issuer(number), 1).unwrap().issuer_master_key;
        let both: [&dyn PaymentHsm; 2] = [maker, user];
        for hsm in both {
            assert!(cryptograms::verifies(hsm, issuer(number), &master));
        }
        let record = maker.seal_card_record(issuer(number), card(1), b"record").unwrap();
        let opened = user.open_card_record(issuer(number), card(1), &record, &operator());
        assert_eq!(opened.unwrap().expose(), b"record");
        let pan = "4111111111111111".parse().unwrap();
        let lookup = |hsm: &dyn PaymentHsm| hsm.pan_lookup(issuer(number), &pan).unwrap();
        assert_eq!(lookup(maker), lookup(user));
    }
    let (here, software) = (&backend.hsm, backend.in_software());
    all_works(here, &software, 1);
    all_works(&software, here, 2);
    let card_id = CardId::new(now(), [1; 10]);
    let subject = CardPinSubject { issuer: issuer(1), card: card_id };
    let bound_to = card_id.to_string();
    let set = persons::sealed_pin(here, CARD_PIN_INFO, bound_to.as_bytes(), "1234");
    let value = here.card_pin_value(subject, &set).unwrap();
    assert_eq!(software.card_pin_value(subject, &set).unwrap(), value);
    here.create_document_keys(now()).unwrap();
    let purpose = DocumentPurpose::AuditHead;
    let signature = software.sign_document(purpose, b"head").unwrap();
    assert!(purpose.is_signed_by(&here.document_key(purpose).unwrap(), b"head", &signature));
}

/// What is no key, or lies under another root, does not open; what is sealed is not released.
pub fn the_vault_keeps_what_it_should(backend: &Vaulted<impl Vault>) {
    let vault = backend.hsm.vault();
    let algorithms = [
        KeyAlgorithm::CardKeyDerivation,
        KeyAlgorithm::KeyWrapping,
        KeyAlgorithm::Authentication,
        KeyAlgorithm::Signing,
        KeyAlgorithm::Agreement,
        KeyAlgorithm::SchnorrSigning,
    ];
    for algorithm in algorithms {
        let key = vault.generate(algorithm, Custody::Sealed).unwrap();
        assert_ne!(key.wrapped, vault.generate(algorithm, Custody::Sealed).unwrap().wrapped);
        assert_eq!(key.public.is_some(), algorithm.is_asymmetric());
        let mut changed = key.wrapped.clone();
        changed[0] ^= 1;
        for (custody, wrapped) in [
            (Custody::Sealed, &changed),
            (Custody::Sealed, &vec![7; key.wrapped.len()]),
            (Custody::Releasable, &key.wrapped),
        ] {
            let refused = vault.load(algorithm, custody, wrapped).map(drop);
            assert!(matches!(refused, Err(HsmError::NotUnderRoot)), "{algorithm:?} {refused:?}");
        }
        if algorithm != KeyAlgorithm::SchnorrSigning {
            let loaded = vault.load(algorithm, Custody::Sealed, &key.wrapped).unwrap();
            assert!(vault.release(&loaded).is_err(), "{algorithm:?}");
        }
    }
}
