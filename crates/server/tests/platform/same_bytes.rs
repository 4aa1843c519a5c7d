//! What the phone believes, what the till shows and what the platform books are the same bytes: somebody
//! changes amount, currency or merchant at each place where they pass, and the payment ends.
//!
//! The phone's owner has unlocked it and lets it pay whatever it shows: no case may end only because she was
//! asked. Nor only because her issuer demands the merchant's proof: it ends as well where the proof is taken if it
//! is offered.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::merchant::MerchantCertificate;
use tapfer_emv::profile::{CDOL1, PDOL};
use tapfer_emv::tags;
use tapfer_emv::tlv::Tag;
use tapfer_payment_types::{Currency, Money};
use tapfer_terminal::kernel8::KernelConfiguration;
use tapfer_terminal::{
    Arming, HostDecision, MerchantCredential, OnlinePayment, TapAction, TapEnd, Terminal,
    TerminalConfiguration, WithoutProof,
};
use tapfer_wallet::{Effect, Notification};

use crate::attacks::{declined, with_value};
use crate::merchants::{Certifiable, key};
use crate::phone::{hex, random};
use crate::running::Client;
use crate::shop::{Shop, id};

const ASKED: Money = Money::new(1_234, Currency::EUR);
/// 12.35
const OTHER_AMOUNT: [u8; 6] = [0, 0, 0, 0, 0x12, 0x35];
/// USD
const OTHER_CURRENCY: [u8; 2] = [0x08, 0x40];
const OTHER_TERMINAL: &[u8] = b"00000666";
const PRESENT_MERCHANT_CREDENTIAL: u8 = 0x52;
const GET_PROCESSING_OPTIONS: u8 = 0xA8;
const GENERATE_AC: u8 = 0xAE;

/// A till with its certificate, and the kiosk of somebody else, with its own.
struct Scene {
    shop: Shop,
    till: TerminalConfiguration,
    kiosk: Kiosk,
}

struct Kiosk {
    terminal: Client,
    intent: String,
    credential: MerchantCredential,
}

fn credential(terminal: &Certifiable, number: u8) -> MerchantCredential {
    MerchantCredential {
        certificate: terminal.certify(),
        signer: Arc::new(key(number)),
        without_proof: WithoutProof::EndTap,
    }
}

impl Kiosk {
    /// Armed for the same amount as the till.
    fn open(shop: &Shop) -> Self {
        let operator = &shop.platform.operator;
        let merchant = json!({ "name": "Kiosk", "country": "276", "category_code": "5994" });
        let merchant = operator.post("/v1/merchants", &merchant).expect(201);
        let client = operator.with_key(&merchant["api_key"]);
        let made = json!({ "merchant": merchant["id"], "label": "till" });
        let made = client.post("/v1/terminals", &made).expect(201);
        let terminal = operator.with_key(&made["api_key"]);
        let number = made["id"].as_str().unwrap().parse().unwrap();
        let own = Certifiable { id: number, client: terminal.clone(), key: key(2) };
        let intent = json!({ "amount": ASKED.minor, "currency": "EUR", "reference": "paper" });
        let intent = id(&client.post("/v1/payment-intents", &intent).expect(201));
        let path = format!("/v1/payment-intents/{intent}/arm");
        client.post(&path, &json!({ "terminal": made["id"] })).expect(200);
        Self { terminal, intent, credential: credential(&own, 2) }
    }
}

/// What the phone told its owner, and whether it signed a payment.
#[derive(Default)]
struct Shown(Vec<Notification>);

impl Shown {
    /// Amount and merchant of the payment that the phone has signed.
    fn paid(&self) -> Option<(Money, Option<&str>)> {
        self.0.iter().find_map(|news| match news {
            Notification::PaymentSent { amount, merchant, .. } => {
                let name = merchant.as_ref().map(|merchant| merchant.name.as_str());
                Some((amount.money().unwrap(), name))
            }
            _ => None,
        })
    }
}

/// What somebody between reader and phone does to a command.
type Hand = Box<dyn Fn(&mut CommandApdu)>;

