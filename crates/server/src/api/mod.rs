//! What travels over the interface: requests and answers of `/v1`, one module a resource.
//!
//! Amounts are integer minor units beside an ISO 4217 currency; points in time are UTC RFC 3339;
//! unknown fields are refused. No answer holds a card number or a token number, but that of the audited
//! detokenize verb.

pub mod api_keys;
pub mod audit;
pub mod authorizations;
mod card_numbers;
pub mod cards;
pub mod client_certificates;
pub mod devices;
pub mod hsm;
pub mod integrity;
pub mod issuers;
pub mod merchants;
pub mod oauth;
pub mod payment_intents;
pub mod pins;
pub mod policies;
pub mod refunds;
pub mod retention;
pub mod terminals;
pub mod tokens;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::money::EMV_MAXIMUM_MINOR;
use tapfer_payments::authorization::DeclineReason;
use tapfer_payments::cards::CardStatus;
use tapfer_payments::integrity::Standing;
use tapfer_payments::intents::{ArmingState, CaptureMethod, IntentStatus};
use tapfer_payments::ledger::TransferKind;
use tapfer_payments::tokens::{Actor, TokenStatus};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::{IntoParams, ToSchema};

pub(crate) use self::card_numbers::could_be_card_number;
use self::card_numbers::holds_card_number;

/// The schema of one of a closed set of words.
fn words<'a>(words: impl Iterator<Item = &'a str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

fn actor_schema() -> Object {
    words(Actor::ALL.iter().map(|word| word.as_str()))
}

pub(crate) fn standing_schema() -> Object {
    words(Standing::ALL.iter().map(|word| word.as_str()))
}

fn token_status_schema() -> Object {
    words(TokenStatus::ALL.iter().map(|word| word.as_str()))
}

fn card_status_schema() -> Object {
    words(CardStatus::ALL.iter().map(|word| word.as_str()))
}

fn capture_method_schema() -> Object {
    words(CaptureMethod::ALL.iter().map(|word| word.as_str()))
}

fn intent_status_schema() -> Object {
    words(IntentStatus::ALL.iter().map(|word| word.as_str()))
}

fn arming_state_schema() -> Object {
    words(ArmingState::ALL.iter().map(|word| word.as_str()))
}

fn transfer_kind_schema() -> Object {
    words(TransferKind::ALL.iter().map(|word| word.as_str()))
}

fn reason_schema() -> Object {
    words(core::iter::once("approved").chain(DeclineReason::ALL.iter().map(|word| word.slug())))
}

/// One page of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items of this page.
    pub data: Vec<T>,
    /// Give this as `cursor` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Which page of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items a page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A positive amount in minor units, for example cents: 1 to 999 999 999 999, what EMV's `9F02` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Amount(i64);

impl Amount {
    /// The minor units.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.0
    }
}

/// Not an amount that can be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount is a whole number of minor units from 1 to 999999999999")]
pub struct AmountError;

impl TryFrom<i64> for Amount {
    type Error = AmountError;

    fn try_from(minor: i64) -> Result<Self, AmountError> {
        if (1..=EMV_MAXIMUM_MINOR).contains(&minor) { Ok(Self(minor)) } else { Err(AmountError) }
    }
}

impl From<Amount> for i64 {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

/// A short text for people: 1 to 140 characters, all of which are to be seen and in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShortText(String);

impl ShortText {
    /// Longest text, in characters.
    const MAXIMUM: usize = 140;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not a short text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShortTextError {
    /// Empty, too long, or with characters that control how it looks.
    #[error(
        "a text here has 1 to 140 characters, and none that controls or hides others, such as line breaks \
         and direction marks"
    )]
    Form,
    /// A number that could be a card's: such never belong in a text.
    #[error("this text holds what looks like a card number; card numbers never belong in a text")]
    CardNumber,
}

impl TryFrom<String> for ShortText {
    type Error = ShortTextError;

    fn try_from(text: String) -> Result<Self, ShortTextError> {
        let length = text.chars().count();
        if !(1..=Self::MAXIMUM).contains(&length) || text.chars().any(is_hidden) {
            return Err(ShortTextError::Form);
        }
        if holds_card_number(&text) {
            return Err(ShortTextError::CardNumber);
        }
        Ok(Self(text))
    }
}

impl From<ShortText> for String {
    fn from(text: ShortText) -> Self {
        text.0
    }
}

/// Whether a character shows nothing and changes what is shown around it: on a receipt or a phone a name
/// could then read as another's (Unicode Technical Report 36, 2.5). The joiners U+200C and U+200D stay: some
/// languages cannot be written without them.
const fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' // control characters
            | '\u{AD}' // soft hyphen
            | '\u{61C}' | '\u{200E}' | '\u{200F}' // direction marks
            | '\u{200B}' | '\u{2060}'..='\u{2064}' | '\u{FEFF}' // nothing, of no width
            | '\u{2028}'..='\u{202E}' // line and paragraph separators, embeddings and overrides
            | '\u{2066}'..='\u{206F}' // isolates, and what is deprecated
            | '\u{FFF9}'..='\u{FFFB}' // annotations
            | '\u{E0000}'..='\u{E007F}' // tags
    )
}

#[cfg(test)]
mod tests {
    use super::{Amount, ShortText};

    #[test]
    fn amounts_are_positive_and_fit_the_chip() {
        for (text, good) in [("0", false), ("1", true), ("-1", false), ("999999999999", true)] {
            assert_eq!(serde_json::from_str::<Amount>(text).is_ok(), good, "{text}");
        }
        for text in ["1000000000000", "1.0", "\"1\"", "1e3", "99999999999999999999"] {
            assert!(serde_json::from_str::<Amount>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_are_what_they_look_like() {
        let accepts = |text: &str| ShortText::try_from(text.to_owned()).is_ok();
        for text in ["Café Ada", "מסעדה", "مطعم", "می\u{200C}خواهم", "👩\u{200D}🍳"]
        {
            assert!(accepts(text), "{text}");
        }
        for hidden in [
            '\n',
            '\u{7F}',
            '\u{85}',
            '\u{AD}',
            '\u{61C}',
            '\u{200B}',
            '\u{200E}',
            '\u{200F}',
            '\u{2028}',
            '\u{202A}',
            '\u{202E}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{FEFF}',
            '\u{E0041}',
        ] {
            assert!(!accepts(&format!("Mensa{hidden}x")), "{hidden:?}");
        }
    }
}
