//! Every value of `data/kernel8.json`, made with one public implementation and recomputed by a
//! second one.
use tapfer_emv::certificate::{CaPublicKey, IccCertificate, IssuerCertificate};
use tapfer_emv::channel::{IadMacInput, SecureChannel, derivation_key, session_keys};
use tapfer_emv::cryptogram::application_cryptogram;
use tapfer_emv::curve::{PrivateKey, PublicPoint, PublicX};
use tapfer_emv::ecsdsa;
use tapfer_emv::keys::{CardDigits, IssuerMasterKey};
use tapfer_emv::triple_des;
use tapfer_payment_types::{PanSequenceNumber, Timestamp};

use super::vector_file::{Case, check_cases, group_names};

const FILE: &str = include_str!("../data/kernel8.json");
const CASES: usize = 16;

#[test]
fn the_file_has_the_groups_tested_here_and_no_others() {
    assert_eq!(
        group_names(FILE),
        [
            "application_cryptogram",
            "blinded_diffie_hellman",
            "certificate_chain",
            "data_envelope",
            "ec_sdsa_p256_sha256"
        ]
    );
}

fn number(case: &Case<'_>, name: &str) -> u16 {
    u16::try_from(case.value(name).as_u64().unwrap()).unwrap()
}

#[test]
fn blinded_diffie_hellman() {
    check_cases(FILE, "blinded_diffie_hellman", CASES, |case| {
        check_key_agreement(case);
        let (mut card, mut kernel) = check_channel_opening(case);
        check_records(case, &mut card, &mut kernel);
        check_macs(case, &card);
        check_macs(case, &kernel);
    });
}

fn check_key_agreement(case: &Case<'_>) {
    let card_key = PrivateKey::from_bytes(&case.array("card_private")).unwrap();
    assert_eq!(card_key.public_x().bytes(), &case.array("card_public_x"));
    let kernel_key = PrivateKey::from_bytes(&case.array("kernel_private")).unwrap();
    assert_eq!(kernel_key.public_point(), case.array("kernel_key_data_9e"));

    let blinded = PublicX::from_bytes(&case.array("blinded_public_x")).unwrap();
    let shared_secret = kernel_key.shared_x(&blinded);
    assert_eq!(shared_secret.expose(), &case.array("shared_secret_z"));
    let derivation_key = derivation_key(shared_secret.expose());
    assert_eq!(derivation_key.expose(), &case.array("kd"));
    let (skc, ski) = session_keys(derivation_key.expose());
    assert_eq!(skc.expose(), &case.array("skc"));
    assert_eq!(ski.expose(), &case.array("ski"));
}

fn check_channel_opening(case: &Case<'_>) -> (SecureChannel, SecureChannel) {
    let card_key = PrivateKey::from_bytes(&case.array("card_private")).unwrap();
    let kernel_point = PublicPoint::from_bytes(&case.array("kernel_key_data_9e")).unwrap();
    let factor = case.array("blinding_factor");
    let (card, card_key_data) =
        SecureChannel::card_with_blinding_factor(&card_key, &kernel_point, &factor).unwrap();
    assert_eq!(card_key_data, case.array("card_key_data_9f8103"));
    assert_eq!(card_key_data[..32], case.array::<32>("blinded_public_x"));
    assert_eq!(card_key_data[32..], case.array::<32>("encrypted_blinding_factor_counter_8000"));

    let kernel_key = PrivateKey::from_bytes(&case.array("kernel_private")).unwrap();
    let (kernel, recovered) = SecureChannel::kernel(&kernel_key, &card_key_data).unwrap();
    recovered.check(&PublicX::from_bytes(&case.array("card_public_x")).unwrap()).unwrap();
    (card, kernel)
}

fn check_records(case: &Case<'_>, card: &mut SecureChannel, kernel: &mut SecureChannel) {
    for (plain, encrypted) in [
        ("record_value_1", "record_value_1_encrypted_counter_8001"),
        ("record_value_2", "record_value_2_encrypted_counter_8002"),
    ] {
        let sent = card.encrypt_record(&case.bytes(plain)).unwrap();
        assert_eq!(sent, case.bytes(encrypted));
        assert_eq!(kernel.decrypt_record(&sent).unwrap(), case.bytes(plain));
    }
}

fn check_macs(case: &Case<'_>, channel: &SecureChannel) {
    let (pdol_values, cdol1_values) = (case.bytes("pdol_values"), case.bytes("cdol1_related_data"));
    let generate_ac_tlvs = case.bytes("generate_ac_response_tlvs_without_ac_and_eda_mac");
    let sda_hash = case.array("sda_hash");
    let entropy = case.array("terminal_relay_resistance_entropy");
    let answer = case.array("last_errd_response_value");
    let iad_mac = |relay_resistance| {
        channel.iad_mac(&IadMacInput {
            pdol_values: &pdol_values,
            cdol1_values: &cdol1_values,
            relay_resistance,
            generate_ac_tlvs: &generate_ac_tlvs,
            sda_hash: &sda_hash,
        })
    };
    let without = iad_mac(None);
    assert_eq!(without, case.array("iad_mac_without_relay_resistance"));
    assert_eq!(iad_mac(Some((&entropy, &answer))), case.array("iad_mac_with_relay_resistance"));
    let eda_mac = channel.eda_mac(&case.array("application_cryptogram"), &without);
    assert_eq!(eda_mac, case.array("eda_mac_over_ac_and_first_iad_mac"));
}

