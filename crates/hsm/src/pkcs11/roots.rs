//! The two root keys of a realm on a token.
//!
//! They are found by class, label and `CKA_ID`, which name the realm; two of a kind are refused. Which
//! bytes they are is told by a fingerprint: members of a pool that hold the same roots show the same.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tapfer_payment_types::{RealmId, Secret};
use tapfer_pkcs11::{KeyHandle, KeyType, Mechanism, Session, Template, Use};

use super::Fault;
use super::capability::Choices;
use crate::HsmError;
use crate::software::RootKeys;

/// The roots, for as long as a session lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roots {
    pub(super) sealing: KeyHandle,
    pub(super) releasing: KeyHandle,
}

/// Three bytes of each root's work: SHA-256 over sixteen zeros wrapped under it (RFC 3394).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFingerprints {
    /// Of the root that seals.
    pub sealing: [u8; 3],
    /// Of the root that releases.
    pub releasing: [u8; 3],
}

impl fmt::Display for RootFingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.sealing;
        let [d, e, g] = self.releasing;
        write!(f, "sealing {a:02X}{b:02X}{c:02X}, releasing {d:02X}{e:02X}{g:02X}")
    }
}

const SEALING: &str = "sealing";
const RELEASING: &str = "releasing";

fn label(realm: RealmId, kind: &str) -> String {
    format!("tapfer {kind} root {realm}")
}

/// What a root is found by.
fn name(template: Template, realm: RealmId, kind: &str) -> Template {
    template.label(&label(realm, kind)).id(format!("{kind} {realm}").as_bytes())
}

fn told(cause: String) -> Fault {
    let operation = "looking for the realm's root keys".to_owned();
    Fault::Told(HsmError::ModuleFailed { operation, cause })
}

/// Finds both roots.
pub(super) fn find(session: &Session, realm: RealmId) -> Result<Roots, Fault> {
    Ok(Roots {
        sealing: find_one(session, realm, SEALING)?,
        releasing: find_one(session, realm, RELEASING)?,
    })
}

fn find_one(session: &Session, realm: RealmId, kind: &str) -> Result<KeyHandle, Fault> {
    let wanted = label(realm, kind);
    match candidates(session, realm, kind)?.as_slice() {
        [root] => Ok(*root),
        [] => {
            let found = labels(session)?;
            Err(told(format!(
                "the token has no key {wanted:?}; it has {found}. Install the roots there with \
                 `tapfer keys ceremony`, or name the realm's own token in hsm.toml"
            )))
        }
        several => Err(told(format!(
            "the token has {} keys {wanted:?}; which one counts, nobody can tell: delete the wrong one \
             with the vendor's tool",
            several.len()
        ))),
    }
}

fn candidates(session: &Session, realm: RealmId, kind: &str) -> Result<Vec<KeyHandle>, Fault> {
    Ok(session.find(&name(Template::key(KeyType::Aes), realm, kind))?)
}

/// Every root key of the realm, however many there are.
pub(super) fn all(session: &Session, realm: RealmId) -> Result<Vec<KeyHandle>, Fault> {
    let mut found = candidates(session, realm, SEALING)?;
    found.extend(candidates(session, realm, RELEASING)?);
    Ok(found)
}

/// Labels of the AES keys on a token.
fn labels(session: &Session) -> Result<String, Fault> {
    let keys = session.find(&Template::key(KeyType::Aes))?;
    if keys.is_empty() {
        return Ok("no AES keys at all".to_owned());
    }
    let labels = keys.into_iter().map(|key| session.label(key).map(|label| format!("{label:?}")));
    Ok(labels.collect::<Result<Vec<_>, _>>()?.join(", "))
}

/// Puts both roots on a token that has neither.
pub(super) fn install(
    (session, needs_login): (&Session, bool),
    realm: RealmId,
    keys: &RootKeys,
    choices: &Choices,
) -> Result<(), Fault> {
    for kind in [SEALING, RELEASING] {
        if !candidates(session, realm, kind)?.is_empty() {
            return Err(told(format!(
                "the token has a key {:?} already; roots are installed once",
                label(realm, kind)
            )));
        }
    }
    let root = |kind: &str, value: &Secret<[u8; 32]>| {
        let template = Template::key(KeyType::Aes).stays_behind_login(needs_login);
        let template = template.extractable(false).for_good();
        let template = name(template, realm, kind).only_for(&[Use::Wrap, Use::Unwrap]);
        let template = template.value(value.expose());
        if !choices.allowed_mechanisms {
            return template;
        }
        template.only_by(&[Mechanism::AesKeyWrap, choices.document_wrap])
    };
    // The one that is needed less comes first: with half of an installation nothing opens.
    let first = session.create(&root(RELEASING, &keys.releasing))?;
    let mut template = root(SEALING, &keys.sealing);
    if choices.unwrap_template {
        template = template.unwraps_into(sealed());
    }
    if let Err(error) = session.create(&template) {
        session.destroy(first)?;
        return Err(error.into());
    }
    Ok(())
}

/// What the sealing root opens: unreadable, and gone with the session. A key that stayed on the token would be
/// there for whoever had the PIN once, and on some modules for everybody.
pub(super) fn sealed() -> Template {
    Template::default().ends_with_session().extractable(false)
}

/// What tells roots apart.
pub(super) fn fingerprints(session: &Session, roots: Roots) -> Result<RootFingerprints, Fault> {
    let template = Template::key(KeyType::Aes).stays(false).wrappable().value(&[0; 16]);
    let zeros = session.create(&template.only_for(&[]))?;
    let one = |root| -> Result<[u8; 3], Fault> {
        let mut wrapped = [0; 24];
        session.wrap(Mechanism::AesKeyWrap, root, zeros, &mut wrapped)?;
        let hash = digest(&SHA256, &wrapped);
        Ok(hash.as_ref().first_chunk().copied().unwrap_or_default())
    };
    let fingerprints =
        RootFingerprints { sealing: one(roots.sealing)?, releasing: one(roots.releasing)? };
    session.destroy(zeros)?;
    Ok(fingerprints)
}
