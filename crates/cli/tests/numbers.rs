//! Where the numbers of cards and tokens are behind many payments: in no file of the platform, no log and no backup. What its memory
//! still holds of requests is counted and told, not judged (docs/threat-model.md). Looked for as digits, packed, packed and shifted by half
//! a byte, and these in hexadecimal and base64.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs
)]

mod payer;
mod platform;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, BASE64URL};
use memchr::memmem::Finder;
use payer::{Client, Phone, pay};
use platform::Platform;
use serde_json::Value;
use tapfer_emv::{tags, tlv};

/// Payments before the look; `TAPFER_PAYMENTS` asks for more.
const PAYMENTS: usize = 40;
/// A phone's keys go no further: then comes the next phone, with a card of its own.
const PAYMENTS_A_PHONE: usize = 150;
const PIECE: usize = 1 << 24;

/// A number, in one of the forms in which it could lie somewhere.
struct Form {
    name: String,
    finder: Finder<'static>,
}

/// Every form of a number of sixteen digits.
fn forms(kind: &str, digits: &str) -> Vec<Form> {
    let last = &digits[12..];
    let packed = data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap();
    // Shifted, whatever stands in the halves beside it.
    let shifted = data_encoding::HEXLOWER.decode(&digits.as_bytes()[1..15]).unwrap();
    let as_hex = data_encoding::HEXLOWER.encode(digits.as_bytes()).into_bytes();
    let mut bytes = vec![
        ("digits", digits.as_bytes().to_vec()),
        ("hexadecimal digits", as_hex),
        ("packed", packed.clone()),
        ("packed and shifted", shifted),
    ];
    for data in [digits.as_bytes(), &packed] {
        for place in 0..3 {
            for base64 in [BASE64, BASE64URL] {
                // What other bytes in front and behind do not change.
                let text = base64.encode(&[&[0; 2][..place], data].concat());
                let whole = (place + data.len()) * 8 / 6;
                bytes.push(("base64", text.as_bytes()[[0, 2, 3][place]..whole].to_vec()));
            }
        }
    }
    let form = |(form, bytes): (&str, Vec<u8>)| {
        let name = format!("{kind} ...{last}, {form}");
        Form { name, finder: Finder::new(&bytes).into_owned() }
    };
    bytes.into_iter().map(form).collect()
}

/// A number in the range of the first issuer.
fn card_number(number: usize) -> String {
    let digits = format!("999900{:09}", 271_828_183 + 7_919 * number);
    let sum = |(place, digit): (usize, char)| {
        let digit = digit.to_digit(10).unwrap();
        let doubled = if place % 2 == 0 { 2 * digit } else { digit };
        doubled / 10 + doubled % 10
    };
    let check: u32 = digits.chars().enumerate().map(sum).sum();
    format!("{digits}{}", (10 - check % 10) % 10)
}

/// Which forms are in a file, or in anything else that can be read from places.
fn found_in(
    read: impl Fn(&mut [u8], u64) -> usize,
    forms: &[Form],
    into: &mut BTreeSet<String>,
) -> u64 {
    // What lies across two pieces is in one of them.
    const OVERLAP: usize = 64;
    let (mut buffer, mut place, mut bytes) = (vec![0; PIECE], 0_u64, 0_u64);
    loop {
        let length = read(&mut buffer, place);
        let here = forms.iter().filter(|form| form.finder.find(&buffer[..length]).is_some());
        into.extend(here.map(|form| form.name.clone()));
        bytes += u64::try_from(length).unwrap();
        if length < PIECE {
            return bytes;
        }
        place += u64::try_from(PIECE - OVERLAP).unwrap();
    }
}

/// All files below a directory, and in which of them something is.
fn found_in_files(directory: &Path, forms: &[Form]) -> (BTreeSet<String>, u64) {
    let (mut found, mut bytes, mut to_do) = (BTreeSet::new(), 0, vec![directory.to_owned()]);
    while let Some(path) = to_do.pop() {
        if path.is_dir() {
            to_do.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            let file = File::open(&path).unwrap();
            let mut here = BTreeSet::new();
            bytes += found_in(|buffer, place| read_from(&file, buffer, place), forms, &mut here);
            found.extend(here.into_iter().map(|name| format!("{}: {name}", path.display())));
        }
    }
    (found, bytes)
}

fn read_from(file: &File, buffer: &mut [u8], place: u64) -> usize {
    let mut length = 0;
    while let Ok(more @ 1..) =
        file.read_at(&mut buffer[length..], place + u64::try_from(length).unwrap())
    {
        length += more;
    }
    length
}

/// Everything that a core file of a process would hold.
fn found_in_memory(process: u32, forms: &[Form]) -> (BTreeSet<String>, u64) {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let (mut found, mut bytes) = (BTreeSet::new(), 0);
    for line in maps.lines().filter(|line| line.split(' ').nth(1).unwrap().starts_with('r')) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|place| u64::from_str_radix(place, 16).unwrap());
        let read = |buffer: &mut [u8], place: u64| {
            let rest = usize::try_from((to - from).saturating_sub(place)).unwrap();
            let length = buffer.len().min(rest);
            read_from(&memory, &mut buffer[..length], from + place)
        };
        bytes += found_in(read, forms, &mut found);
    }
    (found, bytes)
}

