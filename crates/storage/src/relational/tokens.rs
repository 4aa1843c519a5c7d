//! Tokens and the keys that phones were given.

use std::ops::RangeInclusive;

use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_payment_types::{CardId, Timestamp, TokenId};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::issuers::KeyPolicy;
use tapfer_payments::keys::{self, CounterRange, GrantedKey};
use tapfer_payments::store_shares::{DeviceError, may_be_served};
use tapfer_payments::tokens::{
    Actor, SuspendedBy, Token, TokenAction, TokenChange, TokenState, TokenStatus,
};

use super::rows::{Columns, Listing, all, execute, first, found, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, cards, devices, issuers, pins};
use crate::{
    Page, Refusal, SealedNumber, Slice, StorageError, TokenFilter, TokenStore, Write, Written,
};

pub(crate) fn find(connection: &Connection, id: TokenId) -> Result<Option<Token>> {
    first(connection, "SELECT * FROM tokens WHERE id = ?1", [id.to_string()], read)
}

/// A token, and the keyed hash of its number.
pub(super) fn find_with_number_hash(
    connection: &Connection,
    id: TokenId,
) -> Result<Option<(Token, Vec<u8>)>> {
    first(connection, "SELECT * FROM tokens WHERE id = ?1", [id.to_string()], |row| {
        Ok((read(row)?, Columns::new(row, "tokens").get("number_hash")?))
    })
}

/// The tokens of a card that have not ended.
pub(super) fn living_of_card(connection: &Connection, card: CardId) -> Result<Vec<Token>> {
    let sql = "SELECT * FROM tokens WHERE card_id = ?1 AND status <> 'DEACTIVATED' ORDER BY id";
    all(connection, sql, [card.to_string()], read)
}

pub(crate) fn get(connection: &Connection, id: TokenId) -> Result<Token> {
    found(find(connection, id)?, "token", id)
}

/// A token that nobody else changes meanwhile: its card guards it.
pub(crate) fn get_to_change(connection: &Connection, id: TokenId) -> Result<Token> {
    lock(connection, Guard::Card, get(connection, id)?.card)?;
    get(connection, id)
}

pub(crate) const fn suspended_by_bits(state: TokenState) -> u8 {
    match state {
        TokenState::Suspended(by) => by.bits(),
        _ => 0,
    }
}

fn read_state(columns: &Columns<'_>) -> Result<TokenState> {
    let bits = columns.number("suspended_by")?;
    match (columns.parse("status")?, bits, SuspendedBy::from_bits(bits)) {
        (TokenStatus::Inactive, 0, _) => Ok(TokenState::Inactive),
        (TokenStatus::Active, 0, _) => Ok(TokenState::Active),
        (TokenStatus::Suspended, _, Some(by)) => Ok(TokenState::Suspended(by)),
        (TokenStatus::Deactivated, 0, _) => Ok(TokenState::Deactivated),
        _ => Err(columns.broken("status, suspended_by")),
    }
}

pub(crate) fn read(row: &Row<'_>) -> Result<Token> {
    let columns = Columns::new(row, "tokens");
    Ok(Token {
        id: columns.parse("id")?,
        issuer: columns.parse("issuer_id")?,
        card: columns.parse("card_id")?,
        device: columns.parse("device_id")?,
        last_four: columns.get("last_four")?,
        sequence_number: columns.sequence_number("sequence_number")?,
        state: read_state(&columns)?,
        created_at: columns.time("created_at")?,
    })
}

fn read_change(row: &Row<'_>) -> Result<TokenChange> {
    let columns = Columns::keyed(row, "token_changes", "sequence");
    Ok(TokenChange {
        token: columns.parse("token_id")?,
        action: columns.parse("action")?,
        actor: columns.parse("actor")?,
        reason: columns.get("reason")?,
        state: read_state(&columns)?,
        at: columns.time("changed_at")?,
    })
}

pub(crate) fn read_key(row: &Row<'_>) -> Result<GrantedKey> {
    let columns = Columns::keyed(row, "limited_use_keys", "token_id");
    let class = KeyClass::from_byte(columns.number("key_class")?);
    Ok(GrantedKey {
        index: columns.key_index("key_index")?,
        class: class.ok_or_else(|| columns.broken("key_class"))?,
        derivation_key_index: columns.number("derivation_key_index")?,
        granted_at: columns.time("granted_at")?,
        expires_at: columns.time("expires_at")?,
        maximum_payments: columns.number("maximum_payments")?,
        maximum_total_minor: columns.get("maximum_total")?,
        used_payments: columns.number("used_payments")?,
        used_total_minor: columns.get("used_total")?,
        counters: read_counters(&columns)?,
    })
}

