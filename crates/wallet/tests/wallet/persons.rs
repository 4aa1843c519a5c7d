//! The person at the wallet: a PIN is set, entered, changed and reset, against a platform that keeps the
//! person's key and can lose any message.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR};
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::iad::VerificationMethod;
use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_emv::person_key::PersonKey;
use tapfer_payment_types::messages::{
    HexBytes, HexSecret, PERSON_KEY_INFO, PinStatus, ProvisioningPayload, ReplenishRequest,
    SetPersonKeyRequest, SingleUseKeys,
};
use tapfer_payment_types::policy::Requirement;
use tapfer_payment_types::{Pin, Timestamp};
use tapfer_wallet::pin::{EnterPinError, PinChoiceError, PinHardness, SetPinError};
use tapfer_wallet::policy::{Ask, PinStanding};
use tapfer_wallet::{AcceptError, DeviceState, KeyGrantError, Notification, Wallet};

use crate::issuer::{Issuer, now, seal};
use crate::kernel::{Kernel, Purchase, Tap};
use crate::phone::Phone;
use crate::random::TestRng;

/// Quick: what is tested here does not depend on it.
pub const QUICK: PinHardness = PinHardness { memory_kib: 8, passes: 1, lanes: 1 };
/// How many verified keys a replenishment brings.
pub const BLOCKS: u16 = 8;
const TRIES: u8 = 3;

pub fn pin(text: &str) -> Pin {
    text.parse().unwrap()
}

/// The platform's side: keeps the person's key, counts wrong PINs, gives keys of both classes.
pub struct Platform {
    pub issuer: Issuer,
    key: PrivateKey,
    person_key: Option<(u32, [u8; 16])>,
    last: Option<SetPersonKeyRequest>,
    tries_left: u8,
    reset_granted: bool,
    replenishments: u8,
    /// What payments up to the limit, and above it, need.
    pub asks: (Requirement, Requirement),
    /// Keys of class `01` are session keys of single use.
    pub single_use: bool,
}

impl Platform {
    pub fn new() -> Self {
        Self::of(Issuer::new())
    }

    pub fn of(issuer: Issuer) -> Self {
        Self {
            issuer,
            asks: (Requirement::AppPin, Requirement::AppPin),
            single_use: false,
            key: PrivateKey::generate(&mut TestRng(90)),
            person_key: None,
            last: None,
            tries_left: TRIES,
            reset_granted: false,
            replenishments: 0,
        }
    }

    pub fn status(&self) -> PinStatus {
        PinStatus {
            generation: self.person_key.map_or(0, |(generation, _)| generation),
            tries_left: self.tries_left,
            blocked: self.tries_left == 0,
            reset_granted: self.reset_granted,
        }
    }

