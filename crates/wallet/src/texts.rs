//! What the person reads, in English and German. The English texts are the errors' own.

use alloc::format;
use alloc::string::{String, ToString};

use tapfer_payment_types::Language;
use tapfer_payment_types::messages::PinStatus;

use crate::configuration::PlatformRestored;
use crate::pin::{EnterPinError, PinChoiceError, SetPinError};
use crate::policy::{Ask, DeclineReason};

/// A text for the person at the phone.
pub trait PersonText: ToString {
    /// The German text.
    fn german(&self) -> String;

    /// The text in a language.
    fn text(&self, language: Language) -> String {
        match language {
            Language::English => self.to_string(),
            Language::German => self.german(),
        }
    }
}

impl PersonText for Ask {
    fn german(&self) -> String {
        String::from(match self {
            Self::TurnScreenOn => {
                "Bitte Bildschirm einschalten und das Telefon noch einmal anhalten"
            }
            Self::Unlock => {
                "Für diese Zahlung bitte Telefon entsperren (ohne Sperre bitte erst eine einrichten) \
                 und noch einmal anhalten"
            }
            Self::EnterPin => {
                "Für diese Zahlung bitte die PIN in der App eingeben und innerhalb einer Minute noch \
                 einmal anhalten"
            }
            Self::SetPin => {
                "Für diese Zahlung wird eine PIN gebraucht: bitte in der App eine wählen"
            }
            Self::LogIn => {
                "Ihr Herausgeber bittet Sie, sich neu anzumelden, bevor Sie weiter bezahlen"
            }
        })
    }
}

impl PersonText for PlatformRestored {
    fn german(&self) -> String {
        format!(
            "Die Plattform Ihrer Bank sagt, dass sie am {} aus einer Sicherung wiederhergestellt wurde. Vielleicht \
             kennt sie Ihre letzten Zahlungen nicht, und was Sie kurz davor gesperrt hatten, kann wieder offen sein. \
             Wenn Ihre Bank davon nichts gesagt hat, rufen Sie sie an.",
            self.at
        )
    }
}

impl PersonText for DeclineReason {
    fn german(&self) -> String {
        String::from(match self {
            Self::TerminalDeclined => "Das Terminal hat die Zahlung abgelehnt",
            Self::TerminalTakesNoPin => {
                "Diese Zahlung braucht die PIN am Terminal, und dieses Terminal nimmt keine an"
            }
            Self::MerchantUnproven => {
                "Das Terminal hat nicht bewiesen, wem es gehört; Ihr Herausgeber verlangt das"
            }
            Self::PinBlocked => PIN_BLOCKED,
        })
    }
}

const PIN_BLOCKED: &str = "Die PIN ist gesperrt: bitte wenden Sie sich an Ihren Herausgeber";
const FETCH_KEYS: &str = "Bitte online gehen und Schlüssel neu laden";

impl PersonText for PinChoiceError {
    fn german(&self) -> String {
        match self {
            Self::Length(digits) => format!("Die PIN muss {digits} Ziffern haben"),
            Self::Easy => String::from(
                "Diese PIN ist zu leicht zu erraten: bitte keine Reihe, Wiederholung oder Jahreszahl",
            ),
        }
    }
}

impl PersonText for EnterPinError {
    fn german(&self) -> String {
        String::from(match self {
            Self::UnknownToken(_) => "Diese Karte ist nicht in der App",
            Self::NotSet => "Diese Karte hat noch keine PIN: bitte zuerst eine wählen",
            Self::Blocked => PIN_BLOCKED,
            Self::Hardness => "Die PIN kann nicht geprüft werden: bitte eine neue wählen",
        })
    }
}

impl PersonText for SetPinError {
    fn german(&self) -> String {
        String::from(match self {
            Self::UnknownToken(_) => "Diese Karte ist nicht in der App",
            Self::NotOffered => "Der Herausgeber dieser Karte bietet keine PIN in der App an",
            Self::Choice(error) => return error.german(),
            Self::OldPinNeeded => "Um die PIN zu ändern, bitte auch die alte eingeben",
            Self::ResetNeeded => {
                "Dieses Telefon hat den Schlüssel zur PIN verloren: bitte wenden Sie sich an Ihren \
                 Herausgeber"
            }
            Self::Unconfirmed => {
                "Die letzte neue PIN ist noch nicht bestätigt: bitte erst online gehen"
            }
            Self::Hardness(_) | Self::Recipient => FETCH_KEYS,
            Self::Store(_) => "Das Telefon konnte die neue PIN nicht speichern",
        })
    }
}

/// How many tries are left, for the person who has just entered a wrong PIN.
#[must_use]
pub fn tries_left(status: &PinStatus, language: Language) -> String {
    let left = status.tries_left;
    match (language, status.reset_granted, status.blocked, left) {
        (Language::English, true, ..) => String::from("choose a new PIN: your issuer allows it"),
        (Language::German, true, ..) => {
            String::from("Bitte eine neue PIN wählen: Ihr Herausgeber erlaubt es")
        }
        (Language::English, _, true, _) => DeclineReason::PinBlocked.to_string(),
        (Language::German, _, true, _) => String::from(PIN_BLOCKED),
        (Language::English, _, _, 1) => String::from("wrong PIN: one try is left"),
        (Language::German, _, _, 1) => String::from("Falsche PIN: noch ein Versuch"),
        (Language::English, ..) => format!("wrong PIN: {left} tries are left"),
        (Language::German, ..) => format!("Falsche PIN: noch {left} Versuche"),
    }
}

#[cfg(test)]
mod tests {
    use super::{PersonText, tries_left};
    use crate::pin::{EnterPinError, PinChoiceError, SetPinError};
    use crate::policy::{Ask, DeclineReason};
    use tapfer_payment_types::Language::{self, English, German};
    use tapfer_payment_types::messages::PinStatus;

    #[test]
    fn the_person_reads_both_languages() {
        let texts: [&dyn Fn(Language) -> String; 6] = [
            &|language| Ask::EnterPin.text(language),
            &|language| DeclineReason::TerminalTakesNoPin.text(language),
            &|language| PinChoiceError::Length(6).text(language),
            &|language| EnterPinError::Blocked.text(language),
            &|language| SetPinError::Choice(PinChoiceError::Easy).text(language),
            &|language| SetPinError::Unconfirmed.text(language),
        ];
        for text in texts {
            let (english, german) = (text(English), text(German));
            assert!(english != german && english.contains("PIN") && german.contains("PIN"));
        }
    }

    #[test]
    fn tries_left_are_told() {
        let status = |tries_left, blocked, reset_granted| PinStatus {
            generation: 1,
            tries_left,
            blocked,
            reset_granted,
        };
        for (status, english, german) in [
            (
                status(2, false, false),
                "wrong PIN: 2 tries are left",
                "Falsche PIN: noch 2 Versuche",
            ),
            (
                status(1, false, false),
                "wrong PIN: one try is left",
                "Falsche PIN: noch ein Versuch",
            ),
        ] {
            assert_eq!(
                (tries_left(&status, English), tries_left(&status, German)),
                (english.into(), german.into())
            );
        }
        assert!(tries_left(&status(0, true, false), German).contains("gesperrt"));
        assert!(tries_left(&status(0, true, true), English).contains("new PIN"));
    }
}
