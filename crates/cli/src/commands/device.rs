//! `tapfer device`: phones that the platform knows.

use clap::Subcommand;
use serde_json::json;

use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Register a phone by its public key (`tapfer wallet enrol` does this and the rest)
    #[command(
        after_help = "Example:\n  tapfer device create --label \"Ada's phone\" --public-key 04..."
    )]
    Create {
        /// Issuer id; the latest if not given
        #[arg(long)]
        issuer: Option<String>,
        /// Name that its owner recognises
        #[arg(long)]
        label: String,
        /// Uncompressed P-256 point, 65 bytes; keys are sealed to it
        #[arg(long, value_name = "HEX")]
        public_key: String,
    },
    /// List phones
    #[command(after_help = "Example:\n  tapfer device list")]
    List(PageArguments),
    /// Show one phone
    #[command(after_help = "Example:\n  tapfer device show dev_...")]
    Show {
        /// Device id; the latest if not given
        id: Option<String>,
    },
}

pub(crate) fn run(context: &Context, command: &DeviceCommand) -> anyhow::Result<Ending> {
    match command {
        DeviceCommand::Create { issuer, label, public_key } => {
            let issuer = context.id_or_latest(issuer, "issuer")?;
            let body = json!({ "issuer": issuer, "label": label, "public_key": public_key });
            let created = context.client()?.post("/v1/devices", &body)?;
            context.remember_created("device", &created)?;
            context.output.object(&created)?;
        }
        DeviceCommand::List(page) => {
            let columns = ["id", "issuer", "label", "created_at"];
            context.list(&page.path("/v1/devices", &[]), &columns)?;
        }
        DeviceCommand::Show { id } => {
            let id = context.id_or_latest(id, "device")?;
            context.show(&format!("/v1/devices/{}", segment(&id)))?;
        }
    }
    Ok(Ending::Done)
}
