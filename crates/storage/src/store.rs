//! The storage traits, one for each room of the house.
//!
//! Methods that take a [`Write`] change something: one transaction each, durable when they return.
//! With an idempotency key they answer [`Written::Replayed`] the second time. All others only read.
//! `Ok(None)` means there is no such thing; changes of something that is not there are
//! [`StorageError::NotFound`].

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use tapfer_emv::audit_chain::{AuditHash, KnownHead};
use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::configuration::{Audience, Restoration, SignedDocument};
use tapfer_payment_types::messages::PinStatus;
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payment_types::store_share::StoreReport;
use tapfer_payment_types::{
    ApiKeyId, AuthorizationId, CardId, CatalogueMark, Currency, DeviceId, IssuerId, MerchantId,
    Money, PaymentIntentId, RefundId, ReversalId, TerminalCertificateId, TerminalId, Timestamp,
    TokenId,
};
use tapfer_payments::access::{ApiKey, ClientCertificate, Principal};
use tapfer_payments::audit::AuditEvent;
use tapfer_payments::authorization::{Authorization, Facts};
use tapfer_payments::cards::Card;
use tapfer_payments::devices::Device;
use tapfer_payments::integrity::{IntegrityPolicy, Verdict};
use tapfer_payments::intents::PaymentIntent;
use tapfer_payments::issuers::{Issuer, KeyPolicy};
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::ledger::Account;
use tapfer_payments::merchants::Merchant;
use tapfer_payments::pins::{CardPin, PersonKeyState};
use tapfer_payments::policies::IssuedPolicy;
use tapfer_payments::refunds::Refund;
use tapfer_payments::retention::RetentionLimit;
use tapfer_payments::reversals::Reversal;
use tapfer_payments::revocations::RevokedIssuerCertificate;
use tapfer_payments::store_shares::Locker;
use tapfer_payments::terminals::{Terminal, TerminalCertificate};
use tapfer_payments::tokens::{Actor, Token, TokenAction, TokenChange};

use crate::relational::key_uses::KeyUse;
use crate::{
    AuditRecord, AuthorizationFilter, Begun, CardAccount, CardChange, ChainReport, Challenge,
    Closing, CommitAuthorization, FactsQuery, IdempotencyClaim, Inconsistency, LedgerEntry, Made,
    NewRefund, NewReversal, Page, PersonKeyChange, PresentedToken, PublishedConfiguration,
    RefundFilter, SealedNumber, Slice, StandInStatus, StorageError, TokenFilter, TokenPerson,
    TopUp, Undecided, Write, Written,
};

type Result<T> = std::result::Result<T, StorageError>;
type List<T, C> = Result<Slice<T, C>>;

/// Issuers.
pub trait IssuerStore {
    /// Sets up an issuer. Its number ranges must not overlap another's.
    fn create_issuer(&self, issuer: Issuer, write: Write<Issuer>) -> Result<Written<Issuer>>;
    /// What is made for an issuer's cards from here on: under which generation of its master key, and with
    /// which certificate.
    fn renew_issuer_keys(
        &self,
        id: IssuerId,
        derivation_key_index: u8,
        certificate: Vec<u8>,
        write: Write<()>,
    ) -> Result<Written<()>>;
    /// One issuer.
    fn issuer(&self, id: IssuerId) -> Result<Option<Issuer>>;
    /// All issuers.
    fn list_issuers(&self, page: Page<IssuerId>) -> List<Issuer, IssuerId>;
}

/// Issuers' verification policies.
pub trait PolicyStore {
    /// Sets an issuer's policy: the next version, whatever version the document names. The one before
    /// stays known ([`IssuedPolicy::is_acceptable`]).
    fn set_policy(
        &self,
        issuer: IssuerId,
        policy: VerificationPolicy,
        write: Write<IssuedPolicy>,
    ) -> Result<Written<IssuedPolicy>>;
    /// The version that phones are given now.
    fn policy(&self, issuer: IssuerId) -> Result<Option<IssuedPolicy>>;
}

/// Certificates of issuers that no terminal is to trust any more.
pub trait RevocationStore {
    /// Adds one, for good. One that is there already stays as it is, and is the answer.
    fn revoke_issuer_certificate(
        &self,
        revoked: RevokedIssuerCertificate,
        write: Write<RevokedIssuerCertificate>,
    ) -> Result<Written<RevokedIssuerCertificate>>;
    /// All of them, the oldest first.
    fn revoked_issuer_certificates(&self) -> Result<Vec<RevokedIssuerCertificate>>;
}

