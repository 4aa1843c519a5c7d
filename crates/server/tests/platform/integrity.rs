//! How a phone stands, and what follows: attested by its hardware, or told by the issuer's service.

use serde_json::{Value, json};

use tapfer_payment_types::messages::attestation_challenge;

use crate::maker::{Maker, Statement, leaf};
use crate::phone::{Phone, hex};
use crate::shop::Shop;

/// Known by hardware, or no more than 10.00; a phone that failed pays nothing.
fn policy(maker: &Maker) -> Value {
    json!({
        "least": "trusted_environment", "below": { "lower_limit": 1_000 }, "failed": "refuse",
        "maximum_age_seconds": 3_600,
        "key_attestation": {
            "roots": [hex(&maker.root_key())], "package": "org.example.wallet",
            "signature_digests": [hex(&[0xD1; 32])], "oldest_patch_level": 202_601
        }
    })
}

fn shop_with(policy: &Value) -> Shop {
    let shop = Shop::open();
    let path = format!("/v1/issuers/{}/integrity-policy", shop.issuer_id);
    shop.issuer.put(&path, policy).expect(200);
    assert_eq!(shop.issuer.get(&path).expect(200)["maximum_age_seconds"], 3_600);
    shop
}

fn of_device(shop: &Shop, what: &str) -> String {
    format!("/v1/devices/{}/integrity{what}", shop.device_id)
}

fn challenge(shop: &Shop) -> String {
    let asked = shop.device.post(&of_device(shop, "/challenges"), &json!({})).expect(201);
    asked["challenge"].as_str().unwrap().to_owned()
}

/// What the app of the phone with this key asks its hardware to attest.
fn covered(challenge: &str, public_key: &str) -> Vec<u8> {
    let bytes = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    attestation_challenge(&bytes(challenge).try_into().unwrap(), &bytes(public_key))
}

/// The request of a phone of this maker with this key, that answers `challenge` with what `change` makes of a
/// good statement.
fn attestation(
    maker: &Maker,
    public_key: &str,
    challenge: &str,
    change: impl FnOnce(&mut Statement),
) -> Value {
    let challenged = covered(challenge, public_key);
    let mut statement = Statement { challenge: challenged, ..Statement::default() };
    change(&mut statement);
    let chain: Vec<String> = maker.chain(&leaf(&statement)).iter().map(|one| hex(one)).collect();
    json!({ "challenge": challenge, "chain": chain })
}

fn attest(shop: &Shop, maker: &Maker, change: impl FnOnce(&mut Statement)) -> Value {
    let request = attestation(maker, &shop.phone.public_key(), &challenge(shop), change);
    shop.device.post(&of_device(shop, "/attestations"), &request).expect(201)
}

#[test]
fn a_phone_that_attests_pays_more_than_one_that_does_not() {
    let maker = Maker::new();
    let mut shop = shop_with(&policy(&maker));
    assert_eq!(shop.device.get(&of_device(&shop, "")).problem(404), "not_found");
    assert_eq!(shop.pay(1_001)["reason"], "device_integrity");
    assert_eq!(shop.pay(1_000)["outcome"], "approved");
    assert_eq!(attest(&shop, &maker, |_| {})["standing"], "trusted_environment");
    assert_eq!(shop.pay(1_001)["outcome"], "approved");
    shop.platform.clock.advance_seconds(3_601);
    assert_eq!(shop.pay(1_001)["reason"], "device_integrity");
    assert_eq!(attest(&shop, &maker, |good| good.level = 2)["standing"], "strongbox");
    assert_eq!(shop.pay(1_001)["outcome"], "approved");
}

