//! The outcome of a kernel in words: what `--kernel-only` shows, and why a tap ended early.

use data_encoding::HEXUPPER;
use serde_json::{Value, json};
use tapfer_emv::tlv_tree::{self, CardData, Node};
use tapfer_emv::tvr;
use tapfer_terminal::Language;
use tapfer_terminal::kernel8::{CardholderVerification, MessageIdentifier, Outcome, Status};

use crate::commands::tlv;
use crate::output::{Emphasis, Output};

/// Stable name of an outcome status.
pub(crate) const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Approved => "approved",
        Status::Declined => "declined",
        Status::OnlineRequest => "online_request",
        Status::EndApplication => "end_application",
        Status::SelectNext => "select_next",
        Status::TryAnotherInterface => "try_another_interface",
        Status::NotAvailable => "not_available",
    }
}

/// An outcome status as a person would say it.
pub(crate) const fn status_in_words(status: Status) -> &'static str {
    match status {
        Status::Approved => "approved by card and terminal",
        Status::Declined => "declined",
        Status::OnlineRequest => "the issuer has to decide",
        Status::EndApplication => "over, without a result",
        Status::SelectNext => "not a card of this kernel: try the card's next application",
        Status::TryAnotherInterface => "insert or swipe the card",
        Status::NotAvailable => "nothing yet",
    }
}

const fn verification_in_words(verification: CardholderVerification) -> &'static str {
    match verification {
        CardholderVerification::None => "none needed",
        CardholderVerification::Signature => "signature",
        CardholderVerification::OnlinePin => "PIN, checked online",
        CardholderVerification::ConfirmationCodeVerified => "verified on the phone",
        CardholderVerification::NotAvailable => "not applicable",
    }
}

/// Whether the card proved that it is genuine.
pub(crate) fn is_authenticated(outcome: &Outcome) -> bool {
    outcome.tvr.is_some_and(|results| {
        !results.contains(tvr::LOCAL_AUTHENTICATION_NOT_PERFORMED)
            && !results.contains(tvr::LOCAL_AUTHENTICATION_FAILED)
    })
}

/// The data record, masked.
fn data_record(outcome: &Outcome) -> Vec<Node> {
    let record = outcome.data_record.as_ref();
    record.map(|record| tlv_tree::tree(record.expose(), CardData::Masked).nodes).unwrap_or_default()
}

/// The whole outcome for programs; card data masked.
pub(crate) fn to_json(outcome: &Outcome) -> Value {
    let meanings: Vec<&str> = outcome.tvr.iter().flat_map(|results| results.meanings()).collect();
    json!({
        "outcome": status_name(outcome.parameters.status),
        "message": outcome.ui_request.as_ref().map(|request| message(request.message)),
        "cardholder_verification":
            verification_in_words(outcome.parameters.cardholder_verification),
        "local_authentication": is_authenticated(outcome),
        "error": outcome.error.level2.map(|error| error.to_string()),
        "outcome_parameter_set": HEXUPPER.encode(&outcome.parameters.bytes()),
        "error_indication": HEXUPPER.encode(&outcome.error.bytes()),
        "tvr": outcome.tvr.map(|results| HEXUPPER.encode(&results.bytes())),
        "tvr_meanings": meanings,
        "cvm_results": outcome.cvm_results.map(|results| HEXUPPER.encode(&results)),
        "user_interface_request":
            outcome.ui_request.as_ref().map(|request| HEXUPPER.encode(&request.bytes())),
        "user_interface_request_on_restart":
            outcome.ui_request_on_restart.as_ref().map(|request| HEXUPPER.encode(&request.bytes())),
        "data_record": data_record(outcome).iter().map(tlv::to_json).collect::<Vec<_>>(),
        "discretionary_data": HEXUPPER.encode(&outcome.discretionary_data),
    })
}

fn message(identifier: MessageIdentifier) -> &'static str {
    identifier.text(Language::English)
}

/// What the terminal noted, for a payment that it did not take.
pub(crate) fn print_reasons(output: Output, outcome: &Outcome) {
    for meaning in outcome.tvr.iter().flat_map(|results| results.meanings()) {
        output.line(format!("  terminal: {meaning}"));
    }
}

/// The whole outcome for people; card data masked.
pub(crate) fn print(output: Output, outcome: &Outcome) {
    let status = outcome.parameters.status;
    let emphasis = match status {
        Status::Approved | Status::OnlineRequest => Emphasis::Good,
        _ => Emphasis::Bad,
    };
    let word = output.paint(emphasis, status_name(status));
    let words = match status {
        Status::Declined => String::new(),
        _ => format!(": {}", status_in_words(status)),
    };
    output.line(format!("outcome                  {word}{words}"));
    if let Some(request) = &outcome.ui_request {
        output.line(format!("display                  {}", message(request.message)));
    }
    let verification = verification_in_words(outcome.parameters.cardholder_verification);
    output.line(format!("cardholder verification  {verification}"));
    let authentication = if is_authenticated(outcome) { "good" } else { "not done or failed" };
    output.line(format!("local authentication     {authentication}"));
    if let Some(error) = outcome.error.level2 {
        output.line(format!("error                    {error}"));
    }
    if let Some(results) = outcome.tvr {
        output.line(format!("TVR                      {}", HEXUPPER.encode(&results.bytes())));
        for meaning in results.meanings() {
            output.line(format!("                         {meaning}"));
        }
    }
    let parameters = HEXUPPER.encode(&outcome.parameters.bytes());
    output.line(format!("outcome parameter set    {parameters}"));
    let discretionary = HEXUPPER.encode(&outcome.discretionary_data);
    output.line(format!("discretionary data       {discretionary}"));
    let record = data_record(outcome);
    if !record.is_empty() {
        output.line("data record");
    }
    for mut node in record {
        node.depth = node.depth.saturating_add(1);
        tlv::print(output, &node);
    }
}
