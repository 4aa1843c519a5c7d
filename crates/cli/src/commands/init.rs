//! `tapfer init`: from an empty platform to the first payment in one command.

use clap::Args;
use serde_json::{Value, json};
use tapfer_payment_types::Currency;

use crate::amount;
use crate::client::{Client, text_of};
use crate::commands::card::default_expiry;
use crate::commands::wallet::{Place, enrol};
use crate::context::{Context, segment};
use crate::failure::Ending;
use crate::wallet_store::Phone;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer init --balance 50.00\n  tapfer terminal pay --wallet --amount 12.34\n\nWhat is there already is kept; run it as often as you like."
)]
pub(crate) struct InitArguments {
    /// Money on the new card
    #[arg(long, value_name = "100.00", default_value = "100.00")]
    balance: String,
    /// Currency of cards and payments, ISO 4217
    #[arg(long, value_name = "CODE", default_value = "EUR", value_parser = amount::currency)]
    currency: Currency,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(context: &Context, arguments: &InitArguments) -> anyhow::Result<Ending> {
    let balance = amount::money("--balance", &arguments.balance, arguments.currency)?;
    let client = context.client()?;
    let code = arguments.currency.code();
    let issuer = ensure(context, &client, "issuer", "/v1/issuers", || {
        // Keys for two hundred payments, so that trying things out does not run into the limits.
        json!({ "name": "First Issuer", "country": "276", "pan_prefix": "999900",
                "token_prefix": "999901", "currency": code,
                "key_policy": {
                    "keys_per_replenishment": 20, "maximum_payments": 10,
                    "maximum_total_minor": 25_000, "lifetime_seconds": 86_400,
                } })
    })?;
    let merchant = ensure(
        context,
        &client,
        "merchant",
        "/v1/merchants",
        || json!({ "name": "First Merchant", "country": "276", "category_code": "5814" }),
    )?;
    let terminal = ensure(
        context,
        &client,
        "terminal",
        "/v1/terminals",
        || json!({ "merchant": merchant, "label": "First Terminal" }),
    )?;
    let had_card = context.home.latest("card").is_ok();
    let card = ensure(
        context,
        &client,
        "card",
        "/v1/cards",
        || json!({ "issuer": issuer, "expiry": default_expiry() }),
    )?;
    if !had_card && balance.minor > 0 {
        let mut body = amount::money_json(balance);
        if let Some(fields) = body.as_object_mut() {
            fields.insert("reference".to_owned(), json!("opening balance"));
        }
        client.post(&format!("/v1/cards/{}/top-ups", segment(&card)), &body)?;
    }
    let directory = arguments.place.directory(context);
    if Phone::read(&directory)?.issuers.is_empty() {
        let _progress = context.output.progress("enrolling the card on a phone");
        enrol(context, &arguments.place, &card, "First Phone")?;
    }
    let wallet = directory.display().to_string();
    context.output.object(&json!({
        "issuer": issuer, "card": card, "merchant": merchant, "terminal": terminal, "wallet": wallet,
    }))?;
    let pay = context.home.command("tapfer terminal pay --wallet --amount 12.34");
    context.output.line(format!("\nNow pay:  {pay}"));
    Ok(Ending::Done)
}

/// The latest of its kind if the platform still knows it, else a new one.
fn ensure(
    context: &Context,
    client: &Client,
    kind: &str,
    path: &str,
    body: impl FnOnce() -> Value,
) -> anyhow::Result<String> {
    // A terminal that was revoked takes no payment any more: it counts as none.
    if let Ok(id) = context.home.latest(kind)
        && let Ok(known) = client.get(&format!("{path}/{}", segment(&id)))
        && known.get("revoked_at").is_none_or(Value::is_null)
    {
        return Ok(id);
    }
    let created = client.post(path, &body())?;
    context.remember_created(kind, &created)?;
    text_of(&created, "id")
}
