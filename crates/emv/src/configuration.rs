//! What a phone or a terminal remembers of its platform's configuration, and which document it takes next.
//!
//! The state is a value: [`KnownConfiguration::accept`] checks a document against it and gives the state
//! behind it. Whoever holds it makes the new state durable together with what it takes from the document.

use core::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tapfer_payment_types::configuration::{
    Audience, CLOCK_DIFFERENCE_SECONDS, Configuration, KeySuccession, MAXIMUM_SUCCESSIONS,
    Restoration, SUCCESSION_FORMAT, SignedConfiguration, SignedDocument,
};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{RealmId, Timestamp};

use crate::audit_chain::{HeadError, KnownHead};
use crate::document::{self, DocumentError, DocumentKey, DocumentPurpose, Fingerprint};

/// Why a configuration is refused. The one before stays in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// Its signature or its text.
    #[error("the configuration cannot be trusted: {0}")]
    Document(#[from] DocumentError),
    /// It is signed with a key to which nothing leads from the one that is known.
    #[error(
        "the configuration is signed with the key {offered}, and this device knows {known}: somebody else \
         answers, or the platform was set up anew without telling its devices"
    )]
    OtherKey {
        /// The key that is known.
        known: Fingerprint,
        /// The key that signed.
        offered: Fingerprint,
    },
    /// It is of another platform.
    #[error("the configuration is of {offered}, and this device belongs to {known}")]
    OtherRealm {
        /// Whose configuration is known.
        known: RealmId,
        /// Whose it is.
        offered: RealmId,
    },
    /// It is for others.
    #[error("the configuration is for {offered}, and this device is one of {known}")]
    OtherAudience {
        /// Who this device is.
        known: Audience,
        /// For whom it is.
        offered: Audience,
    },
    /// A newer one was seen.
    #[error(
        "the configuration is version {offered}, and version {known} was in force here already: an old one is \
         played back, or the platform was rolled back"
    )]
    Older {
        /// The highest version seen.
        known: u64,
        /// The version of this one.
        offered: u64,
    },
    /// Two documents have one number.
    #[error(
        "there are two different configurations with version {version}: the platform was rolled back"
    )]
    TwoOfOneVersion {
        /// The number.
        version: u64,
    },
    /// It was good until then.
    #[error(
        "the configuration expired at {at}: somebody keeps newer ones back, or the clock is wrong"
    )]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// It was signed in the time to come.
    #[error(
        "the configuration was signed at {at}, which is to come: the clock of this device or the platform's is wrong"
    )]
    FromTheFuture {
        /// When.
        at: Timestamp,
    },
    /// What it says of the audit chain.
    #[error(transparent)]
    AuditHead(#[from] HeadError),
}

/// The configuration that a device has in force, and what it will not go back behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownConfiguration {
    /// Whose device this is.
    pub realm: RealmId,
    /// Which of its configurations is for it.
    pub audience: Audience,
    /// The key that signs them.
    pub key: DocumentKey,
    /// What was taken last; `None` until the first.
    pub newest: Option<Newest>,
}

/// The document in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// See [`Configuration::restoration`].
    pub restoration: Restoration,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its text.
    pub digest: Digested,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The audit chain as it was known then.
    pub head: KnownHead,
}

/// SHA-256 of a document's text.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HexBytes", into = "HexBytes")]
pub struct Digested([u8; 32]);

/// Not 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 32 bytes")]
pub struct DigestLength;

impl Digested {
    fn of(signed: &SignedDocument) -> Self {
        Self(Sha256::digest(signed.document.as_bytes()).into())
    }
}

impl TryFrom<HexBytes> for Digested {
    type Error = DigestLength;

    fn try_from(bytes: HexBytes) -> Result<Self, DigestLength> {
        bytes.0.as_slice().try_into().map(Self).map_err(|_| DigestLength)
    }
}

impl From<Digested> for HexBytes {
    fn from(digest: Digested) -> Self {
        Self(digest.0.to_vec())
    }
}

impl fmt::Debug for Digested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HexBytes::from(*self).fmt(f)
    }
}

impl KnownConfiguration {
    /// A device that was told, when it was set up, whose it is and by which key it knows that.
    #[must_use]
    pub const fn pinned(realm: RealmId, audience: Audience, key: DocumentKey) -> Self {
        Self { realm, audience, key, newest: None }
    }

