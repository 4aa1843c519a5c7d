//! What decisions ask about, read from the tables ([`crate::hot`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_payment_types::{CardId, DeviceId, IssuerId, PaymentIntentId, TerminalId, TokenId};
use tapfer_payments::authorization::SpentCounter;
use tapfer_payments::integrity::Verdict;
use tapfer_payments::intents::PaymentIntent;
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::policies::IssuedPolicy;

use super::rows::{Columns, all, first};
use super::sql::{Connection, Row, params};
use super::{
    Result, cards, integrity, intents, issuers, merchants, pins, policies, terminals, tokens,
};
use crate::StorageError;
use crate::hot::{COUNTERS, HotCard, HotIssuer, HotTerminal, HotToken, SpentCounters, Tables};

/// The tables as one connection sees them.
pub(crate) struct Seen<'c>(pub(crate) &'c Connection);

impl Tables for Seen<'_> {
    type Error = StorageError;

    fn token_with_number(&self, hash: &[u8]) -> Result<Option<TokenId>> {
        let sql = "SELECT id FROM tokens WHERE number_hash = ?1";
        first(self.0, sql, [hash], |row| Columns::new(row, "tokens").parse("id"))
    }

    fn token(&self, id: TokenId) -> Result<Option<HotToken>> {
        let Some((token, number_hash)) = tokens::find_with_number_hash(self.0, id)? else {
            return Ok(None);
        };
        let (history, logged_in_at) = pins::history(self.0, id)?;
        let logged_in_at = match logged_in_at {
            Some(at) => at,
            None => tokens::first_granted_at(self.0, id)?.unwrap_or(token.created_at),
        };
        Ok(Some(HotToken {
            token: Arc::new(token),
            number_hash,
            history,
            logged_in_at,
            person_key: pins::person_key(self.0, id)?.map(|key| key.state),
            highest_counter: tokens::highest_counter(self.0, id)?,
            counters: SpentCounters::new(newest_counters(self.0, id)?),
            keys: HashMap::new(),
        }))
    }

    fn key(&self, token: TokenId, class: KeyClass, index: KeyIndex) -> Result<Option<GrantedKey>> {
        tokens::find_key(self.0, token, class, index)
    }

    fn spent(&self, token: TokenId, counter: u16) -> Result<Option<SpentCounter>> {
        let sql = format!(
            "{SPENT} WHERE counters.token_id = ?1 AND counters.application_transaction_counter = ?2"
        );
        first(self.0, &sql, params![token.to_string(), counter], read_spent)
    }

    fn card(&self, id: CardId) -> Result<Option<HotCard>> {
        let Some(account) = cards::find(self.0, id)? else { return Ok(None) };
        let pin = pins::card_pin(self.0, id)?;
        Ok(Some(HotCard { card: Arc::new(account.card), available: account.available, pin }))
    }

    fn issuer(&self, id: IssuerId) -> Result<Option<HotIssuer>> {
        let Some(issuer) = issuers::find(self.0, id)? else { return Ok(None) };
        let current = Arc::new(policies::current(self.0, &issuer)?);
        Ok(Some(HotIssuer {
            policies: HashMap::from([(current.policy.version, Arc::clone(&current))]),
            current,
            integrity_policy: integrity::policy(self.0, id)?.map(Arc::new),
            issuer: Arc::new(issuer),
        }))
    }

    fn policy(&self, issuer: IssuerId, version: u32) -> Result<Option<IssuedPolicy>> {
        policies::find(self.0, issuer, version)
    }

    fn verdict(&self, device: DeviceId) -> Result<Option<Verdict>> {
        integrity::verdict(self.0, device)
    }

    fn terminal(&self, id: TerminalId) -> Result<HotTerminal> {
        let terminal = terminals::get(self.0, id)?;
        let merchant = Arc::new(merchants::get(self.0, terminal.merchant)?);
        Ok(HotTerminal { terminal: Arc::new(terminal), merchant })
    }

    fn intent(&self, id: PaymentIntentId) -> Result<PaymentIntent> {
        intents::get(self.0, id)
    }
}

/// Spent counters with what spent them.
pub(crate) const SPENT: &str =
    "SELECT counters.token_id, counters.application_transaction_counter AS number,
        authorizations.id, payment_intent_id, terminal_id, cryptogram, verified
    FROM transaction_counters AS counters
    JOIN authorizations ON authorizations.id = counters.authorization_id";

pub(crate) fn read_spent(row: &Row<'_>) -> Result<SpentCounter> {
    let columns = Columns::new(row, "transaction_counters");
    Ok(SpentCounter {
        authorization: columns.parse("id")?,
        payment_intent: columns.parse("payment_intent_id")?,
        terminal: columns.parse("terminal_id")?,
        cryptogram: columns.get("cryptogram")?,
        verified: columns.get("verified")?,
    })
}

fn newest_counters(connection: &Connection, token: TokenId) -> Result<BTreeMap<u16, SpentCounter>> {
    let sql = format!("{SPENT} WHERE counters.token_id = ?1 ORDER BY number DESC LIMIT ?2");
    let limit = i64::try_from(COUNTERS).unwrap_or(i64::MAX);
    let read = |row: &Row<'_>| {
        Ok((Columns::new(row, "transaction_counters").number("number")?, read_spent(row)?))
    };
    Ok(all(connection, &sql, params![token.to_string(), limit], read)?.into_iter().collect())
}
