//! Keys that leave and come as key blocks, under the eyes of the custodians.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use data_encoding::HEXUPPER;
use serde_json::{Value, json};
use tapfer_hsm::catalogue::KeyRecord;
use tapfer_hsm::exchange::{BlockContent, Origin, look_into};
use tapfer_hsm::key_block::inspect;
use tapfer_payments::audit::AuditAction;

use super::held::{Occasion, Record, hold};
use super::keeper::{Order, catalogue_as_it_says, named};
use super::life::{WhichKey, as_told, summary};
use super::protection::ProtectionInHand;
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
    /// The catalogue has this very key already, destroyed perhaps, and it is meant to come again
    #[arg(long)]
    again: bool,
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
        let what = |_: &ProtectionInHand| {
            Ok(format!("A KEY IS ABOUT TO BE GIVEN OUT: {name}, to {},", to.display()))
        };
        let (protection, roots) =
            ceremony.for_exchange(context, &arguments.parts, "export", what)?;
        let keys = ceremony.keys_over(context, roots)?;
        let block = keys.export_key_block(name, &protection.of_blocks, &mut clock::random())?;
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
        let block = (block.as_str(), origin);
        let mut value = [0; 3];
        let what = |protection: &ProtectionInHand| {
            let content = look_into(owner, purpose, &protection.of_blocks, block)?;
            value = content.check_value;
            let records = catalogue_as_it_says(context)?;
            let known = demand_new(&records, value, arguments.again)?;
            Ok(format!(
                "A KEY IS ABOUT TO BE TAKEN IN from {from}: {}. It becomes generation {} of {owner} {purpose}, which makes \
                 what is new. {known}It came",
                in_words(&content),
                next_generation(&records, &arguments.key)
            ))
        };
        let (protection, roots) =
            ceremony.for_exchange(context, &arguments.parts, "import", what)?;
        let keys = ceremony.keys_over(context, roots)?;
        let record = ceremony.over_newest(&keys, || {
            // The file was only believed so far.
            demand_new(&keys.key_records()?, value, arguments.again)?;
            Ok(keys.import_key_block(owner, purpose, &protection.of_blocks, block, clock::now())?)
        })?;
        ceremony.transcript.check_value(&record.name.to_string(), record.check_value);
        ceremony.transcript.step(format!("key block {from} taken in: {}", summary(&record)));
        Ok(record)
    })?;
    context.output.object(&with(as_told(context, &record)?, &told))?;
    Ok(Ending::Done)
}

/// Which key is in a block, for the custodians.
fn in_words(content: &BlockContent) -> String {
    let value = HEXUPPER.encode(&content.check_value);
    match content.bound {
        Some(name) => format!("check value {value}, by its block {name}"),
        None => format!(
            "check value {value}, of ANOTHER SYSTEM (--foreign): its block does not say whose key it is, so compare \
             the check value with the sender's paper"
        ),
    }
}

fn next_generation(records: &[KeyRecord], WhichKey { owner, purpose }: &WhichKey) -> u8 {
    let same = |record: &&KeyRecord| (record.name.owner, record.name.purpose) == (*owner, *purpose);
    let generations = records.iter().filter(same).map(|record| record.name.generation);
    generations.max().unwrap_or(0).saturating_add(1)
}

/// That no key of the catalogue has this check value, so that no key comes back that was destroyed; or what the
/// custodians are told of those that have, if they are meant to.
fn demand_new(records: &[KeyRecord], value: [u8; 3], again: bool) -> anyhow::Result<String> {
    let same = records.iter().filter(|record| record.check_value == value);
    let known: Vec<String> =
        same.map(|record| format!("{}, which is {}", record.name, record.state)).collect();
    if known.is_empty() {
        return Ok(String::new());
    }
    let (known, value) = (known.join("; "), HEXUPPER.encode(&value));
    anyhow::ensure!(
        again,
        "a key with the check value {value} is known here: {known}. A key that was destroyed or replaced does not come \
         back by its old block; if it is meant to, say so: --again"
    );
    Ok(format!("IT IS KNOWN HERE: {known}. "))
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
