//! A ready world: an issuer, a card with money on a phone, a merchant with a terminal.

use serde_json::{Value, json};
use tapfer_payment_types::Timestamp;
use tapfer_server::clock::Clock;

use crate::liar::{Liar, Tap};
use crate::phone::{Phone, Till};
use crate::running::{Client, Platform, Reply};

pub(crate) struct Shop {
    pub(crate) platform: Platform,
    pub(crate) issuer: Client,
    pub(crate) issuer_id: String,
    pub(crate) card: String,
    pub(crate) device: Client,
    pub(crate) device_id: String,
    pub(crate) token: String,
    pub(crate) merchant: Client,
    pub(crate) merchant_id: String,
    pub(crate) terminal: Client,
    pub(crate) terminal_id: String,
    pub(crate) phone: Phone,
    pub(crate) till: Till,
}

pub(crate) fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

pub(crate) fn issuer_request() -> Value {
    json!({
        "name": "Campus Karte", "country": "276", "currency": "EUR",
        "pan_prefix": "999911", "token_prefix": "999922",
        "key_policy": {
            "maximum_payments": 4, "maximum_total_minor": 20_000,
            "lifetime_seconds": 86_400, "keys_per_replenishment": 2
        }
    })
}

pub(crate) fn reason(text: &str) -> Value {
    json!({ "reason": text })
}

pub(crate) fn by(actor: &str) -> Value {
    json!({ "actor": actor, "reason": "test" })
}

/// A card with so much money on it, minor units.
fn new_card(issuer: &Client, issuer_id: &str, balance: i64) -> String {
    let card = json!({ "issuer": issuer_id, "expiry": "2031-12", "holder_reference": "7" });
    let card = id(&issuer.post("/v1/cards", &card).expect(201));
    let top_up = json!({ "amount": balance, "currency": "EUR", "reference": "cash desk" });
    issuer.post(&format!("/v1/cards/{card}/top-ups"), &top_up).expect(201);
    card
}

impl Shop {
    /// 100.00 EUR on the card; the token is active and has its first keys.
    pub(crate) fn open() -> Self {
        Self::open_at(Platform::start(), &issuer_request())
    }

    /// As [`Shop::open`], with this issuer.
    pub(crate) fn open_for(issuer: &Value) -> Self {
        Self::open_at(Platform::start(), issuer)
    }

    /// As [`Shop::open`], on this platform.
    pub(crate) fn open_at(platform: Platform, issuer: &Value) -> Self {
        let operator = platform.operator.clone();
        let issuer_id = id(&operator.post("/v1/issuers", issuer).expect(201));
        let key = operator.post(&format!("/v1/issuers/{issuer_id}/api-keys"), &json!({}));
        let issuer = operator.with_key(&key.expect(201)["api_key"]);
        let card = new_card(&issuer, &issuer_id, 10_000);

        let phone = Phone::new();
        let device = json!({
            "issuer": issuer_id, "label": "Ada's phone", "public_key": phone.public_key()
        });
        let device_answer = issuer.post("/v1/devices", &device).expect(201);
        let token = json!({ "card": card, "device": device_answer["id"] });
        let token = id(&issuer.post("/v1/tokens", &token).expect(201));

        let merchant = json!({ "name": "Mensa", "country": "276", "category_code": "5814" });
        let merchant_answer = operator.post("/v1/merchants", &merchant).expect(201);
        let merchant = operator.with_key(&merchant_answer["api_key"]);
        let terminal = json!({ "merchant": merchant_answer["id"], "label": "till 1" });
        let terminal_answer = merchant.post("/v1/terminals", &terminal).expect(201);

        let mut shop = Self {
            device: operator.with_key(&device_answer["api_key"]),
            device_id: id(&device_answer),
            terminal: operator.with_key(&terminal_answer["api_key"]),
            terminal_id: id(&terminal_answer),
            merchant_id: id(&merchant_answer),
            platform,
            issuer,
            issuer_id,
            card,
            token,
            merchant,
            phone,
            till: Till::trusting(&operator.get("/v1/trust").expect(200)),
        };
        shop.change_token("activate", "issuer").expect(200);
        shop.replenish();
        shop
    }

