//! Payments: cryptograms to verify, from several threads, until told to stop.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tapfer_emv::cryptogram::{CryptogramInput, application_cryptogram};
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex};
use tapfer_hsm::pool::HsmPool;
use tapfer_hsm::{CryptogramRequest, CryptogramVerdict, HsmError, PaymentHsm};
use tapfer_payment_types::{PanSequenceNumber, TokenId, TokenPan};

use crate::house::{MASTER_KEY, issuer, now};

/// Payments that each thread brings at once.
const TOGETHER: [usize; 6] = [1, 1, 1, 1, 5, 12];

/// What became of the payments so far.
#[derive(Default)]
pub struct Load {
    pub verified: AtomicU64,
    refused: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Load {
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::SeqCst)
    }

    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }

    /// So many at once.
    fn pay_until_stopped(&self, pool: &HsmPool, together: usize) {
        let payments: Vec<_> = (0..together).map(|_| Payment::new()).collect();
        while !self.stop.load(Ordering::SeqCst) {
            for verdict in Payment::verify_all(&payments, pool) {
                match verdict {
                    Ok(is_right) => {
                        assert!(is_right);
                        self.verified.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) => self.refused.lock().unwrap().push(error.to_string()),
                }
            }
        }
    }
}

/// Does something while payments go on.
pub fn under_load(pool: &HsmPool, work: impl FnOnce(&Load)) -> Load {
    let load = Load::default();
    thread::scope(|scope| {
        for together in TOGETHER {
            let load = &load;
            scope.spawn(move || load.pay_until_stopped(pool, together));
        }
        // A failed assertion must not leave the threads at work for ever.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&load)));
        load.stop.store(true, Ordering::SeqCst);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    load
}

pub struct Payment {
    token_pan: TokenPan,
    input: CryptogramInput,
    received: [u8; 8],
}

impl Payment {
    pub fn new() -> Self {
        Self::of(true)
    }

    /// One whose cryptogram is right, or not.
    pub fn of(is_right: bool) -> Self {
        let token_pan: TokenPan = "9990770996775434".parse().unwrap();
        let input = CryptogramInput {
            amount_authorized: [0, 0, 0, 0, 0x12, 0x34],
            amount_other: [0; 6],
            terminal_country: [0x02, 0x76],
            tvr: [0; 5],
            currency: [0x09, 0x78],
            date: [0x26, 0x11, 0x21],
            transaction_type: 0,
            unpredictable_number: [1, 2, 3, 4],
            aip: [0x01, 0x04],
            application_transaction_counter: 7,
            issuer_application_data: vec![0xC8; 32],
        };
        let session_key = IssuerMasterKey::new(MASTER_KEY)
            .token_key(&token_pan, PanSequenceNumber::ZERO)
            .limited_use_key(KeyClass::Unverified, KeyIndex::at(now(), 1).unwrap())
            .session_key(input.application_transaction_counter);
        let mut received = application_cryptogram(&session_key, &input.encode());
        if !is_right {
            received[0] ^= 1;
        }
        Self { token_pan, input, received }
    }

    fn request(&self) -> CryptogramRequest<'_> {
        CryptogramRequest {
            issuer: issuer(),
            derivation_key_index: 1,
            token: TokenId::new(now(), [3; 10]),
            token_pan: &self.token_pan,
            sequence: PanSequenceNumber::ZERO,
            key_class: KeyClass::Unverified,
            key_index: KeyIndex::at(now(), 1).unwrap(),
            input: &self.input,
            received: &self.received,
        }
    }

    fn is_right(&self, verdict: &CryptogramVerdict) -> bool {
        match verdict {
            CryptogramVerdict::Verified(proof) => {
                assert_eq!(proof.cryptogram(), &self.received);
                true
            }
            CryptogramVerdict::Mismatch => false,
            CryptogramVerdict::UnknownDerivationKey => panic!("there is one"),
        }
    }

    /// Whether there is the key that it was made with.
    pub fn is_verified(&self, pool: &HsmPool) -> Result<bool, HsmError> {
        let verdict = pool.verify_cryptogram(&self.request())?;
        let is_unknown = matches!(verdict, CryptogramVerdict::UnknownDerivationKey);
        Ok(!is_unknown && self.is_right(&verdict))
    }

    pub fn verify(&self, pool: &HsmPool) -> Result<(), HsmError> {
        let verdict = pool.verify_cryptogram(&self.request())?;
        assert!(self.is_right(&verdict));
        Ok(())
    }

    /// Whether each of them is right.
    pub fn verify_all(payments: &[Self], pool: &HsmPool) -> Vec<Result<bool, HsmError>> {
        let requests: Vec<_> = payments.iter().map(Self::request).collect();
        let verdicts = pool.verify_cryptograms(&requests).into_iter();
        let pairs = payments.iter().zip(verdicts);
        pairs.map(|(payment, verdict)| verdict.map(|verdict| payment.is_right(&verdict))).collect()
    }
}