impl Scene {
    fn open(merchant_proof: &str) -> Self {
        let mut shop = Shop::open();
        let policy = json!({
            "name": "proof", "currency": "EUR", "limit": 2_500, "up_to_limit": "screen_on",
            "above_limit": "unlocked", "merchant_proof": merchant_proof
        });
        shop.issuer.put(&format!("/v1/issuers/{}/policy", shop.issuer_id), &policy).expect(200);
        shop.replenish();
        shop.phone.device.unlocked = true;
        let mut till = shop.till.0.clone();
        till.merchant = Some(credential(&Certifiable::of(&shop), 1));
        let kiosk = Kiosk::open(&shop);
        Self { shop, till, kiosk }
    }

    /// Holds the phone to a reader that is set up and armed like this, with a hand in between.
    fn tap(
        &mut self,
        reader: &TerminalConfiguration,
        intent: &str,
        amount: Money,
        hand: &Hand,
    ) -> (TapEnd, Shown) {
        let now = self.shop.now();
        let arming = Arming::new(intent.parse().unwrap(), amount, now.plus_seconds(60)).unwrap();
        let mut tap = Terminal::new(reader.clone()).arm(arming).unwrap().tap(now).unwrap();
        let mut shown = Shown::default();
        let phone = &mut self.shop.phone;
        while let TapAction::Transmit(command) = tap.poll() {
            let mut command = command.clone();
            hand(&mut command);
            let command = command.encode().unwrap();
            let effects = phone.card.handle(&command, now, &mut random(), &phone.device);
            let mut answer = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Reply(response) => answer = response.encode(),
                    Effect::Notify(news) => shown.0.push(news),
                    Effect::Persist(_) => {}
                }
            }
            tap = tap.handle_response(&answer, Duration::from_millis(5), &mut random());
        }
        phone.card.deselect();
        (tap.finish(), shown)
    }

    /// The till's own reader, armed as the platform armed it, with a hand between it and the phone.
    fn tap_through(&mut self, hand: Hand) -> (TapEnd, Shown) {
        let (intent, till) = (self.shop.armed_intent(ASKED.minor), self.till.clone());
        let ended = self.tap(&till, &intent, ASKED, &hand);
        self.give_up(&intent);
        ended
    }

    /// An honest tap, not sent in yet: the question.
    fn taken(&mut self, intent: &str) -> Box<OnlinePayment> {
        let till = self.till.clone();
        let (end, shown) = self.tap(&till, intent, ASKED, &untouched());
        assert_eq!(shown.paid(), Some((ASKED, Some("Mensa"))));
        online(end)
    }

    fn give_up(&self, intent: &str) {
        let path = format!("/v1/payment-intents/{intent}/cancel");
        self.shop.merchant.post(&path, &json!({})).expect(200);
    }

    #[track_caller]
    fn nobody_paid(&self, what: &str) {
        assert_eq!(self.shop.account(), (10_000, 10_000), "{what}");
    }
}

fn untouched() -> Hand {
    Box::new(|_| {})
}

#[track_caller]
fn online(end: TapEnd) -> Box<OnlinePayment> {
    match end {
        TapEnd::Online(payment) => payment,
        other => panic!("the phone does not pay: {other:?}"),
    }
}

/// Puts a value where `list` asks for this tag; the values are the last bytes of the command's data.
fn put(command: &mut CommandApdu, list: &[u8], tag: Tag, value: &[u8]) {
    let list = DataObjectList::parse(list).unwrap();
    let before = list.entries().iter().take_while(|entry| entry.tag != tag);
    let offset =
        command.data.len() - list.value_length() + before.map(|entry| entry.length).sum::<usize>();
    command.data[offset..offset + value.len()].copy_from_slice(value);
}

fn in_list(instruction: u8, list: &'static [u8], tag: Tag, value: &'static [u8]) -> Hand {
    Box::new(move |command| {
        if command.instruction == instruction {
            put(command, list, tag, value);
        }
    })
}

