//! Terminals of merchants.

use tapfer_payment_types::{MerchantId, PaymentIntentId, TerminalId, Timestamp};
use tapfer_payments::access::Principal;
use tapfer_payments::terminals::{Terminal, TerminalIdentification};
use tapfer_storage::{Page, Refusal, Slice, StorageError};

use crate::api;
use crate::service::answer::{Answered, created};
use crate::service::caller::Caller;
use crate::service::cards::DRAWS;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

impl Service {
    /// Makes a terminal and its API key.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn create_terminal(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: &api::terminals::CreateTerminal,
    ) -> Result<Answered, ServiceError> {
        caller.require_merchant(request.merchant, "merchant")?;
        self.once_with_secret(repetition, || {
            self.merchant(caller, request.merchant)?;
            let mut draws = DRAWS;
            loop {
                let now = self.now();
                let terminal = self.new_terminal(request, now)?;
                let principal = Principal::Terminal(terminal.id);
                let (key, text) = self.new_api_key(principal, now)?;
                let clear = created(&api::terminals::CreatedTerminal {
                    terminal: (&terminal).into(),
                    api_key: text.expose().clone(),
                });
                let write = self.sealed_write(caller, repetition, &clear)?;
                draws = draws.saturating_sub(1);
                match self.storage.create_terminal(terminal, key, write) {
                    Err(StorageError::Refused(Refusal::Exists(_))) if draws > 0 => {}
                    result => return Ok((clear, result?)),
                }
            }
        })
    }

    fn new_terminal(
        &self,
        request: &api::terminals::CreateTerminal,
        now: Timestamp,
    ) -> Result<Terminal, ServiceError> {
        Ok(Terminal {
            id: TerminalId::new(now, self.random()?),
            merchant: request.merchant,
            label: request.label.as_str().to_owned(),
            identification: TerminalIdentification::from_random(self.random()?),
            revocation: None,
            created_at: now,
        })
    }

    /// One terminal.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn terminal(
        &self,
        caller: &Caller,
        id: TerminalId,
    ) -> Result<Terminal, ServiceError> {
        caller.require_payment_role()?;
        let terminal = self.storage.terminal(id)?.ok_or(ServiceError::NotFound("terminal"))?;
        caller.require_terminal(id, terminal.merchant, "terminal")?;
        Ok(terminal)
    }

    /// The payment that a terminal waits for.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn armed_for(
        &self,
        terminal: TerminalId,
    ) -> Result<Option<PaymentIntentId>, ServiceError> {
        let armed = self.storage.armed_intent(terminal, self.now())?;
        Ok(armed.map(|intent| intent.id))
    }

    /// Terminals.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_terminals(
        &self,
        caller: &Caller,
        merchant: Option<MerchantId>,
        page: Page<TerminalId>,
    ) -> Result<Slice<Terminal, TerminalId>, ServiceError> {
        let scope = caller.merchant_scope()?;
        if let Some(merchant) = merchant {
            caller.require_merchant(merchant, "merchant")?;
        }
        Ok(self.storage.list_terminals(merchant.or(scope), page)?)
    }
}
