//! What a decision changes: all that is kept of it, in one value. It is what the journal keeps, what memory follows, and
//! what the tables are written from.

use tapfer_payment_types::{IssuerId, Money};
use tapfer_payments::audit::Caller;
use tapfer_payments::authorization::{Authorization, SpentCounter};
use tapfer_payments::intents::{CaptureMethod, IntentStatus, PaymentIntent};
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::pins::{CardPin, PersonKeyState, VerificationHistory};
use tapfer_payments::tokens::TokenState;

use crate::idempotency::GivenAnswer;
use crate::{CommitAuthorization, IdempotencyClaim, StorageError, StoredResponse};

/// A decision that is to be kept, or is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    /// What was decided.
    pub(crate) authorization: Authorization,
    /// Who asked.
    pub(crate) caller: Caller,
    /// Whose master key was asked about the cryptogram, and which generation.
    pub(crate) asked_key: Option<(IssuerId, u8)>,
    /// What spends the presented counter, or is remembered with it.
    pub(crate) spent: Option<SpentCounter>,
    /// The key behind this payment.
    pub(crate) used_key: Option<GrantedKey>,
    /// The person's key behind it.
    pub(crate) person_key: Option<PersonKeyState>,
    /// The card's PIN behind it.
    pub(crate) card_pin: Option<CardPin>,
    /// How the person was verified so far.
    pub(crate) history: Option<VerificationHistory>,
    /// The token's state, if the platform suspends it.
    pub(crate) suspended: Option<TokenState>,
    /// The intent behind it, if it is another then.
    pub(crate) intent: Option<PaymentIntent>,
    /// What was answered, and under which claim.
    pub(crate) answer: Option<GivenAnswer>,
}

impl Decided {
    /// What follows from a decision whose facts still hold.
    ///
    /// # Errors
    /// The rules of intents refuse it: a defect, since the decision rests on the same intent.
    pub(crate) fn new(
        commit: &CommitAuthorization,
        authorization: Authorization,
        caller: Caller,
    ) -> Result<Self, StorageError> {
        let facts = &commit.facts;
        let presented = &facts.presented;
        let token = facts.token.as_ref();
        let spends = commit.uses_counter || commit.remembers_cryptogram;
        let spent = token.filter(|_| spends).map(|_| SpentCounter {
            authorization: authorization.id,
            payment_intent: authorization.payment_intent,
            terminal: authorization.terminal,
            cryptogram: Some(presented.cryptogram),
            verified: commit.uses_counter,
        });
        let intent = PaymentIntent::clone(&facts.intent);
        let intent = match token {
            Some(_) if authorization.outcome.is_approved() => {
                Some(intent.approved(authorization.id)?)
            }
            _ if commit.consumes_arming => Some(intent.disarmed()),
            _ => None,
        };
        let data = presented.input.application_data();
        Ok(Self {
            caller,
            asked_key: token
                .zip(data)
                .map(|(token, data)| (token.issuer.id, data.derivation_key_index)),
            spent,
            used_key: commit.used_key.filter(|_| token.is_some() && commit.uses_counter),
            person_key: commit.person_key.filter(|_| token.is_some()),
            card_pin: commit.card_pin.filter(|_| token.is_some()),
            history: commit.history.filter(|_| token.is_some()),
            suspended: commit.suspended.filter(|_| token.is_some()),
            intent,
            answer: None,
            authorization,
        })
    }

    /// The answer under a claim, if one of these was given one.
    pub(crate) fn answer_among(
        decided: &[Self],
        claim: &IdempotencyClaim,
    ) -> Option<Result<StoredResponse, StorageError>> {
        let mut answers = decided.iter().filter_map(|decided| decided.answer.as_ref());
        let is_same =
            |made: &&GivenAnswer| (made.api_key, &made.key) == (claim.api_key, &claim.key);
        answers.find(is_same).map(|made| claim.believe(made.kept()))
    }

    /// What is held of the card's money.
    pub(crate) fn held(&self) -> Option<Money> {
        self.authorization.outcome.is_approved().then_some(self.authorization.amount)
    }

    /// Whether what is held goes to the merchant at once.
    pub(crate) fn is_captured(&self) -> bool {
        self.intent.as_ref().is_some_and(|intent| {
            intent.status == IntentStatus::Succeeded
                && intent.capture_method == CaptureMethod::Automatic
        })
    }
}
