//! Which key a verb works with.

use std::sync::Arc;

use tapfer_emv::curve::{PrivateKey, PublicPoint, PublicX};
use tapfer_payment_types::IssuerId;
use tapfer_payment_types::configuration::MAXIMUM_SUCCESSIONS;

use super::VaultedHsm;
use super::shelf::HeldKey;
use crate::catalogue::{KeyOwner, KeyPurpose, KeyRecord, KeyState};
use crate::vault::Vault;
use crate::{DocumentKeyRecord, DocumentPurpose, HsmError, IssuerKeys};

type Held<V> = Arc<HeldKey<<V as Vault>::Key>>;

/// There is no key of this purpose, nor was there ever one.
const fn unknown(owner: KeyOwner, purpose: KeyPurpose) -> HsmError {
    match (owner, purpose) {
        (KeyOwner::Issuer(issuer), _) => HsmError::UnknownIssuer(issuer),
        (KeyOwner::Authority { index, .. }, _) => HsmError::UnknownAuthority { index },
        (KeyOwner::Platform, KeyPurpose::MerchantAuthority) => HsmError::UnknownMerchantAuthority,
        (KeyOwner::Platform, KeyPurpose::ClientAuthority | KeyPurpose::RepeatedRequests) => {
            HsmError::UnknownAccessKeys
        }
        (KeyOwner::Platform, _) => HsmError::UnknownDocumentKey,
    }
}

/// EC-SDSA certificates carry x alone.
fn public_x(point: &PublicPoint) -> Result<PublicX, HsmError> {
    let bytes = point.bytes();
    let x = bytes.first_chunk().and_then(|x| PublicX::from_bytes(x).ok());
    x.ok_or(HsmError::Internal { operation: "reading a public key of the catalogue" })
}

impl<V: Vault> VaultedHsm<V> {
    /// The generation that makes what is new.
    pub(super) fn active(&self, owner: KeyOwner, purpose: KeyPurpose) -> Result<Held<V>, HsmError> {
        let shelves = self.working()?;
        if let Some(found) = shelves.find(|shelf| shelf.active(owner, purpose).cloned())? {
            return Ok(found);
        }
        let ever = shelves.now().generations(owner, purpose).next().is_some();
        Err(if ever { HsmError::NoActiveKey { owner, purpose } } else { unknown(owner, purpose) })
    }

    /// All generations that still open and verify, the newest first.
    pub(super) fn usable(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
    ) -> Result<Vec<Held<V>>, HsmError> {
        let usable = self.working()?.find(|shelf| {
            let all: Vec<_> = shelf.generations(owner, purpose).cloned().collect();
            (!all.is_empty()).then_some(all)
        })?;
        let mut usable = usable.ok_or_else(|| unknown(owner, purpose))?;
        usable.retain(|held| held.record.state != KeyState::Destroyed);
        Ok(usable)
    }

    /// One generation, whatever its state. `None` if the owner has others, and not this one.
    pub(super) fn generation(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        generation: u8,
    ) -> Result<Option<Held<V>>, HsmError> {
        let shelves = self.working()?;
        let found = shelves.find(|shelf| {
            let mut all = shelf.generations(owner, purpose);
            all.find(|held| held.record.name.generation == generation).cloned()
        })?;
        match found {
            Some(found) => Ok(Some(found)),
            None if shelves.now().generations(owner, purpose).next().is_some() => Ok(None),
            None => Err(unknown(owner, purpose)),
        }
    }

    /// All generations of a key that signs documents.
    pub(super) fn generations_that_sign(
        &self,
        of: DocumentPurpose,
    ) -> Result<Vec<DocumentKeyRecord>, HsmError> {
        let (owner, purpose) = (KeyOwner::Platform, KeyPurpose::from(of));
        let found = self.working()?.find(|shelf| {
            shelf.active(owner, purpose)?;
            let newest_first = shelf.generations(owner, purpose).map(|held| &held.record);
            let told = |(place, record): (usize, &KeyRecord)| {
                let succession = record.succession.clone();
                Some(DocumentKeyRecord {
                    key: record.public?.into(),
                    state: record.state,
                    succession: succession.filter(|_| place < MAXIMUM_SUCCESSIONS),
                })
            };
            newest_first.enumerate().map(told).collect::<Option<Vec<_>>>()
        })?;
        let mut keys = found.ok_or(HsmError::UnknownDocumentKey)?;
        keys.reverse();
        Ok(keys)
    }

    /// A key to use.
    pub(super) fn ready<'a>(&self, held: &'a HeldKey<V::Key>) -> Result<&'a V::Key, HsmError> {
        self.shelves.ready(held)
    }

    /// An EC-SDSA key, in this process's memory for as long as it signs.
    pub(super) fn signing_scalar(&self, held: &HeldKey<V::Key>) -> Result<PrivateKey, HsmError> {
        let released = self.vault().release(self.ready(held)?)?;
        let scalar = released.expose().first_chunk().filter(|_| released.expose().len() == 32);
        let scalar = scalar.and_then(|scalar| PrivateKey::from_bytes(scalar).ok());
        scalar.ok_or(HsmError::Internal { operation: "releasing an EC-SDSA key" })
    }

    pub(super) fn public_point(&self, held: &HeldKey<V::Key>) -> Result<PublicPoint, HsmError> {
        let missing = HsmError::Internal { operation: "reading a public key of the catalogue" };
        held.record.public.ok_or(missing)
    }

    pub(super) fn public_x(&self, held: &HeldKey<V::Key>) -> Result<PublicX, HsmError> {
        public_x(&self.public_point(held)?)
    }

    pub(super) fn public_side(&self, issuer: IssuerId) -> Result<IssuerKeys, HsmError> {
        let owner = KeyOwner::Issuer(issuer);
        let signing = self.active(owner, KeyPurpose::IccCertificates)?;
        Ok(IssuerKeys {
            issuer,
            derivation_key_index: self
                .active(owner, KeyPurpose::IssuerMaster)?
                .record
                .name
                .generation,
            public_key: self.public_x(&signing)?,
        })
    }
}