#[test]
fn a_phone_that_fails_pays_nothing_and_gets_no_keys() {
    let maker = Maker::new();
    let mut shop = shop_with(&policy(&maker));
    let cases: [fn(&mut Statement); 4] = [
        |statement| statement.locked = false,
        |statement| statement.boot = 1,
        |statement| statement.origin = 2,
        |statement| statement.root_of_trust_in_hardware_list = false,
    ];
    for change in cases {
        assert_eq!(attest(&shop, &maker, change)["standing"], "failed");
        assert_eq!(shop.pay(1)["reason"], "device_integrity");
    }
    let path = format!("/v1/tokens/{}/replenish", shop.token);
    let request = shop.phone.replenish_request(shop.token.parse().unwrap());
    assert_eq!(shop.device.post(&path, &request).problem(409), "conflict");
    let software = attest(&shop, &maker, |statement| statement.level = 0);
    assert_eq!(software["standing"], "failed", "the operating system's word lifts no failure");
    assert_eq!(shop.pay(1)["reason"], "device_integrity");
    assert_eq!(attest(&shop, &maker, |_| {})["standing"], "trusted_environment");
    assert_eq!(shop.pay(1)["outcome"], "approved");
}

#[test]
fn another_app_or_another_signer_is_a_failure() {
    let maker = Maker::new();
    for (field, value) in [
        ("package", json!("org.example.other")),
        ("signature_digests", json!([hex(&[0xD2; 32])])),
        ("oldest_patch_level", json!(202_606)),
    ] {
        let mut policy = policy(&maker);
        policy["key_attestation"][field] = value;
        let shop = shop_with(&policy);
        assert_eq!(attest(&shop, &maker, |_| {})["standing"], "failed", "{field}");
    }
}

/// Software's word of how the phone was started is worth nothing; which app it names, it is asked for.
#[test]
fn software_answers_for_the_app_it_names() {
    let maker = Maker::new();
    let by_software = |shop: &Shop| attest(shop, &maker, |statement| statement.level = 0);
    let shop = shop_with(&policy(&maker));
    assert_eq!(by_software(&shop)["standing"], "software");
    for (field, value) in
        [("package", json!("org.example.other")), ("signature_digests", json!([hex(&[0xD2; 32])]))]
    {
        let mut policy = policy(&maker);
        policy["key_attestation"][field] = value;
        assert_eq!(by_software(&shop_with(&policy))["standing"], "failed", "{field}");
    }
}

/// A failed phone is good again for its issuer, too, if the issuer's own service says so.
#[test]
fn the_issuer_lifts_a_failure() {
    let maker = Maker::new();
    let mut shop = shop_with(&policy(&maker));
    assert_eq!(attest(&shop, &maker, |statement| statement.locked = false)["standing"], "failed");
    let lifted = json!({ "standing": "software", "reason": "repaired, seen at the counter" });
    shop.issuer.post(&of_device(&shop, "/verdicts"), &lifted).expect(201);
    assert_eq!(shop.pay(1_000)["outcome"], "approved");
}

#[test]
fn what_is_not_genuine_changes_nothing() {
    let (maker, forger) = (Maker::new(), Maker::new());
    let mut shop = shop_with(&policy(&maker));
    attest(&shop, &maker, |_| {});
    let path = of_device(&shop, "/attestations");
    let forged = attestation(&forger, &shop.phone.public_key(), &challenge(&shop), |_| {});
    assert_eq!(shop.device.post(&path, &forged).problem(422), "invalid_request");
    assert_eq!(
        shop.device.get(&of_device(&shop, "")).expect(200)["standing"],
        "trusted_environment"
    );
    assert_eq!(shop.pay(1_001)["outcome"], "approved");
}

/// An answer recorded on an honest phone is no answer for another question, and none a second time.
#[test]
fn an_attestation_answers_one_question_once() {
    let maker = Maker::new();
    let shop = shop_with(&policy(&maker));
    let path = of_device(&shop, "/attestations");
    let first = challenge(&shop);
    let request = attestation(&maker, &shop.phone.public_key(), &first, |_| {});
    shop.device.post(&path, &request).expect(201);
    assert_eq!(shop.device.post(&path, &request).problem(409), "conflict");
    let second = challenge(&shop);
    let mut renamed = request;
    renamed["challenge"] = json!(second);
    assert_eq!(shop.device.post(&path, &renamed).problem(422), "invalid_request");
    let late = attestation(&maker, &shop.phone.public_key(), &second, |_| {});
    shop.platform.clock.advance_seconds(601);
    assert_eq!(shop.device.post(&path, &late).problem(409), "conflict");
}

