//! Phones that pay at terminals with a connection each. Their taps are made before anything is measured.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tapfer_terminal::{TapEnd, TerminalConfiguration};
use tapfer_wallet::Card;

use super::super::{CENT, PhoneInMemory};
use super::line::{Line, Way, get, post};
use super::threads::{cpu_by_name, since};
use crate::client::text_of;
use crate::clock;
use crate::commands::wallet::{Place, enrol};
use crate::stage::{Stage, create_card, create_issuer, set_up_till};
use crate::tap::tap;
use crate::till::{self, Till};
use crate::wallet_store::WalletStore;

/// What a round took, in all.
#[derive(Debug)]
pub(super) struct Round {
    /// Requests that were answered.
    pub(super) count: usize,
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    /// Processor time of this process meanwhile: platform and clients.
    pub(super) cpu: Duration,
    /// The same by names of threads.
    pub(super) threads: BTreeMap<String, Duration>,
}

/// Everybody who pays.
pub(super) struct Crowd {
    customers: Vec<Customer>,
}

/// A phone with a card of its own, and the terminals that it pays at in one round.
struct Customer {
    /// Its place among all.
    number: u32,
    phone: PhoneInMemory,
    configuration: TerminalConfiguration,
    counters: Vec<Counter>,
    requests: Vec<Vec<u8>>,
}

/// A till with its terminal, and the terminal's way to the platform.
struct Counter {
    till: Till,
    way: Way,
}

impl Crowd {
    /// So many who pay at the same time, each at so many terminals in a round, one after the other.
    ///
    /// # Errors
    /// What the platform refuses, which it should not.
    pub(super) fn enrol(stage: &Stage, at_once: u32, each: u32) -> anyhow::Result<Self> {
        let operator = stage.context.client()?;
        let policy = json!({
            "keys_per_replenishment": 20, "maximum_payments": 100,
            "maximum_total_minor": 25_000, "lifetime_seconds": 86_400,
        });
        let issuer = create_issuer(&operator, &policy)?;
        let (_, mut configuration) = set_up_till(&stage.context)?;
        // Each terminal would need a key of its own for it; the platform does the same work without.
        configuration.merchant = None;
        let body = json!({ "name": "Corner Cafe", "country": "276", "category_code": "5814" });
        let merchant = operator.post("/v1/merchants", &body)?;
        let merchant_client = operator.with_key(&text_of(&merchant, "api_key")?);
        let customers = (0..at_once).map(|number| {
            let card = create_card(&operator, &issuer)?;
            let directory = stage.context.home.path().join(format!("wallet-{number}"));
            enrol(&stage.context, &Place::at(Some(directory.clone())), &card, "a phone")?;
            let (_store, wallet) = WalletStore::open(&stage.context, &directory)?;
            let counters = (0..each).map(|counter| {
                let label = format!("counter {number}-{counter}");
                let body = json!({ "merchant": text_of(&merchant, "id")?, "label": label });
                let terminal = operator.post("/v1/terminals", &body)?;
                let till = Till {
                    merchant: merchant_client.clone(),
                    terminal: operator.with_key(&text_of(&terminal, "api_key")?),
                    terminal_id: text_of(&terminal, "id")?,
                };
                Ok(Counter { way: Way::of(&stage.context, &till.terminal)?, till })
            });
            Ok(Customer {
                number,
                phone: PhoneInMemory { card: Card::new(wallet), proven: false },
                configuration: configuration.clone(),
                counters: counters.collect::<anyhow::Result<_>>()?,
                requests: Vec::new(),
            })
        });
        Ok(Self { customers: customers.collect::<anyhow::Result<_>>()? })
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

    /// Puts the questions of all taps, those of each customer one after the other, each over its terminal's connection.
    ///
    /// # Errors
    /// One that was not approved.
    pub(super) fn authorize(&mut self) -> anyhow::Result<Round> {
        self.round(|customer, lines| {
            let requests = std::mem::take(&mut customer.requests);
            requests.iter().zip(lines).try_for_each(|(request, line)| pay(line, request))?;
            Ok(requests.len())
        })
    }

    /// Puts the questions of all taps at times that do not wait for answers, one every `interval`, whoever's it is: how
    /// long each took from the moment it was due.
    ///
    /// # Errors
    /// One that was not approved.
    pub(super) fn authorize_paced(&mut self, interval: Duration) -> anyhow::Result<Vec<Duration>> {
        let customers = u32::try_from(self.customers.len()).unwrap_or(u32::MAX);
        let turn = interval.saturating_mul(customers);
        let (waited, _) = self.measured(|customer, lines| {
            let begun = clock::instant();
            let mut due = interval.saturating_mul(customer.number);
            let requests = std::mem::take(&mut customer.requests);
            let mut waited = Vec::with_capacity(requests.len());
            for (request, line) in requests.iter().zip(lines) {
                wait_until(due, begun);
                pay(line, request)?;
                waited.push(begun.elapsed().saturating_sub(due));
                due = due.saturating_add(turn);
            }
            Ok(waited)
        })?;
        Ok(waited.into_iter().flatten().collect())
    }

    /// Asks whether the server lives, so often over each connection, in the order in which payments use them.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn hello(&mut self, times: usize) -> anyhow::Result<Round> {
        let request = get("/health");
        self.round(|_, lines| {
            for _ in 0..times {
                for line in &mut *lines {
                    let answer = line.ask(&request)?;
                    let told: Value = serde_json::from_slice(&answer.body)?;
                    ensure!(answer.status == 200 && told.is_object(), "no hello");
                }
            }
            Ok(times.saturating_mul(lines.len()))
        })
    }

