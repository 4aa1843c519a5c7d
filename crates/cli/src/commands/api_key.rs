//! `tapfer api-key`: who may ask the platform.

use clap::Subcommand;
use serde_json::json;

use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum ApiKeyCommand {
    /// List API keys; their secrets are never shown again
    #[command(after_help = "Example:\n  tapfer api-key list --owner mer_...")]
    List {
        /// Only those of this issuer, merchant, terminal or device, or of the `operator`
        #[arg(long, value_name = "ID")]
        owner: Option<String>,
        #[command(flatten)]
        page: PageArguments,
    },
    /// Make one more API key for somebody; it is shown once
    #[command(after_help = "\
Example: to change a key, make the new one, use it, then revoke the old one.
  tapfer api-key create --owner mer_...
  tapfer api-key list --owner mer_...
  tapfer api-key revoke key_... --reason \"left in a log\"")]
    Create {
        /// Id of an issuer, merchant, terminal or device, or `operator`
        #[arg(long, value_name = "ID")]
        owner: String,
    },
    /// Take an API key back, for good
    #[command(
        after_help = "Example:\n  tapfer api-key revoke key_... --reason \"till was stolen\""
    )]
    Revoke {
        /// The key's id, as `tapfer api-key list` and the log show it
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "asked for on the command line")]
        reason: String,
    },
}

pub(crate) fn run(context: &Context, command: &ApiKeyCommand) -> anyhow::Result<Ending> {
    let client = context.client()?;
    match command {
        ApiKeyCommand::List { owner, page } => {
            let columns = ["id", "role", "owner", "created_at", "revoked_at"];
            context.list(&page.path("/v1/api-keys", &[("owner", owner)]), &columns)?;
        }
        ApiKeyCommand::Create { owner } => {
            context.output.object(&client.post("/v1/api-keys", &json!({ "owner": owner }))?)?;
        }
        ApiKeyCommand::Revoke { id, reason } => {
            let path = format!("/v1/api-keys/{}/revoke", segment(id));
            context.output.object(&client.post(&path, &json!({ "reason": reason }))?)?;
        }
    }
    Ok(Ending::Done)
}
