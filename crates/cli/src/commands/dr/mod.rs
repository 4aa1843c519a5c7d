//! `tapfer dr`: disaster recovery, practised.

mod drill;
mod place;
mod report;
mod second_site;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum DrCommand {
    /// Restore a backup in an empty place, and prove with a payment that it works
    #[command(after_help = "\
Example:
  tapfer dr drill --from /mnt/backup/2026-11-22 --wallet /srv/drill-phone/wallet --report drill.txt
  tapfer dr drill --from /mnt/backup/2026-11-22 --wallet /srv/drill-phone/wallet \\
    --hsm /etc/tapfer/second-site.toml
  tapfer dr drill --from /mnt/backup/2026-11-22 --keystore --passphrase-file /run/secrets/tapfer

The custodians rebuild the root keys, into software, or with --hsm onto the empty tokens of a second site, for as long
as the drill takes; --keystore opens the backup's keystore instead. What a killed drill left is wiped at the next one.
The platform it restores listens on
this machine only, on a free port, and is gone at the end: nothing it does reaches the real one. The phone is a copy, too:
the drill pays with a token that was there before, and the phone goes on as if nothing had happened.
Exit code 1 if anything is not as it should be. What people do: docs/disaster-recovery.md.")]
    Drill(drill::DrillArguments),
}

pub(crate) fn run(context: &Context, command: &DrCommand) -> anyhow::Result<Ending> {
    match command {
        DrCommand::Drill(arguments) => drill::run(context, arguments),
    }
}
