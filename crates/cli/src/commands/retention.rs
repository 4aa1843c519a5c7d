//! `tapfer retention`: for how long what has ended is kept.

use clap::Subcommand;
use serde_json::json;

use crate::context::Context;
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// For how many days closed cards and ended tokens are kept
    #[command(after_help = "\
Example:
  tapfer retention show

What is past the limit, and what was erased, says `tapfer db retention`.")]
    Show,
    /// Keep them for another time
    #[command(after_help = "\
Examples:
  tapfer retention set --days 400 --reason \"thirteen months, as agreed with the issuers\"
  tapfer retention set --days 540 --reason \"switched off since spring: the clock is right\"

180 to 3650 days; 540 unless it was set. Behind them a platform erases, within the hour, the numbers of closed cards and ended tokens, the
hashes they are found by, PINs, and phones that have nothing left. What was erased does not come back. A platform whose clock
stands more than 90 days ahead of what it said when it erased last erases nothing, until the limit is set by somebody who has looked at the clock.")]
    Set {
        /// How many days behind the closing of a card or the end of a token
        #[arg(long, value_parser = clap::value_parser!(u16).range(180..=3650))]
        days: u16,
        /// Why, for the record
        #[arg(long, default_value = "asked for on the command line")]
        reason: String,
    },
}

pub(crate) fn run(context: &Context, command: &RetentionCommand) -> anyhow::Result<Ending> {
    match command {
        RetentionCommand::Show => context.show("/v1/retention")?,
        RetentionCommand::Set { days, reason } => {
            let body = json!({ "days": days, "reason": reason });
            context.output.object(&context.client()?.put("/v1/retention", &body)?)?;
        }
    }
    Ok(Ending::Done)
}
