//! `tapfer keys`: the keys of a realm, for the people who keep them. Works on the files of the home
//! directory, whether the platform runs or not; a running one takes changes over within seconds.

mod catalogue;
mod ceremony;
mod exchange;
mod held;
mod keeper;
mod life;
mod place;
mod protection;

pub(crate) use keeper::policy;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Every key of the realm, and which of them are due
    #[command(after_help = "\
Example:
  tapfer keys list
  tapfer keys list --owner platform

Reads the catalogue without the root keys: what it shows is what the file says. Exit code 1 if a key is overdue, and if no
platform starts with this catalogue, because the database knows a newer one.")]
    List(life::ListArguments),
    /// One key: all generations, check values, times
    #[command(after_help = "Example:\n  tapfer keys show iss_01k... issuer-master")]
    Show(life::WhichKey),
    /// Make the next generation of a key; older ones go on serving what was made under them
    #[command(after_help = "\
Example:
  tapfer keys rotate iss_01k... issuer-master --reason \"cryptoperiod ends in March\"

Phones get keys of the new generation when they next fetch some; tokens with older keys go on paying.")]
    Rotate(life::RotateArguments),
    /// End the use of a generation for anything new
    #[command(
        after_help = "Example:\n  tapfer keys retire iss_01k... issuer-master 1 --reason \"all phones have newer keys\""
    )]
    Retire(life::AdvanceArguments),
    /// Destroy a retired generation for good
    #[command(after_help = "\
Example:
  tapfer keys destroy iss_01k... issuer-master 1 --officer Tony \\
    --transcript destroyed.txt --reason \"retired for a year\"

The custodians of the root keys come for it: one login is not enough. Refused while the database holds what the key is
needed for, unless --lose says how much of it is meant to be lost. Asks for the key's name once more; programs give it
with --confirm. Copies in backups are for you to destroy.")]
    Destroy(life::DestroyArguments),
    /// Give a symmetric key out as a key block, with the custodians
    #[command(after_help = "\
Example:
  tapfer keys export iss_01k... issuer-master 1 --to imk.tr31 --officer Tony \\
    --transcript export.txt --reason \"second site\"

First the custodians of a key block protection key bring their parts; it has to be one that this realm's custodians have
accepted (tapfer keys ceremony protection). They see which it is, agree, and rebuild the root keys. ANSI X9.143 version D.")]
    Export(exchange::ExportArguments),
    /// Take a symmetric key from a key block as the next generation, with the custodians
    #[command(
        after_help = "Example:\n  tapfer keys import iss_01k... issuer-master --from imk.tr31 --foreign --officer Tony \\\n    --transcript import.txt --reason \"from the old system\""
    )]
    Import(exchange::ImportArguments),
    /// People at a table: root keys and their parts
    #[command(subcommand)]
    Ceremony(ceremony::CeremonyCommand),
}

pub(crate) fn run(context: &Context, command: &KeysCommand) -> anyhow::Result<Ending> {
    match command {
        KeysCommand::List(arguments) => life::list(context, arguments),
        KeysCommand::Show(which) => life::show(context, which),
        KeysCommand::Rotate(arguments) => life::rotate(context, arguments),
        KeysCommand::Retire(arguments) => life::retire(context, arguments),
        KeysCommand::Destroy(arguments) => life::destroy(context, arguments),
        KeysCommand::Export(arguments) => exchange::export(context, arguments),
        KeysCommand::Import(arguments) => exchange::import(context, arguments),
        KeysCommand::Ceremony(command) => ceremony::run(context, command),
    }
}
