//! Phones that pay at one till, all at once, through the whole platform.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tapfer_terminal::{TapEnd, TerminalConfiguration};
use tapfer_wallet::Card;

use super::super::PhoneInMemory;
use crate::client::text_of;
use crate::commands::wallet::{Place, enrol};
use crate::stage::{Stage, create_card, create_issuer, set_up_till};
use crate::tap::tap;
use crate::till::{self, Till};
use crate::wallet_store::WalletStore;
use crate::{clock, commands::bench::CENT};

/// From one payment of a phone to its next.
const PAUSE: Duration = Duration::from_millis(40);
/// A payment that is not answered by then is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// A payment, from the terminal's question to the answer that it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payment {
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    /// When the platform said last that it could not answer.
    pub(super) refused: Option<Instant>,
    /// How often.
    pub(super) refusals: usize,
}

impl Payment {
    pub(super) fn took(&self) -> Duration {
        self.answered.saturating_duration_since(self.asked)
    }
}

/// Everybody who pays, each at a terminal of its own: one terminal waits for one tap at a time.
pub(super) struct Load(Vec<Customer>);

struct Customer {
    till: Till,
    configuration: TerminalConfiguration,
    phone: PhoneInMemory,
}

impl Load {
    /// Makes so many phones, each with a card of its own: payments of one card wait for each other.
    ///
    /// # Errors
    /// What the platform refuses, which it should not.
    pub(super) fn enrol(
        stage: &Stage,
        policy: &serde_json::Value,
        count: usize,
    ) -> anyhow::Result<Self> {
        let operator = stage.context.client()?;
        let issuer = create_issuer(&operator, policy)?;
        let mut customers = Vec::new();
        for number in 0..count {
            let card = create_card(&operator, &issuer)?;
            let directory = stage.context.home.path().join(format!("wallet-{number}"));
            enrol(&stage.context, &Place::at(Some(directory.clone())), &card, "a phone")?;
            let (_store, wallet) = WalletStore::open(&stage.context, &directory)?;
            let phone = PhoneInMemory { card: Card::new(wallet), proven: false };
            let (till, configuration) = set_up_till(&stage.context)?;
            customers.push(Customer { till, configuration, phone });
        }
        Ok(Self(customers))
    }

    /// Pays until `director` is done; what it gave, and every payment.
    ///
    /// # Errors
    /// A payment that was declined, or answered by nobody in time; what the director says.
    pub(super) fn while_paying<T>(
        &mut self,
        director: impl FnOnce(&Paid) -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, Vec<Payment>)> {
        let (paid, ended) = (Paid::default(), AtomicBool::new(false));
        let directed = thread::scope(|scope| {
            let threads: Vec<_> = self
                .0
                .iter_mut()
                .map(|customer| {
                    let (paid, ended) = (&paid, &ended);
                    scope.spawn(move || -> anyhow::Result<()> {
                        while !ended.load(Ordering::SeqCst) {
                            paid.add(customer.pay()?);
                            thread::park_timeout(PAUSE);
                        }
                        Ok(())
                    })
                })
                .collect();
            let directed = director(&paid);
            ended.store(true, Ordering::SeqCst);
            for thread in threads {
                thread.join().ok().context("a phone's thread ended")??;
            }
            directed
        });
        Ok((directed?, paid.0.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Payments that were answered so far.
#[derive(Default)]
pub(super) struct Paid(Mutex<Vec<Payment>>);

impl Paid {
    fn add(&self, payment: Payment) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(payment);
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Customer {
    fn pay(&mut self) -> anyhow::Result<Payment> {
        let Self { till, configuration, phone } = self;
        let intent = till.create_intent(CENT, None, "automatic")?;
        till.arm(intent)?;
        let tapped = tap(till::arm(configuration.clone(), intent, CENT)?, phone)?;
        let TapEnd::Online(payment) = tapped.end else {
            bail!("a tap did not lead to a question to the platform: nothing was measured")
        };
        let question = till::question(intent, payment.request().chip_data());
        let asked = clock::instant();
        let (mut refused, mut refusals) = (None, 0_usize);
        loop {
            match till.ask(&question, &intent.to_string(), Duration::ZERO) {
                Ok(answer) if text_of(&answer, "outcome")? == "approved" => {
                    return Ok(Payment { asked, answered: clock::instant(), refused, refusals });
                }
                Ok(answer) => bail!("a payment was declined: {answer}"),
                Err(error) if asked.elapsed() > PATIENCE => return Err(error),
                Err(_) => {
                    refused = Some(clock::instant());
                    refusals = refusals.saturating_add(1);
                    thread::park_timeout(PAUSE);
                }
            }
        }
    }
}
