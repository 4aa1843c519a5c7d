//! `tapfer authorization`: the platform's answers to taps.

use clap::Subcommand;
use serde_json::json;

use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorizationCommand {
    /// List decisions
    #[command(after_help = "Example:\n  tapfer authorization list")]
    List(PageArguments),
    /// Show one decision with its reason
    #[command(after_help = "Example:\n  tapfer authorization show auth_...")]
    Show {
        /// Authorization id, as on the receipt
        id: String,
    },
    /// Undo an approval whose goods never left the counter
    #[command(
        after_help = "Example:\n  tapfer authorization reverse auth_... --reason \"walked away\""
    )]
    Reverse {
        /// Authorization id, as on the receipt
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "asked for on the command line")]
        reason: String,
    },
}

pub(crate) fn run(context: &Context, command: &AuthorizationCommand) -> anyhow::Result<Ending> {
    match command {
        AuthorizationCommand::List(page) => {
            let columns = ["id", "outcome", "reason", "amount", "terminal", "created_at"];
            context.list(&page.path("/v1/authorizations", &[]), &columns)?;
        }
        AuthorizationCommand::Show { id } => {
            context.show(&format!("/v1/authorizations/{}", segment(id)))?;
        }
        AuthorizationCommand::Reverse { id, reason } => {
            let path = format!("/v1/authorizations/{}/reversals", segment(id));
            let answer = context.client()?.post(&path, &json!({ "reason": reason }))?;
            context.output.object(&answer)?;
        }
    }
    Ok(Ending::Done)
}
