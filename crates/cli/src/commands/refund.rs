//! `tapfer refund`: money given back after a payment.

use clap::Subcommand;
use serde_json::json;

use crate::commands::payment::part_of;
use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum RefundCommand {
    /// Give money back
    #[command(after_help = "Example:\n  tapfer refund create --payment pi_... --amount 5.00")]
    Create {
        /// Payment intent id
        #[arg(long, value_name = "ID")]
        payment: String,
        /// A part of it, such as 5.00; all that is left if not given
        #[arg(long, value_name = "5.00")]
        amount: Option<String>,
    },
    /// List refunds
    #[command(after_help = "Example:\n  tapfer refund list")]
    List(PageArguments),
    /// Show one refund
    #[command(after_help = "Example:\n  tapfer refund show ref_...")]
    Show {
        /// Refund id
        id: String,
    },
}

pub(crate) fn run(context: &Context, command: &RefundCommand) -> anyhow::Result<Ending> {
    match command {
        RefundCommand::Create { payment, amount } => {
            let mut body = part_of(context, payment, amount)?;
            if let Some(fields) = body.as_object_mut() {
                fields.insert("payment_intent".to_owned(), json!(payment));
            }
            context.output.object(&context.client()?.post("/v1/refunds", &body)?)?;
        }
        RefundCommand::List(page) => {
            let columns = ["id", "payment_intent", "amount", "created_at"];
            context.list(&page.path("/v1/refunds", &[]), &columns)?;
        }
        RefundCommand::Show { id } => context.show(&format!("/v1/refunds/{}", segment(id)))?,
    }
    Ok(Ending::Done)
}
