//! What other nodes take out of service, of which the database tells; what they took while this node did not listen; and which keys
//! they gave.

use tapfer_payment_types::ApiKeyId;

use super::known::Known;
use super::{Phase, StandIn};
use crate::hot::Touched;
use crate::postgres::Told;
use crate::relational::Result;
use crate::relational::rows::{Columns, all};
use crate::relational::sql::{Connection, params};

/// What has an id of its own, in which column, and when it is in service no more.
const OUT_OF_SERVICE: [(&str, &str, &str); 5] = [
    ("tokens", "id", "status <> 'ACTIVE'"),
    ("cards", "id", "status <> 'active'"),
    ("terminals", "id", "revoked_at IS NOT NULL"),
    ("api_keys", "id", "revoked_at IS NOT NULL"),
    ("devices", "device_id", "standing = 'failed'"),
];

/// Ids of rows of a table.
pub(crate) type OfTable = (&'static str, Vec<String>);

/// What one row of the database is about.
enum Elsewhere {
    Touched(Touched),
    ApiKey(ApiKeyId),
}

impl Elsewhere {
    /// Nothing, if this version knows no such row.
    fn of(table: &str, id: &str) -> Option<Self> {
        Some(Self::Touched(match table {
            "cards" => Touched::Card(id.parse().ok()?),
            "tokens" => Touched::Token(id.parse().ok()?),
            "terminals" => Touched::Terminal(id.parse().ok()?),
            "issuers" => Touched::Issuer(id.parse().ok()?),
            "devices" => Touched::Device(id.parse().ok()?),
            "api_keys" => return Some(Self::ApiKey(id.parse().ok()?)),
            _ => return None,
        }))
    }
}

impl StandIn {
    /// The database has told something, or this node has begun to listen.
    pub(super) fn is_told(&self, told: Told<'_>) {
        let mut kept = self.state();
        match told {
            Told::Anything => kept.is_behind = true,
            // Whoever may connect to the database may say something here: it costs him a payment behind it, and writes nothing.
            Told::Row(table, id) if kept.known.forget_what_changed(table, id) => {
                tracing::debug!(target: "tapfer::stand_in", what = %format_args!("{table} {id}"), "changed at some node: what was seen of it is forgotten");
            }
            Told::Row(..) => {}
        }
    }

    /// Asks what was taken out of service while nobody listened. Until the database has said it, what was seen is good as before.
    pub(super) fn catch_up(&self) {
        let asked: Vec<OfTable> = {
            let mut kept = self.state();
            if !std::mem::take(&mut kept.is_behind) {
                return;
            }
            OUT_OF_SERVICE.iter().map(|(table, ..)| (*table, kept.known.ids(table))).collect()
        };
        let found = self.database.out_of_service(&asked);
        let mut kept = self.state();
        match found {
            Ok(found) => {
                for (table, id) in found {
                    kept.known.forget_what_changed(table, &id);
                }
                // What they ask of payments is seen again with the next one.
                kept.known.hot.forget_issuers();
                tracing::debug!(target: "tapfer::stand_in", "asked what was taken out of service while nobody listened");
            }
            Err(error) => {
                kept.is_behind = true;
                tracing::warn!(target: "tapfer::stand_in", %error, "what other nodes have taken out of service is not known yet");
            }
        }
    }
}

impl StandIn {
    /// Looks up the keys of tokens that pay with some which this node did not give: the next payment may be with another of them.
    pub(super) fn learn_keys(&self) {
        let tokens = match &mut *self.look() {
            kept if kept.phase == Phase::There => kept.known.take_unknown_keys(),
            _ => return,
        };
        if tokens.is_empty() {
            return;
        }
        let now = (self.clock)();
        match self.database.keys_of_all(&tokens, now) {
            Ok(keys) => {
                tracing::debug!(target: "tapfer::stand_in", tokens = tokens.len(), keys = keys.len(), "keys of phones were looked up");
                let known = &mut self.state().known;
                keys.into_iter().for_each(|(token, key)| known.has_key(token, key));
            }
            Err(error) => {
                tracing::debug!(target: "tapfer::stand_in", %error, "keys of some phones were not looked up");
            }
        }
    }
}

/// Which of these are out of service.
pub(super) fn out_of_service(
    connection: &Connection,
    asked: &[OfTable],
) -> Result<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    for (table, column, ended) in OUT_OF_SERVICE {
        let known = asked.iter().find(|(of, _)| *of == table);
        let ids = known.map(|(_, ids)| ids.join(" ")).unwrap_or_default();
        let rows = if table == "devices" { "device_integrity" } else { table };
        let one_of = connection.is_one_of();
        let sql = format!("SELECT {column} AS id FROM {rows} WHERE {column} {one_of} AND {ended}");
        let ids = all(connection, &sql, params![ids], |row| {
            Columns::new(row, "what is out of service").get::<String>("id")
        })?;
        found.extend(ids.into_iter().map(|id| (table, id)));
    }
    Ok(found)
}

impl Known {
    /// Whether it is something that is known of.
    fn forget_what_changed(&mut self, table: &str, id: &str) -> bool {
        match Elsewhere::of(table, id) {
            Some(Elsewhere::Touched(touched)) => self.forget(touched),
            Some(Elsewhere::ApiKey(id)) => self.forget_api_key(id),
            None => return false,
        }
        true
    }
}