/// A card with a number of ours on a phone of its own.
fn enrol(platform: &Platform, wallet: &Path, number: &str) -> Client {
    let mut create = platform::tapfer();
    create.args(["card", "create", "--json", "--home"]).arg(platform.home());
    let created = create.env("TAPFER_PAN", number).output().unwrap();
    assert!(created.status.success(), "{created:?}");
    let card: Value = serde_json::from_slice(&created.stdout).unwrap();
    let card = card["id"].as_str().unwrap();
    platform.tapfer(&["card", "top-up", card, "--amount", "1000.00"]);
    let wallet = wallet.to_str().unwrap();
    let enrolled = platform.tapfer(&["wallet", "enrol", "--card", card, "--wallet", wallet]);
    Client::of_device(platform, enrolled["device"].as_str().unwrap())
}

/// Pays with one phone after the other; every number that took part.
fn numbers_behind(platform: &Platform, wallets: &Path, payments: usize) -> Vec<Form> {
    let mut numbers = BTreeSet::new();
    for (phone, first) in (0..payments).step_by(PAYMENTS_A_PHONE).enumerate() {
        let (card, wallet) = (card_number(phone), wallets.join(phone.to_string()));
        let client = enrol(platform, &wallet, &card);
        numbers.insert(("card", card));
        let mut phone = Phone::open(&wallet, &client);
        for number in first..payments.min(first + PAYMENTS_A_PHONE) {
            let payment = pay(&client, &mut phone, number);
            assert_eq!(payment.answer["outcome"], "approved", "{}", payment.answer);
            let chip_data = payment.question["chip_data"].as_str().unwrap();
            let chip_data = data_encoding::HEXLOWER.decode(chip_data.as_bytes()).unwrap();
            let token = tlv::find(&chip_data, tags::APPLICATION_PAN).unwrap().unwrap();
            numbers.insert(("token", data_encoding::HEXLOWER.encode(token)));
        }
    }
    numbers.iter().flat_map(|(kind, digits)| forms(kind, digits)).collect()
}

fn payments() -> usize {
    std::env::var("TAPFER_PAYMENTS").map_or(PAYMENTS, |number| number.parse().unwrap())
}

#[test]
fn no_number_is_kept_behind_payments() {
    let table = tempfile::tempdir().unwrap();
    let of = |name: &str| -> PathBuf { table.path().join(name) };
    let (home, log) = (of("home"), of("log"));
    let platform = Platform::talkative(&home, &log);
    platform.tapfer(&["init", "--balance", "300.00"]);
    let forms = numbers_behind(&platform, &of("wallets"), payments());
    let backup = of("backup");
    platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
    assert!(fs::metadata(home.join("tapfer.db-wal")).unwrap().len() > 0);
    for place in [&home, &log, &backup] {
        let (found, bytes) = found_in_files(place, &forms);
        eprintln!(
            "{} payments, {} forms, {bytes} bytes in {}",
            payments(),
            forms.len(),
            place.display()
        );
        assert_eq!(found, BTreeSet::new());
    }
    assert!(fs::metadata(&log).unwrap().len() > 10_000, "it is talkative");
    let (found, bytes) = found_in_memory(platform.process(), &forms);
    let (tokens, cards): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|name| name.starts_with("token"));
    let (tokens, cards) = (tokens.len(), cards.len());
    eprintln!("{bytes} bytes of memory: {cards} forms of cards, {tokens} forms of tokens");
}

/// The same look finds what is there: in a file, in each form, across the pieces that are read, and in memory.
#[test]
fn the_look_finds_numbers_where_they_are() {
    let number = card_number(0);
    let forms = forms("card", &number);
    let packed = data_encoding::HEXLOWER.decode(number.as_bytes()).unwrap();
    let shifted = data_encoding::HEXLOWER.decode(format!("1{number}2").as_bytes()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let planted = [
        (number.clone().into_bytes(), "digits"),
        (data_encoding::HEXLOWER.encode(number.as_bytes()).into_bytes(), "hexadecimal digits"),
        (packed.clone(), "packed"),
        (shifted, "packed and shifted"),
        (BASE64.encode(&[&b"\x57"[..], &packed, b"rest"].concat()).into_bytes(), "base64"),
        (
            BASE64URL.encode(&[&b"{\""[..], number.as_bytes(), b"\"}"].concat()).into_bytes(),
            "base64",
        ),
    ];
    for (bytes, form) in planted {
        let file = directory.path().join("deep");
        fs::write(&file, [&vec![b'x'; PIECE - 5][..], &bytes, b"more"].concat()).unwrap();
        let (found, _) = found_in_files(directory.path(), &forms);
        assert!(found.iter().any(|found| found.ends_with(form)), "{form}: {found:?}");
    }
    let (found, bytes) = found_in_memory(std::process::id(), &forms);
    assert!(bytes > 1 << 20 && !found.is_empty(), "this process knows it");
}
