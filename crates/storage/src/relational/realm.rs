//! Whose database it is.

use tapfer_payment_types::RealmId;

use super::Result;
use super::rows::{Columns, first};
use super::sql::{Connection, params};
use crate::Inconsistency;

/// The realm that the keys and the database belong to.
pub(crate) fn realm(connection: &Connection) -> Result<RealmId> {
    let realm = first(connection, "SELECT * FROM realm", params![], |row| {
        Columns::keyed(row, "realm", "one").parse("id")
    })?;
    Ok(realm.ok_or_else(|| Inconsistency { table: "realm", id: "1".to_owned(), column: "id" })?)
}
