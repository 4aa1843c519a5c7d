//! Any bytes in any order: always an answer, never a panic, never a counter or a key given away.

use proptest::prelude::*;
use tapfer_emv::curve::PrivateKey;
use tapfer_wallet::{Effect, Wallet};

use crate::issuer::{AID, Issuer, now};
use crate::kernel::{Purchase, cdol1_values, command, options_data, select};
use crate::phone::{DARK, IN_HAND, Phone, UNLOCKED};
use crate::random::TestRng;

#[derive(Debug, Clone)]
enum Step {
    Directory,
    Select,
    Options {
        minor: u32,
    },
    Record {
        number: u8,
        second: u8,
    },
    GenerateAc {
        minor: u32,
        ask: u8,
    },
    Command {
        class: u8,
        instruction: u8,
        p1: u8,
        p2: u8,
        data: Vec<u8>,
    },
    /// The step before, with one byte changed.
    Altered {
        position: usize,
        change: u8,
    },
    Bytes(Vec<u8>),
    Deselect,
    PowerCycle,
    State(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let amounts = prop_oneof![Just(100_u32), Just(2_501), any::<u32>()];
    let asks = prop_oneof![Just(0x80_u8), Just(0x40), Just(0x00), any::<u8>()];
    let instructions =
        prop::sample::select(vec![0xA4_u8, 0xA8, 0xB2, 0xAE, 0xEA, 0x32, 0x34, 0x52, 0xCA]);
    let data = prop::collection::vec(any::<u8>(), 0..120);
    prop_oneof![
        1 => Just(Step::Directory),
        6 => Just(Step::Select),
        6 => amounts.clone().prop_map(|minor| Step::Options { minor }),
        4 => (1_u8..5, Just(0x14)).prop_map(|(number, second)| Step::Record { number, second }),
        6 => (amounts, asks).prop_map(|(minor, ask)| Step::GenerateAc { minor, ask }),
        2 => (prop::sample::select(vec![0x00_u8, 0x80, 0x84, 0xFF]), instructions,
              any::<u8>(), any::<u8>(), data.clone())
            .prop_map(|(class, instruction, p1, p2, data)| {
                Step::Command { class, instruction, p1, p2, data }
            }),
        3 => (any::<usize>(), 1_u8..).prop_map(|(position, change)| {
            Step::Altered { position, change }
        }),
        1 => data.prop_map(Step::Bytes),
        1 => Just(Step::Deselect),
        1 => Just(Step::PowerCycle),
        1 => (0_u8..3).prop_map(Step::State),
    ]
}

/// The bytes of a step; `None` if it is something that happens to the phone.
fn bytes(step: &Step, before: &[u8]) -> Option<Vec<u8>> {
    let number = [1, 2, 3, 4];
    let key = PrivateKey::from_bytes(&[0x77; 32]).unwrap().public_point();
    Some(match step {
        Step::Directory => select(b"2PAY.SYS.DDF01"),
        Step::Select => select(&AID),
        Step::Options { minor } => {
            let data = options_data(&key, &Purchase::euros(*minor), number);
            command(0x80, 0xA8, 0, 0, &data)
        }
        Step::Record { number, second } => command(0x00, 0xB2, *number, *second, &[]),
        Step::GenerateAc { minor, ask } => {
            command(0x80, 0xAE, *ask, 0, &cdol1_values(&Purchase::euros(*minor), number))
        }
        Step::Command { class, instruction, p1, p2, data } => {
            command(*class, *instruction, *p1, *p2, data)
        }
        Step::Altered { position, change } => {
            let mut altered = before.to_vec();
            let position = position.checked_rem(altered.len())?;
            altered[position] ^= change;
            altered
        }
        Step::Bytes(bytes) => bytes.clone(),
        Step::Deselect | Step::PowerCycle | Step::State(_) => return None,
    })
}

/// Key material of the wallet: what stands as hexadecimal digits under these names in its content.
fn secrets(wallet: &Wallet) -> Vec<Vec<u8>> {
    fn collect(value: &serde_json::Value, found: &mut Vec<Vec<u8>>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let is_secret = ["key", "icc_key", "device_key"].contains(&name.as_str());
                    if let Some(digits) = value.as_str().filter(|_| is_secret) {
                        found.push(data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap());
                    }
                    collect(value, found);
                }
            }
            serde_json::Value::Array(values) => values.iter().for_each(|v| collect(v, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::to_value(wallet).unwrap(), &mut found);
    assert!(found.len() >= 2, "the wallet has a device key and an ICC key at least");
    found
}

/// Content of the wallet but its generation: what a reply may depend on.
fn content(wallet: &Wallet) -> serde_json::Value {
    let mut value = serde_json::to_value(wallet).unwrap();
    value["generation"] = 0.into();
    value
}

fn transaction_counter(reply: &[u8]) -> Option<u16> {
    let position = reply.windows(3).position(|window| window == [0x9F, 0x36, 0x02])?;
    Some(u16::from_be_bytes([reply[position + 3], reply[position + 4]]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_card_keeps_its_promises(steps in prop::collection::vec(step(), 1..40)) {
        let issuer = Issuer::new();
        let mut phone = Phone::enrolled(&issuer);
        let secrets = secrets(phone.card.wallet());
        let (mut before, mut last_counter) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Deselect => phone.card.deselect(),
                Step::PowerCycle => phone.restart(),
                Step::State(number) => {
                    phone.device = [IN_HAND, UNLOCKED, DARK][usize::from(number)];
                }
                _ => {}
            }
            let Some(bytes) = bytes(&step, &before) else { continue };
            let (stored, counter) = (content(&phone.stored()), phone.counter());
            let reply = phone.transmit(&bytes).expect("always an answer");
            prop_assert!(reply.len() >= 2);

            // What the disk holds is what the card relies on, and it was there before the reply:
            // the phone checks the order of the effects.
            prop_assert_eq!(content(&phone.stored()), content(phone.card.wallet()));
            let raised = phone.counter() - counter;
            prop_assert!(raised <= 1);
            let is_ok = reply.ends_with(&[0x90, 0x00]);
            prop_assert!(is_ok || content(&phone.stored()) == stored, "a refusal costs nothing");
            if let Some(sent) = transaction_counter(&reply) {
                prop_assert!(sent > last_counter, "{} after {}", sent, last_counter);
                prop_assert_eq!(sent, phone.counter());
                last_counter = sent;
            }
            for secret in &secrets {
                prop_assert!(!reply.windows(secret.len()).any(|window| window == secret));
            }
            before = bytes;
        }
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut phone = Phone::with(Wallet::new(&mut TestRng(1)));
        let effects = phone.card.handle(&bytes, now(), &mut phone.rng, &phone.device);
        let replies = effects.iter().filter(|effect| matches!(effect, Effect::Reply(_))).count();
        prop_assert_eq!(replies, 1);
    }
}
