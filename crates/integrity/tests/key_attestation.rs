//! Chains as phones send them, made here: every rule has a chain that breaks it and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    missing_docs
)]

mod maker;

use maker::{Maker, Statement, leaf, params, with_description};
use proptest::prelude::*;
use rcgen::{Issuer, KeyPair, PublicKeyData as _, date_time_ymd};
use tapfer_integrity::key_attestation::{
    AttestationError, KeyDescription, RevokedCertificates, SecurityLevel, Trust, VerifiedBootState,
    verify,
};
use tapfer_payment_types::Timestamp;

const CHALLENGE: &[u8] = b"a question asked once";

/// 2026-06-01.
const NOW: Timestamp = Timestamp::from_unix_millis(1_780_272_000_000);

fn trust_in(maker: &Maker) -> Trust {
    Trust { roots: vec![maker.root_key()], revoked: RevokedCertificates::default() }
}

#[test]
fn a_genuine_chain_says_what_the_hardware_said() {
    let maker = Maker::new();
    let key = KeyPair::generate().unwrap();
    let chain = maker.chain_for(&leaf(&Statement::default()), &key);
    let attested = verify(&chain, CHALLENGE, &trust_in(&maker), NOW).unwrap();
    let KeyDescription { root_of_trust, application, .. } = attested.description.clone();
    assert_eq!(attested.public_key, key.subject_public_key_info());
    assert_eq!(attested.description.version, 300);
    assert_eq!(attested.description.key_security_level, SecurityLevel::TrustedEnvironment);
    assert!(attested.description.generated_inside);
    assert_eq!(attested.description.os_patch_level, Some(202_605));
    let root_of_trust = root_of_trust.unwrap();
    assert!(root_of_trust.device_locked);
    assert_eq!(root_of_trust.verified_boot, VerifiedBootState::Verified);
    let application = application.unwrap();
    assert_eq!(application.packages, ["org.example.wallet"]);
    assert_eq!(application.signature_digests, [vec![0xD1; 32]]);
}

#[test]
fn an_unlocked_phone_and_an_imported_key_are_told_as_such() {
    let maker = Maker::new();
    let statement =
        Statement { locked: false, boot: 2, origin: 2, level: 2, ..Statement::default() };
    let attested =
        verify(&maker.chain(&leaf(&statement)), CHALLENGE, &trust_in(&maker), NOW).unwrap();
    let root_of_trust = attested.description.root_of_trust.unwrap();
    assert!(!root_of_trust.device_locked);
    assert_eq!(root_of_trust.verified_boot, VerifiedBootState::Unverified);
    assert!(!attested.description.generated_inside);
    assert_eq!(attested.description.attestation_security_level, SecurityLevel::StrongBox);
}

/// The operating system may write what it likes into its own list.
#[test]
fn the_boot_state_counts_only_from_the_hardware_s_list() {
    let maker = Maker::new();
    let statement = Statement { root_of_trust_in_hardware_list: false, ..Statement::default() };
    let attested =
        verify(&maker.chain(&leaf(&statement)), CHALLENGE, &trust_in(&maker), NOW).unwrap();
    assert_eq!(attested.description.root_of_trust, None);
}

fn refused(chain: &[Vec<u8>], trust: &Trust) -> AttestationError {
    verify(chain, CHALLENGE, trust, NOW).unwrap_err()
}

#[test]
fn another_maker_s_root_is_not_trusted() {
    let (maker, other) = (Maker::new(), Maker::new());
    let chain = maker.chain(&leaf(&Statement::default()));
    assert_eq!(refused(&chain, &trust_in(&other)), AttestationError::UnknownRoot);
    assert_eq!(refused(&chain, &Trust::default()), AttestationError::UnknownRoot);
}

