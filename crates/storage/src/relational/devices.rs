//! Phones.

use std::num::NonZeroU32;

use tapfer_payment_types::store_share::StoreReport;
use tapfer_payment_types::{DeviceId, IssuerId};
use tapfer_payments::access::{ApiKey, Principal};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::devices::{Device, DevicePublicKey};
use tapfer_payments::store_shares::{
    DeviceError, DeviceLock, Locker, StoreState, may_be_served, may_lock, may_unlock,
};

use super::rows::{Columns, Listing, execute, first, found, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, access, issuers};
use crate::{DeviceStore, Page, Slice, Write, Written};

fn find(connection: &Connection, id: DeviceId) -> Result<Option<Device>> {
    first(connection, "SELECT * FROM devices WHERE id = ?1", [id.to_string()], read)
}

pub(crate) fn get(connection: &Connection, id: DeviceId) -> Result<Device> {
    found(find(connection, id)?, "device", id)
}

fn get_to_change(connection: &Connection, id: DeviceId) -> Result<Device> {
    lock(connection, Guard::Device, id)?;
    get(connection, id)
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
        store: StoreState {
            confirmed_epoch: columns.number("store_epoch")?,
            is_next_offered: columns.get("store_next_offered")?,
            highest_generation: columns.number("store_generation")?,
            may_be_ahead: columns.get("store_may_be_ahead")?,
        },
        lock: read_lock(&columns)?,
    })
}

fn read_lock(columns: &Columns<'_>) -> Result<Option<DeviceLock>> {
    let by = columns.parse_optional("locked_by")?;
    let reason = columns.get::<Option<String>>("lock_reason")?;
    match (by, reason, columns.time_optional("locked_at")?) {
        (None, None, None) => Ok(None),
        (Some(by), Some(reason), Some(at)) => Ok(Some(DeviceLock { by, reason, at })),
        _ => Err(columns.broken("locked_by, lock_reason, locked_at")),
    }
}

/// Writes down what is known of the store, and who keeps it closed.
fn update(connection: &Connection, device: &Device) -> Result<()> {
    let generation = i64::try_from(device.store.highest_generation);
    let lock = device.lock.as_ref();
    execute(
        connection,
        "UPDATE devices SET store_epoch = ?2, store_next_offered = ?3, store_generation = ?4,
             locked_by = ?5, lock_reason = ?6, locked_at = ?7, store_may_be_ahead = ?8
         WHERE id = ?1",
        params![
            device.id.to_string(),
            device.store.confirmed_epoch,
            device.store.is_next_offered,
            generation.map_err(|_| DeviceError::Generation)?,
            lock.map(|lock| lock.by.as_str()),
            lock.map(|lock| lock.reason.as_str()),
            lock.map(|lock| lock.at.unix_millis()),
            device.store.may_be_ahead,
        ],
    )?;
    Ok(())
}

/// The platform goes on from a backup: phones that are there may have gone on without it.
pub(crate) fn may_be_ahead(connection: &Connection) -> Result<()> {
    execute(connection, "UPDATE devices SET store_may_be_ahead = 1", params![]).map(|_| ())
}

/// What a rule makes of a report: the state afterwards, and the epoch whose share is given.
type Rule =
    fn(StoreState, StoreReport) -> std::result::Result<(StoreState, NonZeroU32), DeviceError>;

fn follow_store(
    engine: &impl Engine,
    id: DeviceId,
    report: StoreReport,
    rule: Rule,
    action: AuditAction,
    write: Write<NonZeroU32>,
) -> Result<Written<NonZeroU32>> {
    engine.change(write, action, move |connection, _| {
        let device = get_to_change(connection, id)?;
        may_be_served(device.lock.as_ref())?;
        let (store, epoch) = rule(device.store, report)?;
        update(connection, &Device { store, ..device })?;
        let detail = format!("epoch {epoch}, generation {}", report.generation);
        Ok(Changed::new(epoch, id).because(detail))
    })
}

impl<E: Engine> DeviceStore for E {
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
        self.read_apart(|connection| find(connection, id))
    }

    fn list_devices(
        &self,
        issuer: Option<IssuerId>,
        page: Page<DeviceId>,
    ) -> Result<Slice<Device, DeviceId>> {
        let filters = [("issuer_id", issuer.map(|id| id.to_string()))];
        let list = Listing { select: "SELECT * FROM devices", key: "id", filters: &filters };
        self.read_apart(|connection| list.slice(connection, page, read, |device| device.id))
    }

    fn report_store(
        &self,
        id: DeviceId,
        report: StoreReport,
        write: Write<NonZeroU32>,
    ) -> Result<Written<NonZeroU32>> {
        follow_store(self, id, report, StoreState::reported, AuditAction::StoreShareGiven, write)
    }

    fn rotate_store(
        &self,
        id: DeviceId,
        report: StoreReport,
        write: Write<NonZeroU32>,
    ) -> Result<Written<NonZeroU32>> {
        follow_store(self, id, report, StoreState::rotated, AuditAction::StoreShareRotated, write)
    }

    fn lock_device(
        &self,
        id: DeviceId,
        by: Locker,
        reason: String,
        write: Write<Device>,
    ) -> Result<Written<Device>> {
        self.change(write, AuditAction::DeviceLocked, move |connection, now| {
            let device = get_to_change(connection, id)?;
            may_lock(device.lock.as_ref(), by)?;
            let detail = format!("{by}: {reason}");
            let device = Device { lock: Some(DeviceLock { by, reason, at: now }), ..device };
            update(connection, &device)?;
            Ok(Changed::new(device, id).because(detail))
        })
    }

    fn unlock_device(
        &self,
        id: DeviceId,
        by: Locker,
        reason: String,
        write: Write<Device>,
    ) -> Result<Written<Device>> {
        self.change(write, AuditAction::DeviceUnlocked, move |connection, _| {
            let device = get_to_change(connection, id)?;
            may_unlock(device.lock.as_ref(), by)?;
            let device = Device { lock: None, ..device };
            update(connection, &device)?;
            Ok(Changed::new(device, id).because(format!("{by}: {reason}")))
        })
    }
}
