//! One decided payment as the journal keeps it.

use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_payment_types::policy::{LastVerified, Requirement, SinceVerified};
use tapfer_payment_types::{
    ApiKeyId, AuthorizationId, CardId, IssuerId, MerchantId, Money, PaymentIntentId, TerminalId,
    Timestamp, TokenId,
};
use tapfer_payments::audit::Caller;
use tapfer_payments::authorization::{Authorization, Outcome, SpentCounter};
use tapfer_payments::intents::{Arming, PaymentIntent};
use tapfer_payments::keys::{CounterRange, GrantedKey};
use tapfer_payments::pins::{CardPin, PersonKeyState, VerificationHistory};
use tapfer_payments::tokens::{SuspendedBy, TokenState};

use super::bytes::{NoRecord, Put, Take};
use crate::StoredResponse;
use crate::decided::Decided;
use crate::idempotency::GivenAnswer;

type Result<T> = std::result::Result<T, NoRecord>;

/// What a person can be asked for, each at its number. The order is never changed.
pub(super) const REQUIREMENTS: [Requirement; 5] = [
    Requirement::Anything,
    Requirement::ScreenOn,
    Requirement::Unlocked,
    Requirement::AppPin,
    Requirement::TerminalPin,
];

const NO_ANSWER: u8 = 0;
/// As it was written before answers were vouched for.
const ANSWER: u8 = 1;
const VOUCHED_ANSWER: u8 = 2;

/// Puts a record behind what is there.
pub(crate) fn put(to: &mut Put, decided: &Decided) {
    put_authorization(to, &decided.authorization);
    put_caller(to, &decided.caller);
    to.option(decided.asked_key, |to, (issuer, generation)| {
        to.raw(&issuer.to_bits().to_be_bytes());
        to.raw(&[generation]);
    });
    to.option(decided.spent, |to, spent| {
        to.option(spent.cryptogram, |to, cryptogram| to.raw(&cryptogram));
        to.flag(spent.verified);
    });
    to.option(decided.used_key.as_ref(), put_key);
    to.option(decided.person_key, |to, state| {
        to.raw(&state.generation.to_be_bytes());
        to.raw(&[state.failed]);
        to.flag(state.reset_granted);
    });
    to.option(decided.card_pin, |to, pin| {
        to.raw(&pin.value);
        to.raw(&[pin.failed]);
    });
    to.option(decided.history, put_history);
    to.option(decided.suspended, put_state);
    to.option(decided.intent.as_ref(), put_intent);
    put_answer(to, decided.answer.as_ref());
}

/// Takes a record from the front.
pub(crate) fn take(from: &mut Take<'_>) -> Result<Decided> {
    let authorization = take_authorization(from)?;
    let caller = take_caller(from)?;
    let asked_key = from.option("asked key", |from| {
        Ok((IssuerId::from_bits(from.u128("issuer")?), from.u8("generation")?))
    })?;
    let spent = from.option("spent counter", |from| {
        Ok(SpentCounter {
            authorization: authorization.id,
            payment_intent: authorization.payment_intent,
            terminal: authorization.terminal,
            cryptogram: from.option("cryptogram", |from| from.array("cryptogram"))?,
            verified: from.flag("verified")?,
        })
    })?;
    Ok(Decided {
        caller,
        asked_key,
        spent,
        used_key: from.option("used key", take_key)?,
        person_key: from.option("person's key", |from| {
            Ok(PersonKeyState {
                generation: from.u32("person's key")?,
                failed: from.u8("person's key")?,
                reset_granted: from.flag("person's key")?,
            })
        })?,
        card_pin: from.option("card's PIN", |from| {
            Ok(CardPin { value: from.array("card's PIN")?, failed: from.u8("card's PIN")? })
        })?,
        history: from.option("history", take_history)?,
        suspended: from.option("token state", take_state)?,
        intent: from.option("intent", take_intent)?,
        answer: take_answer(from)?,
        authorization,
    })
}

/// Who asked.
pub(crate) fn put_caller(to: &mut Put, caller: &Caller) {
    to.option(caller.api_key, |to, key| to.raw(&key.to_bits().to_be_bytes()));
    to.text(caller.role.as_str());
    to.text(&caller.origin);
    to.text(&caller.request_id);
}

/// Who asked.
pub(crate) fn take_caller(from: &mut Take<'_>) -> Result<Caller> {
    Ok(Caller {
        api_key: from.option("api key", |from| Ok(ApiKeyId::from_bits(from.u128("api key")?)))?,
        role: from.parse("role")?,
        origin: from.text("origin")?.to_owned(),
        request_id: from.text("request id")?.to_owned(),
    })
}

