//! Which verb is of which partition: those of cards and tokens of theirs, all others of the home.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use tapfer_emv::audit_chain::{AuditHash, KnownHead};
use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::configuration::{Audience, Restoration, SignedDocument};
use tapfer_payment_types::messages::PinStatus;
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payment_types::store_share::StoreReport;
use tapfer_payment_types::{
    ApiKeyId, CardId, CatalogueMark, DeviceId, IssuerId, MerchantId, TerminalCertificateId,
    TerminalId, Timestamp, TokenId,
};
use tapfer_payments::access::{ApiKey, ClientCertificate, Principal};
use tapfer_payments::audit::AuditEvent;
use tapfer_payments::cards::Card;
use tapfer_payments::devices::Device;
use tapfer_payments::integrity::{IntegrityPolicy, Verdict};
use tapfer_payments::intents::PaymentIntent;
use tapfer_payments::issuers::{Issuer, KeyPolicy};
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::merchants::Merchant;
use tapfer_payments::pins::{CardPin, PersonKeyState};
use tapfer_payments::policies::IssuedPolicy;
use tapfer_payments::revocations::RevokedIssuerCertificate;
use tapfer_payments::store_shares::{DeviceError, Locker};
use tapfer_payments::terminals::{Terminal, TerminalCertificate};
use tapfer_payments::tokens::{Actor, Token, TokenAction, TokenChange};

use super::PartitionedStorage;
use crate::relational::key_uses::KeyUse;
use crate::relational::rows::lock;
use crate::relational::sql::Guard;
use crate::relational::{Engine as _, Result, devices};
use crate::store::{
    AccessStore, AuditStore, CardStore, CatalogueStore, ConfigurationStore, DeviceStore,
    IntegrityStore, IssuerStore, MerchantStore, PinStore, PolicyStore, RevocationStore, Sharing,
    TerminalStore, TokenStore, Turn,
};
use crate::{
    AuditRecord, CardAccount, CardChange, ChainReport, Challenge, Closing, Inconsistency,
    LedgerEntry, Page, PersonKeyChange, PublishedConfiguration, Refusal, SealedNumber, Slice,
    StorageError, TokenFilter, TokenPerson, TopUp, Write, Written,
};

type List<T, C> = Result<Slice<T, C>>;

impl IssuerStore for PartitionedStorage {
    fn create_issuer(&self, issuer: Issuer, write: Write<Issuer>) -> Result<Written<Issuer>> {
        self.everywhere(|home| home.create_issuer(issuer, write))
    }

    fn renew_issuer_keys(
        &self,
        id: IssuerId,
        derivation_key_index: u8,
        certificate: Vec<u8>,
        write: Write<()>,
    ) -> Result<Written<()>> {
        self.everywhere(|home| home.renew_issuer_keys(id, derivation_key_index, certificate, write))
    }

    fn issuer(&self, id: IssuerId) -> Result<Option<Issuer>> {
        self.home.issuer(id)
    }

    fn list_issuers(&self, page: Page<IssuerId>) -> List<Issuer, IssuerId> {
        self.home.list_issuers(page)
    }
}

impl PolicyStore for PartitionedStorage {
    fn set_policy(
        &self,
        issuer: IssuerId,
        policy: VerificationPolicy,
        write: Write<IssuedPolicy>,
    ) -> Result<Written<IssuedPolicy>> {
        self.everywhere(|home| home.set_policy(issuer, policy, write))
    }

    fn policy(&self, issuer: IssuerId) -> Result<Option<IssuedPolicy>> {
        self.home.policy(issuer)
    }
}

impl RevocationStore for PartitionedStorage {
    fn revoke_issuer_certificate(
        &self,
        revoked: RevokedIssuerCertificate,
        write: Write<RevokedIssuerCertificate>,
    ) -> Result<Written<RevokedIssuerCertificate>> {
        self.home.revoke_issuer_certificate(revoked, write)
    }

    fn revoked_issuer_certificates(&self) -> Result<Vec<RevokedIssuerCertificate>> {
        self.home.revoked_issuer_certificates()
    }
}

impl PinStore for PartitionedStorage {
    fn token_person(&self, token: TokenId) -> Result<TokenPerson> {
        self.of_token(token, |store| store.token_person(token))
    }

