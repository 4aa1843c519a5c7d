//! The keystore file: what it looks like, and how it is sealed.
//!
//! `TAPFERKS`, format (2 bytes, big endian), length of the header (4), the header in JSON, SHA-256 of all
//! before it (32), then the key ring in JSON, encrypted with AES-256-GCM. All bytes before the
//! ciphertext are its associated data, so that nobody can weaken the parameters, turn a production realm
//! into a demo or make its keys another realm's. The digest tells an accident in the header from a wrong
//! passphrase; it protects nothing.

use std::fs::File;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use tapfer_payment_types::RealmId;
use tapfer_payment_types::messages::HexBytes;
use zeroize::Zeroizing;

use super::key_ring::{KeyRing, StoredKeyRing};
use super::unlock::{Protection, Unlock, Unlocked};
use super::{file, randomness, wiped_json};
use crate::{HsmError, KeystoreError, Realm};

const MAGIC: &[u8; 8] = b"TAPFERKS";
const FORMAT: u16 = 3;
/// Read as well: what came with format 3 is missing in it, and is made when it is needed.
const OLDEST_FORMAT: u16 = 2;
const MAXIMUM_HEADER_LENGTH: usize = 4_096;

/// The part of the file that anyone may read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    realm: Realm,
    realm_id: RealmId,
    cipher: Cipher,
    protection: Protection,
    key_check: HexBytes,
    nonce: HexBytes,
    content_length: u64,
}

/// Only one cipher is known; the header names it for whoever reads the file.
#[derive(Serialize, Deserialize)]
enum Cipher {
    #[serde(rename = "AES-256-GCM")]
    Aes256Gcm,
}

/// An open keystore: where it is, and what seals it again.
pub(super) struct Keystore {
    path: PathBuf,
    pub(super) realm: Realm,
    pub(super) realm_id: RealmId,
    protection: Protection,
    unlocked: Unlocked,
    /// Held for as long as this process may write. `None`: reading only.
    writer: Option<File>,
}

impl Keystore {
    /// Makes a keystore without keys.
    pub(super) fn create(
        path: &Path,
        unlock: &Unlock,
        realm: Realm,
        realm_id: RealmId,
    ) -> Result<Self, HsmError> {
        let writer = file::lock(path)?;
        if path.exists() {
            return Err(KeystoreError::Exists(path.to_owned()).into());
        }
        let protection = unlock.protection(realm)?;
        let unlocked = unlock_with(path, &protection, unlock)?;
        let path = path.to_owned();
        let keystore = Self { path, realm, realm_id, protection, unlocked, writer: Some(writer) };
        keystore.write(&KeyRing::default())?;
        Ok(keystore)
    }

    /// Opens a keystore to use and to change it.
    pub(super) fn open(path: &Path, unlock: &Unlock) -> Result<(Self, KeyRing), HsmError> {
        // Looked at first: where there is none, its directory may be missing as well.
        file::read(path)?;
        let writer = file::lock(path)?;
        Self::load(path, unlock, Some(writer))
    }

    /// Opens a keystore to use it, while another process may be changing it.
    pub(super) fn open_read_only(
        path: &Path,
        unlock: &Unlock,
    ) -> Result<(Self, KeyRing), HsmError> {
        Self::load(path, unlock, None)
    }

    fn load(
        path: &Path,
        unlock: &Unlock,
        writer: Option<File>,
    ) -> Result<(Self, KeyRing), HsmError> {
        let bytes = file::read(path)?;
        let sealed = Sealed::parse(path, &bytes)?;
        let Header { realm, realm_id, protection, key_check, .. } = &sealed.header;
        let unlocked = unlock_with(path, protection, unlock)?;
        verify_slices_are_equal(unlocked.key_check.expose(), &key_check.0).map_err(|_| {
            KeystoreError::WrongSecret { path: path.to_owned(), given: unlock.kind() }
        })?;
        let ring =
            sealed.open(&unlocked).ok_or_else(|| KeystoreError::ContentDamaged(path.to_owned()))?;
        let (realm, realm_id, protection) = (*realm, *realm_id, protection.clone());
        Ok((Self { path: path.to_owned(), realm, realm_id, protection, unlocked, writer }, ring))
    }

