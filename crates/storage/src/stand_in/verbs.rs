//! Which verbs a node does alone: those of a small payment. All others are the database's, and refused while it is away.

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

use super::StandIn;
use crate::hot::Touched;
use crate::relational::key_uses::KeyUse;
use crate::relational::{Result, of_each};
use crate::store::{
    AccessStore, AuditStore, AuthorizationStore, CardStore, CatalogueStore, ConfigurationStore,
    DeviceStore, IdempotencyStore, IntegrityStore, IntentStore, IssuerStore, LedgerStore,
    MerchantStore, PinStore, PolicyStore, RefundStore, RetentionStore, ReversalStore,
    RevocationStore, Sharing, TerminalStore, TokenStore, Turn,
};
use crate::undecided::decide_and_compare;
use crate::{
    AuditRecord, AuthorizationFilter, Begun, CardAccount, CardChange, ChainReport, Challenge,
    Closing, CommitAuthorization, FactsQuery, IdempotencyClaim, Inconsistency, LedgerEntry, Made,
    NewRefund, NewReversal, Page, PersonKeyChange, PresentedToken, PublishedConfiguration,
    RefundFilter, SealedNumber, Slice, TokenFilter, TokenPerson, TopUp, Undecided, Write, Written,
};

type List<T, C> = Result<Slice<T, C>>;

/// Verbs of the database, and what is not remembered any more behind each; and those that a node has of its own.
macro_rules! through {
    ($room:ident {
        $(fn $verb:ident($($argument:ident: $kind:ty),* $(,)?) -> $answer:ty
            $(, forgetting $touched:expr)?;)*
    } own { $($own:tt)* }) => {
        impl $room for StandIn {
            $(fn $verb(&self, $($argument: $kind),*) -> $answer {
                let made = self.there()?.$verb($($argument),*);
                $(self.state().known.forget($touched);)?
                made
            })*

            $($own)*
        }
    };
}

through! { IssuerStore {
    fn create_issuer(issuer: Issuer, write: Write<Issuer>) -> Result<Written<Issuer>>;
    fn renew_issuer_keys(
        id: IssuerId,
        derivation_key_index: u8,
        certificate: Vec<u8>,
        write: Write<()>,
    ) -> Result<Written<()>>, forgetting Touched::Issuer(id);
    fn issuer(id: IssuerId) -> Result<Option<Issuer>>;
    fn list_issuers(page: Page<IssuerId>) -> List<Issuer, IssuerId>;
} own {} }

through! { PolicyStore {
    fn set_policy(
        issuer: IssuerId,
        policy: VerificationPolicy,
        write: Write<IssuedPolicy>,
    ) -> Result<Written<IssuedPolicy>>, forgetting Touched::Issuer(issuer);
    fn policy(issuer: IssuerId) -> Result<Option<IssuedPolicy>>;
} own {} }

through! { RevocationStore {
    fn revoke_issuer_certificate(
        revoked: RevokedIssuerCertificate,
        write: Write<RevokedIssuerCertificate>,
    ) -> Result<Written<RevokedIssuerCertificate>>;
    fn revoked_issuer_certificates() -> Result<Vec<RevokedIssuerCertificate>>;
} own {} }

