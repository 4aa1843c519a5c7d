//! Conditions that no file has together: a card made of the facts of one transaction meets a terminal
//! with settings of others, and what comes of it is what the rules, written down a second time, say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

mod independent;
mod scripted;

use std::collections::{BTreeMap, BTreeSet};

use independent::oracle::{Expected, TerminalSide, expect};
use independent::seeded::Seeded;
use independent::{Behaviour, Card, Fault, meet, untouched};
use scripted::Script;
use tapfer_emv::tags;
use tapfer_emv::tlv;
use tapfer_terminal::kernel8::Outcome;

const FAULTS: [Fault; 57] = [
    Fault::NoQualifier,
    Fault::VersionZero,
    Fault::FciTemplate,
    Fault::NoSuite,
    Fault::OptionsStatus,
    Fault::OptionsTemplate,
    Fault::OptionsWithTerminalTag,
    Fault::NoAip,
    Fault::NoAfl,
    Fault::NoKeyData,
    Fault::NoCdol1,
    Fault::ShortKeyData,
    Fault::LongKeyData,
    Fault::KeyDataOffCurve,
    Fault::BadAfl,
    Fault::RelayStatus,
    Fault::RelayShort,
    Fault::RecordStatus,
    Fault::RecordTemplate,
    Fault::RecordWithTerminalTag,
    Fault::SecondPan,
    Fault::NoPan,
    Fault::ReadMac,
    Fault::ReadStatus,
    Fault::ReadOtherTag,
    Fault::GenerateStatus,
    Fault::GenerateTemplate,
    Fault::NoCid,
    Fault::NoAtc,
    Fault::NoAc,
    Fault::NoIad,
    Fault::NoCvd,
    Fault::NoEdaMac,
    Fault::NoCaIndex,
    Fault::UnknownCaIndex,
    Fault::NoIssuerCertificate,
    Fault::IssuerFormat,
    Fault::IssuerSuite,
    Fault::IssuerIdentifier,
    Fault::IssuerExpired,
    Fault::IssuerRid,
    Fault::IssuerCaIndex,
    Fault::IssuerKey,
    Fault::IssuerSignature,
    Fault::IssuerLength,
    Fault::NoIccCertificate,
    Fault::IccFormat,
    Fault::IccSuite,
    Fault::IccExpired,
    Fault::IccHashFormat,
    Fault::IccHash,
    Fault::IccKey,
    Fault::IccSignature,
    Fault::IccLength,
    Fault::BlindingFactor,
    Fault::RecordBit,
    Fault::IadBit,
];
/// What is found out last is drawn from here, so that enough transactions come that far.
const LATE_FAULTS: [Fault; 6] = [
    Fault::Cryptogram,
    Fault::EdaMac,
    Fault::WriteMac,
    Fault::WriteStatus,
    Fault::IccHash,
    Fault::BlindingFactor,
];

/// Transactions of the file whose card is known in full.
fn scripts() -> Vec<Script> {
    let is_broken =
        |name: &str| ["bad_", "missing_", "wrong_"].iter().any(|prefix| name.starts_with(prefix));
    let mut scripts = Script::all();
    scripts.retain(|script| {
        !is_broken(script.name())
            && script.fact::<32>("card_private").is_some()
            && script.fact::<16>("skc").is_some()
            && script.fact::<8>("application_cryptogram").is_some()
    });
    assert!(scripts.len() > 40, "{}", scripts.len());
    scripts
}

/// Every value that a data object has in the file's configurations, and some that it has in none.
fn settings(scripts: &[Script]) -> BTreeMap<u32, Vec<Vec<u8>>> {
    let mut pool: BTreeMap<u32, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut add = |tag: u32, value: &[u8]| {
        pool.entry(tag).or_default().insert(value.to_vec());
    };
    for script in scripts {
        script.objects("config").iter().for_each(|(tag, value)| add(tag.number(), value));
    }
    let more: [(u32, &[u8]); 28] = [
        (0x9F_8207, &[0x20]),
        (0x9F_8207, &[0x68]),
        (0x9F_8208, &[0x64]),
        (0x9F_8209, &[0x10, 0x00]),
        (0x9F_820D, &[0, 0, 0, 1, 0, 0]),
        (0x9F_820E, &[0, 0, 0, 0, 0x10, 0]),
        (0x9F_820B, &[0x84, 0, 0, 0, 0]),
        (0x9F_820B, &[0, 0, 0, 0, 0x4C]),
        (0x9F_820C, &[0, 0, 0, 0, 0x08]),
        (0x9F_820C, &[0xFF; 5]),
        (0x9F_8211, &[0, 0, 0x20]),
        (0x9F_8212, &[0x05]),
        (0x9F_8213, &[0, 0]),
        (0x9F_8214, &[0, 0]),
        (0x9F_8215, &[0, 0]),
        (0x9F_8216, &[0, 0]),
        (0x9F_8216, &[0, 0x30]),
        (0x9F_8217, &[0, 50]),
        (0x9F_8218, &[99]),
        (0x9F_821A, &[0xFF; 5]),
        (0x9F_821A, &[0x84, 0, 0, 0, 0x8F]),
        (0x9F_821D, &[]),
        (0x9F_821D, &[0x18, 0x21, 0x20]),
        (0x9F_821E, &[25]),
        (0x9F_8220, &[]),
        (0x9F35, &[0x14]),
        (0x9F35, &[0x26]),
        (0x9C, &[0x20]),
    ];
    more.iter().for_each(|(tag, value)| add(*tag, value));
    pool.into_iter().map(|(tag, values)| (tag, values.into_iter().collect())).collect()
}

