//! Decisions of a lot, written at once: a statement for each table, all of them in one round trip.
//!
//! It is what [`crate::relational::decided::write`] writes one by one. Where the same row is changed more than once the last
//! change stands, as it would there. Rows are touched in the order of what they are found by, so that two lots which pay the
//! same merchants do not wait for each other.

use std::collections::{BTreeMap, BTreeSet};

use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::{Currency, MerchantId};
use tapfer_payments::authorization::Authorization;
use tapfer_payments::ledger::{Account, LedgerError, Transfer};
use tokio_postgres::types::ToSql;

use super::session::Session;
use crate::Refusal;
use crate::decided::Decided;
use crate::relational::ledger::owner;
use crate::relational::rows::Columns;
use crate::relational::{Result, decided as one_by_one, pins, tokens};

const AUTHORIZATIONS: &str = "INSERT INTO authorizations (id, payment_intent_id, merchant_id, terminal_id, token_id,
        card_id, outcome, amount, currency, application_transaction_counter, key_index, merchant_proven, created_at)
    SELECT * FROM unnest(?1::text[], ?2::text[], ?3::text[], ?4::text[], ?5::text[], ?6::text[], ?7::bigint[],
        ?8::bigint[], ?9::text[], ?10::bigint[], ?11::bytea[], ?12::bigint[], ?13::bigint[])";
const SUSPENDED: &str =
    "UPDATE tokens SET status = change.status, suspended_by = change.suspended_by
    FROM unnest(?1::text[], ?2::text[], ?3::bigint[]) AS change (id, status, suspended_by)
    WHERE tokens.id = change.id";
const TOKEN_CHANGES: &str = "INSERT INTO token_changes
        (token_id, action, actor, reason, status, suspended_by, changed_at)
    SELECT * FROM unnest(?1::text[], ?2::text[], ?3::text[], ?4::text[], ?5::text[], ?6::bigint[], ?7::bigint[])";
/// A right cryptogram spends its counter, and one of a wrong PIN is remembered with it. Where a wrong PIN was, a right
/// cryptogram may still spend the counter.
const COUNTERS: &str = "INSERT INTO transaction_counters
        (token_id, application_transaction_counter, authorization_id, cryptogram, verified)
    SELECT * FROM unnest(?1::text[], ?2::bigint[], ?3::text[], ?4::bytea[], ?5::bigint[])
    ON CONFLICT (token_id, application_transaction_counter) DO UPDATE SET
        authorization_id = excluded.authorization_id, cryptogram = excluded.cryptogram, verified = excluded.verified
    WHERE transaction_counters.verified = 0 AND excluded.verified = 1";
const KEYS: &str = "UPDATE limited_use_keys AS key
    SET used_payments = used.payments, used_total = used.total, expires_at = used.ends
    FROM unnest(?1::text[], ?2::bigint[], ?3::bytea[], ?4::bigint[], ?5::bigint[], ?6::bigint[])
        AS used (token, class, index, payments, total, ends)
    WHERE key.token_id = used.token AND key.key_class = used.class AND key.key_index = used.index";
const PERSON_KEYS: &str = "UPDATE person_keys AS key SET failed = tried.failed, reset_granted = tried.reset_granted
    FROM unnest(?1::text[], ?2::bigint[], ?3::bigint[], ?4::bigint[]) AS tried (token, generation, failed, reset_granted)
    WHERE key.token_id = tried.token AND key.generation = tried.generation";
const CARD_PINS: &str = "INSERT INTO card_pins (card_id, value, failed)
    SELECT * FROM unnest(?1::text[], ?2::bytea[], ?3::bigint[])
    ON CONFLICT (card_id) DO UPDATE SET value = excluded.value, failed = excluded.failed";
const HISTORIES: &str = "INSERT INTO token_histories
        (token_id, payments, sum_minor, verified_counter, verified_by, since_login)
    SELECT * FROM unnest(?1::text[], ?2::bigint[], ?3::bigint[], ?4::bigint[], ?5::text[], ?6::bigint[])
    ON CONFLICT (token_id) DO UPDATE SET payments = excluded.payments, sum_minor = excluded.sum_minor,
        verified_counter = excluded.verified_counter, verified_by = excluded.verified_by,
        since_login = excluded.since_login";
