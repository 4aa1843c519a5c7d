//! What a phone is given: a profile whose certificates hold, keys that are its own, nothing for copies.

use std::collections::BTreeSet;

use tapfer_emv::certificate::{IccCertificate, IssuerCertificate};
use tapfer_emv::tags;
use tapfer_emv::tlv;

use serde_json::json;
use tapfer_wallet::Notification;

use crate::liar::{Liar, Tap};
use crate::phone::{authority, hex};
use crate::shop::{Shop, issuer_request};

#[test]
fn a_terminal_that_trusts_the_platform_trusts_the_phone() {
    let shop = Shop::open();
    let trust = shop.terminal.get("/v1/trust").expect(200);
    let ca = authority(&trust);
    let liar = Liar::enrol(&shop);
    let payload = liar.payload.as_ref().unwrap();
    let profile = liar.profile();
    let clear = profile.records.iter().find(|record| !record.encrypted).unwrap();
    let issuer = tlv::find(&clear.value, tags::ISSUER_CERTIFICATE).unwrap().unwrap();
    assert_eq!(trust["issuers"][0]["certificate"], hex(issuer));
    let issuer = IssuerCertificate::parse(issuer).unwrap();
    issuer.verify(&ca, shop.now()).unwrap();
    let icc = IccCertificate::parse(&payload.icc_certificate.0).unwrap();
    icc.verify(&issuer.public_key, &profile.sda_hash(), shop.now()).unwrap();
    assert_eq!(hex(icc.public_key.bytes()), liar.icc_public_key());
    assert!(
        icc.expires_at() <= shop.now().plus_seconds(86_400 + 60),
        "it lives as long as the policy says"
    );
    assert!(issuer.matches_pan("9999220000000000"));
}

#[test]
fn every_key_is_another() {
    let shop = Shop::open();
    let mut liar = Liar::enrol(&shop);
    let mut indices = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for _ in 0..3 {
        let payload = liar.payload.as_ref().unwrap();
        assert_eq!(payload.limited_use_keys.len(), 2);
        for grant in &payload.limited_use_keys {
            assert!(indices.insert(grant.key_index.clone()), "{}", grant.key_index);
            assert!(keys.insert(grant.key.expose().to_vec()));
            assert_eq!((grant.maximum_payments, grant.maximum_total_minor), (4, 20_000));
        }
        liar.replenish();
    }
}

#[test]
fn an_old_copy_of_a_phone_gets_nothing() {
    let mut shop = Shop::open();
    assert_eq!(shop.pay(100)["outcome"], "approved");
    let path = format!("/v1/tokens/{}/replenish", shop.token);
    let mut request = shop.phone.replenish_request(shop.token.parse().unwrap());
    request["application_transaction_counter"] = serde_json::json!(0);
    let refused = shop.device.post(&path, &request);
    assert_eq!(refused.problem(409), "store_rolled_back");
}

#[test]
fn keys_that_are_no_points_are_refused() {
    let shop = Shop::open();
    let path = format!("/v1/tokens/{}/replenish", shop.token);
    for key in ["", "00", &format!("{:064x}", 1), &"ff".repeat(32)] {
        let request = serde_json::json!({
            "icc_public_key": key, "application_transaction_counter": 0
        });
        assert_eq!(shop.device.post(&path, &request).problem(422), "invalid_request", "{key}");
    }
    let flat = format!("04{}", "00".repeat(64));
    for key in ["", "04", flat.as_str(), &"05".repeat(65)] {
        let request = serde_json::json!({
            "issuer": shop.issuer_id, "label": "x", "public_key": key
        });
        assert_eq!(shop.issuer.post("/v1/devices", &request).problem(422), "invalid_request");
    }
}

/// A phone whose keys were fetched again and again pays with those of the last two replenishments only.
#[test]
fn replenishing_buys_no_more_than_two_sets_of_keys() {
    let shop = Shop::open();
    let mut liar = Liar::enrol(&shop);
    let first = liar.payload.take();
    liar.replenish();
    let second = liar.payload.take();
    liar.replenish();
    let last = liar.payload.take();
    let tap = Tap::new(100, shop.now());
    for (payload, reason) in [(first, "key_expired"), (second, "approved"), (last, "approved")] {
        liar.payload = payload;
        assert_eq!(shop.pay_with_lie(&mut liar, &tap)["reason"], reason);
    }
}