/// The values of `DF51` are zeros: as if the terminal proved nothing.
fn without_proof(hand: Hand) -> Hand {
    Box::new(move |command| {
        hand(command);
        if command.instruction == GET_PROCESSING_OPTIONS {
            put(command, &PDOL, tags::MERCHANT_PROOF, &[0; 64]);
        }
    })
}

fn in_certificate(alter: impl Fn(&mut MerchantCertificate) + 'static) -> Hand {
    Box::new(move |command| {
        if command.instruction == PRESENT_MERCHANT_CREDENTIAL {
            let mut certificate = MerchantCertificate::parse(&command.data).unwrap();
            alter(&mut certificate);
            command.data = certificate.encode();
        }
    })
}

/// Between reader and phone: the phone signs no payment.
fn on_the_way(kiosk: &MerchantCertificate) -> Vec<(&'static str, Hand)> {
    let options = |tag, value| in_list(GET_PROCESSING_OPTIONS, &PDOL, tag, value);
    let cryptogram = |tag, value| in_list(GENERATE_AC, &CDOL1, tag, value);
    let (amount, currency) = (tags::AMOUNT_AUTHORIZED, tags::TRANSACTION_CURRENCY_CODE);
    let name = kiosk.name.clone();
    let (merchant, whole) = (kiosk.merchant, kiosk.clone());
    vec![
        ("amount, GPO", options(amount, &OTHER_AMOUNT)),
        ("currency, GPO", options(currency, &OTHER_CURRENCY)),
        ("merchant, GPO", options(tags::TERMINAL_IDENTIFICATION, OTHER_TERMINAL)),
        ("amount, GPO without proof", without_proof(options(amount, &OTHER_AMOUNT))),
        ("merchant, GPO without proof", without_proof(untouched())),
        ("name in the certificate", in_certificate(move |own| own.name = name.clone())),
        ("merchant in the certificate", in_certificate(move |own| own.merchant = merchant)),
        ("another certificate", in_certificate(move |own| *own = whole.clone())),
        (
            "no certificate at all",
            Box::new(|command| {
                if command.instruction == PRESENT_MERCHANT_CREDENTIAL {
                    command.data.clear();
                }
            }),
        ),
        ("amount, GENERATE AC", cryptogram(amount, &OTHER_AMOUNT)),
        ("currency, GENERATE AC", cryptogram(currency, &OTHER_CURRENCY)),
        ("country, GENERATE AC", cryptogram(tags::TERMINAL_COUNTRY_CODE, &OTHER_CURRENCY)),
    ]
}

/// A reader that asks for something else than the till ordered: the phone shows what it is asked for, and
/// the platform compares.
fn a_reader_that_asks_for_something_else(scene: &mut Scene) {
    let mut abroad = scene.till.clone();
    let usd: Currency = "USD".parse().unwrap();
    let aid = abroad.applications[0].kernel.application_identifier.clone();
    let limit = Money::new(2_500, usd);
    let application = KernelConfiguration::attended(&aid, 276, limit).unwrap();
    let fresh = TerminalConfiguration::new([application], usd, abroad.ca_public_keys.clone());
    abroad.applications = fresh.applications;
    let mut other_merchant = scene.till.clone();
    other_merchant.merchant = Some(scene.kiosk.credential.clone());
    let own = scene.till.clone();
    for (reader, amount, name, reason) in [
        (&own, Money::new(1_235, Currency::EUR), "Mensa", "amount_mismatch"),
        (&own, Money::new(123_400, Currency::EUR), "Mensa", "amount_mismatch"),
        (&own, Money::new(1, Currency::EUR), "Mensa", "amount_mismatch"),
        (&abroad, Money::new(ASKED.minor, usd), "Mensa", "currency_mismatch"),
        (&other_merchant, ASKED, "Kiosk", "merchant_mismatch"),
    ] {
        let intent = scene.shop.armed_intent(ASKED.minor);
        let (end, shown) = scene.tap(reader, &intent, amount, &untouched());
        if amount.minor == 123_400 {
            // More than any key of the phone is good for.
            assert!(shown.paid().is_none() && !matches!(end, TapEnd::Online(_)));
        } else {
            assert_eq!(shown.paid(), Some((amount, Some(name))), "{reason}");
            let chip_data = hex(online(end).request().chip_data());
            declined(&scene.shop.authorize(&intent, &chip_data).expect(201), reason);
        }
        scene.give_up(&intent);
        scene.nobody_paid(reason);
    }
}

