//! PINs: on phones, where the PIN opens a person's key, and of cards at terminals. No PIN is ever seen
//! here: what phones and tills seal is opened in the security module.

use aws_lc_rs::digest;
use tapfer_hsm::{
    CardPinSubject, CardPinValue, PersonKeyImport, PersonKeyInUse, PersonKeySubject,
    PersonKeyVerdict, SealedPersonKey,
};
use tapfer_payment_types::messages::{PinStatus, SealedPayload, SetPersonKeyRequest};
use tapfer_payment_types::policy::PinRules;
use tapfer_payment_types::{CardId, IssuerId, PaymentIntentId, TerminalId, Timestamp, TokenId};
use tapfer_payments::access::Principal;
use tapfer_payments::pins::{self, CardPin, PersonKeyState, ProofDemand, TerminalPin};
use tapfer_payments::tokens::Token;
use tapfer_storage::{
    PersonKeyChange, PresentedToken, StorageError, StoredPersonKey, StoredResponse, Written,
};

use crate::api;
use crate::service::answer::{Answered, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

/// How often a change of PIN is tried again because a payment counted a PIN meanwhile.
const ATTEMPTS: usize = 8;

fn status(status: &PinStatus) -> StoredResponse {
    done(status)
}

fn card_pin(pin: &CardPin) -> StoredResponse {
    done(&api::pins::CardPinSet { failed: pin.failed })
}

fn login(at: &Timestamp) -> StoredResponse {
    done(&api::pins::Login { logged_in_at: *at })
}

impl Service {
    /// Takes a phone's new person's key. A wrong old PIN is an answer: the generation stays, and there is
    /// one try less.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn set_pin(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: TokenId,
        request: &SetPersonKeyRequest,
    ) -> Result<Answered, ServiceError> {
        let token = self.token(caller, id)?;
        if !matches!(caller.principal, Principal::Device(_)) {
            return Err(caller.refuse("only the phone itself sets its PIN"));
        }
        self.once(caller, repetition, status, |write| {
            for _ in 0..ATTEMPTS {
                let known = self.storage.token_person(id)?.key;
                let state = known.as_ref().map(|key| key.state);
                if known.as_ref().is_some_and(|key| is_repeated(key, request)) {
                    return Ok(self.storage.pin_status_again(id, write)?);
                }
                let change = self.person_key_change(&token, known.as_ref(), request)?;
                match self.storage.change_person_key(id, state, change, write.clone()) {
                    Err(StorageError::Conflict) => {}
                    result => return Ok(noted(result?, request.generation, caller, id)),
                }
            }
            Err(ServiceError::Contention("the token is paying at this moment; ask again"))
        })
    }

    fn person_key_change(
        &self,
        token: &Token,
        known: Option<&StoredPersonKey>,
        request: &SetPersonKeyRequest,
    ) -> Result<PersonKeyChange, ServiceError> {
        let rules = self.pin_rules(token.issuer)?;
        let state = known.map(|key| key.state);
        let demand =
            pins::may_set(state, request.generation, &rules).map_err(StorageError::from)?;
        let old_key = known.map(|key| SealedPersonKey(key.key_sealed.clone()));
        let old = match (demand, state, &old_key) {
            (ProofDemand::OfOldKey, Some(state), Some(key)) => {
                Some(PersonKeyInUse { generation: state.generation, key })
            }
            _ => None,
        };
        let subject = PersonKeySubject {
            issuer: token.issuer,
            token: token.id,
            generation: request.generation,
        };
        let import = PersonKeyImport { subject, sealed: &request.sealed_key, old };
        let verdict = self.ask_hsm("accept_person_key", |hsm| hsm.accept_person_key(&import))?;
        Ok(match verdict {
            PersonKeyVerdict::Accepted(key) => PersonKeyChange::Taken(StoredPersonKey {
                state: PersonKeyState::fresh(request.generation),
                key_sealed: key.0,
                request_hash: hash(&request.sealed_key),
                refused_hash: None,
            }),
            PersonKeyVerdict::WrongProof => {
                PersonKeyChange::WrongProof { request_hash: hash(&request.sealed_key) }
            }
        })
    }

    fn pin_rules(&self, issuer: IssuerId) -> Result<PinRules, ServiceError> {
        let issued = self.storage.policy(issuer)?.ok_or(ServiceError::Damaged("a policy"))?;
        Ok(issued.policy.pin)
    }

    /// How a token stands to its PIN.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn pin_status(
        &self,
        caller: &Caller,
        id: TokenId,
    ) -> Result<PinStatus, ServiceError> {
        let token = self.token(caller, id)?;
        let state = self.storage.token_person(id)?.key.map(|key| key.state);
        Ok(pins::status(state, &self.pin_rules(token.issuer)?))
    }

    /// Lets a phone choose a new PIN without the old one.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn grant_pin_reset(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: TokenId,
        request: api::pins::PinReason,
    ) -> Result<Answered, ServiceError> {
        caller.issuer_scope()?;
        self.token(caller, id)?;
        self.once(caller, repetition, status, |write| {
            Ok(self.storage.grant_pin_reset(id, String::from(request.reason), write)?)
        })
    }

    /// The person has logged in at the issuer: the phone is told with its next keys.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn record_login(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: TokenId,
        request: api::pins::PinReason,
    ) -> Result<Answered, ServiceError> {
        caller.issuer_scope()?;
        self.token(caller, id)?;
        self.once(caller, repetition, login, |write| {
            Ok(self.storage.record_login(id, String::from(request.reason), write)?)
        })
    }

    /// Sets a card's PIN for terminals.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn set_card_pin(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: CardId,
        request: &api::pins::SetCardPin,
    ) -> Result<Answered, ServiceError> {
        let card = self.card(caller, id)?.card;
        self.once(caller, repetition, card_pin, |write| {
            let subject = CardPinSubject { issuer: card.issuer, card: id };
            let CardPinValue(value) = self.ask_hsm("card_pin_value", |hsm| {
                hsm.card_pin_value(subject, &request.sealed_pin)
            })?;
            Ok(self.storage.set_card_pin(id, value, write)?)
        })
    }

    /// What the security module says of the PIN that came with a payment.
    pub(super) fn compare_online_pin(
        &self,
        presented: Option<&PresentedToken>,
        sealed: &SealedPayload,
        bound_to: (PaymentIntentId, TerminalId),
    ) -> Result<TerminalPin, ServiceError> {
        let Some(PresentedToken { token, card_pin: Some(pin) }) = presented else {
            return Ok(TerminalPin::Absent);
        };
        let subject = CardPinSubject { issuer: token.issuer, card: token.card };
        let associated = format!("{}{}", bound_to.0, bound_to.1);
        let is_right = self.ask_hsm("verify_card_pin", |hsm| {
            hsm.verify_card_pin(subject, &CardPinValue(pin.value), sealed, associated.as_bytes())
        })?;
        Ok(if is_right { TerminalPin::Right } else { TerminalPin::Wrong })
    }
}

