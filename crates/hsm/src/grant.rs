//! Who may see a card number, and why.

use tapfer_emv::cryptogram::CryptogramVerified;
use tapfer_payment_types::TokenId;

use crate::{HsmError, RecordOwner};

/// What entitles a caller to open a card record.
#[derive(Debug)]
pub enum DetokenizationGrant<'a> {
    /// The card itself has just paid: its cryptogram was verified. For the messages to card schemes
    /// that want the number; nothing in this version sends one.
    Payment(&'a CryptogramVerified),
    /// A person with the role for it asks, and says why.
    Operator(OperatorGrant),
    /// A phone's own token is personalised: opens the number of this token, and never a card's.
    Personalisation(TokenId),
}

impl DetokenizationGrant<'_> {
    /// Whether it entitles to this record.
    #[must_use]
    pub fn covers(&self, owner: RecordOwner) -> bool {
        match (self, owner) {
            (Self::Operator(_), _) | (Self::Payment(_), RecordOwner::Card(_)) => true,
            (Self::Payment(proof), RecordOwner::Token(token)) => proof.token() == token,
            (Self::Personalisation(token), owner) => owner == RecordOwner::Token(*token),
        }
    }
}

/// A person's request to see card data. The caller has checked the role and writes the audit trail;
/// this type makes sure that there is something to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorGrant {
    actor: String,
    reason: String,
}

impl OperatorGrant {
    /// Longest actor or reason, in bytes.
    pub const MAXIMUM_LENGTH: usize = 500;

    /// Takes who asks and why.
    ///
    /// # Errors
    /// [`HsmError::OperatorGrant`] if one of them is blank or too long.
    pub fn new(actor: &str, reason: &str) -> Result<Self, HsmError> {
        let says_something =
            |text: &str| !text.trim().is_empty() && text.len() <= Self::MAXIMUM_LENGTH;
        if !says_something(actor) || !says_something(reason) {
            return Err(HsmError::OperatorGrant);
        }
        Ok(Self { actor: actor.trim().to_owned(), reason: reason.trim().to_owned() })
    }

    /// Who asks.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::OperatorGrant;
    use crate::HsmError;

    #[test]
    fn an_operator_has_a_name_and_a_reason() {
        let grant = OperatorGrant::new("ada", " lost card, case 4711 ").unwrap();
        assert_eq!((grant.actor(), grant.reason()), ("ada", "lost card, case 4711"));
        for (actor, reason) in [("", "why"), ("ada", " \t"), ("ada", &*"x".repeat(501))] {
            assert!(matches!(OperatorGrant::new(actor, reason), Err(HsmError::OperatorGrant)));
        }
    }
}
