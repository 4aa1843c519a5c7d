//! What the phone's screen tells its owner, in English and German.

use tapfer_payment_types::{Currency, Language, Money};
use tapfer_wallet::texts::PersonText as _;
use tapfer_wallet::{CredentialFault, Notification, ProvenMerchant, Readiness};

/// A piece of news. `reach` is how far the token's keys go and its currency, for news about keys.
pub(crate) fn text(
    news: &Notification,
    reach: Option<(Readiness, Currency)>,
    language: Language,
) -> String {
    match language {
        Language::English => english(news, reach),
        Language::German => german(news, reach),
    }
}

/// The largest amount that can be paid at once, if anything can be paid at all.
fn largest(reach: Option<(Readiness, Currency)>) -> Option<Money> {
    let (readiness, currency) = reach?;
    (readiness.payments_left > 0).then(|| Money::new(readiness.largest_payment_minor, currency))
}

/// Who is paid, if the terminal has proven that.
fn name(merchant: Option<&ProvenMerchant>, before: &str) -> String {
    merchant.map(|merchant| format!(" {before} {}", merchant.name)).unwrap_or_default()
}

fn english(news: &Notification, reach: Option<(Readiness, Currency)>) -> String {
    match news {
        Notification::PaymentSent {
            amount,
            application_transaction_counter: counter,
            merchant,
            ..
        } => {
            let payee = name(merchant.as_ref(), "at");
            format!("{amount}{payee} sent to the issuer, transaction {counter}")
        }
        Notification::PaymentDeclined { amount, reason, merchant, .. } => {
            let payee = name(merchant.as_ref(), "at");
            format!("{amount}{payee}: {}", reason.text(Language::English))
        }
        Notification::PersonNeeded { amount, ask, merchant, .. } => {
            let payee = name(merchant.as_ref(), "at");
            format!("{amount}{payee}: {}", ask.text(Language::English))
        }
        Notification::MerchantRefused { name, fault, .. } => {
            format!("refused a terminal that says it is {name}: {fault}")
        }
        Notification::MerchantProofWrong { name: Some(name), .. } => {
            format!("refused a terminal that says it is {name}: its proof does not fit the payment")
        }
        Notification::MerchantProofWrong { name: None, .. } => {
            "refused a terminal that did not keep to what it asked for, or could not prove it"
                .to_owned()
        }
        Notification::DataRead { envelope, .. } => {
            format!("the terminal read data envelope {envelope}")
        }
        Notification::DataWritten { envelope, .. } => {
            format!("the terminal wrote data envelope {envelope}")
        }
        Notification::DiscouragedUnlock { .. } => {
            "your issuer advises against the way this phone is unlocked".to_owned()
        }
        Notification::ScreenOff { .. } => "turn the screen on and tap again".to_owned(),
        Notification::ReplenishSoon { .. } => {
            "keys run low: fetch new ones soon (tapfer wallet replenish)".to_owned()
        }
        Notification::NoKeysLeft { .. } => match largest(reach) {
            Some(largest) => format!("more than the {largest} that this phone can pay at once"),
            None => {
                "no key is left for this payment: fetch new ones (tapfer wallet replenish), then \
                     tap again"
                    .to_owned()
            }
        },
        Notification::PinUnconfirmed { .. } => {
            "whether the PIN was right comes with the next keys (tapfer wallet replenish)"
                .to_owned()
        }
        Notification::NoPinKeysLeft { .. } => {
            "no key is left for a payment with your PIN: fetch new ones (tapfer wallet replenish), \
             then tap again"
                .to_owned()
        }
        Notification::CertificateExpired { .. } => {
            "the card's certificate has expired: fetch a new one, then tap again".to_owned()
        }
        Notification::CounterExhausted { .. } => {
            "this token has used its last transaction: ask the issuer for a new one".to_owned()
        }
    }
}

