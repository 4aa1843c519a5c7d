//! The two root keys of a realm on a token.
//!
//! They are found by class, label and `CKA_ID`, which name the realm; two of a kind are refused. Those of
//! a drill have names of their own: no platform finds them, and no drill takes a platform's away. Which
//! bytes they are is told by a fingerprint: members of a pool that hold the same roots show the same.

use std::fmt;

use data_encoding::HEXUPPER;
use serde::{Deserialize, Serialize};
use tapfer_payment_types::{RealmId, Secret};
use tapfer_pkcs11::{KeyHandle, KeyType, Mechanism, Session, Template, Use};

use super::Fault;
use super::capability::Choices;
use crate::HsmError;
use crate::root_check::{self, ZEROS};
use crate::software::RootKeys;

/// The roots, for as long as a session lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roots {
    pub(super) sealing: KeyHandle,
    pub(super) releasing: KeyHandle,
}

/// Check value of each root: three bytes of SHA-256 over sixteen zeros wrapped under it (RFC 3394), as the
/// transcript of a ceremony has them.
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

/// Of which realm roots are, and for how long they are meant to stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    pub(super) realm: RealmId,
    pub(super) stay: Stay,
}

/// How long roots are meant to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// As long as the token.
    ForGood,
    /// Until the drill is over.
    Drill,
}

impl Whose {
    /// The roots that a platform works with.
    pub(super) const fn platform(realm: RealmId) -> Self {
        Self { realm, stay: Stay::ForGood }
    }

    /// The roots of a drill.
    pub(super) const fn drill(realm: RealmId) -> Self {
        Self { realm, stay: Stay::Drill }
    }

    fn label(self, kind: &str) -> String {
        let Self { realm, stay } = self;
        match stay {
            Stay::ForGood => format!("tapfer {kind} root {realm}"),
            Stay::Drill => format!("tapfer drill's {kind} root {realm}"),
        }
    }

    fn id(self, kind: &str) -> String {
        let Self { realm, stay } = self;
        match stay {
            Stay::ForGood => format!("{kind} {realm}"),
            Stay::Drill => format!("drill's {kind} {realm}"),
        }
    }
}

/// What a root is found by.
fn name(template: Template, whose: Whose, kind: &str) -> Template {
    template.label(&whose.label(kind)).id(whose.id(kind).as_bytes())
}

fn told(cause: String) -> Fault {
    let operation = "looking for the realm's root keys".to_owned();
    Fault::Told(HsmError::ModuleFailed { operation, cause })
}

/// Finds both roots.
pub(super) fn find(session: &Session, whose: Whose) -> Result<Roots, Fault> {
    Ok(Roots {
        sealing: find_one(session, whose, SEALING)?,
        releasing: find_one(session, whose, RELEASING)?,
    })
}

fn find_one(session: &Session, whose: Whose, kind: &str) -> Result<KeyHandle, Fault> {
    if let Some(root) = present(session, whose, kind)? {
        return Ok(root);
    }
    let (wanted, found) = (whose.label(kind), labels(session)?);
    Err(told(format!(
        "the token has no key {wanted:?}; it has {found}. Put the root keys there with \
         `tapfer keys ceremony install`, or name the realm's own token in hsm.toml"
    )))
}

/// A root, if it is there.
fn present(session: &Session, whose: Whose, kind: &str) -> Result<Option<KeyHandle>, Fault> {
    match candidates(session, whose, kind)?.as_slice() {
        [] => Ok(None),
        [root] => Ok(Some(*root)),
        several => Err(told(format!(
            "the token has {} keys {:?}, and it is not for a program to choose one: their check values are {}, in the \
             order in which the token lists them. The root key is the one whose check value is in the transcript of \
             the ceremony, and on the other members in `tapfer hsm status`. Delete every other one with the vendor's \
             tool, by its handle and not by its label, which finds the first; if it does not let itself be deleted, \
             initialise the token anew and put the root keys there with `tapfer keys ceremony install`. Whoever put \
             it there has the PIN: change it",
            several.len(),
            whose.label(kind),
            check_values(session, several)
        ))),
    }
}

/// For people to tell keys of one name apart.
fn check_values(session: &Session, keys: &[KeyHandle]) -> String {
    let of = |key: &KeyHandle| match wrapped_zeros(session, [*key]) {
        Ok([zeros]) => HEXUPPER.encode(&root_check::check_value(&zeros)),
        Err(_) => "none, because it wraps nothing".to_owned(),
    };
    keys.iter().map(of).collect::<Vec<_>>().join(", ")
}

