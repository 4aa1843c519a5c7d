//! Why a tap led to nothing, for the cashier and for the person with the card.

use anyhow::anyhow;
use tapfer_emv::status::StatusWord;
use tapfer_terminal::kernel8::{MessageIdentifier, Outcome};
use tapfer_terminal::{ArmingError, Language, PinSealError, TapError};

use crate::client::is_hsm_down;
use crate::context::Context;
use crate::failure::NothingPaid;
use crate::pcsc_reader::FieldError;

/// What the till speaks to people.
pub(super) const fn language(context: &Context) -> Language {
    context.access.language.of_people()
}

/// What the terminal itself refused, in the cashier's language; other errors stay as they are.
pub(super) fn for_cashiers(error: anyhow::Error, till: Language) -> anyhow::Error {
    if is_hsm_down(&error) {
        return without_security_module(till).into();
    }
    let arming = error.downcast_ref::<ArmingError>().map(|refused| refused.text(till));
    let sealing = || error.downcast_ref::<PinSealError>().map(|refused| refused.text(till));
    match arming.or_else(sealing).or_else(|| in_field(&error, till)) {
        Some(text) => anyhow!(text),
        None => error,
    }
}

/// What is wrong in the reader's field.
fn in_field(error: &anyhow::Error, till: Language) -> Option<String> {
    error.downcast_ref::<FieldError>().map(|trouble| trouble.text(till))
}

/// Why a tap led to nothing. Faults that the kernel found in terminal or card are named in English, for whoever
/// mends them.
pub(super) fn not_decided(
    till: Language,
    message: MessageIdentifier,
    error: Option<&TapError>,
    outcome: Option<&Outcome>,
    reader_error: Option<&anyhow::Error>,
) -> anyhow::Error {
    let status = outcome.map(|outcome| outcome.error.status_word).filter(|word| *word != [0, 0]);
    let why = match (reader_error, error, outcome.and_then(|outcome| outcome.error.level2), status)
    {
        (Some(reader), ..) => in_field(reader, till).unwrap_or_else(|| format!("{reader:#}")),
        _ if message == MessageIdentifier::SEE_PHONE => see_phone(till).to_owned(),
        (_, Some(error), ..) => error.text(till),
        (.., Some([0x69, 0x85])) => look_at_the_phone(till).to_owned(),
        (_, _, Some(error), _) => error.to_string(),
        _ => card_left(till).to_owned(),
    };
    let status_word = status.map(|[first, second]| StatusWord::from_bytes(first, second));
    let status_word = status_word.map(|status| status.to_string());
    let language = outcome.map_or(till, |outcome| outcome.language(till));
    NothingPaid { why, status_word, display: message.text(language), language: till }.into()
}

/// The platform lives, but cannot look into what the card said.
fn without_security_module(till: Language) -> NothingPaid {
    let why = match till {
        Language::English => {
            "no security module of the platform answers, so it can decide no payment. Take the payment again in a \
             while; whoever runs the platform sees the cause with `tapfer hsm status`"
        }
        Language::German => {
            "kein Sicherheitsmodul der Plattform antwortet, daher kann sie keine Zahlung entscheiden. Nach einer \
             Weile noch einmal kassieren; wer die Plattform betreibt, sieht die Ursache mit `tapfer hsm status`"
        }
    };
    let display = MessageIdentifier::PROCESSING_ERROR.text(till);
    NothingPaid { why: why.to_owned(), status_word: None, display, language: till }
}

const fn see_phone(till: Language) -> &'static str {
    match till {
        Language::English => "the phone needs its owner: see what it asks for, then tap again",
        Language::German => {
            "das Telefon braucht seinen Besitzer: nachsehen, was es fragt, dann erneut vorhalten"
        }
    }
}

const fn look_at_the_phone(till: Language) -> &'static str {
    match till {
        Language::English => "the card does not want to pay now: look at the phone",
        Language::German => "die Karte will jetzt nicht zahlen: aufs Telefon schauen",
    }
}

const fn card_left(till: Language) -> &'static str {
    match till {
        Language::English => "the card left the field or ended the payment",
        Language::German => "die Karte hat das Feld verlassen oder die Zahlung beendet",
    }
}