    /// Takes a new person's key; a refusal says how the PIN stands.
    pub fn set(&mut self, request: &SetPersonKeyRequest) -> Result<PinStatus, PinStatus> {
        if self.last.as_ref() == Some(request) {
            return Ok(self.status());
        }
        let token = self.issuer.token.to_string();
        let associated = [token.as_bytes(), &request.generation.to_be_bytes()].concat();
        let private =
            <DhP256HkdfSha256 as Kem>::PrivateKey::from_bytes(self.key.to_bytes().expose());
        let sealed = &request.sealed_key;
        let encapsulated =
            <DhP256HkdfSha256 as Kem>::EncappedKey::from_bytes(&sealed.encapsulated_key.0).unwrap();
        let plain = hpke::single_shot_open::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
            &OpModeR::Base,
            &private.unwrap(),
            &encapsulated,
            PERSON_KEY_INFO,
            &sealed.ciphertext.0,
            &associated,
        )
        .unwrap();
        assert_eq!(plain.len(), 32);
        let (key, proof) = plain.split_at(16);
        let key: [u8; 16] = key.try_into().unwrap();
        let known = self.person_key.filter(|_| !self.reset_granted);
        if request.generation != self.status().generation + 1 {
            return Err(self.status());
        }
        if let Some((_, old)) = known {
            let new = PersonKey::new(key);
            let right = PersonKey::new(old).change_proof(&token, request.generation, &new);
            if right.expose() != proof {
                self.tries_left -= 1;
                return Err(self.status());
            }
        }
        self.person_key = Some((request.generation, key));
        self.last = Some(request.clone());
        (self.tries_left, self.reset_granted) = (TRIES, false);
        Ok(self.status())
    }

    fn row(&self, class: KeyClass, number: u8, after: u16, at: Timestamp) -> SingleUseKeys {
        let index = KeyIndex::at(at, number).unwrap();
        let key = self.issuer.key_of(class, index);
        let block = |counter| {
            let session_key = key.session_key(counter);
            match (class, self.person_key) {
                (KeyClass::Verified, Some((_, person))) => {
                    PersonKey::new(person).seal_session_key(&session_key)
                }
                _ => *session_key.expose(),
            }
        };
        SingleUseKeys {
            key_index: index.to_string(),
            expires_at: at.plus_seconds(6 * 3_600),
            first_counter: after + 1,
            blocks: (after + 1..=after + BLOCKS)
                .map(|counter| HexSecret::new(block(counter).to_vec()))
                .collect(),
        }
    }

    pub fn payload(&mut self, request: &ReplenishRequest, at: Timestamp) -> ProvisioningPayload {
        self.replenishments += 1;
        let after = request.application_transaction_counter;
        let number = self.replenishments % 40;
        let row = self.row(KeyClass::Verified, 10 + number, after, at);
        let mut payload = self.issuer.payload(request, at);
        self.issuer.set_policy(&mut payload, |policy| {
            (policy.up_to_limit, policy.above_limit) = self.asks;
        });
        let (limited_use_keys, single_use_keys) = match self.single_use {
            true => (Vec::new(), vec![self.row(KeyClass::Unverified, 50 + number, after, at)]),
            false => (payload.limited_use_keys, Vec::new()),
        };
        ProvisioningPayload {
            limited_use_keys,
            single_use_keys,
            verified_keys: self.person_key.map(|_| row).into_iter().collect(),
            person_key_recipient: Some(HexBytes([&[4], &self.key.public_point()[..]].concat())),
            pin: Some(self.status()),
            ..payload
        }
    }

    pub fn replenish(&mut self, phone: &mut Phone) {
        let (token, at) = (self.issuer.token, phone.now);
        let rng = &mut TestRng(u64::from(self.replenishments) + 1_000);
        let request = phone.card.wallet_mut().replenish_request(token, rng);
        let payload = self.payload(&request, at);
        let sealed = seal(phone.card.wallet(), token, &payload);
        let snapshot = phone.card.wallet_mut().accept(token, &sealed, at).unwrap();
        phone.disk = snapshot.seal(&crate::phone::store_key(), &mut phone.rng).unwrap();
    }

    /// A phone whose owner has chosen a PIN, with keys of both classes.
    pub fn phone_with_pin(&mut self, text: &str) -> Phone {
        let mut phone = Phone::with(Wallet::new(&mut TestRng(1)));
        self.enrol(&mut phone, text);
        phone
    }

    /// The token comes onto a phone, and its owner chooses a PIN for it.
    pub fn enrol(&mut self, phone: &mut Phone, text: &str) {
        self.replenish(phone);
        self.set_pin(phone, text, None);
    }

    /// A new PIN, told to the platform, and keys under it.
    pub fn set_pin(&mut self, phone: &mut Phone, text: &str, old: Option<&str>) {
        let request = self.begin(phone, text, old).unwrap();
        let status = self.set(&request).unwrap();
        phone.card.wallet_mut().pin_answered(self.issuer.token, status).unwrap();
        self.replenish(phone);
    }

    /// The phone's half of setting a PIN, persisted as it has to be.
    pub fn begin(
        &self,
        phone: &mut Phone,
        new: &str,
        old: Option<&str>,
    ) -> Result<SetPersonKeyRequest, SetPinError> {
        let old = old.map(pin);
        let seed = phone.disk.len() as u64 + u64::from(self.status().generation);
        let (request, snapshot) = phone.card.wallet_mut().set_pin(
            self.issuer.token,
            &pin(new),
            old.as_ref(),
            QUICK,
            &mut TestRng(seed),
        )?;
        phone.disk = snapshot.seal(&crate::phone::store_key(), &mut phone.rng).unwrap();
        Ok(request)
    }

    pub fn enter(&self, phone: &mut Phone, text: &str) {
        let at = phone.now;
        phone.card.wallet_mut().enter_pin(self.issuer.token, &pin(text), at).unwrap();
    }

    pub fn tap(&self, phone: &mut Phone, minor: u32) -> Tap {
        let kernel = Kernel::new(&self.issuer, phone.now, u64::from(phone.counter()) + 100);
        kernel.tap(&Purchase::euros(minor), |command| phone.transmit(command)).unwrap()
    }

    /// Whether a tap with this PIN makes the cryptogram that the issuer expects.
    pub fn pays_with(&self, phone: &mut Phone, text: &str) -> bool {
        self.enter(phone, text);
        let tap = self.tap(phone, 100);
        assert_eq!(tap.data.results.key_class, KeyClass::Verified);
        tap.is_right
    }

    fn standing(&self, phone: &Phone) -> PinStanding {
        phone.card.wallet().token(self.issuer.token).unwrap().pin_standing(phone.now)
    }
}

