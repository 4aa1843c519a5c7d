//! The card against whole transactions of an independent card: given that card's keys, records and
//! blinding factor, ours gives the same answers byte for byte, up to the cryptogram, whose issuer
//! application data is our own.

#![allow(clippy::arithmetic_side_effects)]

use std::convert::Infallible;

use data_encoding::HEXLOWER;
use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;
use tapfer_emv::channel::{IadMacInput, SecureChannel};
use tapfer_emv::cryptogram::application_cryptogram;
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::iad::IssuerApplicationData;
use tapfer_emv::keys::LimitedUseKey;
use tapfer_emv::profile::{CardProfile, Record};
use tapfer_emv::{tags, tlv};
use tapfer_payment_types::messages::{HexBytes, HexSecret, LimitedUseKeyGrant, MerchantTrust};
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payment_types::{Currency, Timestamp, TokenId};

use crate::keys::{LimitedUseKeys, SessionKeys};
use crate::pin::TokenPin;
use crate::token::Token;
use crate::{Card, DeviceState, Effect, Effects, Wallet};

const TRANSACTIONS: &str = include_str!("../../../vectors/tests/data/kernel8-transactions.json");
/// What the vectors' card may be told to do without another answer before the cryptogram.
const HARMLESS_OPTIONS: [&str; 5] = ["cvd", "aip", "cid", "card_tvr", "restart"];

/// Gives out bytes that were written down elsewhere, once.
struct Recorded(Vec<u8>);

impl TryRng for Recorded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("the card draws bytes only")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("the card draws bytes only")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        assert!(self.0.len() >= out.len(), "the card draws more than the other one did");
        out.copy_from_slice(&self.0.drain(..out.len()).collect::<Vec<_>>());
        Ok(())
    }
}

impl TryCryptoRng for Recorded {}

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn fact<const N: usize>(transaction: &Value, name: &str) -> [u8; N] {
    hex(&transaction["card_facts"][name]).try_into().unwrap()
}

fn commands(transaction: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    let exchange = transaction["exchange"].as_array().unwrap();
    exchange.iter().map(|pair| (hex(&pair[0]), hex(&pair[1]))).collect()
}

/// Whether our card can be that card: no faults, a cryptogram at the end.
fn is_playable(transaction: &Value) -> bool {
    let options = transaction["card_options"].as_object().unwrap();
    let commands = commands(transaction);
    options.keys().all(|option| HARMLESS_OPTIONS.contains(&option.as_str()))
        && commands.last().is_some_and(|(command, _)| command[..2] == [0x80, 0xAE])
}

/// Content of the vectors' records, decrypted with the session key they tell.
fn records(transaction: &Value) -> Vec<Record> {
    let (skc, ski) = (fact(transaction, "skc"), fact(transaction, "ski"));
    let mut channel = SecureChannel::from_session_keys(skc, ski, 0x8001, 0);
    let commands = commands(transaction);
    let reads = commands.iter().filter(|(command, _)| command[..2] == [0x00, 0xB2]);
    let read = reads.map(|(command, answer)| {
        let template = tlv::parse_one(&answer[..answer.len() - 2]).unwrap();
        let encrypted = template.tag == tags::ENCRYPTED_RECORD;
        let value = if encrypted {
            channel.decrypt_record(template.value).unwrap()
        } else {
            template.value.to_vec()
        };
        let (short_file_identifier, number) = (command[3] >> 3, command[2]);
        let signed = number == 2;
        Record { short_file_identifier, number, value, encrypted, signed }
    });
    read.collect()
}

fn keys(transaction: &Value, now: Timestamp) -> LimitedUseKeys {
    let grant = LimitedUseKeyGrant {
        key_index: "6780001".into(),
        key: HexSecret::new(hex(&transaction["card_facts"]["card_master_key"])),
        expires_at: now.plus_seconds(60),
        maximum_payments: 1,
        maximum_total_minor: 1_000_000,
    };
    let mut keys = LimitedUseKeys::default();
    let change = keys.replaced(&[grant], 1, now).unwrap();
    keys.apply(change);
    keys
}

fn card(transaction: &Value, now: Timestamp) -> Card {
    let mut records = records(transaction);
    let certificate = records.pop().unwrap().value;
    let certificate = tlv::find(&certificate, tags::ICC_CERTIFICATE).unwrap().unwrap().to_vec();
    let options = &commands(transaction)[1].1;
    let aip = tlv::find_path(
        &options[..options.len() - 2],
        &[tags::RESPONSE_TEMPLATE_FORMAT_2, tags::APPLICATION_INTERCHANGE_PROFILE],
    );
    let facts = &transaction["card_facts"];
    let id = TokenId::new(now, [0; 10]);
    let mut wallet = Wallet::new(&mut Recorded(vec![0x42; 32]));
    wallet.tokens.push(Token {
        id,
        profile: CardProfile {
            aid: hex(&facts["aid"]),
            label: b"TEST".to_vec(),
            aip: aip.unwrap().unwrap().try_into().unwrap(),
            pdol: hex(&facts["pdol"]),
            cdol1: hex(&facts["cdol1"]),
            records,
        },
        icc_key: PrivateKey::from_bytes(&fact(transaction, "card_private")).unwrap(),
        icc_certificate: HexBytes(certificate),
        icc_certificate_expires_at: now.plus_seconds(60),
        application_transaction_counter: 0,
        policy: VerificationPolicy::by_limit(1, Currency::EUR, 1_000),
        chosen_level: None,
        history: crate::policy::History::new(now),
        merchant_trust: MerchantTrust::default(),
        configured_by: None,
        configuration_expires_at: None,
        data_envelopes: crate::data_storage::DataEnvelopes::default(),
        keys: keys(transaction, now),
        single_use: SessionKeys::default(),
        verified: SessionKeys::default(),
        pin: TokenPin::default(),
        latest: None,
    });
    Card::new(wallet)
}