    /// What all of them do at once, and how many requests that were.
    fn round(
        &mut self,
        work: impl Fn(&mut Customer, &mut [Line]) -> anyhow::Result<usize> + Sync,
    ) -> anyhow::Result<Round> {
        let (counts, Took { elapsed, cpu, threads }) = self.measured(work)?;
        Ok(Round { count: counts.into_iter().sum(), elapsed, cpu, threads })
    }

    /// What all of them do at once, each over the connections of its terminals, which have shaken hands before.
    fn measured<T: Send>(
        &mut self,
        work: impl Fn(&mut Customer, &mut [Line]) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<(Vec<T>, Took)> {
        let lines = self.customers.iter().map(|customer| {
            customer.counters.iter().map(|counter| Line::open(&counter.way)).collect()
        });
        let lines = lines.collect::<anyhow::Result<Vec<Vec<_>>>>()?;
        let (begin, end) = (rendezvous(lines.len()), rendezvous(lines.len()));
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .customers
                .iter_mut()
                .zip(lines)
                .map(|(customer, mut lines)| {
                    let (begin, end, work) = (&begin, &end, &work);
                    scope.spawn(move || {
                        begin.wait();
                        let done = work(customer, &mut lines);
                        end.wait();
                        // Threads that ended would be missed by who counts their processor time.
                        end.wait();
                        done
                    })
                })
                .collect();
            let before = cpu_by_name();
            let (cpu, begun) = (clock::cpu(), clock::instant());
            begin.wait();
            end.wait();
            let (elapsed, cpu) = (begun.elapsed(), clock::cpu().saturating_sub(cpu));
            let by_thread = since(&before, cpu_by_name());
            end.wait();
            let mut done = Vec::with_capacity(threads.len());
            for thread in threads {
                done.push(thread.join().ok().context("a connection's thread ended")??);
            }
            Ok((done, Took { elapsed, cpu, threads: by_thread }))
        })
    }
}

/// Until so much has passed since the beginning.
fn wait_until(due: Duration, begun: Instant) {
    while begun.elapsed() < due {
        thread::park_timeout(due.saturating_sub(begun.elapsed()));
    }
}

/// From the first request of all to the last answer.
struct Took {
    elapsed: Duration,
    cpu: Duration,
    threads: BTreeMap<String, Duration>,
}

/// A place where so many threads and this one wait for each other.
fn rendezvous(threads: usize) -> Barrier {
    Barrier::new(threads.saturating_add(1))
}

/// Of an authorization, what a till looks at first.
#[derive(Deserialize)]
struct Told<'a> {
    outcome: &'a str,
}

/// Asks for one payment, which has to be approved.
fn pay(line: &mut Line, request: &[u8]) -> anyhow::Result<()> {
    let answer = line.ask(request)?;
    ensure!(answer.status == 201, "refused: {}", String::from_utf8_lossy(&answer.body));
    let told: Told<'_> = serde_json::from_slice(&answer.body)?;
    ensure!(told.outcome == "approved", "not approved: {}", String::from_utf8_lossy(&answer.body));
    Ok(())
}

impl Customer {
    fn tap(&mut self) -> anyhow::Result<()> {
        for Counter { till, .. } in &self.counters {
            let intent = till.create_intent(CENT, None, "automatic")?;
            till.arm(intent)?;
            let armed = till::arm(self.configuration.clone(), intent, CENT)?;
            let tapped = tap(armed, &mut self.phone)?;
            let TapEnd::Online(payment) = tapped.end else {
                bail!("a tap did not lead to a question to the platform: nothing was measured")
            };
            let body = till::question(intent, payment.request().chip_data()).to_string();
            self.requests.push(post("/v1/authorizations", &intent.to_string(), &body));
        }
        Ok(())
    }
}
