//! The languages that merchants and their customers read.

use clap::ValueEnum;

/// Language of receipts, and of the reasons that the platform gives.
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
    /// As the terminal names it.
    pub(crate) const fn of_terminal(self) -> tapfer_terminal::Language {
        match self {
            Self::English => tapfer_terminal::Language::English,
            Self::German => tapfer_terminal::Language::German,
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