#[test]
fn a_right_pin_pays_and_a_wrong_one_only_the_issuer_notices() {
    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin("2580");
    let asked = platform.tap(&mut phone, 100);
    assert_eq!((asked.cryptogram_information, asked.verification), (0x00, 0xFF));
    assert!(matches!(
        phone.notifications.last(),
        Some(Notification::PersonNeeded { ask: Ask::EnterPin, .. })
            | Some(Notification::ReplenishSoon { .. })
    ));
    platform.enter(&mut phone, "2580");
    let paid = platform.tap(&mut phone, 100);
    assert_eq!((paid.cryptogram_information, paid.verification), (0x80, 0x03));
    assert_eq!(paid.data.results.method, VerificationMethod::Pin);
    assert_eq!(paid.data.results.key_class, KeyClass::Verified);
    assert!(paid.is_right);
    // There are keys enough: the person has nothing to do about it that her PIN waits for confirmation.
    let token = platform.issuer.token;
    assert_eq!(phone.notifications.last(), Some(&Notification::PinUnconfirmed { token }));
    assert!(!phone.notifications.contains(&Notification::ReplenishSoon { token }));
    platform.enter(&mut phone, "2581");
    let wrong = platform.tap(&mut phone, 100);
    assert_eq!(
        (wrong.cryptogram_information, wrong.verification, wrong.data.results),
        (paid.cryptogram_information, paid.verification, paid.data.results),
        "the phone behaves as it does for the right one"
    );
    assert!(!wrong.is_right);
}

#[test]
fn a_pin_is_good_for_one_payment_and_one_minute() {
    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin("2580");
    assert!(platform.pays_with(&mut phone, "2580"));
    assert_eq!(platform.tap(&mut phone, 100).cryptogram_information, 0x00, "it served once");
    for (seconds, pays) in [(59, true), (60, false), (-1, false), (3_600, false)] {
        platform.replenish(&mut phone);
        let before = phone.now;
        platform.enter(&mut phone, "2580");
        phone.now = before.plus_seconds(seconds);
        assert_eq!(platform.tap(&mut phone, 100).cryptogram_information == 0x80, pays, "{seconds}");
        phone.now = before;
    }
    platform.enter(&mut phone, "2580");
    phone.restart();
    assert_eq!(platform.standing(&phone), PinStanding::Set, "a restart forgets it");
    platform.enter(&mut phone, "2580");
    phone.card.wallet_mut().forget_pins();
    assert_eq!(platform.standing(&phone), PinStanding::Set);
}