fn candidates(session: &Session, whose: Whose, kind: &str) -> Result<Vec<KeyHandle>, Fault> {
    Ok(session.find(&name(Template::key(KeyType::Aes), whose, kind))?)
}

/// Every such root key, however many there are.
pub(super) fn all(session: &Session, whose: Whose) -> Result<Vec<KeyHandle>, Fault> {
    let mut found = candidates(session, whose, SEALING)?;
    found.extend(candidates(session, whose, RELEASING)?);
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

/// How many of a realm's two roots are on a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootsOnToken {
    /// None.
    Neither,
    /// One: an installation was not finished.
    One,
    /// Both.
    Both,
}

/// What an installation found and leaves behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledRoots {
    /// Which were there before.
    pub before: RootsOnToken,
    /// What guards roots on this module, and not those that are on the token now, for people.
    pub lacks: Vec<String>,
    /// What lies beside them that should not, for people; nobody works with it.
    pub beside: Option<String>,
}

/// Looks which roots are there.
pub(super) fn look(session: &Session, whose: Whose) -> Result<RootsOnToken, Fault> {
    let there = [present(session, whose, RELEASING)?, present(session, whose, SEALING)?];
    Ok(match there {
        [None, None] => RootsOnToken::Neither,
        [Some(_), Some(_)] => RootsOnToken::Both,
        _ => RootsOnToken::One,
    })
}

/// Puts the roots on a token that are not there yet, and says how many were there before: an installation that
/// stopped half way is completed by the next. What is there has to be the same key.
pub(super) fn install(
    (session, needs_login): (&Session, bool),
    whose: Whose,
    keys: &RootKeys,
    choices: &Choices,
) -> Result<RootsOnToken, Fault> {
    let before = look(session, whose)?;
    // The one that is needed less comes first: with half of an installation nothing opens.
    for (kind, value) in [(RELEASING, &keys.releasing), (SEALING, &keys.sealing)] {
        if let Some(root) = present(session, whose, kind)? {
            demand_same(session, root, value, &whose.label(kind))?;
            continue;
        }
        let template = Template::key(KeyType::Aes).stays_behind_login(needs_login);
        let template = template.extractable(false).for_good();
        let template = name(template, whose, kind).only_for(&[Use::Wrap, Use::Unwrap]);
        let mut template = template.value(value.expose());
        if choices.allowed_mechanisms {
            template = template.only_by(&[Mechanism::AesKeyWrap, choices.document_wrap]);
        }
        if choices.unwrap_template && kind == SEALING {
            template = template.unwraps_into(sealed());
        }
        // Whoever has the PIN must not be able to take the roots away.
        if choices.indestructible && whose.stay == Stay::ForGood {
            template = template.indestructible();
        }
        session.create(&template)?;
    }
    Ok(before)
}

/// That a root on the token is the one in hand: both wrap zeros alike (RFC 3394 has no randomness).
fn demand_same(
    session: &Session,
    root: KeyHandle,
    value: &Secret<[u8; 32]>,
    label: &str,
) -> Result<(), Fault> {
    if wrapped_zeros(session, [root])? == [root_check::wrapped_zeros(value)?] {
        return Ok(());
    }
    Err(told(format!(
        "the token has a key {label:?}, and it is not the one that the custodians' parts give: they are of other \
         root keys, or somebody put this one there. Compare check values with the transcript; if the token's is the \
         wrong one, initialise the token anew (it holds nothing else of this realm) and run this again"
    )))
}

/// What the sealing root opens: unreadable, and gone with the session. A key that stayed on the token would be
/// there for whoever had the PIN once, and on some modules for everybody.
pub(super) fn sealed() -> Template {
    Template::default().ends_with_session().extractable(false)
}

/// What tells roots apart.
pub(super) fn fingerprints(session: &Session, roots: Roots) -> Result<RootFingerprints, Fault> {
    let [sealing, releasing] = wrapped_zeros(session, [roots.sealing, roots.releasing])?;
    let of = root_check::check_value;
    Ok(RootFingerprints { sealing: of(&sealing), releasing: of(&releasing) })
}

/// [`ZEROS`] wrapped under each root.
pub(super) fn wrapped_zeros<const N: usize>(
    session: &Session,
    roots: [KeyHandle; N],
) -> Result<[[u8; 24]; N], Fault> {
    let template = Template::key(KeyType::Aes).stays(false).wrappable().value(&ZEROS);
    let zeros = session.create(&template.only_for(&[]))?;
    let mut all = [[0; 24]; N];
    for (root, wrapped) in roots.into_iter().zip(&mut all) {
        session.wrap(Mechanism::AesKeyWrap, root, zeros, wrapped)?;
    }
    session.destroy(zeros)?;
    Ok(all)
}
