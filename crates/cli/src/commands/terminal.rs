//! `tapfer terminal`: points of sale, and taking a payment with this machine as one.

use clap::Subcommand;
use serde_json::json;

use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;
use crate::pcsc_reader;
use crate::terminal_payment::{self, PayArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum TerminalCommand {
    /// Register a terminal; its API key is shown once and remembered in the home directory
    #[command(after_help = "Example:\n  tapfer terminal create --label \"Counter 1\"")]
    Create {
        /// Merchant id; the latest if not given
        #[arg(long)]
        merchant: Option<String>,
        /// What people call it
        #[arg(long)]
        label: String,
    },
    /// List terminals
    #[command(after_help = "Example:\n  tapfer terminal list --merchant mer_...")]
    List {
        /// Only those of this merchant
        #[arg(long)]
        merchant: Option<String>,
        #[command(flatten)]
        page: PageArguments,
    },
    /// Show one terminal and whether it is armed
    #[command(after_help = "Example:\n  tapfer terminal show")]
    Show {
        /// Terminal id; the latest if not given
        id: Option<String>,
    },
    /// List the card readers of this machine
    #[command(after_help = "Example:\n  tapfer terminal readers")]
    Readers,
    /// Take a payment: arm, tap, ask the platform, print the receipt
    Pay(Box<PayArguments>),
}

pub(crate) fn run(context: &Context, command: &TerminalCommand) -> anyhow::Result<Ending> {
    match command {
        TerminalCommand::Create { merchant, label } => {
            let merchant = context.id_or_latest(merchant, "merchant")?;
            let body = json!({ "merchant": merchant, "label": label });
            let created = context.client()?.post("/v1/terminals", &body)?;
            context.remember_created("terminal", &created)?;
            context.output.object(&created)?;
        }
        TerminalCommand::List { merchant, page } => {
            let path = page.path("/v1/terminals", &[("merchant", merchant)]);
            context.list(&path, &["id", "label", "terminal_identification", "armed_for"])?;
        }
        TerminalCommand::Show { id } => {
            let id = context.id_or_latest(id, "terminal")?;
            context.show(&format!("/v1/terminals/{}", segment(&id)))?;
        }
        TerminalCommand::Readers => return readers(context),
        TerminalCommand::Pay(arguments) => return terminal_payment::run(context, arguments),
    }
    Ok(Ending::Done)
}

fn readers(context: &Context) -> anyhow::Result<Ending> {
    let names = pcsc_reader::reader_names()?;
    if context.output.is_json() {
        context.output.json_line(&json!({ "readers": names }))?;
    } else if names.is_empty() {
        context.output.line("no reader is connected");
    } else {
        names.iter().for_each(|name| context.output.line(name));
    }
    Ok(Ending::Done)
}