/// Same names, another key.
#[test]
fn a_forged_signature_is_found() {
    let (maker, forger) = (Maker::new(), Maker::new());
    let mut chain = maker.chain(&leaf(&Statement::default()));
    chain[0] = forger.chain(&leaf(&Statement::default()))[0].clone();
    assert_eq!(refused(&chain, &trust_in(&maker)), AttestationError::Signature(0));
    let mut chain = maker.chain(&leaf(&Statement::default()));
    chain[1] = forger.chain(&leaf(&Statement::default()))[1].clone();
    let error = refused(&chain, &trust_in(&maker));
    assert!(matches!(error, AttestationError::Signature(0 | 1)), "{error}");
}

/// No signature covers the outer name of the algorithm, so a tag in it may be read leniently; but
/// nothing that is said can be changed.
#[test]
fn any_flipped_bit_is_found() {
    let maker = Maker::new();
    let chain = maker.chain(&leaf(&Statement::default()));
    let honest = verify(&chain, CHALLENGE, &trust_in(&maker), NOW).unwrap();
    let mut accepted = 0;
    for position in 0..2 {
        for byte in 0..chain[position].len() {
            let mut altered = chain.clone();
            altered[position][byte] ^= 0x01;
            if let Ok(attested) = verify(&altered, CHALLENGE, &trust_in(&maker), NOW) {
                assert_eq!(attested, honest, "certificate {position}, byte {byte}");
                accepted += 1;
            }
        }
    }
    assert!(
        accepted <= 2,
        "{accepted} flips were accepted: one tag in each certificate is lenient"
    );
}

#[test]
fn an_old_answer_does_not_fit_a_new_question() {
    let maker = Maker::new();
    let chain = maker.chain(&leaf(&Statement::default()));
    let error = verify(&chain, b"another question", &trust_in(&maker), NOW).unwrap_err();
    assert_eq!(error, AttestationError::Challenge);
}

/// The owner of an attested key signs a certificate of his own below it, with whatever description he
/// likes.
#[test]
fn an_attested_key_cannot_attest_others() {
    let maker = Maker::new();
    let honest = with_description(
        params("Android Keystore Key", 3, true),
        &Statement { locked: false, boot: 2, ..Statement::default() },
    );
    let key = KeyPair::generate().unwrap();
    let mut chain = maker.chain_for(&honest, &key);
    let dishonest = leaf(&Statement::default())
        .signed_by(&KeyPair::generate().unwrap(), &Issuer::new(honest, &key));
    chain.insert(0, dishonest.unwrap().der().to_vec());
    assert_eq!(refused(&chain, &trust_in(&maker)), AttestationError::Extended(1));
}

#[test]
fn a_certificate_that_may_not_sign_signs_nothing() {
    let maker = Maker::with_intermediate(params("No Authority", 2, false));
    let chain = maker.chain(&leaf(&Statement::default()));
    assert_eq!(refused(&chain, &trust_in(&maker)), AttestationError::NotAnAuthority(1));
}

#[test]
fn certificates_are_good_in_their_time_only() {
    let mut expired = params("Maker Intermediate", 2, true);
    expired.not_after = date_time_ymd(2026, 5, 31);
    let maker = Maker::with_intermediate(expired);
    let chain = maker.chain(&leaf(&Statement::default()));
    assert_eq!(refused(&chain, &trust_in(&maker)), AttestationError::Validity(1));
    let mut early = leaf(&Statement::default());
    early.not_before = date_time_ymd(2026, 6, 2);
    let maker = Maker::new();
    assert_eq!(refused(&maker.chain(&early), &trust_in(&maker)), AttestationError::Validity(0));
}

/// The root is trusted by its key. Phones go on sending the certificate that they were made with.
#[test]
fn a_trusted_root_does_not_end_with_its_certificate() {
    for (not_before, not_after) in [(2016, 2026), (2027, 2040)] {
        let mut root = params("Maker Root", 1, true);
        (root.not_before, root.not_after) =
            (date_time_ymd(not_before, 5, 26), date_time_ymd(not_after, 5, 24));
        let maker = Maker::with(root, params("Maker Intermediate", 2, true));
        let chain = maker.chain(&leaf(&Statement::default()));
        assert!(verify(&chain, CHALLENGE, &trust_in(&maker), NOW).is_ok());
        assert_eq!(refused(&chain, &Trust::default()), AttestationError::UnknownRoot);
    }
}

