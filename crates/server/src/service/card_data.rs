//! What of card data is shown to whom: one table, asked wherever some of it leaves (PCI DSS 3.4.1, 3.4.2, 7.2). What nobody is shown
//! (sealed numbers, hashes, numbers of tokens, PINs, keys) is in no answer at all.

use tapfer_payments::access::Role;

use crate::service::ServiceError;
use crate::service::caller::Caller;

/// Card data that an answer can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CardData {
    /// The whole card number: to whoever gives a reason, which is in the audit log before the number is read.
    Number,
    /// A card with its last four digits, expiry and holder's reference.
    Masked,
}

impl CardData {
    /// Whether a role is shown it, of the cards that are its own.
    pub(crate) const fn is_shown_to(self, role: Role) -> bool {
        match self {
            Self::Number => matches!(role, Role::Operator | Role::Issuer),
            Self::Masked => matches!(role, Role::Operator | Role::Issuer),
        }
    }
}

impl Caller {
    /// Whether this caller is shown such data. Whose it is asks [`Caller::require_issuer`].
    pub(crate) fn require_sight_of(&self, data: CardData) -> Result<(), ServiceError> {
        match data.is_shown_to(self.principal.role()) {
            true => Ok(()),
            false => Err(self.refuse("only the operator and issuers see card data")),
        }
    }
}