through! { PinStore {
    fn token_person(token: TokenId) -> Result<TokenPerson>;
    fn change_person_key(
        token: TokenId,
        decided_on: Option<PersonKeyState>,
        to: PersonKeyChange,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>>, forgetting Touched::Token(token);
    fn pin_status_again(token: TokenId, write: Write<PinStatus>) -> Result<Written<PinStatus>>;
    fn grant_pin_reset(
        token: TokenId,
        reason: String,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>>, forgetting Touched::Token(token);
    fn record_login(
        token: TokenId,
        reason: String,
        write: Write<Timestamp>,
    ) -> Result<Written<Timestamp>>, forgetting Touched::Token(token);
    fn card_pin(card: CardId) -> Result<Option<CardPin>>;
    fn set_card_pin(
        card: CardId,
        value: [u8; 32],
        write: Write<CardPin>,
    ) -> Result<Written<CardPin>>;
} own {} }

through! { CardStore {
    fn create_card(
        card: Card,
        number: SealedNumber,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>>;
    fn card(id: CardId) -> Result<Option<CardAccount>>;
    fn card_by_number_hash(keyed_hash: &[u8]) -> Result<Option<CardAccount>>;
    fn sealed_card_number(id: CardId) -> Result<Option<Vec<u8>>>;
    fn list_cards(issuer: Option<IssuerId>, page: Page<CardId>) -> List<CardAccount, CardId>;
    fn change_card(
        id: CardId,
        change: CardChange,
        reason: String,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>>, forgetting Touched::Card(id);
    fn top_up(top_up: TopUp, write: Write<LedgerEntry>) -> Result<Written<LedgerEntry>>;
    fn card_entries(card: CardId, page: Page<i64>) -> List<LedgerEntry, i64>;
} own {
    fn close_card(
        &self,
        closing: Closing,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>> {
        let card = closing.card;
        let made = self.there()?.close_card(closing, write);
        self.state().known.forget(Touched::Card(card));
        made
    }
} }

through! { LedgerStore {
    fn account_balance(account: Account, currency: Currency) -> Result<Money>;
} own {} }

through! { DeviceStore {
    fn create_device(device: Device, key: ApiKey, write: Write<Device>) -> Result<Written<Device>>;
    fn device(id: DeviceId) -> Result<Option<Device>>;
    fn list_devices(issuer: Option<IssuerId>, page: Page<DeviceId>) -> List<Device, DeviceId>;
    fn report_store(
        id: DeviceId,
        report: StoreReport,
        write: Write<NonZeroU32>,
    ) -> Result<Written<NonZeroU32>>;
    fn rotate_store(
        id: DeviceId,
        report: StoreReport,
        write: Write<NonZeroU32>,
    ) -> Result<Written<NonZeroU32>>;
    fn lock_device(
        id: DeviceId,
        by: Locker,
        reason: String,
        write: Write<Device>,
    ) -> Result<Written<Device>>, forgetting Touched::Device(id);
    fn unlock_device(
        id: DeviceId,
        by: Locker,
        reason: String,
        write: Write<Device>,
    ) -> Result<Written<Device>>, forgetting Touched::Device(id);
} own {} }

through! { IntegrityStore {
    fn set_integrity_policy(
        issuer: IssuerId,
        policy: IntegrityPolicy,
        write: Write<IntegrityPolicy>,
    ) -> Result<Written<IntegrityPolicy>>, forgetting Touched::Issuer(issuer);
    fn integrity_policy(issuer: IssuerId) -> Result<Option<IntegrityPolicy>>;
    fn challenge_device(
        device: DeviceId,
        challenge: Challenge,
        write: Write<Challenge>,
    ) -> Result<Written<Challenge>>;
    fn open_challenge(device: DeviceId) -> Result<Option<Challenge>>;
    fn record_verdict(
        device: DeviceId,
        found: Verdict,
        answered: Option<[u8; 32]>,
        reason: String,
        write: Write<Verdict>,
    ) -> Result<Written<Verdict>>, forgetting Touched::Device(device);
    fn device_verdict(device: DeviceId) -> Result<Option<Verdict>>;
} own {} }

through! { TokenStore {
    fn create_token(
        token: Token,
        number: SealedNumber,
        write: Write<Token>,
    ) -> Result<Written<Token>>;
    fn token(id: TokenId) -> Result<Option<Token>>;
    fn sealed_token_number(id: TokenId) -> Result<Option<Vec<u8>>>;
    fn list_tokens(filter: TokenFilter, page: Page<TokenId>) -> List<Token, TokenId>;
    fn change_token(
        id: TokenId,
        action: TokenAction,
        actor: Actor,
        reason: String,
        write: Write<Token>,
    ) -> Result<Written<Token>>, forgetting Touched::Token(id);
    fn token_history(id: TokenId) -> Result<Vec<TokenChange>>;
    fn keys_that_count(
        token: TokenId,
        policy: &KeyPolicy,
        now: Timestamp,
    ) -> Result<Vec<GrantedKey>>;
    fn key_indices(token: TokenId, indices: RangeInclusive<KeyIndex>) -> Result<Vec<KeyIndex>>;
    fn highest_counter(token: TokenId) -> Result<Option<u16>>;
} own {
    fn grant_keys(
        &self,
        token: TokenId,
        person_key: Option<u32>,
        keys: Vec<GrantedKey>,
        write: Write<Vec<GrantedKey>>,
    ) -> Result<Written<Vec<GrantedKey>>> {
        let granted = self.there()?.grant_keys(token, person_key, keys, write);
        match &granted {
            Ok(Written::Done { value, .. }) => self.state().known.granted(token, value),
            _ => self.state().known.forget(Touched::Token(token)),
        }
        granted
    }
} }

through! { MerchantStore {
    fn create_merchant(
        merchant: Merchant,
        key: ApiKey,
        write: Write<Merchant>,
    ) -> Result<Written<Merchant>>;
    fn list_merchants(page: Page<MerchantId>) -> List<Merchant, MerchantId>;
} own {
    fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>> {
        self.there()?.merchant(id)
    }
} }

through! { TerminalStore {
    fn create_terminal(
        terminal: Terminal,
        key: ApiKey,
        write: Write<Terminal>,
    ) -> Result<Written<Terminal>>;
    fn list_terminals(
        merchant: Option<MerchantId>,
        page: Page<TerminalId>,
    ) -> List<Terminal, TerminalId>;
    fn add_terminal_certificate(
        certificate: TerminalCertificate,
        write: Write<TerminalCertificate>,
    ) -> Result<Written<TerminalCertificate>>;
    fn list_terminal_certificates(
        terminal: TerminalId,
        page: Page<TerminalCertificateId>,
    ) -> List<TerminalCertificate, TerminalCertificateId>;
    fn revoked_certificates(now: Timestamp, limit: usize) -> Result<Vec<[u8; 6]>>;
} own {
    fn terminal(&self, id: TerminalId) -> Result<Option<Terminal>> {
        match self.alone()? {
            None => self.database.terminal(id),
            Some(state) => state.terminal(id).map(|known| Some((*known.terminal).clone())),
        }
    }

    fn revoke_terminal(
        &self,
        id: TerminalId,
        reason: String,
        write: Write<Terminal>,
    ) -> Result<Written<Terminal>> {
        let revoked = self.there()?.revoke_terminal(id, reason, write);
        let known = &mut self.state().known;
        known.forget(Touched::Terminal(id));
        // Its own end with it.
        known.forget_api_keys();
        revoked
    }

    fn armed_intent(&self, terminal: TerminalId, now: Timestamp) -> Result<Option<PaymentIntent>> {
        match self.alone()? {
            None => self.database.armed_intent(terminal, now),
            Some(state) => Ok(state.armed_intent(terminal, now)),
        }
    }
} }

through! { AccessStore {
    fn create_api_key(key: ApiKey, write: Write<ApiKey>) -> Result<Written<ApiKey>>;
    fn certify_client(
        certificate: ClientCertificate,
        write: Write<ClientCertificate>,
    ) -> Result<Written<ClientCertificate>>;
    fn list_api_keys(owner: Option<Principal>, page: Page<ApiKeyId>) -> List<ApiKey, ApiKeyId>;
    fn api_keys_in_force() -> Result<Vec<std::result::Result<ApiKey, Inconsistency>>>;
    fn renew_api_keys(renewed: Vec<([u8; 64], ApiKey)>) -> Result<()>;
    fn accept_api_keys(keys: Vec<ApiKey>, now: Timestamp) -> Result<()>;
} own {
    fn replace_operator_keys(&self, key: ApiKey, write: Write<ApiKey>) -> Result<Written<ApiKey>> {
        let replaced = self.there()?.replace_operator_keys(key, write);
        self.state().known.forget_api_keys();
        replaced
    }

    fn revoke_api_key(
        &self,
        id: ApiKeyId,
        reason: String,
        write: Write<ApiKey>,
    ) -> Result<Written<ApiKey>> {
        let revoked = self.there()?.revoke_api_key(id, reason, write);
        self.state().known.forget_api_key(id);
        revoked
    }

    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>> {
        self.seen_api_key(|known| known.api_key_of(id), |database| database.api_key(id))
    }

    fn api_keys(&self, ids: &[ApiKeyId]) -> Vec<Result<Option<ApiKey>>> {
        match self.alone() {
            Ok(None) => self.api_keys_in_database(ids),
            Ok(Some(state)) => {
                drop(state);
                ids.iter().map(|id| self.api_key(*id)).collect()
            }
            Err(error) => of_each(ids.len(), &error),
        }
    }

    fn api_key_by_hash(&self, secret_hash: [u8; 32]) -> Result<Option<ApiKey>> {
        self.seen_api_key(
            |known| known.api_key_by_hash(&secret_hash),
            |database| database.api_key_by_hash(secret_hash),
        )
    }

    fn known_api_key(&self, secret_hash: &[u8; 32]) -> Option<ApiKey> {
        self.database.known_api_key(secret_hash)
    }

    fn known_api_key_of_id(&self, id: ApiKeyId) -> Option<ApiKey> {
        self.database.known_api_key_of_id(id)
    }
} }

through! { IntentStore {
    fn list_intents(
        merchant: Option<MerchantId>,
        page: Page<PaymentIntentId>,
    ) -> List<PaymentIntent, PaymentIntentId>;
    fn capture_intent(
        id: PaymentIntentId,
        amount_minor: Option<i64>,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>>;
} own {
    fn create_intent(
        &self,
        intent: PaymentIntent,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        match self.alone()? {
            None => self.database.create_intent(intent, write),
            Some(mut state) => state.create_intent(intent, write),
        }
    }

    fn intent(&self, id: PaymentIntentId) -> Result<Option<PaymentIntent>> {
        match self.alone()? {
            None => self.database.intent(id),
            Some(state) => state.intent(id).map(Some),
        }
    }

    fn arm_intent(
        &self,
        id: PaymentIntentId,
        terminal: TerminalId,
        expires_at: Timestamp,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        match self.alone()? {
            None => self.database.arm_intent(id, terminal, expires_at, write),
            Some(mut state) => state.arm_intent(id, terminal, expires_at, write),
        }
    }

    fn cancel_intent(
        &self,
        id: PaymentIntentId,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        match self.alone()? {
            None => self.database.cancel_intent(id, write),
            Some(mut state) => state.cancel_intent(id, write),
        }
    }
} }

through! { AuthorizationStore {
    fn list_authorizations(
        filter: AuthorizationFilter,
        page: Page<AuthorizationId>,
    ) -> List<Authorization, AuthorizationId>;
} own {
    fn presented_tokens(
        &self,
        queries: &[FactsQuery],
        with_pins: bool,
    ) -> Vec<Result<Option<PresentedToken>>> {
        match self.alone() {
            Ok(None) => self.database.presented_tokens(queries, with_pins),
            Ok(Some(state)) => queries.iter().map(|query| state.presented(query)).collect(),
            Err(error) => of_each(queries.len(), &error),
        }
    }

    fn decide_authorizations(&self, undecided: Vec<Undecided>) -> Vec<Result<Made>> {
        let is_alone = self.alone().map(|state| state.is_some());
        match is_alone {
            Ok(false) => self.decide_in_database(undecided),
            Ok(true) => decide_and_compare(self, undecided),
            Err(error) => of_each(undecided.len(), &error),
        }
    }

    fn facts_of_authorizations(&self, queries: &[FactsQuery]) -> Vec<Result<Facts>> {
        match self.alone() {
            Ok(None) => self.database.facts_of_authorizations(queries),
            Ok(Some(state)) => queries.iter().map(|query| state.facts(query)).collect(),
            Err(error) => of_each(queries.len(), &error),
        }
    }

    fn commit_authorizations(
        &self,
        commits: Vec<(CommitAuthorization, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        match self.alone() {
            Ok(None) => self.database.commit_authorizations(commits),
            Ok(Some(mut state)) => state.decide(commits),
            Err(error) => of_each(commits.len(), &error),
        }
    }

    fn repeat_authorizations(
        &self,
        repeated: Vec<(AuthorizationId, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        match self.alone() {
            Ok(None) => self.database.repeat_authorizations(repeated),
            Ok(Some(state)) => state.repeat(repeated),
            Err(error) => of_each(repeated.len(), &error),
        }
    }

    fn authorization(&self, id: AuthorizationId) -> Result<Option<Authorization>> {
        match self.alone()? {
            None => {
                let booked = self.database.authorization(id)?;
                Ok(booked.or_else(|| self.state().authorizations.get(&id).cloned()))
            }
            Some(state) => state.authorization(id).map(Some),
        }
    }
} }

through! { RefundStore {
    fn create_refund(refund: NewRefund, write: Write<Refund>) -> Result<Written<Refund>>;
    fn refund(id: RefundId) -> Result<Option<Refund>>;
    fn list_refunds(filter: RefundFilter, page: Page<RefundId>) -> List<Refund, RefundId>;
} own {} }

through! { ReversalStore {
    fn reverse(reversal: NewReversal, write: Write<Reversal>) -> Result<Written<Reversal>>;
    fn reversal(id: ReversalId) -> Result<Option<Reversal>>;
} own {} }

through! { AuditStore {
    fn record_audit(event: AuditEvent) -> Result<()>;
    fn audit_events(page: Page<i64>) -> List<AuditRecord, i64>;
    fn audit_end() -> Result<KnownHead>;
    fn audit_hashes(after: u64, limit: u16) -> Result<Vec<AuditHash>>;
    fn newest_audit_head() -> Result<Option<SignedDocument>>;
    fn put_audit_head(head: KnownHead, signed: SignedDocument) -> Result<()>;
    fn audit_leads(from: Option<KnownHead>, to: KnownHead) -> Result<bool>;
    fn verify_audit() -> Result<ChainReport>;
    fn restore(reason: String, write: Write<Restoration>) -> Result<Written<Restoration>>;
    fn last_restoration() -> Result<Option<Timestamp>>;
} own {} }

through! { ConfigurationStore {
    fn configuration(audience: Audience) -> Result<Option<SignedDocument>>;
    fn publish_configuration(
        published: PublishedConfiguration,
        before: Option<SignedDocument>,
        now: Timestamp,
    ) -> Result<()>;
} own {} }

through! { IdempotencyStore {
    fn forget_answers(before: Timestamp) -> Result<usize>;
} own {
    fn begin_all(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        match self.alone() {
            Ok(None) => self.begin_in_database(claims),
            Ok(Some(state)) => claims.iter().map(|claim| state.begin(claim)).collect(),
            Err(error) => of_each(claims.len(), &error),
        }
    }
} }

through! { RetentionStore {
    fn retention_limit() -> Result<RetentionLimit>;
    fn set_retention_limit(
        limit: RetentionLimit,
        reason: String,
        write: Write<RetentionLimit>,
    ) -> Result<Written<RetentionLimit>>;
    fn erase_ended(now: Timestamp) -> Result<usize>;
} own {} }

through! { CatalogueStore {
    fn newest_catalogue() -> Result<Option<CatalogueMark>>;
    fn note_catalogue(known: Option<CatalogueMark>, newer: CatalogueMark) -> Result<bool>;
    fn accept_catalogue(
        known: Option<CatalogueMark>,
        accepted: CatalogueMark,
        event: AuditEvent,
    ) -> Result<bool>;
    fn rows_under(
        issuer: IssuerId,
        key: KeyUse,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, u64)>>;
} own {} }

through! { Sharing {
    fn turn_to_make_keys() -> Result<Turn>;
    fn catalogue_copy() -> Result<Option<Vec<u8>>>;
    fn note_catalogue_with_copy(
        known: Option<CatalogueMark>,
        newer: CatalogueMark,
        copy: Vec<u8>,
    ) -> Result<bool>;
} own {
    fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    fn tell_of_news(&self, tell: Box<dyn Fn() + Send + Sync>) {
        tell();
        self.news.tell(tell);
    }
} }
