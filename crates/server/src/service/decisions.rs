//! Payments that come at the same moment are decided together: their tokens are looked up at once, the security module is
//! asked at once, and the store decides all of them at once, each for itself, on what is so at that moment; on a conflict,
//! look up and decide again (docs/ARCHITECTURE.md, the way of one payment).
//!
//! What ends one of them, an error or an answer from before, ends no other, and is told at once.

use std::sync::Arc;

use tapfer_emv::cryptogram::{CryptogramMismatch, CryptogramVerified};
use tapfer_hsm::{CryptogramRequest, CryptogramVerdict, HsmError, PaymentHsm};
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::{ApiKeyId, AuthorizationId, PaymentIntentId, TerminalId};
use tapfer_payments::audit;
use tapfer_payments::authorization::{
    Authorization, CryptogramFailure, DeclineReason, Language, Outcome,
};
use tapfer_payments::pins::TerminalPin;
use tapfer_storage::{
    Answer, Begun, Evidence, FactsQuery, Made, PresentedToken, Running, StorageError,
    StoredResponse, Undecided, Written,
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

/// A payment that goes on. The guard marks it as running.
struct Case {
    running: Running,
    query: FactsQuery,
    /// What was found out before, if it could not be decided on it.
    before: Option<Arc<Evidence>>,
}

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
        let mut open = self.number_hashes(&mut answers, begun);
        for _ in 0..ATTEMPTS {
            let looked_up = self.look_tokens_up(&mut answers, open);
            let proven = self.gather_evidence(&mut answers, looked_up);
            open = self.decide_all(&mut answers, proven);
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

    /// What each is about.
    fn number_hashes<'a>(
        &self,
        answers: &mut Answers<'_>,
        begun: Vec<Open<'a, Running>>,
    ) -> Vec<Open<'a, Case>> {
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
        let asked = answers.go_on(begun, queries).into_iter();
        asked
            .map(|Open { place, question, known: (running, query) }| Open {
                place,
                question,
                known: Case { running, query, before: None },
            })
            .collect()
    }

    fn look_tokens_up<'a>(
        &self,
        answers: &mut Answers<'_>,
        open: Vec<Open<'a, Case>>,
    ) -> Vec<Open<'a, (Case, Option<PresentedToken>)>> {
        let queries: Vec<_> = open.iter().map(|open| open.known.query.clone()).collect();
        let with_pins = open.iter().any(|open| open.question.online_pin.is_some());
        let tokens = self.storage.presented_tokens(&queries, with_pins).into_iter();
        let tokens = open
            .iter()
            .zip(tokens)
            .map(|(open, found)| found.map_err(|error| refused(error, &open.question.caller)));
        let tokens: Vec<_> = tokens.collect();
        answers.go_on(open, tokens)
    }

    /// What speaks for each, in the order in which they came. What the security module said of the same token before it is not
    /// asked again.
    fn gather_evidence<'a>(
        &self,
        answers: &mut Answers<'_>,
        open: Vec<Open<'a, (Case, Option<PresentedToken>)>>,
    ) -> Vec<Open<'a, (Case, Arc<Evidence>)>> {
        let (mut proven, mut unproven) = (Vec::new(), Vec::new());
        for Open { place, question, known: (case, token) } in open {
            match case.before.clone().filter(|before| before.is_about(token.as_ref())) {
                Some(before) => proven.push(Open { place, question, known: (case, before) }),
                None => unproven.push(Open { place, question, known: (case, token) }),
            }
        }
        proven.extend(self.ask_for_evidence(answers, unproven));
        proven.sort_by_key(|open| open.place);
        proven
    }

    /// Asks the security module whether the cards made these cryptograms, and about the PINs.
    fn ask_for_evidence<'a>(
        &self,
        answers: &mut Answers<'_>,
        open: Vec<Open<'a, (Case, Option<PresentedToken>)>>,
    ) -> Vec<Open<'a, (Case, Arc<Evidence>)>> {
        let proofs = self.verify_all(&open);
        let evidence = open.iter().zip(proofs).map(|(open, proof)| {
            // Who had no answer of the security module is not to wait for another one.
            let (cryptogram, token) = (proof?, open.known.1.clone());
            // Opened whatever the cryptogram is worth: an answer that depended on it would tell a right
            // cryptogram from a wrong one, and so a PIN, where neither counts.
            let terminal_pin = self.compare_pin(open.question, token.as_ref())?;
            Ok(Arc::new(Evidence { token, cryptogram, terminal_pin }))
        });
        let evidence: Vec<_> = evidence.collect();
        let proven = answers.go_on(open, evidence).into_iter();
        proven
            .map(|Open { place, question, known: ((case, _), evidence) }| Open {
                place,
                question,
                known: (case, evidence),
            })
            .collect()
    }

    /// What the security module says of each cryptogram, in their order.
    fn verify_all(
        &self,
        open: &[Open<'_, (Case, Option<PresentedToken>)>],
    ) -> Vec<Result<Proof, ServiceError>> {
        let mut good = Vec::new();
        let requests = open.iter().map(|open| {
            cryptogram_request(open.known.1.as_ref(), &open.question.chip_data)
                .map(|request| good.push(request))
        });
        let requests: Vec<Result<(), CryptogramFailure>> = requests.collect();
        let mut verdicts = self
            .ask_hsm_for_all("verify_cryptogram", good.len(), |hsm| hsm.verify_cryptograms(&good))
            .into_iter();
        let proofs = requests.into_iter().map(|request| match request {
            Err(failure) => Ok(Err(failure)),
            Ok(()) => verdicts.next().unwrap_or(Err(NOT_ANSWERED)).map(proof).map_err(Into::into),
        });
        proofs.collect()
    }

    fn compare_pin(
        &self,
        question: &Question,
        token: Option<&PresentedToken>,
    ) -> Result<Option<TerminalPin>, ServiceError> {
        let Some(sealed) = &question.online_pin else { return Ok(None) };
        let bound_to = (question.payment_intent, question.terminal);
        self.compare_online_pin(token, sealed, bound_to).map(Some)
    }

    /// Lets the store decide. Left are those of which something has changed meanwhile.
    fn decide_all<'a>(
        &self,
        answers: &mut Answers<'_>,
        open: Vec<Open<'a, (Case, Arc<Evidence>)>>,
    ) -> Vec<Open<'a, Case>> {
        let undecided: Vec<_> = open.iter().map(|open| self.undecided(open)).collect();
        let ready = answers.go_on(open, undecided).into_iter();
        let (asked, payments): (Vec<_>, Vec<_>) = ready
            .map(|Open { place, question, known: (known, payment) }| {
                (Open { place, question, known }, payment)
            })
            .unzip();
        let made = self.storage.decide_authorizations(payments);
        let mut left = Vec::new();
        for (open, made) in asked.into_iter().zip(made) {
            let Open { place, question, known: (case, evidence) } = open;
            match made {
                Err(StorageError::Conflict) => {
                    metrics::decision_retry();
                    let known = Case { before: Some(evidence), ..case };
                    left.push(Open { place, question, known });
                }
                made => {
                    // Who is told may ask again at once, and is no longer running then.
                    drop(case.running);
                    answers.put(place, told(made, &question.caller));
                }
            }
        }
        left
    }

    fn undecided(
        &self,
        Open { question, known: (case, evidence), .. }: &Open<'_, (Case, Arc<Evidence>)>,
    ) -> Result<Undecided, ServiceError> {
        let answer = Answer::Of(answer_in(question.language));
        let write = self.write(&question.caller, &question.repetition, answer);
        let id = AuthorizationId::new(write.now, self.random()?);
        let (query, evidence) = (case.query.clone(), Arc::clone(evidence));
        Ok(Undecided { id, query, evidence, write })
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

/// What a caller hears of what the store has made.
fn told(made: Result<Made, StorageError>, caller: &Caller) -> Decided {
    match made {
        Ok(made) => Ok(counted(made.written, &caller.for_audit()).into()),
        Err(error) => Err(refused(error, caller)),
    }
}

/// A terminal takes payments for its own merchant only; others' payments do not exist for it.
fn refused(error: StorageError, caller: &Caller) -> ServiceError {
    match error {
        StorageError::OfAnotherMerchant => caller.hide("payment intent"),
        error => error.into(),
    }
}

fn cryptogram_request<'a>(
    presented: Option<&'a PresentedToken>,
    chip_data: &'a ChipData,
) -> Result<CryptogramRequest<'a>, CryptogramFailure> {
    let (Some(known), Some(token_pan)) = (presented, &chip_data.token_pan) else {
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
