//! A payment with the platform behind the terminal: arm, tap, ask, print the receipt.

use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};
use tapfer_payment_types::PaymentIntentId;
use tapfer_terminal::{
    HostDecision, Language, MerchantCredential, OnlinePayment, PaymentState, PinEntry,
    PinRecipient, Receipt, TapEnd, WithoutProof,
};

use super::presented::{tap_until_decided, with_card};
use super::{PayArguments, explain, insert, language, not_decided};
use crate::client;
use crate::clock;
use crate::commands::wallet::Place;
use crate::commands::wallet_pin;
use crate::configuration_file::ConfigurationFile;
use crate::context::Context;
use crate::failure::Ending;
use crate::kernel_report;
use crate::narrate::milliseconds;
use crate::pin_pad::{self, Entered};
use crate::receipt;
use crate::tap::Tapped;
use crate::terminal_identity::TerminalIdentity;
use crate::till::{self, Till, Trust};

/// A payment from its intent to its receipt.
pub(super) fn pay(context: &Context, arguments: &PayArguments) -> anyhow::Result<Ending> {
    let amount = arguments.amount()?;
    // What is wrong on this machine is said before anybody is asked for a card.
    let profile = arguments.profile()?;
    let entered = arguments.terminal_pin_file.as_deref().map(pin_pad::read).transpose()?;
    let merchant = context.id_or_latest(&arguments.merchant, "merchant")?;
    let terminal_id = context.id_or_latest(&arguments.terminal, "terminal")?;
    let till = Till {
        merchant: context.client_of(&merchant)?.patient(arguments.patience()),
        terminal: context.client_of(&terminal_id)?.patient(arguments.patience()),
        terminal_id,
    };
    let without_proof = profile.as_ref().map(|profile| profile.without_proof).unwrap_or_default();
    // First what no payment can do without: a platform that is away is not the certificate's fault.
    let file = ConfigurationFile::of_terminal(&context.home, &till.terminal_id);
    let trust = Trust::fetch(context, &till.terminal, &file)?;
    let merchant = credential(context, without_proof, &till);
    let applications = arguments.applications()?.unwrap_or_else(|| trust.applications.clone());
    let mut configuration = arguments.configuration(
        profile,
        &applications,
        trust.ca_keys.clone(),
        amount.currency,
        language(context),
    )?;
    configuration.merchant = merchant;
    till::revoke(&mut configuration, &trust.revoked);
    let capture = if arguments.manual_capture { "manual" } else { "automatic" };
    let intent = till.create_intent(amount, arguments.reference.as_deref(), capture)?;
    let tapped = till.arm(intent).and_then(|()| {
        with_card(context, arguments, |card| {
            let terminal = till::arm(configuration, intent, amount)?;
            tap_until_decided(context, arguments, terminal, card)
        })
    });
    match tapped {
        Ok(tapped) => {
            let pad = Pad { recipients: &trust.pin_recipients, entered };
            conclude(context, arguments, &till, pad, tapped)
        }
        Err(error) => {
            give_up(context, &till, intent);
            Err(error)
        }
    }
}

/// Sees to it that the terminal has a certificate to show to phones. One that cannot be had stops no
/// payment: phones whose policy wants no proof are served without.
fn credential(
    context: &Context,
    without_proof: WithoutProof,
    till: &Till,
) -> Option<MerchantCredential> {
    let made = || -> anyhow::Result<MerchantCredential> {
        let identity = TerminalIdentity::open(&context.home, &till.terminal_id)?;
        identity.into_credential(&till.terminal, without_proof)
    };
    made()
        .inspect_err(|error| {
            let why = "the terminal cannot prove to phones whose it is";
            context.output.remark(format!("{why}: {error:#}"));
        })
        .ok()
}

/// Frees the terminal. That it could not be freed is worth a remark, but never hides why.
fn give_up(context: &Context, till: &Till, intent: PaymentIntentId) {
    if let Err(error) = till.cancel(intent) {
        let frees = format!("`tapfer payment cancel {intent}`");
        context.output.remark(match language(context) {
            Language::English => {
                format!("the terminal may still be armed ({error:#}): {frees} frees it")
            }
            Language::German => {
                format!("das Terminal ist vielleicht noch belegt ({error:#}): {frees} gibt es frei")
            }
        });
    }
}

/// From the end of a tap to the receipt.
fn conclude(
    context: &Context,
    arguments: &PayArguments,
    till: &Till,
    pad: Pad<'_>,
    tapped: Tapped,
) -> anyhow::Result<Ending> {
    explain(context.output, arguments, &tapped.exchanges);
    let mut kernel = None;
    let (receipt, answer) = match tapped.end {
        TapEnd::Online(payment) => go_online(context, till, *payment, arguments.patience())?,
        TapEnd::AskPin(entry) => match with_pin(context, till, pad, *entry)? {
            PinPad::Entered(payment) => go_online(context, till, *payment, arguments.patience())?,
            PinPad::Cancelled(receipt) => {
                give_up(context, till, receipt.payment_intent);
                (receipt, None)
            }
        },
        TapEnd::Decided { receipt, outcome, .. } => {
            give_up(context, till, receipt.payment_intent);
            kernel = Some(outcome);
            (receipt, None)
        }
        TapEnd::Undecided { terminal, message, error, outcome } => {
            give_up(context, till, terminal.payment_intent());
            let reader_error = tapped.reader_error.as_ref();
            return Err(not_decided(
                language(context),
                message,
                error.as_ref(),
                outcome.as_ref(),
                reader_error,
            ));
        }
    };
    if receipt.state == PaymentState::ApprovedOffline {
        bail!(approved_alone(language(context)));
    }
    let mut report = receipt::to_json(&receipt, answer.as_ref());
    if context.output.is_json() {
        insert(&mut report, "tap_ms", json!(milliseconds(tapped.elapsed)));
        insert(&mut report, "kernel", json!(kernel.as_ref().map(kernel_report::to_json)));
        context.output.json_line(&report)?;
    } else {
        if let (Some(outcome), true) = (&kernel, arguments.explain) {
            kernel_report::print_reasons(context.output, outcome);
        }
        receipt::print(context.output, context.access.language, &report);
    }
    tell_tries_left(context, arguments, answer.as_ref());
    Ok(Ending::done_if(matches!(receipt.state, PaymentState::Approved(_))))
}

