//! What opens a keystore: a passphrase, stretched by Argon2id, or a 32-byte key.

use std::collections::BTreeSet;
use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::hkdf;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};
use tapfer_payment_types::Secret;
use tapfer_payment_types::messages::HexBytes;
use zeroize::Zeroizing;

use crate::{HsmError, KeystoreError, Realm, randomness};

/// Fewest characters of a passphrase for a new keystore.
pub const MINIMUM_PASSPHRASE_LENGTH: usize = 12;
/// Fewest different characters of a passphrase, beside blanks and what is [`COMMON`].
const FEWEST_DIFFERENT_CHARACTERS: usize = 6;
/// What people put into passphrases, lower case, and what guessers therefore try.
const COMMON: &[&str] = &[
    "1234567890",
    "123456",
    "abcdefgh",
    "administrator",
    "admin",
    "iloveyou",
    "letmein",
    "passphrase",
    "password",
    "passwort",
    "qwertyuiop",
    "qwerty",
    "qwertz",
    "secret",
    "tapfer",
    "welcome",
];

/// What opens a keystore.
pub enum Unlock {
    /// A person's or a secret store's passphrase.
    Passphrase(Secret<String>),
    /// A key from the environment or from another HSM.
    Key(Secret<[u8; 32]>),
}

impl Unlock {
    /// Takes a passphrase.
    #[must_use]
    pub const fn passphrase(passphrase: String) -> Self {
        Self::Passphrase(Secret::new(passphrase))
    }

    /// Takes a key written as 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`KeystoreError::KeyFormat`]
    pub fn key_from_hex(digits: &str) -> Result<Self, KeystoreError> {
        let digits = digits.trim().as_bytes();
        let mut key = Secret::new([0; 32]);
        match HEXLOWER_PERMISSIVE.decode_len(digits.len()) {
            Ok(32) => HEXLOWER_PERMISSIVE.decode_mut(digits, key.expose_mut()),
            _ => return Err(KeystoreError::KeyFormat),
        }
        .map_err(|_| KeystoreError::KeyFormat)?;
        Ok(Self::Key(key))
    }

    /// The name of its kind, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::Key(_) => "key",
        }
    }

    /// How a new keystore is protected by this.
    pub(super) fn protection(&self, realm: Realm) -> Result<Protection, HsmError> {
        self.demand_hard_to_guess(realm)?;
        let salt = HexBytes(randomness::bytes::<16>()?.to_vec());
        Ok(match self {
            Self::Key(_) => Protection::Key { salt },
            Self::Passphrase(_) => {
                Protection::Argon2id { salt, memory_kib: 65_536, iterations: 3, lanes: 1 }
            }
        })
    }

    /// That a new keystore would be protected by this, so that people learn of it before they begin.
    ///
    /// # Errors
    /// What makes it easy to guess.
    pub fn demand_hard_to_guess(&self, realm: Realm) -> Result<(), KeystoreError> {
        match self {
            // A demo's key guards nothing, and a test's may as well be readable.
            Self::Key(key) if realm == Realm::Production && !looks_random(key.expose()) => {
                Err(KeystoreError::KeyGuessable)
            }
            Self::Key(_) => Ok(()),
            Self::Passphrase(passphrase) => {
                let minimum = MINIMUM_PASSPHRASE_LENGTH;
                if passphrase.expose().chars().count() < minimum {
                    return Err(KeystoreError::PassphraseTooShort { minimum });
                }
                if is_guessable(passphrase) {
                    return Err(KeystoreError::PassphraseGuessable);
                }
                Ok(())
            }
        }
    }
}

/// Whether 32 bytes can have come from a random source. With fewer than 12 different values they have come
/// from a person, or from a buffer that nobody filled; by chance, less than once in 2^80.
fn looks_random(key: &[u8; 32]) -> bool {
    key.iter().collect::<BTreeSet<_>>().len() >= 12
}

/// Whether a passphrase is among the first that anyone would try: repetitive or commonly used
/// (NIST SP 800-63B 5.1.1.2). What counts is how many different characters it has beside common words.
fn is_guessable(passphrase: &Secret<String>) -> bool {
    let mut rest = Zeroizing::new(passphrase.expose().to_lowercase());
    for word in COMMON {
        rest = Zeroizing::new(rest.replace(word, ""));
    }
    let different: BTreeSet<char> = rest.chars().filter(|c| !c.is_whitespace()).collect();
    different.len() < FEWEST_DIFFERENT_CHARACTERS
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unlock({}, redacted)", self.kind())
    }
}

/// How a keystore is protected, as its header says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "with", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Protection {
    /// A passphrase through Argon2id version 1.3 (RFC 9106).
    Argon2id { salt: HexBytes, memory_kib: u32, iterations: u32, lanes: u32 },
    /// A key as it is; the salt makes the derived keys this keystore's own.
    Key { salt: HexBytes },
}

/// The two values that come of unlocking.
pub(super) struct Unlocked {
    /// AES-256 key of the content.
    pub(super) content_key: Secret<[u8; 32]>,
    /// Stands in the header; tells a wrong secret from damaged content.
    pub(super) key_check: Secret<[u8; 16]>,
}

