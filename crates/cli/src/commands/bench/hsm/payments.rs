//! What is measured: cryptograms to verify, from a few cards, each with the next counter.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail};
use tapfer_emv::cryptogram::{CryptogramInput, application_cryptogram};
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex};
use tapfer_hsm::{CryptogramRequest, CryptogramVerdict, PaymentHsm};
use tapfer_payment_types::{IssuerId, PanSequenceNumber, RealmId, Timestamp, TokenId, TokenPan};

/// Cards in turn: their limited-use keys are at hand after the first round.
const CARDS: usize = 16;

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

/// Payments of one round, made before the clock runs.
pub(super) struct Payments {
    key_index: KeyIndex,
    made: Vec<(TokenPan, CryptogramInput, [u8; 8])>,
    next: AtomicUsize,
}

impl Payments {
    /// `count` of them from counter `first` on.
    pub(super) fn new(first: usize, count: usize) -> anyhow::Result<Self> {
        let key_index = KeyIndex::at(now(), 1)?;
        let mut cards = Vec::new();
        for card in 0..CARDS {
            let digits = format!("99907709967{card:04}");
            let pan: TokenPan =
                format!("{digits}{}", tapfer_payment_types::pan::check_digit(&digits)).parse()?;
            let key = IssuerMasterKey::new(MASTER_KEY)
                .token_key(&pan, PanSequenceNumber::ZERO)
                .limited_use_key(KeyClass::Unverified, key_index);
            cards.push((pan, key));
        }
        let mut made = Vec::with_capacity(count);
        for number in first..first.saturating_add(count) {
            let (pan, key) = cards.get(number.rem_euclid(CARDS)).context("no card")?;
            let input = input(u16::try_from(number.div_euclid(CARDS))?);
            let session_key = key.session_key(input.application_transaction_counter);
            let cryptogram = application_cryptogram(&session_key, &input.encode());
            made.push((pan.clone(), input, cryptogram));
        }
        Ok(Self { key_index, made, next: AtomicUsize::new(0) })
    }

    pub(super) fn count(&self) -> usize {
        self.made.len()
    }

    /// Verifies what no other thread has taken yet, until nothing is left.
    pub(super) fn verify(&self, hsm: &dyn PaymentHsm) -> anyhow::Result<()> {
        while let Some((token_pan, input, received)) =
            self.made.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            let verdict = hsm.verify_cryptogram(&CryptogramRequest {
                issuer: issuer(),
                derivation_key_index: 1,
                token: TokenId::new(now(), [3; 10]),
                token_pan,
                sequence: PanSequenceNumber::ZERO,
                key_class: KeyClass::Unverified,
                key_index: self.key_index,
                input,
                received,
            })?;
            if !matches!(verdict, CryptogramVerdict::Verified(_)) {
                bail!("a right cryptogram was not verified: nothing was measured");
            }
        }
        Ok(())
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
