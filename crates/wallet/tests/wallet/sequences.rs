//! Random command sequences over the whole life of a phone: honest steps, altered ones and nonsense, with
//! PINs right and wrong, replenishment, restarts and losses of power in between.
//!
//! Everything follows from one seed. `TAPFER_SEED` sets it, `TAPFER_SEQUENCES` says how many sequences are
//! played; a failure prints the seed of the life it happened in, and `TAPFER_LIFE` plays that one alone.

use std::collections::HashSet;

use rand_core::Rng;
use tapfer_emv::channel::{derivation_key, session_keys};
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_emv::tags;
use tapfer_emv::tlv;
use tapfer_wallet::store;

use crate::issuer::AID;
use crate::kernel::{Purchase, cdol1_values, command, proven_options, select};
use crate::persons::Platform;
use crate::phone::{DARK, IN_HAND, Phone, UNLOCKED, store_key};
use crate::random::TestRng;

/// What fits `./test`; `scripts/night` plays two million.
const SEQUENCES: u64 = 4_000;
/// Then the phone is thrown away and the next life begins.
const SEQUENCES_IN_A_LIFE: u64 = 100;
const PIN: &str = "2580";
const NUMBER: [u8; 4] = [1, 2, 3, 4];

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Says which life it was when a check fails.
struct Named(u64);

impl Drop for Named {
    #[allow(clippy::print_stderr, reason = "the seed of a failure has to be seen")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see it again: TAPFER_LIFE={}", self.0);
        }
    }
}

#[test]
fn random_command_sequences_keep_every_promise() {
    if let Some(life) = setting("TAPFER_LIFE") {
        Life::new(life).live(SEQUENCES_IN_A_LIFE);
        return;
    }
    let seed = setting("TAPFER_SEED").unwrap_or(1) << 32;
    let lives = setting("TAPFER_SEQUENCES").unwrap_or(SEQUENCES).div_ceil(SEQUENCES_IN_A_LIFE);
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let reached = std::thread::scope(|scope| {
        let work = |worker| {
            move || {
                (worker..lives).step_by(workers as usize).fold([0; STEPS], |mut sum, life| {
                    let reached = Life::new(seed + life).live(SEQUENCES_IN_A_LIFE);
                    sum.iter_mut().zip(reached).for_each(|(sum, count)| *sum += count);
                    sum
                })
            }
        };
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(work(worker))).collect();
        threads.into_iter().fold([0; STEPS], |mut sum, thread| {
            let reached: [u64; STEPS] = thread.join().unwrap();
            sum.iter_mut().zip(reached).for_each(|(sum, count)| *sum += count);
            sum
        })
    });
    // A test that is refused at the door shows nothing: every step is answered in many sequences.
    for (step, count) in reached.iter().enumerate() {
        assert!(*count * 50 > lives * SEQUENCES_IN_A_LIFE, "step {step}: {reached:?}");
    }
}

/// Directory, application, options, relay check, record, cryptogram.
const STEPS: usize = 6;
const INSTRUCTIONS: [(u8, u8); 9] = [
    (0x00, 0xA4),
    (0x80, 0x52),
    (0x80, 0xA8),
    (0x80, 0xEA),
    (0x00, 0xB2),
    (0x84, 0x32),
    (0x80, 0xAE),
    (0x84, 0x34),
    (0x00, 0xCA),
];

struct Life {
    _named: Named,
    rng: TestRng,
    platform: Platform,
    phone: Phone,
    kernel_key: PrivateKey,
    kernel_point: [u8; 64],
    amount: u32,
    /// The first sixteen bytes of every key: of the phone, and of the channel.
    secrets: HashSet<[u8; 16]>,
    session: HashSet<[u8; 16]>,
    /// The highest counter that a reader has seen, and the last that was approved.
    seen: u16,
    approved: u16,
    reached: [u64; STEPS],
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut platform = Platform::new();
        let phone = platform.phone_with_pin(PIN);
        let kernel_key = PrivateKey::from_bytes(&[0x77; 32]).unwrap();
        let kernel_point = kernel_key.public_point();
        let rng = TestRng(seed);
        let mut life = Self {
            _named: Named(seed),
            rng,
            platform,
            phone,
            kernel_key,
            kernel_point,
            amount: 100,
            secrets: HashSet::new(),
            session: HashSet::new(),
            seen: 0,
            approved: 0,
            reached: [0; STEPS],
        };
        life.learn_secrets();
        life
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn live(mut self, sequences: u64) -> [u64; STEPS] {
        for _ in 0..sequences {
            self.between_taps();
            self.sequence();
        }
        self.reached
    }

