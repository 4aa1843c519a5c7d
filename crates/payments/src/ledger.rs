//! The double-entry ledger: every transfer takes from one account what it gives to another, so that
//! the sum over all accounts of a currency is zero at any time.
//!
//! | event | from | to |
//! |---|---|---|
//! | top-up | issuer funding | cardholder |
//! | hold | cardholder | held |
//! | capture | held | merchant payable |
//! | release | held | cardholder |
//! | refund, reversal after capture | merchant payable | cardholder |
//! | loss | issuer loss | cardholder |
//! | pay-out | cardholder | issuer funding |
//!
//! An account's balance is what it was given minus what was taken. Only what is an issuer's may be below
//! zero: issuer funding is minus the money that it has put into circulation, issuer loss minus what it has paid in the place of
//! cards that did not have it.

use tapfer_payment_types::{CardId, IssuerId, MerchantId, Money};

use crate::words::words;

words! {
    /// What an account is for.
    AccountKind, "account kind" {
        /// Where an issuer's money enters.
        IssuerFunding = "issuer_funding",
        /// What a cardholder can spend.
        Cardholder = "cardholder",
        /// What is reserved for approved payments of a card.
        Held = "held",
        /// What a merchant is owed.
        MerchantPayable = "merchant_payable",
        /// What an issuer has paid in the place of cards that did not have it.
        IssuerLoss = "issuer_loss",
    }
}

words! {
    /// Why money was moved.
    TransferKind, "transfer kind" {
        /// Money was loaded onto a card.
        TopUp = "top_up",
        /// A payment was approved.
        Hold = "hold",
        /// A merchant took what was held for it.
        Capture = "capture",
        /// Held money went back.
        Release = "release",
        /// A merchant gave money back.
        Refund = "refund",
        /// A captured payment was undone.
        Reversal = "reversal",
        /// A payment was promised that the card did not have enough for when it was booked.
        Loss = "loss",
        /// What was on a card that is closed went back to its issuer.
        PayOut = "pay_out",
    }
}

/// An account; together with a currency it has one balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    /// Where an issuer's money enters.
    IssuerFunding(IssuerId),
    /// What a cardholder can spend.
    Cardholder(CardId),
    /// What is reserved for approved payments of a card.
    Held(CardId),
    /// What a merchant is owed.
    MerchantPayable(MerchantId),
    /// What an issuer has paid in the place of cards that did not have it.
    IssuerLoss(IssuerId),
}

impl Account {
    /// What it is for.
    #[must_use]
    pub const fn kind(self) -> AccountKind {
        match self {
            Self::IssuerFunding(_) => AccountKind::IssuerFunding,
            Self::Cardholder(_) => AccountKind::Cardholder,
            Self::Held(_) => AccountKind::Held,
            Self::MerchantPayable(_) => AccountKind::MerchantPayable,
            Self::IssuerLoss(_) => AccountKind::IssuerLoss,
        }
    }

    /// Whether its balance may be below zero.
    #[must_use]
    pub const fn may_be_negative(self) -> bool {
        matches!(self, Self::IssuerFunding(_) | Self::IssuerLoss(_))
    }

    /// The balance after a transfer changed it by `change` minor units.
    ///
    /// # Errors
    /// [`LedgerError::Overdrawn`] or [`LedgerError::OutOfRange`].
    pub fn balance_after(self, balance: i64, change: i64) -> Result<i64, LedgerError> {
        let after = balance.checked_add(change).ok_or(LedgerError::OutOfRange)?;
        if after < 0 && !self.may_be_negative() {
            return Err(LedgerError::Overdrawn(self.kind()));
        }
        Ok(after)
    }
}

/// Why nothing is booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A transfer moves something.
    #[error("a transfer moves more than nothing; the amount was {0}")]
    NotPositive(Money),
    /// The account does not hold that much.
    #[error("the {0} account does not hold that much")]
    Overdrawn(AccountKind),
    /// A balance does not fit.
    #[error("the balance would be out of range")]
    OutOfRange,
}

