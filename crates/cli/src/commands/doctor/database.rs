//! The realm's database: whether it can be read, and has all that was acknowledged.

use tapfer_server::realm::database_reader;
use tapfer_storage::DatabaseReader;

use super::Check;
use crate::context::Context;

const CURE: &str =
    "docs/disaster-recovery.md, when the database does not hold together, or was changed by hand";

/// `None` of a realm that has none yet.
pub(super) fn check(context: &Context) -> Option<Check> {
    let paths = context.home.realm();
    if !paths.has_database() {
        return None;
    }
    let read = database_reader(&paths).map_err(anyhow::Error::from).and_then(|database| {
        database.demand_whole_log()?;
        found(&database)
    });
    Some(match read {
        Ok(found) => Check::good("database", found),
        Err(error) => Check::missing("database", format!("{error:#}"), CURE),
    })
}

fn found(database: &DatabaseReader) -> anyhow::Result<String> {
    Ok(format!("schema {}; whether all of it is sound: tapfer db check", database.schema()?))
}
