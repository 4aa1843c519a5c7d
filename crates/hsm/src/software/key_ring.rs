//! All keys of the software module, in memory, each as its own type, wiped with their holder.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tapfer_emv::certificate::Rid;
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_payment_types::messages::{HexBytes, HexSecret};
use tapfer_payment_types::{IssuerId, Secret};

use super::randomness;
use crate::HsmError;

/// The first generation of every key.
const FIRST_GENERATION: u8 = 1;

/// An EC-SDSA key pair of an authority or issuer.
pub(super) struct SigningKey {
    pub(super) private: PrivateKey,
    pub(super) public: PublicX,
}

impl SigningKey {
    /// Draws a pair.
    pub(super) fn generate() -> Result<Self, HsmError> {
        randomness::with_generator(PrivateKey::generate).map(Self::from)
    }
}

impl From<PrivateKey> for SigningKey {
    fn from(private: PrivateKey) -> Self {
        let public = private.public_x();
        Self { private, public }
    }
}

/// All keys of one issuer. Generations count from 1.
pub(super) struct IssuerKeySet {
    /// By derivation key index.
    pub(super) master_keys: BTreeMap<u8, IssuerMasterKey>,
    /// Signs ICC certificates.
    pub(super) signing_key: SigningKey,
    /// HMAC-SHA-256 key over card numbers.
    pub(super) lookup_key: Secret<[u8; 32]>,
    /// AES-256 keys that wrap the keys of card records, by generation.
    pub(super) record_keys: BTreeMap<u8, Secret<[u8; 32]>>,
}

impl IssuerKeySet {
    /// Draws all keys.
    pub(super) fn generate() -> Result<Self, HsmError> {
        Self::generate_with(IssuerMasterKey::new(*randomness::secret()?.expose()))
    }

    /// Draws all keys but the master key.
    pub(super) fn generate_with(issuer_master_key: IssuerMasterKey) -> Result<Self, HsmError> {
        Ok(Self {
            master_keys: BTreeMap::from([(FIRST_GENERATION, issuer_master_key)]),
            signing_key: SigningKey::generate()?,
            lookup_key: randomness::secret()?,
            record_keys: BTreeMap::from([(FIRST_GENERATION, randomness::secret()?)]),
        })
    }

    /// The newest generation of the master key.
    pub(super) fn derivation_key_index(&self) -> u8 {
        self.master_keys.last_key_value().map_or(FIRST_GENERATION, |(&index, _)| index)
    }
}

/// All keys. A copy shares them: changing the set means copying it, and swapping it once the disk has
/// it.
#[derive(Clone, Default)]
pub(super) struct KeyRing {
    pub(super) authorities: BTreeMap<(Rid, u8), Arc<SigningKey>>,
    pub(super) issuers: BTreeMap<IssuerId, Arc<IssuerKeySet>>,
}

/// A [`KeyRing`] as it stands in the keystore, in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredKeyRing {
    certification_authorities: Vec<StoredAuthority>,
    issuers: Vec<StoredIssuer>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAuthority {
    rid: HexBytes,
    index: u8,
    signing_key: HexSecret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredIssuer {
    issuer: IssuerId,
    master_keys: BTreeMap<u8, HexSecret>,
    signing_key: HexSecret,
    lookup_key: HexSecret,
    record_keys: BTreeMap<u8, HexSecret>,
}

impl From<&KeyRing> for StoredKeyRing {
    fn from(ring: &KeyRing) -> Self {
        let authority = |(&(rid, index), key): (&(Rid, u8), &Arc<SigningKey>)| StoredAuthority {
            rid: HexBytes(rid.to_vec()),
            index,
            signing_key: store(key.private.to_bytes().expose()),
        };
        Self {
            certification_authorities: ring.authorities.iter().map(authority).collect(),
            issuers: ring.issuers.iter().map(|(&id, keys)| store_issuer(id, keys)).collect(),
        }
    }
}

fn store(key: &[u8]) -> HexSecret {
    HexSecret::new(key.to_vec())
}

fn store_issuer(issuer: IssuerId, keys: &IssuerKeySet) -> StoredIssuer {
    StoredIssuer {
        issuer,
        master_keys: keys.master_keys.iter().map(|(&i, key)| (i, store(key.expose()))).collect(),
        signing_key: store(keys.signing_key.private.to_bytes().expose()),
        lookup_key: store(keys.lookup_key.expose()),
        record_keys: keys.record_keys.iter().map(|(&i, key)| (i, store(key.expose()))).collect(),
    }
}

impl StoredKeyRing {
    /// Takes the keys out, each as its own type. `None` if one has the wrong length or is no scalar, or
    /// if an issuer lacks one.
    pub(super) fn load(&self) -> Option<KeyRing> {
        let authorities = self.certification_authorities.iter().map(StoredAuthority::load);
        let issuers = self.issuers.iter().map(StoredIssuer::load);
        Some(KeyRing {
            authorities: authorities.collect::<Option<_>>()?,
            issuers: issuers.collect::<Option<_>>()?,
        })
    }
}

impl StoredAuthority {
    fn load(&self) -> Option<((Rid, u8), Arc<SigningKey>)> {
        let rid = self.rid.0.as_slice().try_into().ok()?;
        Some(((rid, self.index), Arc::new(load_signing_key(&self.signing_key)?)))
    }
}

impl StoredIssuer {
    fn load(&self) -> Option<(IssuerId, Arc<IssuerKeySet>)> {
        let master = |(&index, key): (&u8, &HexSecret)| {
            Some((index, IssuerMasterKey::new(*load::<16>(key)?.expose())))
        };
        let record = |(&generation, key): (&u8, &HexSecret)| Some((generation, load(key)?));
        let keys = IssuerKeySet {
            master_keys: self.master_keys.iter().map(master).collect::<Option<_>>()?,
            signing_key: load_signing_key(&self.signing_key)?,
            lookup_key: load(&self.lookup_key)?,
            record_keys: self.record_keys.iter().map(record).collect::<Option<_>>()?,
        };
        let complete = !keys.master_keys.is_empty() && !keys.record_keys.is_empty();
        complete.then(|| (self.issuer, Arc::new(keys)))
    }
}

fn load<const N: usize>(stored: &HexSecret) -> Option<Secret<[u8; N]>> {
    let mut key = Secret::new([0; N]);
    if stored.expose().len() != N {
        return None;
    }
    key.expose_mut().copy_from_slice(stored.expose());
    Some(key)
}

fn load_signing_key(stored: &HexSecret) -> Option<SigningKey> {
    PrivateKey::from_bytes(load(stored)?.expose()).ok().map(SigningKey::from)
}
