//! The secure channel and its MACs.

use proptest::prelude::*;
use tapfer_emv::channel::{ChannelError, SecureChannel};
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::mac;

use super::seeded_random::{SeededRandom, three_keys};

#[test]
fn a_blinding_factor_that_blinds_nothing_is_refused() {
    let (_, kernel, card) = three_keys(1);
    let kernel_point = PublicPoint::from_bytes(&kernel.public_point()).unwrap();
    let mut one = [0; 32];
    one[31] = 1;
    let order_less_one = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550";
    let order_less_one = data_encoding::HEXLOWER.decode(order_less_one.as_bytes()).unwrap();
    for factor in [[0; 32], one, order_less_one.try_into().unwrap(), [0xFF; 32]] {
        let opened = SecureChannel::card_with_blinding_factor(&card, &kernel_point, &factor);
        assert_eq!(opened.err(), Some(ChannelError::BlindingFactor));
    }
}

#[test]
fn a_used_up_counter_ends_the_session() {
    let mut channel = SecureChannel::from_session_keys([1; 16], [2; 16], 0xFFFE, 0xFFFE);
    channel.encrypt_record(b"the last one").unwrap();
    assert_eq!(channel.encrypt_record(b"over"), Err(ChannelError::CounterExhausted));
    assert_eq!(channel.decrypt_record(b"over"), Err(ChannelError::CounterExhausted));
    assert_eq!(channel.seal_read_data(b"over"), Err(ChannelError::CounterExhausted));
    let exhausted = channel.open_read_data(b"not over before the MAC");
    assert_eq!(exhausted, Err(ChannelError::CounterExhausted));
    assert_eq!(channel.open_read_data(b"short"), Err(ChannelError::TooShort));
    assert_eq!(channel.encrypt_write_data(b"over"), Err(ChannelError::CounterExhausted));
}

#[test]
fn a_mac_over_parts_is_the_mac_over_the_whole() {
    // NIST SP 800-38B, AES-128 example 3.
    let key = [
        0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f,
        0x3c,
    ];
    let message =
        data_encoding::HEXLOWER.decode(b"6bc1bee22e409f96e93d7e117393172aae2d8a57").unwrap();
    let expected = data_encoding::HEXLOWER.decode(b"7d85449ea6ea19c823a7bf78837dfade").unwrap();
    let (left, right) = message.split_at(5);
    assert_eq!(mac::aes_cmac(&key, &[left, b"", right]).as_slice(), expected);
    assert_eq!(mac::aes_cmac_8(&key, &[&message]).as_slice(), &expected[..8]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_ends_of_a_channel_agree(seed in any::<u64>(), records in prop::collection::vec(any::<Vec<u8>>(), 0..5)) {
        let (_, kernel_key, card_key) = three_keys(seed);
        let kernel_point = PublicPoint::from_bytes(&kernel_key.public_point()).unwrap();
        let rng = &mut SeededRandom::new(!seed);
        let (mut card, sent) = SecureChannel::card(&card_key, &kernel_point, rng).unwrap();
        let (mut kernel, factor) = SecureChannel::kernel(&kernel_key, &sent).unwrap();
        prop_assert_eq!(factor.check(&card_key.public_x()), Ok(()));
        prop_assert_eq!(factor.check(&kernel_key.public_x()), Err(ChannelError::BlindingFactor));
        for record in records {
            let encrypted = card.encrypt_record(&record).unwrap();
            prop_assert_eq!(kernel.decrypt_record(&encrypted).unwrap(), record.clone());
            let answer = card.seal_read_data(&record).unwrap();
            prop_assert_eq!(kernel.open_read_data(&answer).unwrap(), record.clone());
            let (command, expected) = kernel.encrypt_write_data(&record).unwrap();
            let (received, answer) = card.decrypt_write_data(&command).unwrap();
            prop_assert_eq!(received, record);
            prop_assert_eq!(kernel.check_write_data_answer(&expected, &answer), Ok(()));
        }
        prop_assert_eq!(card.eda_mac(&[1; 8], &[2; 8]), kernel.eda_mac(&[1; 8], &[2; 8]));
    }

    #[test]
    fn changed_card_key_data_never_passes(seed in any::<u64>(), position in 0_usize..64, change in 1_u8..) {
        let (_, kernel_key, card_key) = three_keys(seed);
        let kernel_point = PublicPoint::from_bytes(&kernel_key.public_point()).unwrap();
        let rng = &mut SeededRandom::new(!seed);
        let (_, mut sent) = SecureChannel::card(&card_key, &kernel_point, rng).unwrap();
        sent[position] ^= change;
        match SecureChannel::kernel(&kernel_key, &sent) {
            Ok((_, factor)) => prop_assert!(factor.check(&card_key.public_x()).is_err()),
            Err(error) => prop_assert_eq!(error, ChannelError::BlindedKey),
        }
    }

    /// What a stranger puts in does not move the counters apart.
    #[test]
    fn forged_read_data_is_no_message(plain in any::<Vec<u8>>(), forged in prop::collection::vec(any::<u8>(), 8..40)) {
        let channel = || SecureChannel::from_session_keys([1; 16], [2; 16], 0x8001, 0);
        let (mut card, mut kernel) = (channel(), channel());
        let answer = card.seal_read_data(&plain).unwrap();
        prop_assume!(forged != answer);
        prop_assert_eq!(kernel.open_read_data(&forged), Err(ChannelError::Mac));
        prop_assert_eq!(kernel.open_read_data(&answer).unwrap(), plain);
    }

    #[test]
    fn changed_read_data_is_refused(plain in any::<Vec<u8>>(), position in any::<prop::sample::Index>(), change in 1_u8..) {
        let channel = || SecureChannel::from_session_keys([1; 16], [2; 16], 0x8003, 0);
        let mut answer = channel().seal_read_data(&plain).unwrap();
        let length = answer.len();
        answer[position.index(length)] ^= change;
        prop_assert_eq!(channel().open_read_data(&answer), Err(ChannelError::Mac));
    }

    #[test]
    fn messages_never_reuse_a_key_stream(message in prop::collection::vec(any::<u8>(), 16..64)) {
        let mut channel = SecureChannel::from_session_keys([1; 16], [2; 16], 0x8000, 0);
        let first = channel.encrypt_record(&message).unwrap();
        prop_assert_ne!(channel.encrypt_record(&message).unwrap(), first);
    }
}