    /// Seals all keys with a fresh nonce and replaces the file.
    pub(super) fn write(&self, ring: &KeyRing) -> Result<(), HsmError> {
        if self.writer.is_none() {
            return Err(KeystoreError::ReadOnly(self.path.clone()).into());
        }
        let mut content = wiped_json::encode(&StoredKeyRing::from(ring))?;
        let nonce = randomness::bytes()?;
        let mut bytes = self.encode_head(nonce, content.len())?;
        let tag = cipher(&self.unlocked)
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let plain = content.as_mut_slice();
                cipher.seal_in_place_separate_tag(nonce, Aad::from(&bytes), plain).ok()
            })
            .ok_or(HsmError::Internal { operation: "sealing the keystore" })?;
        bytes.extend_from_slice(&content);
        bytes.extend_from_slice(tag.as_ref());
        Ok(file::replace(&self.path, &bytes)?)
    }

    fn encode_head(&self, nonce: [u8; 12], plain_length: usize) -> Result<Vec<u8>, HsmError> {
        let failed = HsmError::Internal { operation: "writing the keystore's header" };
        let content_length = plain_length.saturating_add(aead::MAX_TAG_LEN);
        let header = Header {
            realm: self.realm,
            realm_id: self.realm_id,
            cipher: Cipher::Aes256Gcm,
            protection: self.protection.clone(),
            key_check: HexBytes(self.unlocked.key_check.expose().to_vec()),
            nonce: HexBytes(nonce.to_vec()),
            content_length: u64::try_from(content_length).unwrap_or(u64::MAX),
        };
        let Ok(json) = serde_json::to_vec(&header) else { return Err(failed) };
        let Ok(length) = u32::try_from(json.len()) else { return Err(failed) };
        let mut head = [MAGIC, &FORMAT.to_be_bytes()[..], &length.to_be_bytes(), &json].concat();
        let digest = digest::digest(&digest::SHA256, &head);
        head.extend_from_slice(digest.as_ref());
        Ok(head)
    }
}

fn unlock_with(
    path: &Path,
    protection: &Protection,
    unlock: &Unlock,
) -> Result<Unlocked, HsmError> {
    let expected = protection.kind();
    let other_kind = || KeystoreError::UnlockKind { path: path.to_owned(), expected };
    Ok(protection.unlock(unlock)?.ok_or_else(other_kind)?)
}

fn cipher(unlocked: &Unlocked) -> Option<LessSafeKey> {
    let key = UnboundKey::new(&aead::AES_256_GCM, unlocked.content_key.expose());
    key.ok().map(LessSafeKey::new)
}

/// A keystore file taken apart, still sealed.
struct Sealed<'a> {
    header: Header,
    /// All bytes before the content.
    head: &'a [u8],
    /// Ciphertext and tag.
    content: &'a [u8],
}

impl<'a> Sealed<'a> {
    fn parse(path: &Path, bytes: &'a [u8]) -> Result<Self, KeystoreError> {
        let truncated = || KeystoreError::Truncated(path.to_owned());
        let damaged = || KeystoreError::HeaderDamaged(path.to_owned());
        if !bytes.iter().zip(MAGIC).all(|(byte, magic)| byte == magic) {
            return Err(KeystoreError::NotAKeystore(path.to_owned()));
        }
        let rest = bytes.get(MAGIC.len()..).ok_or_else(truncated)?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
        let version = u16::from_be_bytes(*version);
        if !(OLDEST_FORMAT..=FORMAT).contains(&version) {
            let path = path.to_owned();
            return Err(KeystoreError::Version { path, version, supported: FORMAT });
        }
        let (length, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAXIMUM_HEADER_LENGTH {
            return Err(damaged());
        }
        let (json, rest) = rest.split_at_checked(length).ok_or_else(truncated)?;
        let (digest, content) =
            rest.split_at_checked(digest::SHA256_OUTPUT_LEN).ok_or_else(truncated)?;
        let head = bytes.get(..bytes.len().saturating_sub(content.len())).unwrap_or_default();
        let digested = head.get(..head.len().saturating_sub(digest.len())).unwrap_or_default();
        if digest::digest(&digest::SHA256, digested).as_ref() != digest {
            return Err(damaged());
        }
        let header = serde_json::from_slice(json).map_err(|_| damaged())?;
        let sealed = Self { header, head, content };
        sealed.check(path)?;
        Ok(sealed)
    }

    fn check(&self, path: &Path) -> Result<(), KeystoreError> {
        let path = path.to_owned();
        if let Some(what) = self.header.protection.out_of_bounds() {
            return Err(KeystoreError::Parameters { path, what });
        }
        let length = u64::try_from(self.content.len()).unwrap_or(u64::MAX);
        match length.cmp(&self.header.content_length) {
            std::cmp::Ordering::Less => Err(KeystoreError::Truncated(path)),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(KeystoreError::ContentDamaged(path)),
        }
    }

    fn open(&self, unlocked: &Unlocked) -> Option<KeyRing> {
        let nonce = Nonce::try_assume_unique_for_key(&self.header.nonce.0).ok()?;
        let mut content = Zeroizing::new(self.content.to_vec());
        let plain =
            cipher(unlocked)?.open_in_place(nonce, Aad::from(self.head), content.as_mut_slice());
        serde_json::from_slice::<StoredKeyRing>(plain.ok()?).ok()?.load()
    }
}
