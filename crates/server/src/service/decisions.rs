//! Payments that come at the same moment are decided together: what is known of all of them is loaded at once, the
//! security module is asked at once, and the decisions are written down at once, each for itself; on a conflict, load
//! and decide again (docs/ARCHITECTURE.md, the way of one payment).
//!
//! What ends one of them, an error or an answer from before, ends no other, and is told at once.

use std::sync::Arc;

use tapfer_emv::cryptogram::{CryptogramMismatch, CryptogramVerified};
use tapfer_hsm::{CryptogramRequest, CryptogramVerdict, HsmError, PaymentHsm};
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::{ApiKeyId, AuthorizationId, PaymentIntentId, TerminalId};
use tapfer_payments::audit;
use tapfer_payments::authorization::{
    Authorization, CryptogramFailure, Decision, DeclineReason, Facts, Language, Outcome, decide,
    decided_before,
};
use tapfer_payments::pins::{CardPin, TerminalPin};
use tapfer_storage::{
    Answer, Begun, CommitAuthorization, FactsQuery, Running, StorageError, StoredResponse, Write,
    Written,
};

use crate::api;
use crate::clock::Stopwatch;
use crate::metrics;
use crate::pipeline::{Asked, Tell};
use crate::service::answer::{Answered, created};
use crate::service::caller::{Asker, Caller};
use crate::service::chip_data::ChipData;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError, hsm_down};

/// How often a decision is taken again because the facts have changed meanwhile. Payments of one card at
/// one moment are few; more than this is no bad luck but an attack or a defect.
const ATTEMPTS: usize = 16;

type Proof = Result<CryptogramVerified, CryptogramFailure>;
/// What a caller hears.
pub(crate) type Decided = Result<Answered, ServiceError>;

/// A card at a terminal asks to pay.
pub(crate) struct Question {
    caller: Caller,
    /// Whether the caller was looked up.
    is_looked_up: bool,
    repetition: Repetition,
    terminal: TerminalId,
    payment_intent: PaymentIntentId,
    chip_data: ChipData,
    online_pin: Option<SealedPayload>,
    language: Language,
}

impl Question {
    /// What a terminal asks, read as far as it can be without looking anything up.
    ///
    /// # Errors
    /// [`ServiceError::Forbidden`] unless a terminal asks; [`ServiceError::ChipData`] if the chip data cannot be
    /// read.
    pub(crate) fn new(
        Asker { caller, is_looked_up }: Asker,
        repetition: Repetition,
        request: api::authorizations::CreateAuthorization,
        language: Language,
    ) -> Result<Self, ServiceError> {
        let terminal = caller.as_terminal()?;
        let chip_data = ChipData::parse(&request.chip_data.0)?;
        let (payment_intent, online_pin) = (request.payment_intent, request.online_pin);
        Ok(Self {
            caller,
            is_looked_up,
            repetition,
            terminal,
            payment_intent,
            chip_data,
            online_pin,
            language,
        })
    }
}

/// A payment that is not answered yet, and what is known of it so far.
struct Open<'a, T> {
    place: usize,
    question: &'a Question,
    known: T,
}

/// What a payment has to be decided on. The guard marks it as running.
struct Case {
    running: Running,
    query: FactsQuery,
    facts: Facts,
    proof: Proof,
    pin: Option<ComparedPin>,
}

/// What a PIN was compared with, and what came of it: whoever decides again need not ask again.
#[derive(Clone, Copy)]
struct ComparedPin {
    with: Option<CardPin>,
    verdict: TerminalPin,
}

/// A payment whose decision was not written down: a fact has changed meanwhile.
type Conflicting<'a> = (Open<'a, (Running, FactsQuery)>, Proof, ComparedPin);

impl Asked for Question {
    type Caller = ApiKeyId;
    type Answer = Decided;

    fn caller(&self) -> ApiKeyId {
        self.caller.key
    }
}

/// Where each question's answer goes, as soon as there is one.
struct Answers<'t>(Tell<'t, Decided>);

impl Answers<'_> {
    fn put(&mut self, place: usize, answer: Decided) {
        (self.0)(place, answer);
    }

    /// Goes on with those for which a step gave something; what else it gave is the answer.
    fn go_on<'a, A, B>(
        &mut self,
        open: Vec<Open<'a, A>>,
        step: impl IntoIterator<Item = Result<B, ServiceError>>,
    ) -> Vec<Open<'a, (A, B)>> {
        let gave = open.into_iter().zip(step);
        gave.filter_map(|(Open { place, question, known }, gave)| match gave {
            Ok(more) => Some(Open { place, question, known: (known, more) }),
            Err(error) => {
                drop(known);
                self.put(place, Err(error));
                None
            }
        })
        .collect()
    }
}