/// Numbers of an hour are for a hundred keys. A phone that renews what it did not use is not made to wait for the
/// next hour: the numbers of the last day are there for it.
#[test]
fn a_day_has_so_many_keys() {
    let mut issuer = issuer_request();
    issuer["key_policy"]["keys_per_replenishment"] = json!(50);
    let shop = Shop::open_for(&issuer);
    let mut liar = Liar::enrol(&shop);
    for _ in 1..50 {
        liar.replenish();
        assert_eq!(liar.payload.as_ref().unwrap().limited_use_keys.len(), 50);
    }
    let tap = Tap::new(100, shop.now());
    assert_eq!(shop.pay_with_lie(&mut liar, &tap)["outcome"], "approved");
    assert_eq!(liar.ask_for_keys().problem(409), "conflict");
    shop.platform.clock.advance_seconds(3_600);
    liar.replenish();
    let tap = Tap::new(100, shop.now());
    assert_eq!(shop.pay_with_lie(&mut liar, &tap)["outcome"], "approved");
}

/// An issuer whose phones get a key for each payment, and none from which others could be derived.
fn shop_with_single_use_keys() -> Shop {
    let mut issuer = issuer_request();
    issuer["key_policy"]["single_use"] = json!(true);
    Shop::open_for(&issuer)
}

#[test]
fn single_use_keys_pay_once_each() {
    let mut shop = shop_with_single_use_keys();
    let liar = Liar::enrol(&shop);
    let payload = liar.payload.as_ref().unwrap();
    assert!(payload.limited_use_keys.is_empty());
    // Two keys of four payments each would have been good for as many.
    assert_eq!(payload.single_use_keys.iter().map(|row| row.blocks.len()).sum::<usize>(), 8);
    for round in 0..2 {
        for payment in 0..8 {
            assert_eq!(shop.pay(100)["reason"], "approved", "{round}, {payment}");
        }
        shop.tap_in_vain(100);
        let is_empty = |news: &Notification| matches!(news, Notification::NoKeysLeft { .. });
        assert!(shop.phone.news.iter().any(is_empty), "{:?}", shop.phone.news);
        shop.platform.clock.advance_seconds(60);
        shop.replenish();
    }
    assert_eq!(shop.account(), (8_400, 8_400));
}

#[test]
fn a_single_use_key_is_not_taken_twice() {
    let mut shop = shop_with_single_use_keys();
    let mut copy = shop.phone.copy();
    // What was paid with once is a replay anywhere else.
    let intent = shop.armed_intent(100);
    let chip_data = shop.tap(&intent, 100);
    assert_eq!(shop.authorize(&intent, &chip_data).expect(201)["reason"], "approved");
    let other = shop.armed_intent(100);
    assert_eq!(shop.authorize(&other, &chip_data).expect(201)["reason"], "replay");
    // The rest of the row is still good, and skips nothing.
    assert_eq!(shop.pay(100)["reason"], "approved");
    // Who copied the phone before has the same keys, and makes other cryptograms with them.
    let intent = shop.armed_intent(200);
    let now = shop.now();
    let chip_data = shop.till.tap(&mut copy, &intent, 200, now);
    assert_eq!(shop.authorize(&intent, &chip_data).expect(201)["reason"], "counter_reused");
    assert_eq!(shop.pay(100)["reason"], "token_suspended", "there are two of this phone");
}

/// Keys for counters that the phone had not come to are replaced, not piled up.
#[test]
fn replenishing_replaces_single_use_keys_that_were_left() {
    let mut shop = shop_with_single_use_keys();
    let mut before = shop.phone.copy();
    for _ in 0..3 {
        assert_eq!(shop.pay(100)["reason"], "approved");
        shop.platform.clock.advance_seconds(60);
        shop.replenish();
    }
    // Counter 4 has a key of the first row as well, which has ended.
    for _ in 0..3 {
        let (intent, now) = (shop.intent(100), shop.now());
        shop.till.tap(&mut before, &intent, 100, now);
    }
    let (intent, now) = (shop.armed_intent(100), shop.now());
    let chip_data = shop.till.tap(&mut before, &intent, 100, now);
    assert_eq!(shop.authorize(&intent, &chip_data).expect(201)["reason"], "key_expired");
}