    fn change_person_key(
        &self,
        token: TokenId,
        decided_on: Option<PersonKeyState>,
        to: PersonKeyChange,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>> {
        self.of_token(token, |store| store.change_person_key(token, decided_on, to, write))
    }

    fn pin_status_again(
        &self,
        token: TokenId,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>> {
        self.of_token(token, |store| store.pin_status_again(token, write))
    }

    fn grant_pin_reset(
        &self,
        token: TokenId,
        reason: String,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>> {
        self.of_token(token, |store| store.grant_pin_reset(token, reason, write))
    }

    fn record_login(
        &self,
        token: TokenId,
        reason: String,
        write: Write<Timestamp>,
    ) -> Result<Written<Timestamp>> {
        self.of_token(token, |store| store.record_login(token, reason, write))
    }

    fn card_pin(&self, card: CardId) -> Result<Option<CardPin>> {
        self.of_card(card, |store| store.card_pin(card))
    }

    fn set_card_pin(
        &self,
        card: CardId,
        value: [u8; 32],
        write: Write<CardPin>,
    ) -> Result<Written<CardPin>> {
        self.of_card(card, |store| store.set_card_pin(card, value, write))
    }
}

impl CardStore for PartitionedStorage {
    fn create_card(
        &self,
        card: Card,
        number: SealedNumber,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>> {
        self.ask(self.of_hash(&number.keyed_hash), |store| store.create_card(card, number, write))
    }

    fn card(&self, id: CardId) -> Result<Option<CardAccount>> {
        match self.of_card(id, |store| store.card(id)) {
            Err(StorageError::NotFound { .. }) => Ok(None),
            found => found,
        }
    }

    fn card_by_number_hash(&self, keyed_hash: &[u8]) -> Result<Option<CardAccount>> {
        self.ask(self.of_hash(keyed_hash), |store| store.card_by_number_hash(keyed_hash))
    }

    fn sealed_card_number(&self, id: CardId) -> Result<Option<Vec<u8>>> {
        match self.of_card(id, |store| store.sealed_card_number(id)) {
            Err(StorageError::NotFound { .. }) => Ok(None),
            found => found,
        }
    }

    fn list_cards(
        &self,
        issuer: Option<IssuerId>,
        page: Page<CardId>,
    ) -> List<CardAccount, CardId> {
        self.listed(page, |found| found.card.id, |store, page| store.list_cards(issuer, page))
    }

    fn change_card(
        &self,
        id: CardId,
        change: CardChange,
        reason: String,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>> {
        self.of_card(id, |store| store.change_card(id, change, reason, write))
    }

    fn close_card(
        &self,
        closing: Closing,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>> {
        self.of_card(closing.card, |store| store.close_card(closing.clone(), write))
    }

    fn top_up(&self, top_up: TopUp, write: Write<LedgerEntry>) -> Result<Written<LedgerEntry>> {
        self.of_card(top_up.card, |store| store.top_up(top_up.clone(), write))
    }

    fn card_entries(&self, card: CardId, page: Page<i64>) -> List<LedgerEntry, i64> {
        match self.of_card(card, |store| store.card_entries(card, page)) {
            Err(StorageError::NotFound { .. }) => Ok(Slice { items: Vec::new(), next: None }),
            found => found,
        }
    }
}

impl DeviceStore for PartitionedStorage {
    fn create_device(
        &self,
        device: Device,
        key: ApiKey,
        write: Write<Device>,
    ) -> Result<Written<Device>> {
        self.everywhere(|home| home.create_device(device, key, write))
    }

    fn device(&self, id: DeviceId) -> Result<Option<Device>> {
        self.home.device(id)
    }

    fn list_devices(
        &self,
        issuer: Option<IssuerId>,
        page: Page<DeviceId>,
    ) -> List<Device, DeviceId> {
        self.home.list_devices(issuer, page)
    }

    fn report_store(
        &self,
        id: DeviceId,
        report: StoreReport,
        write: Write<NonZeroU32>,
    ) -> Result<Written<NonZeroU32>> {
        self.home.report_store(id, report, write)
    }

    fn rotate_store(
        &self,
        id: DeviceId,
        report: StoreReport,
        write: Write<NonZeroU32>,
    ) -> Result<Written<NonZeroU32>> {
        self.home.rotate_store(id, report, write)
    }

    fn lock_device(
        &self,
        id: DeviceId,
        by: Locker,
        reason: String,
        write: Write<Device>,
    ) -> Result<Written<Device>> {
        self.everywhere(|home| home.lock_device(id, by, reason, write))
    }

    fn unlock_device(
        &self,
        id: DeviceId,
        by: Locker,
        reason: String,
        write: Write<Device>,
    ) -> Result<Written<Device>> {
        self.everywhere(|home| home.unlock_device(id, by, reason, write))
    }
}

impl IntegrityStore for PartitionedStorage {
    fn set_integrity_policy(
        &self,
        issuer: IssuerId,
        policy: IntegrityPolicy,
        write: Write<IntegrityPolicy>,
    ) -> Result<Written<IntegrityPolicy>> {
        self.everywhere(|home| home.set_integrity_policy(issuer, policy, write))
    }

    fn integrity_policy(&self, issuer: IssuerId) -> Result<Option<IntegrityPolicy>> {
        self.home.integrity_policy(issuer)
    }

    fn challenge_device(
        &self,
        device: DeviceId,
        challenge: Challenge,
        write: Write<Challenge>,
    ) -> Result<Written<Challenge>> {
        self.home.challenge_device(device, challenge, write)
    }

    fn open_challenge(&self, device: DeviceId) -> Result<Option<Challenge>> {
        self.home.open_challenge(device)
    }

    fn record_verdict(
        &self,
        device: DeviceId,
        found: Verdict,
        answered: Option<[u8; 32]>,
        reason: String,
        write: Write<Verdict>,
    ) -> Result<Written<Verdict>> {
        self.everywhere(|home| home.record_verdict(device, found, answered, reason, write))
    }

    fn device_verdict(&self, device: DeviceId) -> Result<Option<Verdict>> {
        self.home.device_verdict(device)
    }
}

impl PartitionedStorage {
    /// Whether a phone is erased in the home. What is made before this is asked is seen by whoever erases it behind this.
    fn is_erased(&self, device: DeviceId) -> Result<bool> {
        self.home.write(move |connection| {
            lock(connection, Guard::Device, device)?;
            Ok(devices::get(connection, device)?.public_key.is_erased())
        })
    }
}

impl TokenStore for PartitionedStorage {
    /// In the partition of its card, of which its number has to be as well: a payment knows nothing but the number. Its phone may be
    /// erased in the home before that is heard of there: then the token ends.
    fn create_token(
        &self,
        token: Token,
        number: SealedNumber,
        write: Write<Token>,
    ) -> Result<Written<Token>> {
        let partition = self.place_of_card(token.card)?;
        if self.of_hash(&number.keyed_hash) != partition {
            return Err(Refusal::OtherPartition.into());
        }
        let (id, device, unasked) =
            (token.id, token.device, Write { claim: None, ..write.clone() });
        let made = self.ask(partition, |store| store.create_token(token, number, write))?;
        if partition > 0 && matches!(made, Written::Done { .. }) && self.is_erased(device)? {
            let reason = "its phone is erased".to_owned();
            self.ask(partition, |store| {
                store.change_token(id, TokenAction::Delete, Actor::Issuer, reason, unasked)
            })?;
            return Err(DeviceError::Erased.into());
        }
        Ok(made)
    }

    fn token(&self, id: TokenId) -> Result<Option<Token>> {
        match self.of_token(id, |store| store.token(id)) {
            Err(StorageError::NotFound { .. }) => Ok(None),
            found => found,
        }
    }

    fn sealed_token_number(&self, id: TokenId) -> Result<Option<Vec<u8>>> {
        match self.of_token(id, |store| store.sealed_token_number(id)) {
            Err(StorageError::NotFound { .. }) => Ok(None),
            found => found,
        }
    }

    fn list_tokens(&self, filter: TokenFilter, page: Page<TokenId>) -> List<Token, TokenId> {
        self.listed(page, |token| token.id, |store, page| store.list_tokens(filter, page))
    }

    fn change_token(
        &self,
        id: TokenId,
        action: TokenAction,
        actor: Actor,
        reason: String,
        write: Write<Token>,
    ) -> Result<Written<Token>> {
        self.of_token(id, |store| store.change_token(id, action, actor, reason, write))
    }

    fn token_history(&self, id: TokenId) -> Result<Vec<TokenChange>> {
        self.of_token(id, |store| store.token_history(id))
    }

    fn grant_keys(
        &self,
        token: TokenId,
        person_key: Option<u32>,
        keys: Vec<GrantedKey>,
        write: Write<Vec<GrantedKey>>,
    ) -> Result<Written<Vec<GrantedKey>>> {
        self.of_token(token, |store| store.grant_keys(token, person_key, keys, write))
    }

    fn keys_that_count(
        &self,
        token: TokenId,
        policy: &KeyPolicy,
        now: Timestamp,
    ) -> Result<Vec<GrantedKey>> {
        self.of_token(token, |store| store.keys_that_count(token, policy, now))
    }

    fn key_indices(
        &self,
        token: TokenId,
        indices: RangeInclusive<KeyIndex>,
    ) -> Result<Vec<KeyIndex>> {
        self.of_token(token, |store| store.key_indices(token, indices))
    }

    fn highest_counter(&self, token: TokenId) -> Result<Option<u16>> {
        self.of_token(token, |store| store.highest_counter(token))
    }
}

impl MerchantStore for PartitionedStorage {
    fn create_merchant(
        &self,
        merchant: Merchant,
        key: ApiKey,
        write: Write<Merchant>,
    ) -> Result<Written<Merchant>> {
        self.everywhere(|home| home.create_merchant(merchant, key, write))
    }

    fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>> {
        self.home.merchant(id)
    }

    fn list_merchants(&self, page: Page<MerchantId>) -> List<Merchant, MerchantId> {
        self.home.list_merchants(page)
    }
}

impl TerminalStore for PartitionedStorage {
    fn create_terminal(
        &self,
        terminal: Terminal,
        key: ApiKey,
        write: Write<Terminal>,
    ) -> Result<Written<Terminal>> {
        self.everywhere(|home| home.create_terminal(terminal, key, write))
    }

    fn terminal(&self, id: TerminalId) -> Result<Option<Terminal>> {
        self.home.terminal(id)
    }

    fn list_terminals(
        &self,
        merchant: Option<MerchantId>,
        page: Page<TerminalId>,
    ) -> List<Terminal, TerminalId> {
        self.home.list_terminals(merchant, page)
    }

    fn revoke_terminal(
        &self,
        id: TerminalId,
        reason: String,
        write: Write<Terminal>,
    ) -> Result<Written<Terminal>> {
        self.everywhere(|home| home.revoke_terminal(id, reason, write))
    }

    fn add_terminal_certificate(
        &self,
        certificate: TerminalCertificate,
        write: Write<TerminalCertificate>,
    ) -> Result<Written<TerminalCertificate>> {
        self.home.add_terminal_certificate(certificate, write)
    }

    fn list_terminal_certificates(
        &self,
        terminal: TerminalId,
        page: Page<TerminalCertificateId>,
    ) -> List<TerminalCertificate, TerminalCertificateId> {
        self.home.list_terminal_certificates(terminal, page)
    }

    fn revoked_certificates(&self, now: Timestamp, limit: usize) -> Result<Vec<[u8; 6]>> {
        self.home.revoked_certificates(now, limit)
    }

    fn armed_intent(&self, terminal: TerminalId, now: Timestamp) -> Result<Option<PaymentIntent>> {
        Ok(self.find(|store| store.armed_intent(terminal, now))?.map(|(_, intent)| intent))
    }
}

impl AccessStore for PartitionedStorage {
    fn create_api_key(&self, key: ApiKey, write: Write<ApiKey>) -> Result<Written<ApiKey>> {
        self.home.create_api_key(key, write)
    }

    fn replace_operator_keys(&self, key: ApiKey, write: Write<ApiKey>) -> Result<Written<ApiKey>> {
        self.home.replace_operator_keys(key, write)
    }

    fn revoke_api_key(
        &self,
        id: ApiKeyId,
        reason: String,
        write: Write<ApiKey>,
    ) -> Result<Written<ApiKey>> {
        self.home.revoke_api_key(id, reason, write)
    }

    fn certify_client(
        &self,
        certificate: ClientCertificate,
        write: Write<ClientCertificate>,
    ) -> Result<Written<ClientCertificate>> {
        self.home.certify_client(certificate, write)
    }

    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>> {
        self.home.api_key(id)
    }

    fn list_api_keys(
        &self,
        owner: Option<Principal>,
        page: Page<ApiKeyId>,
    ) -> List<ApiKey, ApiKeyId> {
        self.home.list_api_keys(owner, page)
    }

    fn api_key_by_hash(&self, secret_hash: [u8; 32]) -> Result<Option<ApiKey>> {
        self.home.api_key_by_hash(secret_hash)
    }

    fn api_keys(&self, ids: &[ApiKeyId]) -> Vec<Result<Option<ApiKey>>> {
        self.home.api_keys(ids)
    }

    fn known_api_key(&self, secret_hash: &[u8; 32]) -> Option<ApiKey> {
        self.home.known_api_key(secret_hash)
    }

    fn known_api_key_of_id(&self, id: ApiKeyId) -> Option<ApiKey> {
        self.home.known_api_key_of_id(id)
    }

    fn api_keys_in_force(&self) -> Result<Vec<std::result::Result<ApiKey, Inconsistency>>> {
        self.home.api_keys_in_force()
    }

    fn renew_api_keys(&self, renewed: Vec<([u8; 64], ApiKey)>) -> Result<()> {
        self.home.renew_api_keys(renewed)
    }

    fn accept_api_keys(&self, keys: Vec<ApiKey>, now: Timestamp) -> Result<()> {
        self.home.accept_api_keys(keys, now)
    }
}

/// Each partition has a chain of its own. What is asked here is asked of the home's, but whether all are whole.
impl AuditStore for PartitionedStorage {
    fn record_audit(&self, event: AuditEvent) -> Result<()> {
        self.home.record_audit(event)
    }

    fn audit_events(&self, page: Page<i64>) -> List<AuditRecord, i64> {
        self.home.audit_events(page)
    }

    fn audit_end(&self) -> Result<KnownHead> {
        self.home.audit_end()
    }

    fn audit_hashes(&self, after: u64, limit: u16) -> Result<Vec<AuditHash>> {
        self.home.audit_hashes(after, limit)
    }

    fn newest_audit_head(&self) -> Result<Option<SignedDocument>> {
        self.home.newest_audit_head()
    }

    fn put_audit_head(&self, head: KnownHead, signed: SignedDocument) -> Result<()> {
        self.home.put_audit_head(head, signed)
    }

    fn audit_leads(&self, from: Option<KnownHead>, to: KnownHead) -> Result<bool> {
        self.home.audit_leads(from, to)
    }

    /// The home's, or the first one in which something is wrong.
    fn verify_audit(&self) -> Result<ChainReport> {
        let of_home = self.home.verify_audit()?;
        if of_home.fault.is_some() {
            return Ok(of_home);
        }
        for partition in 1..self.count() {
            let report = self.ask(partition, |store| store.verify_audit())?;
            if report.fault.is_some() {
                return Ok(report);
            }
        }
        Ok(of_home)
    }

    fn restore(&self, reason: String, write: Write<Restoration>) -> Result<Written<Restoration>> {
        self.home.restore(reason, write)
    }

    fn last_restoration(&self) -> Result<Option<Timestamp>> {
        self.home.last_restoration()
    }
}

impl ConfigurationStore for PartitionedStorage {
    fn configuration(&self, audience: Audience) -> Result<Option<SignedDocument>> {
        self.home.configuration(audience)
    }

    fn publish_configuration(
        &self,
        published: PublishedConfiguration,
        before: Option<SignedDocument>,
        now: Timestamp,
    ) -> Result<()> {
        self.home.publish_configuration(published, before, now)
    }
}

impl CatalogueStore for PartitionedStorage {
    fn newest_catalogue(&self) -> Result<Option<CatalogueMark>> {
        self.home.newest_catalogue()
    }

    fn note_catalogue(&self, known: Option<CatalogueMark>, newer: CatalogueMark) -> Result<bool> {
        self.home.note_catalogue(known, newer)
    }

    fn accept_catalogue(
        &self,
        known: Option<CatalogueMark>,
        accepted: CatalogueMark,
        event: AuditEvent,
    ) -> Result<bool> {
        self.home.accept_catalogue(known, accepted, event)
    }

    fn rows_under(
        &self,
        issuer: IssuerId,
        key: KeyUse,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, u64)>> {
        let mut rows: Vec<(&'static str, u64)> = Vec::new();
        for partition in 0..self.count() {
            // Of cards and tokens, which are each in one.
            for (kind, count) in self.ask(partition, |store| store.rows_under(issuer, key, now))? {
                match rows.iter_mut().find(|(known, _)| *known == kind) {
                    Some((_, sum)) => *sum = sum.saturating_add(count),
                    None => rows.push((kind, count)),
                }
            }
        }
        Ok(rows)
    }
}

impl Sharing for PartitionedStorage {
    fn is_shared(&self) -> bool {
        self.home.is_shared()
    }

    fn turn_to_make_keys(&self) -> Result<Turn> {
        self.home.turn_to_make_keys()
    }

    fn catalogue_copy(&self) -> Result<Option<Vec<u8>>> {
        self.home.catalogue_copy()
    }

    fn note_catalogue_with_copy(
        &self,
        known: Option<CatalogueMark>,
        newer: CatalogueMark,
        copy: Vec<u8>,
    ) -> Result<bool> {
        self.home.note_catalogue_with_copy(known, newer, copy)
    }

    fn tell_of_news(&self, tell: Box<dyn Fn() + Send + Sync>) {
        self.home.tell_of_news(tell);
    }
}
