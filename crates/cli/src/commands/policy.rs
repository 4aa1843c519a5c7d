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
    for (position, file) in files.iter().enumerate() {
        let policy = policy_file::read(file)?;
        if position > 0 {
            context.output.line("");
        }
        context.output.line(file.display().to_string());
        context.output.object(&serde_json::to_value(&policy)?)?;
    }
    Ok(Ending::done_if(true))
}