/// The byte in front says whether there is one, and whether it is vouched for.
pub(crate) fn put_answer(to: &mut Put, answer: Option<&GivenAnswer>) {
    let Some(GivenAnswer { api_key, key, fingerprint, response, mac }) = answer else {
        return to.raw(&[NO_ANSWER]);
    };
    to.raw(&[if mac.is_some() { VOUCHED_ANSWER } else { ANSWER }]);
    to.raw(&api_key.to_bits().to_be_bytes());
    to.text(key.as_str());
    to.raw(fingerprint);
    to.raw(&response.status.to_be_bytes());
    to.bytes(&response.body);
    if let Some(mac) = mac {
        to.raw(mac);
    }
}

/// What was answered, and under which claim.
pub(crate) fn take_answer(from: &mut Take<'_>) -> Result<Option<GivenAnswer>> {
    let is_vouched = match from.u8("answer")? {
        NO_ANSWER => return Ok(None),
        ANSWER => false,
        VOUCHED_ANSWER => true,
        _ => return Err(NoRecord("answer")),
    };
    let api_key = ApiKeyId::from_bits(from.u128("claim")?);
    let key = from.parse("idempotency key")?;
    let fingerprint = from.array("fingerprint")?;
    let (status, body) = (from.u16("status")?, from.bytes("body")?.to_vec());
    let mac = if is_vouched { Some(from.array("mac")?) } else { None };
    let response = StoredResponse { status, body };
    Ok(Some(GivenAnswer { api_key, key, fingerprint, response, mac }))
}

fn put_authorization(to: &mut Put, authorization: &Authorization) {
    to.raw(&authorization.id.to_bits().to_be_bytes());
    to.raw(&authorization.payment_intent.to_bits().to_be_bytes());
    to.raw(&authorization.merchant.to_bits().to_be_bytes());
    to.raw(&authorization.terminal.to_bits().to_be_bytes());
    to.option(authorization.token, |to, id| to.raw(&id.to_bits().to_be_bytes()));
    to.option(authorization.card, |to, id| to.raw(&id.to_bits().to_be_bytes()));
    to.raw(&authorization.outcome.number().to_be_bytes());
    to.flag(authorization.merchant_proven);
    put_money(to, authorization.amount);
    to.raw(&authorization.application_transaction_counter.to_be_bytes());
    to.option(authorization.key_index, |to, index| to.raw(&index.to_bytes()));
    to.raw(&authorization.created_at.unix_millis().to_be_bytes());
}

fn take_authorization(from: &mut Take<'_>) -> Result<Authorization> {
    Ok(Authorization {
        id: AuthorizationId::from_bits(from.u128("authorization")?),
        payment_intent: PaymentIntentId::from_bits(from.u128("intent")?),
        merchant: MerchantId::from_bits(from.u128("merchant")?),
        terminal: TerminalId::from_bits(from.u128("terminal")?),
        token: from.option("token", |from| Ok(TokenId::from_bits(from.u128("token")?)))?,
        card: from.option("card", |from| Ok(CardId::from_bits(from.u128("card")?)))?,
        outcome: Outcome::from_number(from.u16("outcome")?).ok_or(NoRecord("outcome"))?,
        merchant_proven: from.flag("merchant proven")?,
        amount: take_money(from)?,
        application_transaction_counter: from.u16("counter")?,
        key_index: from.option("key index", take_key_index)?,
        reversal: None,
        created_at: take_time(from, "decided at")?,
    })
}

fn put_money(to: &mut Put, money: Money) {
    to.raw(&money.minor.to_be_bytes());
    to.text(money.currency.code());
}

fn take_money(from: &mut Take<'_>) -> Result<Money> {
    let minor = from.i64("amount")?;
    Ok(Money::new(minor, from.parse("currency")?))
}

/// Milliseconds since 1970.
pub(crate) fn take_time(from: &mut Take<'_>, what: &'static str) -> Result<Timestamp> {
    from.i64(what).map(Timestamp::from_unix_millis)
}

fn take_key_index(from: &mut Take<'_>) -> Result<KeyIndex> {
    KeyIndex::from_bytes(from.array("key index")?).map_err(|_| NoRecord("key index"))
}

fn put_key(to: &mut Put, key: &GrantedKey) {
    to.raw(&key.index.to_bytes());
    to.raw(&[key.class.to_byte(), key.derivation_key_index]);
    to.raw(&key.granted_at.unix_millis().to_be_bytes());
    to.raw(&key.expires_at.unix_millis().to_be_bytes());
    to.raw(&key.maximum_payments.to_be_bytes());
    to.raw(&key.maximum_total_minor.to_be_bytes());
    to.raw(&key.used_payments.to_be_bytes());
    to.raw(&key.used_total_minor.to_be_bytes());
    to.option(key.counters, |to, counters| {
        to.raw(&counters.first.to_be_bytes());
        to.raw(&counters.count.to_be_bytes());
    });
}