const INTENTS: &str = "UPDATE payment_intents AS intent SET status = now.status, armed_terminal_id = now.terminal,
        arming_state = now.arming, arming_expires_at = now.armed_until, authorization_id = now.authorization_id,
        captured = now.captured, refunded = now.refunded
    FROM unnest(?1::text[], ?2::text[], ?3::text[], ?4::text[], ?5::bigint[], ?6::text[], ?7::bigint[], ?8::bigint[])
        AS now (id, status, terminal, arming, armed_until, authorization_id, captured, refunded)
    WHERE intent.id = now.id";
const TRANSFERS: &str = "INSERT INTO ledger_transfers
        (kind, from_kind, from_owner, to_kind, to_owner, amount, currency, cause, created_at)
    SELECT * FROM unnest(?1::text[], ?2::text[], ?3::text[], ?4::text[], ?5::text[], ?6::bigint[], ?7::text[],
        ?8::text[], ?9::bigint[])";
const ANSWERS: &str = "INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at, mac)
    SELECT * FROM unnest(?1::text[], ?2::text[], ?3::bytea[], ?4::bigint[], ?5::bytea[], ?6::bigint[], ?7::bytea[])";
const AUDIT: &str = "INSERT INTO audit_inbox
        (at, api_key_id, role, origin, request_id, action, object, result, detail)
    SELECT * FROM unnest(?1::bigint[], ?2::text[], ?3::text[], ?4::text[], ?5::text[], ?6::text[], ?7::text[],
        ?8::text[], ?9::text[])";
/// What is taken of cards: a card has an account if it could pay, and it is guarded by its card.
/// One without it is a failure of the transaction: nobody looks at an answer before the commit behind it.
const TAKEN: &str = "WITH took AS (
        UPDATE accounts SET balance = accounts.balance + taken.change
        FROM unnest(?1::text[], ?2::text[], ?3::text[], ?4::bigint[]) AS taken (kind, owner, currency, change)
        WHERE accounts.kind = taken.kind AND accounts.owner = taken.owner AND accounts.currency = taken.currency
        RETURNING 1)
    SELECT 1 / CASE WHEN (SELECT count(*) FROM took) = cardinality(?1::text[]) THEN 1 ELSE 0 END AS all_of_them";
/// What is given: what a merchant is owed changes beside this, and so the change is added to what is there by then.
const GIVEN: &str = "INSERT INTO accounts (kind, owner, currency, balance)
    SELECT * FROM unnest(?1::text[], ?2::text[], ?3::text[], ?4::bigint[])
    ON CONFLICT (kind, owner, currency) DO UPDATE SET balance = accounts.balance + excluded.balance";

/// Whom these intents are to be paid.
const MERCHANTS: &str =
    "SELECT DISTINCT merchant_id, currency FROM payment_intents WHERE id = ANY (?1::text[])";

/// A statement and its columns: the values of all rows for one parameter.
type Asked<'a> = (&'static str, Vec<Box<dyn ToSql + Sync + 'a>>);

fn column<'a, T: ToSql + Sync + 'a>(values: impl Iterator<Item = T>) -> Box<dyn ToSql + Sync + 'a> {
    Box::new(values.collect::<Vec<T>>())
}

/// Asks a statement for rows, if there are any: what of a row is each parameter.
macro_rules! ask {
    ($asked:expr, $sql:expr, for $row:pat in $rows:expr => { $($value:expr),+ $(,)? }) => {
        #[allow(unused_variables, reason = "each column is of a part of the row")]
        {
            if !$rows.is_empty() {
                $asked.push(($sql, vec![$(column($rows.iter().map(|$row| $value))),+]));
            }
        }
    };
}

/// Writes everything down, and commits: the authorizations, what the taps used up, the intents, the bookings, the answers, the
/// lines in the audit log. All of it or nothing: one row that cannot be written fails the transaction.
///
/// # Errors
/// As [`Session::commit_behind`].
pub(super) fn write_and_commit(session: &Session, decided: &[Decided]) -> Result<()> {
    let (bookings, moved) = booked(decided)?;
    let (taken, given): (Vec<_>, Vec<_>) = moved.into_iter().partition(|(_, change)| *change < 0);
    let events: Vec<_> = decided.iter().flat_map(one_by_one::events).collect();
    let mut asked = Vec::new();
    ask_authorizations(&mut asked, decided);
    ask_used_up(&mut asked, decided);
    ask_intents(&mut asked, decided);
    ask_answers(&mut asked, decided);
    ask!(asked, TRANSFERS, for (cause, transfer) in bookings => {
        transfer.kind().as_str(),
        transfer.from().kind().as_str(),
        owner(transfer.from()),
        transfer.to().kind().as_str(),
        owner(transfer.to()),
        transfer.amount().minor,
        transfer.amount().currency.code().to_owned(),
        cause.id.to_string(),
        cause.created_at.unix_millis(),
    });
    ask!(asked, AUDIT, for event in events => {
        event.at.unix_millis(),
        event.caller.api_key.map(|key| key.to_string()),
        event.caller.role.as_str(),
        &event.caller.origin,
        &event.caller.request_id,
        event.action.as_str(),
        &event.object,
        event.result.as_str(),
        &event.detail,
    });
    // Last: merchants that many payments share are kept for a short time.
    ask_balances(&mut asked, TAKEN, &taken);
    ask_balances(&mut asked, GIVEN, &given);
    session.commit_behind(&statements(&asked))
}

