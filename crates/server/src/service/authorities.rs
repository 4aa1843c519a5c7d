//! Certification authorities: one a RID, all in the security module.

use tapfer_emv::certificate::{CaPublicKey, Rid};
use tapfer_hsm::HsmError;
use tapfer_hsm::catalogue::{KeyOwner, KeyPurpose};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{IssuerId, Timestamp};
use tapfer_payments::access::Principal;
use tapfer_payments::issuers::Issuer;
use tapfer_storage::Page;

use crate::api::issuers::{Authority, RevokedCertificate, Trust, TrustedIssuer};
use crate::service::caller::Caller;
use crate::service::{Service, ServiceError};

/// The RID of the demo scheme, in the proprietary range of ISO/IEC 7816-5: it needs no registration.
pub(crate) const PLATFORM_RID: Rid = [0xF0, 0x54, 0x41, 0x50, 0x46];
/// Application identifier of issuers that bring none.
pub(super) const DEMO_AID: [u8; 8] = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];
/// Every authority's first key. Their rotation needs a second index.
pub(super) const CA_INDEX: u8 = 0x01;

impl Service {
    /// The authority of a RID, made if there is none.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`].
    pub(super) fn ensure_authority(
        &self,
        rid: Rid,
        now: Timestamp,
    ) -> Result<CaPublicKey, ServiceError> {
        let create = || {
            self.ask_hsm("create_certification_authority", |hsm| {
                hsm.create_certification_authority(rid, CA_INDEX, now)
            })
        };
        match self.authority(rid) {
            Err(ServiceError::Hsm(HsmError::UnknownAuthority { .. })) => match create() {
                // Another request was faster.
                Err(ServiceError::Hsm(HsmError::AuthorityExists { .. })) => self.authority(rid),
                Ok(key) => {
                    let owner = KeyOwner::Authority { rid, index: CA_INDEX };
                    self.note_new_keys(owner, &[KeyPurpose::CertificationAuthority], now)?;
                    Ok(key)
                }
                result => result,
            },
            result => result,
        }
    }

    pub(super) fn authority(&self, rid: Rid) -> Result<CaPublicKey, ServiceError> {
        self.ask_hsm("ca_public_key", |hsm| hsm.ca_public_key(rid, CA_INDEX))
    }

    /// Whom a terminal has to trust. Every caller may know the authorities; who the issuers are is for
    /// those that meet cards of all of them, and an issuer and its phones see their own.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module.
    pub(crate) fn trust(&self, caller: &Caller) -> Result<Trust, ServiceError> {
        self.trust_of(self.only_issuer(caller)?, self.now())
    }

    /// Whom to trust, with all issuers or one of them. One that the security module does not know is passed over: no card of it could
    /// pay, and it keeps nobody from hearing of the others.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module.
    pub(super) fn trust_of(
        &self,
        only: Option<IssuerId>,
        now: Timestamp,
    ) -> Result<Trust, ServiceError> {
        let platform = describe(&self.authority(PLATFORM_RID)?);
        let mut issuers = Vec::new();
        let mut other_authorities: Vec<Authority> = Vec::new();
        let is_seen = |issuer: &Issuer| only.is_none_or(|own| own == issuer.id);
        for issuer in self.all_issuers()?.into_iter().filter(is_seen) {
            let Some(asked_under) = self.strangers.may_be_known(issuer.id) else { continue };
            let asked =
                self.ask_hsm("person_key_recipient", |hsm| hsm.person_key_recipient(issuer.id));
            let pin_key = match asked {
                Err(ServiceError::Hsm(HsmError::UnknownIssuer(id))) => {
                    self.strangers.note(id, asked_under);
                    continue;
                }
                pin_key => pin_key?,
            };
            let rid = rid_of(issuer.aid.as_bytes()).unwrap_or(PLATFORM_RID);
            let is_listed = |authority: &Authority| authority.rid.0 == rid;
            if rid != PLATFORM_RID && !other_authorities.iter().any(is_listed) {
                other_authorities.push(describe(&self.authority(rid)?));
            }
            issuers.push(TrustedIssuer {
                pin_key: HexBytes(pin_key.0.to_vec()),
                id: issuer.id,
                name: issuer.name,
                aid: HexBytes(issuer.aid.as_bytes().to_vec()),
                certificate: HexBytes(issuer.certificate),
            });
        }
        let mut revoked = self.told_revocations(now)?;
        revoked.retain(|entry| only.is_none_or(|own| own == entry.issuer));
        Ok(Trust {
            rid: platform.rid,
            ca_index: platform.ca_index,
            ca_public_key_x: platform.ca_public_key_x,
            other_authorities,
            issuers,
            revoked_certificates: revoked.iter().map(RevokedCertificate::from).collect(),
            merchant_authorities: vec![HexBytes(self.merchant_ca_key()?.bytes().to_vec())],
        })
    }

    /// The issuer a caller belongs to, if it belongs to one.
    fn only_issuer(&self, caller: &Caller) -> Result<Option<IssuerId>, ServiceError> {
        match caller.principal {
            Principal::Issuer(own) => Ok(Some(own)),
            Principal::Device(own) => {
                let device = self.storage.device(own)?.ok_or(ServiceError::NotFound("device"))?;
                Ok(Some(device.issuer))
            }
            Principal::Operator | Principal::Merchant(_) | Principal::Terminal(_) => Ok(None),
        }
    }

    /// Every issuer, page by page.
    pub(super) fn all_issuers(&self) -> Result<Vec<Issuer>, ServiceError> {
        let mut all = Vec::new();
        let mut page = Page::first(100);
        loop {
            let slice = self.storage.list_issuers(page)?;
            all.extend(slice.items);
            match slice.next {
                Some(next) => page.cursor = Some(next),
                None => return Ok(all),
            }
        }
    }
}

/// The first five bytes of an AID (ISO/IEC 7816-5).
pub(super) fn rid_of(aid: &[u8]) -> Option<Rid> {
    aid.first_chunk().copied()
}

fn describe(key: &CaPublicKey) -> Authority {
    Authority {
        rid: HexBytes(key.rid.to_vec()),
        ca_index: key.index,
        ca_public_key_x: HexBytes(key.key.bytes().to_vec()),
    }
}
