//! Which databases a command looks at: one that is named, or all of the realm in the home directory.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tapfer_server::realm::{RealmError, database_readers};
use tapfer_storage::DatabaseReader;

use crate::context::Context;
use crate::database_address::DatabaseAddress;
use crate::failure::{self, Ending};
use crate::output::Emphasis;

#[derive(Debug, Args)]
pub(crate) struct DatabaseChoice {
    /// Database file [default: each database of the realm in the home directory]
    #[arg(long, value_name = "FILE", conflicts_with = "address")]
    database: Option<PathBuf>,
    #[command(flatten)]
    server: DatabaseAddress,
}

/// A database that is looked at.
pub(crate) struct Chosen {
    pub(crate) reader: DatabaseReader,
    /// The catalogue of keys that belongs to it.
    pub(crate) catalogue: PathBuf,
    /// Its number, where the realm has several.
    pub(crate) partition: Option<usize>,
}

/// What was found in one. People have read it already.
pub(crate) struct Looked {
    pub(crate) facts: Value,
    pub(crate) is_good: bool,
}

impl DatabaseChoice {
    /// Looks at each database that is meant. One of several that cannot be read keeps nobody from looking at the others.
    /// Programs get the facts of the only one, or those of all in one object, in which `verdict` says whether all are good.
    ///
    /// # Errors
    /// The only one cannot be read; `database.toml` makes no sense.
    pub(crate) fn look(
        &self,
        context: &Context,
        verdict: &str,
        look: impl Fn(&Chosen) -> anyhow::Result<Looked>,
    ) -> anyhow::Result<Ending> {
        let home = context.home.realm();
        let (reader, catalogue) = match (&self.database, self.server.options()?) {
            (Some(file), _) => (DatabaseReader::file(file)?, file.with_file_name("keys.json")),
            (None, Some(options)) => (DatabaseReader::server(&options)?, home.catalogue()),
            (None, None) => {
                let mut databases = database_readers(&home)?;
                match databases.next() {
                    Some(only) if databases.len() == 0 => (only?, home.catalogue()),
                    first => {
                        return look_at_all(
                            context,
                            verdict,
                            first.into_iter().chain(databases),
                            look,
                        );
                    }
                }
            }
        };
        let Looked { facts, is_good } = look(&Chosen { reader, catalogue, partition: None })?;
        if context.output.is_json() {
            context.output.json_line(&facts)?;
        }
        Ok(Ending::done_if(is_good))
    }
}

/// The partitions of a realm, the home first.
fn look_at_all(
    context: &Context,
    verdict: &str,
    databases: impl Iterator<Item = Result<DatabaseReader, RealmError>>,
    look: impl Fn(&Chosen) -> anyhow::Result<Looked>,
) -> anyhow::Result<Ending> {
    let (output, catalogue) = (context.output, context.home.realm().catalogue());
    let (mut all, mut bad) = (Vec::new(), Vec::new());
    for (number, reader) in databases.enumerate() {
        output.line(output.paint(Emphasis::Strong, &format!("partition {number}")));
        let looked = reader.map_err(anyhow::Error::from).and_then(|reader| {
            look(&Chosen { reader, catalogue: catalogue.clone(), partition: Some(number) })
        });
        let Looked { mut facts, is_good } = looked.unwrap_or_else(|error| {
            let why = failure::said(&error);
            output.line(output.paint(Emphasis::Bad, &why));
            Looked { facts: json!({ "error": why }), is_good: false }
        });
        if let Some(facts) = facts.as_object_mut() {
            facts.insert("partition".to_owned(), json!(number));
            facts.insert(verdict.to_owned(), json!(is_good));
        }
        all.push(facts);
        if !is_good {
            bad.push(number.to_string());
        }
    }
    if output.is_json() {
        output.json_line(&json!({ verdict: bad.is_empty(), "partitions": all }))?;
    } else {
        let (emphasis, said) = match bad.is_empty() {
            true => (Emphasis::Good, format!("all {} partitions are as they should be", all.len())),
            false => (
                Emphasis::Bad,
                format!("of {} partitions NOT as they should be: {}", all.len(), bad.join(", ")),
            ),
        };
        output.line(output.paint(emphasis, &said));
    }
    Ok(Ending::done_if(bad.is_empty()))
}
