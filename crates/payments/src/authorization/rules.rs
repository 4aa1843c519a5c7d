//! The rules of a decision, in order of precedence.
//!
//! First whether the terminal is still in service, then whether the number is a token's, then whether the
//! card really signed this: without a right cryptogram nobody learns how a token or a card stands, or
//! which counters were used. One exception: a cryptogram under the person's key that the phone was given is
//! judged late ([`super::person`]), because that it is wrong is for the person to mend, and must not be told
//! where it does not count. Then whether token and card may pay, and whether the tap is new. Whether the
//! phone meant this terminal and whether the terminal was armed comes after that, because a replay usually
//! meets a terminal that waits for nothing and should still be called by its name. What the person can
//! mend by herself stands last.

use tapfer_emv::cryptogram::CryptogramInput;
use tapfer_emv::iad::{IssuerApplicationData, VerificationMethod, VerificationResults};
use tapfer_emv::keys::KeyClass;
use tapfer_emv::own_checks::OwnChecks;
use tapfer_emv::packed_decimal;
use tapfer_emv::tvr::{self, TerminalVerificationResults};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::policy::{Requirement, Shown};

use super::Evidence;
use super::facts::{Facts, PresentedPayment, TokenFacts};
use super::outcome::{DeclineReason, Outcome};
use super::person::PersonKeyUse;
use crate::cards::CardStatus;
use crate::issuers::CountryCode;
use crate::pins::{PersonKeyState, TerminalPin, VerificationHistory};
use crate::tokens::TokenStatus;

/// `9C`: purchase of goods and services (ISO 8583 processing code).
const PURCHASE: u8 = 0x00;
/// By so much a phone's clock may be behind, and its first keys be late: an hour.
const CLOCKS_DIFFER_MILLIS: i64 = 3_600_000;
/// The terminal's date is local: it may be one day before or after the date in UTC.
const DAY_MILLIS: i64 = 86_400_000;

/// All bits of `95` but those that may stand in a good payment: versions that differ, an exceeded floor
/// limit, the mark of Kernel 8, and whether the relay check was performed. That the person was not verified
/// has a reason of its own.
const SERIOUS_FINDINGS: [u8; 5] = [0xFF, 0x7F, 0x7F, 0x7F, SERIOUS_IN_BYTE_5];
/// The same once the card has answered: only then can a PIN have been entered at the terminal.
const SERIOUS_FINDINGS_IN_THE_END: [u8; 5] = [0xFF, 0x7F, 0x7B, 0x7F, SERIOUS_IN_BYTE_5];
/// The slow relay is among them.
const SERIOUS_IN_BYTE_5: u8 = 0x7C;

/// A payment by a known token, as the rules see it.
struct Case<'a> {
    facts: &'a Facts,
    presented: &'a PresentedPayment,
    signed: &'a CryptogramInput,
    application_data: Option<IssuerApplicationData>,
    token: &'a TokenFacts,
    evidence: &'a Evidence,
    now: Timestamp,
}

