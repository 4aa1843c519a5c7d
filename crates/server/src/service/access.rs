//! API keys: finding them, making them, taking them back.
//!
//! Who makes a key stands above its owner: the operator above issuers and merchants, an issuer above its
//! devices, a merchant above its terminals. So a stolen key cannot make itself a second one that outlives
//! its end. Issuers and merchants see their own keys, and may take them back.

use tapfer_payment_types::{ApiKeyId, Secret};
use tapfer_payments::access::{ApiKey, Principal, Role};
use tapfer_payments::audit;
use tapfer_storage::{Answer, Page, Slice, StorageError, StoredResponse, Write};

use crate::api;
use crate::api_key;
use crate::service::answer::{Answered, created, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::signed_api_keys::warn_of_spoiled;
use crate::service::{Service, ServiceError};

const API_KEY: &str = "API key";

/// The operator's first key, to be written down by whoever starts the platform.
pub(crate) type FirstKey = Secret<String>;

impl Service {
    /// The key whose secret has this hash, if the platform made it and it may still be used.
    ///
    /// # Errors
    /// [`ServiceError`] of the store; of the security module, if it has to say which keys sign now.
    pub(crate) fn find_api_key(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, ServiceError> {
        self.in_force(self.storage.api_key_by_hash(*hash))
    }

    /// The key of this id, if the platform made it and it may still be used.
    ///
    /// # Errors
    /// As [`Service::find_api_key`].
    pub(super) fn api_key_in_force(&self, id: ApiKeyId) -> Result<Option<ApiKey>, ServiceError> {
        self.in_force(self.storage.api_key(id))
    }

    /// The keys of these ids, each for itself and in this order.
    pub(super) fn those_in_force(
        &self,
        ids: &[ApiKeyId],
    ) -> Vec<Result<Option<ApiKey>, ServiceError>> {
        let found = self.storage.api_keys(ids).into_iter();
        found.map(|found| self.in_force(found)).collect()
    }

    fn in_force(
        &self,
        found: Result<Option<ApiKey>, StorageError>,
    ) -> Result<Option<ApiKey>, ServiceError> {
        let found = match found {
            Err(StorageError::Inconsistent(spoiled)) => {
                warn_of_spoiled(&spoiled);
                return Ok(None);
            }
            found => found?,
        };
        let Some(key) = found.filter(|key| key.revoked_at.is_none()) else { return Ok(None) };
        Ok(self.has_signed(&key)?.then_some(key))
    }

    /// The same without waiting for anything, if it was found before; `None` says nothing.
    pub(crate) fn known_api_key(&self, hash: &[u8; 32]) -> Option<ApiKey> {
        let key = self.storage.known_api_key(hash)?;
        (key.revoked_at.is_none() && self.is_known_to_be_signed(&key)).then_some(key)
    }

    /// Whether this text is a key of the operator that may be used.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub(crate) fn is_operator_key(&self, text: &str) -> Result<bool, ServiceError> {
        let Some(presented) = api_key::parse(text) else { return Ok(false) };
        let found = self.find_api_key(&presented.secret_hash())?;
        Ok(found.is_some_and(|key| key.principal == Principal::Operator))
    }

    /// Makes a key for the operator in the place of those before: whoever deletes the file wants its key
    /// to end. Only for whoever has the realm's files in hand anyway.
    ///
    /// # Errors
    /// [`ServiceError`] of store or randomness.
    pub(crate) fn create_operator_key(&self) -> Result<FirstKey, ServiceError> {
        let now = self.now();
        let (key, text) = self.new_api_key(Principal::Operator, now)?;
        let caller = audit::Caller {
            api_key: None,
            role: Role::Operator,
            origin: "local".to_owned(),
            request_id: "start".to_owned(),
        };
        let answer = Answer::Known(StoredResponse { status: 201, body: Vec::new() });
        self.storage.replace_operator_keys(key, Write { caller, claim: None, answer, now })?;
        Ok(text)
    }

    /// Makes one more key for somebody.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn create_api_key(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        owner: Principal,
    ) -> Result<Answered, ServiceError> {
        self.require_above(caller, owner)?;
        self.once_with_secret(repetition, || {
            let (key, text) = self.new_api_key(owner, self.now())?;
            let clear = created(&api::api_keys::CreatedApiKey {
                id: key.id,
                api_key: text.expose().clone(),
            });
            let write = self.sealed_write(caller, repetition, &clear)?;
            Ok((clear, self.storage.create_api_key(key, write)?))
        })
    }

    /// Takes a key back. No request that begins after the answer gets in with it.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn revoke_api_key(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: ApiKeyId,
        request: api::api_keys::RevokeApiKey,
    ) -> Result<Answered, ServiceError> {
        let key = self.storage.api_key(id)?.ok_or(ServiceError::NotFound(API_KEY))?;
        self.require_at_least(caller, key.principal).map_err(|refusal| match refusal {
            // Whose key it is must not be told either.
            ServiceError::NotFound(_) => ServiceError::NotFound(API_KEY),
            other => other,
        })?;
        self.once(caller, repetition, revoked, |write| {
            Ok(self.storage.revoke_api_key(id, String::from(request.reason), write)?)
        })
    }

    /// Keys of one owner; of nobody in particular, all that the operator sees, or the caller's own.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_api_keys(
        &self,
        caller: &Caller,
        owner: Option<Principal>,
        page: Page<ApiKeyId>,
    ) -> Result<Slice<ApiKey, ApiKeyId>, ServiceError> {
        let owner = match (owner, caller.principal) {
            (None, Principal::Operator) => None,
            (owner, own) => {
                let owner = owner.unwrap_or(own);
                self.require_at_least(caller, owner)?;
                Some(owner)
            }
        };
        Ok(self.storage.list_api_keys(owner, page)?)
    }

    /// Whoever stands above the owner, or is the owner and no machine.
    fn require_at_least(&self, caller: &Caller, owner: Principal) -> Result<(), ServiceError> {
        match owner {
            Principal::Issuer(issuer) => caller.require_issuer(issuer, "issuer"),
            Principal::Merchant(merchant) => caller.require_merchant(merchant, "merchant"),
            _ => self.require_above(caller, owner),
        }
    }

    /// Whoever stands above the owner, who is there.
    fn require_above(&self, caller: &Caller, owner: Principal) -> Result<(), ServiceError> {
        match owner {
            Principal::Operator => caller.require_operator(),
            Principal::Issuer(id) => {
                caller.require_operator()?;
                self.issuer(caller, id).map(|_| ())
            }
            Principal::Merchant(id) => {
                caller.require_operator()?;
                self.merchant(caller, id).map(|_| ())
            }
            Principal::Terminal(id) => {
                caller.merchant_scope()?;
                self.terminal(caller, id).map(|_| ())
            }
            Principal::Device(id) => {
                caller.issuer_scope()?;
                self.device(caller, id).map(|_| ())
            }
        }
    }
}

fn revoked(key: &ApiKey) -> StoredResponse {
    done(&api::api_keys::ApiKey::from(key))
}
