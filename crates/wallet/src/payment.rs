//! The amount a terminal asks for, as it stands in its data.

use core::fmt;

use tapfer_payment_types::{Currency, Money};

/// Amount and currency of a payment as a terminal sends them (`9F02`, `5F2A`). The currency may be
/// one that the wallet has never heard of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PaymentAmount {
    minor: i64,
    currency_numeric: u16,
}

impl PaymentAmount {
    /// An amount of `minor` units of the currency with this ISO 4217 numeric code.
    #[must_use]
    pub const fn new(minor: i64, currency_numeric: u16) -> Self {
        Self { minor, currency_numeric }
    }

    /// Reads `9F02` (n12) and `5F2A` (n3 in two bytes). `None` if a digit is no decimal digit.
    pub(crate) fn from_terminal(amount: &[u8], currency: &[u8]) -> Option<Self> {
        let currency_numeric = u16::try_from(decimal(currency)?).ok()?;
        Some(Self { minor: decimal(amount)?, currency_numeric })
    }

    /// Minor units, for example cents.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// ISO 4217 numeric code, 0 if the terminal gave none.
    #[must_use]
    pub const fn currency_numeric(self) -> u16 {
        self.currency_numeric
    }

    /// The amount as money, if the currency is a known one.
    #[must_use]
    pub fn money(self) -> Option<Money> {
        let currency = Currency::from_numeric(self.currency_numeric).ok()?;
        Some(Money::new(self.minor, currency))
    }
}

impl fmt::Display for PaymentAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.money() {
            Some(money) => money.fmt(f),
            None => write!(f, "{} of currency {:03}", self.minor, self.currency_numeric),
        }
    }
}

/// Reads a numeric value (format `n`, two digits a byte; Book 3, 4.3).
fn decimal(bytes: &[u8]) -> Option<i64> {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).try_fold(0_i64, |number, digit| {
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(i64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::PaymentAmount;

    #[test]
    fn reads_what_terminals_send() {
        let amount = [0x00, 0x00, 0x00, 0x00, 0x12, 0x34];
        let euros = PaymentAmount::from_terminal(&amount, &[0x09, 0x78]).unwrap();
        assert_eq!((euros.minor(), euros.currency_numeric()), (1234, 978));
        assert_eq!(euros.to_string(), "12.34 EUR");
        let unknown = PaymentAmount::from_terminal(&amount, &[0x00, 0x01]).unwrap();
        assert_eq!(unknown.to_string(), "1234 of currency 001");
        assert_eq!(PaymentAmount::from_terminal(&[0x1A], &[0x09, 0x78]), None);
        assert_eq!(PaymentAmount::from_terminal(&[0xFF; 6], &[0x09, 0x78]), None);
        let largest = PaymentAmount::from_terminal(&[0x99; 6], &[0x99, 0x99]).unwrap();
        assert_eq!((largest.minor(), largest.currency_numeric()), (999_999_999_999, 9_999));
    }
}
