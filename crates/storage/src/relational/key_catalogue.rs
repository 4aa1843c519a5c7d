//! Which version of the catalogue of keys was used.

use tapfer_payment_types::CatalogueMark;

use super::Result;
use super::rows::{Columns, execute, first, lock};
use super::sql::{Connection, Guard, params};

const TABLE: &str = "key_catalogue";

/// The newest version that was ever noted.
pub(crate) fn newest(connection: &Connection) -> Result<Option<CatalogueMark>> {
    first(connection, "SELECT * FROM key_catalogue WHERE one = 1", params![], |row| {
        let columns = Columns::keyed(row, TABLE, "version");
        Ok(CatalogueMark {
            version: columns.number("version")?,
            mac: columns.bytes("mac")?,
            key: columns.bytes("key_hash")?,
        })
    })
}

/// Puts `newer` in the place of `known`. Whether that was still the newest.
pub(crate) fn note(
    connection: &Connection,
    known: Option<CatalogueMark>,
    newer: CatalogueMark,
) -> Result<bool> {
    lock(connection, Guard::Catalogue, TABLE)?;
    let found = newest(connection)?;
    if found != known {
        return Ok(false);
    }
    if found != Some(newer) {
        let version = i64::try_from(newer.version).unwrap_or(i64::MAX);
        let note = "INSERT INTO key_catalogue (one, version, mac, key_hash) VALUES (1, ?1, ?2, ?3) \
                    ON CONFLICT (one) DO UPDATE SET version = ?1, mac = ?2, key_hash = ?3";
        execute(connection, note, params![version, newer.mac.as_slice(), newer.key.as_slice()])?;
    }
    Ok(true)
}