    /// Trust on first use: a device that was told nothing believes whoever answers it first, and nobody
    /// else from then on. The document is checked in full, against the key that it names itself.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn first(
        signed: &SignedConfiguration,
        now: Timestamp,
    ) -> Result<(Self, Configuration), ConfigurationError> {
        let key = signing_key(&signed.configuration)?;
        let configuration: Configuration =
            key.read(DocumentPurpose::Configuration, &signed.configuration)?;
        Self::pinned(configuration.realm, configuration.audience, key).accept(signed, now)
    }

    /// Checks a document, and gives it with the state behind it. The same document once more is taken.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn accept(
        &self,
        signed: &SignedConfiguration,
        now: Timestamp,
    ) -> Result<(Self, Configuration), ConfigurationError> {
        let key = self.key_now(signed)?;
        let configuration: Configuration =
            key.read(DocumentPurpose::Configuration, &signed.configuration)?;
        if !configuration.is_well_formed() {
            return Err(DocumentError::Content.into());
        }
        if configuration.realm != self.realm {
            let (known, offered) = (self.realm, configuration.realm);
            return Err(ConfigurationError::OtherRealm { known, offered });
        }
        if configuration.audience != self.audience {
            let (known, offered) = (self.audience, configuration.audience);
            return Err(ConfigurationError::OtherAudience { known, offered });
        }
        let head = head_of(&configuration)?;
        let newest = Newest {
            restoration: configuration.restoration,
            version: configuration.version,
            digest: Digested::of(&signed.configuration),
            issued_at: configuration.issued_at,
            expires_at: configuration.expires_at,
            head,
        };
        if let Some(known) = &self.newest {
            known.allows(&newest)?;
        }
        if now > configuration.expires_at {
            return Err(ConfigurationError::Expired { at: configuration.expires_at });
        }
        if configuration.issued_at > now.plus_seconds(CLOCK_DIFFERENCE_SECONDS) {
            return Err(ConfigurationError::FromTheFuture { at: configuration.issued_at });
        }
        Ok((Self { key, newest: Some(newest), ..*self }, configuration))
    }

    /// When the platform was restored from a backup, if `later` is the first to say so on this device: its
    /// person is told then. A device that is new has nothing that could have been lost.
    #[must_use]
    pub fn restored_in(&self, later: &Self) -> Option<Timestamp> {
        let (before, after) = (self.newest?.restoration, later.newest?.restoration);
        after.time().filter(|_| after > before)
    }

    /// Whether the document in force may still be used. A device that never had one goes by what it was
    /// set up with.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.newest.is_some_and(|newest| now > newest.expires_at)
    }

    /// The key that signed, if it is the known one or follows from it, each signing for the next.
    fn key_now(&self, signed: &SignedConfiguration) -> Result<DocumentKey, ConfigurationError> {
        let offered = signing_key(&signed.configuration)?;
        let mut key = self.key;
        for succession in signed.successions.iter().take(MAXIMUM_SUCCESSIONS) {
            if key == offered {
                break;
            }
            // One from before the known key, or of another platform: not a step from here.
            let Ok(step) = key.read::<KeySuccession>(DocumentPurpose::Configuration, succession)
            else {
                continue;
            };
            if step.format != SUCCESSION_FORMAT || step.realm != self.realm {
                continue;
            }
            let from_here = document::key(&step.from.0) == Some(key);
            if let (true, Some(next)) = (from_here, document::key(&step.to.0)) {
                key = next;
            }
        }
        if key == offered {
            return Ok(key);
        }
        let (known, offered) = (self.key.fingerprint(), offered.fingerprint());
        Err(ConfigurationError::OtherKey { known, offered })
    }
}

impl Newest {
    /// Whether `later` may follow.
    fn allows(&self, later: &Self) -> Result<(), ConfigurationError> {
        if later.restoration == self.restoration && later.version < self.version {
            let (known, offered) = (self.version, later.version);
            return Err(ConfigurationError::Older { known, offered });
        }
        self.head.allows(&later.head)?;
        let is_same_version =
            (later.restoration, later.version) == (self.restoration, self.version);
        if is_same_version && later.digest != self.digest {
            return Err(ConfigurationError::TwoOfOneVersion { version: self.version });
        }
        Ok(())
    }
}

fn signing_key(signed: &SignedDocument) -> Result<DocumentKey, DocumentError> {
    document::key(&signed.key.0).ok_or(DocumentError::Signature)
}

/// The audit head in a configuration, of the same restoration: or one could be lowered by the other.
fn head_of(configuration: &Configuration) -> Result<KnownHead, ConfigurationError> {
    let key = document::key(&configuration.audit_key.0).ok_or(DocumentError::Content)?;
    let head = KnownHead::read(&configuration.audit_head, &key, configuration.realm)?;
    if head.restoration == configuration.restoration {
        Ok(head)
    } else {
        Err(DocumentError::Content.into())
    }
}
