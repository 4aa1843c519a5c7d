//! `tapfer issuer`: who gives out cards and decides on payments.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tapfer_payment_types::Currency;

use super::issuer_integrity::{self, IntegrityCommand};
use crate::amount;
use crate::context::{Context, PageArguments, segment};
use crate::failure::Ending;
use crate::policy_file;

#[derive(Debug, Subcommand)]
pub(crate) enum IssuerCommand {
    /// Create an issuer with its keys and its certificate
    Create(Create),
    /// List issuers
    #[command(after_help = "Example:\n  tapfer issuer list")]
    List(PageArguments),
    /// Make an API key for an issuer's own software; it is shown this once
    #[command(after_help = "Example:\n  tapfer issuer api-key iss_...")]
    ApiKey {
        /// Issuer id; the latest if not given
        id: Option<String>,
    },
    /// Show one issuer
    #[command(after_help = "Example:\n  tapfer issuer show")]
    Show {
        /// Issuer id; the latest if not given
        id: Option<String>,
    },
    /// Tell all tills to decline cards with this issuer's certificate, for good
    #[command(
        after_help = "Example:\n  tapfer issuer revoke-certificate iss_... --reason \"its signing key was copied\"\n\nTills hear of it with the platform's trust list, at their next payment."
    )]
    RevokeCertificate {
        /// Issuer id
        id: String,
        /// Why, for the record
        #[arg(long)]
        reason: String,
    },
    /// When the person is asked for what
    #[command(subcommand)]
    Policy(IssuerPolicyCommand),
    /// What is asked of phones: who may pay how much on which
    #[command(subcommand)]
    Integrity(IntegrityCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum IssuerPolicyCommand {
    /// Set the verification policy from a file; phones get it with their next keys
    #[command(after_help = "Example:\n  tapfer issuer policy set policies/google-pay.toml")]
    Set {
        /// Policy in TOML, like those in policies/
        file: PathBuf,
        /// Issuer id; the latest if not given
        #[arg(long)]
        issuer: Option<String>,
    },
    /// Show the policy that phones are given now
    #[command(after_help = "Example:\n  tapfer issuer policy show")]
    Show {
        /// Issuer id; the latest if not given
        #[arg(long)]
        issuer: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer issuer create --name \"Campus Card\" --token-prefix 999901 --unverified-limit 50.00"
)]
pub(crate) struct Create {
    /// Name of the issuer
    #[arg(long)]
    name: String,
    /// Country, ISO 3166-1 numeric
    #[arg(long, default_value = "276")]
    country: String,
    /// First 6 to 8 digits of the card numbers
    #[arg(long, value_name = "DIGITS", default_value = "999900")]
    pan_prefix: String,
    /// First 6 to 8 digits of the tokens
    #[arg(long, value_name = "DIGITS", default_value = "999901")]
    token_prefix: String,
    /// Currency of the cards
    #[arg(long, default_value = "EUR", value_parser = amount::currency)]
    currency: Currency,
    /// Application identifier, if not the demo scheme's
    #[arg(long, value_name = "HEX")]
    aid: Option<String>,
    /// Up to this amount nobody asks who holds the phone
    #[arg(long, value_name = "25.00", default_value = "25.00")]
    unverified_limit: String,
    /// How many limited-use keys a phone gets at a time
    #[arg(long, value_name = "N", default_value_t = 3)]
    keys: u8,
    /// How many payments a key is good for
    #[arg(long, value_name = "N", default_value_t = 10)]
    payments_per_key: u16,
    /// What the payments with a key may add up to
    #[arg(long, value_name = "250.00", default_value = "250.00")]
    total_per_key: String,
    /// How many hours a key and the phone's certificate live
    #[arg(long, value_name = "N", default_value_t = 24)]
    key_hours: u16,
}

impl Create {
    fn body(&self) -> anyhow::Result<Value> {
        let limit = amount::money("--unverified-limit", &self.unverified_limit, self.currency)?;
        let mut body = json!({
            "name": self.name,
            "country": self.country,
            "pan_prefix": self.pan_prefix,
            "token_prefix": self.token_prefix,
            "currency": self.currency.code(),
            "unverified_limit": limit.minor,
            "key_policy": {
                "keys_per_replenishment": self.keys,
                "maximum_payments": self.payments_per_key,
                "maximum_total_minor": amount::money("--total-per-key", &self.total_per_key, self.currency)?.minor,
                "lifetime_seconds": i64::from(self.key_hours).saturating_mul(3_600),
            },
        });
        if let (Some(fields), Some(aid)) = (body.as_object_mut(), &self.aid) {
            fields.insert("aid".to_owned(), json!(aid));
        }
        Ok(body)
    }
}

pub(crate) fn run(context: &Context, command: &IssuerCommand) -> anyhow::Result<Ending> {
    match command {
        IssuerCommand::Create(create) => {
            let created = context.client()?.post("/v1/issuers", &create.body()?)?;
            context.remember_created("issuer", &created)?;
            context.output.object(&created)?;
        }
        IssuerCommand::List(page) => {
            let columns = ["id", "name", "country", "currency", "aid"];
            context.list(&page.path("/v1/issuers", &[]), &columns)?;
        }
        IssuerCommand::ApiKey { id } => {
            let id = context.id_or_latest(id, "issuer")?;
            let path = format!("/v1/issuers/{}/api-keys", segment(&id));
            context.output.object(&context.client()?.post(&path, &json!({}))?)?;
        }
        IssuerCommand::Show { id } => {
            let id = context.id_or_latest(id, "issuer")?;
            context.show(&format!("/v1/issuers/{}", segment(&id)))?;
        }
        IssuerCommand::RevokeCertificate { id, reason } => {
            let path = format!("/v1/issuers/{}/certificate/revoke", segment(id));
            let revoked = context.client()?.post(&path, &json!({ "reason": reason }))?;
            context.output.object(&revoked)?;
        }
        IssuerCommand::Policy(command) => policy(context, command)?,
        IssuerCommand::Integrity(command) => issuer_integrity::run(context, command)?,
    }
    Ok(Ending::Done)
}

fn policy(context: &Context, command: &IssuerPolicyCommand) -> anyhow::Result<()> {
    let path = |issuer| {
        let id = context.id_or_latest(issuer, "issuer")?;
        anyhow::Ok(format!("/v1/issuers/{}/policy", segment(&id)))
    };
    match command {
        IssuerPolicyCommand::Set { file, issuer } => {
            let policy = serde_json::to_value(policy_file::read(file)?)?;
            context.output.object(&context.client()?.put(&path(issuer)?, &policy)?)
        }
        IssuerPolicyCommand::Show { issuer } => context.show(&path(issuer)?),
    }
}
