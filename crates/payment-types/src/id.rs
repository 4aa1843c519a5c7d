//! Typed ids: a prefix that says what it is, and 128 bits that sort by time.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use crate::Timestamp;

/// Crockford's base 32 without padding, lower case: no letter looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 128 bits in base 32.
const BODY_LENGTH: usize = 26;

/// The text is not an id of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an id of this kind: it starts with \"{prefix}_\" and has 26 letters and digits behind"
)]
pub struct IdError {
    prefix: &'static str,
}

/// The last letter has the lowest five bits.
fn encode_body(bits: u128, body: &mut [u8]) {
    let mut left = bits;
    for letter in body.iter_mut().rev() {
        let [lowest, ..] = left.to_le_bytes();
        *letter = ALPHABET.get(usize::from(lowest & 31)).copied().unwrap_or(b'0');
        left >>= 5;
    }
}

fn decode_body(text: &str) -> Option<u128> {
    if text.len() != BODY_LENGTH {
        return None;
    }
    text.bytes().try_fold(0_u128, |bits, letter| {
        let index = ALPHABET.iter().position(|&known| known == letter)?;
        let shifted = bits.checked_mul(32)?;
        shifted.checked_add(u128::try_from(index).ok()?)
    })
}

macro_rules! typed_id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u128);

        impl $name {
            /// What stands in front of the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id: 48 bits of the time in milliseconds, then 80 random bits.
            #[must_use]
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.unix_millis()).unwrap_or(0).to_be_bytes();
                let mut bytes = [0_u8; 16];
                let (time_part, random_part) = bytes.split_at_mut(6);
                time_part.copy_from_slice(millis.get(2..).unwrap_or(&[0; 6]));
                random_part.copy_from_slice(&random);
                Self(u128::from_be_bytes(bytes))
            }

            /// The id without its prefix, for messages between processes of one platform.
            #[must_use]
            pub const fn to_bits(self) -> u128 {
                self.0
            }

            /// The id of such a message.
            #[must_use]
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                const PREFIX: &[u8] = concat!($prefix, "_").as_bytes();
                let mut text = [0; PREFIX.len() + BODY_LENGTH];
                let (prefix, body) = text.split_at_mut(PREFIX.len());
                prefix.copy_from_slice(PREFIX);
                encode_body(self.0, body);
                f.write_str(core::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode_body)
                    .map(Self)
                    .ok_or(IdError { prefix: $prefix })
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                alloc::format!("{id}")
            }
        }
    };
}

typed_id! {
    /// A realm: one platform with its keys and its database.
    RealmId, "realm"
}
typed_id! {
    /// An issuer: who gives out cards and decides on payments.
    IssuerId, "iss"
}
typed_id! {
    /// A card in the vault.
    CardId, "card"
}
typed_id! {
    /// A phone with a wallet on it.
    DeviceId, "dev"
}
typed_id! {
    /// A token: one card on one device.
    TokenId, "tok"
}
typed_id! {
    /// A merchant.
    MerchantId, "mer"
}
typed_id! {
    /// A terminal of a merchant.
    TerminalId, "term"
}
typed_id! {
    /// A certificate with which a terminal proves whose it is.
    TerminalCertificateId, "cert"
}
typed_id! {
    /// What a merchant wants to be paid.
    PaymentIntentId, "pi"
}
typed_id! {
    /// One answer of the platform to one authorization request: the transaction id on the receipt.
    AuthorizationId, "auth"
}
typed_id! {
    /// Money given back after a payment.
    RefundId, "ref"
}
typed_id! {
    /// An authorization undone.
    ReversalId, "rev"
}
typed_id! {
    /// One booking in the ledger.
    LedgerEntryId, "led"
}
typed_id! {
    /// A key that opens the HTTP API to one caller.
    ApiKeyId, "key"
}

#[cfg(test)]
mod tests {
    use super::{CardId, TokenId};
    use crate::Timestamp;
    use proptest::prelude::*;

    #[test]
    fn kinds_do_not_mix() {
        let card = CardId::new(Timestamp::from_unix_millis(1), [7; 10]);
        assert!(card.to_string().parse::<TokenId>().is_err());
    }

    #[test]
    fn later_ids_sort_later() {
        let earlier = CardId::new(Timestamp::from_unix_millis(1_000), [255; 10]);
        let later = CardId::new(Timestamp::from_unix_millis(1_001), [0; 10]);
        assert!(earlier < later);
        assert!(earlier.to_string() < later.to_string());
    }

    proptest! {
        #[test]
        fn text_round_trip(millis in 0_i64..0xFFFF_FFFF_FFFF, random in any::<[u8; 10]>()) {
            let id = CardId::new(Timestamp::from_unix_millis(millis), random);
            prop_assert_eq!(id.to_string().parse::<CardId>().unwrap(), id);
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            if let Ok(id) = text.parse::<CardId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
