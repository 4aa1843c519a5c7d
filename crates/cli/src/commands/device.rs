//! `tapfer device`: phones that the platform knows.

use clap::{Args, Subcommand};
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
    /// Show how a phone stands: what was found out about its integrity
    #[command(after_help = "Example:\n  tapfer device integrity dev_...")]
    Integrity {
        /// Device id; the latest if not given
        id: Option<String>,
    },
    /// Keep a phone's wallet closed: it does not open again, and gets no keys
    #[command(
        after_help = "Example:\n  tapfer device lock dev_... --reason \"reported lost\"\n\nA wallet that is open goes on until it is closed: `tapfer token suspend` stops payments at once."
    )]
    Lock(Reason),
    /// Let a phone's wallet open again
    #[command(after_help = "Example:\n  tapfer device unlock dev_... --reason \"found again\"")]
    Unlock(Reason),
}

#[derive(Debug, Args)]
pub(crate) struct Reason {
    /// Device id; not needed if there is only one
    id: Option<String>,
    /// Why, for the record
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
}

impl Reason {
    fn post(&self, context: &Context, verb: &str) -> anyhow::Result<()> {
        let id = context.id_or_only(&self.id, "device")?;
        let path = format!("/v1/devices/{}/{verb}", segment(&id));
        let answer = context.client()?.post(&path, &json!({ "reason": self.reason }))?;
        context.output.object(&answer)
    }
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
        DeviceCommand::Lock(reason) => reason.post(context, "lock")?,
        DeviceCommand::Unlock(reason) => reason.post(context, "unlock")?,
        DeviceCommand::Show { id } => {
            let id = context.id_or_latest(id, "device")?;
            context.show(&format!("/v1/devices/{}", segment(&id)))?;
        }
        DeviceCommand::Integrity { id } => {
            let id = context.id_or_latest(id, "device")?;
            context.show(&format!("/v1/devices/{}/integrity", segment(&id)))?;
        }
    }
    Ok(Ending::Done)
}
