//! Pre-processing: what the amount means for each application before any card is there (Book B 3.1).

use tapfer_payment_types::{Currency, Money};

use crate::arming::ArmingError;
use crate::kernel8::{KernelConfiguration, bcd_amount};

/// An application that the terminal takes, with the kernel for it and the entry point's rules: a
/// "combination" of Book B. The application is the kernel configuration's `9F06`.
#[derive(Debug, Clone)]
pub struct Application {
    /// How Kernel 8 is set up for it, with its floor and verification limits.
    pub kernel: KernelConfiguration,
    /// In which the limits are, the kernel's as well, which are numbers only. Nothing else is taken: 5000
    /// is not the same limit in euros, yen and dinars.
    pub currency: Currency,
    /// The most it takes by a tap. `None`: anything.
    pub contactless_transaction_limit: Option<Money>,
    /// Whether it may be tapped for nothing, to learn whether a card is there.
    pub zero_amount_allowed: bool,
    /// Whether a tap for one whole unit of the currency asks only after the card's state.
    pub status_check: bool,
    /// Whether the card's `9F29` is appended to the name that is selected.
    pub extended_selection: bool,
}

impl Application {
    /// Without a limit of its own and without any of the special rules. `currency` is that of the
    /// kernel's limits.
    #[must_use]
    pub const fn new(kernel: KernelConfiguration, currency: Currency) -> Self {
        Self {
            kernel,
            currency,
            contactless_transaction_limit: None,
            zero_amount_allowed: false,
            status_check: false,
            extended_selection: false,
        }
    }
}

/// What pre-processing found for one application. Kept for as long as the terminal is armed: a card
/// that is presented again (start B) finds it as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indicators {
    /// Why the application takes no tap for this amount.
    pub not_allowed: Option<ArmingError>,
    /// The amount is zero, and that is allowed.
    pub zero_amount: bool,
    /// The amount is one unit of the currency, and means a question.
    pub status_check_requested: bool,
    /// Above the floor limit.
    pub floor_limit_exceeded: bool,
    /// Above the limit from which the person has to be verified.
    pub verification_limit_exceeded: bool,
}

impl Application {
    /// Compares the amount with everything (Book B 3.1.1.1 to 3.1.1.9). Kernel 8 compares floor and
    /// verification limits once more, with the same result, where it fills its results.
    #[must_use]
    pub fn pre_process(&self, amount: Money) -> Indicators {
        // Packed decimals of equal length compare as their numbers do.
        let packed = bcd_amount(amount.minor).unwrap_or([0x99; 6]);
        let is_zero = amount.minor == 0;
        Indicators {
            not_allowed: self.refusal(amount),
            zero_amount: is_zero && self.zero_amount_allowed,
            status_check_requested: self.status_check && is_one_unit(amount),
            floor_limit_exceeded: packed > self.kernel.floor_limit,
            verification_limit_exceeded: packed > self.kernel.cvm_required_limit,
        }
    }

    fn refusal(&self, amount: Money) -> Option<ArmingError> {
        let wrong_currency = ArmingError::Currency { amount, limits: self.currency };
        if amount.currency != self.currency {
            return Some(wrong_currency);
        }
        if amount.minor == 0 && !self.zero_amount_allowed {
            return Some(ArmingError::ZeroAmount);
        }
        let limit = self.contactless_transaction_limit?;
        match limit.checked_sub(amount) {
            Ok(room) if room.minor >= 0 => None,
            Ok(_) => Some(ArmingError::AboveContactlessLimit { amount, limit }),
            Err(_) => Some(wrong_currency),
        }
    }
}

/// "A single unit of currency" (Book B 3.1.1.1): 1.00 EUR, 1 JPY.
fn is_one_unit(amount: Money) -> bool {
    let digits = u32::from(amount.currency.exponent());
    10_i64.checked_pow(digits) == Some(amount.minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tapfer_payment_types::Currency;

    fn euros(minor: i64) -> Money {
        Money::new(minor, Currency::EUR)
    }

    fn application() -> Application {
        let aid = [0xF0, 0x54, 0x41, 0x50, 0x46];
        let mut kernel = KernelConfiguration::attended(&aid, 276, euros(2_500)).unwrap();
        kernel.floor_limit = bcd_amount(1_000).unwrap();
        let limit = Some(euros(5_000));
        Application {
            contactless_transaction_limit: limit,
            ..Application::new(kernel, Currency::EUR)
        }
    }

    #[test]
    fn limits_are_reached_before_they_are_exceeded() {
        for (minor, floor, verification, allowed) in [
            (999, false, false, true),
            (1_000, false, false, true),
            (1_001, true, false, true),
            (2_500, true, false, true),
            (2_501, true, true, true),
            (5_000, true, true, true),
            (5_001, true, true, false),
        ] {
            let found = application().pre_process(euros(minor));
            assert_eq!(found.floor_limit_exceeded, floor, "{minor}");
            assert_eq!(found.verification_limit_exceeded, verification, "{minor}");
            assert_eq!(found.not_allowed.is_none(), allowed, "{minor}");
        }
        let yen = Money::new(1, "JPY".parse().unwrap());
        let refused = ArmingError::Currency { amount: yen, limits: Currency::EUR };
        assert_eq!(application().pre_process(yen).not_allowed, Some(refused));
    }

    #[test]
    fn nothing_is_asked_for_only_where_it_is_allowed() {
        let refused = application().pre_process(euros(0));
        assert_eq!(
            (refused.not_allowed, refused.zero_amount),
            (Some(ArmingError::ZeroAmount), false)
        );
        let allowing = Application { zero_amount_allowed: true, ..application() };
        let found = allowing.pre_process(euros(0));
        assert_eq!((found.not_allowed, found.zero_amount), (None, true));
        assert!(!allowing.pre_process(euros(1)).zero_amount);
    }

    #[test]
    fn one_unit_is_a_status_check_where_that_is_on() {
        let asking = Application {
            status_check: true,
            contactless_transaction_limit: None,
            ..application()
        };
        let requested = |amount| asking.pre_process(amount).status_check_requested;
        let yen = Application { currency: "JPY".parse().unwrap(), ..asking.clone() };
        let one_yen = yen.pre_process(Money::new(1, yen.currency));
        assert!(requested(euros(100)) && one_yen.status_check_requested);
        assert!(!requested(euros(1)) && !requested(euros(101)));
        assert!(!application().pre_process(euros(100)).status_check_requested);
    }
}
