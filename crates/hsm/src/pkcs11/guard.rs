//! What guards the roots that are on a token, found out at these very roots.
//!
//! What a module can do says nothing of them: what guards a key is written with it and not added later, and an earlier
//! version of this program, an earlier firmware or a vendor's tool may have put them there.

use tapfer_pkcs11::{Error, KeyHandle, Mechanism, Module, Session, Token};

use super::Fault;
use super::capability::{
    Capability, Choices, Operation, Place, answers, keeps_inside, unless_refused,
};
use super::roots::{self, Roots, Stay, Whose};

/// What guards roots on such a module, and not these.
///
/// Sixteen zeros are opened under the sealing root in every way that a thief would try, in a session that ends here.
pub(super) fn lacking(
    (module, token): (&Module, &Token),
    session: &Session,
    (roots, whose): (Roots, Whose),
    choices: &Choices,
) -> Result<Vec<Operation>, Fault> {
    let both = [roots.sealing, roots.releasing];
    let mut lacking = Vec::new();
    if choices.unwrap_template {
        let [zeros] = roots::wrapped_zeros(session, [roots.sealing])?;
        let trial = module.open_session(token, true)?;
        if !answers(|| keeps_inside(&trial, roots.sealing, &zeros))? {
            lacking.push(Operation::UnwrapTemplate);
        }
    }
    let wraps = [Mechanism::AesKeyWrap, choices.document_wrap];
    if choices.allowed_mechanisms && !both_are(both, |root| session.is_only_by(root, &wraps))? {
        lacking.push(Operation::AllowedMechanisms);
    }
    let stays = |root| session.is_destroyable(root).map(|is_destroyable| !is_destroyable);
    if choices.indestructible && whose.stay == Stay::ForGood && !both_are(both, stays)? {
        lacking.push(Operation::RootsStay);
    }
    Ok(lacking)
}

/// What the module says of both roots. Where it says nothing, it is not so.
fn both_are(
    roots: [KeyHandle; 2],
    says: impl Fn(KeyHandle) -> Result<bool, Error>,
) -> Result<bool, Fault> {
    for root in roots {
        if unless_refused(says(root))? != Some(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What the module can do, and what of it is so with its roots.
pub(super) fn tell(
    mut capabilities: Vec<Capability>,
    lacking: &[Operation],
    whose: Whose,
) -> Vec<Capability> {
    for one in &mut capabilities {
        let is_lacking = lacking.contains(&one.operation);
        if let Some(otherwise) = one.operation.otherwise().filter(|_| is_lacking) {
            one.place = Place::Missing;
            one.how = format!(
                "{otherwise}: the module honours it, and the roots on this token were put there without it. Initialise \
                 the token anew, then run `tapfer keys ceremony install --member` with its name"
            );
        } else if one.operation == Operation::RootsStay && whose.stay == Stay::Drill {
            one.place = Place::Missing;
            one.how = "THESE ARE THE ROOTS OF A DRILL: the next one takes them away".to_owned();
        }
    }
    capabilities
}

/// For the ceremony that finds them so.
pub(super) fn in_words(lacking: &Operation) -> String {
    format!("{lacking}: {}", lacking.otherwise().unwrap_or_default())
}
