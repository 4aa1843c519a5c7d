//! Which PINs a person may choose.

use tapfer_payment_types::Pin;
use tapfer_payment_types::policy::PinRules;

/// Why a PIN is not taken as a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinChoiceError {
    /// Too short or too long.
    #[error("the PIN must have {0} digits")]
    Length(u8),
    /// Among the first that others would try.
    #[error("this PIN is too easy to guess: choose one without a row, a repetition or a year")]
    Easy,
}

/// Whether a PIN may be chosen under these rules.
///
/// Easy are: one digit all over, a row up or down (past 9 as well), a group that is repeated, and of
/// four digits a year from 1920 to 2039.
///
/// # Errors
/// [`PinChoiceError`] says what to do better.
pub fn check_choice(pin: &Pin, rules: &PinRules) -> Result<(), PinChoiceError> {
    let digits = pin.expose().as_bytes();
    if digits.len() != usize::from(rules.length) {
        return Err(PinChoiceError::Length(rules.length));
    }
    if rules.refuse_easy && is_easy(digits) { Err(PinChoiceError::Easy) } else { Ok(()) }
}

fn is_easy(digits: &[u8]) -> bool {
    has_step(digits, 1) || has_step(digits, 9) || is_repeated(digits) || is_year(digits)
}

/// Whether each digit is the one before and `step`, modulo ten.
fn has_step(digits: &[u8], step: u8) -> bool {
    digits.windows(2).all(|pair| match pair {
        [first, second] => {
            let next = (first & 0x0F).wrapping_add(step).checked_rem(10);
            next == Some(second & 0x0F)
        }
        _ => false,
    })
}

/// Whether the PIN is one group of digits, over and over: `0000`, `1212`, `123123`.
fn is_repeated(digits: &[u8]) -> bool {
    let shorter = 1..=digits.len() >> 1;
    shorter.into_iter().any(|length| {
        digits.len().is_multiple_of(length)
            && digits.windows(length.saturating_add(1)).all(|group| group.first() == group.last())
    })
}

fn is_year(digits: &[u8]) -> bool {
    digits.len() == 4 && (b"1920".as_slice()..=b"2039".as_slice()).contains(&digits)
}

#[cfg(test)]
mod tests {
    use super::{PinChoiceError, check_choice};
    use tapfer_payment_types::Pin;
    use tapfer_payment_types::policy::PinRules;

    fn choice(text: &str, rules: &PinRules) -> Result<(), PinChoiceError> {
        check_choice(&text.parse::<Pin>().unwrap(), rules)
    }

    #[test]
    fn what_others_would_try_first_is_refused() {
        let rules = PinRules::default();
        for easy in [
            "0000", "9999", "1234", "4321", "6789", "7890", "8901", "0987", "1212", "9090", "1920",
            "1984", "2026", "2039",
        ] {
            assert_eq!(choice(easy, &rules), Err(PinChoiceError::Easy), "{easy}");
            let indifferent = PinRules { refuse_easy: false, ..rules };
            assert_eq!(choice(easy, &indifferent), Ok(()), "{easy}");
        }
        for good in ["1243", "0852", "1919", "2040", "1221", "1357"] {
            let expected = if good == "1919" { Err(PinChoiceError::Easy) } else { Ok(()) };
            assert_eq!(choice(good, &rules), expected, "{good}");
        }
        let six = PinRules { length: 6, ..rules };
        for easy in ["123123", "121212", "000000", "654321"] {
            assert_eq!(choice(easy, &six), Err(PinChoiceError::Easy), "{easy}");
        }
        assert_eq!(choice("192019", &six), Ok(()));
        assert_eq!(choice("12435", &six), Err(PinChoiceError::Length(6)));
    }

    /// 100 repetitions, 20 rows, 120 years; 2020 is both a year and a repetition.
    #[test]
    fn of_ten_thousand_four_digit_pins_few_are_easy() {
        let rules = PinRules::default();
        let easy = (0..10_000).filter(|n| choice(&format!("{n:04}"), &rules).is_err()).count();
        assert_eq!(easy, 239);
    }
}
