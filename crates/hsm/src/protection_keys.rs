//! Which key block protection keys a realm's custodians have accepted.
//!
//! Whoever has a protection key reads every key that is exported under it, and knows every key that is imported
//! under it. So it must not be enough that somebody brings parts of one: anybody can draw a key and give its parts to
//! people he invents. A protection key counts in a realm when the custodians of the realm's root keys have come
//! together and agreed to it. What proves that they did is a MAC over key and particulars, under a key that only the
//! two root keys give; it lies in a file that anybody may read, and nobody can add to without them.

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{RealmId, Secret, Timestamp};
use zeroize::Zeroizing;

use crate::software::RootKeys;

const FORMAT: u64 = 1;
/// Keeps this derivation apart from all others.
const KEY_CONTEXT: &[u8] = b"tapfer accepted protection keys 1";

/// What the custodians agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedProtectionKey {
    /// In which realm.
    pub realm: RealmId,
    /// When its parts were made.
    pub ceremony: String,
    /// First three bytes of its CMAC over zeros, in capital hexadecimal digits.
    pub check_value: String,
    /// How many of its parts rebuild it.
    pub threshold: u8,
    /// How many parts there are.
    pub parts: u8,
    /// Who has parts of it, as far as they are known by name.
    pub held_by: Vec<String>,
    /// Which custodians of the root keys agreed.
    pub accepted_by: Vec<String>,
    /// Who led the ceremony.
    pub officer: String,
    /// When.
    pub accepted_at: Timestamp,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectionKeys {
    format: u64,
    keys: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    accepted: AcceptedProtectionKey,
    mac: HexBytes,
}

/// The file is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no list of accepted protection keys that this version of tapfer reads; restore it from a backup, or \
     remove it and have the custodians accept the keys again (tapfer keys ceremony accept-protection)"
)]
pub struct NoProtectionKeys;

impl Default for ProtectionKeys {
    /// None was accepted.
    fn default() -> Self {
        Self { format: FORMAT, keys: Vec::new() }
    }
}

impl ProtectionKeys {
    /// Reads the file. Nothing of it is proven.
    ///
    /// # Errors
    /// [`NoProtectionKeys`]
    pub fn parse(bytes: &[u8]) -> Result<Self, NoProtectionKeys> {
        let read: Self = serde_json::from_slice(bytes).map_err(|_| NoProtectionKeys)?;
        if read.format == FORMAT { Ok(read) } else { Err(NoProtectionKeys) }
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Whether the file has a word on a key with this check value, of this ceremony. Not which: nothing of it is
    /// proven before the root keys are there ([`ProtectionKeys::accepted`]), and people would believe what they read.
    #[must_use]
    pub fn mentions(&self, ceremony: &str, check_value: &str) -> bool {
        let same = |key: &AcceptedProtectionKey| {
            key.ceremony == ceremony && key.check_value == check_value
        };
        self.keys.iter().any(|entry| same(&entry.accepted))
    }

    /// Adds a key, with the root keys in hand.
    pub fn accept(
        &mut self,
        roots: &RootKeys,
        key: &Secret<Vec<u8>>,
        accepted: AcceptedProtectionKey,
    ) {
        let mac = hmac::sign(&mac_key(roots), &covered(key, &accepted));
        self.keys.retain(|entry| entry.accepted.ceremony != accepted.ceremony);
        self.keys.push(Entry { accepted, mac: HexBytes(mac.as_ref().to_vec()) });
    }

    /// What was agreed to about this very key in this realm, by whoever brought these root keys together then.
    #[must_use]
    pub fn accepted(
        &self,
        roots: &RootKeys,
        key: &Secret<Vec<u8>>,
        realm: RealmId,
    ) -> Option<&AcceptedProtectionKey> {
        let mac_key = mac_key(roots);
        let is_proven = |entry: &&Entry| {
            let covered = covered(key, &entry.accepted);
            entry.accepted.realm == realm && hmac::verify(&mac_key, &covered, &entry.mac.0).is_ok()
        };
        self.keys.iter().find(is_proven).map(|entry| &entry.accepted)
    }
}

/// The key itself, which a check value of three bytes does not stand for, and everything that is said of it.
fn covered(key: &Secret<Vec<u8>>, accepted: &AcceptedProtectionKey) -> Zeroizing<Vec<u8>> {
    let said = serde_json::to_vec(accepted).unwrap_or_default();
    let mut all = Zeroizing::new(Vec::with_capacity(
        key.expose().len().saturating_add(said.len()).saturating_add(8),
    ));
    all.extend(u64::try_from(key.expose().len()).unwrap_or(u64::MAX).to_be_bytes());
    all.extend_from_slice(key.expose());
    all.extend_from_slice(&said);
    all
}

/// A key that nobody computes without both root keys, and that says nothing of them.
fn mac_key(roots: &RootKeys) -> hmac::Key {
    let both = hmac::Key::new(hmac::HMAC_SHA256, roots.to_shared().expose());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&both, KEY_CONTEXT).as_ref())
}

#[cfg(test)]
mod tests {
    use super::{AcceptedProtectionKey, ProtectionKeys};
    use crate::software::RootKeys;
    use tapfer_payment_types::{RealmId, Secret, Timestamp};

    const NOW: Timestamp = Timestamp::from_unix_millis(1_795_262_400_000);

    fn roots(sealing: u8) -> RootKeys {
        RootKeys::new(Secret::new([sealing; 32]), Secret::new([2; 32]))
    }

    fn accepted(realm: RealmId) -> AcceptedProtectionKey {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        AcceptedProtectionKey {
            realm,
            ceremony: "AAAA-BBBB".to_owned(),
            check_value: "0102AB".to_owned(),
            threshold: 2,
            parts: 2,
            held_by: names(&["Ada", "Grace"]),
            accepted_by: names(&["Edsger", "Alan"]),
            officer: "Tony".to_owned(),
            accepted_at: NOW,
        }
    }

    #[test]
    fn a_key_counts_only_as_the_custodians_of_these_roots_accepted_it() {
        let [realm, another] = [[1; 10], [2; 10]].map(|random| RealmId::new(NOW, random));
        let key = Secret::new(vec![7; 32]);
        let mut keys = ProtectionKeys::default();
        assert!(keys.accepted(&roots(1), &key, realm).is_none());
        keys.accept(&roots(1), &key, accepted(realm));
        let read = ProtectionKeys::parse(&keys.encode()).unwrap();
        assert_eq!(read.accepted(&roots(1), &key, realm), Some(&accepted(realm)));
        assert!(read.mentions("AAAA-BBBB", "0102AB"));
        assert!(!read.mentions("AAAA-BBBB", "0102AC"));
        // Another key with the same check value, other roots, another realm.
        assert!(read.accepted(&roots(1), &Secret::new(vec![8; 32]), realm).is_none());
        assert!(read.accepted(&roots(3), &key, realm).is_none());
        assert!(read.accepted(&roots(1), &key, another).is_none());
        // Nothing that is said of it can be changed.
        let text = String::from_utf8(keys.encode()).unwrap();
        for (said, instead) in [("Grace", "Mallo"), ("Alan", "Adam"), ("\"Tony\"", "\"Eve\"")] {
            let changed = text.replace(said, instead);
            assert_ne!(changed, text);
            let read = ProtectionKeys::parse(changed.as_bytes()).unwrap();
            assert!(read.accepted(&roots(1), &key, realm).is_none(), "{said}");
        }
        assert!(ProtectionKeys::parse(b"{}").is_err());
    }
}
