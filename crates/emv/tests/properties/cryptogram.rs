//! Issuer application data, cryptograms and the proof of one.

use proptest::prelude::*;
use tapfer_emv::cryptogram::{CryptogramInput, application_cryptogram, verify};
use tapfer_emv::iad::{
    IAD_MAC_OFFSET, IadError, IssuerApplicationData, VerificationMethod, VerificationResults,
};
use tapfer_emv::keys::{KeyClass, TokenKey};
use tapfer_emv::merchant::MerchantIdentity;
use tapfer_payment_types::{Timestamp, TokenId};

use super::keys::any_index;

#[test]
fn issuer_application_data_of_others_is_refused() {
    let data = IssuerApplicationData {
        derivation_key_index: 1,
        results: VerificationResults {
            method: VerificationMethod::DeviceUnlock,
            screen_on: true,
            unlocked: true,
            declined: false,
            key_class: KeyClass::Unverified,
            relay_checked: false,
            integrity_verdict: 0,
        },
        key_index: "6000100".parse().unwrap(),
        policy_version: 1,
        merchant_identity: None,
        iad_mac: [0xAA; 8],
    };
    let bytes = data.encode();
    assert_eq!(bytes[usize::from(IAD_MAC_OFFSET)..], [0xAA; 8]);
    assert_eq!(IssuerApplicationData::parse(&bytes[..31]), Err(IadError::Length));
    for (position, value, expected) in [
        (0, 0x20, IadError::Length),
        (2, 0x12, IadError::CryptogramVersion),
        (3, 0x04, IadError::VerificationResults),
        (4, 0x01, IadError::VerificationResults),
        (5, 0x00, IadError::VerificationResults),
        (6, 0x02, IadError::VerificationResults),
        (7, 0x80, IadError::VerificationResults),
        (9, 0x16, IadError::KeyIndex),
        (6, 0x01, IadError::MerchantIdentity),
        (16, 0x01, IadError::MerchantIdentity),
        (23, 0x01, IadError::MerchantIdentity),
    ] {
        let mut changed = bytes;
        changed[position] = value;
        assert_eq!(IssuerApplicationData::parse(&changed), Err(expected), "byte {position}");
    }
}

fn any_results() -> impl Strategy<Value = VerificationResults> {
    let method = prop_oneof![
        Just(VerificationMethod::None),
        Just(VerificationMethod::DeviceUnlock),
        Just(VerificationMethod::Pin),
        Just(VerificationMethod::TerminalPin)
    ];
    (method, any::<[bool; 5]>(), any::<u8>()).prop_map(|(method, flags, integrity_verdict)| {
        let [screen_on, unlocked, declined, verified, relay_checked] = flags;
        let key_class = if verified { KeyClass::Verified } else { KeyClass::Unverified };
        VerificationResults {
            method,
            screen_on,
            unlocked,
            declined,
            key_class,
            relay_checked,
            integrity_verdict,
        }
    })
}

fn any_issuer_application_data() -> impl Strategy<Value = IssuerApplicationData> {
    (any::<u8>(), any_results(), any_index(), 0_u32..0x0100_0000, any::<[[u8; 8]; 2]>()).prop_map(
        |(derivation_key_index, results, key_index, policy_version, [merchant, iad_mac])| {
            IssuerApplicationData {
                derivation_key_index,
                results,
                key_index,
                policy_version,
                merchant_identity: MerchantIdentity::from_bytes(merchant),
                iad_mac,
            }
        },
    )
}

fn input_with(issuer_application_data: Vec<u8>, counter: u16) -> CryptogramInput {
    CryptogramInput {
        amount_authorized: [0, 0, 0, 0, 0x10, 0],
        amount_other: [0; 6],
        terminal_country: [2, 0x76],
        tvr: [0; 5],
        currency: [9, 0x78],
        date: [0x26, 0x11, 0x21],
        transaction_type: 0,
        unpredictable_number: [1, 2, 3, 4],
        aip: [1, 4],
        application_transaction_counter: counter,
        issuer_application_data,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn issuer_application_data_is_read_back(data in any_issuer_application_data()) {
        prop_assert_eq!(IssuerApplicationData::parse(&data.encode()), Ok(data));
    }

    #[test]
    fn any_change_of_issuer_application_data_shows(
        data in any_issuer_application_data(), position in 0_usize..32, change in 1_u8..
    ) {
        let mut bytes = data.encode();
        bytes[position] ^= change;
        match IssuerApplicationData::parse(&bytes) {
            Ok(parsed) => {
                prop_assert_eq!(parsed.encode(), bytes);
                prop_assert_ne!(parsed, data);
            }
            Err(_) => prop_assert!(position != 1, "any derivation key index is one"),
        }
    }

    #[test]
    fn any_bytes_as_issuer_application_data_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = IssuerApplicationData::parse(&bytes);
    }

    #[test]
    fn only_the_cards_own_cryptogram_is_proof(
        key in any::<[u8; 16]>(), counter in any::<u16>(), data in any_issuer_application_data(),
        position in 0_usize..8, change in 1_u8..
    ) {
        let session_key = TokenKey::new(key).session_key(counter);
        let input = input_with(data.encode().to_vec(), counter);
        let received = application_cryptogram(&session_key, &input.encode());
        let oracle = |bytes: &[u8]| application_cryptogram(&session_key, bytes);
        let token = TokenId::new(Timestamp::from_unix_millis(0), [7; 10]);
        let proof = verify(token, &input, &received, oracle).unwrap();
        prop_assert_eq!(proof.token(), token);
        prop_assert_eq!(proof.input(), &input);
        prop_assert_eq!(proof.cryptogram(), &received);

        let mut changed = received;
        changed[position] ^= change;
        prop_assert!(verify(token, &input, &changed, oracle).is_err());
        let mut other = input;
        other.amount_authorized[5] ^= change;
        prop_assert!(verify(token, &other, &received, oracle).is_err());
    }
}
