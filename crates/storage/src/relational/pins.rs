//! Person's keys, PINs of cards, and how persons were verified.

use tapfer_emv::keys::KeyClass;
use tapfer_payment_types::messages::PinStatus;
use tapfer_payment_types::policy::{LastVerified, PinRules, Requirement, SinceVerified};
use tapfer_payment_types::{CardId, Timestamp, TokenId};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::pins::{self, CardPin, PersonKeyState, PinError, VerificationHistory};
use tapfer_payments::tokens::Token;

use super::rows::{Columns, execute, first};
use super::sql::{Connection, Row, params};
use super::{Changed, Engine, Result, cards, issuers, policies, tokens};
use crate::{
    PersonKeyChange, PinStore, StorageError, StoredPersonKey, TokenPerson, Write, Written,
};

/// The person's key of a token, if it has one.
pub(crate) fn person_key(
    connection: &Connection,
    token: TokenId,
) -> Result<Option<StoredPersonKey>> {
    let sql = "SELECT * FROM person_keys WHERE token_id = ?1";
    first(connection, sql, [token.to_string()], read_person_key)
}

pub(crate) fn read_person_key(row: &Row<'_>) -> Result<StoredPersonKey> {
    let columns = Columns::keyed(row, "person_keys", "token_id");
    Ok(StoredPersonKey {
        state: PersonKeyState {
            generation: columns.number("generation")?,
            failed: columns.number("failed")?,
            reset_granted: columns.get("reset_granted")?,
        },
        key_sealed: columns.get("key_sealed")?,
        request_hash: columns.get("request_hash")?,
        refused_hash: columns.get("refused_hash")?,
    })
}

/// Writes down how often the PIN was wrong, and whether a reset was granted.
pub(crate) fn update_person_key(
    connection: &Connection,
    token: TokenId,
    state: PersonKeyState,
) -> Result<()> {
    execute(
        connection,
        "UPDATE person_keys SET failed = ?3, reset_granted = ?4
         WHERE token_id = ?1 AND generation = ?2",
        params![token.to_string(), state.generation, state.failed, state.reset_granted],
    )?;
    Ok(())
}