/// A rule speaks against a payment, or not.
type Rule = (DeclineReason, fn(&Case<'_>) -> bool);

/// All rules but the first, which is that there must be a token at all.
const RULES: &[Rule] = &[
    (DeclineReason::CryptogramInvalid, is_forged),
    (DeclineReason::TokenInactive, |case| case.status() == TokenStatus::Inactive),
    (DeclineReason::TokenSuspended, is_suspended),
    (DeclineReason::TokenDeactivated, |case| case.status() == TokenStatus::Deactivated),
    (DeclineReason::CardBlocked, is_blocked),
    (DeclineReason::CardExpired, |case| case.token.card.expiry.is_past(case.now)),
    (DeclineReason::IssuerMismatch, is_other_issuer),
    (DeclineReason::AidMismatch, is_other_application),
    (DeclineReason::CounterReused, |case| case.token.is_copied(case.presented)),
    (DeclineReason::Replay, |case| case.token.is_spent_for(case.presented)),
    (DeclineReason::CounterStale, is_stale),
    (DeclineReason::CardDeclined, |case| case.presented.is_declined_by_card()),
    (DeclineReason::MerchantMismatch, is_other_merchant),
    (DeclineReason::TerminalNotArmed, is_not_armed),
    (DeclineReason::AmountMismatch, is_other_amount),
    (DeclineReason::CurrencyMismatch, is_other_currency),
    (DeclineReason::TransactionTypeUnsupported, |case| case.signed.transaction_type != PURCHASE),
    (DeclineReason::KeyUnknown, is_key_unknown),
    (DeclineReason::KeyExpired, is_key_expired),
    (DeclineReason::KeyExhausted, is_key_exhausted),
    (DeclineReason::StaleDate, is_date_stale),
    (DeclineReason::LocalAuthenticationFailed, is_not_authenticated_locally),
    (DeclineReason::TerminalChecksFailed, is_found_wrong),
    (DeclineReason::DeviceIntegrity, is_phone_not_good_enough),
    (DeclineReason::LoginRequired, is_login_due),
    (DeclineReason::MerchantProofRequired, is_merchant_unproven),
    (DeclineReason::PinBlocked, is_pin_blocked),
    (DeclineReason::PinWrong, is_pin_wrong),
    (DeclineReason::VerificationRequired, is_unverified),
    (DeclineReason::InsufficientFunds, |case| {
        case.token.available.minor < case.facts.intent.amount.minor
    }),
];

/// The first reason against the payment, or approval.
pub(super) fn outcome(facts: &Facts, evidence: &Evidence, now: Timestamp) -> Outcome {
    if facts.terminal.terminal.revocation.is_some() {
        return Outcome::Declined(DeclineReason::TerminalRevoked);
    }
    let Some(token) = &facts.token else {
        return Outcome::Declined(DeclineReason::UnknownToken);
    };
    let (presented, signed) = (&facts.presented, &facts.presented.input);
    let application_data = signed.application_data();
    let case = Case { facts, presented, signed, application_data, token, evidence, now };
    match RULES.iter().find(|(_, speaks_against)| speaks_against(&case)) {
        Some((reason, _)) => Outcome::Declined(*reason),
        // Whatever the rules above overlook: no money without a right cryptogram.
        None if !evidence.proven => Outcome::Declined(DeclineReason::CryptogramInvalid),
        None => Outcome::Approved,
    }
}

/// The person's key after a PIN on the phone that counted. A wrong one costs a try, whatever else speaks against
/// the payment. A right one gives the tries back only with a payment that nothing but money speaks against: a
/// cryptogram that was recorded before the PIN was guessed at, or made by an old copy, buys no more guesses.
pub(super) fn person_key_after(
    state: PersonKeyState,
    outcome: Outcome,
    proven: bool,
) -> PersonKeyState {
    match (proven, is_good_but_for_money(outcome)) {
        (false, _) => state.after(false),
        (true, true) => state.after(true),
        (true, false) => state,
    }
}

const fn is_good_but_for_money(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Approved | Outcome::Declined(DeclineReason::InsufficientFunds))
}

/// Whether a PIN at the terminal was looked at, and was right: only where nothing before it spoke against
/// the payment.
pub(super) fn judged_terminal_pin(outcome: Outcome, evidence: &Evidence) -> Option<bool> {
    let is_judged = match outcome {
        Outcome::Declined(DeclineReason::PinWrong) => evidence.proven,
        other => is_good_but_for_money(other),
    };
    match evidence.terminal_pin {
        TerminalPin::Right if is_judged => Some(true),
        TerminalPin::Wrong if is_judged => Some(false),
        _ => None,
    }
}

/// The token's history behind a payment whose cryptogram was right. What the phone declined it did not count,
/// whoever passed it on as a request. A policy that no payment may name any more starts no count again: it
/// may have asked for nothing, and a tap that is declined for it is cheap.
pub(super) fn history_after(
    presented: &PresentedPayment,
    token: &TokenFacts,
    judged_pin: Option<bool>,
    now: Timestamp,
) -> Option<VerificationHistory> {
    if presented.is_declined_by_card() {
        return None;
    }
    let charge = presented.charge_minor(token.issuer.currency);
    let Some(issued) = token.policy_in_force(now) else {
        return Some(token.history.after_unverified(charge));
    };
    let data = presented.input.application_data()?;
    let reached = shown(&data.results, judged_pin == Some(true)).reached();
    let counter = presented.application_transaction_counter();
    Some(token.history.after(&issued.policy, charge, counter, reached))
}

/// What the payment showed of phone and person.
fn shown(results: &VerificationResults, terminal_pin: bool) -> Shown {
    Shown {
        screen_on: results.screen_on,
        unlocked: results.unlocked && results.method == VerificationMethod::DeviceUnlock,
        // Only a key that needs the PIN to be opened proves it; any other lies open on the phone.
        app_pin: results.key_class == KeyClass::Verified
            && results.method == VerificationMethod::Pin,
        terminal_pin,
    }
}

impl Case<'_> {
    /// What the terminal found (`95`): what it knew before the card signed, and what it knew in the end.
    fn found(&self) -> [TerminalVerificationResults; 2] {
        let signed = TerminalVerificationResults::from_bytes(self.signed.tvr);
        [signed, self.presented.tvr_as_found]
    }

    fn status(&self) -> TokenStatus {
        self.token.token.state.status()
    }
}

