//! Root keys that a drill puts on a token, and takes away again.
//!
//! A drill proves at real HSMs that a backup and the custodians' parts make a platform. What tells its
//! roots from those of a platform that works is a mark: a key of no use, with a label of its own, which is on
//! the token before the first root comes and goes after the last one is gone. A drill that was killed leaves
//! the mark beside whatever roots there are; whoever comes next wipes both. Roots without a mark are
//! nobody's to wipe.

use tapfer_payment_types::{RealmId, Secret};
use tapfer_pkcs11::{KeyType, Session, Template};

use super::capability::Choices;
use super::roots::Stay;
use super::{Fault, roots};
use crate::HsmError;
use crate::software::RootKeys;

fn label(realm: RealmId) -> String {
    format!("tapfer drill {realm}")
}

/// What the mark is found by.
fn mark(realm: RealmId) -> Template {
    Template::key(KeyType::Aes).label(&label(realm))
}

/// Marks a token that has no root keys of this realm, but those that a killed drill left, and puts both roots
/// there.
pub(super) fn begin(
    (session, needs_login): (&Session, bool),
    realm: RealmId,
    keys: &RootKeys,
    choices: &Choices,
) -> Result<(), Fault> {
    wipe(session, realm)?;
    if !roots::all(session, realm)?.is_empty() {
        let cause = "the token has root keys of this realm that no drill put there: a platform works with them. \
                     A drill wants tokens without them"
            .to_owned();
        let operation = "putting a drill's root keys on a token".to_owned();
        return Err(HsmError::ModuleFailed { operation, cause }.into());
    }
    let mut value = Secret::new([0; 32]);
    session.random(value.expose_mut())?;
    let template = mark(realm).stays_behind_login(needs_login).extractable(false).only_for(&[]);
    session.create(&template.value(value.expose()))?;
    roots::install((session, needs_login), realm, keys, choices, Stay::Drill).map(drop)
}

/// Takes away what a drill put there, if one did; the mark goes last.
pub(super) fn wipe(session: &Session, realm: RealmId) -> Result<bool, Fault> {
    let marks = session.find(&mark(realm))?;
    if marks.is_empty() {
        return Ok(false);
    }
    for object in roots::all(session, realm)?.into_iter().chain(marks) {
        session.destroy(object)?;
    }
    Ok(true)
}
