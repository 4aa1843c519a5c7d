//! Phones with a connection each, whose taps are made before anything is measured.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tapfer_terminal::{TapEnd, TerminalConfiguration};
use tapfer_wallet::Card;

use super::super::{CENT, PhoneInMemory};
use super::line::{Line, get, post};
use crate::client::text_of;
use crate::clock;
use crate::commands::wallet::{Place, enrol};
use crate::context::Context;
use crate::stage::{Stage, create_card, create_issuer, set_up_till};
use crate::tap::tap;
use crate::till::{self, Till};
use crate::wallet_store::WalletStore;

/// What a round took, in all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// Requests that were answered.
    pub(super) count: usize,
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    /// Processor time of this process meanwhile: platform and clients.
    pub(super) cpu: Duration,
}

/// Everybody who pays.
pub(super) struct Crowd<'a> {
    context: &'a Context,
    customers: Vec<Customer>,
}

/// A phone with a card of its own, and the terminals that it pays at in one round.
struct Customer {
    phone: PhoneInMemory,
    configuration: TerminalConfiguration,
    tills: Vec<(Till, String)>,
    requests: Vec<Vec<u8>>,
}

impl<'a> Crowd<'a> {
    /// So many connections, and so many payments on each of them in a round.
    ///
    /// # Errors
    /// What the platform refuses, which it should not.
    pub(super) fn enrol(stage: &'a Stage, connections: usize, each: usize) -> anyhow::Result<Self> {
        let operator = stage.context.client()?;
        let policy = json!({
            "keys_per_replenishment": 20, "maximum_payments": 100,
            "maximum_total_minor": 25_000, "lifetime_seconds": 86_400,
        });
        let issuer = create_issuer(&operator, &policy)?;
        let (_, mut configuration) = set_up_till(&stage.context)?;
        // Each terminal would need a certificate of its own; the platform does the same work without.
        configuration.merchant = None;
        let body = json!({ "name": "Corner Cafe", "country": "276", "category_code": "5814" });
        let merchant = operator.post("/v1/merchants", &body)?;
        let merchant_client = operator.with_key(&text_of(&merchant, "api_key")?);
        let customers = (0..connections).map(|number| {
            let card = create_card(&operator, &issuer)?;
            let directory = stage.context.home.path().join(format!("wallet-{number}"));
            enrol(&stage.context, &Place::at(Some(directory.clone())), &card, "a phone")?;
            let (_store, wallet) = WalletStore::open(&stage.context, &directory)?;
            let tills = (0..each).map(|till| {
                let label = format!("counter {number}-{till}");
                let body = json!({ "merchant": text_of(&merchant, "id")?, "label": label });
                let terminal = operator.post("/v1/terminals", &body)?;
                let key = text_of(&terminal, "api_key")?;
                let till = Till {
                    merchant: merchant_client.clone(),
                    terminal: operator.with_key(&key),
                    terminal_id: text_of(&terminal, "id")?,
                };
                Ok((till, key))
            });
            Ok(Customer {
                phone: PhoneInMemory { card: Card::new(wallet), proven: false },
                configuration: configuration.clone(),
                tills: tills.collect::<anyhow::Result<_>>()?,
                requests: Vec::new(),
            })
        });
        let customers = customers.collect::<anyhow::Result<_>>()?;
        Ok(Self { context: &stage.context, customers })
    }

    /// Makes one tap at every terminal, up to the question that it will ask.
    ///
    /// # Errors
    /// A payment that cannot be made ready.
    pub(super) fn tap(&mut self) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let customers = self.customers.iter_mut();
            let threads: Vec<_> =
                customers.map(|customer| scope.spawn(|| customer.tap())).collect();
            let mut ended = threads.into_iter();
            ended.try_for_each(|thread| thread.join().ok().context("a phone's thread ended")?)
        })
    }

    /// Puts the questions of all taps, each connection one after the other.
    ///
    /// # Errors
    /// One that was not approved.
    pub(super) fn authorize(&mut self) -> anyhow::Result<Round> {
        self.measured(|customer, line| {
            let requests = std::mem::take(&mut customer.requests);
            for request in &requests {
                let answer = line.ask(request)?;
                let told: Value = serde_json::from_slice(&answer.body)?;
                let outcome = told.get("outcome").and_then(Value::as_str);
                ensure!(answer.status == 201 && outcome == Some("approved"), "declined: {told}");
            }
            Ok(requests.len())
        })
    }

    /// Asks on each connection, so often, whether the server lives.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn hello(&mut self, each: usize) -> anyhow::Result<Round> {
        let request = get("/health");
        self.measured(|_, line| {
            for _ in 0..each {
                let answer = line.ask(&request)?;
                let told: Value = serde_json::from_slice(&answer.body)?;
                ensure!(answer.status == 200 && told.is_object(), "no hello");
            }
            Ok(each)
        })
    }

    /// What all of them do at once, each over a connection of its own that has shaken hands before.
    fn measured(
        &mut self,
        work: impl Fn(&mut Customer, &mut Line) -> anyhow::Result<usize> + Sync,
    ) -> anyhow::Result<Round> {
        let lines = self.customers.iter().map(|_| Line::open(self.context));
        let lines = lines.collect::<anyhow::Result<Vec<_>>>()?;
        let begin = Barrier::new(lines.len().saturating_add(1));
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .customers
                .iter_mut()
                .zip(lines)
                .map(|(customer, mut line)| {
                    let (begin, work) = (&begin, &work);
                    scope.spawn(move || {
                        begin.wait();
                        work(customer, &mut line)
                    })
                })
                .collect();
            let (cpu, begun) = (clock::cpu(), clock::instant());
            begin.wait();
            let mut count = 0_usize;
            for thread in threads {
                let done = thread.join().ok().context("a connection's thread ended")??;
                count = count.saturating_add(done);
            }
            let (elapsed, cpu) = (begun.elapsed(), clock::cpu().saturating_sub(cpu));
            Ok(Round { count, elapsed, cpu })
        })
    }
}

impl Customer {
    fn tap(&mut self) -> anyhow::Result<()> {
        for (till, key) in &self.tills {
            let intent = till.create_intent(CENT, None, "automatic")?;
            till.arm(intent)?;
            let armed = till::arm(self.configuration.clone(), intent, CENT)?;
            let tapped = tap(armed, &mut self.phone)?;
            let TapEnd::Online(payment) = tapped.end else {
                bail!("a tap did not lead to a question to the platform: nothing was measured")
            };
            let body = till::question(intent, payment.request().chip_data()).to_string();
            self.requests.push(post("/v1/authorizations", key, &intent.to_string(), &body));
        }
        Ok(())
    }
}
