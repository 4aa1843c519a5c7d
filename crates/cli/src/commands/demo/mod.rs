//! `tapfer demo`: a phone pays at a terminal, told step by step; then what cannot be done, and why.
//! Everything is real: a platform in this process, over TLS, with a temporary home.

mod attacks;
mod story;

use clap::Args;
use serde_json::json;
use tapfer_payment_types::{Currency, Money};
use tapfer_terminal::{AuthorizationRequest, TapEnd};

use crate::client::text_of;
use crate::context::Context;
use crate::failure::Ending;
use crate::narrate::milliseconds;
use crate::phone;
use crate::receipt;
use crate::stage::{OPENING_BALANCE, Players, Stage};
use crate::tap::{CardReader, Tapped, tap};
use crate::till;
use story::Story;

/// What is paid.
const PRICE: Money = Money::new(1_234, Currency::EUR);

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer demo\n\nNeeds no network, no card and no reader. Exit code 1 if anything is not as it should be."
)]
pub(crate) struct DemoArguments {}

pub(crate) fn run(context: &Context, _arguments: &DemoArguments) -> anyhow::Result<Ending> {
    let mut story = Story::new(context.output);
    story.chapter("The platform starts");
    let stage = story.part("platform starts", || Stage::start(context.output))?;
    story.tell(
        "A new realm: keys in the software HSM, a database, a CA, and TLS on a loopback port.",
    );

    story.chapter("A card is put on a phone");
    // One key for eight payments, so that it can be seen running out.
    let policy = json!({
        "keys_per_replenishment": 1, "maximum_payments": 8,
        "maximum_total_minor": 25_000, "lifetime_seconds": 86_400,
    });
    let mut players = story.part("issuer, card, enrolment", || stage.enrol(&policy))?;
    story
        .tell("Tokenized, activated; certificate and limited-use key sealed to this phone (HPKE).");
    story.tell(&format!("The card {} holds {OPENING_BALANCE}.", players.card));

    let first = payment(&mut story, &mut players)?;
    attacks::all(&mut story, &stage, &mut players, &first)?;
    money_is_conserved(&mut story, &stage, &players)?;
    story.end()
}

/// What a tap asked the platform; attackers keep it.
pub(crate) struct Recorded {
    chip_data: zeroize::Zeroizing<Vec<u8>>,
}

impl Recorded {
    fn of(request: &AuthorizationRequest) -> Self {
        Self { chip_data: zeroize::Zeroizing::new(request.chip_data().to_vec()) }
    }
}

/// The payment as it should be, from arming to receipt.
fn payment(story: &mut Story, players: &mut Players) -> anyhow::Result<Recorded> {
    story.chapter(&format!("The phone pays {PRICE}"));
    let intent = story.part("intent and arming", || {
        let intent = players.till.create_intent(PRICE, Some("demo"), "automatic")?;
        players.till.arm(intent).map(|()| intent)
    })?;
    story.tell("The till has armed the terminal for this one payment. The phone touches it:");
    let tapped = hold(players, intent, PRICE)?;
    story.conversation(&tapped);
    let TapEnd::Online(payment) = tapped.end else {
        anyhow::bail!("the tap did not lead to a question to the platform");
    };
    let recorded = Recorded::of(payment.request());
    let question = till::question(intent, &recorded.chip_data);
    let answer = story.part("decision, over TLS", || {
        players.till.ask(&question, "demo-payment-1", std::time::Duration::ZERO)
    })?;
    story.decision(&answer);
    let decision = till::host_decision((intent, PRICE), &answer)?;
    let (_terminal, paper) = payment.complete(decision);
    let report = receipt::to_json(&paper, Some(&answer));
    story.receipt(&report)?;
    story.expect("the payment", "approved", &text_of(&answer, "outcome")?)?;
    news(story, players);

    let again = players.till.ask(&question, "demo-payment-1", std::time::Duration::ZERO)?;
    story.tell("The till lost the answer and asks again under the same idempotency key:");
    story.expect("asked twice, paid once", &text_of(&answer, "id")?, &text_of(&again, "id")?)?;
    Ok(recorded)
}

/// Holds the phone against a terminal that is armed for a payment.
fn hold(
    players: &mut Players,
    intent: tapfer_payment_types::PaymentIntentId,
    amount: Money,
) -> anyhow::Result<Tapped> {
    let terminal = till::arm(players.configuration.clone(), intent, amount)?;
    tap(terminal, &mut players.phone)
}

/// As [`hold`], through something that sits between terminal and phone.
fn hold_through<'p, R: CardReader + 'p>(
    players: &'p mut Players,
    intent: tapfer_payment_types::PaymentIntentId,
    amount: Money,
    between: impl FnOnce(&'p mut phone::Phone) -> R,
) -> anyhow::Result<Tapped> {
    let terminal = till::arm(players.configuration.clone(), intent, amount)?;
    tap(terminal, &mut between(&mut players.phone))
}

/// What the phone's screen says.
fn news(story: &Story, players: &mut Players) {
    for news in players.phone.take_news() {
        story.tell(&format!("Phone: {}", players.phone.in_words(&news)));
    }
}

/// After all of this, every cent is where it belongs.
fn money_is_conserved(story: &mut Story, stage: &Stage, players: &Players) -> anyhow::Result<()> {
    story.chapter("The books");
    let client = stage.context.client()?;
    let card = client.get(&format!("/v1/cards/{}", players.card))?;
    let balance = card.get("balance").and_then(serde_json::Value::as_i64).unwrap_or_default();
    let expected = OPENING_BALANCE.minor.checked_sub(story.paid_minor()).unwrap_or_default();
    let text = |minor| Money::new(minor, Currency::EUR).to_string();
    story.expect("balance: only approved payments were booked", &text(expected), &text(balance))
}

/// Times are told in milliseconds.
pub(crate) fn in_milliseconds(duration: std::time::Duration) -> String {
    format!("{:.1} ms", milliseconds(duration))
}
