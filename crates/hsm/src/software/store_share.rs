//! Shares of phones' stores: HMAC-SHA-256 under the issuer's share key over a label, the device's id and
//! the epoch. Nothing is kept for a phone, and nothing has to be restored for one.

use std::num::NonZeroU32;

use aws_lc_rs::hmac;
use tapfer_payment_types::store_share::STORE_SHARE_LENGTH;
use tapfer_payment_types::{DeviceId, Secret};

use crate::HsmError;

const LABEL: &[u8] = b"tapfer-store-share-1";

pub(super) fn derive(
    key: &Secret<[u8; 32]>,
    device: DeviceId,
    epoch: NonZeroU32,
) -> Result<Secret<[u8; STORE_SHARE_LENGTH]>, HsmError> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()));
    // An id has one length, so that the parts cannot run into each other.
    for part in [LABEL, device.to_string().as_bytes(), &epoch.get().to_be_bytes()] {
        context.update(part);
    }
    let tag = context.sign();
    let mut share = Secret::new([0; STORE_SHARE_LENGTH]);
    if tag.as_ref().len() != STORE_SHARE_LENGTH {
        return Err(HsmError::Internal { operation: "HMAC" });
    }
    share.expose_mut().copy_from_slice(tag.as_ref());
    Ok(share)
}