fn is_suspended(case: &Case<'_>) -> bool {
    case.status() == TokenStatus::Suspended && !is_skipped(Control::TokenSuspension)
}

fn is_blocked(case: &Case<'_>) -> bool {
    case.token.card.status != CardStatus::Active && !is_skipped(Control::CardBlock)
}

/// Another generation of keys, or a policy that the issuer never gave.
fn is_other_issuer(case: &Case<'_>) -> bool {
    let issuer = &case.token.issuer;
    // Keys outlive the rotation of the master key.
    let newest = issuer.derivation_key_index;
    let generation = case.token.key.map_or(newest, |key| key.derivation_key_index);
    case.application_data
        .is_some_and(|data| data.derivation_key_index != generation || case.token.policy.is_none())
}

fn is_other_application(case: &Case<'_>) -> bool {
    let own = case.token.issuer.aid.as_bytes();
    case.presented.aids.is_empty() || case.presented.aids.iter().any(|aid| aid != own)
}

/// Counters of one token rise. A cryptogram that was recorded and held back is refused once the
/// phone has paid again.
fn is_stale(case: &Case<'_>) -> bool {
    case.token
        .highest_counter
        .is_some_and(|highest| case.signed.application_transaction_counter < highest)
        && !is_skipped(Control::CounterOrder)
}

/// The phone agreed to pay elsewhere: at another terminal that proved itself, or in another country. A
/// terminal that proved nothing may be any one of the country.
fn is_other_merchant(case: &Case<'_>) -> bool {
    let asking = &case.facts.terminal;
    let proven = case.presented.proven_merchant();
    proven.is_some_and(|merchant| merchant != asking.identity())
        || case.signed.terminal_country != numeric_country(asking.merchant.country)
}

/// ISO 3166-1 numeric as in `9F1A`: a zero and three digits, two a byte.
fn numeric_country(country: CountryCode) -> [u8; 2] {
    let numeric = country.numeric();
    [numeric.wrapping_div(100), numeric.wrapping_rem(100)]
        .map(|two_digits| u8::try_from(two_digits).map_or(0, packed_decimal::pack))
}

fn is_not_armed(case: &Case<'_>) -> bool {
    !case.facts.intent.is_armed_at(case.facts.terminal.id(), case.now)
}

/// Cash back (`9F03`) is not offered, so the other amount is part of no payment.
fn is_other_amount(case: &Case<'_>) -> bool {
    let is_another = case.signed.amount_minor() != Some(case.facts.intent.amount.minor);
    (is_another && !is_skipped(Control::SignedAmount))
        || case.signed.amount_other_minor() != Some(0)
}

fn is_other_currency(case: &Case<'_>) -> bool {
    let asked = case.facts.intent.amount.currency;
    case.signed.currency_numeric() != Some(asked.numeric()) || case.token.issuer.currency != asked
}

/// A wrong cryptogram, unless it may be the person's mistake.
fn is_forged(case: &Case<'_>) -> bool {
    !case.evidence.proven && case.evidence.person_key_use == PersonKeyUse::AsCompared
}

/// Session keys were given for some counters only.
fn is_key_unknown(case: &Case<'_>) -> bool {
    let counter = case.signed.application_transaction_counter;
    !case.token.key.is_some_and(|key| key.covers(counter))
}

/// The key is too old, or the policy that the phone obeys with it.
fn is_key_expired(case: &Case<'_>) -> bool {
    case.token.key.is_none_or(|key| case.now > key.expires_at)
        || case.token.policy_in_force(case.now).is_none()
}

fn is_key_exhausted(case: &Case<'_>) -> bool {
    let currency = case.token.issuer.currency;
    case.token.key.is_none_or(|key| !key.has_room_for(case.presented, currency))
}

fn is_date_stale(case: &Case<'_>) -> bool {
    let days = [-DAY_MILLIS, 0, DAY_MILLIS];
    !days.iter().any(|&offset| date(case.now.plus_millis(offset)) == case.signed.date)
}

