//! `tapfer terminal`: points of sale, and taking a payment with this machine as one.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;
use crate::pcsc_reader;
use crate::terminal_identity::TerminalIdentity;
use crate::terminal_payment::{self, PayArguments};
use crate::terminal_profile;

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
    /// The certificate with which this machine's terminal proves to phones whose it is
    Certificate {
        #[command(subcommand)]
        command: CertificateCommand,
    },
    /// End a terminal for good: its API keys, its certificates and the payment it is armed for
    #[command(
        after_help = "Example:\n  tapfer terminal revoke term_... --reason \"stolen from the counter\""
    )]
    Revoke {
        /// Terminal id
        id: String,
        /// Why, for the record
        #[arg(long)]
        reason: String,
    },
    /// List the card readers of this machine
    #[command(after_help = "Example:\n  tapfer terminal readers")]
    Readers,
    /// Take a payment: arm, tap, ask the platform, print the receipt
    Pay(Box<PayArguments>),
    /// How a terminal is set up, as a file
    #[command(subcommand)]
    Profile(ProfileCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Check a terminal profile without using it
    #[command(
        after_help = "Example:\n  tapfer terminal profile check profiles/terminal/attended.toml"
    )]
    Check {
        /// A TOML file
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// Show the certificate on this machine
    #[command(after_help = "Example:\n  tapfer terminal certificate show")]
    Show {
        /// Terminal id; the latest if not given
        id: Option<String>,
    },
    /// Fetch a new one now; `tapfer terminal pay` does so by itself in the last quarter of its life
    #[command(after_help = "Example:\n  tapfer terminal certificate renew")]
    Renew {
        /// Terminal id; the latest if not given
        id: Option<String>,
    },
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
            context.list(
                &path,
                &["id", "label", "terminal_identification", "armed_for", "revoked_at"],
            )?;
        }
        TerminalCommand::Show { id } => {
            let id = context.id_or_latest(id, "terminal")?;
            context.show(&format!("/v1/terminals/{}", segment(&id)))?;
        }
        TerminalCommand::Certificate { command } => certificate(context, command)?,
        TerminalCommand::Revoke { id, reason } => {
            let path = format!("/v1/terminals/{}/revoke", segment(id));
            let revoked = context.client()?.post(&path, &json!({ "reason": reason }))?;
            context.output.object(&revoked)?;
        }
        TerminalCommand::Readers => return readers(context),
        TerminalCommand::Profile(ProfileCommand::Check { file }) => {
            let profile = terminal_profile::load(file)?;
            context.output.object(&serde_json::to_value(&profile)?)?;
        }
        TerminalCommand::Pay(arguments) => return terminal_payment::run(context, arguments),
    }
    Ok(Ending::Done)
}

fn certificate(context: &Context, command: &CertificateCommand) -> anyhow::Result<()> {
    let (CertificateCommand::Show { id } | CertificateCommand::Renew { id }) = command;
    let id = context.id_or_latest(id, "terminal")?;
    let identity = TerminalIdentity::open(&context.home, &id)?;
    let certified = match command {
        CertificateCommand::Renew { .. } => identity.renew(&context.client_of(&id)?)?,
        CertificateCommand::Show { .. } => identity.stored().with_context(|| {
            format!(
                "{id} has no certificate here: `tapfer terminal certificate renew {id}` fetches one"
            )
        })?,
    };
    context.output.object(&certified.to_json())
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
