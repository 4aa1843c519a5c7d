//! Terminals that prove whose they are: certified, renewed, revoked, and what the platform makes of the
//! proof that a phone signs.

use serde_json::{Value, json};
use tapfer_emv::merchant::{
    MerchantCaKey, MerchantCertificate, MerchantCertificateError, MerchantPrivateKey,
    MerchantSigner as _,
};
use tapfer_payment_types::messages::{HexBytes, terminal_key_possession};
use tapfer_payment_types::{TerminalId, Timestamp};

use crate::liar::{Liar, Tap};
use crate::phone::{hex, unhex};
use crate::running::{Client, Reply};
use crate::shop::{Shop, reason};

/// A terminal with a key of its own.
pub(crate) struct Certifiable {
    pub(crate) id: TerminalId,
    pub(crate) client: Client,
    pub(crate) key: MerchantPrivateKey,
}

impl Certifiable {
    pub(crate) fn of(shop: &Shop) -> Self {
        let id = shop.terminal_id.parse().unwrap();
        Self { id, client: shop.terminal.clone(), key: key(1) }
    }

    /// Another terminal of the same merchant.
    fn another(shop: &Shop) -> Self {
        let request = json!({ "merchant": shop.merchant_id, "label": "till 2" });
        let made = shop.merchant.post("/v1/terminals", &request).expect(201);
        let client = shop.platform.operator.with_key(&made["api_key"]);
        Self { id: made["id"].as_str().unwrap().parse().unwrap(), client, key: key(2) }
    }

    fn request(&self) -> Value {
        let public_key = self.key.public_key().bytes();
        let possession = self.key.sign(&terminal_key_possession(self.id, &public_key)).unwrap();
        json!({ "public_key": hex(&public_key), "possession": hex(&possession) })
    }

    fn ask(&self, request: &Value) -> Reply {
        self.client.post(&format!("/v1/terminals/{}/certificate", self.id), request)
    }

    pub(crate) fn certify(&self) -> MerchantCertificate {
        let answer = self.ask(&self.request()).expect(201);
        MerchantCertificate::parse(&unhex(&answer["certificate"])).unwrap()
    }
}

pub(crate) fn key(number: u8) -> MerchantPrivateKey {
    MerchantPrivateKey::from_bytes(&[number; 32]).unwrap()
}

/// The merchant CA as `/v1/trust` publishes it.
fn published(shop: &Shop) -> MerchantCaKey {
    let trust = shop.terminal.get("/v1/trust").expect(200);
    let bytes = unhex(&trust["merchant_authorities"][0]);
    MerchantCaKey::from_bytes(&bytes.try_into().unwrap()).unwrap()
}

#[track_caller]
fn declined(decision: &Value, reason: &str) {
    assert_eq!((&decision["outcome"], &decision["reason"]), (&json!("declined"), &json!(reason)));
}

/// From the terminal's key to the authorization that says so, and to what phones are told.
#[test]
fn a_proven_payment_is_approved_and_recorded() {
    let shop = Shop::open();
    let terminal = Certifiable::of(&shop);
    let certificate = terminal.certify();
    assert!(certificate.verify(&published(&shop), shop.now()).is_ok());
    let shown = shop.terminal.get(&format!("/v1/terminals/{}", terminal.id)).expect(200);
    assert_eq!(shown["terminal_identification"].as_str().unwrap().as_bytes(), certificate.terminal);
    let merchant = shop.merchant.get(&format!("/v1/merchants/{}", shop.merchant_id)).expect(200);
    assert_eq!(merchant["name_on_tills"], certificate.name.as_str());

    let mut liar = Liar::enrol(&shop);
    let trust = liar.told().merchant_trust;
    assert_eq!(trust.authorities, [HexBytes(published(&shop).bytes().to_vec())]);
    assert!(trust.revoked_serials.is_empty());
    let proven = Tap { merchant: Some(certificate.identity()), ..Tap::new(700, shop.now()) };
    let decision = shop.pay_with_lie(&mut liar, &proven);
    assert_eq!(
        (&decision["outcome"], &decision["merchant_proven"]),
        (&json!("approved"), &json!(true))
    );
    // A terminal of another make proves nothing and is served; the record tells the two apart.
    let decision = shop.pay_with_lie(&mut liar, &Tap::new(700, shop.now()));
    assert_eq!(
        (&decision["outcome"], &decision["merchant_proven"]),
        (&json!("approved"), &json!(false))
    );
}

