//! Keys that leave and come as key blocks, under the eyes of the custodians.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use tapfer_hsm::exchange::Origin;
use tapfer_hsm::key_block::{ProtectionKey, Version, inspect};
use tapfer_payments::audit::AuditAction;

use super::held::{Occasion, Record, hold};
use super::keeper::{Order, catalogue_as_it_says, named};
use super::life::{WhichKey, as_told, summary};
use crate::ceremony::PartsFrom;
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
    pub(super) roots: PartsFrom,
    /// File with one part of the key block protection key, in place of the keyboard; once for each part
    #[arg(long = "protection-part", value_name = "FILE")]
    pub(super) protection_parts: Vec<PathBuf>,
    /// Check value of the protection key that the custodians agree to, where their parts come from files; at the
    /// keyboard each of them types it
    #[arg(long, value_name = "CHECK-VALUE")]
    pub(super) agreed: Option<String>,
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
    record: Record,
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
    /// The block is of another system, which does not say whose key it is and what for
    #[arg(long)]
    foreign: bool,
    #[command(flatten)]
    parts: BothParts,
    #[command(flatten)]
    record: Record,
    #[command(flatten)]
    order: Order,
}

pub(crate) fn export(context: &Context, arguments: &ExportArguments) -> anyhow::Result<Ending> {
    let to = &arguments.to;
    anyhow::ensure!(!to.exists(), "{} is there already; name a file that is not", to.display());
    let WhichKey { owner, purpose } = arguments.key;
    let name = named(&catalogue_as_it_says(context)?, owner, purpose, arguments.generation)?;
    let occasion = Occasion {
        purpose: "a key given out as a key block",
        custodians: &[],
        action: AuditAction::KeyExported,
        object: name.to_string(),
        order: Some(&arguments.order),
    };
    let (block, told) = hold(context, &arguments.record, occasion, |ceremony| {
        let what = format!("{name} is about to be given out");
        let (protection, roots) = ceremony.for_exchange(context, &arguments.parts, &what)?;
        let keys = ceremony.keys_over(context, roots)?;
        let protection = ProtectionKey::new(Version::D, protection.key)?;
        let block = keys.export_key_block(name, &protection, &mut clock::random())?;
        if let Err(error) = write_private(to, format!("{block}\n").as_bytes()) {
            // What the log calls refused must not lie there.
            let is_left = fs::remove_file(to).is_err() && to.exists();
            let left = if is_left { "; THE KEY BLOCK MAY LIE THERE: remove it" } else { "" };
            anyhow::bail!("no key block was given out: {error:#}{left}");
        }
        ceremony.transcript.step(format!("{name} given out as key block {}", to.display()));
        Ok(block)
    })?;
    let file = to.display().to_string();
    let exported = json!({ "key": name.to_string(), "file": file, "key_block": block });
    context.output.object(&with(exported, &told))?;
    Ok(Ending::Done)
}

pub(crate) fn import(context: &Context, arguments: &ImportArguments) -> anyhow::Result<Ending> {
    let block = read_block(&arguments.from)?;
    // Before anybody types a part for a block that is none.
    inspect(&block).with_context(|| arguments.from.display().to_string())?;
    let WhichKey { owner, purpose } = arguments.key;
    let occasion = Occasion {
        purpose: "a key taken in from a key block",
        custodians: &[],
        action: AuditAction::KeyImported,
        object: format!("{owner} {purpose}"),
        order: Some(&arguments.order),
    };
    let origin = if arguments.foreign { Origin::Foreign } else { Origin::Tapfer };
    let (record, told) = hold(context, &arguments.record, occasion, |ceremony| {
        let from = arguments.from.display();
        let what = format!("The key in {from} is about to become {owner} {purpose}");
        let (protection, roots) = ceremony.for_exchange(context, &arguments.parts, &what)?;
        let keys = ceremony.keys_over(context, roots)?;
        let protection = ProtectionKey::new(Version::D, protection.key)?;
        let block = (block.as_str(), origin);
        let record = ceremony.over_newest(&keys, || {
            Ok(keys.import_key_block(owner, purpose, &protection, block, clock::now())?)
        })?;
        ceremony.transcript.check_value(&record.name.to_string(), record.check_value);
        ceremony.transcript.step(format!("key block {from} taken in: {}", summary(&record)));
        Ok(record)
    })?;
    context.output.object(&with(as_told(context, &record)?, &told))?;
    Ok(Ending::Done)
}

/// What came of it, and where its transcript is.
pub(super) fn with(mut done: Value, told: &Value) -> Value {
    if let (Some(fields), Some(told)) = (done.as_object_mut(), told.as_object()) {
        fields.extend(told.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    done
}

fn read_block(file: &Path) -> anyhow::Result<String> {
    let length = fs::metadata(file).with_context(|| file.display().to_string())?.len();
    anyhow::ensure!(length <= LONGEST_BLOCK, "{} is too long for a key block", file.display());
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_owned())
}
