//! Key indexes and key derivations.

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use proptest::prelude::*;
use tapfer_emv::keys::{
    CardDigits, IssuerMasterKey, KeyClass, KeyIndex, TokenKey, limited_use_key_data,
    session_key_data, token_key_data,
};
use tapfer_emv::triple_des;
use tapfer_payment_types::{PanSequenceNumber, Timestamp, TokenPan};

#[test]
fn a_key_index_counts_hours_from_one() {
    let index = |time: &str, counter| KeyIndex::at(time.parse().unwrap(), counter);
    assert_eq!(index("2026-01-01T00:59:59Z", 0).unwrap().to_string(), "6000100");
    assert_eq!(index("2028-12-31T23:00:00Z", 99).unwrap().to_string(), "8878499");
    assert!(index("2026-01-01T00:00:00Z", 100).is_err());
    for text in ["", "600010", "60001000", "6000000", "6878500", "60001A0", "+600100"] {
        assert!(text.parse::<KeyIndex>().is_err(), "{text}");
    }
    for bytes in [[0x16, 0, 1, 0], [6, 0, 0, 0], [6, 0x87, 0x85, 0], [6, 0, 0x0A, 0]] {
        assert!(KeyIndex::from_bytes(bytes).is_err(), "{bytes:?}");
    }
}

/// A module that derives inside needs the blocks only: one AES block a stage.
#[test]
fn derivation_data_are_the_stages_encrypted_blocks() {
    let encrypt = |key: [u8; 16], block: [u8; 16]| -> [u8; 16] {
        let mut block = block.into();
        Aes128::new(&key.into()).encrypt_block(&mut block);
        block.into()
    };
    let token: TokenPan = "4111111111111111".parse().unwrap();
    let (sequence, index) = (PanSequenceNumber::new(1).unwrap(), "6000100".parse().unwrap());
    let token_key = IssuerMasterKey::new([9; 16]).token_key(&token, sequence);
    let limited = token_key.limited_use_key(KeyClass::Verified, index);
    let data = token_key_data(&token, sequence);
    assert_eq!(*data.expose(), *b"\0\0\0\0\0\0\0\x41\x11\x11\x11\x11\x11\x11\x11\x01");
    assert_eq!(encrypt([9; 16], *data.expose()), *token_key.expose());
    let data = limited_use_key_data(KeyClass::Verified, index);
    assert_eq!(data, [2, 6, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(encrypt(*token_key.expose(), data), *limited.expose());
    let data = session_key_data(0x1234);
    assert_eq!(encrypt(*limited.expose(), data), *limited.session_key(0x1234).expose());
}

#[test]
fn key_stages_depend_on_everything_that_names_them() {
    let token_key = TokenKey::new([7; 16]);
    let index: KeyIndex = "6000100".parse().unwrap();
    let key = |class, index| *token_key.limited_use_key(class, index).session_key(1).expose();
    let first = key(KeyClass::Unverified, index);
    assert_ne!(first, key(KeyClass::Verified, index));
    assert_ne!(first, key(KeyClass::Unverified, "6000101".parse().unwrap()));
    let limited_use_key = token_key.limited_use_key(KeyClass::Unverified, index);
    assert_ne!(limited_use_key.session_key(1).expose(), limited_use_key.session_key(2).expose());

    let token: TokenPan = "4111111111111111".parse().unwrap();
    let master = IssuerMasterKey::new([9; 16]);
    let sequence = PanSequenceNumber::new(1).unwrap();
    let digits = CardDigits::new(token.expose(), sequence).unwrap();
    assert_eq!(master.token_key(&token, sequence).expose(), master.card_key(&digits).expose());
    let other = master.token_key(&token, PanSequenceNumber::ZERO);
    assert_ne!(other.expose(), master.card_key(&digits).expose());
    for text in ["", "1234567", "12345678901234567890", "12345678A"] {
        assert!(CardDigits::new(text, sequence).is_err(), "{text}");
    }
}

#[test]
fn derived_triple_des_keys_have_odd_parity() {
    let digits = CardDigits::new("4111111111111111", PanSequenceNumber::ZERO).unwrap();
    let card_key = triple_des::IssuerMasterKey::new([0x5A; 16]).card_master_key(&digits);
    let session_key = card_key.session_key(1);
    for byte in card_key.expose().iter().chain(session_key.expose()) {
        assert_eq!(byte.count_ones() % 2, 1);
    }
    let mut other_parity = *card_key.expose();
    other_parity[15] ^= 0x01;
    assert!(card_key.has_key_bits_of(&other_parity));
    other_parity[15] ^= 0x80;
    assert!(!card_key.has_key_bits_of(&other_parity));
}

pub(crate) fn any_index() -> impl Strategy<Value = KeyIndex> {
    (0_u8..10, 1_u16..=8784, 0_u8..100)
        .prop_map(|(year, hour, counter)| format!("{year}{hour:04}{counter:02}").parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_key_index_is_read_back(index in any_index()) {
        prop_assert_eq!(KeyIndex::from_bytes(index.to_bytes()), Ok(index));
        prop_assert_eq!(index.to_string().parse(), Ok(index));
        prop_assert_eq!(index.to_bytes()[0] >> 4, 0);
    }

    #[test]
    fn any_bytes_as_a_key_index_are_answered(bytes in any::<[u8; 4]>()) {
        if let Ok(index) = KeyIndex::from_bytes(bytes) {
            prop_assert_eq!(index.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_time_has_a_key_index(millis in any::<i64>(), counter in 0_u8..100) {
        prop_assert!(KeyIndex::at(Timestamp::from_unix_millis(millis), counter).is_ok());
    }
}
