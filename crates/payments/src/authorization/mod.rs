//! Authorization: every fact is loaded once, one pure function decides, one commit follows.
//!
//! [`decide`] walks a table of rules in a fixed order; the first rule that speaks against the
//! payment gives the reason. A decline is an [`Outcome`], not an error.

mod facts;
mod outcome;
mod person;
mod rules;

pub use facts::{Facts, PresentedPayment, SpentCounter, TerminalFacts, TokenFacts};
pub use outcome::{DeclineReason, Language, Outcome};

use self::person::{PersonKeyUse, person_key_use};
use crate::keys::GrantedKey;
use crate::pins::{CardPin, PersonKeyState, TerminalPin, VerificationHistory};
use crate::tokens::{Actor, TokenAction, TokenState};
use tapfer_emv::cryptogram::{CryptogramMismatch, CryptogramVerified};
use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::{
    AuthorizationId, CardId, MerchantId, Money, PaymentIntentId, ReversalId, TerminalId, Timestamp,
    TokenId,
};

/// Why there is no proof that the cryptogram is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptogramFailure {
    /// It was compared and is wrong.
    #[error(transparent)]
    Mismatch(#[from] CryptogramMismatch),
    /// The application data that names the key is not of this platform's form.
    #[error("the issuer application data cannot be read, so no key could be found")]
    Unreadable,
    /// There was no token whose key could have been used.
    #[error("the cryptogram was not checked because the token is unknown")]
    NotChecked,
}

/// What was decided, on which facts. Only [`decide`] makes one.
#[derive(Debug)]
pub struct Decision {
    outcome: Outcome,
    facts: Facts,
    uses_counter: bool,
    remembers_cryptogram: bool,
    used_key: Option<GrantedKey>,
    person_key: Option<PersonKeyState>,
    card_pin: Option<CardPin>,
    history: Option<VerificationHistory>,
    suspended: Option<TokenState>,
    consumes_arming: bool,
    merchant_proven: bool,
}

impl Decision {
    /// Approved, or declined with a reason.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The facts it rests on. They must still hold when the decision is committed.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether a right cryptogram with a fresh counter was presented: the counter and one use of the
    /// key are spent then, whatever the outcome. A wrong one spends nothing, so that nobody can use up the
    /// counters of a phone that is not his; but see [`Decision::remembers_cryptogram`].
    #[must_use]
    pub const fn uses_counter(&self) -> bool {
        self.uses_counter
    }

    /// Whether the cryptogram is kept with its counter although it spends nothing: it is of a wrong PIN, or
    /// came while the PIN is blocked. The same once more is told the same answer.
    #[must_use]
    pub const fn remembers_cryptogram(&self) -> bool {
        self.remembers_cryptogram
    }

    /// The person's key after a PIN on the phone that counted, right or wrong.
    #[must_use]
    pub const fn person_key(&self) -> Option<PersonKeyState> {
        self.person_key
    }

    /// The card's PIN after one at the terminal that counted, right or wrong.
    #[must_use]
    pub const fn card_pin(&self) -> Option<CardPin> {
        self.card_pin
    }

    /// How the person was verified so far, this payment included, if its cryptogram was right and the
    /// phone agreed to it.
    #[must_use]
    pub const fn history(&self) -> Option<VerificationHistory> {
        self.history
    }

    /// The key after this payment, if one use of it is spent.
    #[must_use]
    pub const fn used_key(&self) -> Option<&GrantedKey> {
        self.used_key.as_ref()
    }

    /// The token's state after the platform suspends it, if this payment proves that there are two
    /// copies of the phone. Whatever the outcome: which of them is the owner's nobody can tell.
    #[must_use]
    pub const fn suspended(&self) -> Option<TokenState> {
        self.suspended
    }

    /// Whether the terminal was waiting for this tap.
    #[must_use]
    pub const fn consumes_arming(&self) -> bool {
        self.consumes_arming
    }

    /// Whether the phone signed that this very terminal proved to it who it is.
    #[must_use]
    pub const fn merchant_proven(&self) -> bool {
        self.merchant_proven
    }
}