fn read_counters(columns: &Columns<'_>) -> Result<Option<CounterRange>> {
    if columns.get::<Option<i64>>("first_counter")?.is_none() {
        return Ok(None);
    }
    let (first, count) = (columns.number("first_counter")?, columns.number("counter_count")?);
    Ok(Some(CounterRange { first, count }))
}

fn insert(connection: &Connection, token: &Token, number: &SealedNumber) -> Result<()> {
    execute(
        connection,
        "INSERT INTO tokens (id, issuer_id, card_id, device_id, last_four, sequence_number,
             status, suspended_by, number_sealed, number_hash, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            token.id.to_string(),
            token.issuer.to_string(),
            token.card.to_string(),
            token.device.to_string(),
            token.last_four,
            token.sequence_number.value(),
            token.state.status().as_str(),
            suspended_by_bits(token.state),
            number.sealed,
            number.keyed_hash,
            token.created_at.unix_millis(),
        ],
    )?;
    Ok(())
}

/// Card, phone and token are all of one issuer, and the card is not closed. The phone is not erased meanwhile: it has a token.
fn check_owners(connection: &Connection, token: &Token) -> Result<()> {
    lock(connection, Guard::Device, token.device)?;
    let card = cards::get_to_change(connection, token.card)?.card;
    card.status.is_kept()?;
    let device = devices::get(connection, token.device)?;
    if device.public_key.is_erased() {
        return Err(DeviceError::Erased.into());
    }
    if card.issuer != token.issuer || device.issuer != token.issuer {
        return Err(Refusal::OwnersDiffer("card, device and token").into());
    }
    Ok(())
}

/// Writes down a token's new state, with a line in its history.
pub(crate) fn write_change(connection: &Connection, change: &TokenChange) -> Result<()> {
    let (token, status) = (change.token.to_string(), change.state.status().as_str());
    let suspended_by = suspended_by_bits(change.state);
    let ended_at =
        (change.state == TokenState::Deactivated).then_some(change.at).map(Timestamp::unix_millis);
    let update = "UPDATE tokens SET status = ?2, suspended_by = ?3, ended_at = ?4 WHERE id = ?1";
    execute(connection, update, params![token, status, suspended_by, ended_at])?;
    execute(
        connection,
        "INSERT INTO token_changes
             (token_id, action, actor, reason, status, suspended_by, changed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            token,
            change.action.as_str(),
            change.actor.as_str(),
            change.reason,
            status,
            suspended_by,
            change.at.unix_millis(),
        ],
    )?;
    Ok(())
}

fn insert_key(connection: &Connection, token: TokenId, key: &GrantedKey) -> Result<()> {
    execute(
        connection,
        "INSERT INTO limited_use_keys (token_id, key_class, key_index, expires_at,
             maximum_payments, maximum_total, used_payments, used_total, granted_at,
             derivation_key_index, first_counter, counter_count)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            token.to_string(),
            key.class.to_byte(),
            key.index.to_bytes().as_slice(),
            key.expires_at.unix_millis(),
            key.maximum_payments,
            key.maximum_total_minor,
            key.used_payments,
            key.used_total_minor,
            key.granted_at.unix_millis(),
            key.derivation_key_index,
            key.counters.map(|counters| counters.first),
            key.counters.map(|counters| counters.count),
        ],
    )?;
    Ok(())
}

/// The keys of a token that new ones depend on: those that have not ended, and those that were used within
/// the lifetime of a key.
fn keys_that_count(
    connection: &Connection,
    token: TokenId,
    policy: &KeyPolicy,
    now: Timestamp,
) -> Result<Vec<GrantedKey>> {
    let lifetime_ago = now.plus_seconds(policy.lifetime_seconds.saturating_neg());
    // Each half by an index of its own; UNION names a key once.
    let sql = "SELECT * FROM limited_use_keys WHERE token_id = ?1 AND expires_at >= ?2
               UNION SELECT * FROM limited_use_keys
               WHERE token_id = ?1 AND used_payments > 0 AND granted_at >= ?3
               ORDER BY granted_at DESC, key_index DESC";
    let times = (now.unix_millis(), lifetime_ago.unix_millis());
    all(connection, sql, params![token.to_string(), times.0, times.1], read_key)
}

