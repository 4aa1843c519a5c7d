//! A hostile reader: any commands in any order, most of them almost right. The card always answers
//! once, persists before it replies, and never uses a counter twice.
#![no_main]
#![allow(dead_code, reason = "the wallet's test issuer can do more than is needed here")]

#[path = "../../crates/wallet/tests/wallet/issuer.rs"]
mod issuer;
#[path = "../../crates/wallet/tests/wallet/random.rs"]
mod random;

use std::sync::LazyLock;

use issuer::{AID, Issuer, now};
use libfuzzer_sys::fuzz_target;
use random::TestRng;
use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::profile::{CDOL1, PDOL};
use tapfer_emv::{tags, tlv};
use tapfer_wallet::{Card, DeviceState, Effect, Snapshot, Wallet};

const KERNEL_QUALIFIER: [u8; 8] = [0x02, 0x80, 0x00, 0x10, 0xFF, 0xFF, 0x00, 0x00];

/// A wallet with one enrolled token, made once.
static ENROLLED: LazyLock<Snapshot> = LazyLock::new(|| {
    let mut wallet = Wallet::new(&mut TestRng(1));
    Issuer::new().provision(&mut wallet, now());
    let enrolled = wallet.snapshot().unwrap();
    assert_honest_reader_is_served(Card::new(wallet));
    enrolled
});
static KERNEL_POINT: LazyLock<[u8; 64]> =
    LazyLock::new(|| PrivateKey::from_bytes(&[0x77; 32]).unwrap().public_point());

/// The values a reader that means well would send for a list.
fn honest_values(list: &[u8], amount: u8) -> Vec<u8> {
    let amount = [0, 0, 0, 0, amount, 0x00];
    let list = DataObjectList::parse(list).unwrap();
    list.build(|tag| match tag {
        tags::KERNEL_QUALIFIER => Some(&KERNEL_QUALIFIER),
        tags::KERNEL_KEY_DATA => Some(&*KERNEL_POINT),
        tags::AMOUNT_AUTHORIZED => Some(&amount),
        tags::TRANSACTION_CURRENCY_CODE => Some(&[0x09, 0x78]),
        tags::TRANSACTION_DATE => Some(&[0x26, 0x11, 0x21]),
        tags::UNPREDICTABLE_NUMBER => Some(&[1, 2, 3, 4]),
        _ => None,
    })
}

/// One step of the reader: an honest command, an altered one, or any bytes.
fn command(code: u8, argument: u8, rest: &mut &[u8], before: &[u8]) -> Vec<u8> {
    let honest = match code % 12 {
        0 => CommandApdu::new(0x00, 0xA4, 0x04, 0x00, b"2PAY.SYS.DDF01".to_vec()),
        1 => CommandApdu::new(0x00, 0xA4, 0x04, 0x00, AID.to_vec()),
        2 => {
            let values = honest_values(&PDOL, argument & 0x11);
            let data = tlv::encode(tags::COMMAND_TEMPLATE, &values);
            CommandApdu::new(0x80, 0xA8, 0x00, 0x00, data)
        }
        3 => CommandApdu::new(0x00, 0xB2, argument, 0x14, Vec::new()),
        4 => {
            let values = honest_values(&CDOL1, argument & 0x11);
            CommandApdu::new(0x80, 0xAE, argument & 0xC0, 0x00, values)
        }
        5 | 6 => return altered(before, argument, rest),
        7 => CommandApdu::new(0x80, 0xEA, 0x00, 0x00, vec![1, 2, 3, 4]),
        8 => {
            // From a certificate's first bytes on, whatever the fuzzer makes of it.
            let credential = [&[0xA2, 0x00], taken(rest, usize::from(argument))].concat();
            CommandApdu::new(0x80, 0x52, 0x00, 0x00, credential)
        }
        9 => CommandApdu::new(0x84, 0x32, 0x00, 0x00, vec![0x9F, 0x81, argument]),
        10 if argument & 1 == 0 => {
            let values = honest_values(&CDOL1, argument & 0x10);
            CommandApdu::new(0x80, 0xAE, 0x80, 0x80, values)
        }
        10 => {
            let data = taken(rest, usize::from(argument)).to_vec();
            CommandApdu::new(0x84, 0x34, 0x00, argument & 0x80, data)
        }
        _ => return taken(rest, usize::from(argument)).to_vec(),
    };
    honest.encode().unwrap()
}

fn taken<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (piece, behind) = rest.split_at(length.min(rest.len()));
    *rest = behind;
    piece
}

/// The command before, with one byte replaced.
fn altered(before: &[u8], position: u8, rest: &mut &[u8]) -> Vec<u8> {
    let mut altered = before.to_vec();
    if let ([value], Some(byte)) = (taken(rest, 1), altered.get_mut(usize::from(position))) {
        *byte = *value;
    }
    altered
}

fn counter(card: &Card) -> u16 {
    card.wallet().tokens().next().unwrap().application_transaction_counter()
}

/// Carries the effects out, and gives the only reply.
fn answer(card: &mut Card, command: &[u8], device: &DeviceState) -> ResponseApdu {
    let before = counter(card);
    let (mut reply, mut persisted) = (None, false);
    for effect in card.handle(command, now(), &mut TestRng(3), device) {
        match effect {
            Effect::Persist(_) => {
                assert!(reply.is_none(), "persisted behind the reply");
                persisted = true;
            }
            Effect::Reply(response) => assert!(reply.replace(response).is_none(), "two replies"),
            Effect::Notify(_) => {}
        }
    }
    let raised = counter(card) - before;
    assert!(raised <= 1 && (raised == 0 || persisted));
    reply.unwrap()
}

/// Directory, application, options, records, cryptogram: without this, every altered command could be
/// refused for a reason that was there before.
fn assert_honest_reader_is_served(mut card: Card) {
    let device = DeviceState { screen_on: true, unlocked: false, ..DeviceState::default() };
    for (code, argument) in [(0, 0), (1, 0), (2, 0x10), (3, 1), (3, 2), (3, 3), (4, 0x90)] {
        let command = command(code, argument, &mut [].as_slice(), &[]);
        let reply = answer(&mut card, &command, &device);
        assert!(reply.status.is_ok(), "{code}: {}", reply.status);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut card = Card::new(ENROLLED.restore().unwrap());
    let mut rest = bytes;
    let mut before = Vec::new();
    while let [code, argument] = taken(&mut rest, 2) {
        let screen_on = code & 0x80 == 0;
        let device =
            DeviceState { screen_on, unlocked: code & 0x40 != 0, ..DeviceState::default() };
        if *code & 0x20 != 0 {
            card.deselect();
        }
        before = command(*code, *argument, &mut rest, &before);
        let reply = answer(&mut card, &before, &device);
        assert!(reply.status.is_ok() || reply.data.is_empty(), "a refusal with data");
        if reply.status.is_ok() {
            assert_eq!(tlv::check_nesting(&reply.data), Ok(()));
        }
    }
});