/// Between reader and platform: what the phone signed is for this amount, currency and till only.
fn what_is_sent_in(scene: &mut Scene) {
    for (tag, value) in [
        (tags::AMOUNT_AUTHORIZED, OTHER_AMOUNT.as_slice()),
        (tags::TRANSACTION_CURRENCY_CODE, &OTHER_CURRENCY),
        (tags::TERMINAL_COUNTRY_CODE, &OTHER_CURRENCY),
    ] {
        let intent = scene.shop.armed_intent(ASKED.minor);
        let question = scene.taken(&intent);
        let altered = hex(&with_value(question.request().chip_data(), tag, value));
        let decision = scene.shop.authorize(&intent, &altered).expect(201);
        declined(&decision, "cryptogram_invalid");
        scene.give_up(&intent);
        scene.nobody_paid("altered chip data");
    }
    // For another payment of the same till, and for one of another merchant.
    let intent = scene.shop.armed_intent(ASKED.minor);
    let chip_data = hex(scene.taken(&intent).request().chip_data());
    let theirs = json!({ "payment_intent": scene.kiosk.intent, "chip_data": chip_data });
    assert_eq!(scene.shop.terminal.post("/v1/authorizations", &theirs).problem(404), "not_found");
    let decision = scene.kiosk.terminal.post("/v1/authorizations", &theirs).expect(201);
    declined(&decision, "merchant_mismatch");
    scene.give_up(&intent);
    let dearer = scene.shop.armed_intent(9_900);
    let chip_data = hex(scene.taken(&dearer).request().chip_data());
    declined(&scene.shop.authorize(&dearer, &chip_data).expect(201), "amount_mismatch");
    scene.give_up(&dearer);
    scene.nobody_paid("another payment");
}

/// Untouched, all four say the same: phone, receipt, platform and account.
fn the_honest_payment(scene: &mut Scene) {
    let intent = scene.shop.armed_intent(ASKED.minor);
    let payment = scene.taken(&intent);
    let chip_data = hex(payment.request().chip_data());
    let decision = scene.shop.authorize(&intent, &chip_data).expect(201);
    assert_eq!(decision["outcome"], "approved", "{decision}");
    assert_eq!((&decision["amount"], &decision["currency"]), (&json!(1_234), &json!("EUR")));
    assert_eq!(
        (&decision["payment_intent"], &decision["merchant_proven"]),
        (&json!(intent), &json!(true))
    );
    let authorization = decision["id"].as_str().unwrap().parse().unwrap();
    let (_terminal, receipt) = payment.complete(HostDecision::Approved { authorization });
    assert_eq!((receipt.amount, receipt.merchant.as_deref()), (ASKED, Some("Mensa")));
    assert!(receipt.merchant_proven);
    let merchant: Value =
        scene.shop.merchant.get(&format!("/v1/merchants/{}", scene.shop.merchant_id)).expect(200);
    assert_eq!(merchant["name_on_tills"], "Mensa");
    assert_eq!(scene.shop.account(), (10_000 - 1_234, 10_000 - 1_234));
}

#[test]
fn attack_amount_currency_or_merchant_changed_on_the_way() {
    for merchant_proof in ["always", "if_offered"] {
        let mut scene = Scene::open(merchant_proof);
        for (what, hand) in on_the_way(&scene.kiosk.credential.certificate) {
            let (end, shown) = scene.tap_through(hand);
            assert!(shown.paid().is_none(), "{what}: the phone signed: {:?}", shown.0);
            assert!(!matches!(end, TapEnd::Online(_)), "{what}: {end:?}");
            scene.nobody_paid(what);
        }
        a_reader_that_asks_for_something_else(&mut scene);
        scene.shop.replenish();
        what_is_sent_in(&mut scene);
        scene.shop.replenish();
        the_honest_payment(&mut scene);
    }
}
