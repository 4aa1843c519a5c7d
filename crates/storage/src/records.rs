//! What goes into the store and comes out of it, beside the entities of `payments`.

use std::sync::Arc;

use tapfer_emv::audit_chain::KnownHead;
use tapfer_emv::merchant::AcquirerId;
use tapfer_payment_types::configuration::{Audience, SignedDocument};
use tapfer_payment_types::{
    AuthorizationId, CardId, DeviceId, IssuerId, LedgerEntryId, MerchantId, Money, PaymentIntentId,
    RefundId, ReversalId, TerminalId, Timestamp,
};
use tapfer_payments::audit::AuditEvent;
use tapfer_payments::audit_chain::ChainFault;
use tapfer_payments::authorization::{Decision, Facts, Outcome, PresentedPayment};
use tapfer_payments::cards::Card;
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::ledger::TransferKind;
use tapfer_payments::pins::{CardPin, PersonKeyState, VerificationHistory};
use tapfer_payments::tokens::{Actor, TokenState};

/// A card or token number as the HSM hands it out for keeping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedNumber {
    /// The number, encrypted by the HSM.
    pub sealed: Vec<u8>,
    /// Keyed hash of the number, by which it is found.
    pub keyed_hash: Vec<u8>,
}

/// A card and its money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardAccount {
    /// The card.
    pub card: Card,
    /// All its money, held or not.
    pub balance: Money,
    /// What it can spend: the balance without what is held.
    pub available: Money,
}

/// A change of a card's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardChange {
    /// Stop the card and all its tokens.
    Block,
    /// Let it pay again.
    Unblock,
}

/// A card is closed for good, with all its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Which card.
    pub card: CardId,
    /// Gives what is left on it back to its issuer's account; else it is refused as long as there is something.
    pub pays_out: bool,
    /// In whose name its tokens end.
    pub actor: Actor,
    /// Why, as the actor said.
    pub reason: String,
}

/// Money for a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUp {
    /// Which card.
    pub card: CardId,
    /// How much, in the card's currency.
    pub amount: Money,
    /// The issuer's own word for it, such as the number of a bank transfer.
    pub reference: String,
}

/// One booking, seen from a card's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Its id.
    pub id: LedgerEntryId,
    /// Its place in the ledger, rising without end; the cursor of lists.
    pub sequence: i64,
    /// Why.
    pub kind: TransferKind,
    /// How much what the card can spend changed; negative if money went away, zero if only held money
    /// did.
    pub change: Money,
    /// How much what is held of the card's money changed.
    pub held_change: Money,
    /// What caused it: the id of an authorization, intent, refund or reversal, or the reference of
    /// a top-up.
    pub cause: String,
    /// When.
    pub created_at: Timestamp,
}

/// Which tokens to list. Absent fields do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenFilter {
    /// Of this issuer.
    pub issuer: Option<IssuerId>,
    /// Of this card.
    pub card: Option<CardId>,
    /// On this phone.
    pub device: Option<DeviceId>,
}

/// Which authorizations to list. Absent fields do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuthorizationFilter {
    /// Asked for by this merchant.
    pub merchant: Option<MerchantId>,
    /// Asked for by this terminal.
    pub terminal: Option<TerminalId>,
    /// For this intent.
    pub payment_intent: Option<PaymentIntentId>,
}

/// Which refunds to list. Absent fields do not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefundFilter {
    /// Of this merchant.
    pub merchant: Option<MerchantId>,
    /// Of this intent.
    pub payment_intent: Option<PaymentIntentId>,
}

/// What a decision has to be loaded for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactsQuery {
    /// Keyed hash of the presented token number.
    pub token_number_hash: Vec<u8>,
    /// The intent to be paid.
    pub payment_intent: PaymentIntentId,
    /// The terminal that asks, as authenticated.
    pub terminal: TerminalId,
    /// Who certifies terminals here.
    pub acquirer: AcquirerId,
    /// What was presented.
    pub presented: Arc<PresentedPayment>,
}