/// In the store that is on the disk before the reply (the phone here insists on that order), the used
/// block is gone, and so is every one of an earlier counter, whatever class paid.
#[test]
fn a_used_counter_takes_its_blocks_along_before_the_reply() {
    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin("2580");
    let stored = |phone: &Phone| {
        let wallet = serde_json::to_value(phone.stored()).unwrap();
        let row = &wallet["tokens"][0]["verified"][0];
        (row["first_counter"].as_u64().unwrap(), row["blocks"].as_array().unwrap().clone())
    };
    let (_, blocks) = stored(&phone);
    for (counter, enter) in [(1, true), (2, false), (3, true)] {
        if enter {
            platform.enter(&mut phone, "2580");
        }
        let used = blocks[counter - 1].as_str().unwrap().to_owned();
        let _ = platform.tap(&mut phone, 100);
        let (first, left) = stored(&phone);
        assert_eq!((first, left.len()), (counter as u64 + 1, blocks.len() - counter));
        assert!(!serde_json::to_string(&phone.stored()).unwrap().contains(&used));
    }
}

#[test]
fn both_sides_agree_whatever_is_lost_while_a_pin_changes() {
    #[derive(Debug, Clone, Copy)]
    enum Lost {
        Nothing,
        Request,
        Answer,
        AnswerThenReplenished,
        AnswerThenRefused,
    }
    for lost in [
        Lost::Nothing,
        Lost::Request,
        Lost::Answer,
        Lost::AnswerThenReplenished,
        Lost::AnswerThenRefused,
    ] {
        let mut platform = Platform::new();
        let (token, mut phone) = (platform.issuer.token, platform.phone_with_pin("2580"));
        let request = platform.begin(&mut phone, "1379", Some("2580")).unwrap();
        phone.restart();
        assert!(platform.pays_with(&mut phone, "2580"), "until it is confirmed, the old one pays");
        assert_eq!(platform.begin(&mut phone, "9713", Some("2580")), Err(SetPinError::Unconfirmed));
        let answer = match lost {
            Lost::Request => None,
            _ => Some(platform.set(&request).unwrap()),
        };
        phone.restart();
        match (lost, answer) {
            (Lost::Nothing, Some(status)) => {
                phone.card.wallet_mut().pin_answered(token, status).unwrap();
            }
            (Lost::AnswerThenReplenished, _) => platform.replenish(&mut phone),
            (Lost::AnswerThenRefused, _) => {
                let status = platform.status();
                phone.card.wallet_mut().pin_refused(token, status).unwrap();
            }
            _ => {
                let again = phone.card.wallet().pin_request(token).unwrap();
                assert_eq!(again, request, "the same request, byte for byte");
                let status = platform.set(&again).unwrap();
                phone.card.wallet_mut().pin_answered(token, status).unwrap();
            }
        }
        assert_eq!(phone.card.wallet().pin_request(token), None, "{lost:?}");
        platform.replenish(&mut phone);
        phone.restart();
        assert!(platform.pays_with(&mut phone, "1379"), "{lost:?}");
        assert!(!platform.pays_with(&mut phone, "2580"), "{lost:?}");
        assert_eq!(platform.status().generation, 2, "{lost:?}");
    }
}

#[test]
fn a_new_pin_ends_the_keys_under_the_old_one() {
    let mut platform = Platform::new();
    let (token, mut phone) = (platform.issuer.token, platform.phone_with_pin("2580"));
    let left = |phone: &Phone| {
        phone.card.wallet().token(token).unwrap().readiness(now()).verified_payments_left
    };
    assert_eq!(left(&phone), u32::from(BLOCKS));
    let request = platform.begin(&mut phone, "1379", Some("2580")).unwrap();
    let status = platform.set(&request).unwrap();
    phone.card.wallet_mut().pin_answered(token, status).unwrap();
    assert_eq!(left(&phone), 0);
    let readiness = phone.card.wallet().token(token).unwrap().readiness(now());
    assert!(readiness.wants_replenishment);
}

