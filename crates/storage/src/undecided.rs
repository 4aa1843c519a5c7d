//! Payments that are decided where their facts are known: behind the locks of a database, or on what is in memory.
//!
//! Before that a payment is only looked at as far as the security module has to know: whether there is such a payment at that
//! terminal, which token it is, and which PIN its card has. A database reads everything else once, when nobody else can change it
//! any more; where facts are in memory they are compared when the decision is written down.

use std::sync::Arc;

use tapfer_emv::cryptogram::CryptogramVerified;
use tapfer_emv::keys::KeyClass;
use tapfer_payment_types::{AuthorizationId, TokenId};
use tapfer_payments::authorization::{
    Authorization, CryptogramFailure, Facts, decide, decided_before,
};
use tapfer_payments::pins::{CardPin, TerminalPin};
use tapfer_payments::tokens::Token;

use crate::{AuthorizationStore, CommitAuthorization, FactsQuery, StorageError, Write, Written};

type Result<T> = std::result::Result<T, StorageError>;

/// A token that was presented, as it was when it was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedToken {
    /// The token.
    pub token: Arc<Token>,
    /// The PIN of its card for terminals, if there is one.
    pub card_pin: Option<CardPin>,
}

/// What the security module said of a payment, and about what.
#[derive(Debug)]
pub struct Evidence {
    /// The token with the presented number, if there was one.
    pub token: Option<PresentedToken>,
    /// Of the cryptogram.
    pub cryptogram: std::result::Result<CryptogramVerified, CryptogramFailure>,
    /// Of the PIN that came with it, if one came.
    pub terminal_pin: Option<TerminalPin>,
}

/// A payment that is to be decided.
#[derive(Debug, Clone)]
pub struct Undecided {
    /// Under which id, unless it was decided before.
    pub id: AuthorizationId,
    /// What it is about.
    pub query: FactsQuery,
    /// What speaks for it.
    pub evidence: Arc<Evidence>,
    /// Who asks, when, under which key, and what is answered.
    pub write: Write<Authorization>,
}

/// A payment that was decided, or answered as before.
#[derive(Debug)]
pub struct Made {
    /// What is told.
    pub written: Written<Authorization>,
    /// What was written down, and on which facts, if it was now.
    pub(crate) commit: Option<Box<CommitAuthorization>>,
}

/// What is to be done about a payment.
pub(crate) enum Step {
    /// It was decided.
    Commit(Box<CommitAuthorization>),
    /// Tell again what was decided about this very tap.
    Again(AuthorizationId),
}

/// What a database made of a payment.
#[expect(clippy::large_enum_variant, reason = "nearly all are made")]
pub(crate) enum Settled {
    Made(Made),
    /// As [`Step::Again`].
    Again(AuthorizationId),
}

impl PresentedToken {
    /// Whether the security module would be asked the same about both: the tries of a PIN are not asked about.
    fn is_as(&self, token: &Token, card_pin: Option<CardPin>, came_with_pin: bool) -> bool {
        let value = |pin: Option<CardPin>| pin.map(|pin| pin.value);
        let asked = |of: &Token| (of.id, of.issuer, of.sequence_number, of.card, of.device);
        asked(&self.token) == asked(token)
            && (!came_with_pin || value(self.card_pin) == value(card_pin))
    }
}

impl Evidence {
    /// Whether the security module would be asked the same once more, if this is what is found now.
    #[must_use]
    pub fn is_about(&self, token: Option<&PresentedToken>) -> bool {
        self.is_of(token.map(|found| (&*found.token, found.card_pin)))
    }

    fn is_of(&self, token: Option<(&Token, Option<CardPin>)>) -> bool {
        match (&self.token, token) {
            (Some(before), Some((now, card_pin))) => {
                before.is_as(now, card_pin, self.terminal_pin.is_some())
            }
            (before, now) => before.is_none() && now.is_none(),
        }
    }
}