    /// What people and time do to a phone.
    fn between_taps(&mut self) {
        self.phone.device = [IN_HAND, UNLOCKED, DARK][self.below(3) as usize % 3];
        self.amount = [100, 2_500, 2_501, 14_000][self.below(4) as usize];
        self.phone.now = self.phone.now.plus_seconds(self.below(90) as i64);
        let token = self.platform.issuer.token;
        if self.chance(40) {
            let entered = if self.chance(80) { PIN } else { "2581" };
            self.platform.enter(&mut self.phone, entered);
        }
        if self.chance(3) {
            self.phone.card.wallet_mut().forget_pins();
        }
        let readiness = self.phone.card.wallet().token(token).unwrap().readiness(self.phone.now);
        if readiness.wants_replenishment && self.chance(25) {
            self.phone.now = self.phone.now.plus_seconds(3_600);
            self.platform.replenish(&mut self.phone);
            self.learn_secrets();
        }
        if self.chance(10) {
            self.phone.power = Some(self.below(10) as usize);
        }
    }

    fn sequence(&mut self) {
        let mut before = Vec::new();
        let is_honest = self.chance(60);
        for step in 0..STEPS + 3 {
            let command = match step {
                _ if !is_honest || self.chance(6) => self.any_command(&before),
                _ => self.honest_command(step),
            };
            let Some(reply) = self.phone.transmit(&command) else {
                self.lose_power();
                return;
            };
            self.check(&reply);
            if is_honest && step < STEPS && reply.ends_with(&[0x90, 0x00]) {
                self.reached[step] += 1;
            }
            before = command;
        }
        self.phone.card.deselect();
        if self.chance(2) {
            self.lose_power();
        }
    }

    fn honest_command(&mut self, step: usize) -> Vec<u8> {
        let purchase = Purchase::euros(self.amount);
        match step {
            0 => select(b"2PAY.SYS.DDF01"),
            1 => select(&AID),
            2 => proven_options(&self.kernel_point, &purchase, NUMBER, &[0; 64]),
            3 => command(0x80, 0xEA, 0, 0, &NUMBER),
            4 => command(0x00, 0xB2, 1 + self.below(3) as u8, 0x14, &[]),
            5 => {
                let more = if self.chance(50) { 0x80 } else { 0x00 };
                command(0x80, 0xAE, 0x80, more, &cdol1_values(&purchase, NUMBER))
            }
            _ => self.any_command(&[]),
        }
    }

