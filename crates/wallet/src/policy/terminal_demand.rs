//! Which kinds of verification a terminal takes for a payment.

use tapfer_payment_types::policy::Requirement;

/// Byte 1 of the terminal risk management data `9F1D` (Book C-8, annex A): PIN verified online.
const ONLINE_PIN: u8 = 0x40;
/// On a contactless card or phone: by the phone itself.
const ON_DEVICE: u8 = 0x04;
/// None at all.
const NO_CVM: u8 = 0x08;
/// The bits that are about verification: contact and signature as well, restart and hold not.
const KINDS: u8 = 0x7E;

/// What the terminal says it takes. One that says nothing may take anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalDemand {
    without: bool,
    on_device: bool,
    pin: bool,
}

impl TerminalDemand {
    /// A terminal that says nothing.
    pub const SILENT: Self = Self { without: true, on_device: true, pin: true };

    /// Reads `9F1D`. Byte 1 lists the kinds of verification the terminal takes for this payment; one
    /// without any says nothing.
    #[must_use]
    pub fn from_risk_management_data(data: Option<&[u8]>) -> Self {
        let kinds = data.and_then(<[u8]>::first).map_or(0, |first| first & KINDS);
        if kinds == 0 {
            return Self::SILENT;
        }
        Self {
            without: kinds & NO_CVM != 0,
            on_device: kinds & ON_DEVICE != 0,
            pin: kinds & ONLINE_PIN != 0,
        }
    }

    /// Whether a PIN can be entered at it.
    #[must_use]
    pub const fn takes_pin(self) -> bool {
        self.pin
    }

    /// What it wants of the person: nothing if it takes payments without verification, else the least
    /// that it takes. A terminal that takes no kind we know wants the PIN, and does not get it.
    #[must_use]
    pub const fn asks_for(self) -> Requirement {
        match self {
            Self { without: true, .. } => Requirement::Anything,
            Self { on_device: true, .. } => Requirement::Unlocked,
            _ => Requirement::TerminalPin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TerminalDemand;
    use tapfer_payment_types::policy::Requirement;

    #[test]
    fn what_a_terminal_demands_is_read_from_its_risk_management_data() {
        let read = |first: u8| TerminalDemand::from_risk_management_data(Some(&[first, 0x80]));
        for (kinds, wants, takes_pin) in [
            (0x00, Requirement::Anything, true),
            (0x80, Requirement::Anything, true),
            (0x08, Requirement::Anything, false),
            (0x0C, Requirement::Anything, false),
            (0x48, Requirement::Anything, true),
            (0x04, Requirement::Unlocked, false),
            (0x44, Requirement::Unlocked, true),
            (0x40, Requirement::TerminalPin, true),
            (0x20, Requirement::TerminalPin, false),
        ] {
            let demand = read(kinds);
            assert_eq!((demand.asks_for(), demand.takes_pin()), (wants, takes_pin), "{kinds:02X}");
        }
        for nothing in [None, Some(&[][..])] {
            let demand = TerminalDemand::from_risk_management_data(nothing);
            assert_eq!(demand, TerminalDemand::SILENT);
        }
    }
}
