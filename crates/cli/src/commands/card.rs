//! `tapfer card`: cards in the vault and their accounts; and the wallet as a card in a reader.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::amount::{AmountArguments, money_json};
use crate::card_service::{self, ServeArguments};
use crate::clock;
use crate::commands::card_pin::{self, CardPinCommand};
use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum CardCommand {
    /// Put a card into the vault
    Create(Create),
    /// List cards; numbers are never shown
    #[command(after_help = "Example:\n  tapfer card list --issuer iss_...")]
    List {
        /// Only those of this issuer
        #[arg(long)]
        issuer: Option<String>,
        #[command(flatten)]
        page: PageArguments,
    },
    /// Show one card with its balance
    #[command(after_help = "Example:\n  tapfer card show")]
    Show {
        /// Card id; the latest if not given
        id: Option<String>,
    },
    /// Block a card and with it all its tokens
    #[command(after_help = "Example:\n  tapfer card block card_... --reason \"reported stolen\"")]
    Block(Reason),
    /// Release a blocked card
    #[command(after_help = "Example:\n  tapfer card unblock card_... --reason \"found again\"")]
    Unblock(Reason),
    /// Close a card for good, with all its tokens
    #[command(after_help = "\
Example:
  tapfer card close card_... --pay-out --reason \"left the company\"

It never opens again. Refused while something is held for payments (capture, cancel or reverse them first), and while there is money
on it: --pay-out books it back to the issuer's account, from which the issuer pays it to the holder; it says how much (paid_out). If a
refund comes later, the same command with --pay-out again gives that back too. What is kept of it is erased when the limit of `tapfer retention show` is over.")]
    Close {
        /// Card id; needed, since nothing opens it again
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "asked for on the command line")]
        reason: String,
        /// Book what is on it back to the issuer's account
        #[arg(long)]
        pay_out: bool,
    },
    /// Put money on a card
    #[command(
        after_help = "Example:\n  tapfer card top-up --amount 20.00 --reference \"cash desk 3\""
    )]
    TopUp {
        /// Card id; not needed if there is only one
        id: Option<String>,
        #[command(flatten)]
        amount: AmountArguments,
        /// Where the money came from, for the record
        #[arg(long, default_value = "top-up on the command line")]
        reference: String,
    },
    /// List what was booked on a card
    #[command(after_help = "Example:\n  tapfer card entries --limit 50")]
    Entries {
        /// Card id; the latest if not given
        id: Option<String>,
        #[command(flatten)]
        page: PageArguments,
    },
    /// The PIN of a card at terminals
    #[command(subcommand)]
    Pin(CardPinCommand),
    /// Be the card in a virtual PC/SC reader, so that any smart-card program can talk to the wallet
    Serve(ServeArguments),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer card create --expiry 2030-12 --holder-reference member-17\n\nA card number is made in the issuer's range unless TAPFER_PAN holds one."
)]
pub(crate) struct Create {
    /// Issuer id; the latest if not given
    #[arg(long)]
    issuer: Option<String>,
    /// Last month in which the card is good; four years from now if not given
    #[arg(long, value_name = "YYYY-MM")]
    expiry: Option<String>,
    /// The issuer's own number for its holder; no name is needed
    #[arg(long, value_name = "TEXT")]
    holder_reference: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Reason {
    /// Card id; not needed if there is only one
    id: Option<String>,
    /// Why, for the record
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
}

impl Create {
    /// A card number comes from the environment, never from the command line, where every user of
    /// the machine could read it.
    fn body(&self, context: &Context) -> anyhow::Result<Value> {
        let issuer = context.id_or_latest(&self.issuer, "issuer")?;
        let expiry = self.expiry.clone().unwrap_or_else(default_expiry);
        let mut body = json!({ "issuer": issuer, "expiry": expiry });
        let optional = [
            ("holder_reference", self.holder_reference.clone()),
            ("pan", std::env::var("TAPFER_PAN").ok()),
        ];
        if let Some(fields) = body.as_object_mut() {
            let given = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
            fields.extend(given.map(|(name, value)| (name.to_owned(), json!(value))));
        }
        Ok(body)
    }
}

/// Four years from now, `YYYY-MM`.
pub(crate) fn default_expiry() -> String {
    let today = clock::now().calendar();
    format!("{:04}-{:02}", today.year.saturating_add(4), today.month)
}

pub(crate) fn run(context: &Context, command: &CardCommand) -> anyhow::Result<Ending> {
    match command {
        CardCommand::Create(create) => {
            let created = context.client()?.post("/v1/cards", &create.body(context)?)?;
            context.remember_created("card", &created)?;
            context.output.object(&created)?;
        }
        CardCommand::List { issuer, page } => {
            let columns = ["id", "last_four", "expiry", "status", "balance", "available"];
            context.list(&page.path("/v1/cards", &[("issuer", issuer)]), &columns)?;
        }
        CardCommand::Show { id } => context.show(&path(context, id, "")?)?,
        CardCommand::Block(reason) => post_reason(context, reason, "/block")?,
        CardCommand::Unblock(reason) => post_reason(context, reason, "/unblock")?,
        CardCommand::Close { id, reason, pay_out } => close(context, id, reason, *pay_out)?,
        CardCommand::TopUp { id, amount, reference } => {
            let mut body = money_json(amount.money()?);
            if let Some(fields) = body.as_object_mut() {
                fields.insert("reference".to_owned(), json!(reference));
            }
            let id = context.id_or_only(id, "card")?;
            let path = format!("/v1/cards/{}/top-ups", segment(&id));
            context.output.object(&context.client()?.post(&path, &body)?)?;
        }
        CardCommand::Entries { id, page } => {
            let columns = ["created_at", "kind", "amount", "held", "reference", "id"];
            context.list(&page.path(&path(context, id, "/entries")?, &[]), &columns)?;
        }
        CardCommand::Pin(command) => card_pin::run(context, command)?,
        CardCommand::Serve(arguments) => return card_service::run(context, arguments),
    }
    Ok(Ending::Done)
}

/// Closes a card, and says what its issuer owes its holder by that.
fn close(context: &Context, id: &str, reason: &str, pay_out: bool) -> anyhow::Result<()> {
    let client = context.client()?;
    let path = format!("/v1/cards/{}", segment(id));
    let entries = format!("{path}/entries?limit=100");
    let before = if pay_out { client.get(&entries)? } else { Value::Null };
    let body = json!({ "reason": reason, "pay_out": pay_out });
    let mut card = client.post(&format!("{path}/close"), &body)?;
    // It is closed, whether the amount can be read or not.
    let after = if pay_out { client.get(&entries).ok() } else { None };
    let paid_out = after.as_ref().and_then(|after| newly_paid_out(&before, after));
    if let (Some(amount), Some(fields)) = (paid_out, card.as_object_mut()) {
        fields.insert("paid_out".to_owned(), json!(amount));
    }
    context.output.object(&card)?;
    if paid_out.is_some() {
        context.output.line("What was paid out is on the issuer's account now: the issuer pays it to the holder, outside of tapfer.");
    }
    Ok(())
}

/// The pay-out that one page of bookings has and an earlier one has not, in minor units.
fn newly_paid_out(before: &Value, after: &Value) -> Option<i64> {
    let listed = |page: &Value| page.get("data").and_then(Value::as_array).cloned();
    let known = listed(before)?;
    let new = listed(after)?.into_iter().filter(|entry| !known.contains(entry));
    let mut paid_out = new.filter(|entry| entry.get("kind").is_some_and(|kind| kind == "pay_out"));
    paid_out.next()?.get("amount")?.as_i64()?.checked_neg()
}

fn path(context: &Context, id: &Option<String>, below: &str) -> anyhow::Result<String> {
    let id = context.id_or_latest(id, "card")?;
    Ok(format!("/v1/cards/{}{below}", segment(&id)))
}

fn post_reason(context: &Context, reason: &Reason, verb: &str) -> anyhow::Result<()> {
    let id = context.id_or_only(&reason.id, "card")?;
    let path = format!("/v1/cards/{}{verb}", segment(&id));
    let answer = context.client()?.post(&path, &json!({ "reason": reason.reason }))?;
    context.output.object(&answer)
}
