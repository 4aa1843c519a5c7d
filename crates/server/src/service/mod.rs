//! What the platform does for its callers: check rights, look up what the security module has to know, ask
//! it, have the store apply the rules of `payments` and commit in one transaction. No rules of its own.
//!
//! Everything here blocks and runs off the network threads. No method holds a database transaction
//! while the security module works: the store does not even offer a way to.

mod access;
pub(crate) mod access_tokens;
mod answer;
mod audit;
mod authorities;
mod authorizations;
pub(crate) mod caller;
mod card_data;
mod cards;
mod chip_data;
mod client_certificates;
mod configurations;
mod decisions;
mod devices;
mod document_keys;
mod error;
mod integrity;
mod issuer_directory;
mod issuer_keys;
mod issuers;
mod merchants;
mod numbers;
mod own_api_keys;
mod payment_intents;
mod pins;
mod policies;
mod provisioning;
mod refunds;
pub(crate) mod repetition;
mod retention;
mod reversals;
mod revocations;
mod rounds;
mod signed_api_keys;
mod stand_in;
pub(crate) mod store_shares;
mod strangers;
mod successions;
mod terminal_certificates;
mod terminals;
mod tokens;

use std::sync::{Arc, Mutex};

use tapfer_emv::audit_chain::KnownHead;
use tapfer_emv::merchant::AcquirerId;
use tapfer_hsm::pool::PoolStatus;
use tapfer_hsm::{HsmError, PaymentHsm};
use tapfer_payment_types::Timestamp;
use tapfer_payments::merchants::acquirer_of;
use tapfer_storage::{
    Answer, Begun, Load, Page, StandInStatus, Storage, StorageError, StoredResponse, Write, Written,
};

pub(crate) use access::FirstKey;
pub(crate) use answer::Answered;
pub(crate) use authorities::PLATFORM_RID;
pub(crate) use decisions::{Decided, Question};
pub(crate) use error::ServiceError;
pub use own_api_keys::ApiKeysTaken;

use self::caller::Caller;
use self::client_certificates::access_keys;
use self::document_keys::KnownDocumentKeys;
use self::issuer_directory::IssuerDirectory;
use self::own_api_keys::OwnApiKeys;
use self::repetition::{Repetition, RepetitionSecret};
use self::revocations::LookedAt;
use self::rounds::Rounds;
use self::signed_api_keys::GoodApiKeys;
use self::strangers::Strangers;
use crate::api::hsm::HsmState;
use crate::client_certificate::{ClientCertificates, TrustedClients};
use crate::clock::{SharedClock, Stopwatch};
use crate::entropy::{self, Entropy, SharedEntropy};
use crate::in_process::{HsmFault, HsmFaults};
use crate::metrics;
use crate::newest_catalogue;
use crate::realm::{Partitions, Realm, RealmLock, RealmPaths};

/// The service behind the interface.
pub(crate) struct Service {
    hsm: Arc<dyn PaymentHsm>,
    storage: Arc<dyn Storage>,
    clock: SharedClock,
    entropy: SharedEntropy,
    issuers: IssuerDirectory,
    /// Who certifies terminals here.
    acquirer: AcquirerId,
    /// The public keys of documents.
    document_keys: KnownDocumentKeys,
    /// API keys that were found to be signed.
    good_api_keys: GoodApiKeys,
    /// Of signing API keys anew.
    renewals: Rounds,
    /// What a simulation does to calls of the security module.
    hsm_faults: Option<Arc<dyn HsmFaults>>,
    /// Where none is signed: those that are taken.
    own_api_keys: Option<OwnApiKeys>,
    /// What repeated requests are told apart by.
    repetition_secret: RepetitionSecret,
    /// Whose certificates handshakes take.
    trusted_clients: Arc<TrustedClients>,
    client_certificates: ClientCertificates,
    /// Certificates that revocations hold.
    revoked_certificates: LookedAt,
    /// Issuers that the security module does not know.
    strangers: Strangers,
    /// How far this node has followed the audit chain.
    followed_chain: Mutex<Option<KnownHead>>,
    /// Where the catalogue of keys lies.
    paths: RealmPaths,
    /// Of a realm in several databases.
    partitions: Option<Arc<Partitions>>,
    /// Held to the end, so that no other process serves the realm before this one has stopped.
    _lock: RealmLock,
}

