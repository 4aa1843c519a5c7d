//! What people and machines ask of the platform: an order, and the request that carries it.

use serde_json::json;
use tapfer_payment_types::TerminalId;
use tapfer_server::in_process::{Answer, Call};

use crate::story::euros;

/// A letter's place among all that were written.
pub(crate) type LetterNumber = usize;

/// What somebody wants.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// A merchant wants to be paid.
    Intent { merchant: usize, amount: i64, manual: bool },
    /// A till wants to wait for a card.
    Arm { intent: String, terminal: TerminalId },
    /// A till asks whether a tap is good.
    Authorize { intent: String, terminal: TerminalId, chip_data: Vec<u8> },
    /// A merchant takes what is held for it; all of it if no amount is given.
    Capture { intent: String, amount: Option<i64> },
    /// A merchant gives up.
    Cancel { intent: String },
    /// A merchant gives money back.
    Refund { intent: String, amount: i64 },
    /// A merchant undoes an approval.
    Reverse { authorization: String },
    /// The issuer loads money onto a card.
    TopUp { card: usize, id: String, amount: i64, reference: String },
    /// The issuer blocks a card.
    Block { card: usize, id: String },
    /// The issuer lets it pay again.
    Unblock { card: usize, id: String },
    /// The issuer suspends what a phone pays with.
    Suspend { phone: usize, token: String },
    /// The issuer lets it pay again.
    Resume { phone: usize, token: String },
    /// A phone wants keys.
    Replenish { token: String, request: String },
}

impl Order {
    /// The request, under this name.
    pub(crate) fn call(&self, bearer: &str, idempotency_key: String) -> Call {
        let reason = json!({ "reason": "simulated" });
        let by_issuer = json!({ "actor": "issuer", "reason": "simulated" });
        let (path, body) = match self {
            Self::Intent { amount, manual, .. } => {
                let method = if *manual { "manual" } else { "automatic" };
                let body = json!({ "amount": amount, "currency": "EUR", "capture_method": method });
                ("/v1/payment-intents".to_owned(), body)
            }
            Self::Arm { intent, terminal } => {
                (format!("/v1/payment-intents/{intent}/arm"), json!({ "terminal": terminal }))
            }
            Self::Authorize { intent, chip_data, .. } => {
                let chip_data = data_encoding::HEXLOWER.encode(chip_data);
                let body = json!({ "payment_intent": intent, "chip_data": chip_data });
                ("/v1/authorizations".to_owned(), body)
            }
            Self::Capture { intent, amount } => {
                let body = amount.map_or_else(|| json!({}), |amount| json!({ "amount": amount }));
                (format!("/v1/payment-intents/{intent}/capture"), body)
            }
            Self::Cancel { intent } => (format!("/v1/payment-intents/{intent}/cancel"), json!({})),
            Self::Refund { intent, amount } => {
                ("/v1/refunds".to_owned(), json!({ "payment_intent": intent, "amount": amount }))
            }
            Self::Reverse { authorization } => {
                (format!("/v1/authorizations/{authorization}/reversals"), reason)
            }
            Self::TopUp { id, amount, reference, .. } => {
                let body = json!({ "amount": amount, "currency": "EUR", "reference": reference });
                (format!("/v1/cards/{id}/top-ups"), body)
            }
            Self::Block { id, .. } => (format!("/v1/cards/{id}/block"), reason),
            Self::Unblock { id, .. } => (format!("/v1/cards/{id}/unblock"), reason),
            Self::Suspend { token, .. } => (format!("/v1/tokens/{token}/suspend"), by_issuer),
            Self::Resume { token, .. } => (format!("/v1/tokens/{token}/unsuspend"), by_issuer),
            Self::Replenish { token, request } => {
                return Call {
                    method: "POST",
                    path: format!("/v1/tokens/{token}/replenish"),
                    bearer: bearer.to_owned(),
                    idempotency_key: Some(idempotency_key),
                    body: request.clone(),
                };
            }
        };
        Call {
            method: "POST",
            path,
            bearer: bearer.to_owned(),
            idempotency_key: Some(idempotency_key),
            body: body.to_string(),
        }
    }

    /// Whether it waits in the line of payments.
    pub(crate) const fn is_payment(&self) -> bool {
        matches!(self, Self::Authorize { .. })
    }

    /// Whether it makes a payment that others are about.
    pub(crate) const fn is_intent(&self) -> bool {
        matches!(self, Self::Intent { .. })
    }

    /// What is wanted, in words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Intent { amount, manual: false, .. } => format!("to be paid {}", euros(*amount)),
            Self::Intent { amount, manual: true, .. } => {
                format!("to be paid {}, taken later", euros(*amount))
            }
            Self::Arm { .. } => "to wait for a card".to_owned(),
            Self::Authorize { .. } => "to know whether the tap is good".to_owned(),
            Self::Capture { amount: Some(amount), .. } => {
                format!("to take {} of it", euros(*amount))
            }
            Self::Capture { amount: None, .. } => "to take the money".to_owned(),
            Self::Cancel { .. } => "to give up".to_owned(),
            Self::Refund { amount, .. } => format!("to give {} back", euros(*amount)),
            Self::Reverse { .. } => "to undo the approval".to_owned(),
            Self::TopUp { card, amount, .. } => {
                format!("to load {} onto card {card}", euros(*amount))
            }
            Self::Block { card, .. } => format!("card {card} blocked"),
            Self::Unblock { card, .. } => format!("card {card} to pay again"),
            Self::Suspend { phone, .. } => format!("phone {phone} suspended"),
            Self::Resume { phone, .. } => format!("phone {phone} to pay again"),
            Self::Replenish { .. } => "keys".to_owned(),
        }
    }
}

/// An order on its way: who wants it, the request, and the answer once there is one.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Who, in words.
    pub(crate) sender: String,
    pub(crate) order: Order,
    pub(crate) call: Call,
    /// Which sale it belongs to.
    pub(crate) sale: Option<usize>,
    /// Which node it goes to.
    pub(crate) node: usize,
    /// What the sender heard; it asks until it hears something that is final.
    pub(crate) heard: Option<Answer>,
    /// The sender has forgotten that it asked.
    pub(crate) is_forgotten: bool,
}

/// Whether an answer says that nobody knows yet, or not now: then the sender asks again.
pub(crate) fn is_passing(answer: &Answer) -> bool {
    answer.status >= 500 || problem(answer).is_some_and(|kind| kind == "idempotency_in_progress")
}

/// The stable name of the problem that an answer is, if it is one.
pub(crate) fn problem(answer: &Answer) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    body.get("type")?.as_str()?.strip_prefix("urn:tapfer:problem:").map(str::to_owned)
}

/// A text in the answer's JSON.
pub(crate) fn text(answer: &Answer, field: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    body.get(field)?.as_str().map(str::to_owned)
}

/// An answer in words.
pub(crate) fn words(answer: &Answer) -> String {
    let decision = text(answer, "outcome").and(text(answer, "reason"));
    let said = match (problem(answer), decision) {
        (Some(kind), _) => match text(answer, "reason") {
            Some(reason) => format!("{} {kind}, {reason}", answer.status),
            None => format!("{} {kind}", answer.status),
        },
        (None, Some(reason)) => reason,
        (None, None) => format!("yes ({})", answer.status),
    };
    if answer.replayed { format!("{said}, as before") } else { said }
}
