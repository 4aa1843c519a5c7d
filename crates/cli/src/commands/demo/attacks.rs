//! What cannot be done, and why: each attempt is real, and each answer is the real one.

use std::time::Duration;

use serde_json::{Value, json};
use tapfer_emv::apdu::ResponseApdu;
use tapfer_emv::certificate::IssuerCertificate;
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::{ecsdsa, tags, tlv};
use tapfer_payment_types::{Currency, Money, PaymentIntentId};
use tapfer_terminal::{OnlinePayment, PaymentState, TapEnd};
use tapfer_wallet::Notification;
use zeroize::Zeroizing;

use super::story::Story;
use super::{PRICE, Recorded, hold, hold_through, news};
use crate::client::text_of;
use crate::clock;
use crate::kernel_report;
use crate::stage::{Players, Stage};
use crate::tap::CardReader;
use crate::till;

/// More than the demo's key policy allows: the phone must have stopped before.
const TOO_MANY_PAYMENTS: usize = 20;
/// A small amount.
const COFFEE: Money = Money::new(100, Currency::EUR);

/// All of them, one after another.
pub(crate) fn all(
    story: &mut Story,
    stage: &Stage,
    players: &mut Players,
    first: &Recorded,
) -> anyhow::Result<()> {
    replayed_cryptogram(story, players, first)?;
    changed_amount(story, players)?;
    unarmed_terminal(story, players)?;
    suspended_token(story, stage, players)?;
    forged_certificate(story, players)?;
    no_keys_left(story, players)
}

fn armed_intent(players: &Players, amount: Money) -> anyhow::Result<PaymentIntentId> {
    let intent = players.till.create_intent(amount, None, "automatic")?;
    players.till.arm(intent)?;
    Ok(intent)
}

fn online(end: TapEnd) -> anyhow::Result<Box<OnlinePayment>> {
    match end {
        TapEnd::Online(payment) => Ok(payment),
        _ => anyhow::bail!("the tap did not lead to a question to the platform"),
    }
}

/// Asks the platform, tells its decision, compares its reason.
fn ask(
    story: &mut Story,
    players: &Players,
    what: &str,
    expected: &str,
    question: &Value,
) -> anyhow::Result<()> {
    let key = clock::random_hex::<16>();
    let answer = players.till.ask(question, &key, Duration::ZERO)?;
    story.decision(&answer);
    story.expect(what, expected, &text_of(&answer, "reason")?)
}

/// A terminal that kept the cryptogram of the first payment sends it once more, for a new one.
fn replayed_cryptogram(
    story: &mut Story,
    players: &Players,
    first: &Recorded,
) -> anyhow::Result<()> {
    story.chapter("A replayed cryptogram");
    story.tell(
        "A crooked terminal sends the chip data of the first payment again, for a new payment.",
    );
    let intent = armed_intent(players, PRICE)?;
    ask(
        story,
        players,
        "replayed cryptogram",
        "replay",
        &till::question(intent, &first.chip_data),
    )?;
    players.till.cancel(intent)
}

/// The person agreed to 1.00; the chip data on its way says 91.00.
fn changed_amount(story: &mut Story, players: &mut Players) -> anyhow::Result<()> {
    story.chapter("A changed amount");
    let more = Money::new(9_100, Currency::EUR);
    story.tell(&format!("The phone signs {COFFEE}; on its way to the platform it becomes {more}."));
    let intent = armed_intent(players, more)?;
    let payment = online(hold(players, intent, COFFEE)?.end)?;
    let amount = [0x00, 0x00, 0x00, 0x00, 0x91, 0x00];
    let altered = with_amount(payment.request().chip_data(), &amount)?;
    let question = till::question(intent, &altered);
    news(story, players);
    ask(story, players, "changed amount", "cryptogram_invalid", &question)?;
    players.till.cancel(intent)
}

/// The same chip data with another amount, authorised.
fn with_amount(chip_data: &[u8], amount: &[u8; 6]) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut altered = Zeroizing::new(Vec::new());
    for object in tlv::parse(chip_data)? {
        let is_amount = object.tag == tags::AMOUNT_AUTHORIZED;
        tlv::write(&mut altered, object.tag, if is_amount { amount } else { object.value });
    }
    Ok(altered)
}

/// The arming was spent by a payment; a second tap finds the terminal unarmed.
fn unarmed_terminal(story: &mut Story, players: &mut Players) -> anyhow::Result<()> {
    story.chapter("A second tap on an unarmed terminal");
    story.tell(
        "An honest terminal that is unarmed speaks to no card: its program has no such function.",
    );
    story.tell(
        "A manipulated one takes a coffee, and holds itself against the same phone once more:",
    );
    let intent = armed_intent(players, COFFEE)?;
    let first = online(hold(players, intent, COFFEE)?.end)?;
    let question = till::question(intent, first.request().chip_data());
    news(story, players);
    ask(story, players, "first tap", "approved", &question)?;
    let second = online(hold(players, intent, COFFEE)?.end)?;
    let question = till::question(intent, second.request().chip_data());
    news(story, players);
    ask(story, players, "second tap", "terminal_not_armed", &question)
}

