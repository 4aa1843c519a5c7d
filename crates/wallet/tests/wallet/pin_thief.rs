//! A thief who has the phone's store in clear, the app, and what he recorded: what he can do about the
//! PIN. The figures of `docs/threat-model.md` are these.

use std::collections::BTreeSet;

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::HEXLOWER;
use serde_json::Value;
use tapfer_emv::cryptogram::application_cryptogram;
use tapfer_emv::keys::SessionKey;
use tapfer_emv::person_key::{PersonKey, PinKey};
use tapfer_payment_types::Secret;
use tapfer_wallet::policy::PinStanding;

use crate::kernel::Tap;
use crate::persons::{BLOCKS, Platform, pin};
use crate::phone::Phone;

const PIN: &str = "2580";
const PINS: u32 = 10_000;

/// The store as the thief reads it, with everything that protects it taken away.
fn copy(phone: &Phone) -> Value {
    serde_json::to_value(phone.stored()).unwrap()
}

fn bytes(value: &Value) -> [u8; 16] {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap().try_into().unwrap()
}

/// The person's key that a PIN gives, by the thief's own program.
fn opened(kept: &Value, text: &str) -> PersonKey {
    let lock = &kept["lock"];
    let cost = |name: &str| u32::try_from(lock["hardness"][name].as_u64().unwrap()).unwrap();
    let params = Params::new(cost("memory_kib"), cost("passes"), cost("lanes"), Some(16)).unwrap();
    let mut key = [0; 16];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(text.as_bytes(), &bytes(&lock["salt"]), &mut key)
        .unwrap();
    PersonKey::from_under_pin(bytes(&lock["block"]), &PinKey::new(Secret::new(key)))
}

/// Every session key that a PIN gets out of a copy of the store.
fn session_keys(token: &Value, text: &str) -> Vec<SessionKey> {
    let person_key = opened(&token["pin"]["kept"], text);
    let rows = token["verified"].as_array().unwrap().iter();
    let blocks = rows.flat_map(|row| row["blocks"].as_array().unwrap());
    blocks.map(|block| person_key.open_session_key(bytes(block))).collect()
}

/// All PINs that explain one of the recorded cryptograms with what is in the copy.
fn pins_that_fit(store: &Value, recordings: &[Tap]) -> BTreeSet<String> {
    let token = &store["tokens"][0];
    let inputs: Vec<_> =
        recordings.iter().map(|tap| (tap.input.encode(), tap.cryptogram)).collect();
    let fits = |key: &SessionKey| {
        inputs.iter().any(|(input, cryptogram)| application_cryptogram(key, input) == *cryptogram)
    };
    let pins = (0..PINS).map(|number| format!("{number:04}"));
    pins.filter(|text| session_keys(token, text).iter().any(fits)).collect()
}

fn pay(platform: &Platform, phone: &mut Phone) -> Tap {
    platform.enter(phone, PIN);
    let tap = platform.tap(phone, 100);
    assert!(tap.is_right);
    tap
}

/// Attack: the store at a moment, and everything that was recorded up to it.
#[test]
fn attack_brute_forced_pin_offline() {
    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin(PIN);
    let mut recordings = vec![pay(&platform, &mut phone), pay(&platform, &mut phone)];
    platform.replenish(&mut phone);
    recordings.push(pay(&platform, &mut phone));
    let store = copy(&phone);
    assert_eq!(session_keys(&store["tokens"][0], PIN).len(), usize::from(BLOCKS) - 1);
    assert_eq!(pins_that_fit(&store, &recordings), BTreeSet::new());
}

/// No PIN opens the store better than another: each gives a key for every block, no two alike, and none
/// that stands anywhere else in the store.
#[test]
fn every_pin_opens_the_store_equally_well() {
    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin(PIN);
    let (store, token) = (copy(&phone), platform.issuer.token);
    let text = store.to_string();
    let mut all = BTreeSet::new();
    for number in 0..PINS {
        let guess = format!("{number:04}");
        let keys = session_keys(&store["tokens"][0], &guess);
        assert_eq!(keys.len(), usize::from(BLOCKS));
        for key in &keys {
            assert!(all.insert(*key.expose()), "{guess}: two PINs or counters give one key");
        }
        let now = phone.now;
        phone.card.wallet_mut().enter_pin(token, &pin(&guess), now).unwrap();
        let standing = phone.card.wallet().token(token).unwrap().pin_standing(now);
        assert_eq!(standing, PinStanding::Entered, "{guess}");
    }
    let known: BTreeSet<&str> = text.split('"').filter(|word| word.len() == 32).collect();
    assert!(known.len() > 8, "salt, block and session keys are there");
    assert!(!all.iter().any(|key| known.contains(HEXLOWER.encode(key).as_str())));
}

/// Whatever PIN was chosen, the stores differ in nothing but in bytes that look random: same shape, same
/// lengths, same numbers.
#[test]
fn the_shape_of_the_store_says_nothing_about_the_pin() {
    fn shape(value: &Value) -> Value {
        match value {
            Value::String(text) if HEXLOWER.decode(text.as_bytes()).is_ok() => text.len().into(),
            Value::Array(items) => items.iter().map(shape).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
            }
            other => other.clone(),
        }
    }
    let store = |text: &str| {
        let mut platform = Platform::new();
        let phone = platform.phone_with_pin(text);
        shape(&copy(&phone)["tokens"][0])
    };
    let first = store(PIN);
    for other in ["0852", "9713", "1243"] {
        assert_eq!(store(other), first);
    }
}

/// While a change is under way the store holds both keys and the request. The proof of the old key is
/// not among what can be read: it would test both PINs.
#[test]
fn a_change_under_way_leaves_nothing_to_test_a_pin_against() {
    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin(PIN);
    let request = platform.begin(&mut phone, "1379", Some(PIN)).unwrap();
    let store = copy(&phone);
    let state = &store["tokens"][0]["pin"];
    let old = opened(&state["kept"], PIN);
    let new = opened(&state["pending"]["kept"], "1379");
    let token = platform.issuer.token.to_string();
    let proof = HEXLOWER.encode(old.change_proof(&token, request.generation, &new).expose());
    let sent = serde_json::to_string(&request).unwrap();
    for readable in [store.to_string(), sent] {
        for secret in [old.expose(), new.expose()] {
            assert!(!readable.contains(&HEXLOWER.encode(secret)));
        }
        assert!(!readable.contains(&proof), "the proof can be read");
    }
    assert!(platform.set(&request).is_ok(), "and yet it was in there");
}

/// What remains: a copy from before a payment, and a recording of that payment. The payments that were
/// made with blocks of the copy tell the PIN; those made after the next replenishment do not.
#[test]
fn an_older_copy_and_a_later_recording_tell_the_pin_until_the_next_replenishment() {
    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin(PIN);
    let older = copy(&phone);
    let during = pay(&platform, &mut phone);
    let right = BTreeSet::from([PIN.to_owned()]);
    assert_eq!(pins_that_fit(&older, &[during]), right, "the text says so, so it must be so");
    let wants = phone.card.wallet().token(platform.issuer.token).unwrap().readiness(phone.now);
    assert!(wants.wants_replenishment, "after each PIN the wallet asks for keys: that narrows it");
    platform.replenish(&mut phone);
    let after = [pay(&platform, &mut phone), pay(&platform, &mut phone)];
    assert_eq!(pins_that_fit(&older, &after), BTreeSet::new());
    assert_eq!(pins_that_fit(&copy(&phone), &after), BTreeSet::new());
}
