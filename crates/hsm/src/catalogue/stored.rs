//! The catalogue as it stands in its file.

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tapfer_emv::curve::PublicPoint;
use tapfer_payment_types::configuration::SignedDocument;
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{CatalogueMark, RealmId, Timestamp};

use super::error::{CatalogueError, CatalogueFault};
use super::name::{KeyName, KeyOwner, KeyPurpose};
use super::record::{KeyRecord, KeyState};
use crate::vault::{Custody, KeyAlgorithm};
use crate::{HsmError, Realm};

const FORMAT: u64 = 2;
/// Keeps the MAC apart from whatever else an HMAC is made over.
const LABEL: &[u8] = b"tapfer-catalogue-2\0";
/// Shortest and longest wrapped key, in bytes: AES-128 under RFC 3394, and a PKCS#8 document with room.
const WRAPPED_LENGTHS: std::ops::RangeInclusive<usize> = 24..=512;
const NOT_A_CATALOGUE: CatalogueFault = CatalogueFault::NotACatalogue;

/// All keys of a realm, wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Catalogue {
    pub(crate) realm: Realm,
    pub(crate) realm_id: RealmId,
    /// The MACs of all versions before this one, the first one first: whoever remembers one of them can tell
    /// whether this was made from it.
    pub(crate) history: Vec<[u8; 32]>,
    /// The key of the MAC, under the sealing root.
    pub(crate) catalogue_key: Vec<u8>,
    /// A key for nothing, under the releasing root: who opens both this and the key of the MAC has the realm's
    /// two roots.
    pub(crate) releasing_check: Vec<u8>,
    pub(crate) records: BTreeMap<KeyName, KeyRecord>,
}

/// How a catalogue stands to one that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Descent {
    /// It is that one, or was made from it.
    Same,
    /// It comes from before.
    Older,
    /// It is as new or newer, and was not made from that one: somebody went on with an old copy.
    Forked,
    /// Its MAC was made with another key than the realm's.
    AnotherKey,
}

/// A catalogue as it was read: whole in itself, but perhaps not ours.
#[derive(Debug)]
pub struct UnverifiedCatalogue<'a> {
    catalogue: Catalogue,
    content: &'a str,
    mac: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    mac: HexBytes,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCatalogue {
    format: u64,
    realm: Realm,
    realm_id: RealmId,
    version: u64,
    history: Vec<HexBytes>,
    catalogue_key: HexBytes,
    releasing_check: HexBytes,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    owner: KeyOwner,
    purpose: KeyPurpose,
    generation: u8,
    algorithm: KeyAlgorithm,
    custody: Custody,
    state: KeyState,
    created_at: Timestamp,
    use_until: Option<Timestamp>,
    check_value: HexBytes,
    /// Left out where it may leave, as nearly every key may.
    #[serde(default = "may_leave", skip_serializing_if = "Clone::clone")]
    exportable: bool,
    public: Option<HexBytes>,
    /// Left out where there is none, as with nearly every key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    succession: Option<SignedDocument>,
    wrapped: HexBytes,
}

const fn may_leave() -> bool {
    true
}

