//! What reader and till show, in the person's language: every message identifier of Book A 9.4.

use crate::kernel8::{MessageIdentifier, Outcome, UserInterfaceRequest};

pub use tapfer_payment_types::Language;

/// Identifier, English, German.
type Text = (MessageIdentifier, &'static str, &'static str);

/// Book A table 9-3. A clear display has nothing on it.
const TEXTS: [Text; 19] = [
    (MessageIdentifier::APPROVED, "Approved", "Genehmigt"),
    (MessageIdentifier::DECLINED, "Declined", "Abgelehnt"),
    (MessageIdentifier::ENTER_PIN, "Please enter your PIN", "Bitte PIN eingeben"),
    (MessageIdentifier::PROCESSING_ERROR, "Processing error", "Fehler bei der Verarbeitung"),
    (MessageIdentifier::REMOVE_CARD, "Please remove card", "Bitte Karte entfernen"),
    (MessageIdentifier::WELCOME, "Welcome", "Willkommen"),
    (MessageIdentifier::PRESENT_CARD, "Present card", "Bitte Karte vorhalten"),
    (MessageIdentifier::PROCESSING, "Processing", "Wird bearbeitet"),
    (
        MessageIdentifier::CARD_READ_REMOVE,
        "Card read, please remove it",
        "Karte gelesen, bitte entfernen",
    ),
    (
        MessageIdentifier::TRY_ANOTHER_INTERFACE,
        "Please insert or swipe card",
        "Bitte Karte stecken oder durchziehen",
    ),
    (
        MessageIdentifier::PRESENT_ONE_CARD,
        "Please present one card only",
        "Bitte nur eine Karte vorhalten",
    ),
    (
        MessageIdentifier::APPROVED_PLEASE_SIGN,
        "Approved, please sign",
        "Genehmigt, bitte unterschreiben",
    ),
    (MessageIdentifier::AUTHORISING, "Authorising, please wait", "Wird genehmigt, bitte warten"),
    (MessageIdentifier::ERROR_OTHER_CARD, "Error, use another card", "Fehler, andere Karte nehmen"),
    (MessageIdentifier::INSERT_CARD, "Please insert card", "Bitte Karte stecken"),
    (MessageIdentifier::CLEAR_DISPLAY, "", ""),
    (
        MessageIdentifier::SEE_PHONE,
        "See phone, then present it again",
        "Aufs Telefon schauen, dann erneut vorhalten",
    ),
    (MessageIdentifier::TRY_AGAIN, "Present card again", "Karte erneut vorhalten"),
    (MessageIdentifier::NONE, "no message", "keine Meldung"),
];

impl MessageIdentifier {
    /// "Please enter your PIN"
    pub const ENTER_PIN: Self = Self(0x09);
    /// "Processing error"
    pub const PROCESSING_ERROR: Self = Self(0x0F);
    /// "Please remove card"
    pub const REMOVE_CARD: Self = Self(0x10);
    /// "Welcome"
    pub const WELCOME: Self = Self(0x14);
    /// "Present card"
    pub const PRESENT_CARD: Self = Self(0x15);
    /// "Processing"
    pub const PROCESSING: Self = Self(0x16);
    /// "Card read, please remove it"
    pub const CARD_READ_REMOVE: Self = Self(0x17);
    /// "Please present one card only"
    pub const PRESENT_ONE_CARD: Self = Self(0x19);
    /// "Please insert card"
    pub const INSERT_CARD: Self = Self(0x1D);

    /// The message in words. What the book does not know, a card chose from the terminal's list.
    #[must_use]
    pub fn text(self, language: Language) -> &'static str {
        let known = TEXTS.iter().find(|(identifier, ..)| *identifier == self);
        match (known, language) {
            (Some((_, english, _)), Language::English) => english,
            (Some((_, _, german)), Language::German) => german,
            (None, Language::English) => "message of the card",
            (None, Language::German) => "Meldung der Karte",
        }
    }
}

impl UserInterfaceRequest {
    /// What to show: in the card's preferred language, if the till has it, or in the till's.
    #[must_use]
    pub fn text(&self, till: Language) -> &'static str {
        self.message.text(Language::choose(&self.language_preference, till))
    }
}

impl Outcome {
    /// The language of whoever holds the card, if the card says so and the till has it.
    #[must_use]
    pub fn language(&self, till: Language) -> Language {
        let request = self.ui_request.as_ref().or(self.ui_request_on_restart.as_ref());
        request.map_or(till, |request| Language::choose(&request.language_preference, till))
    }
}

#[cfg(test)]
mod tests {
    use super::{Language, MessageIdentifier, TEXTS};
    use crate::kernel8::{ReaderStatus, UserInterfaceRequest};
    use std::collections::BTreeSet;

    #[test]
    fn every_message_has_words_in_both_languages() {
        let numbers: BTreeSet<u8> = TEXTS.iter().map(|(identifier, ..)| identifier.0).collect();
        // Book A table 9-3.
        let book = [
            0x03, 0x07, 0x09, 0x0F, 0x10, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C,
            0x1D, 0x1E, 0x20, 0x21, 0xFF,
        ];
        assert_eq!(numbers, BTreeSet::from(book));
        for (identifier, english, german) in TEXTS {
            let is_clear = identifier == MessageIdentifier::CLEAR_DISPLAY;
            assert_eq!(english.is_empty() && german.is_empty(), is_clear, "{identifier:?}");
            assert!(is_clear || english != german, "{identifier:?}");
        }
        assert_eq!(MessageIdentifier(0x42).text(Language::German), "Meldung der Karte");
    }

    #[test]
    fn the_card_chooses_the_language_if_the_till_has_it() {
        for (preference, till, expected) in [
            (b"deen\0\0\0\0", Language::English, Language::German),
            (b"frde\0\0\0\0", Language::English, Language::German),
            (b"EN\0\0\0\0\0\0", Language::German, Language::English),
            (b"frit\0\0\0\0", Language::German, Language::German),
            (b"\0\0\0\0\0\0\0\0", Language::English, Language::English),
        ] {
            let request = UserInterfaceRequest {
                message: MessageIdentifier::TRY_AGAIN,
                status: ReaderStatus::ReadyToRead,
                hold_time: [0; 3],
                language_preference: *preference,
            };
            assert_eq!(request.text(till), MessageIdentifier::TRY_AGAIN.text(expected));
        }
        assert_eq!(Language::choose(b"d", Language::English), Language::English);
    }
}