/// A replenishment is asked for, the PIN changes, and only then its payload arrives: what it says of the
/// PIN is older than what the phone knows.
#[test]
fn an_answer_that_was_overtaken_leaves_the_new_pin_alone() {
    let mut platform = Platform::new();
    let (token, mut phone) = (platform.issuer.token, platform.phone_with_pin("2580"));
    let wallet = phone.card.wallet_mut();
    let late = wallet.replenish_request(token, &mut TestRng(77));
    let late = platform.payload(&late, now());
    let old_status = platform.status();
    let request = platform.begin(&mut phone, "1379", Some("2580")).unwrap();
    let status = platform.set(&request).unwrap();
    phone.card.wallet_mut().pin_answered(token, status).unwrap();

    let wallet = phone.card.wallet_mut();
    let sealed = seal(wallet, token, &late);
    let _snapshot = wallet.accept(token, &sealed, now()).unwrap();
    let _snapshot = wallet.pin_answered(token, old_status).unwrap();
    assert_eq!(phone.card.wallet().token(token).unwrap().pin_status().copied(), Some(status));
    let readiness = phone.card.wallet().token(token).unwrap().readiness(now());
    assert_eq!(readiness.verified_payments_left, 0, "keys under the old PIN are not taken");
    platform.replenish(&mut phone);
    assert!(platform.pays_with(&mut phone, "1379"));
    assert!(platform.begin(&mut phone, "2468", Some("1379")).is_ok(), "no reset is needed");
}

#[test]
fn a_change_needs_the_old_pin_and_a_wrong_one_costs_a_try() {
    let mut platform = Platform::new();
    let (token, mut phone) = (platform.issuer.token, platform.phone_with_pin("2580"));
    assert_eq!(platform.begin(&mut phone, "1379", None), Err(SetPinError::OldPinNeeded));
    let request = platform.begin(&mut phone, "1379", Some("2581")).unwrap();
    let status = platform.set(&request).unwrap_err();
    assert_eq!(status.tries_left, TRIES - 1);
    phone.card.wallet_mut().pin_refused(token, status).unwrap();
    let shown = phone.card.wallet().token(token).unwrap().pin_status().copied();
    assert_eq!(shown, Some(status), "the person can be told how many tries are left");
    assert!(platform.pays_with(&mut phone, "2580"), "the old one stays");
    for easy in ["0000", "1234"] {
        let refused = platform.begin(&mut phone, easy, Some("2580"));
        assert_eq!(refused, Err(SetPinError::Choice(PinChoiceError::Easy)));
    }
}

/// One slip in the old PIN must not be sent again and again in the background until the PIN is blocked,
/// whatever the refusal came with.
#[test]
fn a_slip_in_the_old_pin_costs_one_try() {
    let mut platform = Platform::new();
    let (token, mut phone) = (platform.issuer.token, platform.phone_with_pin("2580"));
    platform.begin(&mut phone, "1379", Some("2581")).unwrap();
    for _ in 0..5 {
        let Some(request) = phone.card.wallet().pin_request(token) else { break };
        let status = platform.set(&request).unwrap_err();
        let snapshot = phone.card.wallet_mut().pin_answered(token, status).unwrap();
        phone.disk = snapshot.seal(&crate::phone::store_key(), &mut phone.rng).unwrap();
        phone.restart();
    }
    assert_eq!(platform.tries_left, TRIES - 1);
    assert!(platform.pays_with(&mut phone, "2580"), "the old one stays");
    let request = platform.begin(&mut phone, "1379", Some("2580")).unwrap();
    let status = platform.set(&request).unwrap();
    phone.card.wallet_mut().pin_answered(token, status).unwrap();
    platform.replenish(&mut phone);
    assert!(platform.pays_with(&mut phone, "1379"));
}

