//! `tapfer vectors`: files of golden values.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

use crate::context::Context;
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum VectorsCommand {
    /// Recompute every value of a file, or replay the transactions in it
    #[command(
        after_help = "Example:\n  tapfer vectors check kernel8.json\n\nExit code 1 if a value differs, or if a value is there that nothing knows how to check.\n\nAn input that makes no difference in its transaction, such as a limit that is not reached, cannot be found wrong."
    )]
    Check {
        /// File of the form of kernel8.json, emv_published.json or kernel8-transactions.json
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

pub(crate) fn run(context: &Context, command: &VectorsCommand) -> anyhow::Result<Ending> {
    let VectorsCommand::Check { files } = command;
    let mut clean = true;
    for file in files {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let report = {
            let _progress = context.output.progress("recomputing");
            tapfer_vectors::check_file(&text).with_context(|| file.display().to_string())?
        };
        clean &= report.is_clean();
        if context.output.is_json() {
            let mut object = serde_json::to_value(&report)?;
            if let Some(fields) = object.as_object_mut() {
                fields.insert("file".to_owned(), json!(file.display().to_string()));
                fields.insert("clean".to_owned(), json!(report.is_clean()));
            }
            context.output.json_line(&object)?;
        } else {
            context.output.line(file.display().to_string());
            context.output.line(report.to_string().trim_end());
        }
    }
    Ok(Ending::done_if(clean))
}
