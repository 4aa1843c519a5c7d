//! `tapfer payment`: what merchants want to be paid, and what became of it.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::amount::{AmountArguments, money_json, payable};
use crate::client::text_of;
use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum PaymentCommand {
    /// Say what is to be paid (`tapfer terminal pay` does this and the rest)
    #[command(
        after_help = "Example:\n  tapfer payment create --amount 12.34 --reference \"order 7\""
    )]
    Create {
        #[command(flatten)]
        amount: AmountArguments,
        /// The merchant's own number for it
        #[arg(long)]
        reference: Option<String>,
        /// Take the money at once, or when `payment capture` says so
        #[arg(long, value_enum, default_value_t = Capture::Automatic)]
        capture: Capture,
        /// Merchant id; the latest if not given
        #[arg(long)]
        merchant: Option<String>,
    },
    /// List payments
    #[command(after_help = "Example:\n  tapfer payment list")]
    List(PageArguments),
    /// Show one payment
    #[command(after_help = "Example:\n  tapfer payment show pi_...")]
    Show {
        /// Payment intent id
        id: String,
    },
    /// Arm a terminal for a payment
    #[command(after_help = "Example:\n  tapfer payment arm pi_... --terminal term_...")]
    Arm {
        /// Payment intent id
        id: String,
        /// Terminal id; the latest if not given
        #[arg(long)]
        terminal: Option<String>,
    },
    /// Take money that was authorised with manual capture
    #[command(after_help = "Example:\n  tapfer payment capture pi_... --amount 10.00")]
    Capture {
        /// Payment intent id
        id: String,
        /// Less than was authorised, such as 10.00; all of it if not given
        #[arg(long, value_name = "10.00")]
        amount: Option<String>,
    },
    /// Give up a payment
    #[command(after_help = "Example:\n  tapfer payment cancel pi_...")]
    Cancel {
        /// Payment intent id
        id: String,
    },
}

/// When the money is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Capture {
    Automatic,
    Manual,
}

impl Capture {
    const fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }
}

pub(crate) fn run(context: &Context, command: &PaymentCommand) -> anyhow::Result<Ending> {
    match command {
        PaymentCommand::Create { amount, reference, capture, merchant } => {
            let merchant = context.id_or_latest(merchant, "merchant")?;
            let mut body = money_json(amount.money()?);
            if let Some(fields) = body.as_object_mut() {
                fields.insert("capture_method".to_owned(), json!(capture.name()));
                if let Some(reference) = reference {
                    fields.insert("reference".to_owned(), json!(reference));
                }
            }
            let client = context.client_of(&merchant)?;
            context.output.object(&client.post("/v1/payment-intents", &body)?)?;
        }
        PaymentCommand::List(page) => {
            let columns = ["id", "status", "amount", "reference", "created_at"];
            context.list(&page.path("/v1/payment-intents", &[]), &columns)?;
        }
        PaymentCommand::Show { id } => {
            context.show(&format!("/v1/payment-intents/{}", segment(id)))?;
        }
        PaymentCommand::Arm { id, terminal } => {
            let terminal = context.id_or_latest(terminal, "terminal")?;
            step(context, id, "arm", &json!({ "terminal": terminal }))?;
        }
        PaymentCommand::Capture { id, amount } => {
            let body = part_of(context, id, amount)?;
            step(context, id, "capture", &body)?;
        }
        PaymentCommand::Cancel { id } => step(context, id, "cancel", &json!({}))?,
    }
    Ok(Ending::Done)
}

fn step(context: &Context, id: &str, verb: &str, body: &Value) -> anyhow::Result<()> {
    let path = format!("/v1/payment-intents/{}/{verb}", segment(id));
    context.output.object(&context.client()?.post(&path, body)?)
}

/// `{"amount": ...}` in the payment's own currency, or `{}` for all of it.
pub(crate) fn part_of(
    context: &Context,
    payment: &str,
    amount: &Option<String>,
) -> anyhow::Result<Value> {
    let Some(amount) = amount else { return Ok(json!({})) };
    let shown = context.client()?.get(&format!("/v1/payment-intents/{}", segment(payment)))?;
    let currency = text_of(&shown, "currency")?.parse()?;
    Ok(json!({ "amount": payable("--amount", amount, currency)?.minor }))
}