/// A date as in `9A`: YYMMDD, two decimal digits a byte.
fn date(moment: Timestamp) -> [u8; 3] {
    let calendar = moment.calendar();
    let year = u8::try_from(calendar.year.wrapping_rem(100)).unwrap_or(0);
    [year, calendar.month, calendar.day].map(|two_digits| {
        let tens = two_digits.wrapping_div(10);
        two_digits.wrapping_add(tens.wrapping_mul(6))
    })
}

/// The terminal's own verdict (Book C-8 annex A).
fn is_not_authenticated_locally(case: &Case<'_>) -> bool {
    case.found().iter().any(|results| {
        results.contains(tvr::LOCAL_AUTHENTICATION_NOT_PERFORMED)
            || results.contains(tvr::LOCAL_AUTHENTICATION_FAILED)
    })
}

/// What else a terminal may find speaks against the payment, and so do bits that Kernel 8 never sets.
fn is_found_wrong(case: &Case<'_>) -> bool {
    let [signed, in_the_end] = case.found();
    let says_both = |results: &TerminalVerificationResults| {
        results.contains(tvr::RELAY_RESISTANCE_PERFORMED)
            && results.contains(tvr::RELAY_RESISTANCE_NOT_PERFORMED)
    };
    !signed.contains(tvr::KERNEL_8_FORMAT)
        || says_both(&signed)
        || says_both(&in_the_end)
        || signed.intersects(SERIOUS_FINDINGS)
        || in_the_end.intersects(SERIOUS_FINDINGS_IN_THE_END)
}

/// What the phone suspects about itself, and what was found out about it.
fn is_phone_not_good_enough(case: &Case<'_>) -> bool {
    let Some(policy) = &case.token.integrity_policy else { return false };
    let own = case.application_data.map_or(0, |data| data.results.integrity_verdict);
    let verdict = case.token.integrity_verdict;
    let consequence = policy.judge(verdict, OwnChecks::from_byte(own), case.now);
    !consequence.allows(case.facts.intent.amount.minor)
}

/// The person has to log in at the issuer first: by the payments that were seen and the time since the issuer last
/// said that she did. The phone asks for it before it pays; one that does not is declined.
fn is_login_due(case: &Case<'_>) -> bool {
    let rule = case.token.policy.as_ref().and_then(|issued| issued.policy.fresh_login.as_ref());
    let since = case.now.millis_since(case.token.logged_in_at);
    let payments = case.token.history.since_login;
    rule.is_some_and(|rule| rule.is_due(payments, since.saturating_sub(CLOCKS_DIFFER_MILLIS)))
}

/// The policy may demand that the phone knows whom it pays. That a proof is another terminal's was judged
/// before.
fn is_merchant_unproven(case: &Case<'_>) -> bool {
    let (amount, currency) = (case.signed.amount_minor(), case.signed.currency_numeric());
    let (Some(issued), Some(amount), Some(currency)) = (&case.token.policy, amount, currency)
    else {
        return false;
    };
    case.presented.proven_merchant().is_none()
        && issued.policy.demands_merchant_proof(amount, currency)
}

fn is_pin_blocked(case: &Case<'_>) -> bool {
    let is_card_blocked = case.token.card_pin.is_some_and(|pin| {
        case.evidence.terminal_pin != TerminalPin::Absent && pin.is_blocked(&case.token.pin_rules)
    });
    case.evidence.person_key_use == PersonKeyUse::Blocked || is_card_blocked
}

/// Under the person's key, a wrong cryptogram is a wrong PIN.
fn is_pin_wrong(case: &Case<'_>) -> bool {
    !case.evidence.proven || case.evidence.terminal_pin == TerminalPin::Wrong
}

/// The phone signs how it verified the person; the policy that it names says what this payment needs, by
/// its amount and by what was paid since the person was last verified. A phone that left it to the terminal
/// wants the PIN there, and the till may not skip it.
fn is_unverified(case: &Case<'_>) -> bool {
    let (Some(data), Some(issued)) = (case.application_data, &case.token.policy) else {
        return true;
    };
    let (Some(amount), Some(currency)) =
        (case.signed.amount_minor(), case.signed.currency_numeric())
    else {
        return true;
    };
    let expected = issued.policy.expected(amount, currency, &case.token.history.since);
    let asked = match data.results.method {
        VerificationMethod::TerminalPin => Requirement::TerminalPin,
        _ => Requirement::Anything,
    };
    let has_failed = tvr::CARDHOLDER_VERIFICATION_FAILED;
    let reached = shown(&data.results, case.evidence.terminal_pin == TerminalPin::Right).reached();
    case.found().iter().any(|results| results.contains(has_failed)) || reached < expected.max(asked)
}