impl Undecided {
    /// Decides it on these facts, by [`decide`]. A token that came after it was looked for is unknown to this payment: nobody was
    /// asked about it.
    ///
    /// # Errors
    /// [`StorageError::OfAnotherMerchant`]; [`StorageError::Conflict`] if the security module was asked about something that has
    /// changed since.
    pub(crate) fn decide(&self, facts: Facts) -> Result<Step> {
        if facts.intent.merchant != facts.terminal.merchant.id {
            return Err(StorageError::OfAnotherMerchant);
        }
        let known = facts.token.filter(|_| self.evidence.token.is_some());
        let facts = Facts { token: known, ..facts };
        let found = facts.token.as_ref();
        if !self.evidence.is_of(found.map(|found| (&*found.token, found.card_pin))) {
            return Err(StorageError::Conflict);
        }
        let cryptogram = self.evidence.cryptogram.as_ref().map_err(|failure| *failure);
        if let Some(id) = decided_before(&facts, cryptogram) {
            return Ok(Step::Again(id));
        }
        let terminal_pin = self.evidence.terminal_pin.unwrap_or(TerminalPin::Absent);
        let decision = decide(facts, cryptogram, terminal_pin, self.write.now);
        Ok(Step::Commit(Box::new(CommitAuthorization::new(self.id, &decision))))
    }

    /// The token that was looked up for it.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.evidence.token.as_ref().map(|presented| &*presented.token)
    }

    /// The counter that it may spend, whatever comes of it: of a wrong cryptogram none, since that names any; of one for which a PIN
    /// was entered none either, since whether it is right is told by nothing but a payment that counts.
    pub(crate) fn may_spend(&self) -> Option<(TokenId, u16)> {
        let presented = &self.query.presented;
        let class = presented.input.application_data()?.results.key_class;
        let proof = self.evidence.cryptogram.as_ref().ok()?;
        let spends = class == KeyClass::Unverified;
        spends.then(|| (proof.token(), presented.application_transaction_counter()))
    }
}

/// Decides payments on facts that are compared once more when the decisions are written down: where both are in memory.
pub(crate) fn decide_and_compare(
    store: &impl AuthorizationStore,
    undecided: Vec<Undecided>,
) -> Vec<Result<Made>> {
    let queries: Vec<_> = undecided.iter().map(|one| one.query.clone()).collect();
    let facts = store.facts_of_authorizations(&queries);
    decide_on(store, undecided, facts)
}

/// As [`decide_and_compare`], on facts that were loaded before.
pub(crate) fn decide_on(
    store: &impl AuthorizationStore,
    undecided: Vec<Undecided>,
    facts: Vec<Result<Facts>>,
) -> Vec<Result<Made>> {
    let steps = undecided.iter().zip(facts).map(|(one, facts)| one.decide(facts?));
    let steps: Vec<Result<Step>> = steps.collect();
    let decided = undecided.iter().zip(&steps).filter_map(|(one, step)| match step {
        Ok(Step::Commit(commit)) => Some((CommitAuthorization::clone(commit), one.write.clone())),
        Ok(Step::Again(_)) | Err(_) => None,
    });
    let mut written = store.commit_authorizations(decided.collect()).into_iter();
    let settled = steps.into_iter().map(|step| {
        Ok(match step? {
            Step::Again(id) => Settled::Again(id),
            Step::Commit(commit) => {
                let written = written.next().unwrap_or(Err(StorageError::Abandoned))?;
                Settled::Made(Made { written, commit: Some(commit) })
            }
        })
    });
    let settled = settled.collect();
    tell_again(store, undecided, settled)
}

/// Answers those once more that were decided before.
pub(crate) fn tell_again(
    store: &impl AuthorizationStore,
    undecided: Vec<Undecided>,
    settled: Vec<Result<Settled>>,
) -> Vec<Result<Made>> {
    let repeated = undecided.into_iter().zip(&settled).filter_map(|(one, settled)| match settled {
        Ok(Settled::Again(id)) => Some((*id, one.write)),
        Ok(Settled::Made(_)) | Err(_) => None,
    });
    let repeated: Vec<_> = repeated.collect();
    let mut told = match repeated.is_empty() {
        true => Vec::new(),
        false => store.repeat_authorizations(repeated),
    }
    .into_iter();
    let made = settled.into_iter().map(|settled| match settled? {
        Settled::Made(made) => Ok(made),
        Settled::Again(_) => {
            let written = told.next().unwrap_or(Err(StorageError::Abandoned))?;
            Ok(Made { written, commit: None })
        }
    });
    made.collect()
}