fn put_person_key(connection: &Connection, token: TokenId, key: &StoredPersonKey) -> Result<()> {
    execute(
        connection,
        "INSERT INTO person_keys
             (token_id, generation, key_sealed, request_hash, failed, reset_granted, refused_hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (token_id) DO UPDATE SET generation = excluded.generation,
             key_sealed = excluded.key_sealed, request_hash = excluded.request_hash,
             failed = excluded.failed, reset_granted = excluded.reset_granted,
             refused_hash = excluded.refused_hash",
        params![
            token.to_string(),
            key.state.generation,
            key.key_sealed,
            key.request_hash.as_slice(),
            key.state.failed,
            key.state.reset_granted,
            key.refused_hash.as_ref().map(<[u8; 32]>::as_slice),
        ],
    )?;
    Ok(())
}

/// The card's PIN for terminals, if it has one.
pub(crate) fn card_pin(connection: &Connection, card: CardId) -> Result<Option<CardPin>> {
    let sql = "SELECT * FROM card_pins WHERE card_id = ?1";
    first(connection, sql, [card.to_string()], read_card_pin)
}

pub(crate) fn read_card_pin(row: &Row<'_>) -> Result<CardPin> {
    let columns = Columns::keyed(row, "card_pins", "card_id");
    Ok(CardPin { value: columns.get("value")?, failed: columns.number("failed")? })
}

/// Writes a card's PIN down.
pub(crate) fn put_card_pin(connection: &Connection, card: CardId, pin: &CardPin) -> Result<()> {
    execute(
        connection,
        "INSERT INTO card_pins (card_id, value, failed) VALUES (?1, ?2, ?3)
         ON CONFLICT (card_id) DO UPDATE SET value = excluded.value, failed = excluded.failed",
        params![card.to_string(), pin.value.as_slice(), pin.failed],
    )?;
    Ok(())
}

/// How the person of a token was verified so far, and when she last logged in.
pub(crate) fn history(
    connection: &Connection,
    token: TokenId,
) -> Result<(VerificationHistory, Option<Timestamp>)> {
    let sql = "SELECT * FROM token_histories WHERE token_id = ?1";
    Ok(first(connection, sql, [token.to_string()], read_history)?.unwrap_or_default())
}

pub(crate) fn read_history(row: &Row<'_>) -> Result<(VerificationHistory, Option<Timestamp>)> {
    let columns = Columns::keyed(row, "token_histories", "token_id");
    let last = match columns.get::<Option<String>>("verified_by")? {
        None => None,
        Some(word) => Some(LastVerified {
            application_transaction_counter: columns.number("verified_counter")?,
            reached: requirement(&word).ok_or_else(|| columns.broken("verified_by"))?,
        }),
    };
    let (payments, sum_minor) = (columns.number("payments")?, columns.get("sum_minor")?);
    let since = SinceVerified { payments, sum_minor };
    let since_login = columns.number("since_login")?;
    let history = VerificationHistory { since, last, since_login };
    Ok((history, columns.time_optional("logged_in_at")?))
}

fn requirement(word: &str) -> Option<Requirement> {
    serde_json::from_value(serde_json::Value::from(word)).ok()
}

pub(crate) fn word(requirement: Requirement) -> Option<String> {
    serde_json::to_value(requirement).ok()?.as_str().map(str::to_owned)
}

/// Writes down how the person was verified so far.
pub(crate) fn put_history(
    connection: &Connection,
    token: TokenId,
    history: &VerificationHistory,
) -> Result<()> {
    execute(
        connection,
        "INSERT INTO token_histories
             (token_id, payments, sum_minor, verified_counter, verified_by, since_login)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (token_id) DO UPDATE SET payments = excluded.payments,
             sum_minor = excluded.sum_minor, verified_counter = excluded.verified_counter,
             verified_by = excluded.verified_by, since_login = excluded.since_login",
        params![
            token.to_string(),
            history.since.payments,
            history.since.sum_minor,
            history.last.map(|last| last.application_transaction_counter),
            history.last.and_then(|last| word(last.reached)),
            history.since_login,
        ],
    )?;
    Ok(())
}

/// How many wrong PINs the token's issuer forgives now.
fn rules(connection: &Connection, token: &Token) -> Result<PinRules> {
    let issuer = issuers::get(connection, token.issuer)?;
    Ok(policies::current(connection, &issuer)?.policy.pin)
}

fn change(
    connection: &Connection,
    token: &Token,
    decided_on: Option<PersonKeyState>,
    change: PersonKeyChange,
    now: Timestamp,
) -> Result<PersonKeyState> {
    token.state.may_get_keys()?;
    let found = person_key(connection, token.id)?.map(|key| key.state);
    if found != decided_on {
        return Err(StorageError::Conflict);
    }
    match (change, found) {
        (PersonKeyChange::Taken(key), _) => {
            put_person_key(connection, token.id, &key)?;
            // Session keys under the old key: with the old PIN they would still be good.
            tokens::end_keys(connection, token.id, KeyClass::Verified, now)?;
            Ok(key.state)
        }
        (PersonKeyChange::WrongProof { request_hash }, Some(state)) => {
            let state = state.after(false);
            update_person_key(connection, token.id, state)?;
            execute(
                connection,
                "UPDATE person_keys SET refused_hash = ?2 WHERE token_id = ?1",
                params![token.id.to_string(), request_hash.as_slice()],
            )?;
            Ok(state)
        }
        (PersonKeyChange::WrongProof { .. }, None) => Err(PinError::NotSet.into()),
    }
}

impl<E: Engine> PinStore for E {
    fn token_person(&self, token: TokenId) -> Result<TokenPerson> {
        self.read(|connection| {
            let (history, logged_in_at) = history(connection, token)?;
            Ok(TokenPerson { key: person_key(connection, token)?, history, logged_in_at })
        })
    }

    fn change_person_key(
        &self,
        token: TokenId,
        decided_on: Option<PersonKeyState>,
        to: PersonKeyChange,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>> {
        let action = match to {
            PersonKeyChange::Taken(_) => AuditAction::TokenPinSet,
            PersonKeyChange::WrongProof { .. } => AuditAction::TokenPinRefused,
        };
        self.change(write, action, move |connection, now| {
            let subject = tokens::get_to_change(connection, token)?;
            let state = change(connection, &subject, decided_on, to, now)?;
            let status = pins::status(Some(state), &rules(connection, &subject)?);
            let detail = format!("generation {}, {} tries", state.generation, status.tries_left);
            Ok(Changed::new(status, token).because(detail))
        })
    }

    fn pin_status_again(
        &self,
        token: TokenId,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>> {
        let mut told = self.answer_again(vec![(token, write)], |connection, token| {
            let subject = tokens::get(connection, token)?;
            let state = person_key(connection, token)?.map(|key| key.state);
            Ok(pins::status(state, &rules(connection, &subject)?))
        });
        told.pop().unwrap_or(Err(StorageError::Abandoned))
    }

    fn grant_pin_reset(
        &self,
        token: TokenId,
        reason: String,
        write: Write<PinStatus>,
    ) -> Result<Written<PinStatus>> {
        self.change(write, AuditAction::TokenPinReset, move |connection, _| {
            let subject = tokens::get_to_change(connection, token)?;
            let key = person_key(connection, token)?.ok_or(PinError::NotSet)?;
            let state = key.state.with_reset();
            update_person_key(connection, token, state)?;
            let status = pins::status(Some(state), &rules(connection, &subject)?);
            Ok(Changed::new(status, token).because(reason))
        })
    }

    fn record_login(
        &self,
        token: TokenId,
        reason: String,
        write: Write<Timestamp>,
    ) -> Result<Written<Timestamp>> {
        self.change(write, AuditAction::TokenLoginRecorded, move |connection, now| {
            tokens::get_to_change(connection, token)?;
            execute(
                connection,
                "INSERT INTO token_histories
                     (token_id, payments, sum_minor, logged_in_at)
                 VALUES (?1, 0, 0, ?2)
                 ON CONFLICT (token_id) DO UPDATE SET logged_in_at = excluded.logged_in_at,
                     since_login = 0",
                params![token.to_string(), now.unix_millis()],
            )?;
            Ok(Changed::new(now, token).because(reason))
        })
    }

    fn card_pin(&self, card: CardId) -> Result<Option<CardPin>> {
        self.read(|connection| card_pin(connection, card))
    }

    fn set_card_pin(
        &self,
        card: CardId,
        value: [u8; 32],
        write: Write<CardPin>,
    ) -> Result<Written<CardPin>> {
        self.change(write, AuditAction::CardPinSet, move |connection, _| {
            cards::get_to_change(connection, card)?.card.status.is_kept()?;
            let pin = CardPin { value, failed: 0 };
            put_card_pin(connection, card, &pin)?;
            Ok(Changed::new(pin, card))
        })
    }
}