#[test]
fn a_blocked_pin_pays_nothing_until_the_issuer_resets() {
    let mut platform = Platform::new();
    let (token, mut phone) = (platform.issuer.token, platform.phone_with_pin("2580"));
    platform.tries_left = 0;
    platform.replenish(&mut phone);
    assert_eq!(platform.standing(&phone), PinStanding::Blocked);
    let entered = phone.card.wallet_mut().enter_pin(token, &pin("2580"), now());
    assert_eq!(entered, Err(EnterPinError::Blocked));
    assert_eq!(platform.tap(&mut phone, 100).cryptogram_information, 0x00);
    platform.reset_granted = true;
    platform.replenish(&mut phone);
    assert_eq!(platform.standing(&phone), PinStanding::NotSet, "choose a new one");
    let request = platform.begin(&mut phone, "1379", None).unwrap();
    let status = platform.set(&request).unwrap();
    phone.card.wallet_mut().pin_answered(token, status).unwrap();
    platform.replenish(&mut phone);
    assert!(platform.pays_with(&mut phone, "1379"));
}

#[test]
fn a_phone_that_lost_its_person_key_asks_for_a_reset() {
    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin("2580");
    platform.person_key = Some((7, [9; 16]));
    platform.replenish(&mut phone);
    assert_eq!(platform.standing(&phone), PinStanding::NotSet);
    assert_eq!(platform.begin(&mut phone, "1379", None), Err(SetPinError::ResetNeeded));
}

#[test]
fn single_use_keys_of_class_01_pay_in_the_place_of_limited_use_keys() {
    let mut platform = Platform::new();
    let (token, mut wallet) = (platform.issuer.token, Wallet::new(&mut TestRng(1)));
    let request = wallet.replenish_request(token, &mut TestRng(2));
    let payload = ProvisioningPayload {
        limited_use_keys: Vec::new(),
        single_use_keys: vec![platform.row(KeyClass::Unverified, 40, 0, now())],
        ..platform.issuer.payload(&request, now())
    };
    wallet.accept(token, &seal(&wallet, token, &payload), now()).unwrap();
    let mut phone = Phone::with(wallet);
    for counter in 1..=BLOCKS {
        let readiness = phone.card.wallet().token(token).unwrap().readiness(now());
        assert_eq!(readiness.payments_left, u32::from(BLOCKS - counter + 1));
        assert_eq!(readiness.wants_replenishment, readiness.payments_left <= 2);
        let tap = platform.tap(&mut phone, 100);
        assert_eq!((tap.counter, tap.data.results.key_class), (counter, KeyClass::Unverified));
    }
    let kernel = Kernel::new(&platform.issuer, phone.now, 1);
    assert!(kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).is_err());
    platform.replenish(&mut phone);
}

/// Keys that ran out of time mean that the phone lay idle, or in other hands.
#[test]
fn after_expired_keys_the_person_is_asked_first() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    phone.now = now().plus_seconds(7 * 3_600);
    issuer.provision(phone.card.wallet_mut(), phone.now);
    let tap = |phone: &mut Phone| {
        let kernel = Kernel::new(&issuer, phone.now, u64::from(phone.counter()) + 100);
        kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap()
    };
    assert_eq!(tap(&mut phone).cryptogram_information, 0x00);
    phone.device = DeviceState { unlocked: true, ..phone.device };
    let paid = tap(&mut phone);
    assert_eq!(paid.data.results.method, VerificationMethod::DeviceUnlock);
    phone.device = DeviceState { unlocked: false, ..phone.device };
    assert_eq!(tap(&mut phone).cryptogram_information, 0x80, "once is enough");
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    type Change = fn(&mut ProvisioningPayload);
    let changes: [(Change, KeyGrantError); 8] = [
        (|p| p.pin = None, KeyGrantError::NoPersonKey),
        (|p| p.verified_keys[0].first_counter = 0, KeyGrantError::Counter),
        (|p| p.verified_keys[0].first_counter = u16::MAX, KeyGrantError::Counter),
        (|p| p.verified_keys[0].blocks.clear(), KeyGrantError::Useless),
        (|p| p.verified_keys[0].blocks[0] = HexSecret::new(vec![1; 15]), KeyGrantError::Length),
        (|p| p.verified_keys[0].expires_at = now().plus_seconds(-1), KeyGrantError::Useless),
        (
            |p| p.verified_keys[0].key_index = p.limited_use_keys[0].key_index.clone(),
            KeyGrantError::Conflict,
        ),
        // One index in two classes, neither known before.
        (
            |p| {
                let twice = &p.verified_keys[0];
                p.single_use_keys.push(SingleUseKeys {
                    key_index: twice.key_index.clone(),
                    expires_at: twice.expires_at,
                    first_counter: twice.first_counter,
                    blocks: vec![HexSecret::new(vec![1; 16])],
                });
            },
            KeyGrantError::Conflict,
        ),
    ];
    for (change, error) in changes {
        let mut platform = Platform::new();
        let (token, mut phone) = (platform.issuer.token, platform.phone_with_pin("2580"));
        let wallet = phone.card.wallet_mut();
        let request = wallet.replenish_request(token, &mut TestRng(5));
        let mut payload = platform.payload(&request, now());
        change(&mut payload);
        let sealed = seal(wallet, token, &payload);
        let refused = wallet.accept(token, &sealed, now()).map(|_| ());
        assert_eq!(refused, Err(AcceptError::Keys(error)));
    }
}