/// PINs: on phones (person's keys) and of cards.
pub trait PinStore {
    /// What is known of the person behind a token.
    fn token_person(&self, token: TokenId) -> Result<TokenPerson>;
    /// Takes a new person's key, and ends the session keys under the old one; or counts a wrong PIN.
    /// Refused for tokens that get no keys.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if the state is not the one that was decided on.
    fn change_person_key(
        &self,
        token: TokenId,
        decided_on: Option<PersonKeyState>,
        to: PersonKeyChange,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>>;
    /// Tells the status once more to a phone that repeats itself. Changes nothing.
    fn pin_status_again(
        &self,
        token: TokenId,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>>;
    /// Lets the next person's key in without proof of the one in force.
    fn grant_pin_reset(
        &self,
        token: TokenId,
        reason: String,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>>;
    /// Writes down that the person has logged in at the issuer now.
    fn record_login(
        &self,
        token: TokenId,
        reason: String,
        write: Write<Timestamp>,
    ) -> Result<Written<Timestamp>>;
    /// A card's PIN for terminals, if it has one.
    fn card_pin(&self, card: CardId) -> Result<Option<CardPin>>;
    /// Sets a card's PIN, with all tries.
    fn set_card_pin(
        &self,
        card: CardId,
        value: [u8; 32],
        write: Write<CardPin>,
    ) -> Result<Written<CardPin>>;
}

/// Cards and their money.
pub trait CardStore {
    /// Puts a card into the vault. Its number must not be there yet.
    fn create_card(
        &self,
        card: Card,
        number: SealedNumber,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>>;
    /// One card.
    fn card(&self, id: CardId) -> Result<Option<CardAccount>>;
    /// The card with this number. Whoever asks is to be recorded by [`AuditStore::record_audit`].
    fn card_by_number_hash(&self, keyed_hash: &[u8]) -> Result<Option<CardAccount>>;
    /// The card's number, sealed. Only the HSM can open it. `None` also where it was erased.
    fn sealed_card_number(&self, id: CardId) -> Result<Option<Vec<u8>>>;
    /// All cards, or those of one issuer.
    fn list_cards(&self, issuer: Option<IssuerId>, page: Page<CardId>)
    -> List<CardAccount, CardId>;
    /// Blocks or unblocks a card and with it all its tokens.
    fn change_card(
        &self,
        id: CardId,
        change: CardChange,
        reason: String,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>>;
    /// Closes a card for good ([`tapfer_payments::cards::CardStatus::close`]), and all its tokens with it.
    fn close_card(
        &self,
        closing: Closing,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>>;
    /// Loads money onto a card.
    fn top_up(&self, top_up: TopUp, write: Write<LedgerEntry>) -> Result<Written<LedgerEntry>>;
    /// What was booked on the card's account. The cursor is [`LedgerEntry::sequence`].
    fn card_entries(&self, card: CardId, page: Page<i64>) -> List<LedgerEntry, i64>;
}

/// The ledger.
pub trait LedgerStore {
    /// What an account holds; nothing if nothing was ever booked on it.
    fn account_balance(&self, account: Account, currency: Currency) -> Result<Money>;
}

/// Phones.
pub trait DeviceStore {
    /// Registers a phone and the API key it will use.
    fn create_device(
        &self,
        device: Device,
        key: ApiKey,
        write: Write<Device>,
    ) -> Result<Written<Device>>;
    /// One phone.
    fn device(&self, id: DeviceId) -> Result<Option<Device>>;
    /// All phones, or those of one issuer.
    fn list_devices(
        &self,
        issuer: Option<IssuerId>,
        page: Page<DeviceId>,
    ) -> List<Device, DeviceId>;
    /// A phone wants to open its store ([`tapfer_payments::store_shares::StoreState::reported`]). The
    /// epoch whose share it gets. Refused while the device is locked.
    fn report_store(
        &self,
        id: DeviceId,
        report: StoreReport,
        write: Write<NonZeroU32>,
    ) -> Result<Written<NonZeroU32>>;
    /// A phone wants to move its store to the next epoch
    /// ([`tapfer_payments::store_shares::StoreState::rotated`]). The epoch whose share it gets. Refused
    /// while the device is locked.
    fn rotate_store(
        &self,
        id: DeviceId,
        report: StoreReport,
        write: Write<NonZeroU32>,
    ) -> Result<Written<NonZeroU32>>;
    /// Keeps a phone's store closed from now on.
    fn lock_device(
        &self,
        id: DeviceId,
        by: Locker,
        reason: String,
        write: Write<Device>,
    ) -> Result<Written<Device>>;
    /// Lets a phone open its store again.
    fn unlock_device(
        &self,
        id: DeviceId,
        by: Locker,
        reason: String,
        write: Write<Device>,
    ) -> Result<Written<Device>>;
}

/// What is known about the integrity of phones, and what issuers make of it.
pub trait IntegrityStore {
    /// Sets what an issuer asks of phones, in the place of what it asked before.
    fn set_integrity_policy(
        &self,
        issuer: IssuerId,
        policy: IntegrityPolicy,
        write: Write<IntegrityPolicy>,
    ) -> Result<Written<IntegrityPolicy>>;
    /// What an issuer asks of phones; nothing, unless it said.
    fn integrity_policy(&self, issuer: IssuerId) -> Result<Option<IntegrityPolicy>>;
    /// Asks a phone a question, in the place of one that is still open.
    fn challenge_device(
        &self,
        device: DeviceId,
        challenge: Challenge,
        write: Write<Challenge>,
    ) -> Result<Written<Challenge>>;
    /// The question a phone has not answered yet.
    fn open_challenge(&self, device: DeviceId) -> Result<Option<Challenge>>;
    /// Writes down what holds of a phone now that this was found out ([`Verdict::replacing`]), and gives
    /// it back. With `answered` the phone attested: the open question must be that one, and is spent.
    fn record_verdict(
        &self,
        device: DeviceId,
        found: Verdict,
        answered: Option<[u8; 32]>,
        reason: String,
        write: Write<Verdict>,
    ) -> Result<Written<Verdict>>;
    /// What was found out last.
    fn device_verdict(&self, device: DeviceId) -> Result<Option<Verdict>>;
}

/// Tokens and their keys.
pub trait TokenStore {
    /// Tokenizes a card for a phone. The number must not be in use.
    fn create_token(
        &self,
        token: Token,
        number: SealedNumber,
        write: Write<Token>,
    ) -> Result<Written<Token>>;
    /// One token.
    fn token(&self, id: TokenId) -> Result<Option<Token>>;
    /// The token's number, sealed. Only the HSM can open it. `None` also where it was erased.
    fn sealed_token_number(&self, id: TokenId) -> Result<Option<Vec<u8>>>;
    /// Tokens.
    fn list_tokens(&self, filter: TokenFilter, page: Page<TokenId>) -> List<Token, TokenId>;
    /// Activates, suspends, resumes or deletes a token, with a line in its history.
    fn change_token(
        &self,
        id: TokenId,
        action: TokenAction,
        actor: Actor,
        reason: String,
        write: Write<Token>,
    ) -> Result<Written<Token>>;
    /// What happened to a token, oldest first.
    fn token_history(&self, id: TokenId) -> Result<Vec<TokenChange>>;
    /// Writes down which keys a phone is given, and ends those that they replace
    /// ([`tapfer_payments::keys::replace`]). Must be done before they leave the house. Refused for
    /// tokens that are suspended or deactivated, or whose card is blocked, at this moment. `person_key` is the
    /// generation that they were sealed under, if the token has one.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if the token has another person's key by now.
    fn grant_keys(
        &self,
        token: TokenId,
        person_key: Option<u32>,
        keys: Vec<GrantedKey>,
        write: Write<Vec<GrantedKey>>,
    ) -> Result<Written<Vec<GrantedKey>>>;
    /// The keys of a token that new ones depend on, newest first, with what is used up: those that have not
    /// ended, and those that were used within the lifetime of a key.
    fn keys_that_count(
        &self,
        token: TokenId,
        policy: &KeyPolicy,
        now: Timestamp,
    ) -> Result<Vec<GrantedKey>>;
    /// Which of these indices the token was given keys under, ever, in whatever class.
    fn key_indices(
        &self,
        token: TokenId,
        indices: RangeInclusive<KeyIndex>,
    ) -> Result<Vec<KeyIndex>>;
    /// The highest transaction counter seen in a right cryptogram of this token.
    fn highest_counter(&self, token: TokenId) -> Result<Option<u16>>;
}

/// Merchants.
pub trait MerchantStore {
    /// Sets up a merchant and the API key it will use.
    fn create_merchant(
        &self,
        merchant: Merchant,
        key: ApiKey,
        write: Write<Merchant>,
    ) -> Result<Written<Merchant>>;
    /// One merchant.
    fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>>;
    /// All merchants.
    fn list_merchants(&self, page: Page<MerchantId>) -> List<Merchant, MerchantId>;
}

/// Terminals.
pub trait TerminalStore {
    /// Sets up a terminal and the API key it will use.
    fn create_terminal(
        &self,
        terminal: Terminal,
        key: ApiKey,
        write: Write<Terminal>,
    ) -> Result<Written<Terminal>>;
    /// One terminal.
    fn terminal(&self, id: TerminalId) -> Result<Option<Terminal>>;
    /// All terminals, or those of one merchant.
    fn list_terminals(
        &self,
        merchant: Option<MerchantId>,
        page: Page<TerminalId>,
    ) -> List<Terminal, TerminalId>;
    /// Ends a terminal for good, and with it its API keys, its certificates and what it is armed for. One
    /// that was ended before stays as it is.
    fn revoke_terminal(
        &self,
        id: TerminalId,
        reason: String,
        write: Write<Terminal>,
    ) -> Result<Written<Terminal>>;
    /// Writes a certificate down, if the terminal may have it ([`may_certify`]). Must be done before it
    /// leaves the house: what is not written down could not be revoked.
    ///
    /// [`may_certify`]: tapfer_payments::terminals::may_certify
    fn add_terminal_certificate(
        &self,
        certificate: TerminalCertificate,
        write: Write<TerminalCertificate>,
    ) -> Result<Written<TerminalCertificate>>;
    /// The certificates of a terminal.
    fn list_terminal_certificates(
        &self,
        terminal: TerminalId,
        page: Page<TerminalCertificateId>,
    ) -> List<TerminalCertificate, TerminalCertificateId>;
    /// Serial numbers of certificates that were revoked before their end, which is still to come: at most
    /// so many, and of more those that end last.
    fn revoked_certificates(&self, now: Timestamp, limit: usize) -> Result<Vec<[u8; 6]>>;
    /// The payment that a terminal waits for at this moment.
    fn armed_intent(&self, terminal: TerminalId, now: Timestamp) -> Result<Option<PaymentIntent>>;
}

/// API keys.
pub trait AccessStore {
    /// Makes an API key.
    fn create_api_key(&self, key: ApiKey, write: Write<ApiKey>) -> Result<Written<ApiKey>>;
    /// Makes an API key of the operator in the place of all that the operator had.
    fn replace_operator_keys(&self, key: ApiKey, write: Write<ApiKey>) -> Result<Written<ApiKey>>;
    /// Takes a key back, for good. One that was taken back before stays as it is.
    fn revoke_api_key(
        &self,
        id: ApiKeyId,
        reason: String,
        write: Write<ApiKey>,
    ) -> Result<Written<ApiKey>>;
    /// Writes down that a client got a TLS certificate. Kept in the audit log alone: it ends with its API key.
    fn certify_client(
        &self,
        certificate: ClientCertificate,
        write: Write<ClientCertificate>,
    ) -> Result<Written<ClientCertificate>>;
    /// One key, revoked or not.
    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>>;
    /// Several keys, revoked or not, each for itself and in this order: no more round trips than for one.
    fn api_keys(&self, ids: &[ApiKeyId]) -> Vec<Result<Option<ApiKey>>>;
    /// All keys, or those that speak for one principal.
    fn list_api_keys(
        &self,
        owner: Option<Principal>,
        page: Page<ApiKeyId>,
    ) -> List<ApiKey, ApiKeyId>;
    /// The key whose secret has this SHA-256, revoked or not.
    fn api_key_by_hash(&self, secret_hash: [u8; 32]) -> Result<Option<ApiKey>>;
    /// The same from memory, without waiting for anything; `None` says nothing.
    fn known_api_key(&self, secret_hash: &[u8; 32]) -> Option<ApiKey>;
    /// The same of a key's id.
    fn known_api_key_of_id(&self, id: ApiKeyId) -> Option<ApiKey>;
    /// All keys that nobody has taken back; of a row that makes no sense, which it is.
    fn api_keys_in_force(&self) -> Result<Vec<std::result::Result<ApiKey, Inconsistency>>>;
    /// Puts the signatures of such keys in the place of those before, where a key has that one still.
    fn renew_api_keys(&self, renewed: Vec<([u8; 64], ApiKey)>) -> Result<()>;
    /// Keeps the signatures of such keys, with a line in the audit log for each.
    fn accept_api_keys(&self, keys: Vec<ApiKey>, now: Timestamp) -> Result<()>;
}

/// Payment intents.
pub trait IntentStore {
    /// A merchant asks for a payment.
    fn create_intent(
        &self,
        intent: PaymentIntent,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>>;
    /// One intent.
    fn intent(&self, id: PaymentIntentId) -> Result<Option<PaymentIntent>>;
    /// All intents, or those of one merchant.
    fn list_intents(
        &self,
        merchant: Option<MerchantId>,
        page: Page<PaymentIntentId>,
    ) -> List<PaymentIntent, PaymentIntentId>;
    /// Readies a terminal of the same merchant for one tap.
    fn arm_intent(
        &self,
        id: PaymentIntentId,
        terminal: TerminalId,
        expires_at: Timestamp,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>>;
    /// Gives an intent up and releases what is held for it.
    fn cancel_intent(
        &self,
        id: PaymentIntentId,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>>;
    /// Takes held money for the merchant: a part, or all if no amount is given.
    fn capture_intent(
        &self,
        id: PaymentIntentId,
        amount_minor: Option<i64>,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>>;
}

/// Authorizations.
pub trait AuthorizationStore {
    /// The tokens with the presented numbers, `None` for those that nobody has; if `with_pins`, with the PINs of their cards. It is
    /// what the security module has to be asked about, and nothing is decided on it; in the order of the queries.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] if there is no such intent; [`StorageError::OfAnotherMerchant`]: nobody is asked about those.
    fn presented_tokens(
        &self,
        queries: &[FactsQuery],
        with_pins: bool,
    ) -> Vec<Result<Option<PresentedToken>>>;
    /// Decides payments on what is so when they are written down, each behind those that stand before it here, with everything
    /// that follows from each: the authorization, the spent counter and key use, the booking, the intent. What was decided before
    /// is told again. One that fails leaves nothing, and the others stand. What came of each, in their order.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] if there is no such intent; [`StorageError::OfAnotherMerchant`];
    /// [`StorageError::Conflict`] if the security module was asked about something that has changed since, or facts have
    /// changed before they were written down: look up, ask and decide again.
    fn decide_authorizations(&self, undecided: Vec<Undecided>) -> Vec<Result<Made>>;
    /// Every fact that each of these decisions needs, in one snapshot; in the order of the queries.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] if there is no such intent. An unknown token is not an error: it
    /// is a fact.
    fn facts_of_authorizations(&self, queries: &[FactsQuery]) -> Vec<Result<Facts>>;
    /// Writes decisions down together that were made on facts loaded before, if these still hold; else as
    /// [`AuthorizationStore::decide_authorizations`].
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if a fact has changed, perhaps by one that stands before it here; load, decide
    /// and commit again.
    fn commit_authorizations(
        &self,
        commits: Vec<(CommitAuthorization, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>>;
    /// The facts of one decision: see [`AuthorizationStore::facts_of_authorizations`].
    ///
    /// # Errors
    /// As there.
    fn authorization_facts(&self, query: FactsQuery) -> Result<Facts> {
        self.facts_of_authorizations(&[query]).pop().unwrap_or(Err(StorageError::Abandoned))
    }
    /// Writes one decision down: see [`AuthorizationStore::commit_authorizations`].
    ///
    /// # Errors
    /// As there.
    fn commit_authorization(
        &self,
        commit: CommitAuthorization,
        write: Write<Authorization>,
    ) -> Result<Written<Authorization>> {
        let mut written = self.commit_authorizations(vec![(commit, write)]);
        written.pop().unwrap_or(Err(StorageError::Abandoned))
    }
    /// Answers each with an authorization that was made before, and keeps the answer for its claim too; in their
    /// order. Nothing happens, so the audit log says nothing.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] if there is no such authorization.
    fn repeat_authorizations(
        &self,
        repeated: Vec<(AuthorizationId, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>>;
    /// One authorization.
    fn authorization(&self, id: AuthorizationId) -> Result<Option<Authorization>>;
    /// Authorizations.
    fn list_authorizations(
        &self,
        filter: AuthorizationFilter,
        page: Page<AuthorizationId>,
    ) -> List<Authorization, AuthorizationId>;
}

/// Refunds.
pub trait RefundStore {
    /// Gives money back.
    fn create_refund(&self, refund: NewRefund, write: Write<Refund>) -> Result<Written<Refund>>;
    /// One refund.
    fn refund(&self, id: RefundId) -> Result<Option<Refund>>;
    /// Refunds.
    fn list_refunds(&self, filter: RefundFilter, page: Page<RefundId>) -> List<Refund, RefundId>;
}

/// Reversals.
pub trait ReversalStore {
    /// Undoes an authorization, once, if the caller's role still may.
    fn reverse(&self, reversal: NewReversal, write: Write<Reversal>) -> Result<Written<Reversal>>;
    /// One reversal.
    fn reversal(&self, id: ReversalId) -> Result<Option<Reversal>>;
}

/// The audit log. Changes write their own lines; this is for views and refusals.
pub trait AuditStore {
    /// Appends a line. For card data this comes before the answer: what was not recorded is not
    /// shown.
    fn record_audit(&self, event: AuditEvent) -> Result<()>;
    /// The log, newest first. The cursor is [`AuditRecord::sequence`].
    fn audit_events(&self, page: Page<i64>) -> List<AuditRecord, i64>;
    /// Where the chain ends now.
    fn audit_end(&self) -> Result<KnownHead>;
    /// Hashes of the events behind a place, in order: what leads from an earlier head to a later one.
    fn audit_hashes(&self, after: u64, limit: u16) -> Result<Vec<AuditHash>>;
    /// The head that was signed last.
    fn newest_audit_head(&self) -> Result<Option<SignedDocument>>;
    /// Keeps a signed head. One that is there already for this place stays.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if the chain has another hash there.
    fn put_audit_head(&self, head: KnownHead, signed: SignedDocument) -> Result<()>;
    /// Whether each link from one place of the chain to another follows from the one before. Without a place to begin at that is the
    /// last restoration, or the beginning.
    fn audit_leads(&self, from: Option<KnownHead>, to: KnownHead) -> Result<bool>;
    /// Walks the whole chain.
    fn verify_audit(&self) -> Result<ChainReport>;
    /// Says in the audit log that the platform goes on from a backup. The event is all there is of it: heads
    /// of the chain from here on name it. A phone's next report of its store may be ahead of what is known.
    fn restore(&self, reason: String, write: Write<Restoration>) -> Result<Written<Restoration>>;
    /// When the platform last went on from a backup.
    fn last_restoration(&self) -> Result<Option<Timestamp>>;
}

/// Signed configurations.
pub trait ConfigurationStore {
    /// The newest one for an audience. Only its signature says whether it is one.
    fn configuration(&self, audience: Audience) -> Result<Option<SignedDocument>>;
    /// Puts another one in the place of `before`, with a line in the audit log.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if another one than `before` is there.
    fn publish_configuration(
        &self,
        published: PublishedConfiguration,
        before: Option<SignedDocument>,
        now: Timestamp,
    ) -> Result<()>;
}

/// Idempotency keys.
pub trait IdempotencyStore {
    /// Asks what to do with requests; in their order. Each claim then goes into the [`Write`] of its change.
    ///
    /// # Errors
    /// [`StorageError::StillRunning`] or [`StorageError::DifferentContent`].
    fn begin_all(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>>;
    /// Asks what to do with one request: see [`IdempotencyStore::begin_all`].
    ///
    /// # Errors
    /// As there.
    fn begin(&self, claim: &IdempotencyClaim) -> Result<Begun> {
        self.begin_all(&[claim]).pop().unwrap_or(Err(StorageError::Abandoned))
    }
    /// Forgets answers given before this time; returns how many.
    fn forget_answers(&self, before: Timestamp) -> Result<usize>;
}

/// What is kept of what has ended, and for how long.
pub trait RetentionStore {
    /// For how long.
    fn retention_limit(&self) -> Result<RetentionLimit>;
    /// Keeps what has ended for so long from here on.
    fn set_retention_limit(
        &self,
        limit: RetentionLimit,
        reason: String,
        write: Write<RetentionLimit>,
    ) -> Result<Written<RetentionLimit>>;
    /// Erases what is past the limit, in parts: each a transaction with its line in the audit log. Says how many rows. What another
    /// platform erases at this moment is left to it.
    fn erase_ended(&self, now: Timestamp) -> Result<usize>;
}

/// What is known of the catalogue of keys, and hangs on its keys.
pub trait CatalogueStore {
    /// The newest version of the catalogue of keys that was ever used.
    fn newest_catalogue(&self) -> Result<Option<CatalogueMark>>;
    /// Takes note of a version that comes from `known`, which was the newest. Whether it still is: if it is not,
    /// nothing is noted, and the caller compares with what is.
    fn note_catalogue(&self, known: Option<CatalogueMark>, newer: CatalogueMark) -> Result<bool>;
    /// Knows `accepted` in the place of `known`, also if it is older or does not come from it: people have decided so,
    /// and `event` says it. `None`: what is known there makes no sense. Whether that was still so; if not, nothing was
    /// done.
    fn accept_catalogue(
        &self,
        known: Option<CatalogueMark>,
        accepted: CatalogueMark,
        event: AuditEvent,
    ) -> Result<bool>;
    /// Kinds of rows that are worth nothing without a key, and how many of each there are; kinds without rows are left
    /// out.
    fn rows_under(
        &self,
        issuer: IssuerId,
        key: KeyUse,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, u64)>>;
}

/// How busy a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Changes that wait for the disk at this moment.
    pub waiting_changes: usize,
    /// Transactions that went to the disk since the store was opened. Changes that wait together share one.
    pub commits: u64,
    /// Payments that are on the disk and not yet where lists are read from; whoever lists waits for them.
    pub payments_ahead: usize,
    /// For how many seconds lines of the audit log have been waiting for their links, where they wait for longer than they should.
    pub audit_waits: u64,
}

/// Whose turn it is to make keys, as long as this lives.
pub struct Turn(#[expect(dead_code, reason = "held, not used")] Option<Box<dyn Send>>);

impl Turn {
    pub(crate) fn held(by: impl Send + 'static) -> Self {
        Self(Some(Box::new(by)))
    }
}

/// What platforms that share a store share beside their records. Of a store that one platform has for itself none of it
/// is needed: nobody else is there.
pub trait Sharing {
    /// Whether other platforms may be there.
    fn is_shared(&self) -> bool {
        false
    }

    /// Waits until no other platform makes keys. Two that did so at once would leave two catalogues, of which neither comes
    /// from the other.
    ///
    /// # Errors
    /// [`StorageError::Busy`]: another one has had it for too long.
    fn turn_to_make_keys(&self) -> Result<Turn> {
        Ok(Turn(None))
    }

    /// The newest catalogue of keys, as its file is: as another platform gave it, and nothing of it proven.
    fn catalogue_copy(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// As [`CatalogueStore::note_catalogue`], and keeps the catalogue itself for the other platforms.
    fn note_catalogue_with_copy(
        &self,
        known: Option<CatalogueMark>,
        newer: CatalogueMark,
        copy: Vec<u8>,
    ) -> Result<bool>;

    /// Has somebody called at once, and whenever another platform has changed what a platform keeps in memory, or may have. He
    /// must not wait for anything.
    fn tell_of_news(&self, _tell: Box<dyn Fn() + Send + Sync>) {}
}

/// The whole store.
pub trait Storage:
    IssuerStore
    + PolicyStore
    + RevocationStore
    + PinStore
    + CardStore
    + LedgerStore
    + DeviceStore
    + IntegrityStore
    + TokenStore
    + MerchantStore
    + TerminalStore
    + AccessStore
    + IntentStore
    + AuthorizationStore
    + RefundStore
    + ReversalStore
    + AuditStore
    + ConfigurationStore
    + IdempotencyStore
    + RetentionStore
    + CatalogueStore
    + Sharing
    + Send
    + Sync
{
    /// Whether the store answers, and takes changes as far as is known. Costs next to nothing: anybody may ask it.
    fn check(&self) -> Result<()>;
    /// What the store is doing.
    fn load(&self) -> Load;
    /// How this platform stands in for its database, if it may.
    fn stand_in(&self) -> Option<StandInStatus> {
        None
    }
    /// Refuses new calls, finishes the changes that wait, and closes. May be called more than once.
    fn close(&self);
}
