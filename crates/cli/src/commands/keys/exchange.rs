//! Keys that leave and come as key blocks, under the eyes of the custodians.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tapfer_hsm::SoftwareHsm;
use tapfer_hsm::key_block::{ProtectionKey, Version, inspect};
use tapfer_hsm::sharing::SecretKind;
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_payments::audit::AuditAction;

use super::keeper::{Order, named};
use super::life::{WhichKey, summary, tell};
use crate::ceremony::{PartsFrom, Transcript, gather, lock_memory};
use crate::clock;
use crate::context::Context;
use crate::failure::Ending;
use crate::home::write_private;

/// Longest file that is read as a key block.
const LONGEST_BLOCK: u64 = 16 * 1024;

/// Whose parts rebuild what.
#[derive(Debug, Args)]
pub(crate) struct BothParts {
    #[command(flatten)]
    roots: PartsFrom,
    /// File with one part of the key block protection key, in place of the keyboard; once for each part
    #[arg(long = "protection-part", value_name = "FILE")]
    protection_parts: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    key: WhichKey,
    /// Which generation [default: the newest]
    #[arg(value_name = "GENERATION")]
    generation: Option<u8>,
    /// New file for the key block
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    parts: BothParts,
    #[command(flatten)]
    order: Order,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    #[command(flatten)]
    key: WhichKey,
    /// File with the key block
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    #[command(flatten)]
    parts: BothParts,
    #[command(flatten)]
    order: Order,
}

pub(crate) fn export(context: &Context, arguments: &ExportArguments) -> anyhow::Result<Ending> {
    if arguments.to.exists() {
        anyhow::bail!("{} is there already; name a file that is not", arguments.to.display());
    }
    let (keys, protection) = open(context, &arguments.parts)?;
    let WhichKey { owner, purpose } = arguments.key;
    let name = named(&keys.key_records()?, owner, purpose, arguments.generation)?;
    let audit = arguments.order.audit(context)?;
    let block = audit.around(
        AuditAction::KeyExported,
        &name.to_string(),
        clock::now,
        || {
            let block = keys.export_key_block(name, &protection, &mut clock::random())?;
            write_private(&arguments.to, format!("{block}\n").as_bytes())?;
            anyhow::Ok(block)
        },
        |_| "a key block was written".to_owned(),
    )?;
    context.output.object(&serde_json::json!({
        "key": name.to_string(), "file": arguments.to.display().to_string(), "key_block": block,
    }))?;
    Ok(Ending::Done)
}

pub(crate) fn import(context: &Context, arguments: &ImportArguments) -> anyhow::Result<Ending> {
    let block = read_block(&arguments.from)?;
    // Before anybody types a part for a block that is none.
    inspect(&block).with_context(|| arguments.from.display().to_string())?;
    let (keys, protection) = open(context, &arguments.parts)?;
    let WhichKey { owner, purpose } = arguments.key;
    let audit = arguments.order.audit(context)?;
    let record = audit.around(
        AuditAction::KeyImported,
        &format!("{owner} {purpose}"),
        clock::now,
        || anyhow::Ok(keys.import_key_block(owner, purpose, &protection, &block, clock::now())?),
        summary,
    )?;
    tell(context, &record)
}

fn read_block(file: &Path) -> anyhow::Result<String> {
    let length = fs::metadata(file).with_context(|| file.display().to_string())?.len();
    anyhow::ensure!(length <= LONGEST_BLOCK, "{} is too long for a key block", file.display());
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// The realm's keys over root keys that custodians rebuild, and the protection key from its own.
fn open(context: &Context, parts: &BothParts) -> anyhow::Result<(SoftwareHsm, ProtectionKey)> {
    let output = context.output;
    let memory_locked = lock_memory(output);
    let mut transcript = Transcript::begin("exchange of a key", memory_locked, Vec::new());
    let roots = gather(output, &parts.roots, SecretKind::RootKeys, &mut transcript)?.secret()?;
    let vault = SoftwareVault::new(RootKeys::from_shared(&roots)?);
    let keys = SoftwareHsm::over_catalogue(vault, &context.home.realm().catalogue())?;
    let from = PartsFrom { parts: parts.protection_parts.clone() };
    let protection =
        gather(output, &from, SecretKind::BlockProtection, &mut transcript)?.secret()?;
    Ok((keys, ProtectionKey::new(Version::D, protection)?))
}
