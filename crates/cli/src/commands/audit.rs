//! `tapfer audit`: the chain over the platform's audit log, walked and compared with what was signed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tapfer_emv::audit_chain::KnownHead;
use tapfer_emv::document::{DocumentKey, DocumentPurpose};
use tapfer_hsm::catalogue::{KeyPurpose, KeyRecord, KeyState, UnverifiedCatalogue};
use tapfer_payment_types::RealmId;
use tapfer_payment_types::configuration::SignedDocument;
use tapfer_payment_types::messages::HexBytes;
use tapfer_payments::access::ApiKey;
use tapfer_storage::ChainReport;

use crate::context::Context;
use crate::database_choice::{Chosen, DatabaseChoice, Looked};
use crate::failure::Ending;
use crate::output::Emphasis;

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
        after_help = "Example:\n  tapfer audit restored --reason \"the disk broke, backup of Sunday\"\n\nDevices refuse a platform that knows less than before. After this they follow it, once. The \
        audit log holds it for good, and every till and phone tells its person."
    )]
    Restored(Restored),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tapfer audit verify
  tapfer audit verify --database backup/tapfer.db --head head.json --audit-key 5c...
  tapfer audit verify --address postgres://auditor@db1:5432,db2:5432/tapfer --password-file p \\
    --certificate-authority ca.crt

Names the first record that was altered, removed, exchanged or added, each signed head that the chain does
not lead to, or that no key of the platform has signed, and the first API key in force that none has signed. The keys are those of the catalogue (keys.json) beside the
database file or in the home directory, or the one that is given. Where there is neither, heads are only checked with the key that stands in the
newest of them: whoever can write the database could have put his own there. A realm in several databases: the chain of each that
database.toml names; heads sign the home's alone. Exit code 1 if one is altered or cannot be read. Records that make no sense to this version are counted: a newer
platform wrote them, or somebody with the platform's login to PostgreSQL.")]
pub(crate) struct Verify {
    #[command(flatten)]
    databases: DatabaseChoice,
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
        AuditCommand::Verify(arguments) => {
            let verify = |one: &Chosen| verify(context, arguments, one);
            return arguments.databases.look(context, "sound", verify);
        }
        AuditCommand::Head => context.output.object(&context.client()?.get("/v1/audit/head")?)?,
        AuditCommand::Restored(Restored { reason }) => {
            let body = json!({ "reason": reason });
            context.output.object(&context.client()?.post("/v1/audit/restorations", &body)?)?;
        }
    }
    Ok(Ending::Done)
}

fn verify(context: &Context, arguments: &Verify, chosen: &Chosen) -> anyhow::Result<Looked> {
    let Chosen { reader: database, catalogue, partition } = chosen;
    database.demand_whole_log()?;
    let realm = database.realm();
    let cannot_read = || format!("cannot read the audit log of {realm}");
    let report = {
        let _progress = context.output.progress("walking the audit chain");
        database.verify_audit().with_context(cannot_read)?
    };
    if let Some(fault) = report.fault {
        bail!("the audit log of {} is not what was written: {fault}", realm);
    }
    let keys = AuditKeys::find(arguments, catalogue, realm, &report)?;
    for (signed, found) in &report.heads {
        let head =
            keys.read(signed, realm).context("a signed head in the database cannot be trusted")?;
        leads_to(&head, *found)?;
    }
    // The newest head names one key, and says nothing of those before it.
    let judged = match keys.source {
        NEWEST_HEAD => Vec::new(),
        _ => database.api_keys().with_context(cannot_read)?,
    };
    for key in &judged {
        let key = key.as_ref().map_err(|spoiled| {
            anyhow!(
                "the API key {} makes no sense in column {}: somebody changed it in the database, or it is damaged. The \
                 platform refuses it: delete the row (with sqlite3, or as the owner with psql), make its owner a new one (tapfer api-key create), and \
                 ask who had access",
                spoiled.id,
                spoiled.column
            )
        })?;
        keys.demand_signed(key, realm)?;
    }
    // Heads are of the home's chain.
    if let (Some(kept), None | Some(0)) = (&arguments.head, partition) {
        let signed = read_head(kept)?;
        let head = keys
            .read(&signed, realm)
            .with_context(|| format!("{} cannot be trusted", kept.display()))?;
        leads_to(&head, database.end_at(head.sequence)?)?;
    }
    let restorations = report.restorations.iter().map(|told| {
        let at = told.event.at;
        let reason = told.event.detail.as_deref().unwrap_or("no reason given");
        match context.output.is_json() {
            true => json!({ "at": at, "record": told.sequence, "reason": reason }),
            false => json!(format!("{at} as record {}: {reason}", told.sequence)),
        }
    });
    let mut found = json!({
        "realm": realm,
        "records": report.sound.sequence,
        "hash": HEXLOWER.encode(&report.sound.hash),
        "signed_heads": report.heads.len(),
        "signed_api_keys": if keys.source == NEWEST_HEAD { Value::Null } else { json!(judged.len()) },
        "audit_keys": keys.fingerprints(),
        "audit_keys_from": keys.source,
        "restorations": restorations.collect::<Vec<_>>(),
    });
    // What is not linked yet is covered by nothing; platforms that run link it within a second.
    let waiting = database.lines_to_be_linked().with_context(cannot_read)?;
    if let (Some(waiting), Some(fields)) = (waiting, found.as_object_mut()) {
        fields.insert("not_linked_yet".to_owned(), json!(waiting));
    }
    if let (1.., Some(fields)) = (report.unread, found.as_object_mut()) {
        fields.insert("make_no_sense_here".to_owned(), json!(report.unread));
    }
    if !context.output.is_json() {
        context.output.object(&found)?;
        let said = match keys.source {
            NEWEST_HEAD => {
                "the audit log is whole, by a key that nobody vouches for: give --audit-key (head.key of `tapfer audit head --json`)"
            }
            _ if report.heads.is_empty() => {
                "the audit log is whole; no head has signed it yet, and whoever owns the database could have written it anew"
            }
            _ => "the audit log is whole, and signed as it stands",
        };
        context.output.line(context.output.paint(Emphasis::Good, said));
    }
    Ok(Looked { facts: found, is_good: true })
}

