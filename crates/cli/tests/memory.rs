//! What is in the memory of the server process: with HSMs, none of the keys that belong into them.

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

mod hsms;
mod payer;
mod platform;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _, KeyWrapPadded as _};
use hsms::{Hsms, hold_ceremony};
use memchr::memmem;
use payer::{Client, Phone, pay};
use platform::Platform;
use serde_json::Value;
use tapfer_hsm::sharing::{Gathering, PartReader};

/// Payments before the look into the memory; `TAPFER_PAYMENTS` asks for more.
const PAYMENTS: usize = 100;
/// A phone's keys go no further: then comes the next phone.
const PAYMENTS_A_PHONE: usize = 150;

/// A key by name, in clear.
struct Key {
    name: String,
    bytes: Vec<u8>,
}

/// Every key of a realm, from custodians' parts and catalogue: without a line of what is tested here.
fn keys(home: &Path, parts: &Path) -> Vec<Key> {
    let mut gathering = Gathering::new();
    for number in [1, 3] {
        let paper = fs::read_to_string(parts.join(format!("part-{number}-of-3.txt"))).unwrap();
        // Groups of five letters behind the line's number: `1   248GK  2GYCT ...`.
        let rows =
            paper.lines().filter(|line| line.trim().starts_with(|c: char| c.is_ascii_digit()));
        let groups = rows.flat_map(|row| row.split_whitespace().skip(1));
        let groups: Vec<&str> = groups.collect();
        gathering.add(PartReader::whole(&groups.join(" ")).unwrap()).unwrap();
    }
    let roots = gathering.secret().unwrap();
    let (sealing, releasing) = roots.expose().split_at(32);
    let mut keys = vec![named("sealing root", sealing), named("releasing root", releasing)];
    let catalogue: Value =
        serde_json::from_slice(&fs::read(home.join("keys.json")).unwrap()).unwrap();
    let content = &catalogue["content"];
    keys.push(opened("catalogue key", &content["catalogue_key"], [sealing, releasing]));
    for record in content["keys"].as_array().unwrap() {
        let name = format!("{} of {}", record["purpose"], record["owner"]);
        keys.push(opened(&name, &record["wrapped"], [sealing, releasing]));
    }
    keys
}

fn named(name: &str, bytes: &[u8]) -> Key {
    Key { name: name.to_owned(), bytes: bytes.to_vec() }
}

fn opened(name: &str, wrapped: &Value, roots: [&[u8]; 2]) -> Key {
    let wrapped = data_encoding::HEXLOWER.decode(wrapped.as_str().unwrap().as_bytes()).unwrap();
    let open = |root: &[u8]| {
        let kek = || AesKek::new(&AES_256, root).unwrap();
        let mut room = vec![0; wrapped.len() + 16];
        if let Ok(raw) = kek().unwrap(&wrapped, &mut room) {
            return Some(raw.to_vec());
        }
        let document = kek().unwrap_with_padding(&wrapped, &mut room).ok()?;
        // PKCS#8 with an ECPrivateKey in it (RFC 5915): version 1, then the scalar.
        let head = [0x02, 0x01, 0x01, 0x04, 0x20];
        let at = document.windows(5).position(|window| window == head).unwrap() + 5;
        Some(document[at..at + 32].to_vec())
    };
    let bytes = roots.into_iter().find_map(open).expect("one of the roots opens it");
    named(name, &bytes)
}

/// Which of these are in the memory of a process, as bytes or in hexadecimal digits.
fn found(process: u32, keys: &[Key]) -> Vec<String> {
    let patterns: Vec<(&Key, Vec<u8>)> = keys
        .iter()
        .flat_map(|key| {
            let (lower, upper) = (
                data_encoding::HEXLOWER.encode(&key.bytes),
                data_encoding::HEXUPPER.encode(&key.bytes),
            );
            [(key, key.bytes.clone()), (key, lower.into_bytes()), (key, upper.into_bytes())]
        })
        .collect();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut found = Vec::new();
    let mut bytes_read = 0;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).unwrap().starts_with("rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) =
            (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // A mapping may end in the middle of the look.
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        bytes_read += bytes.len();
        let is_there = |pattern: &[u8]| memmem::find(&bytes, pattern).is_some();
        let here = patterns.iter().filter(|(_, pattern)| is_there(pattern));
        found.extend(here.map(|(key, _)| key.name.clone()));
    }
    assert!(bytes_read > 1 << 20, "its memory can be read");
    found.sort_unstable();
    found.dedup();
    found
}