/// The keys of a class that have not ended.
fn keys_alive(
    connection: &Connection,
    token: TokenId,
    class: KeyClass,
    now: Timestamp,
) -> Result<Vec<GrantedKey>> {
    let sql = "SELECT * FROM limited_use_keys
               WHERE token_id = ?1 AND expires_at >= ?2 AND key_class = ?3";
    all(connection, sql, params![token.to_string(), now.unix_millis(), class.to_byte()], read_key)
}

/// The keys of tokens that have not ended.
pub(crate) fn keys_of_all(
    connection: &Connection,
    tokens: &[TokenId],
    now: Timestamp,
) -> Result<Vec<(TokenId, GrantedKey)>> {
    let one_of = connection.is_one_of();
    let sql =
        format!("SELECT * FROM limited_use_keys WHERE token_id {one_of} AND expires_at >= ?2");
    let named: Vec<_> = tokens.iter().map(ToString::to_string).collect();
    all(connection, &sql, params![named.join(" "), now.unix_millis()], |row| {
        let token = Columns::keyed(row, "limited_use_keys", "token_id").parse("token_id")?;
        Ok((token, read_key(row)?))
    })
}

/// When the token was given its first keys.
pub(crate) fn first_granted_at(
    connection: &Connection,
    token: TokenId,
) -> Result<Option<Timestamp>> {
    let sql = "SELECT id, first_granted_at FROM tokens WHERE id = ?1";
    let read = |row: &Row<'_>| Columns::new(row, "tokens").time_optional("first_granted_at");
    Ok(first(connection, sql, [token.to_string()], read)?.flatten())
}

/// A key that the token was given.
pub(crate) fn find_key(
    connection: &Connection,
    token: TokenId,
    class: KeyClass,
    index: KeyIndex,
) -> Result<Option<GrantedKey>> {
    first(
        connection,
        "SELECT * FROM limited_use_keys
         WHERE token_id = ?1 AND key_class = ?2 AND key_index = ?3",
        params![token.to_string(), class.to_byte(), index.to_bytes().as_slice()],
        read_key,
    )
}

/// Writes down what of a key is used up, and when it ends.
pub(crate) fn update_key(connection: &Connection, token: TokenId, key: &GrantedKey) -> Result<()> {
    execute(
        connection,
        "UPDATE limited_use_keys SET used_payments = ?4, used_total = ?5, expires_at = ?6
         WHERE token_id = ?1 AND key_class = ?2 AND key_index = ?3",
        params![
            token.to_string(),
            key.class.to_byte(),
            key.index.to_bytes().as_slice(),
            key.used_payments,
            key.used_total_minor,
            key.expires_at.unix_millis(),
        ],
    )?;
    Ok(())
}

/// Ends all keys of a class that the token still has.
pub(crate) fn end_keys(
    connection: &Connection,
    token: TokenId,
    class: KeyClass,
    now: Timestamp,
) -> Result<()> {
    for key in keys_alive(connection, token, class, now)? {
        update_key(connection, token, &key.ended(now))?;
    }
    Ok(())
}

/// The highest counter that came with a right cryptogram.
pub(crate) fn highest_counter(connection: &Connection, token: TokenId) -> Result<Option<u16>> {
    first(
        connection,
        "SELECT token_id, application_transaction_counter FROM transaction_counters
         WHERE token_id = ?1 AND verified = 1
         ORDER BY application_transaction_counter DESC LIMIT 1",
        [token.to_string()],
        |row| {
            let columns = Columns::keyed(row, "transaction_counters", "token_id");
            columns.number("application_transaction_counter")
        },
    )
}

impl<E: Engine> TokenStore for E {
    fn create_token(
        &self,
        token: Token,
        number: SealedNumber,
        write: Write<Token>,
    ) -> Result<Written<Token>> {
        self.change(write, AuditAction::TokenCreated, move |connection, _| {
            check_owners(connection, &token)?;
            insert(connection, &token, &number)?;
            let (id, card) = (token.id, token.card);
            Ok(Changed::new(token, id).because(format!("for {card}")))
        })
    }

    fn token(&self, id: TokenId) -> Result<Option<Token>> {
        self.read(|connection| find(connection, id))
    }

