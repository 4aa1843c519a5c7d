//! A tap at a till: the real terminal speaks to the real wallet, and may be torn from it at any command.

use std::time::Duration;

use tapfer_emv::tags;
use tapfer_emv::tlv;
use tapfer_payment_types::{Currency, Money, Timestamp};
use tapfer_terminal::{Arming, TapAction, TapEnd, Terminal, TerminalConfiguration};
use tapfer_wallet::store::StoreError;

use crate::chance::Chance;
use crate::phone::Phone;

/// How long a till waits for a card.
const WAITS_SECONDS: i64 = 60;
/// So long a card takes for an answer.
const ANSWER: Duration = Duration::from_millis(5);

/// What came of a tap.
#[derive(Debug)]
pub(crate) enum Tapped {
    /// The phone has signed: this goes to the platform.
    Signed(Vec<u8>),
    /// The phone was gone before the end, or died.
    Torn,
    /// The phone does not pay, or till and phone do not understand each other.
    Refused,
}

/// What is asked of the card, and the two clocks.
pub(crate) struct Asked<'a> {
    pub(crate) intent: &'a str,
    pub(crate) amount: i64,
    pub(crate) till_time: Timestamp,
    pub(crate) phone_time: Timestamp,
    /// The phone is taken away before this command.
    pub(crate) torn_at: Option<u32>,
}

/// Holds a phone to a till.
///
/// # Errors
/// What the phone kept is no wallet.
pub(crate) fn tap(
    till: &TerminalConfiguration,
    phone: &mut Phone,
    asked: &Asked<'_>,
    chance: &mut Chance,
) -> Result<Tapped, StoreError> {
    let Some(armed) = armed(till, asked) else { return Ok(Tapped::Refused) };
    let Ok(mut tap) = armed.tap(asked.till_time) else { return Ok(Tapped::Refused) };
    let mut commands = 0_u32;
    while let TapAction::Transmit(command) = tap.poll() {
        let Ok(command) = command.encode() else { return Ok(Tapped::Refused) };
        let answer = match asked.torn_at {
            Some(at) if at == commands => None,
            _ => phone.answer(&command, asked.phone_time)?,
        };
        let Some(answer) = answer else {
            phone.leave();
            return Ok(Tapped::Torn);
        };
        tap = tap.handle_response(&answer, ANSWER, chance);
        commands = commands.saturating_add(1);
    }
    phone.leave();
    Ok(match tap.finish() {
        TapEnd::Online(payment) => Tapped::Signed(payment.request().chip_data().to_vec()),
        TapEnd::AskPin(_) | TapEnd::Decided { .. } | TapEnd::Undecided { .. } => Tapped::Refused,
    })
}

fn armed(
    till: &TerminalConfiguration,
    asked: &Asked<'_>,
) -> Option<Terminal<tapfer_terminal::Armed>> {
    let amount = Money::new(asked.amount, Currency::EUR);
    let until = asked.till_time.plus_seconds(WAITS_SECONDS);
    let arming = Arming::new(asked.intent.parse().ok()?, amount, until).ok()?;
    Terminal::new(till.clone()).arm(arming).ok()
}

/// What a card has signed, as anybody can read who hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) counter: u16,
    pub(crate) amount: i64,
    pub(crate) cryptogram: [u8; 8],
}

/// Reads chip data.
pub(crate) fn signed(chip_data: &[u8]) -> Option<Signed> {
    let objects = tlv::parse(chip_data).ok()?;
    let value = |tag| objects.iter().find(|object| object.tag == tag).map(|object| object.value);
    let counter = value(tags::APPLICATION_TRANSACTION_COUNTER)?.try_into().ok()?;
    let amount = value(tags::AMOUNT_AUTHORIZED)?;
    let digits = amount.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    let amount =
        digits.fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit)));
    let cryptogram = value(tags::APPLICATION_CRYPTOGRAM)?.try_into().ok()?;
    Some(Signed { counter: u16::from_be_bytes(counter), amount, cryptogram })
}

/// Chip data with a counter that the card never used, and the cryptogram of another.
pub(crate) fn forged(chip_data: &[u8]) -> Option<Vec<u8>> {
    let objects = tlv::parse(chip_data).ok()?;
    let mut forged = Vec::new();
    for object in objects {
        let mut raw = object.raw.to_vec();
        if object.tag == tags::APPLICATION_TRANSACTION_COUNTER {
            let high = raw.len().checked_sub(2)?;
            *raw.get_mut(high)? ^= 0x01;
        }
        forged.extend(raw);
    }
    Some(forged)
}
