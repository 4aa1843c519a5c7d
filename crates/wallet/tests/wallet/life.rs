//! A phone's life, drawn from one seed: two cards with PINs of their own, readers that mean well and readers
//! that do not, terminals with proofs that hold and proofs that do not, keys that come and keys that are
//! withheld, restarts, and losses of power in the middle of a write.

use std::sync::LazyLock;

use rand_core::Rng;
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::merchant::refused_credential;
use tapfer_payment_types::messages::{HexBytes, MerchantTrust, SealedPayload};
use tapfer_payment_types::policy::Requirement;
use tapfer_wallet::{Wallet, store};

use crate::issuer::{AID, Issuer, now, seal};
use crate::kernel::{Purchase, cdol1_values, command, proven_options, select};
use crate::persons::Platform;
use crate::phone::{DARK, IN_HAND, Phone, UNLOCKED, store_key};
use crate::promises::Promises;
use crate::proving_terminal::{ProvingTerminal, merchant_ca};
use crate::random::TestRng;

/// What an honest reader does: directory, application, credential, options, relay check, record, cryptogram.
pub const STEPS: usize = 7;
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
const NUMBER: [u8; 4] = [1, 2, 3, 4];
const PINS: [&str; 2] = ["2580", "1379"];
const WRONG_PIN: &str = "2581";
const REVOKED: [u8; 6] = [0, 0, 0, 0, 0, 9];
/// So many commands come behind the last honest one.
const COMMANDS_BEHIND: usize = 3;

/// Who holds the reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Merchant {
    /// A terminal that shows nothing.
    Unnamed,
    /// One that proves who it is.
    Proven,
    /// One with somebody else's certificate, or somebody in between: the proof does not hold.
    Wrong,
    /// One whose certificate has ended.
    Expired,
    /// One whose certificate was taken back.
    Revoked,
    /// One that nobody we know has certified.
    Stranger,
}

impl Merchant {
    fn terminal(self) -> Option<&'static ProvingTerminal> {
        let [good, expired, revoked, stranger] = &*TERMINALS;
        match self {
            Self::Unnamed => None,
            Self::Proven | Self::Wrong => Some(good),
            Self::Expired => Some(expired),
            Self::Revoked => Some(revoked),
            Self::Stranger => Some(stranger),
        }
    }
}

static TERMINALS: LazyLock<[ProvingTerminal; 4]> = LazyLock::new(|| {
    let (ca, other) =
        (merchant_ca(), tapfer_emv::merchant::MerchantPrivateKey::from_bytes(&[0x52; 32]));
    let certified = |ca, days: i64| {
        ProvingTerminal::certified_by(
            ca,
            "M00000000000042",
            0x61,
            now().plus_seconds(days * 86_400),
        )
    };
    [
        certified(&ca, 365),
        certified(&ca, -1),
        certified(&ca, 365).numbered(&ca, REVOKED),
        certified(&other.unwrap(), 365),
    ]
});

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

/// A card on the phone, and its issuer's platform.
struct Owned {
    platform: Platform,
    /// Which PIN is the right one.
    pin: usize,
    /// The platform gives no keys any more, until the issuer lets it again.
    is_suspended: bool,
    last_answer: Option<SealedPayload>,
}

pub struct Life {
    _named: Named,
    rng: TestRng,
    cards: [Owned; 2],
    phone: Phone,
    kernel_key: PrivateKey,
    kernel_point: [u8; 64],
    amount: u32,
    merchant: Merchant,
    nonce: [u8; 8],
    promises: Promises,
    reached: [u64; STEPS],
}

/// The first card asks for its PIN at every payment, the second for nothing much; one in two platforms gives
/// single-use keys for that.
fn platform(number: u8, single_use: bool) -> Platform {
    let authorities = vec![HexBytes(merchant_ca().public_key().bytes().to_vec())];
    let revoked_serials = vec![HexBytes(REVOKED.to_vec())];
    let mut platform = Platform::of(Issuer::of_token(number));
    platform.issuer.merchant_trust = MerchantTrust { authorities, revoked_serials };
    platform.single_use = single_use;
    if number > 1 {
        platform.asks = (Requirement::ScreenOn, Requirement::Unlocked);
    }
    platform
}