/// The hotline suspends the token; the phone does not know yet.
fn suspended_token(story: &mut Story, stage: &Stage, players: &mut Players) -> anyhow::Result<()> {
    story.chapter("A suspended token");
    let client = stage.context.client()?;
    let reason = json!({ "actor": "issuer", "reason": "the phone was lost" });
    let path = format!("/v1/tokens/{}", players.token);
    client.post(&format!("{path}/suspend"), &reason)?;
    story.tell("The issuer has suspended the token. The phone does not know it and pays:");
    let intent = armed_intent(players, COFFEE)?;
    let payment = online(hold(players, intent, COFFEE)?.end)?;
    let question = till::question(intent, payment.request().chip_data());
    news(story, players);
    ask(story, players, "suspended token", "token_suspended", &question)?;
    players.till.cancel(intent)?;
    client.post(&format!("{path}/unsuspend"), &reason)?;
    story.tell("The phone was found; the token may pay again.");
    Ok(())
}

/// Someone with a certification authority of their own sits between phone and terminal.
fn forged_certificate(story: &mut Story, players: &mut Players) -> anyhow::Result<()> {
    story.chapter("A forged certificate");
    story.tell(
        "Between phone and terminal someone swaps the issuer certificate for a home-made one.",
    );
    let intent = armed_intent(players, COFFEE)?;
    let tapped = hold_through(players, intent, COFFEE, Forger::new)?;
    let (state, outcome) = match tapped.end {
        TapEnd::Decided { receipt, outcome, .. } => (Some(receipt.state), Some(outcome)),
        TapEnd::Undecided { outcome, .. } => (None, outcome),
        TapEnd::AskPin(entry) => (Some(entry.cancel().1.state), None),
        TapEnd::Online(payment) => {
            let (_terminal, receipt) = payment.complete(tapfer_terminal::HostDecision::NoAnswer);
            (Some(receipt.state), None)
        }
    };
    let found = match (&state, outcome.as_ref().is_some_and(kernel_report::is_authenticated)) {
        (Some(PaymentState::Declined { reason, .. }), false) => {
            story.tell("The terminal does not find the signature of an authority that it trusts:");
            story.tell(&format!("Receipt: {reason}."));
            "declined by the terminal"
        }
        _ => "not declined by the terminal",
    };
    story.expect("forged certificate", "declined by the terminal", found)?;
    players.till.cancel(intent)
}

/// Swaps issuer certificates for ones of its own.
struct Forger<'a, R> {
    card: &'a mut R,
    authority: PrivateKey,
    issuer: PrivateKey,
}

impl<'a, R: CardReader> Forger<'a, R> {
    fn new(card: &'a mut R) -> Self {
        let mut random = clock::random();
        let (authority, issuer) =
            (PrivateKey::generate(&mut random), PrivateKey::generate(&mut random));
        Self { card, authority, issuer }
    }

    /// The record with a certificate in which everything is right but the signer.
    fn forge(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let response = ResponseApdu::parse(answer).ok()?;
        let record = tlv::parse_one(&response.data).ok()?;
        if record.tag != tags::READ_RECORD_TEMPLATE {
            return None;
        }
        let mut content = Vec::new();
        for object in tlv::parse(record.value).ok()? {
            match object.tag {
                tags::ISSUER_CERTIFICATE => {
                    let mut certificate = IssuerCertificate::parse(object.value).ok()?;
                    certificate.public_key = self.issuer.public_x();
                    let message = certificate.message();
                    certificate.signature =
                        ecsdsa::sign(&self.authority, &message, &mut clock::random());
                    tlv::write(&mut content, object.tag, &certificate.encode());
                }
                tag => tlv::write(&mut content, tag, object.value),
            }
        }
        Some(ResponseApdu::ok(tlv::encode(tags::READ_RECORD_TEMPLATE, &content)).encode())
    }
}

impl<R: CardReader> CardReader for Forger<'_, R> {
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        let answer = self.card.transmit(command)?;
        Ok(self.forge(&answer).unwrap_or(answer))
    }
}

/// The phone's keys are good for a few payments; then it needs the platform again.
fn no_keys_left(story: &mut Story, players: &mut Players) -> anyhow::Result<()> {
    story.chapter("A phone without keys left");
    story.tell("The phone goes on paying without fetching new keys.");
    for _ in 0..TOO_MANY_PAYMENTS {
        let intent = armed_intent(players, COFFEE)?;
        let tapped = hold(players, intent, COFFEE)?;
        let news_of_tap = players.phone.take_news();
        if news_of_tap.iter().any(|news| matches!(news, Notification::NoKeysLeft { .. })) {
            for news in &news_of_tap {
                story.tell(&format!("Phone: {}", players.phone.in_words(news)));
            }
            players.till.cancel(intent)?;
            return story.expect("no keys left", "nothing was signed", signed(&tapped.end));
        }
        let payment = online(tapped.end)?;
        let question = till::question(intent, payment.request().chip_data());
        let answer = players.till.ask(&question, &clock::random_hex::<16>(), Duration::ZERO)?;
        story.decision(&answer);
    }
    story.expect("no keys left", "the phone stops", "the phone went on")
}

const fn signed(end: &TapEnd) -> &'static str {
    match end {
        TapEnd::Online(_) | TapEnd::AskPin(_) => "a payment was signed",
        TapEnd::Decided { .. } | TapEnd::Undecided { .. } => "nothing was signed",
    }
}
