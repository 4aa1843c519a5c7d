//! Tokens: one card on one device.

use tapfer_hsm::OperatorGrant;
use tapfer_payment_types::{CardId, DeviceId, PanSequenceNumber, Timestamp, TokenId, TokenPan};
use tapfer_payments::access::Principal;
use tapfer_payments::audit::{AuditAction, AuditResult};
use tapfer_payments::cards::{Card, CardStatus};
use tapfer_payments::tokens::{Actor, Token, TokenAction, TokenState};
use tapfer_storage::{Page, Refusal, Slice, StorageError, StoredResponse, TokenFilter};

use crate::api;
use crate::service::answer::{Answered, created, done};
use crate::service::caller::Caller;
use crate::service::card_data::CardData;
use crate::service::cards::DRAWS;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

/// So many numbers are drawn until one is of its card's partition: with 256 partitions one of ten million tokens finds none.
const DRAWN_FOR_ITS_PARTITION: u16 = 4_096;

fn created_token(token: &Token) -> StoredResponse {
    created(&api::tokens::Token::from(token))
}

fn changed_token(token: &Token) -> StoredResponse {
    done(&api::tokens::Token::from(token))
}

impl Service {
    /// Puts a card onto a device: the token is INACTIVE until somebody activates it.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn create_token(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: &api::tokens::CreateToken,
    ) -> Result<Answered, ServiceError> {
        let card = self.card(caller, request.card)?.card;
        let device = self.device(caller, request.device)?;
        if device.issuer != card.issuer {
            let detail = "the card and the device belong to different issuers";
            return Err(ServiceError::Invalid(detail.to_owned()));
        }
        self.once(caller, repetition, created_token, |write| {
            card.status.is_kept().map_err(Refusal::from).map_err(StorageError::from)?;
            if card.status == CardStatus::Blocked {
                let detail = "the card is blocked; unblock it before it goes onto a device";
                return Err(ServiceError::Conflict(detail.to_owned()));
            }
            let issuer =
                self.storage.issuer(card.issuer)?.ok_or(ServiceError::NotFound("issuer"))?;
            let (mut draws, mut others) = (DRAWS, DRAWN_FOR_ITS_PARTITION);
            loop {
                let number = self.draw_number(&issuer.token_prefix)?;
                let token_pan = number
                    .expose()
                    .parse()
                    .map_err(|_| ServiceError::Damaged("a new token number"))?;
                let token = self.new_token(&card, device.id, &token_pan, write.now)?;
                let sealed = self.seal_token_number(issuer.id, token.id, &token_pan)?;
                draws = draws.saturating_sub(1);
                match self.storage.create_token(token, sealed, write.clone()) {
                    Err(StorageError::Refused(Refusal::Exists(_))) if draws > 0 => {}
                    Err(StorageError::Refused(Refusal::OtherPartition)) if others > 0 => {
                        (draws, others) = (DRAWS, others.saturating_sub(1));
                    }
                    result => return Ok(result?),
                }
            }
        })
    }

    fn new_token(
        &self,
        card: &Card,
        device: DeviceId,
        token_pan: &TokenPan,
        now: Timestamp,
    ) -> Result<Token, ServiceError> {
        Ok(Token {
            id: TokenId::new(now, self.random()?),
            issuer: card.issuer,
            card: card.id,
            device,
            last_four: token_pan.last_four().to_owned(),
            sequence_number: PanSequenceNumber::ZERO,
            state: TokenState::Inactive,
            created_at: now,
        })
    }

    /// One token.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn token(&self, caller: &Caller, id: TokenId) -> Result<Token, ServiceError> {
        caller.require_token_role()?;
        let token = self.storage.token(id)?.ok_or(ServiceError::NotFound("token"))?;
        caller.require_device(token.device, token.issuer, "token")?;
        Ok(token)
    }

    /// Tokens. A device sees its own.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_tokens(
        &self,
        caller: &Caller,
        card: Option<CardId>,
        device: Option<DeviceId>,
        page: Page<TokenId>,
    ) -> Result<Slice<Token, TokenId>, ServiceError> {
        let filter = match caller.principal {
            Principal::Device(own) if device.is_none_or(|asked| asked == own) => {
                TokenFilter { issuer: None, card, device: Some(own) }
            }
            Principal::Device(_) => return Err(caller.hide("device")),
            _ => TokenFilter { issuer: caller.issuer_scope()?, card, device },
        };
        Ok(self.storage.list_tokens(filter, page)?)
    }

    /// Activates, suspends, resumes or deletes a token.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn change_token(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: TokenId,
        action: TokenAction,
        request: api::tokens::ChangeToken,
    ) -> Result<Answered, ServiceError> {
        self.token(caller, id)?;
        require_actor(caller, action, request.actor)?;
        let reason = String::from(request.reason);
        self.once(caller, repetition, changed_token, |write| {
            Ok(self.storage.change_token(id, action, request.actor, reason, write)?)
        })
    }

    /// The card number behind a token, for a person who says why. Recorded before it is shown.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn detokenize(
        &self,
        caller: &Caller,
        id: TokenId,
        request: &api::tokens::Detokenize,
    ) -> Result<api::tokens::Detokenized, ServiceError> {
        let reason = request.reason.as_str();
        let allowed =
            caller.require_sight_of(CardData::Number).and_then(|()| self.token(caller, id));
        let token = match allowed {
            Ok(token) => token,
            Err(refusal) => {
                self.record_refused_look(caller, Some(id), Some(reason.to_owned()))?;
                return Err(refusal);
            }
        };
        let sealed = self.storage.sealed_card_number(token.card)?;
        let sealed = sealed.ok_or_else(|| {
            let detail = "the card was closed, and its number erased when its limit was over";
            ServiceError::Conflict(detail.to_owned())
        })?;
        let why = Some(reason.to_owned());
        let action = AuditAction::TokenDetokenized;
        self.record(caller, action, id.to_string(), AuditResult::Succeeded, why)?;
        let grant = OperatorGrant::new(&caller.key.to_string(), reason)?;
        let pan = self.open_card_number(token.issuer, token.card, sealed, grant)?;
        Ok(api::tokens::Detokenized { pan: pan.expose().to_owned() })
    }
}

/// Whom a caller may speak for: an issuer for itself and for cardholders who call its hotline, the
/// operator for anyone. A phone speaks for its person, and never to make a token more able to pay.
fn require_actor(caller: &Caller, action: TokenAction, actor: Actor) -> Result<(), ServiceError> {
    match (caller.principal, actor) {
        (Principal::Operator, _) | (Principal::Issuer(_), Actor::Issuer | Actor::Cardholder) => {
            Ok(())
        }
        (Principal::Device(_), Actor::Cardholder)
            if matches!(action, TokenAction::Suspend | TokenAction::Delete) =>
        {
            Ok(())
        }
        _ => Err(caller.refuse("this API key may not do that in the name of this actor")),
    }
}
