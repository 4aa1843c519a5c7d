//! The languages that merchants and their customers read.

use clap::ValueEnum;
use tapfer_wallet::texts::PersonText;

/// Language of receipts, of what the phone's screen says, and of the reasons that the platform gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// English
    #[default]
    #[value(name = "en")]
    English,
    /// Deutsch
    #[value(name = "de")]
    German,
}

impl Language {
    /// As phone and terminal name it.
    pub(crate) const fn of_people(self) -> tapfer_payment_types::Language {
        match self {
            Self::English => tapfer_payment_types::Language::English,
            Self::German => tapfer_payment_types::Language::German,
        }
    }

    /// A refusal by the phone itself, in the words of its screen.
    pub(crate) fn refusal(self, text: &impl PersonText) -> anyhow::Error {
        anyhow::Error::msg(text.text(self.of_people()))
    }

    /// Who speaks, in front of what the phone says beside a till.
    pub(crate) const fn phone(self) -> &'static str {
        match self {
            Self::English => "phone",
            Self::German => "Telefon",
        }
    }

    /// As HTTP names it (RFC 9110, 8.5.1).
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }
}