fn german(news: &Notification, reach: Option<(Readiness, Currency)>) -> String {
    match news {
        Notification::PaymentSent {
            amount,
            application_transaction_counter: counter,
            merchant,
            ..
        } => {
            let payee = name(merchant.as_ref(), "bei");
            format!("{amount}{payee} an den Herausgeber gesendet, Zahlung {counter}")
        }
        Notification::PaymentDeclined { amount, reason, merchant, .. } => {
            format!("{amount}{}: {}", name(merchant.as_ref(), "bei"), reason.german())
        }
        Notification::PersonNeeded { amount, ask, merchant, .. } => {
            format!("{amount}{}: {}", name(merchant.as_ref(), "bei"), ask.german())
        }
        Notification::MerchantRefused { name, fault, .. } => {
            let fault = match fault {
                CredentialFault::Expired => "sein Zertifikat ist abgelaufen",
                CredentialFault::Revoked => "es wurde außer Betrieb genommen",
            };
            format!("Terminal abgewiesen, das sich {name} nennt: {fault}")
        }
        Notification::MerchantProofWrong { name: Some(name), .. } => {
            format!("Terminal abgewiesen, das sich {name} nennt: sein Beweis passt nicht zur Zahlung")
        }
        Notification::MerchantProofWrong { name: None, .. } => {
            "Terminal abgewiesen, das nicht bei dem blieb, was es verlangt hat, oder es nicht beweisen konnte"
                .to_owned()
        }
        Notification::DataRead { envelope, .. } => {
            format!("Das Terminal hat den Datenumschlag {envelope} gelesen")
        }
        Notification::DataWritten { envelope, .. } => {
            format!("Das Terminal hat den Datenumschlag {envelope} beschrieben")
        }
        Notification::DiscouragedUnlock { .. } => {
            "Ihr Herausgeber rät von der Art ab, wie dieses Telefon entsperrt wird".to_owned()
        }
        Notification::ScreenOff { .. } => {
            "Bitte Bildschirm einschalten und das Telefon noch einmal anhalten".to_owned()
        }
        Notification::ReplenishSoon { .. } => {
            "Die Schlüssel gehen zur Neige: bitte bald neue holen (tapfer wallet replenish)"
                .to_owned()
        }
        Notification::NoKeysLeft { .. } => match largest(reach) {
            Some(largest) => {
                format!("Mehr als {largest} kann dieses Telefon nicht auf einmal bezahlen")
            }
            None => {
                "Für diese Zahlung ist kein Schlüssel mehr da: bitte neue holen (tapfer wallet \
                     replenish) und das Telefon noch einmal anhalten"
                    .to_owned()
            }
        },
        Notification::PinUnconfirmed { .. } => {
            "Ob die PIN richtig war, kommt mit den nächsten Schlüsseln (tapfer wallet replenish)"
                .to_owned()
        }
        Notification::NoPinKeysLeft { .. } => {
            "Für eine Zahlung mit Ihrer PIN ist kein Schlüssel mehr da: bitte neue holen (tapfer wallet \
             replenish) und das Telefon noch einmal anhalten"
                .to_owned()
        }
        Notification::CertificateExpired { .. } => {
            "Das Zertifikat der Karte ist abgelaufen: bitte ein neues holen und das Telefon noch \
             einmal anhalten"
                .to_owned()
        }
        Notification::CounterExhausted { .. } => {
            "Dieses Token hat seine letzte Zahlung gemacht: bitte den Herausgeber um ein neues"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use tapfer_payment_types::{Currency, Language, Timestamp, TokenId};
    use tapfer_wallet::{CredentialFault, Notification, Readiness};

    use super::text;

    fn token() -> TokenId {
        TokenId::new(Timestamp::from_unix_millis(0), [0; 10])
    }

    #[test]
    fn both_languages_name_the_terminal_that_was_refused() {
        let news = Notification::MerchantRefused {
            token: token(),
            name: "Corner Cafe".to_owned(),
            fault: CredentialFault::Revoked,
        };
        let english = text(&news, None, Language::English);
        let german = text(&news, None, Language::German);
        assert!(english.contains("Corner Cafe: the terminal was taken out"), "{english}");
        assert!(german.contains("Corner Cafe nennt: es wurde außer Betrieb"), "{german}");
    }

    #[test]
    fn without_keys_under_the_pin_nothing_is_said_of_amounts() {
        let news = Notification::NoPinKeysLeft { token: token() };
        for language in [Language::English, Language::German] {
            let text = text(&news, None, language);
            assert!(text.contains("PIN") && text.contains("tapfer wallet replenish"), "{text}");
        }
    }

    #[test]
    fn without_a_fitting_key_the_largest_payment_is_told_if_there_is_one() {
        let news = Notification::NoKeysLeft { token: token() };
        let reach = |payments_left| {
            let readiness = Readiness {
                payments_left,
                verified_payments_left: 0,
                largest_payment_minor: 1000,
                usable_until: None,
                runs_low: true,
                wants_replenishment: true,
            };
            Some((readiness, Currency::EUR))
        };
        for language in [Language::English, Language::German] {
            assert!(text(&news, reach(1), language).contains("10.00 EUR"));
            assert!(text(&news, reach(0), language).contains("tapfer wallet replenish"));
        }
    }
}