fn terminal(
    script: &Script,
    pool: &BTreeMap<u32, Vec<Vec<u8>>>,
    draw: &mut Seeded,
) -> TerminalSide {
    let TerminalSide { mut config, mut session, .. } = TerminalSide::of(script);
    for (tag, values) in pool {
        let into = if draw.one_in(6) { &mut session } else { &mut config };
        if draw.one_in(3) {
            into.insert(*tag, draw.pick(values).clone());
        }
    }
    let amounts: [&[u8]; 5] = [
        &[0, 0, 0, 0, 0x10, 0],
        &[0, 0, 0, 0, 0x50, 0],
        &[0, 0, 0, 0, 0x50, 1],
        &[0, 0, 0, 1, 0, 1],
        &[0, 0, 0, 0, 0, 0],
    ];
    session.insert(0x9F02, draw.pick(&amounts).to_vec());
    if draw.one_in(40) {
        session.insert(0x9F02, vec![0, 0, 0, 0, 0x0A, 0]);
    }
    if draw.one_in(40) {
        session.remove(draw.pick(&[0x9F02, 0x9A]));
    }
    if let Some(kind) = draw.now_and_then(5, &[0x00, 0x01, 0x09, 0x17, 0x20, 0x30]) {
        session.insert(0x9C, vec![*kind]);
    }
    if let Some(envelopes) = draw.now_and_then(4, &[1_u8, 2, 10]) {
        let wanted = (1..=*envelopes).flat_map(|number| [0x9F, 0x81, 0x10 + number]);
        session.insert(0x9F_8203, wanted.collect());
    }
    if draw.one_in(4) {
        let envelope = |tag, value| tlv::encode(tag, value);
        let mut all = envelope(tags::DATA_ENVELOPE_3, b"stamp");
        if draw.one_in(2) {
            all.extend(envelope(tags::DATA_ENVELOPE_4, &[0x55; 243]));
        }
        session.insert(0xBF_8104, all);
    }
    let times = [0, 30, 50, 100, 142, 143, 192, 193, 343, 600, 2500, 70_000];
    TerminalSide { config, session, elapsed: *draw.pick(&times) }
}

fn behaviour(draw: &mut Seeded) -> Behaviour {
    let genuine = Behaviour::genuine();
    let aips = [[1, 0], [1, 2], [1, 4], [1, 5], [1, 7], [1, 0x0C], [1, 0x0D], [0, 4], [0, 0x0B]];
    let tvrs = [[0, 0, 0, 0, 0x40], [4, 0, 0, 0, 0], [0, 0, 0x80, 0, 0], [0xFF; 5], [0; 5]];
    let restarts: [&[u8]; 9] = [
        &[0x20, 0x00],
        &[0x20, 0x20],
        &[0x20, 0x21, 0, 0, 0],
        &[0x31, 0x00],
        &[0x32, 0x18],
        &[0x3F, 0x20],
        &[0x34, 0x99],
        &[0x00, 0x20],
        &[0x10, 0x18],
    ];
    let relays = [[0, 100, 24], [0x200, 0x400, 24], [0, 100, 0x60], [10, 20, 0], [70, 80, 11]];
    let envelopes = [tags::DATA_ENVELOPE_1, tags::DATA_ENVELOPE_2]
        .map(|tag| (tag, vec![0x42; draw.below(200)]));
    let mut faults = BTreeSet::new();
    faults.extend(draw.now_and_then(2, &FAULTS));
    faults.extend(draw.now_and_then(8, &FAULTS));
    faults.extend(draw.now_and_then(6, &LATE_FAULTS));
    Behaviour {
        aip: *draw.pick(&aips),
        name: match draw.below(12) {
            0 => vec![0xF0, 0, 0, 0, 1, 1, 7],
            1 => vec![0xF0, 0, 0, 0, 1, 2],
            2 => vec![0xF0, 0, 0, 0, 2, 1],
            _ => genuine.name.clone(),
        },
        field_off_detection: draw.one_in(4),
        language: if draw.one_in(3) { b"deen".to_vec() } else { Vec::new() },
        relay: *draw.pick(&relays),
        cvd: *draw.pick(&[0x00, 0x01, 0x02, 0x03, 0x03, 0x0F, 0xFF, 0x77]),
        cid: draw.now_and_then(3, &[0x00, 0x40, 0x80, 0x3F, 0xC0]).copied(),
        card_tvr: draw.now_and_then(4, &tvrs).copied(),
        restart: draw.now_and_then(3, &restarts).map(|restart| restart.to_vec()),
        iad_length: *draw.pick(&[32, 32, 32, 32, 18, 17, 1, 0]),
        iad_mac_offset: *draw.pick(&[Some(10), Some(10), Some(24), Some(25), None]),
        extended_sda: draw.one_in(3),
        envelopes: BTreeMap::from(envelopes),
        faults,
    }
}

