//! `tapfer audit`: the chain over the platform's audit log, walked and compared with what was signed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tapfer_emv::audit_chain::{AuditHash, KnownHead};
use tapfer_emv::document::DocumentKey;
use tapfer_payment_types::configuration::SignedDocument;
use tapfer_payment_types::messages::HexBytes;
use tapfer_server::RealmPaths;
use tapfer_storage::sqlite::AuditFile;

use crate::context::Context;
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Walk the chain of a database: beside the running platform, or of a backup
    Verify(Verify),
    /// The end of the chain, signed at this moment: keep it, and compare later
    #[command(
        after_help = "Example:\n  tapfer audit head --json > head.json\n  tapfer audit verify --head head.json"
    )]
    Head,
    /// Say to phones and terminals that the platform goes on from a backup
    #[command(
        after_help = "Example:\n  tapfer audit restored --reason \"the disk broke, backup of Sunday\"\n\nDevices refuse a platform that knows less than before. After this they follow it, once, and every \
        device and the audit log show that it happened."
    )]
    Restored(Restored),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tapfer audit verify
  tapfer audit verify --database backup/tapfer.db --head head.json --audit-key 5c...

Names the first record that was altered, removed, exchanged or added, and each signed head that the chain does
not lead to. Without --audit-key the heads are checked with the key that stands in the newest of them: whoever
can write the database could have put his own there.")]
pub(crate) struct Verify {
    /// Database [default: the realm's in the home directory]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// A head that was kept, as `tapfer audit head --json` printed it
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// The key that signs heads: x and y, 128 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    audit_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Restored {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(crate) fn run(context: &Context, command: &AuditCommand) -> anyhow::Result<Ending> {
    match command {
        AuditCommand::Verify(arguments) => verify(context, arguments)?,
        AuditCommand::Head => context.output.object(&context.client()?.get("/v1/audit/head")?)?,
        AuditCommand::Restored(Restored { reason }) => {
            let body = json!({ "reason": reason });
            context.output.object(&context.client()?.post("/v1/audit/restorations", &body)?)?;
        }
    }
    Ok(Ending::Done)
}

fn verify(context: &Context, arguments: &Verify) -> anyhow::Result<()> {
    let own = || RealmPaths::new(context.home.path()).database();
    let path = arguments.database.clone().unwrap_or_else(own);
    let cannot_read = || format!("cannot read the audit log in {}", path.display());
    let mut file = AuditFile::open(&path).with_context(cannot_read)?;
    let report = {
        let _progress = context.output.progress("walking the audit chain");
        file.verify().with_context(cannot_read)?
    };
    if let Some(fault) = report.fault {
        bail!("the audit log of {} is not what was written: {fault}", file.realm());
    }
    let given = arguments.audit_key.as_deref().map(key).transpose()?;
    let key = match given {
        Some(key) => Some(key),
        None => report.heads.last().map(|(signed, _)| key_of(signed)).transpose()?,
    };
    for (signed, hash) in &report.heads {
        // Heads of a key before: the one that signs now is the one to be held against them.
        let Some(key) = key.filter(|key| given.is_some() || signed.key.0 == key.bytes()) else {
            continue;
        };
        let head = KnownHead::read(signed, &key, file.realm())
            .context("a signed head in the database cannot be trusted")?;
        leads_to(&head, *hash)?;
    }
    if let Some(kept) = &arguments.head {
        let signed = read_head(kept)?;
        let key = given.map_or_else(|| key_of(&signed), Ok)?;
        let head = KnownHead::read(&signed, &key, file.realm())
            .with_context(|| format!("{} cannot be trusted", kept.display()))?;
        leads_to(&head, file.hash_at(head.sequence)?)?;
    }
    context.output.object(&json!({
        "realm": file.realm(),
        "records": report.sound.sequence,
        "hash": HEXLOWER.encode(&report.sound.hash),
        "signed_heads": report.heads.len(),
        "audit_key": key.map(|key| key.fingerprint().to_string()),
        "audit_key_was_given": given.is_some(),
    }))
}

/// Whether the chain has, in the place of a signed head, the hash that was signed.
fn leads_to(head: &KnownHead, found: Option<AuditHash>) -> anyhow::Result<()> {
    let sequence = head.sequence;
    match found {
        Some(found) if found == head.hash => Ok(()),
        Some(_) => bail!(
            "record {sequence} or one before it was rewritten: another end was signed there. Restore a backup, \
             and ask who had access"
        ),
        None => bail!(
            "the audit log ends before record {sequence}, which was signed: records were cut off, or this is an \
             older backup"
        ),
    }
}

fn read_head(path: &std::path::Path) -> anyhow::Result<SignedDocument> {
    let text =
        fs::read(path).with_context(|| format!("cannot read the head in {}", path.display()))?;
    let answer: Value = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no head that was printed with --json", path.display()))?;
    let head = answer.get("head").cloned().unwrap_or(answer);
    serde_json::from_value(head)
        .with_context(|| format!("{} is no head that was printed with --json", path.display()))
}

fn key_of(signed: &SignedDocument) -> anyhow::Result<DocumentKey> {
    let bytes: &[u8; 64] =
        signed.key.0.as_slice().try_into().context("the key of a head has 64 bytes")?;
    Ok(DocumentKey::from_bytes(bytes)?)
}

fn key(digits: &str) -> anyhow::Result<DocumentKey> {
    let HexBytes(bytes) = digits.to_owned().try_into()?;
    let bytes: &[u8; 64] =
        bytes.as_slice().try_into().context("--audit-key: give x and y, 128 digits")?;
    Ok(DocumentKey::from_bytes(bytes)?)
}