impl<'a> UnverifiedCatalogue<'a> {
    /// Takes a file apart and checks that every record can be what it says.
    ///
    /// # Errors
    /// [`CatalogueFault`]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CatalogueFault> {
        let file: StoredFile<'_> = serde_json::from_slice(bytes).map_err(|_| NOT_A_CATALOGUE)?;
        let content = file.content.get();
        let mac = file.mac.0.try_into().map_err(|_| NOT_A_CATALOGUE)?;
        // Read first: another format may have other fields.
        match serde_json::from_str::<FormatOnly>(content) {
            Ok(FormatOnly { format: FORMAT }) => {}
            Ok(FormatOnly { format }) => {
                return Err(CatalogueFault::Format { format, supported: FORMAT });
            }
            Err(_) => return Err(NOT_A_CATALOGUE),
        }
        let stored: StoredCatalogue = serde_json::from_str(content).map_err(|_| NOT_A_CATALOGUE)?;
        Ok(Self { catalogue: stored.load()?, content, mac })
    }

    /// Whose keys they are, as the file says. Nothing of it is proven.
    pub(crate) const fn realm_id(&self) -> RealmId {
        self.catalogue.realm_id
    }

    /// Whose keys the file says they are.
    #[must_use]
    pub const fn realm(&self) -> (Realm, RealmId) {
        (self.catalogue.realm, self.catalogue.realm_id)
    }

    /// Which version the file says it is; counts up with every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.catalogue.version()
    }

    /// What tells this version from every other, as the file says.
    #[must_use]
    pub fn mark(&self) -> CatalogueMark {
        self.catalogue.mark(self.mac)
    }

    /// What the file says of its keys. Nothing of it is proven.
    pub fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.catalogue.records.values()
    }

    /// Whether the file at `path` says that it is the version that was used before, or was made from it. Nothing of it
    /// is proven: it finds an old copy, and nobody who means to lie.
    ///
    /// # Errors
    /// [`CatalogueError`], as the keys would find it.
    pub fn demand_descent(&self, known: &CatalogueMark, path: &Path) -> Result<(), CatalogueError> {
        self.catalogue.demand_descent(self.mac, known, path)
    }

    /// The key of the MAC, under the sealing root.
    pub(crate) fn catalogue_key(&self) -> &[u8] {
        &self.catalogue.catalogue_key
    }

    /// A key for nothing, under the releasing root.
    pub(crate) fn releasing_check(&self) -> &[u8] {
        &self.catalogue.releasing_check
    }

    /// What the MAC is made over.
    pub(crate) fn authenticated(&self) -> [&[u8]; 2] {
        [LABEL, self.content.as_bytes()]
    }

    /// The MAC that stands in the file.
    pub(crate) const fn mac(&self) -> &[u8; 32] {
        &self.mac
    }

    /// Whether this is all that a catalogue says whose MAC was found right.
    pub(crate) fn is(&self, proven: &Catalogue, mark: CatalogueMark) -> bool {
        self.catalogue == *proven && self.catalogue.mark(self.mac) == mark
    }

    /// The catalogue, once the MAC was found right.
    pub(crate) fn verified(self) -> Catalogue {
        self.catalogue
    }
}

impl StoredCatalogue {
    fn load(self) -> Result<Catalogue, CatalogueFault> {
        let history = self.history.into_iter().map(|mac| mac.0.try_into());
        let history: Vec<[u8; 32]> =
            history.collect::<Result<_, _>>().map_err(|_| CatalogueFault::History)?;
        if version_behind(&history) != self.version {
            return Err(CatalogueFault::History);
        }
        let mut records = BTreeMap::new();
        for (number, key) in (1_usize..).zip(self.keys) {
            let impossible = |what| CatalogueFault::Record { number, what };
            let record = key.load(self.realm).map_err(impossible)?;
            if records.insert(record.name, record).is_some() {
                return Err(impossible("it stands there twice"));
            }
        }
        Ok(Catalogue {
            realm: self.realm,
            realm_id: self.realm_id,
            history,
            catalogue_key: self.catalogue_key.0,
            releasing_check: self.releasing_check.0,
            records,
        })
    }
}

impl StoredKey {
    /// The record; or what is wrong with it.
    fn load(self, realm: Realm) -> Result<KeyRecord, &'static str> {
        let name =
            KeyName { owner: self.owner, purpose: self.purpose, generation: self.generation };
        if !self.purpose.fits(self.owner) {
            return Err("its owner has no such key");
        }
        if self.generation == 0 {
            return Err("generations count from 1");
        }
        if self.algorithm != self.purpose.algorithm() {
            return Err("another algorithm than its purpose has");
        }
        if self.custody != self.purpose.custody(realm) {
            return Err("another root than its purpose has");
        }
        let public = self.public.map(point).transpose()?;
        if public.is_some() != self.algorithm.is_asymmetric() {
            return Err("a public key where there is none, or none where there is one");
        }
        if self.succession.is_some() && self.purpose != KeyPurpose::Configuration {
            return Err("a succession, where no key names the next");
        }
        let is_right_length = match self.state {
            KeyState::Destroyed => self.wrapped.0.is_empty(),
            KeyState::Active | KeyState::Retired => WRAPPED_LENGTHS.contains(&self.wrapped.0.len()),
        };
        if !is_right_length {
            return Err("a key where there is none, or none where there is one");
        }
        Ok(KeyRecord {
            name,
            algorithm: self.algorithm,
            custody: self.custody,
            state: self.state,
            created_at: self.created_at,
            use_until: self.use_until,
            check_value: self
                .check_value
                .0
                .try_into()
                .map_err(|_| "a check value has three bytes")?,
            exportable: self.exportable,
            public,
            succession: self.succession,
            wrapped: self.wrapped.0,
        })
    }
}

