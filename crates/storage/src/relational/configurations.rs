//! The newest signed configurations.

use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::{Audience, SignedDocument};
use tapfer_payments::audit::{AuditAction, AuditEvent};

use super::audit_chain::read_document;
use super::rows::{execute, first, lock};
use super::sql::{Connection, Guard, params};
use super::{Engine, Result};
use crate::{ConfigurationStore, PublishedConfiguration, StorageError};

fn find(connection: &Connection, audience: Audience) -> Result<Option<SignedDocument>> {
    let one = "SELECT * FROM configurations WHERE audience = ?1";
    first(connection, one, params![audience.to_string()], read_document)
}

fn publish(
    connection: &Connection,
    published: &PublishedConfiguration,
    before: Option<&SignedDocument>,
) -> Result<()> {
    let PublishedConfiguration { audience, signed, .. } = published;
    lock(connection, Guard::Configuration, audience)?;
    if find(connection, *audience)?.as_ref() != before {
        return Err(StorageError::Conflict);
    }
    execute(
        connection,
        "INSERT INTO configurations (audience, document, key, signature) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (audience) DO UPDATE SET
             document = excluded.document, key = excluded.key, signature = excluded.signature",
        params![audience.to_string(), signed.document, signed.key.0, signed.signature.0],
    )?;
    Ok(())
}

impl<E: Engine> ConfigurationStore for E {
    fn configuration(&self, audience: Audience) -> Result<Option<SignedDocument>> {
        self.read_apart(|connection| find(connection, audience))
    }

    fn publish_configuration(
        &self,
        published: PublishedConfiguration,
        before: Option<SignedDocument>,
        now: Timestamp,
    ) -> Result<()> {
        self.write(move |connection| {
            publish(connection, &published, before.as_ref())?;
            let (action, object) =
                (AuditAction::ConfigurationPublished, published.audience.to_string());
            let detail = Some(format!("version {}", published.version));
            connection.record(&AuditEvent::of_platform(action, object, detail, now))
        })
    }
}
