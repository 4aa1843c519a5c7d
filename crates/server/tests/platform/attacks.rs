//! Attacks on a tap, played through with the real phone, the real till and the real platform: a tap that is
//! sent in again, one that was taken in advance, one that comes from too far away, and one that is put
//! together from the parts of two brands. `docs/attacks.md` lists all attacks and where they are.

use std::convert::Infallible;
use std::time::Duration;

use rand_core::{TryCryptoRng, TryRng};
use serde_json::{Value, json};
use tapfer_emv::merchant::{AcquirerId, MerchantIdentity};
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_emv::tvr::{self, TerminalVerificationResults};
use tapfer_payment_types::{Currency, Money};
use tapfer_terminal::kernel8::KernelConfiguration;
use tapfer_terminal::{Arming, TapAction, TapEnd, Terminal, TerminalConfiguration};

use crate::liar::{Liar, Tap};
use crate::phone::{Till, hex};
use crate::running::Client;
use crate::shop::{Shop, id, reason};

const SELECT: u8 = 0xA4;
const EXCHANGE_RELAY_RESISTANCE_DATA: u8 = 0xEA;
/// Bit of `9F8209`, byte 1: the till makes the relay check.
const RELAY_CHECK: u8 = 0x10;
/// Byte 5 of `95`: times or threshold of the relay check exceeded.
const RELAY_FINDINGS: u8 = 0x0C;
/// Of another brand, of which the till has a CA key too.
const OTHER_RID: [u8; 5] = [0xA0, 0x00, 0x00, 0x00, 0x04];
const OTHER_AID: [u8; 8] = [0xA0, 0x00, 0x00, 0x00, 0x04, 0x10, 0x10, 0x01];

/// What a till draws: one value for its key, and the unpredictable number of four bytes.
struct Drawn {
    key: u8,
    number: u8,
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from(self.key))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from(self.key))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.fill(if out.len() == 4 { self.number } else { self.key });
        Ok(())
    }
}

/// Predictable, which is the point.
impl TryCryptoRng for Drawn {}

/// Arms a till and lets `card` answer it; gives the end and what the till sent.
fn meet(
    till: &TerminalConfiguration,
    (shop, intent, amount): (&Shop, &str, i64),
    mut drawn: Drawn,
    mut card: impl FnMut(&[u8]) -> (Vec<u8>, Duration),
) -> (TapEnd, Vec<Vec<u8>>) {
    let amount = Money::new(amount, Currency::EUR);
    let arming = Arming::new(intent.parse().unwrap(), amount, shop.now().plus_seconds(60)).unwrap();
    let mut tap = Terminal::new(till.clone()).arm(arming).unwrap().tap(shop.now()).unwrap();
    let mut sent = Vec::new();
    while let TapAction::Transmit(command) = tap.poll() {
        let command = command.encode().unwrap();
        let (answer, elapsed) = card(&command);
        sent.push(command);
        tap = tap.handle_response(&answer, elapsed, &mut drawn);
    }
    (tap.finish(), sent)
}

/// As [`meet`], with the shop's phone, and somebody in between who changes its answers.
fn meet_altered(
    shop: &mut Shop,
    till: &TerminalConfiguration,
    intent: &str,
    alter: impl Fn(&[u8], Vec<u8>) -> Vec<u8>,
) -> (TapEnd, Vec<Vec<u8>>) {
    let now = shop.now();
    let mut phone = shop.phone.copy();
    let end = meet(till, (shop, intent, 500), Drawn { key: 1, number: 1 }, |command| {
        (alter(command, phone.answer(command, now)), Duration::from_millis(5))
    });
    shop.phone = phone;
    end
}

fn kernel(till: &mut TerminalConfiguration) -> &mut KernelConfiguration {
    &mut till.applications[0].kernel
}

fn chip_data(end: &TapEnd) -> Option<Vec<u8>> {
    match end {
        TapEnd::Online(payment) => Some(payment.request().chip_data().to_vec()),
        TapEnd::AskPin(_) | TapEnd::Decided { .. } | TapEnd::Undecided { .. } => None,
    }
}

#[track_caller]
fn results(chip_data: &[u8]) -> TerminalVerificationResults {
    let value = tlv::find(chip_data, tags::TERMINAL_VERIFICATION_RESULTS).unwrap().unwrap();
    TerminalVerificationResults::from_bytes(value.try_into().unwrap())
}

/// What a till that declined by itself tells the merchant.
#[track_caller]
fn declined_by_the_till(end: TapEnd) -> TerminalVerificationResults {
    let TapEnd::Decided { outcome, .. } = end else { panic!("{end:?}") };
    assert!(outcome.declined_by.is_some(), "{outcome:?}");
    outcome.tvr.unwrap()
}