fn reply(effects: Effects) -> Vec<u8> {
    let mut replies = effects.into_iter().filter_map(|effect| match effect {
        Effect::Reply(response) => Some(response.encode()),
        Effect::Persist(_) | Effect::Notify(_) => None,
    });
    replies.next().unwrap()
}

fn is_relay_check(command: &[u8]) -> bool {
    command[..2] == [0x80, 0xEA]
}

/// What the other card drew: its blinding factor, and entropy for every relay check.
fn drawn(transaction: &Value) -> Recorded {
    let mut drawn = fact::<32>(transaction, "blinding_factor").to_vec();
    let commands = commands(transaction);
    let relay = commands.iter().filter(|(command, _)| is_relay_check(command));
    relay.for_each(|(_, answer)| drawn.extend_from_slice(&answer[2..6]));
    Recorded(drawn)
}

/// The answer as ours: the other card gives itself 10 ms for the relay check, a phone needs more.
fn with_our_time(command: &[u8], answer: Vec<u8>) -> Vec<u8> {
    let mut answer = answer;
    if is_relay_check(command) {
        assert_eq!(answer[8..10], [0x00, 0x64]);
        answer[8..10].copy_from_slice(&[0x01, 0x2C]);
    }
    answer
}

/// Entropy of the terminal and our last answer.
fn relay_exchange(commands: &[(Vec<u8>, Vec<u8>)]) -> Option<([u8; 4], [u8; 10])> {
    let (command, answer) = commands.iter().rfind(|(command, _)| is_relay_check(command))?;
    let answer = with_our_time(command, answer.clone());
    Some((command[5..9].try_into().unwrap(), answer[2..12].try_into().unwrap()))
}

/// Recomputes MACs and cryptogram of our GENERATE AC answer from the vectors' session keys.
fn check_cryptogram(transaction: &Value, answer: &[u8], name: &str) {
    let template = tlv::parse_one(&answer[..answer.len() - 2]).unwrap();
    let find = |tag| tlv::find(template.value, tag).unwrap().unwrap();
    let is_covered = |tag| tag != tags::APPLICATION_CRYPTOGRAM && tag != tags::EDA_MAC;
    let objects = tlv::parse(template.value).unwrap();
    let covered: Vec<u8> =
        objects.iter().filter(|tlv| is_covered(tlv.tag)).flat_map(|tlv| tlv.raw.to_vec()).collect();
    let commands = commands(transaction);
    let relay = relay_exchange(&commands);
    let (options, cryptogram) = (&commands[1].0, &commands.last().unwrap().0);
    let cdol1_values = &cryptogram[5..cryptogram.len() - 1];
    let channel = SecureChannel::from_session_keys(
        fact(transaction, "skc"),
        fact(transaction, "ski"),
        0x8001,
        0,
    );
    let iad_mac = channel.iad_mac(&IadMacInput {
        pdol_values: &options[7..options.len() - 1],
        cdol1_values,
        relay_resistance: relay.as_ref().map(|(entropy, answer)| (entropy, answer)),
        generate_ac_tlvs: &covered,
        sda_hash: &fact(transaction, "sda_hash"),
    });
    let mut data = IssuerApplicationData::parse(find(tags::ISSUER_APPLICATION_DATA)).unwrap();
    assert_eq!(data.iad_mac, [0; 8], "{name}: travels without its MAC");
    assert_eq!(data.results.relay_checked, relay.is_some(), "{name}");
    data.iad_mac = iad_mac;
    let key = LimitedUseKey::new(fact(transaction, "card_master_key")).session_key(1);
    let options = &commands[1].1;
    let aip = &options[options.windows(2).position(|w| w == [0x82, 0x02]).unwrap() + 2..][..2];
    let input = [&cdol1_values[..29], aip, &[0x00, 0x01], &data.encode()].concat();
    let expected: [u8; 8] = application_cryptogram(&key, &input);
    assert_eq!(find(tags::APPLICATION_CRYPTOGRAM), expected, "{name}: cryptogram");
    assert_eq!(find(tags::EDA_MAC), channel.eda_mac(&expected, &iad_mac), "{name}: EDA-MAC");
}

#[test]
fn answers_as_an_independent_card_does() {
    let file: Value = serde_json::from_str(TRANSACTIONS).unwrap();
    let all = file["kernel8_transactions"].as_array().unwrap();
    let mut played = 0;
    for transaction in all.iter().filter(|transaction| is_playable(transaction)) {
        let name = transaction["name"].as_str().unwrap();
        let now: Timestamp = transaction["now"].as_str().unwrap().parse().unwrap();
        let mut card = card(transaction, now);
        let mut rng = drawn(transaction);
        let device = DeviceState { screen_on: true, unlocked: true, ..DeviceState::default() };
        let mut commands = commands(transaction);
        let (generate_ac, _) = commands.pop().unwrap();
        for (command, expected) in commands {
            let answer = reply(card.handle(&command, now, &mut rng, &device));
            let expected = with_our_time(&command, expected);
            assert_eq!(HEXLOWER.encode(&answer), HEXLOWER.encode(&expected), "{name}");
        }
        let answer = reply(card.handle(&generate_ac, now, &mut rng, &device));
        check_cryptogram(transaction, &answer, name);
        played += 1;
    }
    assert_eq!(played, 49, "transactions that our card can play");
}
