//! All keys of the software module, in memory, each as its own type, wiped with their holder.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::agreement;
use serde::{Deserialize, Serialize};
use tapfer_emv::certificate::Rid;
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_payment_types::messages::{HexBytes, HexSecret};
use tapfer_payment_types::{IssuerId, Secret};

use super::merchant::MerchantAuthority;
use super::provisioning::HPKE;
use super::randomness;
use crate::{DocumentPurpose, HsmError};

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

/// What an issuer needs for person's keys and PINs.
pub(super) struct PersonKeySet {
    /// HPKE private key, a P-256 scalar: phones and tills seal to it.
    pub(super) private: Secret<[u8; 32]>,
    /// Its public side, an uncompressed point.
    pub(super) public: [u8; 65],
    /// HMAC-SHA-256 key over cards' PINs.
    pub(super) card_pin_key: Secret<[u8; 32]>,
}

impl PersonKeySet {
    /// Draws all keys.
    pub(super) fn generate() -> Result<Self, HsmError> {
        let failed = HsmError::Internal { operation: "making an HPKE key pair" };
        let Ok((_, private)) = HPKE.generate_key_pair() else { return Err(failed) };
        let card_pin_key = randomness::secret()?;
        let keys = fixed(private.secret_bytes())
            .and_then(|private| Self::from_parts(private, card_pin_key));
        keys.ok_or(failed)
    }