/// The source of a key that nobody vouches for.
const NEWEST_HEAD: &str = "newest head";

/// The keys that may have signed heads.
struct AuditKeys {
    keys: Vec<DocumentKey>,
    /// Of these, those that are destroyed: what they signed then, others may sign now.
    destroyed: Vec<DocumentKey>,
    source: &'static str,
}

impl AuditKeys {
    /// The key that was given; else those of the catalogue beside the database, of every generation; else the one
    /// that says of itself that it signed the newest head.
    fn find(
        arguments: &Verify,
        catalogue: &Path,
        realm: RealmId,
        report: &ChainReport,
    ) -> anyhow::Result<Self> {
        if let Some(digits) = &arguments.audit_key {
            return Ok(Self { keys: vec![key(digits)?], destroyed: Vec::new(), source: "given" });
        }
        if catalogue.exists() {
            let bytes = fs::read(catalogue)?;
            let read = UnverifiedCatalogue::parse(&bytes)
                .with_context(|| catalogue.display().to_string())?;
            if read.realm().1 != realm {
                bail!("{} is another realm's", catalogue.display());
            }
            let of_heads = |record: &&KeyRecord| record.name.purpose == KeyPurpose::AuditHead;
            let heads = || read.records().filter(of_heads);
            let key = |record: &KeyRecord| record.public.map(DocumentKey::from);
            let destroyed = heads().filter(|record| record.state == KeyState::Destroyed);
            return Ok(Self {
                keys: heads().filter_map(key).collect(),
                destroyed: destroyed.filter_map(key).collect(),
                source: "catalogue",
            });
        }
        let newest = report.heads.last().map(|(signed, _)| key_of(signed)).transpose()?;
        let destroyed = Vec::new();
        Ok(Self { keys: newest.into_iter().collect(), destroyed, source: NEWEST_HEAD })
    }

    /// A head that one of the keys has signed.
    fn read(&self, signed: &SignedDocument, realm: RealmId) -> anyhow::Result<KnownHead> {
        let is_its = |key: &&DocumentKey| signed.key.0 == key.bytes();
        let Some(key) = self.keys.iter().find(is_its) else {
            bail!(
                "it is signed with the key {}, which is none of the platform's",
                key_of(signed)?.fingerprint()
            );
        };
        Ok(KnownHead::read(signed, key, realm)?)
    }

    /// An API key that one of the keys has signed, and none that is destroyed.
    fn demand_signed(&self, api_key: &ApiKey, realm: RealmId) -> anyhow::Result<()> {
        let statement = serde_json::to_vec(&api_key.statement(realm))?;
        let signs = |key: &&DocumentKey| {
            api_key.signature.is_some_and(|signature| {
                let key = (**key).into();
                DocumentPurpose::AuditHead.is_signed_by(&key, &statement, &signature)
            })
        };
        let signer = self.keys.iter().find(signs);
        if let Some(key) = signer.filter(|key| self.destroyed.contains(key)) {
            bail!(
                "the API key {} of {}, made {}, is signed with the key {}, which is destroyed: whoever has a copy of it may \
                 have written the row. The platform refuses it: revoke it, or look who has it and start once with \
                 tapfer serve --accept-api-keys",
                api_key.id,
                api_key.principal,
                api_key.created_at,
                key.fingerprint()
            );
        }
        if signer.is_none() {
            bail!(
                "the API key {} of {}, made {}, is not signed by the platform: somebody wrote it into the database or \
                 changed it, or it is from before keys were signed. The platform refuses it: revoke it, and ask who had \
                 access",
                api_key.id,
                api_key.principal,
                api_key.created_at
            );
        }
        Ok(())
    }

    fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.fingerprint().to_string()).collect()
    }
}

/// Whether the chain has, in the place of a signed head, the hash and the restoration that were signed.
fn leads_to(head: &KnownHead, found: Option<KnownHead>) -> anyhow::Result<()> {
    let sequence = head.sequence;
    match found {
        Some(found) if found == *head => Ok(()),
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

fn read_head(path: &Path) -> anyhow::Result<SignedDocument> {
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