/// The keys under the PIN are used up, and the payment needs nobody: that the PIN was entered is no reason
/// to refuse it. One that needs the PIN is refused.
#[test]
fn a_pin_that_nobody_asked_for_does_not_end_a_payment_for_want_of_its_keys() {
    let mut platform = Platform::new();
    let (token, mut phone) = (platform.issuer.token, platform.phone_with_pin("2580"));
    for (up_to_limit, pays) in [(Requirement::ScreenOn, true), (Requirement::AppPin, false)] {
        let request = phone.card.wallet_mut().replenish_request(token, &mut TestRng(1));
        let mut payload = platform.payload(&request, phone.now);
        payload.verified_keys.clear();
        platform.issuer.set_policy(&mut payload, |policy| policy.up_to_limit = up_to_limit);
        let sealed = seal(phone.card.wallet(), token, &payload);
        phone.card.wallet_mut().accept(token, &sealed, phone.now).unwrap();
        platform.enter(&mut phone, "2580");
        let kernel = Kernel::new(&platform.issuer, phone.now, 5);
        let tap = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command));
        assert_eq!(tap.is_ok(), pays, "{tap:?}");
        if let Ok(tap) = tap {
            assert_eq!(tap.data.results.method, VerificationMethod::None);
            assert_eq!(
                (tap.cryptogram_information, tap.data.results.key_class),
                (0x80, KeyClass::Unverified)
            );
            assert!(tap.is_right);
        }
    }
    assert_eq!(phone.notifications.last(), Some(&Notification::NoPinKeysLeft { token }));
}

#[test]
fn each_token_has_a_pin_of_its_own() {
    let mut first = Platform::new();
    let mut second = Platform::of(Issuer::of_token(2));
    let mut phone = first.phone_with_pin("2580");
    second.enrol(&mut phone, "1379");
    let choose = |phone: &mut Phone, platform: &Platform| {
        phone.card.wallet_mut().set_default_token(platform.issuer.token).unwrap();
    };
    // Entered for the one card, it opens nothing of the other.
    first.enter(&mut phone, "2580");
    choose(&mut phone, &second);
    assert_eq!(
        (first.standing(&phone), second.standing(&phone)),
        (PinStanding::Entered, PinStanding::Set)
    );
    assert_eq!(second.tap(&mut phone, 100).cryptogram_information, 0x00);
    assert!(!second.pays_with(&mut phone, "2580"), "the other card's PIN");
    assert!(second.pays_with(&mut phone, "1379"));
    // A new one for the second leaves the first as it was, keys and all.
    second.set_pin(&mut phone, "9713", Some("1379"));
    assert!(second.pays_with(&mut phone, "9713"));
    choose(&mut phone, &first);
    assert!(first.pays_with(&mut phone, "2580"));
}
