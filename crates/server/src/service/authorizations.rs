//! Authorizations: load every fact once, ask the security module, decide, commit once; on a conflict
//! load and decide again (docs/ARCHITECTURE.md, the way of one payment).

use tapfer_emv::cryptogram::{CryptogramMismatch, CryptogramVerified};
use tapfer_hsm::{CryptogramRequest, CryptogramVerdict};
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::{AuthorizationId, PaymentIntentId, ReversalId, TerminalId};
use tapfer_payments::access::Principal;
use tapfer_payments::audit;
use tapfer_payments::authorization::{
    Authorization, CryptogramFailure, DeclineReason, Facts, Language, Outcome, decide,
    decided_before,
};
use tapfer_payments::reversals::Reversal;
use tapfer_storage::{
    AuthorizationFilter, CommitAuthorization, FactsQuery, NewReversal, Page, Slice, StorageError,
    StoredResponse, Write, Written,
};

use crate::api;
use crate::metrics;
use crate::service::answer::{Answered, created};
use crate::service::caller::Caller;
use crate::service::chip_data::ChipData;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

/// How often a decision is taken again because the facts have changed meanwhile. Payments of one card at
/// one moment are few; more than this is no bad luck but an attack or a defect.
const ATTEMPTS: usize = 16;

type Proof = Result<CryptogramVerified, CryptogramFailure>;

/// The answer as the caller reads it; asked again, it stays in the language it was given in.
fn answer_in(language: Language) -> fn(&Authorization) -> StoredResponse {
    type Told = api::authorizations::Authorization;
    match language {
        Language::English => |found| created(&Told::in_language(found, Language::English)),
        Language::German => |found| created(&Told::in_language(found, Language::German)),
    }
}

fn reversed(reversal: &Reversal) -> StoredResponse {
    created(&api::authorizations::Reversal::from(reversal))
}

impl Service {
    /// A card at a terminal asks to pay. Being declined is an answer.
    ///
    /// # Errors
    /// [`ServiceError::ChipData`] if the chip data cannot be read, [`ServiceError::NotFound`] if there is
    /// no such payment; faults of the system.
    pub(crate) fn authorize(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: &api::authorizations::CreateAuthorization,
        language: Language,
    ) -> Result<Answered, ServiceError> {
        let terminal = caller.as_terminal()?;
        self.once(caller, repetition, answer_in(language), |write| {
            let chip_data = ChipData::parse(&request.chip_data.0)?;
            self.require_same_merchant(caller, terminal, request.payment_intent)?;
            let query = FactsQuery {
                token_number_hash: self.token_number_hash(&chip_data)?,
                payment_intent: request.payment_intent,
                terminal,
                acquirer: self.acquirer,
                presented: chip_data.presented.clone(),
            };
            let facts = self.storage.authorization_facts(query.clone())?;
            let proof = self.verify(&facts, &chip_data)?;
            self.decide_and_commit(facts, proof, query, request.online_pin.as_ref(), write)
        })
    }

    /// What the store finds the token by. A number in no issuer's range has no hash, and so is no token.
    fn token_number_hash(&self, chip_data: &ChipData) -> Result<Vec<u8>, ServiceError> {
        let hash = match &chip_data.token_pan {
            Some(token_pan) => self.presented_number_hash(token_pan)?,
            None => None,
        };
        Ok(hash.unwrap_or_default())
    }

    /// A terminal takes payments for its own merchant only; others' payments do not exist for it.
    fn require_same_merchant(
        &self,
        caller: &Caller,
        terminal: TerminalId,
        intent: PaymentIntentId,
    ) -> Result<(), ServiceError> {
        let terminal =
            self.storage.terminal(terminal)?.ok_or(ServiceError::NotFound("terminal"))?;
        let intent =
            self.storage.intent(intent)?.ok_or(ServiceError::NotFound("payment intent"))?;
        if intent.merchant == terminal.merchant {
            return Ok(());
        }
        Err(caller.hide("payment intent"))
    }

    /// Asks the security module whether the card made this cryptogram.
    fn verify(&self, facts: &Facts, chip_data: &ChipData) -> Result<Proof, ServiceError> {
        let (Some(known), Some(token_pan)) = (&facts.token, &chip_data.token_pan) else {
            return Ok(Err(CryptogramFailure::NotChecked));
        };
        let Some(data) = chip_data.presented.input.application_data() else {
            return Ok(Err(CryptogramFailure::Unreadable));
        };
        if chip_data.sequence != known.token.sequence_number {
            return Ok(Err(CryptogramMismatch.into()));
        }
        let verdict = self.ask_hsm("verify_cryptogram", |hsm| {
            hsm.verify_cryptogram(&CryptogramRequest {
                issuer: known.token.issuer,
                derivation_key_index: data.derivation_key_index,
                token: known.token.id,
                token_pan,
                sequence: known.token.sequence_number,
                key_class: data.results.key_class,
                key_index: data.key_index,
                input: &chip_data.presented.input,
                received: &chip_data.presented.cryptogram,
            })
        })?;
        Ok(match verdict {
            CryptogramVerdict::Verified(proof) => Ok(proof),
            // Who names a generation that the issuer does not have learns no more than that.
            CryptogramVerdict::Mismatch | CryptogramVerdict::UnknownDerivationKey => {
                Err(CryptogramMismatch.into())
            }
        })
    }