#[track_caller]
pub(crate) fn declined(decision: &Value, reason: &str) {
    assert_eq!((&decision["outcome"], &decision["reason"]), (&json!("declined"), &json!(reason)));
}

/// Puts another value where the first object of this tag stands, at any depth.
pub(crate) fn with_value(data: &[u8], tag: Tag, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for object in tlv::parse(data).unwrap() {
        if object.tag == tag {
            tlv::write(&mut out, tag, value);
        } else if object.tag.is_constructed() {
            tlv::write(&mut out, object.tag, &with_value(object.value, tag, value));
        } else {
            out.extend_from_slice(object.raw);
        }
    }
    out
}

/// An answer of the card with another value in it.
fn answer_with(mut answer: Vec<u8>, tag: Tag, value: &[u8]) -> Vec<u8> {
    let status = answer.split_off(answer.len() - 2);
    let mut changed = with_value(&answer, tag, value);
    changed.extend(status);
    changed
}

fn is_select_of(command: &[u8], name: &[u8]) -> bool {
    command[1] == SELECT && command[5..].starts_with(name)
}

/// A till of somebody else, with an armed payment of the same amount.
fn another_till(shop: &Shop, amount: i64) -> (Client, String) {
    let merchant = json!({ "name": "Kiosk", "country": "276", "category_code": "5994" });
    let merchant = shop.platform.operator.post("/v1/merchants", &merchant).expect(201);
    let client = shop.platform.operator.with_key(&merchant["api_key"]);
    let terminal = json!({ "merchant": merchant["id"], "label": "till" });
    let terminal = client.post("/v1/terminals", &terminal).expect(201);
    let intent = json!({ "amount": amount, "currency": "EUR", "reference": "paper" });
    let intent = id(&client.post("/v1/payment-intents", &intent).expect(201));
    let path = format!("/v1/payment-intents/{intent}/arm");
    client.post(&path, &json!({ "terminal": terminal["id"] })).expect(200);
    (shop.platform.operator.with_key(&terminal["api_key"]), intent)
}

/// A recorded tap pays once: not for the next payment, not elsewhere, not after the phone paid again.
#[test]
fn attack_replayed_cryptogram() {
    let mut shop = Shop::open();
    let first = shop.armed_intent(500);
    let recorded = shop.tap(&first, 500);
    assert_eq!(shop.authorize(&first, &recorded).expect(201)["outcome"], "approved");
    let (kiosk, at_kiosk) = another_till(&shop, 500);
    let request = json!({ "payment_intent": at_kiosk, "chip_data": recorded });
    declined(&kiosk.post("/v1/authorizations", &request).expect(201), "replay");
    for _ in 0..2 {
        let next = shop.armed_intent(500);
        declined(&shop.authorize(&next, &recorded).expect(201), "replay");
        assert_eq!(shop.pay(100)["outcome"], "approved");
    }
    assert_eq!(shop.account(), (9_300, 9_300));
}

/// A reader that guesses which number another till will draw takes the phone's answers in advance and plays
/// them there. They were made for the key of the reader, and the till draws a key as well.
#[test]
fn attack_pre_played_unpredictable_number() {
    let mut shop = Shop::open();
    let now = shop.now();
    let till = shop.till.0.clone();
    let intent = shop.armed_intent(500);
    let mut phone = shop.phone.copy();
    let mut recorded = Vec::new();
    let (end, _) = meet(&till, (&shop, &intent, 500), Drawn { key: 1, number: 7 }, |command| {
        recorded.push(phone.answer(command, now));
        (recorded.last().unwrap().clone(), Duration::from_millis(5))
    });
    let taken = chip_data(&end).expect("the phone pays");
    let play = |drawn| {
        let mut answers = recorded.iter().cloned();
        let card = |_: &[u8]| (answers.next().unwrap_or_else(|| vec![0x6F, 0x00]), Duration::ZERO);
        chip_data(&meet(&till, (&shop, &intent, 500), drawn, card).0)
    };
    // Who could guess both would have the tap itself: this is what the next lines are worth.
    assert_eq!(play(Drawn { key: 1, number: 7 }), Some(taken.clone()));
    assert_eq!(play(Drawn { key: 2, number: 7 }), None, "the number alone was guessed");
    assert_eq!(play(Drawn { key: 2, number: 8 }), None);
    // The till's own number in the place of the one that the phone signed.
    let forged = with_value(&taken, tags::UNPREDICTABLE_NUMBER, &[8; 4]);
    declined(&shop.authorize(&intent, &hex(&forged)).expect(201), "cryptogram_invalid");
    // And where the till proves itself, the tap says for which till it was taken.
    let mut liar = Liar::enrol(&shop);
    let elsewhere = MerchantIdentity::of(&AcquirerId::default(), b"M00000000000666", b"T0000666");
    let taken = Tap { merchant: Some(elsewhere), ..Tap::new(500, now) };
    declined(&shop.pay_with_lie(&mut liar, &taken), "merchant_mismatch");
    assert_eq!(shop.account(), (10_000, 10_000));
}