impl Service {
    /// Puts the parts together and makes the platform's certification authorities, of issuers, terminals and
    /// clients, and its keys for documents, if there are none.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`].
    pub(crate) fn new(
        realm: Realm,
        clock: SharedClock,
        entropy: SharedEntropy,
        taken: ApiKeysTaken,
        client_certificates: ClientCertificates,
    ) -> Result<Self, ServiceError> {
        let Realm { hsm, mut storage, lock, paths, partitions, alone, .. } = realm;
        let turn = storage.turn_to_make_keys()?;
        newest_catalogue::follow::<ServiceError>(&*storage, &paths, |known| {
            Ok(hsm.follow_catalogue(known)?)
        })?;
        let acquirer = acquirer_of(hsm.describe().realm_id);
        let now = clock.now();
        let (repetition_secret, trusted_clients) = access_keys(&*hsm, &*storage, now)?;
        // What was promised is booked before anything else is asked.
        if let Some(alone) = alone {
            storage = stand_in::over(alone, &paths, &repetition_secret, &clock)?.unwrap_or(storage);
        }
        let service = Self {
            hsm,
            storage,
            clock,
            entropy,
            issuers: IssuerDirectory::default(),
            acquirer,
            document_keys: KnownDocumentKeys::default(),
            good_api_keys: GoodApiKeys::default(),
            renewals: Rounds::default(),
            hsm_faults: None,
            own_api_keys: (taken == ApiKeysTaken::MadeHere).then(OwnApiKeys::default),
            repetition_secret,
            trusted_clients: Arc::new(trusted_clients),
            client_certificates,
            revoked_certificates: LookedAt::default(),
            strangers: Strangers::default(),
            followed_chain: Mutex::default(),
            paths,
            partitions,
            _lock: lock,
        };
        service.ensure_authority(PLATFORM_RID, now)?;
        service.ensure_merchant_authority(now)?;
        service.ensure_document_keys(now)?;
        service.follow_catalogue()?;
        service.ensure_map()?;
        drop(turn);
        Ok(service)
    }

    /// Has the partition map signed by the key that signs now.
    fn ensure_map(&self) -> Result<(), ServiceError> {
        let Some(partitions) = &self.partitions else { return Ok(()) };
        Ok(partitions.ensure_map(self.now())?)
    }

    /// For a simulation: what happens before and behind each call of the security module.
    pub(crate) fn with_hsm_faults(self, faults: Arc<dyn HsmFaults>) -> Self {
        Self { hsm_faults: Some(faults), ..self }
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.entropy.as_ref()
    }

    pub(crate) const fn repetition_secret(&self) -> &RepetitionSecret {
        &self.repetition_secret
    }

    /// Whose certificates handshakes take: as the catalogue of keys has it, now and later.
    pub(crate) fn trusted_clients(&self) -> Arc<TrustedClients> {
        Arc::clone(&self.trusted_clients)
    }

    /// Whether terminals and phones have to show certificates.
    pub(crate) const fn requires_certificates(&self) -> bool {
        self.client_certificates.are_required
    }

