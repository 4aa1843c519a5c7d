//! Cards: the account behind every token, active, blocked, or closed for good.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{CardId, IssuerId, Money, PanSequenceNumber, Timestamp};

use crate::words::words;

words! {
    /// Whether a card may pay. Blocking stops every token of the card at once: the decision reads
    /// the card's status, whatever the token's state.
    CardStatus, "card status" {
        /// It may pay.
        Active = "active",
        /// Neither it nor any of its tokens may pay.
        Blocked = "blocked",
        /// Its tokens are gone, and it never pays again.
        Closed = "closed",
    }
}

/// What cannot be done with a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Blocking a blocked card.
    #[error("the card is blocked already")]
    AlreadyBlocked,
    /// Unblocking a card that is not blocked.
    #[error("the card is not blocked")]
    NotBlocked,
    /// A blocked card's tokens get no keys.
    #[error("the card is blocked; its tokens get no keys")]
    NoKeys,
    /// Anything that only a card can have done to it that may pay one day.
    #[error("the card is closed, for good; make another one")]
    Closed,
    /// Closing a card that is closed, and onto which nothing came since.
    #[error("the card is closed already, and there is no money on it")]
    AlreadyClosed,
    /// A card is closed without holds.
    #[error(
        "{0} is held for payments of this card; capture, cancel or reverse them, and close it then"
    )]
    Held(Money),
    /// A card is closed without money.
    #[error(
        "{0} is on the card; closing it can give that back to the issuer's account, from which it is paid to the holder: \"pay_out\": true, or \
         tapfer card close --pay-out"
    )]
    NotEmpty(Money),
    /// The expiry is not a month.
    #[error("a card's expiry is a month: write it like 2029-12, from 2000-01 to 2099-12")]
    Expiry,
}

impl CardStatus {
    /// Stops the card and all its tokens.
    ///
    /// # Errors
    /// [`CardError::AlreadyBlocked`].
    pub const fn block(self) -> Result<Self, CardError> {
        match self {
            Self::Active => Ok(Self::Blocked),
            Self::Blocked => Err(CardError::AlreadyBlocked),
            Self::Closed => Err(CardError::Closed),
        }
    }

    /// Whether phones may be given keys for its tokens.
    ///
    /// # Errors
    /// [`CardError::NoKeys`], [`CardError::Closed`].
    pub const fn may_get_keys(self) -> Result<(), CardError> {
        match self {
            Self::Active => Ok(()),
            Self::Blocked => Err(CardError::NoKeys),
            Self::Closed => Err(CardError::Closed),
        }
    }

    /// Whether there is something left to be done with it: money loaded, a PIN set, a token made.
    ///
    /// # Errors
    /// [`CardError::Closed`].
    pub const fn is_kept(self) -> Result<(), CardError> {
        match self {
            Self::Active | Self::Blocked => Ok(()),
            Self::Closed => Err(CardError::Closed),
        }
    }

    /// Closes the card for good, with all its tokens: what is paid out of it. A closed one is closed again only to pay out
    /// what came by refunds since.
    ///
    /// # Errors
    /// [`CardError::Held`], [`CardError::NotEmpty`], [`CardError::AlreadyClosed`].
    pub const fn close(
        self,
        available: Money,
        held: Money,
        pays_out: bool,
    ) -> Result<Option<Money>, CardError> {
        let has_money = available.is_positive();
        match self {
            Self::Closed if !has_money => Err(CardError::AlreadyClosed),
            _ if held.is_positive() => Err(CardError::Held(held)),
            _ if has_money && !pays_out => Err(CardError::NotEmpty(available)),
            _ if has_money => Ok(Some(available)),
            _ => Ok(None),
        }
    }

    /// Lets the card pay again. Its tokens are as they were.
    ///
    /// # Errors
    /// [`CardError::NotBlocked`].
    pub const fn unblock(self) -> Result<Self, CardError> {
        match self {
            Self::Blocked => Ok(Self::Active),
            Self::Active => Err(CardError::NotBlocked),
            Self::Closed => Err(CardError::Closed),
        }
    }
}

/// The last month in which a card is good, `YYYY-MM`. Two-digit years of card data (`5F24`) are of
/// this century.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CardExpiry {
    year: u16,
    month: u8,
}

impl CardExpiry {
    /// Checks the range.
    ///
    /// # Errors
    /// [`CardError::Expiry`].
    pub const fn new(year: u16, month: u8) -> Result<Self, CardError> {
        if year < 2000 || year > 2099 || month < 1 || month > 12 {
            return Err(CardError::Expiry);
        }
        Ok(Self { year, month })
    }

    /// Year, 2000 to 2099.
    #[must_use]
    pub const fn year(self) -> u16 {
        self.year
    }

