//! The realm's database: whether it can be read, and has all that was acknowledged.

use tapfer_payment_types::Money;
use tapfer_server::realm::{RealmPaths, database_reader, look_at_servers, stand_in_limits};
use tapfer_storage::postgres::Look;
use tapfer_storage::unbooked_in_journal;

use super::Check;
use crate::context::Context;
use crate::failure;

const DAMAGED: &str =
    "docs/disaster-recovery.md, when the database does not hold together, or was changed by hand";
const SET_UP: &str = "docs/postgresql.md";
const STAND_IN: &str = "docs/high-availability.md, a stand-in while the primary is away";

/// Nothing of a realm that has none yet.
pub(super) fn checks(context: &Context) -> Vec<Check> {
    let paths = context.home.realm();
    if !paths.has_database() {
        return Vec::new();
    }
    if !paths.database_configuration().exists() {
        let read = database_reader(&paths).map_err(anyhow::Error::from).and_then(|database| {
            database.demand_whole_log()?;
            Ok(database.schema()?)
        });
        return vec![match read {
            Ok(schema) => Check::good("database", found(&format!("schema {schema}"))),
            Err(error) => Check::missing("database", failure::said(&error), DAMAGED),
        }];
    }
    let mut checks = match look_at_servers(&paths).map_err(anyhow::Error::from) {
        Err(error) => vec![Check::missing("database", failure::said(&error), SET_UP)],
        Ok(looks) => {
            let count = looks.len();
            looks
                .into_iter()
                .enumerate()
                .flat_map(|(number, look)| server(look, number, count))
                .collect()
        }
    };
    checks.extend(
        stand_in(&paths).transpose().unwrap_or_else(|error| {
            Some(Check::missing("stand-in", failure::said(&error), STAND_IN))
        }),
    );
    checks
}

/// What this node has decided alone and not booked, and whether it may.
fn stand_in(paths: &RealmPaths) -> Option<anyhow::Result<Check>> {
    let looked = || {
        let limits = stand_in_limits(paths)?;
        let journal = paths.stand_in_journal();
        let waiting = unbooked_in_journal(&journal)?;
        if journal.exists() {
            let since = waiting.since.map(|since| since.to_string()).unwrap_or_default();
            let found = format!(
                "since {since} this node has approved {} payments alone; of the {} entries of its journal some wait to be booked",
                waiting.payments, waiting.records
            );
            let cure = format!(
                "a running node books them when the database is back, another when it is started: {STAND_IN}"
            );
            return Ok(Some(Check::optional("stand-in", found, cure)));
        }
        Ok(limits.map(|limits| {
            let most = Money::new(limits.node_minor, limits.currency);
            let found = format!("this node may decide {most} alone while the database is away; nothing waits to be booked");
            Check::good("stand-in", found)
        }))
    };
    looked().transpose()
}

fn server(look: Look, number: usize, count: usize) -> Vec<Check> {
    let partition =
        if count > 1 { format!("partition {number} of {count}, ") } else { String::new() };
    let schema =
        format!("{partition}{}: schema {}, the rights of its login", look.place, look.schema);
    let mut checks = vec![Check::good("database", found(&schema))];
    if look.locks_are_open {
        let what =
            "anybody who may connect to the database may hold up payments by its advisory locks";
        let cure = format!("take the functions away, as the database's superuser: {SET_UP}");
        checks.push(Check::optional("database's locks", what, cure));
    }
    for holder in look.lock_holders {
        let what =
            format!("the login {} ({}) holds some at this moment", holder.login, holder.program);
        let cure = format!("SELECT pg_terminate_backend({}), as the superuser", holder.pid);
        checks.push(Check::optional("database's locks", what, cure));
    }
    if !look.makers_of_temporary_tables.is_empty() {
        let logins = look.makers_of_temporary_tables.join(", ");
        let what = format!("{logins} may make temporary tables, which nobody here needs");
        let cure = format!("REVOKE TEMPORARY ON DATABASE ... FROM PUBLIC, as its owner: {SET_UP}");
        checks.push(Check::optional("database's rights", what, cure));
    }
    if !look.logins_without_limit.is_empty() {
        let logins = look.logins_without_limit.join(", ");
        let what = format!(
            "{logins} may take all connections of the database, and platforms get none then"
        );
        let cure = format!("ALTER ROLE ... CONNECTION LIMIT 3, as who made them: {SET_UP}");
        checks.push(Check::optional("database's connections", what, cure));
    }
    if look.large_objects_are_open {
        let what = "anybody who may connect to the database may fill its disk with large objects";
        let cure = format!("take the functions away, as the database's superuser: {SET_UP}");
        checks.push(Check::optional("database's disk", what, cure));
    }
    for slot in look.strange_slots {
        let reader = if slot.is_read { "somebody reads" } else { "nobody reads" };
        let what = format!(
            "the replication slot {} ({}), which {reader}: it keeps the log, and shows all that is written",
            slot.name, slot.kind
        );
        let cure = format!(
            "ask who made it; SELECT pg_drop_replication_slot('{}'), as the superuser: docs/partitions.md",
            slot.name
        );
        checks.push(Check::optional("database's slots", what, cure));
    }
    checks
}

fn found(what: &str) -> String {
    format!("{what}; whether all of it is sound: tapfer db check")
}