    /// `None` if the private key is no scalar.
    fn from_parts(private: Secret<[u8; 32]>, card_pin_key: Secret<[u8; 32]>) -> Option<Self> {
        let pair = agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, private.expose())
            .ok()?;
        let public = pair.compute_public_key().ok()?.as_ref().try_into().ok()?;
        Some(Self { private, public, card_pin_key })
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<Secret<[u8; N]>> {
    let mut key = Secret::new([0; N]);
    if bytes.len() != N {
        return None;
    }
    key.expose_mut().copy_from_slice(bytes);
    Some(key)
}

/// All keys. A copy shares them: changing the set means copying it, and swapping it once the disk has
/// it.
#[derive(Clone, Default)]
pub(super) struct KeyRing {
    pub(super) authorities: BTreeMap<(Rid, u8), Arc<SigningKey>>,
    pub(super) issuers: BTreeMap<IssuerId, Arc<IssuerKeySet>>,
    /// Issuers that were made before there were PINs have none until they need one.
    pub(super) persons: BTreeMap<IssuerId, Arc<PersonKeySet>>,
    /// Realms that were made before terminals were certified get it when the platform starts.
    pub(super) merchant_authority: Option<Arc<MerchantAuthority>>,
    /// HMAC-SHA-256 keys that shares of phones' stores are derived from. An issuer has none until the
    /// first of its phones asks.
    pub(super) store_shares: BTreeMap<IssuerId, Arc<Secret<[u8; 32]>>>,
    /// Sign documents of the platform.
    pub(super) documents: BTreeMap<DocumentPurpose, Arc<MerchantAuthority>>,
}

/// A [`KeyRing`] as it stands in the keystore, in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredKeyRing {
    certification_authorities: Vec<StoredAuthority>,
    issuers: Vec<StoredIssuer>,
    #[serde(default)]
    person_keys: Vec<StoredPersonKeys>,
    #[serde(default)]
    merchant_signing_key: Option<HexSecret>,
    #[serde(default)]
    store_share_keys: Vec<StoredShareKey>,
    /// In the order of [`DocumentPurpose::ALL`].
    #[serde(default)]
    document_keys: Vec<HexSecret>,
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPersonKeys {
    issuer: IssuerId,
    private_key: HexSecret,
    card_pin_key: HexSecret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredShareKey {
    issuer: IssuerId,
    key: HexSecret,
}

impl From<&KeyRing> for StoredKeyRing {
    fn from(ring: &KeyRing) -> Self {
        let authority = |(&(rid, index), key): (&(Rid, u8), &Arc<SigningKey>)| StoredAuthority {
            rid: HexBytes(rid.to_vec()),
            index,
            signing_key: store(key.private.to_bytes().expose()),
        };
        let share_key = |(&issuer, key): (&IssuerId, &Arc<Secret<[u8; 32]>>)| StoredShareKey {
            issuer,
            key: store(key.expose()),
        };
        Self {
            certification_authorities: ring.authorities.iter().map(authority).collect(),
            issuers: ring.issuers.iter().map(|(&id, keys)| store_issuer(id, keys)).collect(),
            person_keys: ring.persons.iter().map(|(&id, keys)| store_persons(id, keys)).collect(),
            merchant_signing_key: ring
                .merchant_authority
                .as_ref()
                .map(|authority| store(authority.private.expose())),
            store_share_keys: ring.store_shares.iter().map(share_key).collect(),
            document_keys: ring.documents.values().map(|key| store(key.private.expose())).collect(),
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

fn store_persons(issuer: IssuerId, keys: &PersonKeySet) -> StoredPersonKeys {
    StoredPersonKeys {
        issuer,
        private_key: store(keys.private.expose()),
        card_pin_key: store(keys.card_pin_key.expose()),
    }
}

impl StoredKeyRing {
    /// Takes the keys out, each as its own type. `None` if one has the wrong length or is no scalar, or
    /// if an issuer lacks one.
    pub(super) fn load(&self) -> Option<KeyRing> {
        let authorities = self.certification_authorities.iter().map(StoredAuthority::load);
        let issuers = self.issuers.iter().map(StoredIssuer::load);
        let persons = self.person_keys.iter().map(StoredPersonKeys::load);
        let share_key =
            |stored: &StoredShareKey| Some((stored.issuer, Arc::new(load(&stored.key)?)));
        Some(KeyRing {
            authorities: authorities.collect::<Option<_>>()?,
            issuers: issuers.collect::<Option<_>>()?,
            persons: persons.collect::<Option<_>>()?,
            merchant_authority: match &self.merchant_signing_key {
                Some(key) => Some(Arc::new(MerchantAuthority::from_bytes(load(key)?.expose())?)),
                None => None,
            },
            store_shares: self.store_share_keys.iter().map(share_key).collect::<Option<_>>()?,
            documents: DocumentPurpose::ALL
                .into_iter()
                .zip(&self.document_keys)
                .map(|(purpose, key)| {
                    let key = MerchantAuthority::from_bytes(load(key)?.expose())?;
                    Some((purpose, Arc::new(key)))
                })
                .collect::<Option<_>>()?,
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

impl StoredPersonKeys {
    fn load(&self) -> Option<(IssuerId, Arc<PersonKeySet>)> {
        let keys = PersonKeySet::from_parts(load(&self.private_key)?, load(&self.card_pin_key)?)?;
        Some((self.issuer, Arc::new(keys)))
    }
}

fn load<const N: usize>(stored: &HexSecret) -> Option<Secret<[u8; N]>> {
    fixed(stored.expose())
}

fn load_signing_key(stored: &HexSecret) -> Option<SigningKey> {
    PrivateKey::from_bytes(load(stored)?.expose()).ok().map(SigningKey::from)
}

#[cfg(test)]
mod tests {
    use super::StoredKeyRing;

    /// A keystore that was written before there were terminals' certificates, PINs and shares opens.
    #[test]
    fn a_key_ring_of_the_first_version_is_read() {
        let first = r#"{"certification_authorities": [], "issuers": []}"#;
        let ring: StoredKeyRing = serde_json::from_str(first).unwrap();
        assert!(ring.person_keys.is_empty() && ring.store_share_keys.is_empty());
        assert!(ring.merchant_signing_key.is_none());
        assert!(serde_json::from_str::<StoredKeyRing>(r#"{"issuers": []}"#).is_err());
    }
}
