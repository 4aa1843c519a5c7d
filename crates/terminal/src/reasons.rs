//! Why a payment did not come about, for whoever stands at the till, in English and in German.
//!
//! The English is what `Display` says; it is also what a log has.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tapfer_emv::tvr::{self, TerminalVerificationResults, TvrBit};

use crate::arming::ArmingError;
use crate::entry_point::EntryPointError;
use crate::kernel8::{DeclinedBy, Outcome};
use crate::messages::Language;
use crate::online_pin::PinSealError;
use crate::tap::TapError;

impl ArmingError {
    /// Why, in the cashier's language.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        match (language, self) {
            (Language::English, error) => error.to_string(),
            (Language::German, Self::Amount(amount)) => format!(
                "ein Betrag ist nicht negativ und hat höchstens zwölf Stellen in der kleinsten Einheit: {amount}"
            ),
            (Language::German, Self::ZeroAmount) => String::from(
                "es ist nichts zu zahlen, und dieses Terminal lässt sich dafür nichts vorhalten",
            ),
            (Language::German, Self::AboveContactlessLimit { amount, limit }) => format!(
                "{amount} sind mehr als {limit}, das Höchste, was dieses Terminal kontaktlos nimmt: bitte \
                 anders zahlen"
            ),
            (Language::German, Self::Currency { amount, limits }) => format!(
                "die Grenzen des Terminals sind in {limits} und sagen nichts über {amount}: in {limits} \
                 kassieren oder das Terminal mit Grenzen in {} einrichten",
                amount.currency
            ),
            (Language::German, Self::NoApplication) => {
                String::from("das Terminal nimmt keine Anwendung an: eine einrichten")
            }
        }
    }
}

impl TapError {
    /// Why, in the cashier's language. What the terminal's own key could not do stays English: that is for
    /// whoever mends it.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        let german = match (language, self) {
            (Language::English, _) | (_, Self::Signing(_)) => return self.to_string(),
            (_, Self::EntryPoint(EntryPointError::Malformed)) => {
                "das Verzeichnis der Karte ist nicht lesbar"
            }
            (_, Self::EntryPoint(EntryPointError::NoCommonApplication(_))) => {
                "die Karte hat keine Anwendung, die dieses Terminal für diesen Betrag nimmt"
            }
            (_, Self::TerminalRefused) => {
                "das Telefon lehnt dieses Terminal ab: sein Zertifikat ist abgelaufen oder widerrufen. \
                 Erneuern, und die Plattform fragen, wenn das nicht hilft"
            }
            (_, Self::Nonce) => {
                "das Telefon hat auf das Zertifikat des Terminals nicht mit einer Zahl von acht Bytes \
                 geantwortet"
            }
            (_, Self::SeveralCards) => "mehr als eine Karte im Feld: bitte nur eine vorhalten",
        };
        String::from(german)
    }
}

impl PinSealError {
    /// Why, in the cashier's language.
    #[must_use]
    pub fn text(&self, language: Language) -> String {
        match (language, self) {
            (Language::English, error) => error.to_string(),
            (Language::German, Self::UnknownIssuer) => String::from(
                "das Terminal hat keinen Schlüssel des Herausgebers dieser Karte, um eine PIN zu \
                 versiegeln: bitte eine andere Karte",
            ),
            (Language::German, Self::Seal) => {
                String::from("die PIN ließ sich nicht für den Herausgeber versiegeln")
            }
        }
    }
}

/// Why card or terminal declined, in words for the merchant. The results that the terminal declined for
/// are in it.
pub(crate) fn decline_reason(outcome: &Outcome, language: Language) -> String {
    let results = outcome.tvr.unwrap_or_default();
    let serious = serious_results(results);
    let is_person_alone = matches!(
        serious.as_slice(),
        [only] if *only == tvr::CARDHOLDER_VERIFICATION_FAILED
    );
    let (person, terminal, card) = match language {
        Language::English => (
            "the phone's owner must be verified: unlock the phone and tap again",
            "the terminal declined: ",
            "the card declined",
        ),
        Language::German => (
            "wer das Telefon hat, muss geprüft werden: Telefon entsperren und erneut vorhalten",
            "das Terminal hat abgelehnt: ",
            "die Karte hat abgelehnt",
        ),
    };
    match outcome.declined_by {
        // The phone could not verify its person, or not in a way that the terminal offers.
        _ if is_person_alone => String::from(person),
        Some(DeclinedBy::Terminal) => {
            let words = serious.into_iter().map(|bit| meaning(bit, language));
            let words: Vec<&str> = words.collect();
            format!("{terminal}{}", words.join(", "))
        }
        _ => String::from(card),
    }
}

