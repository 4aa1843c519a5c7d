//! Signatures, certificates, keys and cryptograms against the Rust crate `emv`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use emv_oracle::core::{
    aes_primitives, application_cryptogram as theirs_cryptogram, ec_sdsa, ecc_oda, ecc_primitives,
    issuer_authentication, master_key_derivation, secure_messaging,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tapfer_emv::certificate::{CaPublicKey, CertificateDate, IssuerCertificate};
use tapfer_emv::cryptogram::{application_cryptogram, application_cryptogram_256};
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::keys::{CardDigits, CardMasterKey256, IssuerMasterKey};
use tapfer_emv::{ecsdsa, mac, triple_des};
use tapfer_payment_types::{PanSequenceNumber, Timestamp};

/// EC-SDSA, P-256, SHA-256.
const SUITE: u8 = ecc_primitives::algorithm_suite::SIGNATURE_EC_SDSA_SHA256_P256;
const RID: [u8; 5] = [0xF0, 0x54, 0x41, 0x50, 0x46];

/// A card number's digits as a compressed numeric field, padded with `F`.
fn compressed_numeric(pan: &str) -> Vec<u8> {
    let mut half_bytes: Vec<u8> = pan.bytes().map(|digit| digit - b'0').collect();
    half_bytes.resize(pan.len().next_multiple_of(2), 0x0F);
    half_bytes.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect()
}

fn packed(number: u8) -> u8 {
    ((number / 10) << 4) | (number % 10)
}

fn our_key(bytes: &[u8; 32]) -> Option<PrivateKey> {
    PrivateKey::from_bytes(bytes).ok()
}

/// An issuer certificate with this expiry, signed by us.
fn issuer_certificate(ca: &PrivateKey, expiry: CertificateDate) -> IssuerCertificate {
    let mut certificate = IssuerCertificate {
        issuer_identifier: [0x99, 0x90, 0x12, 0xFF, 0xFF],
        expiry,
        serial: [1, 2, 3],
        rid: RID,
        ca_index: 7,
        public_key: ca.public_x(),
        signature: [0; 64],
    };
    certificate.signature =
        ecsdsa::sign_with_nonce(ca, &certificate.message(), &[0x55; 32]).unwrap();
    certificate
}