fn take_key(from: &mut Take<'_>) -> Result<GrantedKey> {
    Ok(GrantedKey {
        index: take_key_index(from)?,
        class: KeyClass::from_byte(from.u8("key class")?).ok_or(NoRecord("key class"))?,
        derivation_key_index: from.u8("generation")?,
        granted_at: take_time(from, "granted at")?,
        expires_at: take_time(from, "expires at")?,
        maximum_payments: from.u16("maximum payments")?,
        maximum_total_minor: from.i64("maximum total")?,
        used_payments: from.u16("used payments")?,
        used_total_minor: from.i64("used total")?,
        counters: from.option("counters", |from| {
            Ok(CounterRange { first: from.u16("counters")?, count: from.u16("counters")? })
        })?,
    })
}

fn put_history(to: &mut Put, history: VerificationHistory) {
    to.raw(&history.since.payments.to_be_bytes());
    to.raw(&history.since.sum_minor.to_be_bytes());
    to.option(history.last, |to, last| {
        to.raw(&last.application_transaction_counter.to_be_bytes());
        let number = REQUIREMENTS.iter().position(|known| *known == last.reached);
        to.raw(&[number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)]);
    });
    to.raw(&history.since_login.to_be_bytes());
}

fn take_history(from: &mut Take<'_>) -> Result<VerificationHistory> {
    let since = SinceVerified { payments: from.u32("history")?, sum_minor: from.i64("history")? };
    let last = from.option("last verified", |from| {
        let application_transaction_counter = from.u16("last verified")?;
        let number = usize::from(from.u8("last verified")?);
        let reached = *REQUIREMENTS.get(number).ok_or(NoRecord("last verified"))?;
        Ok(LastVerified { application_transaction_counter, reached })
    })?;
    Ok(VerificationHistory { since, last, since_login: from.u32("history")? })
}

/// As the tables have it: whoever suspended it, or a number above all of those.
fn put_state(to: &mut Put, state: TokenState) {
    to.raw(&[match state {
        TokenState::Active => 0,
        TokenState::Suspended(by) => by.bits(),
        TokenState::Inactive => 0xFE,
        TokenState::Deactivated => 0xFF,
    }]);
}

fn take_state(from: &mut Take<'_>) -> Result<TokenState> {
    match from.u8("token state")? {
        0 => Ok(TokenState::Active),
        0xFE => Ok(TokenState::Inactive),
        0xFF => Ok(TokenState::Deactivated),
        bits => {
            let by = SuspendedBy::from_bits(bits).ok_or(NoRecord("token state"))?;
            Ok(TokenState::Suspended(by))
        }
    }
}

/// A payment intent as it stands.
pub(crate) fn put_intent(to: &mut Put, intent: &PaymentIntent) {
    to.raw(&intent.id.to_bits().to_be_bytes());
    to.raw(&intent.merchant.to_bits().to_be_bytes());
    put_money(to, intent.amount);
    to.option(intent.reference.as_deref(), Put::text);
    to.text(intent.capture_method.as_str());
    to.text(intent.status.as_str());
    to.option(intent.arming, |to, arming| {
        to.raw(&arming.terminal.to_bits().to_be_bytes());
        to.text(arming.state.as_str());
        to.raw(&arming.expires_at.unix_millis().to_be_bytes());
    });
    to.option(intent.authorization, |to, id| to.raw(&id.to_bits().to_be_bytes()));
    to.raw(&intent.captured_minor.to_be_bytes());
    to.raw(&intent.refunded_minor.to_be_bytes());
    to.raw(&intent.created_at.unix_millis().to_be_bytes());
}

/// A payment intent as it stands.
pub(crate) fn take_intent(from: &mut Take<'_>) -> Result<PaymentIntent> {
    Ok(PaymentIntent {
        id: PaymentIntentId::from_bits(from.u128("intent")?),
        merchant: MerchantId::from_bits(from.u128("merchant")?),
        amount: take_money(from)?,
        reference: from.option("reference", |from| Ok(from.text("reference")?.to_owned()))?,
        capture_method: from.parse("capture method")?,
        status: from.parse("intent status")?,
        arming: from.option("arming", |from| {
            Ok(Arming {
                terminal: TerminalId::from_bits(from.u128("arming")?),
                state: from.parse("arming")?,
                expires_at: take_time(from, "arming")?,
            })
        })?,
        authorization: from
            .option("approval", |from| Ok(AuthorizationId::from_bits(from.u128("approval")?)))?,
        captured_minor: from.i64("captured")?,
        refunded_minor: from.i64("refunded")?,
        created_at: take_time(from, "created at")?,
    })
}