#[test]
fn ec_sdsa() {
    check_cases(FILE, "ec_sdsa_p256_sha256", CASES, |case| {
        let key = PrivateKey::from_bytes(&case.array("private")).unwrap();
        let public = PublicX::from_bytes(&case.array("public_x")).unwrap();
        assert_eq!(key.public_x(), public);
        let message = case.bytes("message");
        let signature = case.array("signature_r_s");
        ecsdsa::verify(&public, &message, &signature).unwrap();
        let signed = ecsdsa::sign_with_nonce(&key, &message, &case.array("nonce_k"));
        assert_eq!(signed, Some(signature));
    });
}

#[test]
fn certificate_chain() {
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    check_cases(FILE, "certificate_chain", CASES, |case| {
        let ca = CaPublicKey {
            rid: case.array("rid"),
            index: u8::try_from(number(case, "ca_index")).unwrap(),
            key: PublicX::from_bytes(&case.array("ca_public_x")).unwrap(),
        };
        let issuer_bytes = case.bytes("issuer_certificate_tag_90");
        let issuer = IssuerCertificate::parse(&issuer_bytes).unwrap();
        issuer.verify(&ca, now).unwrap();
        assert_eq!(issuer.encode(), issuer_bytes);
        assert_eq!(issuer.public_key.bytes(), &case.array("issuer_public_x"));

        let icc_bytes = case.bytes("icc_certificate_tag_9f46");
        let icc = IccCertificate::parse(&icc_bytes).unwrap();
        icc.verify(&issuer.public_key, &case.array("iccd_hash"), now).unwrap();
        assert_eq!(icc.encode(), icc_bytes);
        assert_eq!(icc.public_key.bytes(), &case.array("icc_public_x"));
    });
}

#[test]
fn application_cryptograms() {
    check_cases(FILE, "application_cryptogram", CASES, |case| {
        let sequence = PanSequenceNumber::new(case.text("pan_sequence_number").parse().unwrap());
        let digits = CardDigits::new(case.text("pan"), sequence.unwrap()).unwrap();
        let counter = case.counter("atc");
        let (master, input) = (case.array("issuer_master_key"), case.bytes("input"));
        check_aes(case, &master, &digits, counter, &input);
        check_triple_des(case, &master, &digits, counter, &input);
    });
}

fn check_aes(case: &Case<'_>, master: &[u8; 16], digits: &CardDigits, counter: u16, input: &[u8]) {
    let card_key = IssuerMasterKey::new(*master).card_key(digits);
    assert_eq!(card_key.expose(), &case.array("aes_card_master_key_option_c"));
    let session_key = card_key.session_key(counter);
    assert_eq!(session_key.expose(), &case.array("aes_session_key"));
    let cryptogram = application_cryptogram(&session_key, input);
    assert_eq!(cryptogram, case.array("aes_cmac_cryptogram"));
}

fn check_triple_des(
    case: &Case<'_>,
    master: &[u8; 16],
    digits: &CardDigits,
    counter: u16,
    input: &[u8],
) {
    let card_key = triple_des::IssuerMasterKey::new(*master).card_master_key(digits);
    assert!(card_key.has_key_bits_of(&case.array("tdes_card_master_key_option_a")));
    let session_key = card_key.session_key(counter);
    assert!(session_key.has_key_bits_of(&case.array("tdes_session_key_common")));
    let cryptogram = triple_des::application_cryptogram(&session_key, input);
    assert_eq!(cryptogram, case.array("tdes_cryptogram"));
}

#[test]
fn data_envelopes() {
    check_cases(FILE, "data_envelope", CASES, |case| {
        let channel = || {
            SecureChannel::from_session_keys(
                case.array("skc"),
                case.array("ski"),
                number(case, "card_message_counter"),
                number(case, "kernel_message_counter"),
            )
        };
        let (mut card, mut kernel) = (channel(), channel());
        let plain = case.bytes("plain");
        let answer = card.seal_read_data(&plain).unwrap();
        assert_eq!(answer, case.bytes("read_data_response"));
        assert_eq!(kernel.open_read_data(&answer).unwrap(), plain);

        // Both halves of a case start from the same counters.
        let (mut card, mut kernel) = (channel(), channel());
        let (command, expected_mac) = kernel.encrypt_write_data(&plain).unwrap();
        assert_eq!(command, case.bytes("write_data_command"));
        assert_eq!(expected_mac, case.array("write_data_response_mac"));
        assert_eq!(card.decrypt_write_data(&command).unwrap(), (plain, expected_mac));
    });
}