impl Service {
    /// Decides payments. Being declined is an answer. Tells one answer for each question, by its place.
    ///
    /// # Errors
    /// In each answer: [`ServiceError::NotFound`] if there is no such payment; faults of the system.
    pub(crate) fn decide_together(&self, questions: &[Question], tell: Tell<'_, Decided>) {
        let mut answers = Answers(tell);
        let open = self.look_callers_up(&mut answers, questions);
        let begun = self.begin_payments(&mut answers, open);
        let known = self.load_facts(&mut answers, begun);
        let mut open = self.verify_together(&mut answers, known);
        for _ in 0..ATTEMPTS {
            let conflicting = self.decide_and_commit(&mut answers, open);
            open = self.load_again(&mut answers, conflicting);
            if open.is_empty() {
                return;
            }
        }
        for Open { place, known, .. } in open {
            drop(known);
            answers.put(place, Err(CONTENTION));
        }
    }

    /// Sends away whose API key was taken back: those that were not looked up before.
    fn look_callers_up<'a>(
        &self,
        answers: &mut Answers<'_>,
        questions: &'a [Question],
    ) -> Vec<Open<'a, ()>> {
        let to_look_up = questions.iter().filter(|question| !question.is_looked_up);
        let keys: Vec<_> = to_look_up.map(|question| question.caller.key).collect();
        let mut found = self.those_in_force(&keys).into_iter();
        let known = questions.iter().map(|question| {
            if question.is_looked_up {
                return Ok(());
            }
            let found = found.next().ok_or(StorageError::Abandoned)??;
            let is_callers = found.is_some_and(|key| key.principal == question.caller.principal);
            if is_callers { Ok(()) } else { Err(question.caller.turn_away()) }
        });
        let known: Vec<Result<(), ServiceError>> = known.collect();
        let open = questions.iter().enumerate();
        let open = open.map(|(place, question)| Open { place, question, known: () }).collect();
        let open = answers.go_on(open, known).into_iter();
        open.map(|Open { place, question, .. }| Open { place, question, known: () }).collect()
    }

    /// Answers those that were answered before, whatever else does not serve.
    fn begin_payments<'a>(
        &self,
        answers: &mut Answers<'_>,
        open: Vec<Open<'a, ()>>,
    ) -> Vec<Open<'a, Running>> {
        let claims: Vec<_> = open.iter().map(|open| open.question.repetition.claim()).collect();
        let begun = self.storage.begin_all(&claims);
        let begun = open.into_iter().zip(begun);
        begun
            .filter_map(|(Open { place, question, .. }, begun)| {
                let answer = match begun {
                    Ok(Begun::Run(running)) => {
                        return Some(Open { place, question, known: running });
                    }
                    Ok(Begun::Replay(response)) => Ok(Answered::again(response)),
                    Err(error) => Err(error.into()),
                };
                answers.put(place, answer);
                None
            })
            .collect()
    }

    fn load_facts<'a>(
        &self,
        answers: &mut Answers<'_>,
        begun: Vec<Open<'a, Running>>,
    ) -> Vec<Open<'a, (Running, FactsQuery, Facts)>> {
        let numbers: Vec<_> =
            begun.iter().map(|open| open.question.chip_data.token_pan.as_ref()).collect();
        let hashes = self.presented_number_hashes(&numbers);
        let queries = begun.iter().zip(hashes).map(|(open, hash)| {
            Ok(FactsQuery {
                // A number in no issuer's range has no hash, and so is no token.
                token_number_hash: hash?.unwrap_or_default(),
                payment_intent: open.question.payment_intent,
                terminal: open.question.terminal,
                acquirer: self.acquirer,
                presented: Arc::clone(&open.question.chip_data.presented),
            })
        });
        let queries: Vec<_> = queries.collect();
        let asked = answers.go_on(begun, queries);
        let queries: Vec<_> = asked.iter().map(|open| open.known.1.clone()).collect();
        let facts = self.storage.facts_of_authorizations(&queries);
        let facts = asked.iter().zip(facts).map(|(open, facts)| {
            let facts = facts?;
            require_same_merchant(&open.question.caller, &facts)?;
            Ok(facts)
        });
        let facts: Vec<_> = facts.collect();
        let known = answers.go_on(asked, facts).into_iter();
        known
            .map(|Open { place, question, known: ((running, query), facts) }| Open {
                place,
                question,
                known: (running, query, facts),
            })
            .collect()
    }

    /// Asks the security module whether the cards made these cryptograms.
    fn verify_together<'a>(
        &self,
        answers: &mut Answers<'_>,
        known: Vec<Open<'a, (Running, FactsQuery, Facts)>>,
    ) -> Vec<Open<'a, Case>> {
        let requests: Vec<_> = known
            .iter()
            .map(|open| cryptogram_request(&open.known.2, &open.question.chip_data))
            .collect();
        let mut good = Vec::new();
        let failures: Vec<_> =
            requests.into_iter().map(|request| request.map(|request| good.push(request))).collect();
        let mut verdicts = self
            .ask_hsm_for_all("verify_cryptogram", good.len(), |hsm| hsm.verify_cryptograms(&good))
            .into_iter();
        let proofs: Vec<_> = failures
            .into_iter()
            .map(|failure| match failure {
                Err(failure) => Ok(Err(failure)),
                Ok(()) => {
                    verdicts.next().unwrap_or(Err(NOT_ANSWERED)).map(proof).map_err(Into::into)
                }
            })
            .collect();
        let proven = answers.go_on(known, proofs).into_iter();
        proven
            .map(|Open { place, question, known: ((running, query, facts), proof) }| Open {
                place,
                question,
                known: Case { running, query, facts, proof, pin: None },
            })
            .collect()
    }

    /// Those that were not written down, because a fact has changed meanwhile.
    fn decide_and_commit<'a>(
        &self,
        answers: &mut Answers<'_>,
        open: Vec<Open<'a, Case>>,
    ) -> Vec<Conflicting<'a>> {
        let (mut repeated, mut repeats) = (Vec::new(), Vec::new());
        let (mut decided, mut commits) = (Vec::new(), Vec::new());
        for Open { place, question, known } in open {
            let Case { running, query, facts, proof, pin } = known;
            match self.decide_one(question, facts, proof, pin) {
                Ok(Step::Commit(new)) => {
                    commits.push((new.commit, new.write));
                    let open = Open { place, question, known: (running, query) };
                    decided.push((open, new.decision, new.pin));
                }
                Ok(Step::Repeat(id, write)) => {
                    repeats.push((id, *write));
                    repeated.push(Open { place, question, known: running });
                }
                Err(error) => {
                    drop(running);
                    answers.put(place, Err(error));
                }
            }
        }
        let told_again = self.storage.repeat_authorizations(repeats);
        for (open, told) in repeated.into_iter().zip(told_again) {
            // Who is told may ask again at once, and is no longer running then.
            drop(open.known);
            answers.put(open.place, told.map(Answered::from).map_err(Into::into));
        }
        let written = self.storage.commit_authorizations(commits);
        let mut conflicting = Vec::new();
        for ((open, decision, pin), written) in decided.into_iter().zip(written) {
            match written {
                Err(StorageError::Conflict) => {
                    metrics::decision_retry();
                    conflicting.push((open, decision.into_cryptogram(), pin));
                }
                written => {
                    let caller = open.question.caller.for_audit();
                    let answer = written.map(|written| counted(written, &caller).into());
                    drop(open.known);
                    answers.put(open.place, answer.map_err(Into::into));
                }
            }
        }
        conflicting
    }

    fn load_again<'a>(
        &self,
        answers: &mut Answers<'_>,
        conflicting: Vec<Conflicting<'a>>,
    ) -> Vec<Open<'a, Case>> {
        let queries: Vec<_> = conflicting.iter().map(|(open, ..)| open.known.1.clone()).collect();
        if queries.is_empty() {
            return Vec::new();
        }
        let facts = self.storage.facts_of_authorizations(&queries);
        let mut open = Vec::new();
        for ((again, proof, pin), facts) in conflicting.into_iter().zip(facts) {
            let Open { place, question, known: (running, query) } = again;
            match facts {
                Ok(facts) => {
                    let known = Case { running, query, facts, proof, pin: Some(pin) };
                    open.push(Open { place, question, known });
                }
                Err(error) => {
                    drop(running);
                    answers.put(place, Err(error.into()));
                }
            }
        }
        open
    }

    fn decide_one(
        &self,
        question: &Question,
        facts: Facts,
        proof: Proof,
        pin: Option<ComparedPin>,
    ) -> Result<Step, ServiceError> {
        let answer = Answer::Of(answer_in(question.language));
        let write = self.write(&question.caller, &question.repetition, answer);
        if let Some(id) = decided_before(&facts, &proof) {
            return Ok(Step::Repeat(id, Box::new(write)));
        }
        // Opened whatever the cryptogram is worth: an answer that depended on it would tell a right
        // cryptogram from a wrong one, and so a PIN, where neither counts.
        let pin = match pin.filter(|pin| pin.is_with(&facts)) {
            Some(pin) => pin,
            None => self.compare_pin(question, &facts)?,
        };
        let decision = decide(facts, proof, pin.verdict, write.now);
        let id = AuthorizationId::new(write.now, self.random()?);
        let commit = CommitAuthorization::new(id, &decision);
        Ok(Step::Commit(Box::new(New { decision, commit, write, pin })))
    }

    fn compare_pin(&self, question: &Question, facts: &Facts) -> Result<ComparedPin, ServiceError> {
        let bound_to = (question.payment_intent, question.terminal);
        let verdict = self.compare_online_pin(facts, question.online_pin.as_ref(), bound_to)?;
        Ok(ComparedPin { with: card_pin(facts), verdict })
    }

    /// Asks the security module about things that are at hand together, and counts and times each.
    pub(super) fn ask_hsm_for_all<T>(
        &self,
        verb: &'static str,
        count: usize,
        call: impl FnOnce(&dyn PaymentHsm) -> Vec<Result<T, HsmError>>,
    ) -> Vec<Result<T, HsmError>> {
        if count == 0 {
            return Vec::new();
        }
        let stopwatch = Stopwatch::start();
        let results = self.disturbed(|| call(self.hsm.as_ref()));
        let results = results.unwrap_or_else(|| (0..count).map(|_| Err(hsm_down())).collect());
        let elapsed = stopwatch.elapsed();
        results.iter().for_each(|result| metrics::hsm_call(verb, result.is_ok(), elapsed));
        results
    }
}

