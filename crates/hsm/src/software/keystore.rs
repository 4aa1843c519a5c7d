//! The keystore file: the root keys of the software module, what it looks like, and how it is sealed.
//!
//! `TAPFERKS`, format (2 bytes, big endian), length of the header (4), the header in JSON, SHA-256 of all
//! before it (32), then the root keys in JSON, encrypted with AES-256-GCM. All bytes before the
//! ciphertext are its associated data, so that nobody can weaken the parameters, turn a production realm
//! into a demo or make its keys another realm's. The digest tells an accident in the header from a wrong
//! passphrase; it protects nothing.

use std::path::Path;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::{HexBytes, HexSecret};
use tapfer_payment_types::{RealmId, Secret};
use zeroize::Zeroizing;

use super::roots::RootKeys;
use super::unlock::{Protection, Unlock, Unlocked};
use crate::{HsmError, KeystoreError, Realm, private_file, randomness, wiped_json};

const MAGIC: &[u8; 8] = b"TAPFERKS";
/// Formats 1 to 3 held all keys; no realm that matters has one.
const FORMAT: u16 = 4;
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

/// The root keys in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRoots {
    sealing_root: HexSecret,
    releasing_root: HexSecret,
}

/// What a keystore holds.
pub(super) struct Keystore {
    pub(super) realm: Realm,
    pub(super) realm_id: RealmId,
    pub(super) roots: RootKeys,
}

impl Keystore {
    /// Writes a keystore where there is none. It is never written again.
    pub(super) fn create(&self, path: &Path, unlock: &Unlock) -> Result<(), HsmError> {
        let protection = unlock.protection(self.realm)?;
        let unlocked = unlock_with(path, &protection, unlock)?;
        let mut content = wiped_json::encode(&StoredRoots {
            sealing_root: HexSecret::new(self.roots.sealing.expose().to_vec()),
            releasing_root: HexSecret::new(self.roots.releasing.expose().to_vec()),
        })?;
        let nonce = randomness::bytes()?;
        let header = Header {
            realm: self.realm,
            realm_id: self.realm_id,
            cipher: Cipher::Aes256Gcm,
            protection,
            key_check: HexBytes(unlocked.key_check.expose().to_vec()),
            nonce: HexBytes(nonce.to_vec()),
            content_length: u64::try_from(content.len().saturating_add(aead::MAX_TAG_LEN))
                .unwrap_or(u64::MAX),
        };
        let mut bytes = encode_head(&header)?;
        let tag = cipher(&unlocked)
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let plain = content.as_mut_slice();
                cipher.seal_in_place_separate_tag(nonce, Aad::from(&bytes), plain).ok()
            })
            .ok_or(HsmError::Internal { operation: "sealing the keystore" })?;
        bytes.extend_from_slice(&content);
        bytes.extend_from_slice(tag.as_ref());
        Ok(private_file::create(path, &bytes).map_err(KeystoreError::from)?)
    }

    /// Opens a keystore.
    pub(super) fn open(path: &Path, unlock: &Unlock) -> Result<Self, HsmError> {
        let (bytes, _) = private_file::read(path).map_err(KeystoreError::from)?;
        let sealed = Sealed::parse(path, &bytes)?;
        let Header { realm, realm_id, protection, key_check, .. } = &sealed.header;
        let unlocked = unlock_with(path, protection, unlock)?;
        verify_slices_are_equal(unlocked.key_check.expose(), &key_check.0).map_err(|_| {
            KeystoreError::WrongSecret { path: path.to_owned(), given: unlock.kind() }
        })?;
        let roots =
            sealed.open(&unlocked).ok_or_else(|| KeystoreError::ContentDamaged(path.to_owned()))?;
        Ok(Self { realm: *realm, realm_id: *realm_id, roots })
    }
}

fn encode_head(header: &Header) -> Result<Vec<u8>, HsmError> {
    let failed = HsmError::Internal { operation: "writing the keystore's header" };
    let Ok(json) = serde_json::to_vec(header) else { return Err(failed) };
    let Ok(length) = u32::try_from(json.len()) else { return Err(failed) };
    let mut head = [MAGIC, &FORMAT.to_be_bytes()[..], &length.to_be_bytes(), &json].concat();
    let digest = digest::digest(&digest::SHA256, &head);
    head.extend_from_slice(digest.as_ref());
    Ok(head)
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
        if version != FORMAT {
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

    fn open(&self, unlocked: &Unlocked) -> Option<RootKeys> {
        let nonce = Nonce::try_assume_unique_for_key(&self.header.nonce.0).ok()?;
        let mut content = Zeroizing::new(self.content.to_vec());
        let plain =
            cipher(unlocked)?.open_in_place(nonce, Aad::from(self.head), content.as_mut_slice());
        let stored: StoredRoots = serde_json::from_slice(plain.ok()?).ok()?;
        let root = |stored: &HexSecret| stored.expose().try_into().ok().map(Secret::new);
        Some(RootKeys::new(root(&stored.sealing_root)?, root(&stored.releasing_root)?))
    }
}