/// The results that speak against a payment.
fn serious_results(results: TerminalVerificationResults) -> Vec<TvrBit> {
    const HARMLESS: [TvrBit; 5] = [
        tvr::KERNEL_8_FORMAT,
        tvr::RELAY_RESISTANCE_PERFORMED,
        tvr::RELAY_RESISTANCE_NOT_PERFORMED,
        tvr::FLOOR_LIMIT_EXCEEDED,
        tvr::ONLINE_CVM_CAPTURED,
    ];
    let set = tvr::ALL.iter().copied().filter(|bit| results.contains(*bit));
    set.filter(|bit| !HARMLESS.contains(bit)).collect()
}

/// The serious results in German.
const GERMAN: [(TvrBit, &str); 10] = [
    (tvr::LOCAL_AUTHENTICATION_NOT_PERFORMED, "die Karte wurde nicht auf Echtheit geprüft"),
    (tvr::LOCAL_AUTHENTICATION_FAILED, "die Prüfung der Karte auf Echtheit schlug fehl"),
    (tvr::APPLICATION_VERSIONS_DIFFER, "Karte und Terminal haben verschiedene Versionen"),
    (tvr::APPLICATION_EXPIRED, "die Karte ist abgelaufen"),
    (tvr::APPLICATION_NOT_YET_EFFECTIVE, "die Karte ist noch nicht gültig"),
    (tvr::SERVICE_NOT_ALLOWED, "die Karte ist für diese Leistung nicht zugelassen"),
    (tvr::CARDHOLDER_VERIFICATION_FAILED, "die Prüfung des Inhabers schlug fehl"),
    (tvr::AID_MISMATCH, "Karte und Terminal nennen verschiedene Anwendungen"),
    (tvr::RELAY_THRESHOLD_EXCEEDED, "die Karte antwortet auffällig ungleich schnell"),
    (
        tvr::RELAY_TIME_LIMITS_EXCEEDED,
        "die Karte antwortet zu langsam: vielleicht ist sie woanders",
    ),
];

fn meaning(bit: TvrBit, language: Language) -> &'static str {
    let german = GERMAN.iter().find(|(known, _)| *known == bit);
    match (language, german) {
        (Language::German, Some((_, words))) => words,
        _ => bit.meaning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_that_speaks_against_a_payment_has_german_words() {
        let all = TerminalVerificationResults::from_bytes([0xFF; 5]);
        for bit in serious_results(all) {
            assert_ne!(meaning(bit, Language::German), bit.meaning);
            assert_eq!(meaning(bit, Language::English), bit.meaning);
        }
        assert_eq!(serious_results(all).len(), GERMAN.len());
    }

    #[test]
    fn what_the_terminal_refuses_has_german_words() {
        let errors = [
            TapError::EntryPoint(EntryPointError::Malformed),
            TapError::EntryPoint(EntryPointError::NoCommonApplication(Vec::new())),
            TapError::TerminalRefused,
            TapError::Nonce,
            TapError::SeveralCards,
        ];
        for error in errors {
            assert_eq!(error.text(Language::English), error.to_string());
            assert_ne!(error.text(Language::German), error.to_string());
        }
        for error in [PinSealError::UnknownIssuer, PinSealError::Seal] {
            assert_ne!(error.text(Language::German), error.to_string());
        }
        for error in [ArmingError::ZeroAmount, ArmingError::NoApplication] {
            assert_ne!(error.text(Language::German), error.to_string());
        }
    }
}