/// Locks what the merchants of these intents are owed, in the order in which it is given together: whoever writes decisions one
/// by one comes to them in any order.
pub(super) fn lock_merchants(session: &Session, intents: &Vec<String>) -> Result<()> {
    let found = session.ask_all(&[(MERCHANTS, vec![intents])])?;
    let paid = found.iter().flatten().filter_map(|row| {
        let columns = Columns::keyed(row, "payment_intents", "merchant_id");
        // One that makes no sense is nobody's who is paid.
        Some((columns.parse("merchant_id").ok()?, columns.parse("currency").ok()?))
    });
    let accounts = paid.map(|(merchant, currency): (MerchantId, Currency)| {
        let account = Account::MerchantPayable(merchant);
        ((account.kind().as_str(), owner(account), currency.code().to_owned()), 0)
    });
    let accounts: Vec<Moved> = accounts.collect::<BTreeSet<_>>().into_iter().collect();
    let mut asked = Vec::new();
    ask_balances(&mut asked, GIVEN, &accounts);
    session.ask_all(&statements(&asked)).map(drop)
}

fn statements<'a>(asked: &'a [Asked<'_>]) -> Vec<super::session::Asked<'a>> {
    let statements =
        asked.iter().map(|(sql, columns)| (*sql, columns.iter().map(Box::as_ref).collect()));
    statements.collect()
}

/// An account as its table is ordered, and by how much it changes.
type Moved = ((&'static str, String, String), i64);

/// What is booked in which order, and what it comes to on each account. What is held and taken at once changes nothing
/// on the account of what is held.
#[expect(clippy::type_complexity, reason = "two views of the same bookings")]
fn booked(decided: &[Decided]) -> Result<(Vec<(&Authorization, Transfer)>, Vec<Moved>)> {
    let mut bookings = Vec::new();
    let mut moved: BTreeMap<_, i64> = BTreeMap::new();
    for one in decided {
        for transfer in one_by_one::transfers(one)? {
            for (account, change) in transfer.changes() {
                let currency = transfer.amount().currency.code().to_owned();
                let place = (account.kind().as_str(), owner(account), currency);
                let sum = moved.entry(place).or_default();
                let out_of_range = || Refusal::from(LedgerError::OutOfRange);
                *sum = sum.checked_add(change).ok_or_else(out_of_range)?;
            }
            bookings.push((&one.authorization, transfer));
        }
    }
    Ok((bookings, moved.into_iter().filter(|(_, change)| *change != 0).collect()))
}

fn ask_authorizations<'a>(asked: &mut Vec<Asked<'a>>, decided: &'a [Decided]) {
    let made: Vec<_> = decided.iter().map(|decided| &decided.authorization).collect();
    ask!(asked, AUTHORIZATIONS, for made in made => {
        made.id.to_string(),
        made.payment_intent.to_string(),
        made.merchant.to_string(),
        made.terminal.to_string(),
        made.token.map(|id| id.to_string()),
        made.card.map(|id| id.to_string()),
        i64::from(made.outcome.number()),
        made.amount.minor,
        made.amount.currency.code(),
        i64::from(made.application_transaction_counter),
        made.key_index.map(|index| index.to_bytes().to_vec()),
        i64::from(made.merchant_proven),
        made.created_at.unix_millis(),
    });
}

/// What the taps used up: counters, uses of keys, tries of PINs; and tokens of which there are two copies.
fn ask_used_up<'a>(asked: &mut Vec<Asked<'a>>, decided: &'a [Decided]) {
    let changes: Vec<_> = decided.iter().filter_map(one_by_one::suspension).collect();
    ask!(asked, SUSPENDED, for change in changes => {
        change.token.to_string(),
        change.state.status().as_str(),
        i64::from(tokens::suspended_by_bits(change.state)),
    });
    ask!(asked, TOKEN_CHANGES, for change in changes => {
        change.token.to_string(),
        change.action.as_str(),
        change.actor.as_str(),
        change.reason.clone(),
        change.state.status().as_str(),
        i64::from(tokens::suspended_by_bits(change.state)),
        change.at.unix_millis(),
    });
    let of_token =
        decided.iter().filter_map(|decided| Some((decided.authorization.token?, decided)));
    let of_token: Vec<_> = of_token.collect();
    let each = of_token.iter();
    let spent: Vec<_> =
        each.clone().filter_map(|(id, made)| Some((id, made, made.spent?))).collect();
    ask!(asked, COUNTERS, for (token, made, spent) in spent => {
        token.to_string(),
        i64::from(made.authorization.application_transaction_counter),
        spent.authorization.to_string(),
        spent.cryptogram.map(|cryptogram| cryptogram.to_vec()),
        i64::from(spent.verified),
    });
    let keys = each.clone().filter_map(|(id, made)| Some((id, made.used_key?)));
    let keys = last_of(keys.map(|(id, key)| ((id, key.class.to_byte(), key.index), key)));
    ask!(asked, KEYS, for ((token, class, index), key) in keys => {
        token.to_string(),
        i64::from(*class),
        index.to_bytes().to_vec(),
        i64::from(key.used_payments),
        key.used_total_minor,
        key.expires_at.unix_millis(),
    });
    let tried = each.clone().filter_map(|(id, made)| Some((id, made.person_key?)));
    let tried = last_of(tried.map(|(id, key)| ((id, key.generation), key)));
    ask!(asked, PERSON_KEYS, for ((token, generation), key) in tried => {
        token.to_string(),
        i64::from(*generation),
        i64::from(key.failed),
        i64::from(key.reset_granted),
    });
    let pins =
        each.clone().filter_map(|(_, made)| Some((made.authorization.card?, made.card_pin?)));
    let pins = last_of(pins);
    ask!(asked, CARD_PINS, for (card, pin) in pins => {
        card.to_string(),
        pin.value.to_vec(),
        i64::from(pin.failed),
    });
    let histories = last_of(each.filter_map(|(id, made)| Some((id, made.history?))));
    ask!(asked, HISTORIES, for (token, history) in histories => {
        token.to_string(),
        i64::from(history.since.payments),
        history.since.sum_minor,
        history.last.map(|last| i64::from(last.application_transaction_counter)),
        history.last.and_then(|last| pins::word(last.reached)),
        i64::from(history.since_login),
    });
}

fn ask_intents<'a>(asked: &mut Vec<Asked<'a>>, decided: &'a [Decided]) {
    let intents = decided.iter().filter_map(|decided| decided.intent.as_ref());
    let intents = last_of(intents.map(|intent| (intent.id, intent)));
    ask!(asked, INTENTS, for (id, intent) in intents => {
        id.to_string(),
        intent.status.as_str(),
        intent.arming.map(|arming| arming.terminal.to_string()),
        intent.arming.map(|arming| arming.state.as_str()),
        intent.arming.map(|arming| arming.expires_at.unix_millis()),
        intent.authorization.map(|id| id.to_string()),
        intent.captured_minor,
        intent.refunded_minor,
    });
}

fn ask_answers<'a>(asked: &mut Vec<Asked<'a>>, decided: &'a [Decided]) {
    let answers = decided
        .iter()
        .filter_map(|decided| Some((decided.answer.as_ref()?, decided.authorization.created_at)))
        .filter(|_| !is_skipped(Control::Idempotency));
    let answers: Vec<_> = answers.collect();
    ask!(asked, ANSWERS, for (given, at) in answers => {
        given.api_key.to_string(),
        given.key.as_str(),
        given.fingerprint.to_vec(),
        i64::from(given.response.status),
        &given.response.body,
        at.unix_millis(),
        given.mac.map(|mac| mac.to_vec()),
    });
}

fn ask_balances<'a>(asked: &mut Vec<Asked<'a>>, sql: &'static str, moved: &'a [Moved]) {
    ask!(asked, sql, for ((kind, owner, currency), change) in moved => {
        *kind,
        owner,
        currency,
        *change,
    });
}

/// The last of each, in the order of what they are found by.
fn last_of<K: Ord, V>(rows: impl Iterator<Item = (K, V)>) -> Vec<(K, V)> {
    rows.collect::<BTreeMap<_, _>>().into_iter().collect()
}