/// The phone asks its issuer how many tries are left, if its PIN was wrong. The receipt does not say it: it is
/// the merchant's, too.
fn tell_tries_left(context: &Context, arguments: &PayArguments, answer: Option<&Value>) {
    let reason = answer.and_then(|answer| answer.get("reason")).and_then(Value::as_str);
    let is_for_the_pin = matches!(reason, Some("pin_wrong" | "pin_blocked"));
    let (Some(place), Some(_), true) = (&arguments.wallet, &arguments.pin_file, is_for_the_pin)
    else {
        return;
    };
    let told = wallet_pin::tries_left(context, Place::at(place.clone()), arguments.token);
    let says = context.access.language.phone();
    context.output.remark(match (told, language(context)) {
        (Ok(text), _) => format!("{says}: {text}"),
        (Err(error), Language::English) => {
            format!("{says}: nobody knows how many tries are left: {error:#}")
        }
        (Err(error), Language::German) => {
            format!("{says}: niemand weiß, wie viele Versuche noch bleiben: {error:#}")
        }
    });
}

/// The till's PIN pad.
struct Pad<'a> {
    /// Whom a PIN is sealed to.
    recipients: &'a [PinRecipient],
    /// What a file has in place of somebody at the keyboard.
    entered: Option<Entered>,
}

/// What came of asking for the PIN.
enum PinPad {
    Entered(Box<OnlinePayment>),
    Cancelled(Receipt),
}

/// Asks the cardholder for the PIN. Whatever keeps it from being sealed ends the payment: the platform is not
/// asked.
fn with_pin(
    context: &Context,
    till: &Till,
    pad: Pad<'_>,
    entry: PinEntry,
) -> anyhow::Result<PinPad> {
    let intent = entry.payment_intent();
    let made = (|| {
        let person = entry.outcome().language(language(context));
        let prompt = format!("{}  {}", entry.amount(), entry.text(person));
        let terminal = till.terminal_id.parse()?;
        let entered = pad.entered.map_or_else(|| pin_pad::ask(&prompt, person), Ok)?;
        match entered {
            Entered::Pin(pin) => {
                let sealed = entry.enter(&pin, pad.recipients, terminal, &mut clock::random());
                Ok(PinPad::Entered(Box::new(sealed.map_err(|not_sealed| not_sealed.error)?)))
            }
            Entered::Cancelled => Ok(PinPad::Cancelled(entry.cancel().1)),
            Entered::Nowhere => bail!(no_pin_pad(language(context))),
        }
    })();
    made.inspect_err(|_: &anyhow::Error| give_up(context, till, intent))
}

const fn approved_alone(till: Language) -> &'static str {
    match till {
        Language::English => {
            "nothing was paid: the card approved, but the platform was not asked. Give nothing away"
        }
        Language::German => {
            "es wurde nichts bezahlt: die Karte hat genehmigt, aber die Plattform wurde nicht gefragt. Nichts \
             herausgeben"
        }
    }
}

const fn no_pin_pad(till: Language) -> &'static str {
    match till {
        Language::English => {
            "nothing was paid: the card wants its PIN, and nobody can enter one. Run this at a keyboard, or \
             give --terminal-pin-file"
        }
        Language::German => {
            "es wurde nichts bezahlt: die Karte will ihre PIN, und niemand kann sie eingeben. An einer \
             Tastatur starten oder --terminal-pin-file angeben"
        }
    }
}

/// Asks the platform. A terminal is freed on a definite refusal, never while the answer is unknown. A platform
/// without its security modules is not waited for.
fn go_online(
    context: &Context,
    till: &Till,
    payment: OnlinePayment,
    patience: Duration,
) -> anyhow::Result<(Receipt, Option<Value>)> {
    let intent = payment.request().payment_intent();
    let asked = {
        let _progress = context.output.progress("asking the platform");
        till.authorize(payment.request(), patience)
    };
    match asked {
        Ok(answer) => {
            let asked = (payment.request().payment_intent(), payment.request().amount());
            let decision = till::host_decision(asked, &answer)?;
            let (_terminal, receipt) = payment.complete(decision);
            Ok((receipt, Some(answer)))
        }
        // Freed, the payment can be decided no more, whatever is still on its way: this is a definite no.
        Err(error) if client::is_hsm_down(&error) && till.cancel(intent).is_ok() => Err(error),
        Err(error) if client::is_undecided(&error) => {
            let tells = format!("`tapfer payment show {intent}`");
            context.output.remark(match language(context) {
                Language::English => format!(
                    "{error:#}. Whatever the last answer says, nobody knows yet whether the payment was made: {tells} tells, \
                     once the platform is back"
                ),
                Language::German => format!(
                    "{error:#}. Was die letzte Antwort auch sagt, noch weiß niemand, ob bezahlt wurde: {tells} sagt es, sobald \
                     die Plattform wieder da ist"
                ),
            });
            let (_terminal, receipt) = payment.complete(HostDecision::NoAnswer);
            Ok((receipt, None))
        }
        Err(error) => {
            give_up(context, till, intent);
            Err(error)
        }
    }
}