/// What is to be done about one payment.
enum Step {
    Commit(Box<New>),
    /// Tell again what was decided about this very tap.
    Repeat(AuthorizationId, Box<Write<Authorization>>),
}

/// A decision that is to be written down.
struct New {
    decision: Decision,
    commit: CommitAuthorization,
    write: Write<Authorization>,
    pin: ComparedPin,
}

impl ComparedPin {
    /// Whether the card's PIN is still the one that was compared with; its tries may be others.
    fn is_with(&self, facts: &Facts) -> bool {
        let value = |pin: Option<CardPin>| pin.map(|pin| pin.value);
        value(self.with) == value(card_pin(facts))
    }
}

fn card_pin(facts: &Facts) -> Option<CardPin> {
    facts.token.as_ref().and_then(|token| token.card_pin)
}

const CONTENTION: ServiceError = ServiceError::Contention(
    "too many payments of the same card or at the same terminal at this moment; nothing was \
     decided. Ask again with the same idempotency key",
);
/// A module that gives fewer answers than it was asked questions.
pub(super) const NOT_ANSWERED: HsmError = HsmError::Internal { operation: "answering for each" };

/// The answer as the caller reads it; asked again, it stays in the language it was given in.
fn answer_in(language: Language) -> fn(&Authorization) -> StoredResponse {
    type Told = api::authorizations::Authorization;
    match language {
        Language::English => |found| created(&Told::in_language(found, Language::English)),
        Language::German => |found| created(&Told::in_language(found, Language::German)),
    }
}

