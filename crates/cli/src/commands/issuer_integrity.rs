//! `tapfer issuer integrity`: what an issuer asks of phones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use tapfer_integrity::key_attestation::RevokedCertificates;
use tapfer_payments::integrity::IntegrityPolicy;

use crate::context::{Context, segment};

#[derive(Debug, Subcommand)]
pub(crate) enum IntegrityCommand {
    /// Say what is asked of phones, from a file; it counts from the next payment on
    #[command(after_help = "\
Example:
  tapfer issuer integrity set profiles/integrity/lower-limit.toml
  tapfer issuer integrity set attested.toml --status-list status.json

Set it again whenever the status list has changed: the platform fetches nothing.")]
    Set {
        /// Policy in TOML, like those in profiles/integrity/
        file: PathBuf,
        /// Google's list of revoked attestation certificates, as it is published; its serial numbers are
        /// added to those of the policy
        #[arg(long, value_name = "FILE")]
        status_list: Option<PathBuf>,
        /// Issuer id; the latest if not given
        #[arg(long)]
        issuer: Option<String>,
    },
    /// Show what is asked of phones now
    #[command(after_help = "Example:\n  tapfer issuer integrity show")]
    Show {
        /// Issuer id; the latest if not given
        #[arg(long)]
        issuer: Option<String>,
    },
}

pub(crate) fn run(context: &Context, command: &IntegrityCommand) -> anyhow::Result<()> {
    let path = |issuer| {
        let id = context.id_or_latest(issuer, "issuer")?;
        anyhow::Ok(format!("/v1/issuers/{}/integrity-policy", segment(&id)))
    };
    match command {
        IntegrityCommand::Set { file, status_list, issuer } => {
            let mut policy = read_policy(file)?;
            if let Some(list) = status_list {
                let revoked = read_status_list(list)?;
                policy.key_attestation.revoked_serials.extend(revoked.into_serials());
            }
            let policy = serde_json::to_value(&policy)?;
            context.output.object(&context.client()?.put(&path(issuer)?, &policy)?)
        }
        IntegrityCommand::Show { issuer } => context.show(&path(issuer)?),
    }
}

fn read_policy(path: &Path) -> anyhow::Result<IntegrityPolicy> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("can't read the policy {}", path.display()))?;
    let policy: IntegrityPolicy = toml::from_str(&text)
        .with_context(|| format!("{} is no integrity policy", path.display()))?;
    policy.check().with_context(|| format!("{} makes no sense", path.display()))?;
    Ok(policy)
}

fn read_status_list(path: &Path) -> anyhow::Result<RevokedCertificates> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("can't read the status list {}", path.display()))?;
    RevokedCertificates::from_status_list(&text)
        .with_context(|| format!("{} is not the list as it is published", path.display()))
}