    fn decide_and_commit(
        &self,
        mut facts: Facts,
        mut proof: Proof,
        query: FactsQuery,
        online_pin: Option<&SealedPayload>,
        mut write: Write<Authorization>,
    ) -> Result<Written<Authorization>, ServiceError> {
        for _ in 0..ATTEMPTS {
            if let Some(id) = decided_before(&facts, &proof) {
                return Ok(self.storage.repeat_authorization(id, write)?);
            }
            // Opened whatever the cryptogram is worth: an answer that depended on it would tell a right
            // cryptogram from a wrong one, and so a PIN, where neither counts.
            let bound_to = (query.payment_intent, query.terminal);
            let terminal_pin = self.compare_online_pin(&facts, online_pin, bound_to)?;
            let decision = decide(facts, proof, terminal_pin, write.now);
            let id = AuthorizationId::new(write.now, self.random()?);
            let commit = CommitAuthorization::new(id, &decision);
            match self.storage.commit_authorization(commit, write.clone()) {
                Err(StorageError::Conflict) => {
                    metrics::decision_retry();
                    facts = self.storage.authorization_facts(query.clone())?;
                    proof = decision.into_cryptogram();
                    write.now = self.now();
                }
                result => return Ok(counted(result?, &write.caller)),
            }
        }
        Err(ServiceError::Contention(
            "too many payments of the same card or at the same terminal at this moment; nothing was \
             decided. Ask again with the same idempotency key",
        ))
    }

    /// One authorization, for the merchant, its terminal, or the operator.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn authorization(
        &self,
        caller: &Caller,
        id: AuthorizationId,
    ) -> Result<Authorization, ServiceError> {
        let what = "authorization";
        caller.require_payment_role()?;
        let found = self.storage.authorization(id)?.ok_or(ServiceError::NotFound(what))?;
        caller.require_terminal(found.terminal, found.merchant, what)?;
        Ok(found)
    }

    /// Authorizations.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_authorizations(
        &self,
        caller: &Caller,
        payment_intent: Option<PaymentIntentId>,
        page: Page<AuthorizationId>,
    ) -> Result<Slice<Authorization, AuthorizationId>, ServiceError> {
        let filter = match caller.principal {
            Principal::Terminal(own) => {
                AuthorizationFilter { merchant: None, terminal: Some(own), payment_intent }
            }
            _ => {
                let merchant = caller.merchant_scope()?;
                AuthorizationFilter { merchant, terminal: None, payment_intent }
            }
        };
        Ok(self.storage.list_authorizations(filter, page)?)
    }

    /// Undoes an approval: the terminal that lost the answer, its merchant, or the operator.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn reverse(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: AuthorizationId,
        request: api::authorizations::CreateReversal,
    ) -> Result<Answered, ServiceError> {
        self.authorization(caller, id)?;
        self.once(caller, repetition, reversed, |write| {
            let reversal = NewReversal {
                id: ReversalId::new(write.now, self.random()?),
                authorization: id,
                reason: String::from(request.reason),
            };
            Ok(self.storage.reverse(reversal, write)?)
        })
    }
}

/// Counts what was decided now, and not what was only told again.
fn counted(written: Written<Authorization>, caller: &audit::Caller) -> Written<Authorization> {
    if let Written::Done { value, .. } = &written {
        let outcome = value.outcome;
        let word = if outcome.is_approved() { "approved" } else { "declined" };
        metrics::authorization(word, outcome.slug());
        if let Outcome::Declined(DeclineReason::Replay | DeclineReason::CounterReused) = outcome {
            note_second_use(value, caller);
        }
    }
    written
}

/// A counter that comes twice is a security event: somebody holds a recorded tap, or a copied phone.
fn note_second_use(authorization: &Authorization, caller: &audit::Caller) {
    tracing::warn!(
        target: "tapfer::security",
        event = authorization.outcome.slug(),
        authorization = %authorization.id,
        token = authorization.token.map(|id| id.to_string()),
        terminal = %authorization.terminal,
        request_id = caller.request_id,
        "a transaction counter was presented a second time"
    );
}