fn observed(card: &Card, outcome: &Outcome) -> Expected {
    let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let status = |tag| outcome.data.get(tag).map(<[u8]>::to_vec);
    let generate_ac = card.heard.iter().find(|[instruction, ..]| *instruction == 0xAE);
    Expected {
        parameters: outcome.parameters.bytes().to_vec(),
        ui: outcome.ui_request.map(|ui| ui.bytes()),
        ui_on_restart: outcome.ui_request_on_restart.map(|ui| ui.bytes()),
        error: outcome.error.bytes().to_vec(),
        tvr: outcome.tvr.map(|tvr| big_endian(&tvr.bytes())),
        cvm_results: outcome.cvm_results.map(|results| results.to_vec()),
        read_data: status(tags::READ_DATA_STATUS),
        write_data: status(tags::WRITE_DATA_STATUS),
        time_excess: status(tags::RELAY_RESISTANCE_TIME_EXCESS).map(|bytes| big_endian(&bytes)),
        asked_for: generate_ac.map(|[_, p1, p2]| [*p1, *p2]),
    }
}

#[test]
fn the_card_computes_what_the_files_cards_did() {
    for script in scripts().iter().filter(|script| !script.has_options()) {
        let mut card = Card::new(script, Behaviour { cid: Some(0x80), ..Behaviour::genuine() });
        let answers = script.responses();
        assert_eq!(card.fci(), answers[0][..answers[0].len() - 2]);
        for (command, answer) in script.commands().iter().zip(&answers).skip(1) {
            let command = tapfer_emv::apdu::CommandApdu::parse(command).unwrap();
            let computed = card.answer(&command);
            // Certificates are signed again, with other nonces and by another authority.
            if [0xA8, 0xAE].contains(&command.instruction) || command.p1 == 2 {
                assert_eq!(computed, *answer, "{}", script.name());
            }
        }
    }
}

/// `CONDITIONS_SEED` replays one case, `CONDITIONS_CASES` sets how many there are.
#[test]
fn mixed_conditions_end_as_the_rules_say() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let scripts = scripts();
    let pool = settings(&scripts);
    let seeds = match number("CONDITIONS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CONDITIONS_CASES").unwrap_or(1500),
    };
    let mut endings: BTreeMap<u8, u32> = BTreeMap::new();
    for seed in seeds.clone() {
        let draw = &mut Seeded::new(seed);
        let script = draw.pick(&scripts);
        let terminal = terminal(script, &pool, draw);
        let behaviour = behaviour(draw);
        let mut card = Card::new(script, behaviour.clone());
        let outcome = meet(script, &terminal, &mut card, untouched);
        let expected = expect(&terminal, &behaviour);
        assert_eq!(
            observed(&card, &outcome),
            expected,
            "seed {seed}: {behaviour:02X?} {terminal:02X?}"
        );
        check_record(&terminal, &behaviour, &card, &outcome);
        *endings.entry(expected.parameters[0]).or_default() += 1;
    }
    if seeds.end - seeds.start > 1000 {
        for status in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60] {
            assert!(endings.contains_key(&status), "{status:02X} never came up: {endings:?}");
        }
    }
}

/// What goes to the issuer is what the card signed, and envelopes are where they belong.
fn check_record(terminal: &TerminalSide, behaviour: &Behaviour, card: &Card, outcome: &Outcome) {
    let Some(record) = &outcome.data_record else {
        return;
    };
    let default_offset = behaviour.aip[1] & 0x06 == 0x02 && terminal.get(0x9F_821E) != [10];
    if !default_offset {
        assert_eq!(record.get(tags::ISSUER_APPLICATION_DATA), Some(&card.iad_with_mac[..]));
    }
    if outcome.has_written_data() {
        assert_eq!(card.written.get(&tags::DATA_ENVELOPE_3).unwrap(), b"stamp");
    }
    for (tag, value) in &behaviour.envelopes {
        let sent = tlv::find(outcome.data_to_send(), *tag).unwrap();
        if outcome.has_read_data() && sent.is_some() {
            assert_eq!(sent, Some(&value[..]));
        }
    }
}
