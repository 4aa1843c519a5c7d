//! `tapfer backup` and `tapfer restore`: a realm as files that can be put elsewhere.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tapfer_server::backup;

use crate::clock;
use crate::context::Context;
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Back up the realm in the home directory; the platform may run meanwhile
    #[command(after_help = "\
Example:
  tapfer backup make --to /mnt/backup/2026-11-22

Database, catalogue of keys, description and certificates go in; root keys do not: they are in the custodians' hands,
or sealed in the keystore. Practise with `tapfer dr drill`.")]
    Make(MakeArguments),
    /// Read a whole backup and say whether it is as it was made
    #[command(after_help = "Example:\n  tapfer backup check /mnt/backup/2026-11-22")]
    Check {
        /// Directory of the backup
        #[arg(value_name = "DIR")]
        backup: PathBuf,
    },
    /// Put a backup into an empty home directory
    #[command(after_help = "\
Example:
  tapfer backup restore /mnt/backup/2026-11-22 --home /srv/tapfer

Be sure that the platform it was made of never runs again: two would both take payments, and neither would know of the
other's. Terminals and phones go on as they are if the new machine has the old address.")]
    Restore {
        /// Directory of the backup
        #[arg(value_name = "DIR")]
        backup: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct MakeArguments {
    /// New directory for the backup
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(crate) fn run(context: &Context, command: &BackupCommand) -> anyhow::Result<Ending> {
    let made = match command {
        BackupCommand::Make(arguments) => {
            let _progress = context.output.progress("copying");
            backup::back_up(context.home.path(), &arguments.to, clock::now())?
        }
        BackupCommand::Check { backup } => {
            let _progress = context.output.progress("reading");
            backup::check(backup)?
        }
        BackupCommand::Restore { backup } => {
            let _progress = context.output.progress("restoring");
            backup::restore(backup, context.home.path())?
        }
    };
    if context.output.is_json() {
        context.output.json_line(&made)?;
        return Ok(Ending::Done);
    }
    context.output.line(format!("realm    {}", made.realm));
    context.output.line(format!("made at  {} by {}", made.made_at, made.software));
    for file in &made.files {
        context.output.line(format!("{}  {:>10}  {}", file.sha256, file.length, file.name));
    }
    Ok(Ending::Done)
}
