//! Amounts of money: integer minor units and an ISO 4217 currency, checked arithmetic only.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A currency of ISO 4217.
///
/// Written as its alphabetic code in JSON (`"EUR"`), as its numeric code in EMV data (`0978`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency {
    alphabetic: [u8; 3],
    numeric: u16,
    exponent: u8,
}

/// Alphabetic code, numeric code, digits after the decimal point (ISO 4217:2015, list one).
const CURRENCIES: &[(&[u8; 3], u16, u8)] = &[
    (b"AUD", 36, 2),
    (b"BGN", 975, 2),
    (b"BHD", 48, 3),
    (b"BRL", 986, 2),
    (b"CAD", 124, 2),
    (b"CHF", 756, 2),
    (b"CLP", 152, 0),
    (b"CNY", 156, 2),
    (b"CZK", 203, 2),
    (b"DKK", 208, 2),
    (b"EUR", 978, 2),
    (b"GBP", 826, 2),
    (b"HKD", 344, 2),
    (b"HUF", 348, 2),
    (b"INR", 356, 2),
    (b"ISK", 352, 0),
    (b"JOD", 400, 3),
    (b"JPY", 392, 0),
    (b"KRW", 410, 0),
    (b"KWD", 414, 3),
    (b"MXN", 484, 2),
    (b"NOK", 578, 2),
    (b"NZD", 554, 2),
    (b"PLN", 985, 2),
    (b"RON", 946, 2),
    (b"SEK", 752, 2),
    (b"SGD", 702, 2),
    (b"TND", 788, 3),
    (b"TRY", 949, 2),
    (b"UAH", 980, 2),
    (b"USD", 840, 2),
    (b"XTS", 963, 2),
    (b"ZAR", 710, 2),
];

impl Currency {
    /// The euro, used all over the examples.
    pub const EUR: Self = Self { alphabetic: *b"EUR", numeric: 978, exponent: 2 };

    /// Finds a currency by its numeric code, as in `5F2A`.
    ///
    /// # Errors
    /// [`MoneyError::UnknownCurrency`] if the code is not in the table.
    pub fn from_numeric(numeric: u16) -> Result<Self, MoneyError> {
        Self::find(|candidate| candidate.numeric == numeric)
    }

    fn find(wanted: impl Fn(&Self) -> bool) -> Result<Self, MoneyError> {
        CURRENCIES
            .iter()
            .map(|&(alphabetic, numeric, exponent)| Self {
                alphabetic: *alphabetic,
                numeric,
                exponent,
            })
            .find(wanted)
            .ok_or(MoneyError::UnknownCurrency)
    }

    /// The alphabetic code, three upper-case letters.
    #[must_use]
    pub fn code(&self) -> &str {
        core::str::from_utf8(&self.alphabetic).unwrap_or("XXX")
    }

    /// The numeric code, 0 to 999.
    #[must_use]
    pub const fn numeric(&self) -> u16 {
        self.numeric
    }

    /// How many digits stand behind the decimal point (EMV `5F36`).
    #[must_use]
    pub const fn exponent(&self) -> u8 {
        self.exponent
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        Self::find(|candidate| candidate.alphabetic == *text.as_bytes())
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;

    fn try_from(text: String) -> Result<Self, MoneyError> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        Self::from(currency.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What can be wrong with an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The currency is not in the table of ISO 4217 codes.
    #[error("unknown currency: give an ISO 4217 code such as EUR")]
    UnknownCurrency,
    /// Two amounts of different currencies met.
    #[error("amounts in {0} and {1} cannot be combined")]
    CurrencyMismatch(Currency, Currency),
    /// The result does not fit.
    #[error("amount out of range")]
    OutOfRange,
    /// The text is not a decimal amount.
    #[error("not an amount: write it like 12.34, with at most {0} digits after the point")]
    Syntax(u8),
}

/// An amount of money in minor units (cents) of one currency. It may be negative, as a balance may.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units, for example cents.
    pub minor: i64,
    /// The currency that `minor` counts.
    pub currency: Currency,
}

/// The largest amount that EMV's `9F02` holds: twelve digits of minor units.
pub const EMV_MAXIMUM_MINOR: i64 = 999_999_999_999;

impl Money {
    /// An amount of `minor` units.
    #[must_use]
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Nothing, in a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self::new(0, currency)
    }

