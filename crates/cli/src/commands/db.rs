//! `tapfer db`: the PostgreSQL database of a realm.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use tapfer_server::realm::migrate_database;

use crate::context::Context;
use crate::failure::Ending;

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Make the schema of the database that database.toml names, or bring it forward while platforms run
    #[command(after_help = "\
Example:
  tapfer db migrate --owner tapfer_owner --password-file /root/tapfer_owner.password

database.toml, in the home directory of each platform of the realm:
  address = \"postgres://tapfer@db1:5432,db2:5432/tapfer\"    # several: the one is used that takes writes
  password_file = \"database.password\"                       # of that login, which is in the role tapfer_server
  certificate_authority = \"database-authority.crt\"          # not needed for a unix socket

A new realm: write the file, start `tapfer serve`, which makes the keys and says that the database is empty, run this, and start
again. Platforms of the version before go on beside the newer schema; a newer one waits for it.")]
    Migrate {
        /// Login that the database belongs to; no platform uses it
        #[arg(long, value_name = "NAME", default_value = "tapfer_owner")]
        owner: String,
        /// File with the owner's password
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

pub(crate) fn run(context: &Context, command: &DbCommand) -> anyhow::Result<Ending> {
    let DbCommand::Migrate { owner, password_file } = command;
    let password_file = password_file.as_deref().map(std::path::absolute).transpose()?;
    let (before, after) = migrate_database(context.home.path(), owner, password_file.as_deref())?;
    context.output.object(&json!({ "schema_before": before, "schema": after }))?;
    Ok(Ending::Done)
}