fn payments() -> usize {
    std::env::var("TAPFER_PAYMENTS").map_or(PAYMENTS, |number| number.parse().unwrap())
}

/// Pays with one phone after the other.
fn make_payments(platform: &Platform, number: usize) {
    platform.tapfer(&["init", "--balance", "100000.00"]);
    let mut wallet = platform.home().join("wallet");
    let mut client = Client::new(platform);
    for first in (0..number).step_by(PAYMENTS_A_PHONE) {
        if first > 0 {
            wallet = platform.home().join(format!("wallet-{first}"));
            let wallet = wallet.to_str().unwrap();
            let enrolled = platform.tapfer(&["wallet", "enrol", "--wallet", wallet]);
            client = Client::of_device(platform, enrolled["device"].as_str().unwrap());
        }
        let mut phone = Phone::open(&wallet, &client);
        for number in first..number.min(first + PAYMENTS_A_PHONE) {
            let payment = pay(&client, &mut phone, number);
            assert_eq!(payment.answer["outcome"], "approved", "{}", payment.answer);
        }
    }
}

/// Something that is in the memory of every server: the name of its realm.
fn realm_name(home: &Path) -> Key {
    let text = fs::read_to_string(home.join("realm.json")).unwrap();
    let realm: Value = serde_json::from_str(&text).unwrap();
    Key { name: "realm".to_owned(), bytes: realm["id"].as_str().unwrap().as_bytes().to_vec() }
}

#[test]
fn no_key_that_belongs_into_the_hsms_is_in_the_memory_of_the_server() {
    let hsms = Hsms::with_realm("production");
    let platform = Platform::debuggable(&hsms.home());
    make_payments(&platform, payments());
    let keys = keys(&hsms.home(), &hsms.parts());
    eprintln!("{} payments; looked for {} keys", payments(), keys.len());
    assert!(keys.len() > 10);
    assert_eq!(found(platform.process(), &keys), Vec::<String>::new());
    assert_eq!(found(platform.process(), &[realm_name(&hsms.home())]), ["realm"]);
}

/// The same look finds them where they are: with the software keystore they are in the server.
#[test]
fn the_look_finds_keys_where_they_are() {
    let table = tempfile::tempdir().unwrap();
    let home = table.path().join("home");
    hold_ceremony(&home, "demo", table.path());
    let platform = Platform::debuggable(&home);
    make_payments(&platform, 1);
    let keys = keys(&home, &table.path().join("parts"));
    let found = found(platform.process(), &keys);
    let is_found = |purpose: &str| found.iter().any(|name| name.contains(purpose));
    assert!(is_found("sealing root"), "{found:?}");
    assert!(is_found("issuer-master"), "{found:?}");
}

/// A process with keys, run by a user that is not root: a look at whose its files in `/proc` are tells whether that
/// user's other processes, debuggers and core files get at its memory and its environment.
fn user_that_may_look(debuggable: bool) -> (u32, u32) {
    const NOBODY: u32 = 65_534;
    let table = tempfile::tempdir().unwrap();
    let home = table.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = platform::tapfer();
    command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--home"]).arg(&home);
    command.args(debuggable.then_some("--debuggable"));
    if fs::metadata(&home).unwrap().uid() == 0 {
        fs::set_permissions(table.path(), fs::Permissions::from_mode(0o755)).unwrap();
        chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let user = fs::metadata(&home).unwrap().uid();
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let started: Value = serde_json::from_str(&line).unwrap();
    let proc = Path::new("/proc").join(process.id().to_string());
    let owner = fs::metadata(proc.join("environ")).unwrap().uid();
    let status = fs::read_to_string(proc.join("status")).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    // What it says about the swap is so.
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let is_locked = locked.trim() != "0 kB";
    assert_eq!(started["is_memory_locked"], is_locked, "{locked}");
    (user, owner)
}

#[test]
fn attack_memory_of_the_server_read_by_its_own_user() {
    let (user, may_look) = user_that_may_look(false);
    assert_ne!(user, 0);
    assert_eq!(may_look, 0, "root alone");
    let (user, may_look) = user_that_may_look(true);
    assert_eq!(user, may_look, "who wants to debug it can");
}
