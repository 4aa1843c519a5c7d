//! The platform's share in the key of a phone's store, given to the phone itself and to nobody else.
//!
//! These answers are not kept for an idempotency key: a kept one would give a share out again after it was
//! withheld. They need none, since the same question has the same answer until the state of the store
//! changes, and then it must not.

use tapfer_payment_types::DeviceId;
use tapfer_payment_types::store_share::{StoreReport, StoreShareMessage};
use tapfer_payments::access::Principal;
use tapfer_payments::audit::{AuditAction, AuditResult};
use tapfer_payments::devices::Device;
use tapfer_payments::store_shares::{DeviceError, Locker};
use tapfer_storage::{Answer, Refusal, StorageError, StoredResponse, Write};

use crate::api;
use crate::service::answer::{Answered, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

/// Which share a phone asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The one that opens the store it reports.
    Reported,
    /// The one of the epoch after.
    Next,
}

/// What becomes of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockChange {
    /// Its store is kept closed.
    Lock,
    /// Its store opens again.
    Unlock,
}

fn changed_device(device: &Device) -> StoredResponse {
    done(&api::devices::Device::from(device))
}

impl Service {
    /// Gives a phone the share that opens its store, or moves it to the next epoch.
    ///
    /// # Errors
    /// [`ServiceError`]; among them that the phone is locked, or its store older than one that was seen.
    pub(crate) fn store_share(
        &self,
        caller: &Caller,
        id: DeviceId,
        report: StoreReport,
        wanted: Wanted,
    ) -> Result<StoreShareMessage, ServiceError> {
        let device = self.own_device(caller, id)?;
        let write = Write {
            caller: caller.for_audit(),
            claim: None,
            answer: Answer::Known(StoredResponse { status: 200, body: Vec::new() }),
            now: self.now(),
        };
        let written = match wanted {
            Wanted::Reported => self.storage.report_store(id, report, write),
            Wanted::Next => self.storage.rotate_store(id, report, write),
        };
        let epoch = match written {
            Ok(written) => written.value().ok_or(ServiceError::Damaged("a store's epoch"))?,
            Err(StorageError::Refused(Refusal::Device(refusal))) => {
                return Err(self.withhold(caller, id, wanted, refusal)?);
            }
            Err(error) => return Err(error.into()),
        };
        let share = self.ask_hsm("store_share", |hsm| hsm.store_share(device.issuer, id, epoch))?;
        Ok(StoreShareMessage::new(epoch.get(), &share))
    }

    /// The phone that calls, and no one in its place: whoever else had its share would need only a copy
    /// of the phone.
    fn own_device(&self, caller: &Caller, id: DeviceId) -> Result<Device, ServiceError> {
        match caller.principal {
            Principal::Device(own) if own == id => {
                self.storage.device(id)?.ok_or(ServiceError::NotFound("device"))
            }
            Principal::Device(_) => Err(caller.hide("device")),
            _ => Err(caller.refuse("only the phone itself may do this, with its own API key")),
        }
    }

    /// Records that a share was refused. A store that went back is recorded under its own name: it was
    /// copied.
    fn withhold(
        &self,
        caller: &Caller,
        id: DeviceId,
        wanted: Wanted,
        refusal: DeviceError,
    ) -> Result<ServiceError, ServiceError> {
        if refusal == DeviceError::StoreRolledBack {
            return self.rolled_back(caller, id, "its store is older than one that was seen");
        }
        let action = match wanted {
            Wanted::Reported => AuditAction::StoreShareGiven,
            Wanted::Next => AuditAction::StoreShareRotated,
        };
        let why = Some(refusal.to_string());
        self.record(caller, action, id.to_string(), AuditResult::Refused, why)?;
        Ok(StorageError::from(refusal).into())
    }

    /// Records that a phone came with an old copy of its store, and says so.
    ///
    /// # Errors
    /// It could not be recorded.
    pub(super) fn rolled_back(
        &self,
        caller: &Caller,
        id: DeviceId,
        why: &str,
    ) -> Result<ServiceError, ServiceError> {
        tracing::warn!(
            target: "tapfer::security",
            event = "store_rolled_back",
            caller = %caller.key,
            device = %id,
            origin = caller.origin,
            request_id = caller.request_id,
            why,
            "a phone came with an old copy of its store"
        );
        let action = AuditAction::StoreRolledBack;
        let detail = Some(why.to_owned());
        self.record(caller, action, id.to_string(), AuditResult::Refused, detail)?;
        Ok(StorageError::from(DeviceError::StoreRolledBack).into())
    }

    /// Keeps a phone's store closed, or lets it open again.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn change_lock(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: DeviceId,
        change: LockChange,
        request: api::devices::LockDevice,
    ) -> Result<Answered, ServiceError> {
        let by = match caller.issuer_scope()? {
            None => Locker::Operator,
            Some(_) => Locker::Issuer,
        };
        self.device(caller, id)?;
        let reason = String::from(request.reason);
        self.once(caller, repetition, changed_device, |write| {
            Ok(match change {
                LockChange::Lock => self.storage.lock_device(id, by, reason, write)?,
                LockChange::Unlock => self.storage.unlock_device(id, by, reason, write)?,
            })
        })
    }
}
