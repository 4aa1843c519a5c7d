//! Root keys that a drill puts on a token, and takes away again.
//!
//! A drill proves at real HSMs that a backup and the custodians' parts make a platform. What tells its
//! roots from those of a platform that works are their names: a platform does not find the roots of a drill, so none
//! comes to stand on what the next drill takes away, and a drill touches nothing but its own. What a killed one left is
//! wiped by whoever comes next.

use tapfer_payment_types::RealmId;
use tapfer_pkcs11::Session;

use super::capability::{Choices, unless_refused};
use super::roots::Whose;
use super::{Fault, roots};
use crate::HsmError;
use crate::software::RootKeys;

/// Puts both roots on a token that has no root keys of this realm, but those that a killed drill left.
pub(super) fn begin(
    (session, needs_login): (&Session, bool),
    realm: RealmId,
    keys: &RootKeys,
    choices: &Choices,
) -> Result<(), Fault> {
    end(session, realm)?;
    if !roots::all(session, Whose::platform(realm))?.is_empty() {
        let cause = "the token has root keys of this realm that no drill put there: a platform works with them. \
                     A drill wants tokens without them"
            .to_owned();
        let operation = "putting a drill's root keys on a token".to_owned();
        return Err(HsmError::ModuleFailed { operation, cause }.into());
    }
    roots::install((session, needs_login), Whose::drill(realm), keys, choices).map(drop)
}

/// A token that says each time that it has deleted what is there again is not asked for ever.
const MOST_LOOKS: usize = 64;

/// What was there of a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// And is not any more.
    Wiped,
    /// Whoever has the PIN can put there what does not let itself be deleted.
    Stays,
}

/// What to do about roots of a drill that stay.
pub(super) const STAYS: &str = "a drill's root keys do not let themselves be deleted: delete them with the vendor's tool, or initialise the token anew";

/// Takes away what a drill put there; whether there was anything.
///
/// # Errors
/// It does not let itself be taken away, or the module failed.
pub(super) fn end(session: &Session, realm: RealmId) -> Result<bool, Fault> {
    let left = wipe(session, realm)?;
    if left == Left::Stays {
        let operation = "taking a drill's root keys away".to_owned();
        return Err(HsmError::ModuleFailed { operation, cause: STAYS.to_owned() }.into());
    }
    Ok(left == Left::Wiped)
}

/// Takes away what a drill put there, if one did, and looks that it is gone. A look finds some of many.
pub(super) fn wipe(session: &Session, realm: RealmId) -> Result<Left, Fault> {
    let mut left = Left::Nothing;
    for _ in 0..MOST_LOOKS {
        let found = roots::all(session, Whose::drill(realm))?;
        if found.is_empty() {
            return Ok(left);
        }
        left = Left::Wiped;
        let mut is_one_gone = false;
        for root in found {
            is_one_gone |= unless_refused(session.destroy(root))?.is_some();
        }
        if !is_one_gone {
            break;
        }
    }
    Ok(Left::Stays)
}
