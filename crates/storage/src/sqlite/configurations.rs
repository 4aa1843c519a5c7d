//! The newest signed configurations, and how the key that signs them came to be it.

use rusqlite::{Connection, Row, params};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::{Audience, SignedDocument};
use tapfer_payments::audit::{AuditAction, AuditEvent};

use super::audit_chain::read_document;
use super::rows::{Columns, all, execute, first};
use super::{Result, SqliteStorage, audit};
use crate::{ConfigurationStore, PublishedConfiguration, StorageError};

fn read(row: &Row<'_>) -> Result<PublishedConfiguration> {
    let columns = Columns::keyed(row, "configurations", "audience");
    Ok(PublishedConfiguration {
        audience: columns.parse("audience")?,
        restoration: columns.number("restoration")?,
        version: columns.number("version")?,
        content: columns.bytes("content")?,
        issued_at: columns.time("issued_at")?,
        signed: read_document(row)?,
    })
}

fn find(connection: &Connection, audience: Audience) -> Result<Option<PublishedConfiguration>> {
    let one = "SELECT * FROM configurations WHERE audience = ?1";
    first(connection, one, params![audience.to_string()], read)
}

fn publish(connection: &Connection, published: &PublishedConfiguration) -> Result<()> {
    let order = |one: &PublishedConfiguration| (one.restoration, one.version);
    let before = find(connection, published.audience)?;
    if before.is_some_and(|before| order(&before) >= order(published)) {
        return Err(StorageError::Conflict);
    }
    let PublishedConfiguration { audience, restoration, version, content, issued_at, signed } =
        published;
    let version = i64::try_from(*version).map_err(|_| StorageError::Conflict)?;
    execute(
        connection,
        "INSERT INTO configurations
             (audience, restoration, version, content, issued_at, document, key, signature)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (audience) DO UPDATE SET
             restoration = excluded.restoration, version = excluded.version,
             content = excluded.content, issued_at = excluded.issued_at,
             document = excluded.document, key = excluded.key, signature = excluded.signature",
        params![
            audience.to_string(),
            restoration,
            version,
            content.as_slice(),
            issued_at.unix_millis(),
            signed.document,
            signed.key.0,
            signed.signature.0,
        ],
    )?;
    Ok(())
}

impl ConfigurationStore for SqliteStorage {
    fn configuration(&self, audience: Audience) -> Result<Option<PublishedConfiguration>> {
        self.read(|connection| find(connection, audience))
    }

    fn publish_configuration(
        &self,
        published: PublishedConfiguration,
        now: Timestamp,
    ) -> Result<()> {
        self.writer.run(move |connection| {
            publish(connection, &published)?;
            let (action, object) =
                (AuditAction::ConfigurationPublished, published.audience.to_string());
            let detail = Some(format!("version {}", published.version));
            audit::insert(connection, &AuditEvent::of_platform(action, object, detail, now))
        })
    }

    fn key_successions(&self) -> Result<Vec<SignedDocument>> {
        let list = "SELECT * FROM key_successions ORDER BY sequence";
        self.read(|connection| all(connection, list, [], read_document))
    }

    fn add_key_succession(&self, signed: SignedDocument, now: Timestamp) -> Result<()> {
        self.writer.run(move |connection| {
            let insert =
                "INSERT INTO key_successions (document, key, signature) VALUES (?1, ?2, ?3)";
            execute(
                connection,
                insert,
                params![signed.document, signed.key.0, signed.signature.0],
            )?;
            let action = AuditAction::ConfigurationKeySucceeded;
            let object = "configuration".to_owned();
            audit::insert(connection, &AuditEvent::of_platform(action, object, None, now))
        })
    }
}
