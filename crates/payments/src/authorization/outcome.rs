//! Outcomes of a decision: values with a number, a word and a text that stay the same for ever.

use core::fmt;

pub use tapfer_payment_types::Language;

/// What came out of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The payment is good.
    Approved,
    /// It is not, for this reason.
    Declined(DeclineReason),
}

macro_rules! decline_reasons {
    ($($(#[$meta:meta])* $variant:ident = $number:literal, $slug:literal, $english:literal, $german:literal;)+) => {
        /// Why a payment was declined, in order of precedence: of several reasons the first is given.
        ///
        /// Numbers and words are never reused or changed. A reason that is added later takes the
        /// next free number, wherever it stands in the order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DeclineReason {
            $($(#[$meta])* $variant),+
        }

        impl DeclineReason {
            /// Every reason, in order of precedence.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number, above zero.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number),+ }
            }

            /// The stable word.
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug),+ }
            }

            /// What the cashier reads.
            #[must_use]
            pub const fn text(self, language: Language) -> &'static str {
                match language {
                    Language::English => match self { $(Self::$variant => $english),+ },
                    Language::German => match self { $(Self::$variant => $german),+ },
                }
            }
        }
    };
}

decline_reasons! {
    /// The terminal was ended for good.
    TerminalRevoked = 26, "terminal_revoked",
        "This terminal was taken out of service. Please pay at another one.",
        "Dieses Terminal wurde außer Betrieb genommen. Bitte an einem anderen zahlen.";
    /// The presented number is no token of this platform.
    UnknownToken = 1, "unknown_token",
        "This card is not known here. Please use another one.",
        "Diese Karte ist hier nicht bekannt. Bitte eine andere verwenden.";
    /// The cryptogram is not what the card's key gives for this data.
    CryptogramInvalid = 9, "cryptogram_invalid",
        "The card could not prove that it is genuine, or the data was changed.",
        "Die Karte konnte ihre Echtheit nicht beweisen, oder die Daten wurden verändert.";
    /// The token was made but never activated.
    TokenInactive = 2, "token_inactive",
        "This card has not been activated on the phone yet.",
        "Diese Karte ist auf dem Telefon noch nicht freigeschaltet.";
    /// Somebody suspended the token.
    TokenSuspended = 3, "token_suspended",
        "This card is suspended. Please use another one.",
        "Diese Karte ist ausgesetzt. Bitte eine andere verwenden.";
    /// The token was deleted.
    TokenDeactivated = 4, "token_deactivated",
        "This card was removed from the phone. Please use another one.",
        "Diese Karte wurde vom Telefon entfernt. Bitte eine andere verwenden.";
    /// The card behind the token is blocked.
    CardBlocked = 5, "card_blocked",
        "This card is blocked. Please use another one.",
        "Diese Karte ist gesperrt. Bitte eine andere verwenden.";
    /// The card is past its last month.
    CardExpired = 6, "card_expired",
        "This card has expired. Please use another one.",
        "Diese Karte ist abgelaufen. Bitte eine andere verwenden.";
    /// The application data names another generation of the master key than the phone's key is of.
    IssuerMismatch = 7, "issuer_mismatch",
        "The data of the card does not belong to its issuer.",
        "Die Daten der Karte gehören nicht zu ihrem Herausgeber.";
    /// Another application was selected than the token's issuer has.
    AidMismatch = 8, "aid_mismatch",
        "The wrong application of the card was read.",
        "Es wurde die falsche Anwendung der Karte gelesen.";
    /// The cryptogram is right, but its counter made another one before: there are two copies of the
    /// phone. The token is suspended.
    CounterReused = 24, "counter_reused",
        "This card is suspended, because a copy of it may exist. Please use another one.",
        "Diese Karte wird ausgesetzt, weil es eine Kopie von ihr geben kann. Bitte eine andere verwenden.";
    /// The cryptogram is right but was presented before.
    Replay = 10, "replay",
        "This tap was presented before and does not count twice. Please tap again.",
        "Dieser Vorgang wurde schon einmal vorgelegt und zählt nicht doppelt. Bitte neu auflegen.";
    /// The cryptogram is right and new, but older than one that was seen before.
    CounterStale = 11, "counter_stale",
        "This tap is older than another one of the same phone. Please tap again.",
        "Dieser Vorgang ist älter als ein anderer desselben Telefons. Bitte neu auflegen.";
    /// The card itself said no: what it signed is a decline.
    CardDeclined = 23, "card_declined",
        "The phone declined this payment. Please check the phone and tap again.",
        "Das Telefon hat diese Zahlung abgelehnt. Bitte das Telefon prüfen und neu auflegen.";
    /// The card agreed to pay at another terminal, or in another country than the merchant's.
    MerchantMismatch = 27, "merchant_mismatch",
        "The card agreed to pay at another terminal than this one. Nothing was paid.",
        "Die Karte hat einer Zahlung an einem anderen Terminal zugestimmt. Es wurde nichts gezahlt.";
    /// The terminal does not wait for this payment.
    TerminalNotArmed = 12, "terminal_not_armed",
        "This terminal was not ready for this payment. Please start it again at the till.",
        "Dieses Terminal war für diese Zahlung nicht bereit. Bitte an der Kasse neu beginnen.";
    /// The card signed another amount than the merchant asked for.
    AmountMismatch = 13, "amount_mismatch",
        "The card agreed to another amount than the till asked for.",
        "Die Karte hat einem anderen Betrag zugestimmt, als die Kasse verlangt hat.";
    /// The card signed another currency, or its issuer keeps it in another.
    CurrencyMismatch = 14, "currency_mismatch",
        "The card cannot be used for this currency.",
        "Mit der Karte kann nicht in dieser Währung gezahlt werden.";
    /// What the card signed is not a purchase.
    TransactionTypeUnsupported = 15, "transaction_type_unsupported",
        "The card agreed to something that is not a purchase.",
        "Die Karte hat etwas zugestimmt, das kein Kauf ist.";
    /// The phone was never given the key it used.
    KeyUnknown = 16, "key_unknown",
        "The phone used a key that it was not given. Please renew the card on the phone.",
        "Das Telefon hat einen fremden Schlüssel benutzt. Bitte die Karte auf dem Telefon erneuern.";
    /// The key is too old.
    KeyExpired = 17, "key_expired",
        "The phone has to go online once before it can pay again.",
        "Das Telefon muss einmal online gehen, bevor es wieder zahlen kann.";
    /// The key is used up.
    KeyExhausted = 18, "key_exhausted",
        "The phone has used up its offline payments and has to go online once.",
        "Das Telefon hat seine Zahlungen aufgebraucht und muss einmal online gehen.";
    /// The signed date is not today's.
    StaleDate = 19, "stale_date",
        "The date of the payment is wrong. Please check the terminal's clock.",
        "Das Datum der Zahlung stimmt nicht. Bitte die Uhr des Terminals prüfen.";
    /// The terminal could not convince itself that the card is genuine.
    LocalAuthenticationFailed = 20, "local_authentication_failed",
        "The terminal could not check that the card is genuine.",
        "Das Terminal konnte die Echtheit der Karte nicht prüfen.";
    /// The terminal found something else that speaks against the card.
    TerminalChecksFailed = 25, "terminal_checks_failed",
        "The terminal found that the card cannot be used for this payment.",
        "Das Terminal hat festgestellt, dass die Karte für diese Zahlung nicht benutzt werden kann.";
    /// The phone is not what its issuer asks of phones, for this amount.
    DeviceIntegrity = 30, "device_integrity",
        "This phone may not pay this amount. The owner's bank can help.",
        "Mit diesem Telefon kann dieser Betrag nicht bezahlt werden. Der Herausgeber der Karte hilft weiter.";
    /// The person has not logged in at the issuer for as long, or as many payments, as its policy allows.
    LoginRequired = 32, "login_required",
        "Please log in at the card's issuer again, in its app, before you pay on.",
        "Bitte vor der nächsten Zahlung in der App des Kartenherausgebers neu anmelden.";
    /// The issuer's policy wants to know who is paid, and the terminal did not prove it to the phone.
    MerchantProofRequired = 31, "merchant_proof_required",
        "This card is good only at terminals that prove to the phone whose they are.",
        "Diese Karte gilt nur an Terminals, die dem Telefon beweisen, wem sie gehören.";
    /// Too many wrong PINs came before.
    PinBlocked = 29, "pin_blocked",
        "The PIN is blocked after too many wrong ones. The card's issuer can help.",
        "Die PIN ist nach zu vielen falschen gesperrt. Der Herausgeber der Karte kann helfen.";
    /// A wrong PIN, on the phone or at the terminal.
    PinWrong = 28, "pin_wrong",
        "The PIN was wrong. Please try again.",
        "Die PIN war falsch. Bitte noch einmal versuchen.";
    /// The amount asks for verification of the person, and there was none.
    VerificationRequired = 21, "verification_required",
        "Please unlock the phone and tap again.",
        "Bitte das Telefon entsperren und neu auflegen.";
    /// The card does not have that much.
    InsufficientFunds = 22, "insufficient_funds",
        "There is not enough money on the card.",
        "Auf der Karte ist nicht genug Geld.";
}