/// Where the policy demands the proof, a terminal that could have proven itself and did not is not paid, whatever
/// phone or terminal say.
#[test]
fn a_policy_that_demands_the_proof_gets_it() {
    let shop = Shop::open();
    let identity = Certifiable::of(&shop).certify().identity();
    let path = format!("/v1/issuers/{}/policy", shop.issuer_id);
    let mut liar = Liar::enrol(&shop);
    let mut pay = |rule: &str, amount, merchant| {
        let policy = json!({
            "name": "proof", "currency": "EUR", "limit": 2_500,
            "up_to_limit": "screen_on", "above_limit": "screen_on", "merchant_proof": rule
        });
        shop.issuer.put(&path, &policy).expect(200);
        shop.platform.clock.advance_seconds(60);
        liar.replenish();
        let tap = Tap { merchant, ..Tap::new(amount, shop.now()) };
        shop.pay_with_lie(&mut liar, &tap)["reason"].clone()
    };
    assert_eq!(pay("if_offered", 2_501, None), "approved");
    assert_eq!(pay("above_limit", 100, None), "approved");
    assert_eq!(pay("above_limit", 2_501, None), "merchant_proof_required");
    assert_eq!(pay("above_limit", 2_501, Some(identity)), "approved");
    assert_eq!(pay("always", 1, None), "merchant_proof_required");
    assert_eq!(pay("always", 1, Some(identity)), "approved");
}

/// A tap that a phone meant for one terminal is worth nothing at another, armed or not: neither with a
/// certificate that was borrowed nor with a recorded tap that nobody sent in.
#[test]
fn attack_terminal_with_another_merchants_certificate() {
    let shop = Shop::open();
    let (own, other) = (Certifiable::of(&shop).certify(), Certifiable::another(&shop).certify());
    assert_ne!(own.identity(), other.identity());
    let mut liar = Liar::enrol(&shop);
    let borrowed = Tap { merchant: Some(other.identity()), ..Tap::new(700, shop.now()) };
    let decision = shop.pay_with_lie(&mut liar, &borrowed);
    declined(&decision, "merchant_mismatch");
    assert_eq!(decision["merchant_proven"], false);
    let abroad = Tap { country: [0x08, 0x40], ..Tap::new(700, shop.now()) };
    declined(&shop.pay_with_lie(&mut liar, &abroad), "merchant_mismatch");
    assert_eq!(shop.account(), (10_000, 10_000));
}

#[test]
fn attack_revoked_terminal() {
    let shop = Shop::open();
    let terminal = Certifiable::of(&shop);
    let (first, second) = (terminal.certify(), terminal.certify());
    let intent = shop.armed_intent(700);
    let mut liar = Liar::enrol(&shop);
    let chip_data =
        liar.tap(&Tap { merchant: Some(first.identity()), ..Tap::new(700, shop.now()) });

    let path = format!("/v1/terminals/{}/revoke", terminal.id);
    for client in [&shop.terminal, &shop.issuer, &shop.device] {
        assert_eq!(client.post(&path, &reason("no")).problem(403), "forbidden");
    }
    let revoked = shop.merchant.post(&path, &reason("stolen")).expect(200);
    assert_eq!(revoked["revocation_reason"], "stolen");
    assert!(revoked["revoked_at"].is_string());

    // Its API key opens nothing, and nobody makes it another one, arms it, or certifies it.
    assert_eq!(shop.authorize(&intent, &chip_data).problem(401), "unauthenticated");
    assert_eq!(terminal.ask(&terminal.request()).problem(401), "unauthenticated");
    let owner = json!({ "owner": terminal.id });
    assert_eq!(shop.merchant.post("/v1/api-keys", &owner).problem(409), "conflict");
    let arm = format!("/v1/payment-intents/{intent}/arm");
    let at = json!({ "terminal": terminal.id });
    assert_eq!(shop.merchant.post(&arm, &at).problem(409), "conflict");
    let shown = shop.merchant.get(&format!("/v1/payment-intents/{intent}")).expect(200);
    assert_eq!(shown["status"], "requires_payment_method");

    // Phones hear of it with their next keys, until the certificates have ended by themselves.
    let mut told = |shop: &Shop| {
        shop.platform.clock.advance_seconds(60);
        liar.replenish();
        liar.told().merchant_trust.revoked_serials
    };
    let mut serials = told(&shop);
    serials.sort_by(|one, other| one.0.cmp(&other.0));
    let mut expected = [first.serial.to_vec(), second.serial.to_vec()].map(HexBytes);
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(serials, expected);
    shop.platform.clock.advance_seconds(86_400);
    assert!(told(&shop).is_empty());
    // The operator may as well, and once is for good.
    let again = shop.platform.operator.post(&path, &reason("again")).expect(200);
    assert_eq!(again["revocation_reason"], "stolen");
}

