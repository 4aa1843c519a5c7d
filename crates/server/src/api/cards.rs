//! Cards in the vault and their accounts.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{CardId, Currency, IssuerId, LedgerEntryId, Timestamp};
use tapfer_payments::cards::{CardExpiry, CardStatus};
use tapfer_payments::ledger::TransferKind;
use tapfer_storage::CardAccount;
use utoipa::{IntoParams, ToSchema};

use crate::api::{Amount, ShortText, card_status_schema, transfer_kind_schema};

/// A card number on its way in. Wiped on drop, and `Debug` shows nothing of it.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct CardNumber(tapfer_payment_types::Pan);

impl CardNumber {
    /// The number.
    #[must_use]
    pub const fn pan(&self) -> &tapfer_payment_types::Pan {
        &self.0
    }
}

impl TryFrom<String> for CardNumber {
    type Error = tapfer_payment_types::PanError;

    fn try_from(mut text: String) -> Result<Self, Self::Error> {
        let parsed = text.parse();
        zeroize::Zeroize::zeroize(&mut text);
        parsed.map(Self)
    }
}

impl core::fmt::Debug for CardNumber {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CardNumber(redacted)")
    }
}

/// A new card.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCard {
    /// Whose card it is.
    #[schema(value_type = String)]
    pub issuer: IssuerId,
    /// The card number, 12 to 19 digits; made in the issuer's range if absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{12,19}$", write_only)]
    pub pan: Option<CardNumber>,
    /// Last month the card is good in, `YYYY-MM`.
    #[schema(value_type = String, pattern = "^20[0-9]{2}-(0[1-9]|1[0-2])$", example = "2030-12")]
    pub expiry: CardExpiry,
    /// The caller's own name for the holder; no personal data is needed here.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 140)]
    pub holder_reference: Option<ShortText>,
}

/// Which card has this number?
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupCard {
    /// The card number, 12 to 19 digits.
    #[schema(value_type = String, pattern = "^[0-9]{12,19}$", write_only)]
    pub pan: CardNumber,
}

/// A card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Card {
    /// The card's id.
    #[schema(value_type = String)]
    pub id: CardId,
    /// Whose card it is.
    #[schema(value_type = String)]
    pub issuer: IssuerId,
    /// Last four digits of the card number.
    pub last_four: String,
    /// Last month the card is good in, `YYYY-MM`.
    #[schema(value_type = String)]
    pub expiry: CardExpiry,
    /// Whether it may be used. If it may not, neither may any of its tokens.
    #[schema(schema_with = card_status_schema)]
    pub status: CardStatus,
    /// The caller's own name for the holder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_reference: Option<String>,
    /// What is booked on the account, minor units.
    pub balance: i64,
    /// What can be spent: the balance less what is held for payments, minor units.
    pub available: i64,
    /// The account's currency.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// When the card was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Why a card is blocked or released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockCard {
    /// The reason, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// Why a card is closed, and what becomes of its money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseCard {
    /// The reason, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
    /// Books what can be spent back to the issuer's account, from which it is paid to the holder outside of this interface. Without
    /// it a card with money is not closed.
    #[serde(default)]
    pub pay_out: bool,
}

/// Money onto a card's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopUpCard {
    /// How much, minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 999_999_999_999_i64)]
    pub amount: Amount,
    /// The account's currency.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// The caller's own name for the top-up.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reference: ShortText,
}

/// One booking on a card's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerEntry {
    /// The booking's id.
    #[schema(value_type = String)]
    pub id: LedgerEntryId,
    /// What it was for.
    #[schema(schema_with = transfer_kind_schema)]
    pub kind: TransferKind,
    /// What it adds to what can be spent, minor units; negative if it takes away.
    pub amount: i64,
    /// What it adds to what is held, minor units: a payment is held when it is approved, and leaves what
    /// is held when it is captured.
    pub held: i64,
    /// The account's currency.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// What it belongs to: the reference of a top-up, the id of an authorization, the reason of a pay-out.
    pub reference: String,
    /// When it was booked.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Which cards are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CardQuery {
    /// Only those of this issuer.
    #[param(value_type = Option<String>)]
    pub issuer: Option<IssuerId>,
    /// Items a page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<&CardAccount> for Card {
    fn from(account: &CardAccount) -> Self {
        let card = &account.card;
        Self {
            id: card.id,
            issuer: card.issuer,
            last_four: card.last_four.clone(),
            expiry: card.expiry,
            status: card.status,
            holder_reference: card.holder_reference.clone(),
            balance: account.balance.minor,
            available: account.available.minor,
            currency: account.balance.currency,
            created_at: card.created_at,
        }
    }
}

impl From<&tapfer_storage::LedgerEntry> for LedgerEntry {
    fn from(entry: &tapfer_storage::LedgerEntry) -> Self {
        Self {
            id: entry.id,
            kind: entry.kind,
            amount: entry.change.minor,
            held: entry.held_change.minor,
            currency: entry.change.currency,
            reference: entry.cause.clone(),
            created_at: entry.created_at,
        }
    }
}
