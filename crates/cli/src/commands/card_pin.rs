//! `tapfer card pin`: the PIN of a card at terminals, which its issuer checks.

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};
use tapfer_payment_types::pin::CARD_PIN_INFO;

use crate::client::text_of;
use crate::clock;
use crate::context::{Context, segment};
use crate::pin_file::{self, PinFile};
use crate::till;

#[derive(Debug, Subcommand)]
pub(crate) enum CardPinCommand {
    /// Set the PIN that the card's holder enters at terminals, and give all tries back
    #[command(
        after_help = "Example:\n  tapfer card pin set --pin-file card.pin\n\nThe PIN leaves this machine sealed to the issuer; only its security module opens it."
    )]
    Set {
        /// Card id; not needed if there is only one
        id: Option<String>,
        #[command(flatten)]
        new: PinFile,
    },
}

pub(crate) fn run(context: &Context, command: &CardPinCommand) -> anyhow::Result<()> {
    let CardPinCommand::Set { id, new } = command;
    let id = context.id_or_only(id, "card")?;
    let pin = pin_file::read(&new.path)?;
    let client = context.client()?;
    let path = format!("/v1/cards/{}", segment(&id));
    let issuer = text_of(&client.get(&path)?, "issuer")?;
    let trust = client.get("/v1/trust")?;
    let mut issuers = trust.get("issuers").and_then(Value::as_array).into_iter().flatten();
    let own = issuers.find(|one| one.get("id").and_then(Value::as_str) == Some(issuer.as_str()));
    let recipient =
        till::pin_recipient(own.context("the platform does not name the card's issuer")?)?;
    let sealed = recipient.seal(&pin, CARD_PIN_INFO, id.as_bytes(), &mut clock::random())?;
    let answer = client.post(&format!("{path}/pin"), &json!({ "sealed_pin": sealed }))?;
    let wrong_tries = answer.get("failed").cloned().unwrap_or_default();
    context.output.object(&json!({ "card": id, "pin": "set", "wrong_tries": wrong_tries }))
}