#[test]
fn issuer_certificates_expire_on_the_same_day() {
    let ca = PrivateKey::from_bytes(&[0x42; 32]).unwrap();
    let ours = CaPublicKey { rid: RID, index: 7, key: ca.public_x() };
    let theirs = ecc_oda::EccCaPublicKey {
        rid: RID,
        index: 7,
        x_coord: ca.public_x().bytes().to_vec(),
        algorithm_suite: SUITE,
    };
    let certificate = issuer_certificate(&ca, CertificateDate { year: 2026, month: 11, day: 21 });
    for (day, is_good) in [(20, true), (21, true), (22, false)] {
        let now = Timestamp::at_minute(2026, 11, day, 12, 0).unwrap();
        assert_eq!(certificate.verify(&ours, now).is_ok(), is_good, "day {day}, ours");
        let recovered = ecc_oda::recover_issuer_public_key_ecc(
            &theirs,
            &certificate.encode(),
            &compressed_numeric("9990123456789012"),
            [0x20, 0x26, 0x11, packed(day)],
        );
        assert_eq!(recovered.is_ok(), is_good, "day {day}, theirs");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn they_verify_what_we_sign(
        key in any::<[u8; 32]>(), nonce in any::<[u8; 32]>(), message in vec(any::<u8>(), 0..200)
    ) {
        let Some(key) = our_key(&key) else { return Ok(()) };
        let Some(signature) = ecsdsa::sign_with_nonce(&key, &message, &nonce) else { return Ok(()) };
        let public = key.public_x();
        let verified = ec_sdsa::ec_sdsa_p256_verify(SUITE, public.bytes(), &message, &signature);
        prop_assert_eq!(verified, Ok(true));
        let mut changed = message;
        changed.push(0);
        let verified = ec_sdsa::ec_sdsa_p256_verify(SUITE, public.bytes(), &changed, &signature);
        prop_assert_eq!(verified, Ok(false));
    }

    #[test]
    fn we_verify_what_they_sign_and_sign_alike(
        key in any::<[u8; 32]>(), nonce in any::<[u8; 32]>(), message in vec(any::<u8>(), 0..200)
    ) {
        let Some(ours) = our_key(&key) else { return Ok(()) };
        let constrained = ec_sdsa::constrain_long_term_private_key_p256(&key).unwrap();
        let Ok(signature) = ec_sdsa::ec_sdsa_p256_sign(SUITE, &constrained, &nonce, &message) else {
            return Ok(());
        };
        let public = PublicX::from_bytes(&ec_sdsa::public_key_x_from_private(&key).unwrap()).unwrap();
        prop_assert_eq!(public, ours.public_x());
        let signature = signature.try_into().unwrap();
        prop_assert_eq!(ecsdsa::verify(&public, &message, &signature), Ok(()));
        prop_assert_eq!(ecsdsa::sign_with_nonce(&ours, &message, &nonce), Some(signature));
    }

    #[test]
    fn the_same_bytes_are_points(x in any::<[u8; 32]>()) {
        let theirs = ecc_primitives::validate_pk_x_p256(&x);
        prop_assert_eq!(PublicX::from_bytes(&x).is_ok(), theirs.is_ok());
    }

    #[test]
    fn the_smaller_y_is_the_same(key in any::<[u8; 32]>()) {
        let Some(key) = our_key(&key) else { return Ok(()) };
        let restored = ecc_primitives::recover_y_p256(key.public_x().bytes()).unwrap();
        let constrained =
            ec_sdsa::constrain_long_term_private_key_p256(key.to_bytes().expose()).unwrap();
        let point = our_key(&constrained).unwrap().public_point();
        prop_assert_eq!(&point[32..], &restored);
    }

    #[test]
    fn aes_keys_and_cryptograms(
        master in any::<[u8; 16]>(), long_key in any::<[u8; 32]>(), pan in "[0-9]{12,19}",
        sequence in 0_u8..100, counter in any::<u16>(), input in vec(any::<u8>(), 0..120)
    ) {
        let digits = CardDigits::new(&pan, PanSequenceNumber::new(sequence).unwrap()).unwrap();
        let card_key = IssuerMasterKey::new(master).card_key(&digits);
        let (number, sequence) = (compressed_numeric(&pan), Some(packed(sequence)));
        let theirs =
            master_key_derivation::derive_master_key_option_c(&master, &number, sequence).unwrap();
        prop_assert_eq!(card_key.expose().as_slice(), &theirs);

        let block = secure_messaging::diversification_for_ac_session_key_aes(counter);
        let session_key = card_key.session_key(counter);
        let theirs = secure_messaging::derive_session_key_aes(&theirs, &block).unwrap();
        prop_assert_eq!(session_key.expose().as_slice(), &theirs);
        let theirs = theirs_cryptogram::application_cryptogram_aes(&theirs, &input).unwrap();
        prop_assert_eq!(application_cryptogram(&session_key, &input), theirs);

        let session_key = CardMasterKey256::new(long_key).session_key(counter);
        let theirs = secure_messaging::derive_session_key_aes(&long_key, &block).unwrap();
        prop_assert_eq!(session_key.expose().as_slice(), &theirs);
        let theirs = theirs_cryptogram::application_cryptogram_aes(&theirs, &input).unwrap();
        prop_assert_eq!(application_cryptogram_256(&session_key, &input), theirs);
    }

    #[test]
    fn cmac_plus_is_cmac_decrypted_in_cbc_mode(key in any::<[u8; 16]>(), message in vec(any::<u8>(), 0..120)) {
        let cmac = aes_primitives::aes_cmac(&key, &message).unwrap();
        prop_assert_eq!(mac::aes_cmac(&key, &[&message]), cmac);
        let decrypted = aes_primitives::aes_cbc_decrypt(&key, &cmac, &cmac).unwrap();
        prop_assert_eq!(mac::aes_cmac_plus(&key, &[&message]).to_vec(), decrypted);
    }

    #[test]
    fn triple_des_keys_and_cryptograms(
        master in any::<[u8; 16]>(), pan in "[0-9]{12,19}", sequence in 0_u8..100,
        counter in any::<u16>(), input in vec(any::<u8>(), 0..120),
        update in any::<[u8; 4]>(), proprietary in vec(any::<u8>(), 0..9)
    ) {
        let digits = CardDigits::new(&pan, PanSequenceNumber::new(sequence).unwrap()).unwrap();
        let card_key = triple_des::IssuerMasterKey::new(master).card_master_key(&digits);
        let (number, sequence) = (compressed_numeric(&pan), Some(packed(sequence)));
        let theirs =
            master_key_derivation::derive_master_key_option_a(&master, &number, sequence).unwrap();
        prop_assert!(card_key.has_key_bits_of(&theirs));

        let block = secure_messaging::diversification_for_ac_session_key(counter);
        let session_key = card_key.session_key(counter);
        let theirs = secure_messaging::derive_session_key_tdes(&theirs, &block);
        prop_assert!(session_key.has_key_bits_of(&theirs));
        let cryptogram = triple_des::application_cryptogram(&session_key, &input);
        prop_assert_eq!(cryptogram, theirs_cryptogram::application_cryptogram(&theirs, &input));

        let ours = triple_des::response_cryptogram_method_2(
            &session_key, &cryptogram, &update, &proprietary,
        );
        let theirs =
            issuer_authentication::arpc_method2(cryptogram, update, &proprietary, &theirs).unwrap();
        prop_assert_eq!(ours, theirs);
    }
}