impl Protection {
    /// The first parameter outside of bounds. Below them a passphrase could be guessed, above them a
    /// forged header could exhaust the machine.
    pub(super) fn out_of_bounds(&self) -> Option<&'static str> {
        let (Self::Argon2id { salt, .. } | Self::Key { salt }) = self;
        if !(16..=64).contains(&salt.0.len()) {
            return Some("a salt length");
        }
        match self {
            Self::Argon2id { memory_kib, .. } if !(19_456..=1_048_576).contains(memory_kib) => {
                Some("Argon2id memory")
            }
            Self::Argon2id { iterations, .. } if !(1..=16).contains(iterations) => {
                Some("Argon2id iterations")
            }
            Self::Argon2id { lanes, .. } if !(1..=16).contains(lanes) => Some("Argon2id lanes"),
            _ => None,
        }
    }

    /// What the keystore opens with, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Argon2id { .. } => "a passphrase",
            Self::Key { .. } => "a key",
        }
    }

    /// Derives the keys. `Ok(None)` if the secret is of the other kind.
    pub(super) fn unlock(&self, unlock: &Unlock) -> Result<Option<Unlocked>, HsmError> {
        match (self, unlock) {
            (Self::Key { salt }, Unlock::Key(key)) => expand(key, salt).map(Some),
            (Self::Argon2id { salt, memory_kib, iterations, lanes }, Unlock::Passphrase(text)) => {
                let master = stretch(text, &salt.0, (*memory_kib, *iterations, *lanes))?;
                expand(&master, salt).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn stretch(
    passphrase: &Secret<String>,
    salt: &[u8],
    (memory_kib, iterations, lanes): (u32, u32, u32),
) -> Result<Secret<[u8; 32]>, HsmError> {
    let failed = |_| HsmError::Internal { operation: "Argon2id" };
    let params = Params::new(memory_kib, iterations, lanes, Some(32)).map_err(failed)?;
    let mut master = Secret::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), salt, master.expose_mut())
        .map_err(failed)?;
    Ok(master)
}

/// Two independent values from one (HKDF-SHA-256, RFC 5869).
fn expand(master: &Secret<[u8; 32]>, salt: &HexBytes) -> Result<Unlocked, HsmError> {
    let failed = |_| HsmError::Internal { operation: "HKDF" };
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt.0).extract(master.expose());
    let mut unlocked =
        Unlocked { content_key: Secret::new([0; 32]), key_check: Secret::new([0; 16]) };
    prk.expand(&[b"tapfer-keystore-1 content"], Length(32))
        .and_then(|okm| okm.fill(unlocked.content_key.expose_mut()))
        .map_err(failed)?;
    prk.expand(&[b"tapfer-keystore-1 check"], Length(16))
        .and_then(|okm| okm.fill(unlocked.key_check.expose_mut()))
        .map_err(failed)?;
    Ok(unlocked)
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{HexBytes, Protection, Realm, Unlock};

    #[test]
    fn what_can_be_guessed_makes_no_keystore() {
        let passphrases = [
            ("aaaaaaaaaaaa", true),
            ("            ", true),
            ("passwordpassword", true),
            ("Password12345678", true),
            ("tapfer tapfer tapfer", true),
            ("123123123123123", true),
            ("correct horse battery staple", false),
            ("tapfer-vK3xQ9pz", false),
            ("пять разных слов", false),
        ];
        for (text, is_guessable) in passphrases {
            for realm in [Realm::Demo, Realm::Production] {
                let refused = Unlock::passphrase(text.to_owned()).protection(realm).is_err();
                assert_eq!(refused, is_guessable, "{text}");
            }
        }
        for pattern in ["00", "5a", "0123456789abcdef"] {
            let key = Unlock::key_from_hex(&pattern.repeat(64 / pattern.len())).unwrap();
            assert!(key.protection(Realm::Production).is_err(), "{pattern}");
            assert!(key.protection(Realm::Demo).is_ok(), "{pattern}");
        }
        let random = "4f1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";
        assert!(Unlock::key_from_hex(random).unwrap().protection(Realm::Production).is_ok());
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        assert!(Unlock::key_from_hex(&format!(" {}\n", "0aF1".repeat(16))).is_ok());
        for text in ["", "00", &*"0".repeat(63), &*"0".repeat(66), &*"g".repeat(64)] {
            assert!(Unlock::key_from_hex(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_are_checked() {
        let salt = HexBytes(vec![0; 16]);
        let argon2id = |memory_kib, iterations, lanes| Protection::Argon2id {
            salt: salt.clone(),
            memory_kib,
            iterations,
            lanes,
        };
        assert_eq!(argon2id(65_536, 3, 1).out_of_bounds(), None);
        assert_eq!(argon2id(8, 3, 1).out_of_bounds(), Some("Argon2id memory"));
        assert_eq!(argon2id(u32::MAX, 3, 1).out_of_bounds(), Some("Argon2id memory"));
        assert_eq!(argon2id(65_536, 0, 1).out_of_bounds(), Some("Argon2id iterations"));
        assert_eq!(argon2id(65_536, 3, 17).out_of_bounds(), Some("Argon2id lanes"));
        let short = Protection::Key { salt: HexBytes(vec![0; 8]) };
        assert_eq!(short.out_of_bounds(), Some("a salt length"));
    }
}
