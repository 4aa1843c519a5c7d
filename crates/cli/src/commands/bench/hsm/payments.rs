//! What is measured: cryptograms to verify. No card signs with the same counter twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tapfer_emv::cryptogram::{CryptogramInput, application_cryptogram};
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex};
use tapfer_hsm::{CryptogramRequest, CryptogramVerdict, PaymentHsm};
use tapfer_payment_types::{IssuerId, PanSequenceNumber, RealmId, Timestamp, TokenId, TokenPan};

/// Whose payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cards {
    /// Each payment is of another card: the module derives its limited-use key too.
    Many,
    /// A few cards in turn, whose limited-use keys are at hand after the first round.
    Few,
}

impl Cards {
    const FEW: usize = 16;
    const MANY: usize = 100_000_000;

    /// Which card makes the payment of this number, and with which counter.
    fn of(self, number: usize) -> (usize, usize) {
        let cards = match self {
            Self::Many => Self::MANY,
            Self::Few => Self::FEW,
        };
        (number.rem_euclid(cards), number.div_euclid(cards))
    }
}

/// The master key that every card here comes from.
pub(super) const MASTER_KEY: [u8; 16] = [0x42; 16];

pub(super) fn realm() -> RealmId {
    RealmId::new(now(), [9; 10])
}

pub(super) fn issuer() -> IssuerId {
    IssuerId::new(now(), [1; 10])
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_unix_millis(1_800_000_000_000)
}

type Payment = (TokenPan, CryptogramInput, [u8; 8]);

/// Payments of one round, made before the clock runs.
pub(super) struct Payments {
    key_index: KeyIndex,
    made: Vec<Payment>,
    next: AtomicUsize,
}

impl Payments {
    /// `count` of them, the first of which has the number `first`.
    pub(super) fn new(cards: Cards, first: usize, count: usize) -> anyhow::Result<Self> {
        let key_index = KeyIndex::at(now(), 1)?;
        let master_key = IssuerMasterKey::new(MASTER_KEY);
        let mut made = Vec::with_capacity(count);
        for number in first..first.saturating_add(count) {
            let (card, counter) = cards.of(number);
            let digits = format!("9990770{card:08}");
            let pan: TokenPan =
                format!("{digits}{}", tapfer_payment_types::pan::check_digit(&digits)).parse()?;
            let input = input(u16::try_from(counter)?);
            let session_key = master_key
                .token_key(&pan, PanSequenceNumber::ZERO)
                .limited_use_key(KeyClass::Unverified, key_index)
                .session_key(input.application_transaction_counter);
            let cryptogram = application_cryptogram(&session_key, &input.encode());
            made.push((pan, input, cryptogram));
        }
        Ok(Self { key_index, made, next: AtomicUsize::new(0) })
    }

    /// Looks one card's number up, as a payment does before its cryptogram is verified.
    pub(super) fn look_up(&self, hsm: &dyn PaymentHsm) -> anyhow::Result<()> {
        let (token_pan, ..) = self.made.first().context("no payment")?;
        hsm.pan_lookup(issuer(), &token_pan.expose().parse()?)?;
        Ok(())
    }

    /// Verifies what no other thread has taken yet, so many at a time, until nothing is left.
    pub(super) fn verify(&self, hsm: &dyn PaymentHsm, together: usize) -> anyhow::Result<()> {
        loop {
            let first = self.next.fetch_add(together, Ordering::Relaxed);
            let rest = self.made.get(first..).unwrap_or_default();
            let requests: Vec<_> =
                rest.iter().take(together).map(|payment| self.request(payment)).collect();
            let verdicts = match requests.as_slice() {
                [] => return Ok(()),
                [request] => vec![hsm.verify_cryptogram(request)],
                many => hsm.verify_cryptograms(many),
            };
            for verdict in verdicts {
                if !matches!(verdict?, CryptogramVerdict::Verified(_)) {
                    bail!("a right cryptogram was not verified: nothing was measured");
                }
            }
        }
    }

    fn request<'a>(&self, (token_pan, input, received): &'a Payment) -> CryptogramRequest<'a> {
        CryptogramRequest {
            issuer: issuer(),
            derivation_key_index: 1,
            token: TokenId::new(now(), [3; 10]),
            token_pan,
            sequence: PanSequenceNumber::ZERO,
            key_class: KeyClass::Unverified,
            key_index: self.key_index,
            input,
            received,
        }
    }
}

fn input(counter: u16) -> CryptogramInput {
    CryptogramInput {
        amount_authorized: [0, 0, 0, 0, 0x12, 0x34],
        amount_other: [0; 6],
        terminal_country: [0x02, 0x76],
        tvr: [0; 5],
        currency: [0x09, 0x78],
        date: [0x26, 0x11, 0x21],
        transaction_type: 0,
        unpredictable_number: [1, 2, 3, 4],
        aip: [0x01, 0x04],
        application_transaction_counter: counter,
        issuer_application_data: vec![0xC8; 32],
    }
}
