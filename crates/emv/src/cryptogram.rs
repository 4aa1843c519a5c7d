//! Application cryptograms of the AES card (Book E chapters 3 and 4), and the proof that one was
//! verified.

use alloc::vec::Vec;

use subtle::ConstantTimeEq;

use tapfer_payment_types::TokenId;
use tapfer_payment_types::planted::{Control, is_skipped};

use crate::iad::IssuerApplicationData;
use crate::keys::{SessionKey, SessionKey256};
use crate::mac::{aes_256_cmac_8, aes_cmac_8};
use crate::packed_decimal;

/// What the cryptogram covers: 29 bytes from the terminal, then AIP, ATC and the IAD with its MAC
/// copied into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CryptogramInput {
    /// `9F02`, twelve digits, minor units.
    pub amount_authorized: [u8; 6],
    /// `9F03`.
    pub amount_other: [u8; 6],
    /// `9F1A`, ISO 3166 numeric.
    pub terminal_country: [u8; 2],
    /// `95`.
    pub tvr: [u8; 5],
    /// `5F2A`, ISO 4217 numeric.
    pub currency: [u8; 2],
    /// `9A`, YYMMDD.
    pub date: [u8; 3],
    /// `9C`.
    pub transaction_type: u8,
    /// `9F37`.
    pub unpredictable_number: [u8; 4],
    /// `82`.
    pub aip: [u8; 2],
    /// `9F36`.
    pub application_transaction_counter: u16,
    /// `9F10`, all of it.
    pub issuer_application_data: Vec<u8>,
}

impl CryptogramInput {
    /// The bytes in the order of the cryptogram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [
            self.amount_authorized.as_slice(),
            &self.amount_other,
            &self.terminal_country,
            &self.tvr,
            &self.currency,
            &self.date,
            &[self.transaction_type],
            &self.unpredictable_number,
            &self.aip,
            &self.application_transaction_counter.to_be_bytes(),
            &self.issuer_application_data,
        ]
        .concat()
    }

    /// The amount `9F02` in minor units; `None` if it is not decimal.
    #[must_use]
    pub fn amount_minor(&self) -> Option<i64> {
        packed_decimal::number(&self.amount_authorized)
    }

    /// The other amount `9F03` in minor units; `None` if it is not decimal.
    #[must_use]
    pub fn amount_other_minor(&self) -> Option<i64> {
        packed_decimal::number(&self.amount_other)
    }

    /// The currency `5F2A`, a numeric ISO 4217 code; `None` if it is not decimal.
    #[must_use]
    pub fn currency_numeric(&self) -> Option<u16> {
        packed_decimal::number(&self.currency).and_then(|code| u16::try_from(code).ok())
    }

    /// The data of the issuer `9F10`, if it is of this platform's form.
    #[must_use]
    pub fn application_data(&self) -> Option<IssuerApplicationData> {
        IssuerApplicationData::parse(&self.issuer_application_data).ok()
    }
}

/// First 8 bytes of AES-CMAC(session key, input).
#[must_use]
pub fn application_cryptogram(key: &SessionKey, input: &[u8]) -> [u8; 8] {
    aes_cmac_8(key.expose(), &[input])
}

/// The same under AES-256.
#[must_use]
pub fn application_cryptogram_256(key: &SessionKey256, input: &[u8]) -> [u8; 8] {
    aes_256_cmac_8(key.expose(), &[input])
}

/// What the card sent is not what its key gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptogram is not what the card's key gives for this data")]
pub struct CryptogramMismatch;

/// Proof that one payment's cryptogram was compared and found equal, and what it was that the card
/// signed.
///
/// Only [`verify`] makes one. Neither `Clone` nor `Copy`: one payment, one proof.
#[derive(Debug)]
pub struct CryptogramVerified {
    token: TokenId,
    input: CryptogramInput,
    cryptogram: [u8; 8],
}

impl CryptogramVerified {
    /// Whose key it was.
    #[must_use]
    pub const fn token(&self) -> TokenId {
        self.token
    }

    /// What the card signed, byte for byte.
    #[must_use]
    pub const fn input(&self) -> &CryptogramInput {
        &self.input
    }

    /// The cryptogram over it.
    #[must_use]
    pub const fn cryptogram(&self) -> &[u8; 8] {
        &self.cryptogram
    }
}

/// Compares, in constant time, what the card sent with what `oracle` (an HSM, or the software in its
/// place) computes with the key of `token` for exactly this input.
///
/// # Errors
/// [`CryptogramMismatch`] if they differ.
pub fn verify(
    token: TokenId,
    input: &CryptogramInput,
    received: &[u8; 8],
    oracle: impl FnOnce(&[u8]) -> [u8; 8],
) -> Result<CryptogramVerified, CryptogramMismatch> {
    let expected = oracle(&input.encode());
    if !bool::from(expected.ct_eq(received)) && !is_skipped(Control::Cryptogram) {
        return Err(CryptogramMismatch);
    }
    Ok(CryptogramVerified { token, input: input.clone(), cryptogram: *received })
}