impl Life {
    pub fn new(seed: u64) -> Self {
        let mut phone = Phone::with(Wallet::new(&mut TestRng(1)));
        let kernel_key = PrivateKey::from_bytes(&[0x77; 32]).unwrap();
        let cards = [1, 2].map(|number| {
            let mut platform = platform(number, seed & u64::from(number) != 0);
            platform.enrol(&mut phone, PINS[0]);
            Owned { platform, pin: 0, is_suspended: false, last_answer: None }
        });
        let mut life = Self {
            _named: Named(seed),
            rng: TestRng(seed),
            cards,
            phone,
            kernel_point: kernel_key.public_point(),
            kernel_key,
            amount: 100,
            merchant: Merchant::Unnamed,
            nonce: [0; 8],
            promises: Promises::default(),
            reached: [0; STEPS],
        };
        [0, 1].iter().for_each(|card| life.has_fresh_keys(*card));
        life
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// How many honest readers were answered, step by step.
    pub fn live(mut self, sequences: u64) -> [u64; STEPS] {
        for _ in 0..sequences {
            self.between_taps();
            self.sequence();
        }
        self.reached
    }

    /// What people, issuers and time do to a phone.
    fn between_taps(&mut self) {
        self.phone.device = [IN_HAND, UNLOCKED, DARK][self.below(3) as usize];
        self.amount = [100, 2_500, 2_501, 14_000][self.below(4) as usize];
        self.merchant = [
            Merchant::Unnamed,
            Merchant::Proven,
            Merchant::Proven,
            Merchant::Wrong,
            Merchant::Expired,
            Merchant::Revoked,
            Merchant::Stranger,
            Merchant::Unnamed,
        ][self.below(8) as usize];
        self.phone.now = self.phone.now.plus_seconds(self.below(90) as i64);
        let card = self.below(2) as usize;
        let token = self.cards[card].platform.issuer.token;
        if self.chance(30) {
            self.phone.card.wallet_mut().set_default_token(token).unwrap();
        }
        if self.chance(50) {
            self.enter_pin(card);
        }
        if self.chance(3) {
            self.phone.card.wallet_mut().forget_pins();
        }
        if self.chance(2) {
            self.cards[card].is_suspended ^= true;
        }
        let readiness = self.phone.card.wallet().token(token).unwrap().readiness(self.phone.now);
        if readiness.wants_replenishment && self.chance(25) {
            self.replenish(card);
        } else if self.chance(1) {
            self.change_pin(card);
        }
        if self.chance(10) {
            self.phone.power = Some(self.below(10) as usize);
            self.phone.cut = Some(self.below(7) as usize);
        }
    }

    fn enter_pin(&mut self, card: usize) {
        let right = PINS[self.cards[card].pin];
        let entered = if self.chance(80) { right } else { WRONG_PIN };
        self.cards[card].platform.enter(&mut self.phone, entered);
        self.promises.accounts[card].pin_is_entered = true;
    }

    /// Fresh keys, or, from a platform that gives none, what somebody has recorded of earlier ones.
    fn replenish(&mut self, card: usize) {
        self.phone.now = self.phone.now.plus_seconds(3_600);
        let without_verified_keys = self.chance(30);
        let owned = &mut self.cards[card];
        let (token, at) = (owned.platform.issuer.token, self.phone.now);
        let rng = &mut TestRng(self.rng.next_u64());
        let wallet = self.phone.card.wallet_mut();
        let request = wallet.replenish_request(token, rng);
        if let Some(old) = owned.last_answer.as_ref().filter(|_| owned.is_suspended) {
            assert!(wallet.accept(token, old, at).is_err(), "an old answer brought keys again");
        }
        if owned.is_suspended {
            return;
        }
        let mut payload = owned.platform.payload(&request, at);
        if without_verified_keys {
            payload.verified_keys.clear();
        }
        let sealed = seal(wallet, token, &payload);
        let snapshot = wallet.accept(token, &sealed, at).unwrap();
        self.phone.disk = snapshot.seal(&store_key(), &mut self.phone.rng).unwrap();
        owned.last_answer = Some(sealed);
        self.has_fresh_keys(card);
    }

    fn change_pin(&mut self, card: usize) {
        let owned = &mut self.cards[card];
        if owned.is_suspended {
            return;
        }
        let (old, new) = (PINS[owned.pin], PINS[1 - owned.pin]);
        self.phone.now = self.phone.now.plus_seconds(3_600);
        owned.platform.set_pin(&mut self.phone, new, Some(old));
        owned.pin = 1 - owned.pin;
        self.promises.accounts[card].pin_is_entered = false;
        self.has_fresh_keys(card);
    }

    fn has_fresh_keys(&mut self, card: usize) {
        let token = self.cards[card].platform.issuer.token;
        let readiness = self.phone.card.wallet().token(token).unwrap().readiness(self.phone.now);
        self.promises.accounts[card].budget =
            readiness.payments_left + readiness.verified_payments_left;
        self.learn_secrets();
    }

    fn learn_secrets(&mut self) {
        let issuers = self.cards.iter().map(|card| &card.platform.issuer);
        self.promises.learn_secrets(&self.phone, issuers);
    }

    fn sequence(&mut self) {
        let mut before = Vec::new();
        let is_honest = self.chance(60);
        for step in 0..STEPS + COMMANDS_BEHIND {
            let command = match step {
                _ if !is_honest || self.chance(6) => self.any_command(&before),
                _ => self.honest_command(step),
            };
            self.promises.note_counters(&self.phone);
            let Some(answer) = self.phone.transmit(&command) else {
                self.lose_power();
                return;
            };
            let is_answered = self.hear(&command, &answer);
            if is_honest && step < STEPS && is_answered {
                self.reached[step] += 1;
            }
            before = command;
        }
        self.phone.card.deselect();
        if self.chance(2) {
            self.lose_power();
        }
    }

    fn hear(&mut self, command: &[u8], answer: &[u8]) -> bool {
        let is_proven = self.merchant == Merchant::Proven;
        let proven = self.merchant.terminal().filter(|_| is_proven);
        let identity = proven.map(|terminal| terminal.certificate.identity());
        self.promises.check(&self.phone, &self.kernel_key, identity, answer);
        let is_answered = answer.ends_with(&[0x90, 0x00]);
        if let ([_, 0x52, ..], [nonce @ .., 0x90, 0x00]) = (command, answer) {
            let is_over = matches!(self.merchant, Merchant::Expired | Merchant::Revoked);
            assert!(
                !is_over && self.merchant != Merchant::Stranger,
                "a nonce for this certificate"
            );
            self.nonce = nonce.try_into().unwrap();
        }
        is_answered
    }

    fn honest_command(&mut self, step: usize) -> Vec<u8> {
        let purchase = Purchase::euros(self.amount);
        match step {
            0 => select(b"2PAY.SYS.DDF01"),
            1 => select(&AID),
            2 => match self.merchant.terminal() {
                Some(terminal) => command(0x80, 0x52, 0, 0, &terminal.certificate.encode()),
                // A terminal without a certificate reads on.
                None => select(&AID),
            },
            3 => proven_options(&self.kernel_point, &purchase, NUMBER, &self.proof(&purchase)),
            4 => command(0x80, 0xEA, 0, 0, &NUMBER),
            5 => command(0x00, 0xB2, 1 + self.below(3) as u8, 0x14, &[]),
            6 => {
                let more = if self.chance(50) { 0x80 } else { 0x00 };
                command(0x80, 0xAE, 0x80, more, &cdol1_values(&purchase, NUMBER))
            }
            _ => self.any_command(&[]),
        }
    }

    /// `DF51`. Whoever was given no nonce has nothing to sign, and says what was presented.
    fn proof(&self, purchase: &Purchase) -> [u8; 64] {
        let Some(terminal) = self.merchant.terminal() else { return [0; 64] };
        if self.merchant == Merchant::Stranger {
            return refused_credential(&terminal.certificate.encode());
        }
        let mut proof = terminal.proof(self.nonce, self.kernel_point, purchase, NUMBER);
        if self.merchant == Merchant::Wrong {
            proof[9] ^= 0x01;
        }
        proof
    }

    /// A command that nobody would send here: an honest one out of turn, one with a byte changed, the
    /// right instruction with any data, or any bytes at all.
    fn any_command(&mut self, before: &[u8]) -> Vec<u8> {
        match self.below(10) {
            0..=4 => {
                let step = self.below(STEPS as u64) as usize;
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
                let (p1, p2) =
                    (self.below(4) as u8, [0x00, 0x80, 0x14, 0x02][self.below(4) as usize]);
                command(class, instruction, p1, p2, &data)
            }
            // The other card of the same application.
            9 if self.chance(50) => command(0x00, 0xA4, 0x04, 0x02, &AID),
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

    /// The power is gone. What the disk holds is whole: a part of it is no wallet.
    fn lose_power(&mut self) {
        let cut = self.below(self.phone.disk.len() as u64) as usize;
        assert!(store::open(&store_key(), &self.phone.disk[..cut]).is_err(), "torn at {cut}");
        self.phone.restart();
        self.promises.check_restarted(&self.phone);
        self.learn_secrets();
    }
}