    fn sealed_token_number(&self, id: TokenId) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT id, number_sealed FROM tokens WHERE id = ?1 AND erased_at IS NULL";
        self.read(|connection| {
            first(connection, sql, [id.to_string()], |row| {
                Columns::new(row, "tokens").get("number_sealed")
            })
        })
    }

    fn list_tokens(
        &self,
        filter: TokenFilter,
        page: Page<TokenId>,
    ) -> Result<Slice<Token, TokenId>> {
        let filters = [
            ("issuer_id", filter.issuer.map(|id| id.to_string())),
            ("card_id", filter.card.map(|id| id.to_string())),
            ("device_id", filter.device.map(|id| id.to_string())),
        ];
        let list = Listing { select: "SELECT * FROM tokens", key: "id", filters: &filters };
        self.read(|connection| list.slice(connection, page, read, |token| token.id))
    }

    fn change_token(
        &self,
        id: TokenId,
        action: TokenAction,
        actor: Actor,
        reason: String,
        write: Write<Token>,
    ) -> Result<Written<Token>> {
        let audited = match action {
            TokenAction::Activate => AuditAction::TokenActivated,
            TokenAction::Suspend => AuditAction::TokenSuspended,
            TokenAction::Unsuspend => AuditAction::TokenUnsuspended,
            TokenAction::Delete => AuditAction::TokenDeleted,
        };
        self.change(write, audited, move |connection, now| {
            let mut token = get_to_change(connection, id)?;
            token.state = token.state.after(action, actor)?;
            let detail = format!("{actor}: {reason}");
            let change =
                TokenChange { token: id, action, actor, reason, state: token.state, at: now };
            write_change(connection, &change)?;
            Ok(Changed::new(token, id).because(detail))
        })
    }

    fn token_history(&self, id: TokenId) -> Result<Vec<TokenChange>> {
        let sql = "SELECT * FROM token_changes WHERE token_id = ?1 ORDER BY sequence";
        self.read(|connection| all(connection, sql, [id.to_string()], read_change))
    }

    fn grant_keys(
        &self,
        token: TokenId,
        person_key: Option<u32>,
        keys: Vec<GrantedKey>,
        write: Write<Vec<GrantedKey>>,
    ) -> Result<Written<Vec<GrantedKey>>> {
        self.change(write, AuditAction::TokenReplenished, move |connection, now| {
            lock(connection, Guard::Device, get(connection, token)?.device)?;
            let subject = get_to_change(connection, token)?;
            subject.state.may_get_keys()?;
            may_be_served(devices::get(connection, subject.device)?.lock.as_ref())?;
            cards::get(connection, subject.card)?.card.status.may_get_keys()?;
            let in_force = pins::person_key(connection, token)?.map(|key| key.state.generation);
            if in_force != person_key {
                // The old PIN would open what was sealed under the old key, after it was changed.
                return Err(StorageError::Conflict);
            }
            let issuer =
                found(issuers::find(connection, subject.issuer)?, "issuer", subject.issuer)?;
            let policy = &issuer.key_policy;
            let granted = keys_that_count(connection, token, policy, now)?;
            for ended in keys::replace(&granted, policy, now)? {
                update_key(connection, token, &ended)?;
            }
            for key in &keys {
                insert_key(connection, token, key)?;
            }
            execute(
                connection,
                "UPDATE tokens SET first_granted_at = ?2
                 WHERE id = ?1 AND first_granted_at IS NULL",
                params![token.to_string(), now.unix_millis()],
            )?;
            let detail = format!("{} keys", keys.len());
            Ok(Changed::new(keys, token).because(detail))
        })
    }

    fn keys_that_count(
        &self,
        token: TokenId,
        policy: &KeyPolicy,
        now: Timestamp,
    ) -> Result<Vec<GrantedKey>> {
        self.read(|connection| keys_that_count(connection, token, policy, now))
    }

    fn key_indices(
        &self,
        token: TokenId,
        indices: RangeInclusive<KeyIndex>,
    ) -> Result<Vec<KeyIndex>> {
        let sql = "SELECT * FROM limited_use_keys
                   WHERE token_id = ?1 AND key_class IN (1, 2) AND key_index BETWEEN ?2 AND ?3";
        let [first, last] = [indices.start(), indices.end()].map(|index| index.to_bytes());
        self.read(|connection| {
            all(
                connection,
                sql,
                params![token.to_string(), first.as_slice(), last.as_slice()],
                |row| Columns::keyed(row, "limited_use_keys", "token_id").key_index("key_index"),
            )
        })
    }

    fn highest_counter(&self, token: TokenId) -> Result<Option<u16>> {
        self.read(|connection| highest_counter(connection, token))
    }
}