/// A decision to be written down.
#[derive(Debug, Clone)]
pub struct CommitAuthorization {
    pub(crate) id: AuthorizationId,
    pub(crate) facts: Facts,
    pub(crate) outcome: Outcome,
    pub(crate) uses_counter: bool,
    pub(crate) remembers_cryptogram: bool,
    pub(crate) person_key: Option<PersonKeyState>,
    pub(crate) card_pin: Option<CardPin>,
    pub(crate) history: Option<VerificationHistory>,
    pub(crate) used_key: Option<GrantedKey>,
    pub(crate) suspended: Option<TokenState>,
    pub(crate) consumes_arming: bool,
    pub(crate) merchant_proven: bool,
}

impl CommitAuthorization {
    /// Takes over what [`tapfer_payments::authorization::decide`] decided, under a new id.
    #[must_use]
    pub fn new(id: AuthorizationId, decision: &Decision) -> Self {
        Self {
            id,
            facts: decision.facts().clone(),
            outcome: decision.outcome(),
            uses_counter: decision.uses_counter(),
            remembers_cryptogram: decision.remembers_cryptogram(),
            person_key: decision.person_key(),
            card_pin: decision.card_pin(),
            history: decision.history(),
            used_key: decision.used_key().copied(),
            suspended: decision.suspended(),
            consumes_arming: decision.consumes_arming(),
            merchant_proven: decision.merchant_proven(),
        }
    }
}

/// A person's key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPersonKey {
    /// Which one, and how often its PIN was wrong.
    pub state: PersonKeyState,
    /// The key, sealed by the HSM.
    pub key_sealed: Vec<u8>,
    /// SHA-256 of the request that brought it.
    pub request_hash: [u8; 32],
    /// SHA-256 of the last request for a newer one that was refused for a wrong PIN.
    pub refused_hash: Option<[u8; 32]>,
}

/// What came of a phone's wish to set or change its PIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonKeyChange {
    /// The new key.
    Taken(StoredPersonKey),
    /// The old PIN was wrong.
    WrongProof {
        /// SHA-256 of the request.
        request_hash: [u8; 32],
    },
}

/// What is known of the person behind a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPerson {
    /// The person's key, if a PIN was set.
    pub key: Option<StoredPersonKey>,
    /// How the person was verified so far.
    pub history: VerificationHistory,
    /// When she last logged in at the issuer.
    pub logged_in_at: Option<Timestamp>,
}

/// A refund to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefund {
    /// A new id.
    pub id: RefundId,
    /// Of which payment.
    pub payment_intent: PaymentIntentId,
    /// How much, in the intent's currency; all that is left if absent.
    pub amount_minor: Option<i64>,
}

/// A reversal to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReversal {
    /// A new id.
    pub id: ReversalId,
    /// What to undo.
    pub authorization: AuthorizationId,
    /// Why.
    pub reason: String,
}

/// A question to a phone that its next attestation has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// 32 random bytes.
    pub challenge: [u8; 32],
    /// Answers after this do not count.
    pub expires_at: Timestamp,
}

/// A line of the audit log in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its place, rising without end; the cursor of lists.
    pub sequence: i64,
    /// The line.
    pub event: AuditEvent,
}

/// What a walk along the audit chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// How far the chain is as it was written.
    pub sound: KnownHead,
    /// What is wrong behind that, if anything.
    pub fault: Option<ChainFault>,
    /// The heads that were signed, the oldest first, and how the chain looks from each one's place now, as far
    /// as it is sound.
    pub heads: Vec<(SignedDocument, Option<KnownHead>)>,
    /// Where it says that the platform went on from a backup, the first first.
    pub restorations: Vec<AuditRecord>,
    /// How many lines of the sound part make no sense to this version: a newer one's, or somebody's own.
    pub unread: u64,
}

/// A signed configuration to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedConfiguration {
    /// For whom.
    pub audience: Audience,
    /// Its version, for the audit log.
    pub version: u64,
    /// The document.
    pub signed: SignedDocument,
}
