//! What the merchant keeps: amount, outcome, transaction id. No card number, no token.

use serde_json::{Value, json};
use tapfer_terminal::kernel8::CardholderVerification;
use tapfer_terminal::{PaymentState, Receipt};

use crate::language::Language;
use crate::output::{Emphasis, Output};

/// The receipt for programs. `answer` is the platform's, if it was asked and answered.
pub(crate) fn to_json(receipt: &Receipt, answer: Option<&Value>) -> Value {
    let (outcome, reason_text) = match &receipt.state {
        PaymentState::Approved(_) => ("approved", None),
        PaymentState::ApprovedOffline => ("not_paid", Some("the platform was not asked")),
        PaymentState::Declined { reason, .. } => ("declined", Some(reason.as_str())),
        PaymentState::PinCancelled => ("cancelled", Some("no PIN was entered")),
        PaymentState::Unknown => ("unknown", Some("the platform did not answer")),
    };
    let of_platform = |field: &str| answer.and_then(|answer| answer.get(field)).cloned();
    json!({
        "outcome": outcome,
        "id": of_platform("id"),
        "payment_intent": receipt.payment_intent,
        "merchant": receipt.merchant,
        "merchant_proven": receipt.merchant_proven,
        "amount": receipt.amount.minor,
        "currency": receipt.amount.currency,
        "reason": of_platform("reason"),
        "reason_text": of_platform("reason_text").or_else(|| reason_text.map(|text| json!(text))),
        "application": receipt.application,
        "last_four": receipt.last_four,
        "verification": verification(receipt.verification),
        "created_at": of_platform("created_at"),
    })
}

const fn verification(verification: CardholderVerification) -> &'static str {
    match verification {
        CardholderVerification::ConfirmationCodeVerified => "on the phone",
        CardholderVerification::Signature => "signature",
        CardholderVerification::OnlinePin => "PIN",
        CardholderVerification::None | CardholderVerification::NotAvailable => "none",
    }
}

/// The words of a receipt, in English and in German.
const WORDS: [(&str, &str); 16] = [
    ("approved", "genehmigt"),
    ("declined", "abgelehnt"),
    ("unknown", "ungewiss"),
    ("cancelled", "abgebrochen"),
    ("no PIN was entered", "keine PIN eingegeben"),
    ("why", "warum"),
    ("merchant", "Händler"),
    ("transaction", "Vorgang"),
    ("payment", "Zahlung"),
    ("card", "Karte"),
    ("number ends", "Nummer endet"),
    ("verification", "Prüfung"),
    ("time", "Zeit"),
    ("on the phone", "am Telefon"),
    ("signature", "Unterschrift"),
    ("none", "keine"),
];

/// A word of the receipt; words that are not its own stay as they are.
fn word(language: Language, english: &str) -> String {
    let known = WORDS.iter().find(|(word, _)| *word == english);
    match (language, known) {
        (Language::German, Some((_, german))) => (*german).to_owned(),
        _ => english.to_owned(),
    }
}

/// The receipt for people.
pub(crate) fn print(output: Output, language: Language, receipt: &Value) {
    let text = |field: &str| receipt.get(field).and_then(Value::as_str).unwrap_or_default();
    let word = |english: &str| word(language, english);
    let emphasis = if text("outcome") == "approved" { Emphasis::Good } else { Emphasis::Bad };
    let outcome = output.paint(emphasis, &word(text("outcome")).to_uppercase());
    output.line("  ----------------------------------------------");
    output.line(format!("  {}   {outcome}", amount(receipt)));
    let lines = [
        ("why", word(text("reason_text"))),
        ("merchant", text("merchant").to_owned()),
        ("transaction", text("id").to_owned()),
        ("payment", text("payment_intent").to_owned()),
        ("card", text("application").to_owned()),
        ("number ends", text("last_four").to_owned()),
        ("verification", word(text("verification"))),
        ("time", text("created_at").to_owned()),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        output.line(format!("  {:<13} {value}", word(name)));
    }
    output.line("  ----------------------------------------------");
}

fn amount(receipt: &Value) -> String {
    let minor = receipt.get("amount").and_then(Value::as_i64);
    let currency = receipt.get("currency").and_then(Value::as_str);
    let currency = currency.and_then(|code| code.parse().ok());
    match (minor, currency) {
        (Some(minor), Some(currency)) => {
            tapfer_payment_types::Money::new(minor, currency).to_string()
        }
        _ => String::new(),
    }
}
