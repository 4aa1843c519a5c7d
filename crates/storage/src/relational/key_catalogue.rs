//! Which version of the catalogue of keys was used.

use tapfer_payment_types::{CatalogueMark, IssuerId, Timestamp};
use tapfer_payments::audit::AuditEvent;

use super::key_uses::{KeyUse, rows_under};
use super::rows::{Columns, execute, first, lock};
use super::sql::{Connection, Guard, params};
use super::{Engine, Result};
use crate::{CatalogueStore, StorageError};

const TABLE: &str = "key_catalogue";

/// The newest version that was ever noted.
pub(crate) fn newest(connection: &Connection) -> Result<Option<CatalogueMark>> {
    first(connection, "SELECT * FROM key_catalogue WHERE one = 1", params![], |row| {
        let columns = Columns::keyed(row, TABLE, "version");
        Ok(CatalogueMark {
            version: columns.number("version")?,
            mac: columns.get("mac")?,
            key: columns.get("key_hash")?,
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

fn accept(
    connection: &Connection,
    known: Option<CatalogueMark>,
    accepted: CatalogueMark,
    event: &AuditEvent,
) -> Result<bool> {
    lock(connection, Guard::Catalogue, TABLE)?;
    let is_known = match newest(connection) {
        Ok(found) => found.is_some() && found == known,
        Err(StorageError::Inconsistent(_)) => known.is_none(),
        Err(error) => return Err(error),
    };
    if is_known {
        connection.replace_catalogue(&accepted)?;
        connection.record(event)?;
    }
    Ok(is_known)
}

impl<E: Engine> CatalogueStore for E {
    fn newest_catalogue(&self) -> Result<Option<CatalogueMark>> {
        self.read_apart(newest)
    }

    fn note_catalogue(&self, known: Option<CatalogueMark>, newer: CatalogueMark) -> Result<bool> {
        if known == Some(newer) {
            return Ok(true);
        }
        self.write(move |connection| note(connection, known, newer))
    }

    fn accept_catalogue(
        &self,
        known: Option<CatalogueMark>,
        accepted: CatalogueMark,
        event: AuditEvent,
    ) -> Result<bool> {
        self.write(move |connection| accept(connection, known, accepted, &event))
    }

    fn rows_under(
        &self,
        issuer: IssuerId,
        key: KeyUse,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, u64)>> {
        self.read(|connection| rows_under(connection, issuer, key, now))
    }
}