/// The phone is far away: its answers to the relay check take longer than phones need. A till that is told
/// to decline such cards does; one that is lenient, or was made so, tells the platform all the same.
#[test]
fn attack_relay_slower_than_the_window() {
    let mut shop = Shop::open();
    let now = shop.now();
    let mut strict = shop.till.0.clone();
    kernel(&mut strict).kernel_configuration[0] |= RELAY_CHECK;
    let mut lenient = strict.clone();
    kernel(&mut strict).terminal_action_code_denial[4] |= RELAY_FINDINGS;
    kernel(&mut lenient).terminal_action_code_denial[4] &= !RELAY_FINDINGS;
    let at = |shop: &mut Shop, till: &TerminalConfiguration, relay: Duration| {
        let intent = shop.armed_intent(500);
        let mut phone = shop.phone.copy();
        let drawn = Drawn { key: 3, number: 3 };
        let (end, sent) = meet(till, (shop, &intent, 500), drawn, |command| {
            let is_relay_check = command[1] == EXCHANGE_RELAY_RESISTANCE_DATA;
            let elapsed = if is_relay_check { relay } else { Duration::from_millis(5) };
            (phone.answer(command, now), elapsed)
        });
        phone.card.deselect();
        shop.phone = phone;
        let checks = sent.iter().filter(|sent| sent[1] == EXCHANGE_RELAY_RESISTANCE_DATA).count();
        (end, intent, checks)
    };
    let (near, intent, checks) = at(&mut shop, &strict, Duration::from_millis(10));
    let chip = chip_data(&near).expect("a phone at the till pays");
    assert!(results(&chip).contains(tvr::RELAY_RESISTANCE_PERFORMED));
    assert_eq!(checks, 1);
    assert_eq!(shop.authorize(&intent, &hex(&chip)).expect(201)["outcome"], "approved");

    let far = Duration::from_millis(60);
    let (end, intent, checks) = at(&mut shop, &strict, far);
    assert_eq!(checks, 3, "a slow answer is asked for again, twice");
    assert!(declined_by_the_till(end).contains(tvr::RELAY_TIME_LIMITS_EXCEEDED));
    let path = format!("/v1/payment-intents/{intent}/cancel");
    shop.merchant.post(&path, &json!({})).expect(200);

    let (end, intent, _) = at(&mut shop, &lenient, far);
    let chip = chip_data(&end).expect("a lenient till asks the platform");
    declined(&shop.authorize(&intent, &hex(&chip)).expect(201), "terminal_checks_failed");
    // Nobody on the way can take the finding out: the phone has signed it.
    let (end, intent, _) = at(&mut shop, &lenient, far);
    let chip = chip_data(&end).unwrap();
    let mut hidden = results(&chip);
    hidden.clear(tvr::RELAY_TIME_LIMITS_EXCEEDED);
    hidden.clear(tvr::RELAY_THRESHOLD_EXCEEDED);
    let hidden = with_value(&chip, tags::TERMINAL_VERIFICATION_RESULTS, &hidden.bytes());
    declined(&shop.authorize(&intent, &hex(&hidden)).expect(201), "cryptogram_invalid");
    assert_eq!(shop.account(), (9_500, 9_500));
}

