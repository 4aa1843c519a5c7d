//! Everything a decision may look at.

use alloc::vec::Vec;
use tapfer_emv::iad::IssuerApplicationData;
use tapfer_emv::tvr::TerminalVerificationResults;
use tapfer_payment_types::messages::charge_minor;
use tapfer_payment_types::{Currency, Money, TerminalId};

use crate::cards::Card;
use crate::intents::PaymentIntent;
use crate::issuers::Issuer;
use crate::keys::GrantedKey;
use crate::tokens::Token;

/// What the terminal presents, read from chip data. All of it but the AID goes into the cryptogram;
/// none of it is to be believed before the cryptogram was verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresentedPayment {
    /// `9F36`.
    pub application_transaction_counter: u16,
    /// `9F02`, minor units.
    pub amount_minor: i64,
    /// `9F03`, minor units.
    pub amount_other_minor: i64,
    /// `5F2A`, numeric ISO 4217 code.
    pub currency_numeric: u16,
    /// `9A`, YYMMDD in binary coded decimal, the terminal's local date.
    pub date: [u8; 3],
    /// `9C`.
    pub transaction_type: u8,
    /// `95`.
    pub tvr: TerminalVerificationResults,
    /// `9F06` or `84`, if the terminal sent one.
    pub aid: Option<Vec<u8>>,
    /// `9F10`, if it is of this platform's form.
    pub application_data: Option<IssuerApplicationData>,
}

impl PresentedPayment {
    /// Whether the card signed that it declines. The cryptogram information data is not signed: whoever
    /// carries the cryptogram could pass a decline on as a request.
    #[must_use]
    pub const fn is_declined_by_card(&self) -> bool {
        matches!(&self.application_data, Some(data) if data.results.declined)
    }

    /// How much of its key's total it takes up, as the phone counts it.
    #[must_use]
    pub const fn charge_minor(&self, issuer: Currency) -> i64 {
        let declined = self.is_declined_by_card();
        charge_minor(issuer, self.amount_minor, self.currency_numeric, declined)
    }
}

/// What is known about the token that was presented.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenFacts {
    /// The token itself.
    pub token: Token,
    /// The card behind it.
    pub card: Card,
    /// Who gave it out.
    pub issuer: Issuer,
    /// Whether the presented counter has been used in a verified cryptogram before.
    pub counter_used: bool,
    /// The highest counter used so far.
    pub highest_counter: Option<u16>,
    /// The key that the application data names, if this token was given it.
    pub key: Option<GrantedKey>,
    /// What the card can spend.
    pub available: Money,
}

/// Every fact a decision needs, loaded once, in one snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// What was presented.
    pub presented: PresentedPayment,
    /// The terminal that asks, as authenticated.
    pub terminal: TerminalId,
    /// What the merchant wants to be paid.
    pub intent: PaymentIntent,
    /// The token, if the presented number is one.
    pub token: Option<TokenFacts>,
}