/// A phone that lost the answer asks again, byte for byte: for the key in force, or for the next one, which was refused
/// then. A refused request stays refused, whatever the issuer grants meanwhile: a wrong PIN stands in it, and who
/// knows whose.
fn is_repeated(known: &StoredPersonKey, request: &SetPersonKeyRequest) -> bool {
    let (generation, hash) = (known.state.generation, hash(&request.sealed_key));
    let was_taken = request.generation == generation && known.request_hash == hash;
    let was_refused =
        generation.checked_add(1) == Some(request.generation) && known.refused_hash == Some(hash);
    was_taken || was_refused
}

fn hash(sealed: &SealedPayload) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    // The first part of what opens has one length.
    context.update(&sealed.encapsulated_key.0);
    context.update(&sealed.ciphertext.0);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// A wrong old PIN is a security event: somebody holds a phone that may not be his.
fn noted(
    written: Written<PinStatus>,
    generation: u32,
    caller: &Caller,
    token: TokenId,
) -> Written<PinStatus> {
    if let Written::Done { value, .. } = &written
        && value.generation != generation
    {
        tracing::warn!(
            target: "tapfer::security",
            event = "pin_change_refused",
            caller = %caller.key,
            token = %token,
            tries_left = value.tries_left,
            request_id = caller.request_id,
            "a phone that wants a new PIN does not know the old one"
        );
    }
    written
}