#[test]
fn attack_expired_terminal() {
    let shop = Shop::open();
    let terminal = Certifiable::of(&shop);
    let certificate = terminal.certify();
    let day: Timestamp = shop.now().plus_seconds(86_400);
    assert!(certificate.expires_at() >= day && certificate.expires_at() < day.plus_seconds(60));
    let ca = published(&shop);
    let last = certificate.expires_at().plus_millis(-1);
    assert!(certificate.verify(&ca, last).is_ok());
    let ended = certificate.verify(&ca, certificate.expires_at()).map(|_| ());
    assert_eq!(ended, Err(MerchantCertificateError::Expired));

    // The next one overlaps it.
    shop.platform.clock.advance_seconds(60_000);
    let next = terminal.certify();
    assert_ne!(next.serial, certificate.serial);
    assert!(certificate.verify(&ca, shop.now()).is_ok());
    terminal.certify();
    terminal.certify();
    let path = format!("/v1/terminals/{}/certificates", terminal.id);
    let listed = shop.merchant.get(&format!("{path}?limit=3")).expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
    let rest = format!("{path}?cursor={}", listed["next_cursor"].as_str().unwrap());
    assert_eq!(shop.terminal.get(&rest).expect(200)["data"][0]["serial"], hex(&certificate.serial));
}

/// Somebody with a terminal's API key asks for certificates until there are no more. The terminal's own next one
/// takes the place of the oldest, and phones are told of that; nothing else is pushed away.
#[test]
fn a_terminal_gets_its_next_certificate_whoever_asked_before() {
    let shop = Shop::open();
    let terminal = Certifiable::of(&shop);
    let first = terminal.certify();
    let thief = Certifiable { key: key(7), client: terminal.client.clone(), id: terminal.id };
    for _ in 0..3 {
        shop.platform.clock.advance_seconds(1);
        thief.certify();
    }
    let mut liar = Liar::enrol(&shop);
    assert!(liar.told().merchant_trust.revoked_serials.is_empty());
    let next = terminal.certify();
    shop.platform.clock.advance_seconds(60);
    liar.replenish();
    let trust = liar.told().merchant_trust;
    assert_eq!(trust.revoked_serials, [HexBytes(first.serial.to_vec())]);
    assert!(!trust.has_revoked(next.serial));
    // Phones can be told of so many, and then it ends.
    for _ in 5..16 {
        thief.certify();
    }
    assert_eq!(terminal.ask(&terminal.request()).problem(409), "conflict");
}

#[test]
fn only_a_terminal_that_holds_the_key_is_certified() {
    let shop = Shop::open();
    let (terminal, other) = (Certifiable::of(&shop), Certifiable::another(&shop));
    let good = terminal.request();
    let with = |field: &str, value: Value| {
        let mut request = good.clone();
        request[field] = value;
        request
    };
    let stranger = hex(&key(3).public_key().bytes());
    let bad = [
        with("public_key", json!(stranger)),
        with("public_key", json!("00".repeat(64))),
        with("public_key", json!("04")),
        with("possession", json!("00".repeat(64))),
        with("possession", json!("")),
        with("possession", other.request()["possession"].clone()),
        with("lifetime_seconds", json!(599)),
        with("lifetime_seconds", json!(604_801)),
    ];
    for request in bad {
        assert_eq!(terminal.ask(&request).problem(422), "invalid_request", "{request}");
    }
    // What shows that one terminal holds the key shows it for no other.
    assert_eq!(other.ask(&good).problem(422), "invalid_request");
    let path = format!("/v1/terminals/{}/certificate", terminal.id);
    assert_eq!(other.client.post(&path, &good).problem(404), "not_found");
    for client in [&shop.merchant, &shop.platform.operator, &shop.issuer, &shop.device] {
        assert_eq!(client.post(&path, &good).problem(403), "forbidden");
    }
    let week = terminal.ask(&with("lifetime_seconds", json!(604_800))).expect(201);
    let expires: Timestamp = week["expires_at"].as_str().unwrap().parse().unwrap();
    assert!(expires >= shop.now().plus_seconds(604_800));
}
