//! Terminals: where a merchant is paid.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use tapfer_emv::merchant::TerminalIdentifier;
use tapfer_payment_types::{MerchantId, TerminalCertificateId, TerminalId, Timestamp};

/// The text is not a terminal identification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a terminal identification has eight letters and digits")]
pub struct TerminalIdentificationError;

/// Terminal identification (`9F1C`): eight letters or digits, unique on the platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TerminalIdentification(String);

/// No letter looks like a digit, so that a person can read one out over the telephone.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl TerminalIdentification {
    /// A new identification from forty random bits; the store refuses one that is taken.
    #[must_use]
    pub fn from_random(random: [u8; 5]) -> Self {
        let [a, b, c, d, e] = random;
        let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let letters = (0..8_u32).rev().map(|position| {
            let shifted = bits.checked_shr(position.saturating_mul(5)).unwrap_or(0) & 31;
            let letter = usize::try_from(shifted).ok().and_then(|index| ALPHABET.get(index));
            char::from(letter.copied().unwrap_or(b'0'))
        });
        Self(letters.collect())
    }

    /// The eight characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The eight bytes of `9F1C`.
    #[must_use]
    pub fn bytes(&self) -> TerminalIdentifier {
        // Every constructor sees to the length.
        self.0.as_bytes().try_into().unwrap_or([b'0'; 8])
    }
}

impl FromStr for TerminalIdentification {
    type Err = TerminalIdentificationError;

    fn from_str(text: &str) -> Result<Self, TerminalIdentificationError> {
        if text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(String::from(text)))
        } else {
            Err(TerminalIdentificationError)
        }
    }
}

impl fmt::Display for TerminalIdentification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TerminalIdentification {
    type Error = TerminalIdentificationError;

    fn try_from(text: String) -> Result<Self, TerminalIdentificationError> {
        text.parse()
    }
}

impl From<TerminalIdentification> for String {
    fn from(identification: TerminalIdentification) -> Self {
        identification.0
    }
}

/// Why a terminal gets no certificate, no key and no payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TerminalError {
    /// It was revoked, which is for good.
    #[error("the terminal was revoked at {0}, for good: set up another one in its place")]
    Revoked(Timestamp),
    /// It has as many certificates as phones can be told about.
    #[error(
        "the terminal was given {MOST_UNENDED_CERTIFICATES} certificates that have not ended; use the \
         newest, or ask again after {0}, when the first of them ends. If somebody else asked for them, \
         revoke the terminal and set up another one"
    )]
    Certificates(Timestamp),
}

/// A terminal was ended for good, with its API keys, certificates and what it was armed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// Why, in the words of who did it.
    pub reason: String,
}

/// A terminal of a merchant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Its id.
    pub id: TerminalId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// What the merchant calls it.
    pub label: String,
    /// What it calls itself in card data.
    pub identification: TerminalIdentification,
    /// How it ended, if it did.
    pub revocation: Option<Revocation>,
    /// When it was set up.
    pub created_at: Timestamp,
}

impl Terminal {
    /// Nothing is done for a terminal that was revoked.
    ///
    /// # Errors
    /// [`TerminalError::Revoked`].
    pub fn require_in_service(&self) -> Result<(), TerminalError> {
        self.revocation.as_ref().map_or(Ok(()), |ended| Err(TerminalError::Revoked(ended.at)))
    }

    /// The terminal after it was revoked; the first revocation stays.
    #[must_use]
    pub fn revoked(self, reason: String, now: Timestamp) -> Self {
        let revocation = self.revocation.or(Some(Revocation { at: now, reason }));
        Self { revocation, ..self }
    }
}

/// A certificate lives so long unless less or more is asked for: a day.
pub const CERTIFICATE_LIFE_SECONDS: i64 = 86_400;
/// A certificate lives at least so long: ten minutes, or the terminal would be renewing all the time.
pub const MINIMUM_CERTIFICATE_LIFE_SECONDS: i64 = 600;
/// A certificate lives no longer than this: seven days.
pub const MAXIMUM_CERTIFICATE_LIFE_SECONDS: i64 = 7 * 86_400;
/// How many certificates of one terminal may be good at the same time. Two overlap when one is renewed;
/// more than that happens when a terminal lost its key. One more takes the place of the oldest, which is
/// revoked.
pub const MAXIMUM_LIVE_CERTIFICATES: usize = 4;
/// How many certificates of one terminal, good or revoked, may not have ended. It bounds what phones have to
/// be told about one terminal.
pub const MOST_UNENDED_CERTIFICATES: usize = 16;

/// A certificate with which a terminal proves to phones whose it is (`docs/adr/0008-merchant-proof.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalCertificate {
    /// Its id; later ones sort later.
    pub id: TerminalCertificateId,
    /// Whose it is.
    pub terminal: TerminalId,
    /// Serial number under the merchant CA, by which phones are told that it was revoked.
    pub serial: [u8; 6],
    /// The certificate as it travels.
    pub certificate: Vec<u8>,
    /// When it was given out.
    pub created_at: Timestamp,
    /// From then on it is good no more.
    pub expires_at: Timestamp,
    /// When it was revoked before its end, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl TerminalCertificate {
    /// Whether a phone that was told everything would take it.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

/// Whether a terminal with these certificates may have one more, and which of them is revoked for it: the
/// oldest that is good, if there are as many as may be.
///
/// # Errors
/// [`TerminalError::Revoked`], [`TerminalError::Certificates`].
pub fn may_certify(
    terminal: &Terminal,
    certificates: &[TerminalCertificate],
    now: Timestamp,
) -> Result<Option<TerminalCertificateId>, TerminalError> {
    terminal.require_in_service()?;
    let unended = certificates.iter().filter(|certificate| now < certificate.expires_at);
    let ends: Vec<Timestamp> = unended.map(|certificate| certificate.expires_at).collect();
    match ends.iter().min() {
        Some(first) if ends.len() >= MOST_UNENDED_CERTIFICATES => {
            return Err(TerminalError::Certificates(*first));
        }
        _ => {}
    }
    let live = certificates.iter().filter(|certificate| certificate.is_live(now));
    let mut oldest_first: Vec<_> = live.map(|certificate| certificate.id).collect();
    oldest_first.sort_unstable();
    let is_full = oldest_first.len() >= MAXIMUM_LIVE_CERTIFICATES;
    Ok(oldest_first.first().copied().filter(|_| is_full))
}

#[cfg(test)]
mod tests {
    use super::TerminalIdentification;
    use proptest::prelude::*;

    #[test]
    fn forty_bits_give_eight_characters() {
        assert_eq!(TerminalIdentification::from_random([0; 5]).as_str(), "00000000");
        assert_eq!(TerminalIdentification::from_random([255; 5]).as_str(), "ZZZZZZZZ");
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_back(random in any::<[u8; 5]>()) {
            let made = TerminalIdentification::from_random(random);
            prop_assert_eq!(made.as_str().parse::<TerminalIdentification>().unwrap(), made);
        }
    }
}