impl Outcome {
    /// The number: 0 is approved, every other is a [`DeclineReason`].
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Approved => 0,
            Self::Declined(reason) => reason.number(),
        }
    }

    /// The outcome with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        if number == 0 {
            return Some(Self::Approved);
        }
        let reason = DeclineReason::ALL.iter().find(|reason| reason.number() == number)?;
        Some(Self::Declined(*reason))
    }

    /// The stable word of the reason; `approved` if there is nothing to say.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Declined(reason) => reason.slug(),
        }
    }

    /// What the cashier reads.
    #[must_use]
    pub const fn text(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::Approved, Language::English) => "Approved. Thank you.",
            (Self::Approved, Language::German) => "Genehmigt. Vielen Dank.",
            (Self::Declined(reason), language) => reason.text(language),
        }
    }

    /// Whether the payment is good.
    #[must_use]
    pub const fn is_approved(self) -> bool {
        matches!(self, Self::Approved)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

#[cfg(test)]
mod tests {
    use super::{DeclineReason, Language, Outcome};
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_words_are_unique_and_read_back() {
        let numbers: BTreeSet<u16> =
            DeclineReason::ALL.iter().map(|reason| reason.number()).collect();
        let slugs: BTreeSet<&str> = DeclineReason::ALL.iter().map(|reason| reason.slug()).collect();
        assert_eq!(numbers.len(), DeclineReason::ALL.len());
        assert_eq!(slugs.len(), DeclineReason::ALL.len());
        for reason in DeclineReason::ALL {
            assert_eq!(Outcome::from_number(reason.number()), Some(Outcome::Declined(*reason)));
            assert_ne!(reason.text(Language::English), reason.text(Language::German));
        }
        assert_eq!(Outcome::from_number(0), Some(Outcome::Approved));
        assert_eq!(Outcome::from_number(u16::MAX), None);
    }
}