    /// Month, 1 to 12.
    #[must_use]
    pub const fn month(self) -> u8 {
        self.month
    }

    /// The last day of the month, 28 to 31.
    #[must_use]
    pub const fn last_day(self) -> u8 {
        match self.month {
            // 2000 to 2099 has no century that is not a leap year.
            2 if self.year & 3 == 0 => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Whether the month is over, counted in UTC.
    #[must_use]
    pub fn is_past(self, now: Timestamp) -> bool {
        let today = now.calendar();
        (today.year, today.month) > (self.year, self.month)
    }
}

impl FromStr for CardExpiry {
    type Err = CardError;

    fn from_str(text: &str) -> Result<Self, CardError> {
        let (year, month) = text.split_once('-').ok_or(CardError::Expiry)?;
        let digits = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(year, 4) || !digits(month, 2) {
            return Err(CardError::Expiry);
        }
        let year = year.parse().map_err(|_| CardError::Expiry)?;
        let month = month.parse().map_err(|_| CardError::Expiry)?;
        Self::new(year, month)
    }
}

impl fmt::Display for CardExpiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl TryFrom<String> for CardExpiry {
    type Error = CardError;

    fn try_from(text: String) -> Result<Self, CardError> {
        text.parse()
    }
}

impl From<CardExpiry> for String {
    fn from(expiry: CardExpiry) -> Self {
        alloc::format!("{expiry}")
    }
}

/// A card. Its number lies sealed in the vault and is no part of this; its money lies in the ledger
/// account of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its id, and that of its ledger account.
    pub id: CardId,
    /// Who gave it out.
    pub issuer: IssuerId,
    /// The last four digits of its number.
    pub last_four: String,
    /// Tells cards of the same number apart.
    pub sequence_number: PanSequenceNumber,
    /// Last month in which it is good.
    pub expiry: CardExpiry,
    /// Whether it may pay.
    pub status: CardStatus,
    /// Why it has this status, as the last who changed it said.
    pub status_reason: Option<String>,
    /// The issuer's own word for the holder. Not for names or numbers of cards.
    pub holder_reference: Option<String>,
    /// When it was put into the vault.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::{CardError, CardExpiry, CardStatus};
    use proptest::prelude::*;
    use std::string::ToString;
    use tapfer_payment_types::Money;

    #[test]
    fn good_until_the_month_is_over() {
        let expiry: CardExpiry = "2028-02".parse().unwrap();
        assert_eq!(expiry.last_day(), 29);
        assert!(!expiry.is_past("2028-02-29T23:59:59Z".parse().unwrap()));
        assert!(expiry.is_past("2028-03-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn not_a_month() {
        for text in ["", "2028", "2028-13", "2028-00", "1999-12", "2100-01", "28-01", "+028-01"] {
            assert_eq!(text.parse::<CardExpiry>(), Err(CardError::Expiry), "{text}");
        }
    }

    #[test]
    fn blocked_once_and_unblocked_once() {
        let blocked = CardStatus::Active.block().unwrap();
        assert_eq!(blocked.block(), Err(CardError::AlreadyBlocked));
        assert_eq!(blocked.unblock().unwrap().unblock(), Err(CardError::NotBlocked));
    }

    #[test]
    fn closed_once_and_without_money() {
        use CardStatus::{Active, Blocked, Closed};
        let euro = |minor| Money::new(minor, "EUR".parse().unwrap());
        let rows = [
            (Active, 0, 0, false, Ok(None)),
            (Blocked, 0, 0, true, Ok(None)),
            (Active, 5, 0, false, Err(CardError::NotEmpty(euro(5)))),
            (Active, 5, 0, true, Ok(Some(euro(5)))),
            (Active, 5, 1, true, Err(CardError::Held(euro(1)))),
            (Blocked, 0, 1, false, Err(CardError::Held(euro(1)))),
            (Closed, 0, 0, true, Err(CardError::AlreadyClosed)),
            (Closed, 5, 0, false, Err(CardError::NotEmpty(euro(5)))),
            (Closed, 5, 0, true, Ok(Some(euro(5)))),
        ];
        for (status, available, held, pays_out, expected) in rows {
            let closed = status.close(euro(available), euro(held), pays_out);
            assert_eq!(closed, expected, "{status} {available} {held} {pays_out}");
        }
        assert_eq!(Closed.block(), Err(CardError::Closed));
        assert_eq!(Closed.unblock(), Err(CardError::Closed));
        assert_eq!(Closed.may_get_keys(), Err(CardError::Closed));
        assert_eq!(Closed.is_kept(), Err(CardError::Closed));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*") {
            if let Ok(expiry) = text.parse::<CardExpiry>() {
                prop_assert_eq!(expiry.to_string(), text);
            }
        }
    }
}
