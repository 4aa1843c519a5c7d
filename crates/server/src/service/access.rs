//! API keys: finding them, and making the first one.

use tapfer_payment_types::Secret;
use tapfer_payments::access::{ApiKey, Principal, Role};
use tapfer_payments::audit;
use tapfer_storage::{Answer, StoredResponse, Write};

use crate::api_key;
use crate::service::{Service, ServiceError};

/// The operator's first key, to be written down by whoever starts the platform.
pub(crate) type FirstKey = Secret<String>;

impl Service {
    /// The key whose secret has this hash, if it may still be used.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub(crate) fn find_api_key(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, ServiceError> {
        let found = self.storage.api_key_by_hash(*hash)?;
        Ok(found.filter(|key| key.revoked_at.is_none()))
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

    /// Makes a key for the operator. Only for whoever has the realm's files in hand anyway.
    ///
    /// # Errors
    /// [`ServiceError`] of store or randomness.
    pub(crate) fn create_operator_key(&self) -> Result<FirstKey, ServiceError> {
        let now = self.now();
        let (key, text) = api_key::generate(Principal::Operator, now, self.entropy())?;
        let caller = audit::Caller {
            api_key: None,
            role: Role::Operator,
            origin: "local".to_owned(),
            request_id: "start".to_owned(),
        };
        let answer = Answer::Known(StoredResponse { status: 201, body: Vec::new() });
        self.storage.create_api_key(key, Write { caller, claim: None, answer, now })?;
        Ok(text)
    }
}