    /// A command that nobody would send here: an honest one out of turn, one with a byte changed, the
    /// right instruction with any data, or any bytes at all.
    fn any_command(&mut self, before: &[u8]) -> Vec<u8> {
        match self.below(10) {
            0..=4 => {
                let step = self.below(6) as usize;
                self.honest_command(step)
            }
            5 | 6 if !before.is_empty() => {
                let mut altered = before.to_vec();
                let place = self.below(altered.len() as u64) as usize;
                altered[place] ^= 1 << self.below(8);
                altered
            }
            7 | 8 => {
                let (class, instruction) = INSTRUCTIONS[self.below(9) as usize];
                let length = self.below(140) as usize;
                let data = self.bytes(length);
                let (p1, p2) = (self.below(4) as u8, [0x00, 0x80, 0x14][self.below(3) as usize]);
                command(class, instruction, p1, p2, &data)
            }
            _ => {
                let length = self.below(40) as usize;
                self.bytes(length)
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// What holds for every reply; that what it depends on was made durable before it, `Phone` checks by
    /// the order of the effects, and here by what the disk holds.
    fn check(&mut self, reply: &[u8]) {
        let (data, status) = reply.split_at(reply.len() - 2);
        self.check_secrets(data);
        if status != [0x90, 0x00] {
            assert!(data.is_empty(), "a refusal with data");
            return;
        }
        let field =
            |tag| tlv::find_path(data, &[tags::RESPONSE_TEMPLATE_FORMAT_2, tag]).ok().flatten();
        if let Some(key_data) = field(tags::CARD_KEY_DATA) {
            let counter = self.phone.counter();
            assert!(counter > self.seen, "counter {counter} after {}", self.seen);
            self.seen = counter;
            assert_eq!(crate::phone::counter(&self.phone.stored()), counter, "not durable");
            self.learn_session(key_data);
            self.check_secrets(data);
        }
        let Some(counter) = field(tags::APPLICATION_TRANSACTION_COUNTER) else { return };
        let counter = u16::from_be_bytes(counter.try_into().unwrap());
        assert_eq!(counter, self.seen, "a cryptogram under a counter of another transaction");
        if field(tags::CRYPTOGRAM_INFORMATION_DATA) == Some(&[0x80]) {
            assert!(counter > self.approved, "a second approval under counter {counter}");
            self.approved = counter;
        }
        let stored = serde_json::to_value(self.phone.stored()).unwrap();
        let memory = serde_json::to_value(self.phone.card.wallet()).unwrap();
        assert_eq!(stored, memory, "the use of the key is not durable");
    }

    /// The keys of the channel, as the kernel derives them: in no reply, this one and those that follow.
    fn learn_session(&mut self, key_data: &[u8]) {
        let blinded = PublicX::from_bytes(&key_data[..32].try_into().unwrap()).unwrap();
        let shared = self.kernel_key.shared_x(&blinded);
        let derivation = derivation_key(shared.expose());
        let (confidentiality, integrity) = session_keys(derivation.expose());
        let keys = [&derivation, &confidentiality, &integrity];
        self.session = keys.into_iter().map(|key| *key.expose()).collect();
        self.session.insert(shared.expose()[..16].try_into().unwrap());
    }

    fn check_secrets(&self, data: &[u8]) {
        for bytes in data.windows(16) {
            let is_secret = self.secrets.contains(bytes) || self.session.contains(bytes);
            assert!(!is_secret, "a key in a reply");
        }
    }

    /// The power is gone. What the disk holds is whole: a part of it is no wallet.
    fn lose_power(&mut self) {
        let cut = self.below(self.phone.disk.len() as u64) as usize;
        assert!(store::open(&store_key(), &self.phone.disk[..cut]).is_err(), "torn at {cut}");
        self.phone.restart();
        assert!(self.phone.counter() >= self.seen, "the counter went back");
        self.learn_secrets();
    }

    /// All keys that the phone holds, and what comes from them for the next payments.
    fn learn_secrets(&mut self) {
        let content = serde_json::to_value(self.phone.card.wallet()).unwrap();
        let (mut secrets, mut indices) = (HashSet::new(), Vec::new());
        collect(&content, &mut secrets, &mut indices);
        let first = self.phone.counter();
        for index in indices {
            for class in [KeyClass::Unverified, KeyClass::Verified] {
                let key = self.platform.issuer.key_of(class, index);
                secrets.extend(
                    (first..first.saturating_add(12))
                        .map(|counter| *key.session_key(counter).expose()),
                );
            }
        }
        assert!(secrets.len() > 4, "device key, card key, limited-use keys at least");
        self.secrets = secrets;
    }
}

/// Whatever stands as hexadecimal digits of a key's length, but what everybody may see.
fn collect(
    value: &serde_json::Value,
    secrets: &mut HashSet<[u8; 16]>,
    indices: &mut Vec<KeyIndex>,
) {
    const PUBLIC: [&str; 5] =
        ["profile", "icc_certificate", "merchant_trust", "recipient", "sealed_key"];
    match value {
        serde_json::Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !PUBLIC.contains(&name.as_str()))
            .for_each(|(_, value)| collect(value, secrets, indices)),
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| collect(value, secrets, indices));
        }
        serde_json::Value::String(text) if text.len() == 7 => {
            indices.extend(text.parse::<KeyIndex>())
        }
        serde_json::Value::String(text) if [32, 64].contains(&text.len()) => {
            let bytes = data_encoding::HEXLOWER.decode(text.as_bytes());
            secrets.extend(bytes.map(|bytes| -> [u8; 16] { bytes[..16].try_into().unwrap() }));
        }
        _ => {}
    }
}