/// Money moved from one account to another: balanced by its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    kind: TransferKind,
    from: Account,
    to: Account,
    amount: Money,
}

impl Transfer {
    fn new(
        kind: TransferKind,
        from: Account,
        to: Account,
        amount: Money,
    ) -> Result<Self, LedgerError> {
        if !amount.is_positive() {
            return Err(LedgerError::NotPositive(amount));
        }
        Ok(Self { kind, from, to, amount })
    }

    /// Why.
    #[must_use]
    pub const fn kind(&self) -> TransferKind {
        self.kind
    }

    /// Where it is taken.
    #[must_use]
    pub const fn from(&self) -> Account {
        self.from
    }

    /// Where it goes.
    #[must_use]
    pub const fn to(&self) -> Account {
        self.to
    }

    /// How much; above zero.
    #[must_use]
    pub const fn amount(&self) -> Money {
        self.amount
    }

    /// The two changes of balance, minor units. Their sum is zero.
    #[must_use]
    pub const fn changes(&self) -> [(Account, i64); 2] {
        [(self.from, self.amount.minor.saturating_neg()), (self.to, self.amount.minor)]
    }
}

/// The issuer puts money onto a card.
///
/// # Errors
/// [`LedgerError::NotPositive`].
pub fn top_up(issuer: IssuerId, card: CardId, amount: Money) -> Result<Transfer, LedgerError> {
    let (from, to) = (Account::IssuerFunding(issuer), Account::Cardholder(card));
    Transfer::new(TransferKind::TopUp, from, to, amount)
}

/// The issuer pays what a card lacks for a payment that was promised.
///
/// # Errors
/// [`LedgerError::NotPositive`].
pub fn loss(issuer: IssuerId, card: CardId, missing: Money) -> Result<Transfer, LedgerError> {
    let (from, to) = (Account::IssuerLoss(issuer), Account::Cardholder(card));
    Transfer::new(TransferKind::Loss, from, to, missing)
}

/// What is left on a card that is closed goes back to its issuer, who owes it to the holder.
///
/// # Errors
/// [`LedgerError::NotPositive`].
pub fn pay_out(card: CardId, issuer: IssuerId, amount: Money) -> Result<Transfer, LedgerError> {
    let (from, to) = (Account::Cardholder(card), Account::IssuerFunding(issuer));
    Transfer::new(TransferKind::PayOut, from, to, amount)
}

/// An approved payment reserves its amount.
///
/// # Errors
/// [`LedgerError::NotPositive`].
pub fn hold(card: CardId, amount: Money) -> Result<Transfer, LedgerError> {
    Transfer::new(TransferKind::Hold, Account::Cardholder(card), Account::Held(card), amount)
}

/// The merchant takes what is held.
///
/// # Errors
/// [`LedgerError::NotPositive`].
pub fn capture(card: CardId, merchant: MerchantId, amount: Money) -> Result<Transfer, LedgerError> {
    let (from, to) = (Account::Held(card), Account::MerchantPayable(merchant));
    Transfer::new(TransferKind::Capture, from, to, amount)
}

/// Held money goes back to the card.
///
/// # Errors
/// [`LedgerError::NotPositive`].
pub fn release(card: CardId, amount: Money) -> Result<Transfer, LedgerError> {
    Transfer::new(TransferKind::Release, Account::Held(card), Account::Cardholder(card), amount)
}

/// The merchant gives money back.
///
/// # Errors
/// [`LedgerError::NotPositive`].
pub fn refund(merchant: MerchantId, card: CardId, amount: Money) -> Result<Transfer, LedgerError> {
    let (from, to) = (Account::MerchantPayable(merchant), Account::Cardholder(card));
    Transfer::new(TransferKind::Refund, from, to, amount)
}

/// A captured payment is undone.
///
/// # Errors
/// [`LedgerError::NotPositive`].
pub fn reversal(
    merchant: MerchantId,
    card: CardId,
    amount: Money,
) -> Result<Transfer, LedgerError> {
    let (from, to) = (Account::MerchantPayable(merchant), Account::Cardholder(card));
    Transfer::new(TransferKind::Reversal, from, to, amount)
}