fn point(bytes: HexBytes) -> Result<PublicPoint, &'static str> {
    const NO_POINT: &str = "its public key is no point of P-256";
    let bytes = bytes.0.try_into().map_err(|_| NO_POINT)?;
    PublicPoint::from_bytes(&bytes).map_err(|_| NO_POINT)
}

impl From<&KeyRecord> for StoredKey {
    fn from(record: &KeyRecord) -> Self {
        Self {
            owner: record.name.owner,
            purpose: record.name.purpose,
            generation: record.name.generation,
            algorithm: record.algorithm,
            custody: record.custody,
            state: record.state,
            created_at: record.created_at,
            use_until: record.use_until,
            check_value: HexBytes(record.check_value.to_vec()),
            exportable: record.exportable,
            public: record.public.map(|point| HexBytes(point.bytes().to_vec())),
            succession: record.succession.clone(),
            wrapped: HexBytes(record.wrapped.clone()),
        }
    }
}

/// Which version comes behind so many.
fn version_behind(history: &[[u8; 32]]) -> u64 {
    u64::try_from(history.len()).unwrap_or(u64::MAX).saturating_add(1)
}

impl Catalogue {
    /// Counts up with every change, from 1.
    pub(crate) fn version(&self) -> u64 {
        version_behind(&self.history)
    }