    /// Whether everything that a payment needs is there.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn check(&self) -> Result<(), ServiceError> {
        self.storage.check()?;
        if self.stand_in().is_some_and(|status| status.since.is_some()) {
            return Ok(self.hsm.health()?);
        }
        // First: a pool whose workers wait for another catalogue than they found learns here of one that was accepted.
        self.follow_catalogue()?;
        Ok(self.hsm.health()?)
    }

    /// Whether no key can be used. Asks no HSM; a keystore looks into its catalogue's file.
    pub(crate) fn hsm_is_down(&self) -> bool {
        self.hsm.health().is_err()
    }

    /// Takes over what was changed in the catalogue of keys, in every module, if it comes from what the database
    /// knows, and lets the database know: nothing older is used from here on, nor at the next start. Costs a write
    /// only when there is something newer.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module, which says what is wrong with the catalogue.
    pub(crate) fn follow_catalogue(&self) -> Result<(), ServiceError> {
        newest_catalogue::follow(&*self.storage, &self.paths, |known| {
            let newest = self.ask_hsm("follow_catalogue", |hsm| hsm.follow_catalogue(known))?;
            self.strangers.follow(newest);
            Ok(newest)
        })
    }

    /// Makes keys, on the newest catalogue, and gives it to the other platforms. Only one makes keys at a time: the lock is the
    /// database's, and no transaction is open under it.
    ///
    /// # Errors
    /// What `make` fails with; [`ServiceError`] of store or security module.
    pub(super) fn make_keys<T>(
        &self,
        make: impl FnOnce() -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let _turn = self.storage.turn_to_make_keys()?;
        self.follow_catalogue()?;
        let made = make()?;
        self.follow_catalogue()?;
        Ok(made)
    }

    /// Has somebody called whenever another platform has changed what this one keeps in memory, or may have.
    pub(crate) fn tell_of_news(&self, tell: Box<dyn Fn() + Send + Sync>) {
        self.storage.tell_of_news(tell);
    }

    /// How the security module stands. Asks no module anything.
    pub(crate) fn hsm_state(&self) -> HsmState {
        let cause = self.hsm.health().err().map(|error| error.to_string());
        HsmState::new(self.hsm.describe(), cause, self.hsm.pool())
    }

    /// How the HSMs stand one by one, if there is a pool of them.
    pub(crate) fn hsm_pool(&self) -> Option<PoolStatus> {
        self.hsm.pool()
    }

    /// How busy the database is.
    pub(crate) fn storage_load(&self) -> Load {
        self.storage.load()
    }

    /// How this node stands in for its database, if it may.
    pub(crate) fn stand_in(&self) -> Option<StandInStatus> {
        self.storage.stand_in()
    }

    /// Forgets the answers to idempotency keys that are older than this.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub(crate) fn forget_answers(&self, older_than_seconds: i64) -> Result<usize, ServiceError> {
        let before = self.now().plus_seconds(older_than_seconds.saturating_neg());
        Ok(self.storage.forget_answers(before)?)
    }

    /// When the newest event of the audit log was; `None` of a new realm.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub(crate) fn newest_event(&self) -> Result<Option<Timestamp>, ServiceError> {
        let newest = match self.storage.audit_events(Page::first(1)) {
            // A line that makes no sense here says nothing of clocks either.
            Err(StorageError::Inconsistent(_)) => None,
            newest => newest?.items.into_iter().next(),
        };
        Ok(newest.map(|record| record.event.at))
    }

    /// Refuses new changes and finishes those that wait.
    pub(crate) fn close(&self) {
        self.storage.close();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], ServiceError> {
        Ok(entropy::bytes(self.entropy.as_ref())?)
    }

    /// Asks the security module, and counts and times the call.
    fn ask_hsm<T>(
        &self,
        verb: &'static str,
        call: impl FnOnce(&dyn PaymentHsm) -> Result<T, HsmError>,
    ) -> Result<T, ServiceError> {
        let stopwatch = Stopwatch::start();
        let result = self.disturbed(|| call(self.hsm.as_ref())).unwrap_or_else(|| Err(hsm_down()));
        metrics::hsm_call(verb, result.is_ok(), stopwatch.elapsed());
        Ok(result?)
    }

    /// A call of the security module. Nothing comes of it if a simulation wants that.
    fn disturbed<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let Some(faults) = &self.hsm_faults else { return Some(call()) };
        let is_reached = faults.before_call() == HsmFault::None;
        let result = is_reached.then(call);
        result.filter(|_| faults.behind_call() == HsmFault::None)
    }

    /// Does something once for each idempotency key: the stored answer, or the work and its answer.
    fn once<T>(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        answer: fn(&T) -> StoredResponse,
        work: impl FnOnce(Write<T>) -> Result<Written<T>, ServiceError>,
    ) -> Result<Answered, ServiceError> {
        // Kept until the work is done: meanwhile the same key is refused as still running.
        let _running = match self.storage.begin(repetition.claim())? {
            Begun::Replay(response) => return Ok(Answered::again(response)),
            Begun::Run(running) => running,
        };
        let write = self.write(caller, repetition, Answer::Of(answer));
        work(write).map(Answered::from)
    }

    /// As [`Service::once`], for answers that hold what is shown only once: they are kept sealed under
    /// the caller's own API key. `work` gives the clear answer and what came of storing the sealed one.
    fn once_with_secret<T>(
        &self,
        repetition: &Repetition,
        work: impl FnOnce() -> Result<(StoredResponse, Written<T>), ServiceError>,
    ) -> Result<Answered, ServiceError> {
        let _running = match self.storage.begin(repetition.claim())? {
            Begun::Replay(sealed) => return repetition.open(&sealed).map(Answered::again),
            Begun::Run(running) => running,
        };
        let (clear, written) = work()?;
        match written {
            Written::Done { .. } => Ok(Answered::first(clear)),
            Written::Replayed(sealed) => repetition.open(&sealed).map(Answered::again),
        }
    }

    fn sealed_write<T>(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        clear: &StoredResponse,
    ) -> Result<Write<T>, ServiceError> {
        let sealed = repetition.seal(clear, self.random()?)?;
        Ok(self.write(caller, repetition, Answer::Known(sealed)))
    }

    fn write<T>(&self, caller: &Caller, repetition: &Repetition, answer: Answer<T>) -> Write<T> {
        Write {
            caller: caller.for_audit(),
            claim: Some(repetition.claim().clone()),
            answer,
            now: self.now(),
        }
    }
}

/// What a simulation's fault looks like from here.
fn hsm_down() -> HsmError {
    HsmError::Down { cause: "as a simulation wanted it".to_owned() }
}
