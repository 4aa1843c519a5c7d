//! Amounts, countries and hexadecimal values as they are typed on the command line.

use anyhow::{Context as _, bail};
use clap::Args;
use data_encoding::HEXUPPER_PERMISSIVE;
use serde_json::{Value, json};
use tapfer_payment_types::{Currency, Money};

use crate::failure::UsageError;

/// An amount with its currency.
#[derive(Debug, Clone, Args)]
pub(crate) struct AmountArguments {
    /// Amount with a decimal point, such as 12.34
    #[arg(long, value_name = "12.34", allow_hyphen_values = true)]
    pub(crate) amount: String,
    /// Currency of the amount, ISO 4217
    #[arg(long, value_name = "CODE", default_value = "EUR", value_parser = currency)]
    pub(crate) currency: Currency,
}

impl AmountArguments {
    /// The amount as money, or a usage error.
    pub(crate) fn money(&self) -> anyhow::Result<Money> {
        payable("--amount", &self.amount, self.currency)
    }
}

/// The largest amount of EMV: twelve digits.
const LARGEST_MINOR: i64 = 999_999_999_999;

/// Reads an amount typed by a person after `option`.
pub(crate) fn money(option: &str, text: &str, currency: Currency) -> anyhow::Result<Money> {
    let wrong = |_| {
        let example = example(currency);
        let point = if text.contains(',') { ", with a point for the comma" } else { "" };
        UsageError(format!(
            "{option}: \"{text}\" is no amount of {currency}: write it like {example}{point}"
        ))
    };
    Ok(Money::parse(text, currency).map_err(wrong)?)
}

/// [`money`] that can be paid.
pub(crate) fn payable(option: &str, text: &str, currency: Currency) -> anyhow::Result<Money> {
    let money = money(option, text, currency)?;
    if !(1..=LARGEST_MINOR).contains(&money.minor) {
        let [least, most] = [1, LARGEST_MINOR].map(|minor| Money::new(minor, currency));
        bail!(UsageError(format!("{option}: {least} at least, and {most} at most")));
    }
    Ok(money)
}

/// An amount as it is typed.
fn example(currency: Currency) -> String {
    match currency.exponent() {
        0 => "1234".to_owned(),
        digits => format!("12.{}", "345".get(..usize::from(digits)).unwrap_or("345")),
    }
}

/// The two fields that stand for money in JSON.
pub(crate) fn money_json(money: Money) -> Value {
    json!({ "amount": money.minor, "currency": money.currency.code() })
}

/// `EUR`, in any case.
pub(crate) fn currency(text: &str) -> Result<Currency, String> {
    text.to_ascii_uppercase().parse::<Currency>().map_err(|error| error.to_string())
}

/// Hexadecimal digits, blanks and line ends allowed between them.
pub(crate) fn hexadecimal(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    HEXUPPER_PERMISSIVE
        .decode(digits.as_bytes())
        .map_err(|_| UsageError(not_hexadecimal(&digits)).into())
}

fn not_hexadecimal(digits: &str) -> String {
    let wrong = (1_usize..).zip(digits.chars()).find(|(_, letter)| !letter.is_ascii_hexdigit());
    match wrong {
        Some((position, letter)) => {
            format!("not hexadecimal: {letter:?} at position {position} is no digit from 0 to F")
        }
        None => "not hexadecimal: the number of digits is odd".to_owned(),
    }
}

/// [`hexadecimal`] of a known length.
pub(crate) fn hexadecimal_array<const LENGTH: usize>(text: &str) -> anyhow::Result<[u8; LENGTH]> {
    let bytes = hexadecimal(text)?;
    let found = bytes.len();
    <[u8; LENGTH]>::try_from(bytes)
        .map_err(|_| UsageError(format!("{LENGTH} bytes expected, {found} given")))
        .context("hexadecimal value")
}

#[cfg(test)]
mod tests {
    use super::{hexadecimal, money, payable};
    use tapfer_payment_types::Currency;

    #[test]
    fn what_was_typed_wrong_is_said_in_the_words_of_the_person() {
        let yen: Currency = "JPY".parse().unwrap();
        let table = [
            ("12,34", Currency::EUR, "write it like 12.34, with a point for the comma"),
            ("5.00", yen, "write it like 1234"),
            ("-5", Currency::EUR, "\"-5\" is no amount"),
            ("0", Currency::EUR, "0.01 EUR at least"),
            ("10000000000.00", Currency::EUR, "9999999999.99 EUR at most"),
        ];
        for (text, currency, words) in table {
            let error = payable("--amount", text, currency).unwrap_err().to_string();
            assert!(error.starts_with("--amount: ") && error.contains(words), "{text}: {error}");
        }
        assert_eq!(money("--balance", "0", Currency::EUR).unwrap().minor, 0);
    }

    #[test]
    fn digits_that_are_none_are_named() {
        assert_eq!(hexadecimal("6F 1A\n84").unwrap(), [0x6F, 0x1A, 0x84]);
        let error = |text| hexadecimal(text).unwrap_err().to_string();
        assert_eq!(error("1"), "not hexadecimal: the number of digits is odd");
        assert_eq!(error("6Fz1"), "not hexadecimal: 'z' at position 3 is no digit from 0 to F");
    }
}