/// The directory of the card names one brand, its application another, the certificates a third, or a
/// kernel that is not ours: the till takes none of it, and what only a till of another make would let
/// through, the platform does not.
#[test]
fn attack_card_brand_mix_up() {
    let mut shop = Shop::open();
    let till = shop.till.0.clone();
    let aid = kernel(&mut till.clone()).application_identifier.clone();
    let intent = shop.armed_intent(500);

    // The directory names another brand's application, or another kernel for ours: nothing is selected.
    for (tag, value) in [
        (tags::APPLICATION_IDENTIFIER_CARD, OTHER_AID.as_slice()),
        (tags::KERNEL_IDENTIFIER, &[0x02]),
        (tags::KERNEL_IDENTIFIER, &[0x03]),
        (tags::KERNEL_IDENTIFIER, &[0x88]),
    ] {
        let (end, sent) = meet_altered(&mut shop, &till, &intent, |command, answer| {
            match is_select_of(command, b"2PAY") {
                true => answer_with(answer, tag, value),
                false => answer,
            }
        });
        assert!(matches!(end, TapEnd::Undecided { error: Some(_), .. }), "{tag} {value:02X?}");
        assert_eq!(sent.len(), 1, "{tag} {value:02X?}: an application was selected");
    }

    // The application calls itself by the name of another brand, and the till trusts that brand's CA: the
    // certificates behind it are still ours.
    let mut two_brands = till.clone();
    let mut other = two_brands.ca_public_keys[0];
    other.rid = OTHER_RID;
    two_brands.ca_public_keys.push(other);
    let renamed = |name: &'static [u8]| {
        let aid = aid.clone();
        move |command: &[u8], answer: Vec<u8>| match is_select_of(command, &aid) {
            true => answer_with(answer, tags::DF_NAME, name),
            false => answer,
        }
    };
    for till in [&till, &two_brands] {
        let (end, _) = meet_altered(&mut shop, till, &intent, renamed(&OTHER_AID));
        let found = declined_by_the_till(end);
        assert!(found.contains(tvr::LOCAL_AUTHENTICATION_FAILED), "{found:?}");
        assert!(found.contains(tvr::AID_MISMATCH), "{found:?}");
        shop.phone.card.deselect();
    }

    // By another name of our own brand, whose certificates do fit: found, reported, and declined.
    const SIBLING: [u8; 8] = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x7F];
    assert_eq!(SIBLING[..5], aid[..5]);
    let (end, _) = meet_altered(&mut shop, &till, &intent, renamed(&SIBLING));
    shop.phone.card.deselect();
    let chip = chip_data(&end).expect("the till asks");
    assert!(results(&chip).contains(tvr::AID_MISMATCH));
    declined(&shop.authorize(&intent, &hex(&chip)).expect(201), "aid_mismatch");

    // A till of another make, which noticed nothing and says that it was another brand's application.
    let renamed = |chip: &[u8]| with_value(chip, tags::DF_NAME, &OTHER_AID);
    let added = |chip: &[u8]| {
        let other = tlv::encode(tags::APPLICATION_IDENTIFIER_TERMINAL, &OTHER_AID);
        [chip, other.as_slice()].concat()
    };
    for mixed_up in [&renamed as &dyn Fn(&[u8]) -> Vec<u8>, &added] {
        let intent = shop.armed_intent(500);
        let chip = data_encoding::HEXLOWER.decode(shop.tap(&intent, 500).as_bytes()).unwrap();
        declined(&shop.authorize(&intent, &hex(&mixed_up(&chip))).expect(201), "aid_mismatch");
    }
    assert_eq!(shop.account(), (10_000, 10_000));
}

/// A card with all its keys, whose issuer's certificate was taken out of use: the till declines it by itself.
#[test]
fn attack_revoked_issuer_certificate() {
    let mut shop = Shop::open();
    assert_eq!(shop.pay(500)["outcome"], "approved");
    let path = format!("/v1/issuers/{}/certificate/revoke", shop.issuer_id);
    for client in [&shop.issuer, &shop.merchant, &shop.terminal, &shop.device] {
        assert_eq!(client.post(&path, &reason("no")).problem(403), "forbidden");
    }
    let operator = shop.platform.operator.clone();
    let revoked = operator.post(&path, &reason("copied")).expect(200);
    assert_eq!(operator.post(&path, &reason("again")).expect(200), revoked);
    let trust = shop.terminal.get("/v1/trust").expect(200);
    assert_eq!(trust["revoked_certificates"], json!([revoked]));

    let intent = shop.armed_intent(500);
    let unaware = shop.till.0.clone();
    let (end, _) = meet_altered(&mut shop, &unaware, &intent, |_, answer| answer);
    assert!(chip_data(&end).is_some(), "a till that has not asked since");
    shop.phone.card.deselect();
    let till = Till::trusting(&trust).0;
    let (end, _) = meet_altered(&mut shop, &till, &intent, |_, answer| answer);
    let found = declined_by_the_till(end);
    assert!(found.contains(tvr::LOCAL_AUTHENTICATION_FAILED), "{found:?}");
    assert_eq!(shop.account(), (9_500, 9_500));
}

/// A tap from before the suspension, and one with the keys that are still on the phone: neither pays, and
/// no new keys come.
#[test]
fn attack_key_use_after_suspension() {
    let mut shop = Shop::open();
    let intent = shop.armed_intent(500);
    let held_back = shop.tap(&intent, 500);
    shop.change_token("suspend", "issuer").expect(200);
    declined(&shop.authorize(&intent, &held_back).expect(201), "token_suspended");
    declined(&shop.pay(500), "token_suspended");
    let request = shop.phone.replenish_request(shop.token.parse().unwrap());
    let path = format!("/v1/tokens/{}/replenish", shop.token);
    assert_eq!(shop.device.post(&path, &request).problem(409), "conflict");
    assert_eq!(shop.account(), (10_000, 10_000));
    // The tap that was declined pays for nothing when the token may pay again.
    shop.change_token("unsuspend", "issuer").expect(200);
    let next = shop.armed_intent(500);
    assert_eq!(shop.authorize(&next, &held_back).expect(201)["outcome"], "declined");
    assert_eq!(shop.pay(500)["outcome"], "approved");
}
