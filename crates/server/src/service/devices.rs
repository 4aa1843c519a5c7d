//! Devices: phones with a wallet on them.

use tapfer_emv::curve::PublicPoint;
use tapfer_payment_types::{DeviceId, IssuerId};
use tapfer_payments::access::Principal;
use tapfer_payments::devices::{Device, DevicePublicKey};
use tapfer_payments::store_shares::StoreState;
use tapfer_storage::{Page, Slice};

use crate::api;
use crate::service::answer::{Answered, created};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

impl Service {
    /// Registers a phone and makes its API key.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn create_device(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: api::devices::CreateDevice,
    ) -> Result<Answered, ServiceError> {
        caller.require_issuer(request.issuer, "issuer")?;
        self.once_with_secret(repetition, || {
            let issuer = self.issuer(caller, request.issuer)?.id;
            let now = self.now();
            let device = Device {
                id: DeviceId::new(now, self.random()?),
                issuer,
                label: String::from(request.label),
                public_key: device_key(&request.public_key.0)?,
                created_at: now,
                store: StoreState::default(),
                lock: None,
            };
            let principal = Principal::Device(device.id);
            let (key, text) = self.new_api_key(principal, now)?;
            let clear = created(&api::devices::CreatedDevice {
                device: (&device).into(),
                api_key: text.expose().clone(),
            });
            let write = self.sealed_write(caller, repetition, &clear)?;
            Ok((clear, self.storage.create_device(device, key, write)?))
        })
    }

    /// One device.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn device(&self, caller: &Caller, id: DeviceId) -> Result<Device, ServiceError> {
        caller.require_token_role()?;
        let device = self.storage.device(id)?.ok_or(ServiceError::NotFound("device"))?;
        caller.require_device(device.id, device.issuer, "device")?;
        Ok(device)
    }

    /// Devices.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_devices(
        &self,
        caller: &Caller,
        issuer: Option<IssuerId>,
        page: Page<DeviceId>,
    ) -> Result<Slice<Device, DeviceId>, ServiceError> {
        let scope = caller.issuer_scope()?;
        if let Some(issuer) = issuer {
            caller.require_issuer(issuer, "issuer")?;
        }
        Ok(self.storage.list_devices(issuer.or(scope), page)?)
    }
}

/// Checked to be a point on the curve now, and not only when the first payload is sealed to it.
fn device_key(bytes: &[u8]) -> Result<DevicePublicKey, ServiceError> {
    let invalid = |detail: String| ServiceError::Invalid(detail);
    let key = DevicePublicKey::new(bytes).map_err(|error| invalid(error.to_string()))?;
    let coordinates = bytes.split_first().and_then(|(_, rest)| rest.first_chunk::<64>());
    let on_curve = coordinates.is_some_and(|point| PublicPoint::from_bytes(point).is_ok());
    if on_curve {
        return Ok(key);
    }
    Err(invalid("public_key is not a point on P-256; send the key as the phone made it".to_owned()))
}
