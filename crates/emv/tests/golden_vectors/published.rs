//! Every value of `data/emv_published.json`: published examples, each recomputed by independent
//! code before it was written down.
use tapfer_emv::certificate::{IccCertificate, IssuerCertificate};
use tapfer_emv::channel::{SecureChannel, derivation_key, session_keys};
use tapfer_emv::cryptogram::{application_cryptogram, application_cryptogram_256};
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::ecsdsa::{self, Signature};
use tapfer_emv::keys::{CardDigits, CardMasterKey256, KeyIndex, TokenKey};
use tapfer_emv::triple_des::{
    self, CardMasterKey, IssuerMasterKey, Padding, SessionKey, response_cryptogram_method_2,
};
use tapfer_payment_types::PanSequenceNumber;

use super::vector_file::{Case, check_cases, check_group, group_names};

const FILE: &str = include_str!("../data/emv_published.json");

#[test]
fn the_file_has_the_groups_tested_here_and_no_others() {
    assert_eq!(
        group_names(FILE),
        [
            "_about",
            "aes_application_cryptogram",
            "arpc_method_2",
            "blinded_diffie_hellman",
            "ca_self_certificate",
            "ec_sdsa_p256_sha256",
            "eda_mac",
            "tdes_cvn18",
            "tdes_mchip",
            "visa_limited_use_key"
        ]
    );
}

#[test]
fn ec_sdsa() {
    check_cases(FILE, "ec_sdsa_p256_sha256", 2, |case| {
        let key = PrivateKey::from_bytes(&case.array("private")).unwrap();
        let message = case.bytes("message");
        let signature: Signature = case.array("signature_r_s");
        ecsdsa::verify(&key.public_x(), &message, &signature).unwrap();
        let signed = ecsdsa::sign_with_nonce(&key, &message, &case.array("nonce_k"));
        assert_eq!(signed, Some(signature));

        let certificate = [message.as_slice(), &signature].concat();
        match message[0] {
            0x12 => {
                let parsed = IssuerCertificate::parse(&certificate).unwrap();
                assert_eq!(parsed.encode(), certificate);
                assert!(parsed.matches_pan("5413339000001513"));
            }
            _ => assert_eq!(IccCertificate::parse(&certificate).unwrap().encode(), certificate),
        }
    });
}

#[test]
fn ca_self_certificate() {
    check_group(FILE, "ca_self_certificate", |case| {
        let message = case.bytes("message");
        assert!(case.value("public_x_is_last_32_bytes_of_message").as_bool().unwrap());
        let key = PublicX::from_bytes(message.last_chunk().unwrap()).unwrap();
        ecsdsa::verify(&key, &message, &case.array("signature_r_s")).unwrap();
    });
}

#[test]
fn blinded_diffie_hellman() {
    check_group(FILE, "blinded_diffie_hellman", |group| {
        let key = PrivateKey::from_bytes(&group.array("0/kernel_private")).unwrap();
        let blinded = PublicX::from_bytes(&group.array("0/blinded_public_x")).unwrap();
        assert_eq!(key.shared_x(&blinded).expose(), &group.array("0/shared_secret_z"));

        let derivation_key = derivation_key(&group.array("1/shared_secret_z"));
        assert_eq!(derivation_key.expose(), &group.array("1/kd"));
        let (skc, ski) = session_keys(derivation_key.expose());
        assert_eq!(skc.expose(), &group.array("1/skc"));
        assert_eq!(ski.expose(), &group.array("1/ski"));
    });
}

#[test]
fn eda_mac() {
    check_cases(FILE, "eda_mac", 1, |case| {
        let input: [u8; 18] = case.array("input");
        assert_eq!(input[..2], [0, 0]);
        let (cryptogram, iad_mac) = (input[2..10].try_into(), input[10..].try_into());
        let channel = SecureChannel::from_session_keys([0; 16], case.array("ski"), 0, 0);
        assert_eq!(channel.eda_mac(&cryptogram.unwrap(), &iad_mac.unwrap()), case.array("mac"));
    });
}

