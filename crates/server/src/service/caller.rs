//! Who calls, and what that allows. Everything is forbidden that is not allowed here by name.
//!
//! What belongs to somebody else looks the same from outside as what does not exist. Therefore the role is
//! asked before anything is looked up, and the owner after.

use tapfer_payment_types::{ApiKeyId, DeviceId, IssuerId, MerchantId, TerminalId};
use tapfer_payments::access::Principal;
use tapfer_payments::audit;

use crate::service::ServiceError;

/// A caller whose API key was found.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The API key's id.
    pub(crate) key: ApiKeyId,
    /// Whom it speaks for.
    pub(crate) principal: Principal,
    /// The peer's address.
    pub(crate) origin: String,
    /// The id of the request.
    pub(crate) request_id: String,
    /// Whether it may name card numbers: a token's scope may leave that out.
    pub(crate) names_card_numbers: bool,
}

/// A terminal that asks to pay. What its certificate says of it is looked up with its payment, together with that of others, unless
/// it was looked up before.
pub(crate) struct Asker {
    /// Who that is, if it is looked up; until then nothing may be done for it but that.
    pub(super) caller: Caller,
    pub(super) is_looked_up: bool,
}

/// Whoever has an API key, under which its idempotency keys are its own.
pub(crate) trait Keyed {
    /// The API key's id.
    fn api_key(&self) -> ApiKeyId;
}

impl Keyed for Caller {
    fn api_key(&self) -> ApiKeyId {
        self.key
    }
}

impl Keyed for Asker {
    fn api_key(&self) -> ApiKeyId {
        self.caller.key
    }
}

impl Asker {
    /// A caller whose API key was found.
    pub(crate) const fn looked_up(caller: Caller) -> Self {
        Self { caller, is_looked_up: true }
    }

    /// A caller as its certificate says.
    pub(crate) const fn to_look_up(caller: Caller) -> Self {
        Self { caller, is_looked_up: false }
    }
}

impl Caller {
    /// As the audit log names it.
    pub(crate) fn for_audit(&self) -> audit::Caller {
        audit::Caller {
            api_key: Some(self.key),
            role: self.principal.role(),
            origin: self.origin.clone(),
            request_id: self.request_id.clone(),
        }
    }

    /// The operator only.
    pub(crate) fn require_operator(&self) -> Result<(), ServiceError> {
        match self.principal {
            Principal::Operator => Ok(()),
            _ => Err(self.refuse("only the operator may do this")),
        }
    }

    /// The issuers a caller sees: all (`None`) or its own.
    pub(crate) fn issuer_scope(&self) -> Result<Option<IssuerId>, ServiceError> {
        match self.principal {
            Principal::Operator => Ok(None),
            Principal::Issuer(own) => Ok(Some(own)),
            _ => Err(self.refuse("only the operator and issuers may do this")),
        }
    }

    /// The operator, or this issuer.
    pub(crate) fn require_issuer(
        &self,
        issuer: IssuerId,
        what: &'static str,
    ) -> Result<(), ServiceError> {
        match self.issuer_scope()? {
            Some(own) if own != issuer => Err(self.hide(what)),
            _ => Ok(()),
        }
    }

    /// The merchants a caller sees: all (`None`) or its own.
    pub(crate) fn merchant_scope(&self) -> Result<Option<MerchantId>, ServiceError> {
        match self.principal {
            Principal::Operator => Ok(None),
            Principal::Merchant(own) => Ok(Some(own)),
            _ => Err(self.refuse("only the operator and merchants may do this")),
        }
    }

    /// The operator, or this merchant.
    pub(crate) fn require_merchant(
        &self,
        merchant: MerchantId,
        what: &'static str,
    ) -> Result<(), ServiceError> {
        match self.merchant_scope()? {
            Some(own) if own != merchant => Err(self.hide(what)),
            _ => Ok(()),
        }
    }

    /// A merchant, and no one in its place: what is made belongs to it.
    pub(crate) fn as_merchant(&self) -> Result<MerchantId, ServiceError> {
        match self.principal {
            Principal::Merchant(own) => Ok(own),
            _ => Err(self.refuse("only a merchant may do this, with its own API key")),
        }
    }

    /// A terminal, and no one in its place: the payment is made there.
    pub(crate) fn as_terminal(&self) -> Result<TerminalId, ServiceError> {
        match self.principal {
            Principal::Terminal(own) => Ok(own),
            _ => Err(self.refuse("only a terminal may do this, with its own API key")),
        }
    }

    /// A role that may look at terminals and payments at all.
    pub(crate) fn require_payment_role(&self) -> Result<(), ServiceError> {
        match self.principal {
            Principal::Terminal(_) => Ok(()),
            _ => self.merchant_scope().map(|_| ()),
        }
    }

    /// A role that may look at devices and tokens at all.
    pub(crate) fn require_token_role(&self) -> Result<(), ServiceError> {
        match self.principal {
            Principal::Device(_) => Ok(()),
            _ => self.issuer_scope().map(|_| ()),
        }
    }

    /// The operator, the merchant, or this terminal of it.
    pub(crate) fn require_terminal(
        &self,
        terminal: TerminalId,
        merchant: MerchantId,
        what: &'static str,
    ) -> Result<(), ServiceError> {
        match self.principal {
            Principal::Terminal(own) if own == terminal => Ok(()),
            Principal::Terminal(_) => Err(self.hide(what)),
            _ => self.require_merchant(merchant, what),
        }
    }

    /// The operator, the issuer, or this device of it.
    pub(crate) fn require_device(
        &self,
        device: DeviceId,
        issuer: IssuerId,
        what: &'static str,
    ) -> Result<(), ServiceError> {
        match self.principal {
            Principal::Device(own) if own == device => Ok(()),
            Principal::Device(_) => Err(self.hide(what)),
            _ => self.require_issuer(issuer, what),
        }
    }

    /// The role does not allow it.
    pub(crate) fn refuse(&self, why: &'static str) -> ServiceError {
        self.note("role", why);
        ServiceError::Forbidden(why)
    }

    /// Its API key is not in force.
    pub(crate) fn turn_away(&self) -> ServiceError {
        let (origin, request_id) = (self.origin.clone(), self.request_id.clone());
        ServiceError::Unauthenticated { origin, request_id }
    }

    /// The access token was not given for it.
    pub(crate) fn lacks_scope(&self, needed: &str) {
        self.note("scope", needed);
    }

    /// It is somebody else's.
    pub(crate) fn hide(&self, what: &'static str) -> ServiceError {
        self.note("owner", what);
        ServiceError::NotFound(what)
    }

    /// A refused access is a security event (ASVS v5.0.0-16.3.2).
    fn note(&self, by: &'static str, what: &str) {
        tracing::warn!(
            target: "tapfer::security",
            event = "access_refused",
            caller = %self.key,
            role = %self.principal.role(),
            origin = self.origin,
            request_id = self.request_id,
            by,
            what,
            "access refused"
        );
    }
}