/// A terminal takes payments for its own merchant only; others' payments do not exist for it.
fn require_same_merchant(caller: &Caller, facts: &Facts) -> Result<(), ServiceError> {
    if facts.intent.merchant == facts.terminal.merchant.id {
        return Ok(());
    }
    Err(caller.hide("payment intent"))
}

fn cryptogram_request<'a>(
    facts: &'a Facts,
    chip_data: &'a ChipData,
) -> Result<CryptogramRequest<'a>, CryptogramFailure> {
    let (Some(known), Some(token_pan)) = (&facts.token, &chip_data.token_pan) else {
        return Err(CryptogramFailure::NotChecked);
    };
    let Some(data) = chip_data.presented.input.application_data() else {
        return Err(CryptogramFailure::Unreadable);
    };
    if chip_data.sequence != known.token.sequence_number {
        return Err(CryptogramMismatch.into());
    }
    Ok(CryptogramRequest {
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
}

fn proof(verdict: CryptogramVerdict) -> Proof {
    match verdict {
        CryptogramVerdict::Verified(proof) => Ok(proof),
        // Who names a generation that the issuer does not have learns no more than that.
        CryptogramVerdict::Mismatch | CryptogramVerdict::UnknownDerivationKey => {
            Err(CryptogramMismatch.into())
        }
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