    /// Reads a decimal amount such as `12.34`, with no more digits than the currency has. No sign.
    ///
    /// # Errors
    /// [`MoneyError::Syntax`] or [`MoneyError::OutOfRange`].
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let exponent = currency.exponent();
        let syntax = MoneyError::Syntax(exponent);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let has_point = text.contains('.');
        if whole.is_empty() || (has_point && fraction.is_empty()) {
            return Err(syntax);
        }
        if fraction.len() > usize::from(exponent) {
            return Err(syntax);
        }
        let missing = usize::from(exponent).saturating_sub(fraction.len());
        let digits =
            whole.bytes().chain(fraction.bytes()).chain(core::iter::repeat_n(b'0', missing));
        let mut minor: i64 = 0;
        for digit in digits {
            let value = match digit {
                b'0'..=b'9' => i64::from(digit.wrapping_sub(b'0')),
                _ => return Err(syntax),
            };
            minor = minor
                .checked_mul(10)
                .and_then(|shifted| shifted.checked_add(value))
                .ok_or(MoneyError::OutOfRange)?;
        }
        Ok(Self::new(minor, currency))
    }

    /// Sum of two amounts of the same currency.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`] or [`MoneyError::OutOfRange`].
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_add)
    }

    /// Difference of two amounts of the same currency.
    ///
    /// # Errors
    /// [`MoneyError::CurrencyMismatch`] or [`MoneyError::OutOfRange`].
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_sub)
    }

    fn combine(
        self,
        other: Self,
        operation: fn(i64, i64) -> Option<i64>,
    ) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch(self.currency, other.currency));
        }
        let minor = operation(self.minor, other.minor).ok_or(MoneyError::OutOfRange)?;
        Ok(Self::new(minor, self.currency))
    }

    /// Whether the amount is above zero.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.minor > 0
    }
}

impl fmt::Display for Money {
    /// `12.34 EUR`: a point and the currency's own number of digits, no grouping.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.minor < 0 { "-" } else { "" };
        let magnitude = self.minor.unsigned_abs();
        let scale = 10_u64.saturating_pow(u32::from(self.currency.exponent()));
        let whole = magnitude.checked_div(scale).unwrap_or(magnitude);
        let fraction = magnitude.checked_rem(scale).unwrap_or(0);
        match usize::from(self.currency.exponent()) {
            0 => write!(f, "{sign}{whole} {}", self.currency),
            width => write!(f, "{sign}{whole}.{fraction:0width$} {}", self.currency),
        }
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Currency, Money, MoneyError};
    use proptest::prelude::*;

    fn yen() -> Currency {
        Currency::from_numeric(392).unwrap()
    }

    #[test]
    fn reads_and_writes_decimals() {
        for (text, minor) in [("12.34", 1234), ("12", 1200), ("0.5", 50), ("0.05", 5)] {
            assert_eq!(Money::parse(text, Currency::EUR).unwrap().minor, minor, "{text}");
        }
        assert_eq!(Money::new(1234, Currency::EUR).to_string(), "12.34 EUR");
        assert_eq!(Money::new(-5, Currency::EUR).to_string(), "-0.05 EUR");
        assert_eq!(Money::new(700, yen()).to_string(), "700 JPY");
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1,5", "1.234", "1e3", " 1", "٣"] {
            assert_eq!(Money::parse(text, Currency::EUR), Err(MoneyError::Syntax(2)), "{text}");
        }
        assert_eq!(Money::parse("1.0", yen()), Err(MoneyError::Syntax(0)));
        assert_eq!(
            Money::parse("99999999999999999999", Currency::EUR),
            Err(MoneyError::OutOfRange)
        );
    }

    #[test]
    fn currencies_do_not_mix() {
        let sum = Money::new(1, Currency::EUR).checked_add(Money::new(1, yen()));
        assert_eq!(sum, Err(MoneyError::CurrencyMismatch(Currency::EUR, yen())));
    }

    #[test]
    fn the_table_is_consistent() {
        for (alphabetic, numeric, _) in super::CURRENCIES {
            let by_number = Currency::from_numeric(*numeric).unwrap();
            let by_letters: Currency = core::str::from_utf8(*alphabetic).unwrap().parse().unwrap();
            assert_eq!(by_number, by_letters);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(minor in 0_i64..super::EMV_MAXIMUM_MINOR) {
            let money = Money::new(minor, Currency::EUR);
            let text = money.to_string();
            let (amount, _) = text.split_once(' ').unwrap();
            prop_assert_eq!(Money::parse(amount, Currency::EUR).unwrap(), money);
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = Money::parse(&text, Currency::EUR);
        }
    }
}