/// The owner of a changed phone has the platform's question attested by another one that is clean and runs the
/// genuine app. That app makes its own phone's key part of the question.
#[test]
fn attack_attestation_lent_by_another_phone() {
    let maker = Maker::new();
    let mut shop = shop_with(&policy(&maker));
    let (path, clean) = (of_device(&shop, "/attestations"), Phone::new().public_key());
    let lent = attestation(&maker, &clean, &challenge(&shop), |_| {});
    assert_eq!(shop.device.post(&path, &lent).problem(422), "invalid_request");
    // Nor does the question alone say which phone it is about.
    let question = challenge(&shop);
    let bare = data_encoding::HEXLOWER.decode(question.as_bytes()).unwrap();
    let own = shop.phone.public_key();
    let bare = attestation(&maker, &own, &question, |statement| statement.challenge = bare);
    assert_eq!(shop.device.post(&path, &bare).problem(422), "invalid_request");
    assert_eq!(shop.device.get(&of_device(&shop, "")).problem(404), "not_found");
    assert_eq!(shop.pay(1_001)["reason"], "device_integrity");
    assert_eq!(attest(&shop, &maker, |_| {})["standing"], "trusted_environment");
}

/// Without the app's name and signers, any app on any phone could answer for it.
#[test]
fn a_policy_with_roots_names_the_app() {
    let maker = Maker::new();
    let shop = Shop::open();
    let path = format!("/v1/issuers/{}/integrity-policy", shop.issuer_id);
    for (field, value) in [
        ("package", json!("")),
        ("signature_digests", json!([])),
        ("signature_digests", json!(["d1d1"])),
    ] {
        let mut policy = policy(&maker);
        policy["key_attestation"][field] = value;
        let refused = shop.issuer.put(&path, &policy);
        assert_eq!(refused.problem(422), "invalid_request", "{field}");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("key_attestation.package"), "{detail}");
    }
    shop.issuer.put(&path, &policy(&maker)).expect(200);
}

#[test]
fn the_issuer_s_service_may_judge_and_the_phone_may_not() {
    let maker = Maker::new();
    let mut shop = shop_with(&policy(&maker));
    let path = of_device(&shop, "/verdicts");
    let good = json!({ "standing": "trusted_environment", "reason": "play_integrity" });
    assert_eq!(shop.device.post(&path, &good).problem(403), "forbidden");
    shop.issuer.post(&path, &good).expect(201);
    assert_eq!(shop.pay(1_001)["outcome"], "approved");
    let bad = json!({ "standing": "failed", "reason": "play_integrity: MEETS_NOTHING" });
    shop.issuer.post(&path, &bad).expect(201);
    assert_eq!(shop.pay(1)["reason"], "device_integrity");
}

#[test]
fn an_issuer_without_roots_accepts_no_attestation() {
    let maker = Maker::new();
    let mut policy = policy(&maker);
    policy["key_attestation"]["roots"] = json!([]);
    let shop = shop_with(&policy);
    let request = attestation(&maker, &shop.phone.public_key(), &challenge(&shop), |_| {});
    let refused = shop.device.post(&of_device(&shop, "/attestations"), &request);
    assert_eq!(refused.problem(409), "conflict");
    let path = format!("/v1/issuers/{}/integrity-policy", shop.issuer_id);
    policy["maximum_age_seconds"] = json!(0);
    assert_eq!(shop.issuer.put(&path, &policy).problem(422), "invalid_request");
    assert_eq!(shop.device.put(&path, &policy).problem(403), "forbidden");
}