#[test]
fn what_the_maker_revoked_is_not_believed() {
    let maker = Maker::new();
    let chain = maker.chain(&leaf(&Statement::default()));
    let mut trust = trust_in(&maker);
    trust.revoked = RevokedCertificates::from_serials(&["201".to_owned()]);
    assert_eq!(refused(&chain, &trust), AttestationError::Revoked(1));
}

#[test]
fn a_certificate_without_a_description_says_nothing() {
    let maker = Maker::new();
    let chain = maker.chain(&params("Android Keystore Key", 3, false));
    assert_eq!(refused(&chain, &trust_in(&maker)), AttestationError::NoDescription);
}

#[test]
fn names_and_order_must_link_up() {
    let maker = Maker::new();
    let mut chain = maker.chain(&leaf(&Statement::default()));
    chain.swap(0, 1);
    let error = refused(&chain, &trust_in(&maker));
    assert!(matches!(error, AttestationError::Issuer(0)), "{error}");
    assert_eq!(refused(&chain[..1], &trust_in(&maker)), AttestationError::ChainLength);
    assert_eq!(
        refused(&vec![chain[2].clone(); 9], &trust_in(&maker)),
        AttestationError::ChainLength
    );
    chain[0].push(0);
    assert_eq!(refused(&chain, &trust_in(&maker)), AttestationError::Certificate(0));
}

#[test]
fn every_truncation_of_a_description_is_refused() {
    let whole = Statement::default().encode();
    assert!(KeyDescription::parse(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(KeyDescription::parse(&whole[..length]).is_err(), "{length} bytes");
    }
    let old = Statement { version: 2, ..Statement::default() };
    assert!(KeyDescription::parse(&old.encode()).is_err());
}

/// A truth value of no bytes: found by fuzzing, where the library beneath looked at the first of them.
#[test]
fn a_truth_value_without_content_is_refused() {
    let genuine = Statement::default().encode();
    let place = genuine.windows(3).position(|bytes| bytes == [0x01, 0x01, 0xFF]).unwrap();
    let mut empty = genuine.clone();
    empty[place + 1] = 0;
    assert!(matches!(KeyDescription::parse(&empty), Err(AttestationError::Description(_))));
    // Neither DER's false nor its true.
    let mut loose = genuine.clone();
    loose[place + 2] = 0x01;
    assert!(matches!(KeyDescription::parse(&loose), Err(AttestationError::Description(_))));
}

/// Every value at every place: two hundred bytes are few enough to try them all.
#[test]
fn any_byte_anywhere_in_a_description_is_answered() {
    let genuine = Statement::default().encode();
    for position in 0..genuine.len() {
        for value in 0..=u8::MAX {
            let mut altered = genuine.clone();
            altered[position] = value;
            let _ = KeyDescription::parse(&altered);
        }
    }
}

proptest! {
    #[test]
    fn a_status_list_revokes_what_it_names_and_any_text_is_answered(
        text in ".*",
        serial in proptest::collection::vec(any::<u8>(), 1..20),
    ) {
        let _ = RevokedCertificates::from_status_list(&text);
        let digits: String = serial.iter().map(|byte| format!("{byte:02X}")).collect();
        let list = format!(r#"{{"entries": {{"{digits}": {{"status": "REVOKED"}}}}}}"#);
        prop_assert!(RevokedCertificates::from_status_list(&list).unwrap().contains(&serial));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = KeyDescription::parse(&bytes);
        let chain = vec![bytes.clone(), bytes];
        prop_assert!(verify(&chain, CHALLENGE, &Trust::default(), NOW).is_err());
    }

    #[test]
    fn a_damaged_description_is_read_or_refused(position in 0_usize..200, value: u8) {
        let mut bytes = Statement::default().encode();
        let length = bytes.len();
        bytes[position % length] = value;
        let _ = KeyDescription::parse(&bytes);
    }
}
