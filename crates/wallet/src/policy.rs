//! When a payment needs the person: a pure function of policy, amount and device state.

use tapfer_emv::iad::VerificationMethod;
use tapfer_payment_types::messages::{VerificationPolicyMessage, charge_minor};

use crate::{DeviceState, PaymentAmount};

/// What the card does with a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Ask the issuer online, with the person verified like this.
    Online(VerificationMethod),
    /// Decline.
    Decline(DeclineReason),
}

/// Why the card declines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeclineReason {
    /// The terminal itself asked for a decline.
    #[error("the terminal declined the payment")]
    TerminalDeclined,
    /// The policy wants the screen on.
    #[error("the screen is off: turn it on and tap again")]
    ScreenOff,
    /// The amount or the currency asks for the person, and the phone is locked.
    #[error("this payment needs you: unlock the phone and tap again")]
    VerificationRequired,
}

/// Whether the terminal takes payments for which nobody was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalDemand {
    /// It does, or does not say.
    Nothing,
    /// It does not: the amount is above its own limit.
    Verification,
}

impl TerminalDemand {
    /// Byte 1 of the terminal risk management data `9F1D`: payments without verification are possible.
    const NO_CVM: u8 = 0x08;

    /// Reads `9F1D`. Byte 1 lists the kinds of verification the terminal takes for this payment; one
    /// without any says nothing.
    #[must_use]
    pub fn from_risk_management_data(data: Option<&[u8]>) -> Self {
        match data.and_then(<[u8]>::first) {
            Some(&kinds) if kinds != 0 && kinds & Self::NO_CVM == 0 => Self::Verification,
            _ => Self::Nothing,
        }
    }
}

/// Decides on a payment.
///
/// Up to the limit, in the policy's currency, nobody is asked, unless the terminal asks. Anything
/// else needs a phone that its owner has unlocked and is looking at: an unlocked phone with a dark
/// screen lies on a table.
#[must_use]
pub fn decide(
    policy: &VerificationPolicyMessage,
    amount: PaymentAmount,
    device: &DeviceState,
    demand: TerminalDemand,
) -> Decision {
    if policy.screen_must_be_on && !device.screen_on {
        return Decision::Decline(DeclineReason::ScreenOff);
    }
    let within_limit =
        is_domestic(policy, amount) && amount.minor() <= policy.unverified_limit_minor;
    if within_limit && demand == TerminalDemand::Nothing {
        return Decision::Online(VerificationMethod::None);
    }
    if device.unlocked && device.screen_on {
        return Decision::Online(VerificationMethod::DeviceUnlock);
    }
    Decision::Decline(DeclineReason::VerificationRequired)
}

/// How much of a key's total a payment takes up, minor units of the policy's currency: as the
/// platform counts it.
#[must_use]
pub const fn charge(
    policy: &VerificationPolicyMessage,
    amount: PaymentAmount,
    decision: Decision,
) -> i64 {
    let declined = matches!(decision, Decision::Decline(_));
    charge_minor(policy.currency, amount.minor(), amount.currency_numeric(), declined)
}

fn is_domestic(policy: &VerificationPolicyMessage, amount: PaymentAmount) -> bool {
    amount.currency_numeric() == policy.currency.numeric()
}

#[cfg(test)]
mod tests {
    use super::{Decision, DeclineReason, TerminalDemand, charge, decide};
    use crate::{DeviceState, PaymentAmount};
    use tapfer_emv::iad::VerificationMethod;
    use tapfer_payment_types::Currency;
    use tapfer_payment_types::messages::VerificationPolicyMessage;

    /// Columns: amount in the policy's currency or another, screen must be on, screen on, unlocked.
    const TABLE: &str = "
        amount  currency  policy    screen  lock      decision
        0       EUR       screen    on      locked    nobody
        2500    EUR       screen    on      locked    nobody
        2500    EUR       screen    on      unlocked  nobody
        2500    EUR       screen    off     locked    screen_off
        2500    EUR       screen    off     unlocked  screen_off
        2500    EUR       anything  off     locked    nobody
        2500    EUR       anything  on      locked    nobody
        2501    EUR       screen    on      locked    required
        2501    EUR       screen    on      unlocked  unlock
        2501    EUR       screen    off     unlocked  screen_off
        2501    EUR       anything  off     locked    required
        2501    EUR       anything  off     unlocked  required
        2501    EUR       anything  on      unlocked  unlock
        1       USD       screen    on      locked    required
        1       USD       screen    on      unlocked  unlock
        1       USD       anything  off     unlocked  required
        1       USD       screen    off     locked    screen_off
    ";

    fn expected(word: &str) -> Decision {
        match word {
            "nobody" => Decision::Online(VerificationMethod::None),
            "unlock" => Decision::Online(VerificationMethod::DeviceUnlock),
            "screen_off" => Decision::Decline(DeclineReason::ScreenOff),
            "required" => Decision::Decline(DeclineReason::VerificationRequired),
            other => panic!("{other} is not a decision"),
        }
    }

    fn policy(screen_must_be_on: bool) -> VerificationPolicyMessage {
        VerificationPolicyMessage {
            version: 1,
            currency: Currency::EUR,
            unverified_limit_minor: 2500,
            screen_must_be_on,
        }
    }

    #[test]
    fn the_table_of_decisions() {
        let rows =
            TABLE.lines().skip(2).map(str::split_whitespace).map(Iterator::collect::<Vec<_>>);
        let mut checked = 0;
        for row in rows.filter(|row| !row.is_empty()) {
            let currency: Currency = row[1].parse().unwrap();
            let amount = PaymentAmount::new(row[0].parse().unwrap(), currency.numeric());
            let device = DeviceState {
                screen_on: row[3] == "on",
                unlocked: row[4] == "unlocked",
                integrity_verdict: 0,
            };
            let decide = |demand| decide(&policy(row[2] == "screen"), amount, &device, demand);
            let wanted = expected(row[5]);
            assert_eq!(decide(TerminalDemand::Nothing), wanted, "{row:?}");
            // A terminal that wants the person gets the person, or nothing.
            let in_hand = device.unlocked && device.screen_on;
            let demanded = match wanted {
                Decision::Online(VerificationMethod::None) if in_hand => expected("unlock"),
                Decision::Online(VerificationMethod::None) => expected("required"),
                other => other,
            };
            assert_eq!(decide(TerminalDemand::Verification), demanded, "{row:?}");
            checked += 1;
        }
        assert_eq!(checked, 17);
    }

    #[test]
    fn what_a_terminal_demands_is_read_from_its_risk_management_data() {
        let read = |first: u8| TerminalDemand::from_risk_management_data(Some(&[first, 0x80]));
        for kinds in [0x00, 0x08, 0x0C, 0x48] {
            assert_eq!(read(kinds), TerminalDemand::Nothing, "{kinds:02X}");
        }
        for kinds in [0x04, 0x40, 0x44] {
            assert_eq!(read(kinds), TerminalDemand::Verification, "{kinds:02X}");
        }
        assert_eq!(TerminalDemand::from_risk_management_data(None), TerminalDemand::Nothing);
    }

    #[test]
    fn only_what_may_move_money_is_charged() {
        let (policy, euros) = (policy(true), PaymentAmount::new(700, 978));
        let online = Decision::Online(VerificationMethod::None);
        assert_eq!(charge(&policy, euros, online), 700);
        assert_eq!(charge(&policy, PaymentAmount::new(700, 840), online), 0);
        assert_eq!(charge(&policy, euros, Decision::Decline(DeclineReason::ScreenOff)), 0);
    }
}
