//! Amounts, countries and hexadecimal values as they are typed on the command line.

use anyhow::Context as _;
use clap::Args;
use data_encoding::HEXUPPER_PERMISSIVE;
use serde_json::{Value, json};
use tapfer_payment_types::{Currency, Money};

use crate::failure::UsageError;

/// An amount with its currency.
#[derive(Debug, Clone, Args)]
pub(crate) struct AmountArguments {
    /// Amount with a decimal point, such as 12.34
    #[arg(long, value_name = "12.34")]
    pub(crate) amount: String,
    /// Currency of the amount, ISO 4217
    #[arg(long, value_name = "CODE", default_value = "EUR", value_parser = currency)]
    pub(crate) currency: Currency,
}

impl AmountArguments {
    /// The amount as money, or a usage error.
    pub(crate) fn money(&self) -> anyhow::Result<Money> {
        money(&self.amount, self.currency)
    }
}

/// Reads an amount typed by a person.
pub(crate) fn money(text: &str, currency: Currency) -> anyhow::Result<Money> {
    Ok(Money::parse(text, currency).map_err(|error| UsageError(format!("--amount: {error}")))?)
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
        .map_err(|error| UsageError(format!("not hexadecimal: {error}")).into())
}

/// [`hexadecimal`] of a known length.
pub(crate) fn hexadecimal_array<const LENGTH: usize>(text: &str) -> anyhow::Result<[u8; LENGTH]> {
    let bytes = hexadecimal(text)?;
    let found = bytes.len();
    <[u8; LENGTH]>::try_from(bytes)
        .map_err(|_| UsageError(format!("{LENGTH} bytes expected, {found} given")))
        .context("hexadecimal value")
}