/// Decides one payment. `cryptogram` and `terminal_pin` are what the HSM said about the presented
/// cryptogram, and about the PIN that came with it. The proof stays with who holds it: a payment whose
/// decision could not be kept is decided again.
#[must_use]
pub fn decide(
    facts: Facts,
    cryptogram: Result<&CryptogramVerified, CryptogramFailure>,
    terminal_pin: TerminalPin,
    now: Timestamp,
) -> Decision {
    let person_key_use = person_key_use(&facts, now);
    let counts = matches!(person_key_use, PersonKeyUse::AsCompared | PersonKeyUse::Attempt);
    let proven = counts && cryptogram.is_ok_and(|proof| proves(proof, &facts));
    let evidence = Evidence { proven, person_key_use, terminal_pin };
    let outcome = rules::outcome(&facts, &evidence, now);

    let token = facts.token.as_ref();
    let fresh = token.filter(|token| token.counter_spent.is_none());
    let using = token.filter(|token| proven && !token.is_spent_for(&facts.presented));
    let after =
        |key: GrantedKey, token: &TokenFacts| key.after(&facts.presented, token.issuer.currency);
    let copied = token.filter(|token| proven && token.is_copied(&facts.presented));
    let suspended =
        |token: &TokenFacts| token.token.state.after(TokenAction::Suspend, Actor::Platform).ok();
    let is_attempt = person_key_use == PersonKeyUse::Attempt;
    let is_worthless = person_key_use == PersonKeyUse::Blocked || (is_attempt && !proven);
    let judged_pin = rules::judged_terminal_pin(outcome, &evidence);
    Decision {
        outcome,
        suspended: copied.and_then(suspended),
        uses_counter: using.is_some(),
        remembers_cryptogram: is_worthless && fresh.is_some(),
        used_key: using.and_then(|token| token.key.map(|key| after(key, token))),
        person_key: token
            .filter(|_| is_attempt)
            .and_then(|token| token.person_key)
            .map(|state| rules::person_key_after(state, outcome, proven)),
        card_pin: using
            .and_then(|token| token.card_pin)
            .and_then(|pin| Some(pin.after(judged_pin?))),
        history: using
            .and_then(|token| rules::history_after(&facts.presented, token, judged_pin, now)),
        merchant_proven: proven
            && facts.presented.proven_merchant() == Some(facts.terminal.identity()),
        consumes_arming: facts.intent.is_armed_at(facts.terminal.id(), now)
            && !is_skipped(Control::ArmingOnce),
        facts,
    }
}

/// What the security module found, as far as it may be used.
struct Evidence {
    /// The cryptogram is right, and counts.
    proven: bool,
    person_key_use: PersonKeyUse,
    terminal_pin: TerminalPin,
}

/// The authorization that decided this very tap before: the same intent, terminal, counter and
/// cryptogram. Who asks again, perhaps because the answer was lost, is to be told that one; a tap
/// that was presented for anything else is a replay, which [`decide`] declines.
#[must_use]
pub fn decided_before(
    facts: &Facts,
    cryptogram: Result<&CryptogramVerified, CryptogramFailure>,
) -> Option<AuthorizationId> {
    let proven = cryptogram.is_ok_and(|proof| proves(proof, facts));
    let spent = facts.token.as_ref()?.counter_spent?;
    // Behind a wrong PIN there is no proof, and nothing to win: it was declined.
    let is_same = (proven || !spent.verified)
        && spent.payment_intent == facts.intent.id
        && spent.terminal == facts.terminal.id()
        && spent.cryptogram == Some(facts.presented.cryptogram);
    is_same.then_some(spent.authorization)
}

/// A proof of another token, or of anything but what was presented, is no proof of this payment.
fn proves(proof: &CryptogramVerified, facts: &Facts) -> bool {
    let presented = &facts.presented;
    facts.token.as_ref().is_some_and(|known| known.token.id == proof.token())
        && (proof.input(), proof.cryptogram()) == (&presented.input, &presented.cryptogram)
}

/// One answer of the platform to one authorization request, as it is kept. No card number, no token
/// number, no chip data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Its id: the transaction id on the receipt.
    pub id: AuthorizationId,
    /// For which intent.
    pub payment_intent: PaymentIntentId,
    /// For which merchant.
    pub merchant: MerchantId,
    /// Who asked.
    pub terminal: TerminalId,
    /// The token that was presented, if it is known.
    pub token: Option<TokenId>,
    /// The card behind it.
    pub card: Option<CardId>,
    /// What came out.
    pub outcome: Outcome,
    /// Whether the phone signed that the terminal proved to it who it is.
    pub merchant_proven: bool,
    /// What the intent asked for.
    pub amount: Money,
    /// Counter of the presented cryptogram.
    pub application_transaction_counter: u16,
    /// Index of the key that made it, if it could be read.
    pub key_index: Option<KeyIndex>,
    /// What undid it, if something did.
    pub reversal: Option<ReversalId>,
    /// When it was decided.
    pub created_at: Timestamp,
}
