//! Cards in the vault and their accounts.

use tapfer_payment_types::{
    CardId, IssuerId, Money, Pan, PanSequenceNumber, Secret, Timestamp, TokenId,
};
use tapfer_payments::access::Principal;
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult};
use tapfer_payments::cards::{Card, CardStatus};
use tapfer_payments::issuers::Issuer;
use tapfer_payments::tokens::Actor;
use tapfer_storage::{
    CardAccount, CardChange, Closing, LedgerEntry, Page, Refusal, Slice, StorageError,
    StoredResponse, TopUp,
};

use crate::api;
use crate::service::answer::{Answered, created, done};
use crate::service::caller::Caller;
use crate::service::card_data::CardData;
use crate::service::numbers::number_of;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

/// A drawn number that is taken is drawn again so many times.
pub(super) const DRAWS: usize = 8;

const NOT_DRAWN: ServiceError = ServiceError::Damaged("a new card number");

fn created_card(account: &CardAccount) -> StoredResponse {
    created(&api::cards::Card::from(account))
}

fn changed_card(account: &CardAccount) -> StoredResponse {
    done(&api::cards::Card::from(account))
}

fn booked(entry: &LedgerEntry) -> StoredResponse {
    created(&api::cards::LedgerEntry::from(entry))
}

impl Service {
    /// Puts a card into the vault, under the number given or a new one.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn create_card(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: api::cards::CreateCard,
    ) -> Result<Answered, ServiceError> {
        caller.require_issuer(request.issuer, "issuer")?;
        self.once(caller, repetition, created_card, |write| {
            let issuer = self.issuer(caller, request.issuer)?;
            if request.expiry.is_past(write.now) {
                let detail = "the card's last month is over; give a later expiry";
                return Err(ServiceError::Invalid(detail.to_owned()));
            }
            let mut draws = if request.pan.is_some() { 1 } else { DRAWS };
            let mut drawn = 0_u32..;
            loop {
                // What is drawn follows from the request: made again, it is of the same partition, which knows whether it is done.
                let random = || drawn.next().map_or(Err(NOT_DRAWN), |draw| repetition.drawn(draw));
                let pan = self.card_number(&issuer, request.pan.as_ref(), random)?;
                let card = self.new_card(&issuer, &request, &pan, write.now)?;
                let number = self.seal_card_number(issuer.id, card.id, &pan)?;
                draws = draws.saturating_sub(1);
                match self.storage.create_card(card, number, write.clone()) {
                    Err(StorageError::Refused(Refusal::Exists(_))) if draws > 0 => {}
                    result => return Ok(result?),
                }
            }
        })
    }

    fn card_number(
        &self,
        issuer: &Issuer,
        given: Option<&api::cards::CardNumber>,
        random: impl FnMut() -> Result<Secret<[u8; 32]>, ServiceError>,
    ) -> Result<Pan, ServiceError> {
        let invalid = |detail: &str| Err(ServiceError::Invalid(detail.to_owned()));
        let Some(given) = given else {
            let Some(prefix) = &issuer.pan_prefix else {
                return invalid("this issuer has no range of card numbers; give the card's number");
            };
            let digits = number_of(prefix, random)?;
            return digits.expose().parse().map_err(|_| NOT_DRAWN);
        };
        let digits = given.pan().expose();
        if digits.starts_with(issuer.token_prefix.as_str()) {
            return invalid(
                "the number lies in the issuer's range of tokens; it cannot be a card's",
            );
        }
        match &issuer.pan_prefix {
            Some(prefix) if !digits.starts_with(prefix.as_str()) => {
                invalid("the number does not lie in the issuer's range of card numbers")
            }
            _ => Ok(given.pan().clone()),
        }
    }

    fn new_card(
        &self,
        issuer: &Issuer,
        request: &api::cards::CreateCard,
        pan: &Pan,
        now: Timestamp,
    ) -> Result<Card, ServiceError> {
        Ok(Card {
            id: CardId::new(now, self.random()?),
            issuer: issuer.id,
            last_four: pan.last_four().to_owned(),
            sequence_number: PanSequenceNumber::ZERO,
            expiry: request.expiry,
            status: CardStatus::Active,
            status_reason: None,
            holder_reference: request.holder_reference.clone().map(String::from),
            created_at: now,
        })
    }

    /// One card.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn card(&self, caller: &Caller, id: CardId) -> Result<CardAccount, ServiceError> {
        caller.require_sight_of(CardData::Masked)?;
        let account = self.storage.card(id)?.ok_or(ServiceError::NotFound("card"))?;
        caller.require_issuer(account.card.issuer, "card")?;
        Ok(account)
    }

    /// Cards.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_cards(
        &self,
        caller: &Caller,
        issuer: Option<IssuerId>,
        page: Page<CardId>,
    ) -> Result<Slice<CardAccount, CardId>, ServiceError> {
        caller.require_sight_of(CardData::Masked)?;
        let scope = caller.issuer_scope()?;
        if let Some(issuer) = issuer {
            caller.require_issuer(issuer, "issuer")?;
        }
        Ok(self.storage.list_cards(issuer.or(scope), page)?)
    }

    /// The card that has a number, found by keyed hash. Recorded in the audit log, found or not.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn find_card(
        &self,
        caller: &Caller,
        request: &api::cards::LookupCard,
    ) -> Result<CardAccount, ServiceError> {
        if let Err(refusal) = caller.require_sight_of(CardData::Masked) {
            self.record_refused_look(caller, None, None)?;
            return Err(refusal);
        }
        let issuers = match caller.issuer_scope()? {
            Some(own) => vec![own],
            None => self.all_issuers()?.into_iter().map(|issuer| issuer.id).collect(),
        };
        let mut found = None;
        for issuer in issuers {
            let hash = self.number_hash(issuer, request.pan.pan())?;
            found = self.storage.card_by_number_hash(&hash)?;
            if found.is_some() {
                break;
            }
        }
        let object = found.as_ref().map_or_else(|| "none".to_owned(), |it| it.card.id.to_string());
        self.record(caller, AuditAction::CardLookedUp, object, AuditResult::Succeeded, None)?;
        found.ok_or(ServiceError::NotFound("card"))
    }

    /// Writes down who was refused a card number: that behind a token, or whether one is a card's.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn record_refused_look(
        &self,
        caller: &Caller,
        token: Option<TokenId>,
        why: Option<String>,
    ) -> Result<(), ServiceError> {
        let (action, object) = match token {
            Some(token) => (AuditAction::TokenDetokenized, token.to_string()),
            None => (AuditAction::CardLookedUp, "none".to_owned()),
        };
        self.record(caller, action, object, AuditResult::Refused, why)
    }

    /// Writes a line of the audit log for something that changes nothing.
    pub(super) fn record(
        &self,
        caller: &Caller,
        action: AuditAction,
        object: String,
        result: AuditResult,
        detail: Option<String>,
    ) -> Result<(), ServiceError> {
        let caller = caller.for_audit();
        let event = AuditEvent { at: self.now(), caller, action, object, result, detail };
        Ok(self.storage.record_audit(event)?)
    }

    /// Blocks a card with all its tokens, or lets it pay again.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn change_card(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: CardId,
        change: CardChange,
        request: api::cards::BlockCard,
    ) -> Result<Answered, ServiceError> {
        self.card(caller, id)?;
        self.once(caller, repetition, changed_card, |write| {
            Ok(self.storage.change_card(id, change, String::from(request.reason), write)?)
        })
    }

    /// Closes a card for good, with all its tokens.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn close_card(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: CardId,
        request: api::cards::CloseCard,
    ) -> Result<Answered, ServiceError> {
        self.card(caller, id)?;
        let actor = match caller.principal {
            Principal::Operator => Actor::Platform,
            _ => Actor::Issuer,
        };
        let reason = String::from(request.reason);
        let closing = Closing { card: id, pays_out: request.pay_out, actor, reason };
        self.once(caller, repetition, changed_card, |write| {
            Ok(self.storage.close_card(closing, write)?)
        })
    }

    /// Loads money onto a card.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn top_up(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: CardId,
        request: api::cards::TopUpCard,
    ) -> Result<Answered, ServiceError> {
        let currency = self.card(caller, id)?.balance.currency;
        if request.currency != currency {
            let detail = format!("the card is kept in {currency}; top it up in that currency");
            return Err(ServiceError::Invalid(detail));
        }
        let amount = Money::new(request.amount.minor(), currency);
        let reference = String::from(request.reference);
        self.once(caller, repetition, booked, |write| {
            Ok(self.storage.top_up(TopUp { card: id, amount, reference }, write)?)
        })
    }

    /// What was booked on a card's account.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn card_entries(
        &self,
        caller: &Caller,
        id: CardId,
        page: Page<i64>,
    ) -> Result<Slice<LedgerEntry, i64>, ServiceError> {
        self.card(caller, id)?;
        Ok(self.storage.card_entries(id, page)?)
    }
}
