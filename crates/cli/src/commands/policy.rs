//! `tapfer policy`: verification policies as files.

use std::path::PathBuf;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Ending;
use crate::policy_file;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Read policy files and say whether they make sense
    #[command(
        after_help = "Example:\n  tapfer policy check policies/*.toml\n\nExit code 1 if a file is no policy, or one that makes no sense."
    )]
    Check {
        /// Policy in TOML, like those in policies/
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

pub(crate) fn run(context: &Context, command: &PolicyCommand) -> anyhow::Result<Ending> {
    let PolicyCommand::Check { files } = command;
    let mut is_good = true;
    for (position, file) in files.iter().enumerate() {
        match policy_file::read(file) {
            Ok(policy) => {
                if position > 0 {
                    context.output.line("");
                }
                context.output.line(file.display().to_string());
                context.output.object(&serde_json::to_value(&policy)?)?;
            }
            // The files behind it are checked all the same.
            Err(error) => {
                is_good = false;
                context.output.remark(format!("tapfer: {error:#}"));
            }
        }
    }
    Ok(Ending::done_if(is_good))
}