    /// What tells this version, whose MAC is `mac`, from every other.
    pub(crate) fn mark(&self, mac: [u8; 32]) -> CatalogueMark {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, &self.catalogue_key).as_ref());
        CatalogueMark { version: self.version(), mac, key }
    }

    /// How this version, whose MAC is `mac`, stands to one that was used before.
    fn descent(&self, mac: [u8; 32], known: &CatalogueMark) -> Descent {
        let own = self.mark(mac);
        if own.key != known.key {
            return Descent::AnotherKey;
        }
        if own.version < known.version {
            return Descent::Older;
        }
        let before = known.version.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        let then = before.and_then(|place| self.history.get(place)).unwrap_or(&mac);
        if *then == known.mac { Descent::Same } else { Descent::Forked }
    }

    /// Whether this version, whose MAC is `mac`, is one that was used before, or was made from it.
    pub(crate) fn demand_descent(
        &self,
        mac: [u8; 32],
        known: &CatalogueMark,
        path: &Path,
    ) -> Result<(), CatalogueError> {
        let (path, version, known_version) = (path.to_owned(), self.version(), known.version);
        Err(match self.descent(mac, known) {
            Descent::Same => return Ok(()),
            Descent::AnotherKey => CatalogueError::Tampered(path),
            Descent::Older => CatalogueError::RolledBack { path, version, known: known_version },
            Descent::Forked => CatalogueError::Forked { path, version, known: known_version },
        })
    }

    /// The bytes of the file. `authenticate` makes the MAC over the parts it is given.
    pub(crate) fn encode(
        &self,
        authenticate: impl FnOnce(&[&[u8]]) -> Result<[u8; 32], HsmError>,
    ) -> Result<Vec<u8>, HsmError> {
        let failed = |_| HsmError::Internal { operation: "writing the catalogue" };
        let stored = StoredCatalogue {
            format: FORMAT,
            realm: self.realm,
            realm_id: self.realm_id,
            version: self.version(),
            history: self.history.iter().map(|mac| HexBytes(mac.to_vec())).collect(),
            catalogue_key: HexBytes(self.catalogue_key.clone()),
            releasing_check: HexBytes(self.releasing_check.clone()),
            keys: self.records.values().map(StoredKey::from).collect(),
        };
        let content = serde_json::value::to_raw_value(&stored).map_err(failed)?;
        let mac = authenticate(&[LABEL, content.get().as_bytes()])?;
        let file = StoredFile { content: &content, mac: HexBytes(mac.to_vec()) };
        let mut bytes = serde_json::to_vec(&file).map_err(failed)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Catalogue, Descent, UnverifiedCatalogue};
    use crate::catalogue::{CatalogueFault, KeyName, KeyOwner, KeyPurpose, KeyRecord, KeyState};
    use crate::vault::NewKey;
    use crate::{HsmError, Realm};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use tapfer_emv::curve::{PrivateKey, PublicPoint};
    use tapfer_payment_types::configuration::SignedDocument;
    use tapfer_payment_types::messages::HexBytes;
    use tapfer_payment_types::{CatalogueMark, IssuerId, RealmId, Timestamp};

    fn now() -> Timestamp {
        Timestamp::from_unix_millis(1_795_262_400_000)
    }

    fn owner(purpose: KeyPurpose) -> KeyOwner {
        let issuer = KeyOwner::Issuer(IssuerId::new(now(), [1; 10]));
        let authority = KeyOwner::Authority { rid: [1; 5], index: 1 };
        let owners = [KeyOwner::Platform, authority, issuer];
        owners.into_iter().find(|owner| purpose.fits(*owner)).unwrap()
    }

    fn record(purpose: KeyPurpose, generation: u8, wrapped: Vec<u8>) -> KeyRecord {
        let point = PrivateKey::from_bytes(&[7; 32]).unwrap().public_point();
        let public = PublicPoint::from_bytes(&point).unwrap();
        let public = purpose.algorithm().is_asymmetric().then_some(public);
        let name = KeyName { owner: owner(purpose), purpose, generation };
        KeyRecord::new(name, Realm::Demo, NewKey { wrapped, public, check_value: [1; 3] }, now())
    }

    fn catalogue(records: impl IntoIterator<Item = KeyRecord>) -> Catalogue {
        Catalogue {
            realm: Realm::Demo,
            realm_id: RealmId::new(now(), [9; 10]),
            history: (1..7).map(|number| [number; 32]).collect(),
            catalogue_key: vec![2; 40],
            releasing_check: vec![8; 40],
            records: records.into_iter().map(|record| (record.name, record)).collect(),
        }
    }

    fn whole() -> Catalogue {
        catalogue(KeyPurpose::ALL.map(|purpose| record(purpose, 1, vec![3; 40])))
    }

    fn encode(catalogue: &Catalogue) -> Vec<u8> {
        catalogue.encode(|_| Ok([5; 32])).unwrap()
    }

    fn parse(bytes: &[u8]) -> Result<Catalogue, CatalogueFault> {
        UnverifiedCatalogue::parse(bytes).map(UnverifiedCatalogue::verified)
    }

    #[test]
    fn what_was_written_is_read() {
        for catalogue in [catalogue([]), whole()] {
            let bytes = encode(&catalogue);
            let read = UnverifiedCatalogue::parse(&bytes).unwrap();
            assert_eq!((read.mac(), read.catalogue_key()), (&[5; 32], &[2; 40][..]));
            assert_eq!(read.verified(), catalogue);
        }
    }

    #[test]
    fn a_catalogue_descends_from_every_version_that_it_was_made_from_and_no_other() {
        let newest = whole();
        let mac = [7; 32];
        let own = newest.mark(mac);
        assert_eq!((own.version, own.mac), (7, mac));
        let stands = |known: CatalogueMark| newest.descent(mac, &known);
        for version in 1..=7_u8 {
            let known = CatalogueMark { version: version.into(), mac: [version; 32], ..own };
            assert_eq!(stands(known), Descent::Same);
            assert_eq!(stands(CatalogueMark { mac: [99; 32], ..known }), Descent::Forked);
            assert_eq!(stands(CatalogueMark { key: [0; 32], ..known }), Descent::AnotherKey);
        }
        for version in [8, u64::MAX] {
            assert_eq!(stands(CatalogueMark { version, ..own }), Descent::Older);
        }
        // No version has this number: nothing is taken for it.
        assert_eq!(stands(CatalogueMark { version: 0, mac: [1; 32], ..own }), Descent::Forked);
    }

    /// The MAC is made over the very bytes that stand in the file.
    #[test]
    fn the_mac_covers_every_byte_of_the_content() {
        let mut covered = Vec::new();
        let bytes = whole().encode(|parts| {
            covered = parts.concat();
            Ok([5; 32])
        });
        let bytes = bytes.unwrap();
        let read = UnverifiedCatalogue::parse(&bytes).unwrap();
        assert_eq!(read.authenticated().concat(), covered);
        let content = covered.strip_prefix(b"tapfer-catalogue-2\0".as_slice()).unwrap();
        let mac = "05".repeat(32);
        let frame = [b"{\"content\":", content, b",\"mac\":\"", mac.as_bytes(), b"\"}\n"];
        assert_eq!(frame.concat(), bytes);
        let failed = whole().encode(|_| Err(HsmError::Randomness));
        assert!(matches!(failed, Err(HsmError::Randomness)));
    }

    #[test]
    fn a_record_that_cannot_be_is_named() {
        let text = String::from_utf8(encode(&whole())).unwrap();
        let fault = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            parse(text.replacen(from, to, 1).as_bytes()).unwrap_err()
        };
        let named = |from, to| match fault(from, to) {
            CatalogueFault::Record { what, .. } => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(named("\"generation\":1", "\"generation\":0"), "generations count from 1");
        let what = named("\"algorithm\":\"signing\"", "\"algorithm\":\"agreement\"");
        assert_eq!(what, "another algorithm than its purpose has");
        let what = named("\"custody\":\"sealed\"", "\"custody\":\"releasable\"");
        assert_eq!(what, "another root than its purpose has");
        let what = named("\"owner\":\"platform\"", "\"owner\":\"authority:0101010101-02\"");
        assert_eq!(what, "its owner has no such key");
        let what = named("\"purpose\":\"audit-head\"", "\"purpose\":\"configuration\"");
        assert_eq!(what, "it stands there twice");
        let wrapped = format!("\"wrapped\":\"{}\"", "03".repeat(40));
        let what = named(&wrapped, "\"wrapped\":\"\"");
        assert_eq!(what, "a key where there is none, or none where there is one");
        let document = r#""succession":{"document":"","key":"","signature":""},"wrapped""#;
        let what = named("\"wrapped\"", document);
        assert_eq!(what, "a succession, where no key names the next");
        let what = named("\"state\":\"active\"", "\"state\":\"destroyed\"");
        assert_eq!(what, "a key where there is none, or none where there is one");
        let what = named("\"check_value\":\"010101\"", "\"check_value\":\"01\"");
        assert_eq!(what, "a check value has three bytes");
        let format = CatalogueFault::Format { format: 1, supported: 2 };
        assert_eq!(fault("\"format\":2", "\"more\":true,\"format\":1"), format);
        for (from, to) in [("\"version\":7", "\"version\":8"), ("\"0101", "\"01")] {
            assert_eq!(fault(from, to), CatalogueFault::History);
        }
        for (from, to) in [("\"format\":2", "\"more\":true,\"format\":2"), ("\"mac\"", "\"mab\"")] {
            assert_eq!(fault(from, to), CatalogueFault::NotACatalogue);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(parse(&bytes).is_err());
        }

        #[test]
        fn any_change_is_answered_and_reads_back(position: prop::sample::Index, byte: u8) {
            let mut bytes = encode(&whole());
            *position.get_mut(&mut bytes) = byte;
            if let Ok(read) = parse(&bytes) {
                prop_assert_eq!(parse(&encode(&read)), Ok(read));
            }
        }

        #[test]
        fn any_catalogue_reads_back(
            keys in proptest::collection::btree_map(
                (0_usize..KeyPurpose::ALL.len(), 1_u8..), (24_usize..=512, 0_usize..3), 0..20),
        ) {
            let record = |((purpose, generation), (length, state)): ((usize, u8), (usize, usize))| {
                let mut record = record(KeyPurpose::ALL[purpose], generation, vec![4; length]);
                if record.name.purpose == KeyPurpose::Configuration {
                    record.succession = Some(SignedDocument {
                        document: generation.to_string(),
                        key: HexBytes(vec![generation; 64]),
                        signature: HexBytes(vec![6; 64]),
                    });
                }
                for next in [KeyState::Retired, KeyState::Destroyed].into_iter().take(state) {
                    record.advance(next).unwrap();
                }
                record
            };
            let catalogue = catalogue(BTreeMap::into_iter(keys).map(record));
            prop_assert_eq!(parse(&encode(&catalogue)), Ok(catalogue));
        }
    }
}
