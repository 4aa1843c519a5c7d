//! `tapfer token`: one card on one phone, and its life.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Put a card on a phone; the token starts inactive
    #[command(after_help = "Example:\n  tapfer token create --card card_... --device dev_...")]
    Create {
        /// Card id; the latest if not given
        #[arg(long)]
        card: Option<String>,
        /// Device id; the latest if not given
        #[arg(long)]
        device: Option<String>,
    },
    /// List tokens
    #[command(after_help = "Example:\n  tapfer token list --card card_...")]
    List {
        /// Only those of this card
        #[arg(long)]
        card: Option<String>,
        /// Only those on this phone
        #[arg(long)]
        device: Option<String>,
        #[command(flatten)]
        page: PageArguments,
    },
    /// Show one token
    #[command(after_help = "Example:\n  tapfer token show")]
    Show {
        /// Token id; the latest if not given
        id: Option<String>,
    },
    /// Let an inactive token pay
    #[command(
        after_help = "Example:\n  tapfer token activate tok_... --reason \"caller was verified\""
    )]
    Activate(Change),
    /// Stop a token for a while; only the class of actor that suspended it may resume it
    #[command(after_help = "Example:\n  tapfer token suspend --reason \"phone lost\"")]
    Suspend(Change),
    /// Resume a suspended token
    #[command(after_help = "Example:\n  tapfer token unsuspend --reason \"phone found\"")]
    Unsuspend(Change),
    /// End a token for ever
    #[command(
        after_help = "Example:\n  tapfer token delete tok_... --actor cardholder --reason \"new phone\""
    )]
    Delete(Change),
    /// Let the phone choose a new PIN without the old one; a blocked PIN stays blocked until then
    #[command(after_help = "Example:\n  tapfer token pin-reset --reason \"caller was verified\"")]
    PinReset {
        /// Token id; not needed if there is only one
        id: Option<String>,
        /// Why, for the record
        #[arg(long, default_value = "asked for on the command line")]
        reason: String,
    },
    /// Show how a token stands to its PIN
    #[command(after_help = "Example:\n  tapfer token pin-status")]
    PinStatus {
        /// Token id; the latest if not given
        id: Option<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Change {
    /// Token id; not needed if there is only one
    id: Option<String>,
    /// In whose name
    #[arg(long, value_enum, default_value_t = Actor::Issuer)]
    actor: Actor,
    /// Why, for the record
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
}

/// Who wants a token changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Actor {
    Cardholder,
    Issuer,
    Platform,
}

impl Actor {
    const fn name(self) -> &'static str {
        match self {
            Self::Cardholder => "cardholder",
            Self::Issuer => "issuer",
            Self::Platform => "platform",
        }
    }
}

pub(crate) fn run(context: &Context, command: &TokenCommand) -> anyhow::Result<Ending> {
    match command {
        TokenCommand::Create { card, device } => {
            let card = context.id_or_latest(card, "card")?;
            let device = context.id_or_latest(device, "device")?;
            let body = json!({ "card": card, "device": device });
            let created = context.client()?.post("/v1/tokens", &body)?;
            context.remember_created("token", &created)?;
            context.output.object(&created)?;
        }
        TokenCommand::List { card, device, page } => {
            let path = page.path("/v1/tokens", &[("card", card), ("device", device)]);
            context.list(&path, &["id", "card", "device", "status", "created_at"])?;
        }
        TokenCommand::Show { id } => {
            let id = context.id_or_latest(id, "token")?;
            context.show(&format!("/v1/tokens/{}", segment(&id)))?;
        }
        TokenCommand::Activate(change) => apply(context, change, "activate")?,
        TokenCommand::Suspend(change) => apply(context, change, "suspend")?,
        TokenCommand::Unsuspend(change) => apply(context, change, "unsuspend")?,
        TokenCommand::Delete(change) => apply(context, change, "delete")?,
        TokenCommand::PinReset { id, reason } => {
            let id = context.id_or_only(id, "token")?;
            let path = format!("/v1/tokens/{}/pin/reset", segment(&id));
            context.output.object(&context.client()?.post(&path, &json!({ "reason": reason }))?)?;
        }
        TokenCommand::PinStatus { id } => {
            let id = context.id_or_latest(id, "token")?;
            context.show(&format!("/v1/tokens/{}/pin", segment(&id)))?;
        }
    }
    Ok(Ending::Done)
}

fn apply(context: &Context, change: &Change, verb: &str) -> anyhow::Result<()> {
    let id = context.id_or_only(&change.id, "token")?;
    let body = json!({ "actor": change.actor.name(), "reason": change.reason });
    let path = format!("/v1/tokens/{}/{verb}", segment(&id));
    context.output.object(&context.client()?.post(&path, &body)?)
}