#[test]
fn aes_application_cryptogram() {
    check_cases(FILE, "aes_application_cryptogram", 2, |case| {
        let (counter, input) = (case.counter("atc"), case.bytes("input"));
        let cryptogram = match case.bytes("card_master_key").len() {
            16 => {
                let card_key = TokenKey::new(case.array("card_master_key"));
                application_cryptogram(&card_key.session_key(counter), &input)
            }
            _ => {
                let card_key = CardMasterKey256::new(case.array("card_master_key"));
                application_cryptogram_256(&card_key.session_key(counter), &input)
            }
        };
        assert_eq!(cryptogram, case.array("cryptogram"));
    });
}

#[test]
fn tdes_cvn18() {
    check_group(FILE, "tdes_cvn18", |case| {
        let sequence = PanSequenceNumber::new(case.text("pan_sequence_number").parse().unwrap());
        let digits = CardDigits::new(case.text("pan"), sequence.unwrap()).unwrap();
        let master = IssuerMasterKey::new(case.array("issuer_master_key"));
        let key = master.card_master_key(&digits).session_key(case.counter("atc"));
        let cryptogram = triple_des::application_cryptogram(&key, &case.bytes("input"));
        assert_eq!(cryptogram, case.array("cryptogram"));
        let update = case.array("arpc_method_2/csu");
        let response = response_cryptogram_method_2(&key, &cryptogram, &update, &[]);
        assert_eq!(response, case.array("arpc_method_2/arpc"));
    });
}

#[test]
fn tdes_mchip() {
    check_group(FILE, "tdes_mchip", |case| {
        let key = SessionKey::new(case.array("session_key"));
        let cryptogram = triple_des::application_cryptogram(&key, &case.bytes("input"));
        assert_eq!(cryptogram, case.array("cryptogram"));
    });
}

#[test]
fn arpc_method_2() {
    check_group(FILE, "arpc_method_2", |case| {
        let key = SessionKey::new(case.array("session_key"));
        let (arqc, update) = (case.array("arqc"), case.array("csu"));
        assert_eq!(response_cryptogram_method_2(&key, &arqc, &update, &[]), case.array("arpc"));
    });
}

#[test]
fn visa_limited_use_key() {
    check_group(FILE, "visa_limited_use_key", |group| {
        check_seven_digit_index(group);
        assert_eq!(group.value("cases/0/key_index_digits"), "0570201");
        let keys = [0, 1].map(|case| limited_use_key(group, case));

        let qvsdc = |name| format!("qvsdc_cryptogram_with_second_luk/{name}");
        assert_eq!(group.text(&qvsdc("mac")), "ISO 9797-1 algorithm 3, padding method 2");
        let input = group.bytes(&qvsdc("input"));
        let cryptogram = triple_des::retail_mac(keys[1].expose(), &input, Padding::Method2);
        assert_eq!(cryptogram, group.array(&qvsdc("cryptogram")));
    });
}

fn limited_use_key(group: &Case<'_>, case: usize) -> SessionKey {
    let card_key = CardMasterKey::new(group.array(&format!("cases/{case}/udk")));
    let index = group.text(&format!("cases/{case}/key_index_digits"));
    let digits: Vec<u8> = index.bytes().map(|digit| digit - b'0').collect();
    let key = card_key.visa_limited_use_key_of_digits(&digits);
    assert_eq!(key.expose(), &group.array(&format!("cases/{case}/luk")));
    key
}

/// The first case's index has seven digits: the typed way gives the same key.
fn check_seven_digit_index(group: &Case<'_>) {
    let index: KeyIndex = group.text("cases/0/key_index_digits").parse().unwrap();
    let key = CardMasterKey::new(group.array("cases/0/udk")).visa_limited_use_key(index);
    assert_eq!(key.expose(), &group.array("cases/0/luk"));
}
