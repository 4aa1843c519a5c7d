//! Replies: what a worker answers, and how it greets.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{CatalogueMark, RealmId};

use super::failure::{self, HsmErrorFrame};
use crate::pkcs11::ModuleReport;
use crate::{HsmDescription, HsmError, Realm};

/// The answer to one request. Neither this nor [`Reply`] has a `Debug`: they hold card data.
#[derive(Serialize, Deserialize)]
pub enum Answer<'a> {
    /// It was done.
    #[serde(borrow)]
    Done(Reply<'a>),
    /// It was not.
    Failed(#[serde(with = "HsmErrorFrame")] HsmError),
}

impl Answer<'_> {
    /// The answer that says why something was not done.
    #[must_use]
    pub fn failed(error: HsmError) -> Self {
        Self::Failed(failure::portable(error))
    }
}

/// What came of a verb. Which one fits, the request says.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply<'a> {
    /// It was done, and there is nothing to show; or a person's proof was wrong.
    Nothing,
    /// Bytes in the form of the thing: a key, a certificate, a record, a share.
    Bytes(&'a [u8]),
    /// Bytes in two parts: encapsulated key and ciphertext.
    Sealed(&'a [u8], &'a [u8]),
    /// A PIN is right, or not.
    Boolean(bool),
    /// The public side of an issuer's keys.
    IssuerKeys {
        /// Newest generation of the master key.
        derivation_key_index: u8,
        /// x of the key that signs ICC certificates.
        public_key: [u8; 32],
    },
    /// What came of a cryptogram.
    Verdict(Verdict),
    /// Which version of the catalogue it works with.
    Catalogue(CatalogueMark),
}

/// What came of a cryptogram. See [`crate::CryptogramVerdict`].
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is right. The caller compares what the module computed with what it received itself: only
    /// `tapfer_emv::cryptogram::verify` makes the proof.
    Verified([u8; 8]),
    /// It is wrong.
    Mismatch,
    /// No such generation of the master key.
    UnknownDerivationKey,
}

/// The first thing that a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// [`super::PROTOCOL_VERSION`]
    pub version: u16,
    /// What it has opened, or why it could not.
    #[serde(with = "opened")]
    pub opened: Result<Module, HsmError>,
}

/// What a worker has opened. See [`HsmDescription`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Name of the backend.
    pub backend: String,
    /// Whether the module calls itself hardware: its own word, no certificate.
    pub says_it_is_hardware: bool,
    /// Of a demo realm.
    pub is_demo: bool,
    /// Which realm.
    pub realm_id: u128,
    /// What a person should know.
    pub notice: String,
    /// Whether its memory is kept out of the swap.
    pub is_memory_locked: bool,
    /// What was found out about it.
    pub report: Option<ModuleReport>,
}

impl Module {
    /// What a module says of itself.
    #[must_use]
    pub fn of(
        description: &HsmDescription,
        report: Option<ModuleReport>,
        is_memory_locked: bool,
    ) -> Self {
        Self {
            backend: description.backend.to_owned(),
            says_it_is_hardware: description.says_it_is_hardware,
            is_demo: description.realm == Realm::Demo,
            realm_id: description.realm_id.to_bits(),
            notice: description.notice.to_owned(),
            is_memory_locked,
            report,
        }
    }

    /// The same as the caller knows it.
    #[must_use]
    pub fn description(&self) -> HsmDescription {
        HsmDescription {
            backend: failure::intern(&self.backend),
            says_it_is_hardware: self.says_it_is_hardware,
            realm: if self.is_demo { Realm::Demo } else { Realm::Production },
            realm_id: RealmId::from_bits(self.realm_id),
            notice: failure::intern(&self.notice),
        }
    }
}

/// `Result` with an error that has a form of its own.
mod opened {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{HsmErrorFrame, Module};
    use crate::HsmError;

    #[derive(Serialize)]
    enum Sent<'a> {
        Module(&'a Module),
        Failed(#[serde(serialize_with = "borrowed")] &'a HsmError),
    }

    fn borrowed<S: Serializer>(error: &&HsmError, serializer: S) -> Result<S::Ok, S::Error> {
        HsmErrorFrame::serialize(error, serializer)
    }

    #[derive(Deserialize)]
    enum Received {
        Module(Module),
        Failed(#[serde(with = "HsmErrorFrame")] HsmError),
    }

    pub(super) fn serialize<S: Serializer>(
        opened: &Result<Module, HsmError>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        opened.as_ref().map_or_else(Sent::Failed, Sent::Module).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Result<Module, HsmError>, D::Error> {
        Received::deserialize(deserializer).map(|received| match received {
            Received::Module(module) => Ok(module),
            Received::Failed(error) => Err(error),
        })
    }
}
