//! Phones.

use rusqlite::{Connection, Row, params};
use tapfer_payment_types::{DeviceId, IssuerId};
use tapfer_payments::access::{ApiKey, Principal};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::devices::{Device, DevicePublicKey};

use super::rows::{Columns, Listing, execute, first, found};
use super::{Changed, Result, SqliteStorage, access, issuers};
use crate::{DeviceStore, Page, Slice, Write, Written};

fn find(connection: &Connection, id: DeviceId) -> Result<Option<Device>> {
    first(connection, "SELECT * FROM devices WHERE id = ?1", [id.to_string()], read)
}

pub(super) fn get(connection: &Connection, id: DeviceId) -> Result<Device> {
    found(find(connection, id)?, "device", id)
}

fn read(row: &Row<'_>) -> Result<Device> {
    let columns = Columns::new(row, "devices");
    let key: Vec<u8> = columns.get("public_key")?;
    Ok(Device {
        id: columns.parse("id")?,
        issuer: columns.parse("issuer_id")?,
        label: columns.get("label")?,
        public_key: columns.checked("public_key", DevicePublicKey::new(&key))?,
        created_at: columns.time("created_at")?,
    })
}

impl DeviceStore for SqliteStorage {
    fn create_device(
        &self,
        device: Device,
        key: ApiKey,
        write: Write<Device>,
    ) -> Result<Written<Device>> {
        self.change(write, AuditAction::DeviceCreated, move |connection, _| {
            issuers::get(connection, device.issuer)?;
            execute(
                connection,
                "INSERT INTO devices (id, issuer_id, label, public_key, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    device.id.to_string(),
                    device.issuer.to_string(),
                    device.label,
                    device.public_key.as_bytes(),
                    device.created_at.unix_millis(),
                ],
            )?;
            access::insert_for(connection, &key, Principal::Device(device.id))?;
            let id = device.id;
            Ok(Changed::new(device, id).because(format!("with API key {}", key.id)))
        })
    }

    fn device(&self, id: DeviceId) -> Result<Option<Device>> {
        self.read(|connection| find(connection, id))
    }

    fn list_devices(
        &self,
        issuer: Option<IssuerId>,
        page: Page<DeviceId>,
    ) -> Result<Slice<Device, DeviceId>> {
        let filters = [("issuer_id", issuer.map(|id| id.to_string()))];
        let list = Listing { select: "SELECT * FROM devices", key: "id", filters: &filters };
        self.read(|connection| list.slice(connection, page, read, |device| device.id))
    }
}