    /// Another phone, for another card with so much money on it; from now on it is the one that pays.
    pub(crate) fn take_another_phone(&mut self, balance: i64) {
        self.phone = Phone::new();
        let key = self.phone.public_key();
        let device = json!({ "issuer": self.issuer_id, "label": "another", "public_key": key });
        let device = self.issuer.post("/v1/devices", &device).expect(201);
        self.device = self.issuer.with_key(&device["api_key"]);
        self.device_id = id(&device);
        self.take_another_card(balance);
    }

    /// Another card on the same phone, with so much money on it; from now on it is the one that pays.
    pub(crate) fn take_another_card(&mut self, balance: i64) {
        self.card = new_card(&self.issuer, &self.issuer_id, balance);
        let token = json!({ "card": self.card, "device": self.device_id });
        self.token = id(&self.issuer.post("/v1/tokens", &token).expect(201));
        self.change_token("activate", "issuer").expect(200);
        self.replenish();
        self.choose(&self.token.clone());
    }

    /// The person chooses with which of the phone's cards she pays.
    pub(crate) fn choose(&mut self, token: &str) {
        token.clone_into(&mut self.token);
        self.phone.wallet().set_default_token(token.parse().unwrap()).unwrap();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.platform.clock.now()
    }

    pub(crate) fn replenish(&mut self) {
        let path = format!("/v1/tokens/{}/replenish", self.token);
        let token = self.token.parse().unwrap();
        let request = self.phone.replenish_request(token);
        let answer = self.device.post(&path, &request).expect(200);
        self.phone.accept(token, &answer, self.now());
    }

    pub(crate) fn change_token(&self, verb: &str, actor: &str) -> Reply {
        self.issuer.post(&format!("/v1/tokens/{}/{verb}", self.token), &by(actor))
    }

    pub(crate) fn intent(&self, amount: i64) -> String {
        let intent = json!({ "amount": amount, "currency": "EUR", "reference": "table 7" });
        id(&self.merchant.post("/v1/payment-intents", &intent).expect(201))
    }

    pub(crate) fn arm(&self, intent: &str) {
        let path = format!("/v1/payment-intents/{intent}/arm");
        let armed = self.merchant.post(&path, &json!({ "terminal": self.terminal_id }));
        assert_eq!(armed.expect(200)["status"], "requires_action");
    }

    pub(crate) fn armed_intent(&self, amount: i64) -> String {
        let intent = self.intent(amount);
        self.arm(&intent);
        intent
    }

    pub(crate) fn authorize(&self, intent: &str, chip_data: &str) -> Reply {
        let request = json!({ "payment_intent": intent, "chip_data": chip_data });
        self.terminal.post("/v1/authorizations", &request)
    }

    /// Holds the phone to the till; gives the chip data.
    pub(crate) fn tap(&mut self, intent: &str, amount: i64) -> String {
        let now = self.now();
        self.till.tap(&mut self.phone, intent, amount, now)
    }

    /// Arms, and holds a phone to the till that does not pay; the intent is over then.
    pub(crate) fn tap_in_vain(&mut self, amount: i64) {
        let intent = self.armed_intent(amount);
        let now = self.now();
        assert_eq!(self.till.try_tap(&mut self.phone, &intent, amount, now), None);
        let path = format!("/v1/payment-intents/{intent}");
        assert_eq!(self.merchant.get(&path).expect(200)["status"], "requires_action");
        self.merchant.post(&format!("{path}/cancel"), &json!({})).expect(200);
    }

    /// Arms, taps, asks; gives the decision.
    pub(crate) fn pay(&mut self, amount: i64) -> Value {
        let intent = self.armed_intent(amount);
        let chip_data = self.tap(&intent, amount);
        self.authorize(&intent, &chip_data).expect(201)
    }

    /// As [`Shop::pay`], with what a liar has signed.
    pub(crate) fn pay_with_lie(&self, liar: &mut Liar, tap: &Tap) -> Value {
        let intent = self.armed_intent(tap.amount);
        self.authorize(&intent, &liar.tap(tap)).expect(201)
    }

    pub(crate) fn account(&self) -> (i64, i64) {
        let card = self.issuer.get(&format!("/v1/cards/{}", self.card)).expect(200);
        (card["balance"].as_i64().unwrap(), card["available"].as_i64().unwrap())
    }
}
