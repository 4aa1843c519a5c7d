//! `tapfer bench load`: phones that pay at the nodes of a platform that runs, each payment told when it is answered, and all of
//! them compared with the platform in the end. For drills, in which nodes and databases die meanwhile.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use tapfer_payment_types::PaymentIntentId;
use tapfer_terminal::{TapEnd, TerminalConfiguration};
use tapfer_wallet::Card;

use super::{CENT, PhoneInMemory};
use crate::amount::money_json;
use crate::client::{Client, is_undecided, text_of};
use crate::clock;
use crate::commands::wallet::{Place, enrol};
use crate::context::{Context, segment};
use crate::failure::{Ending, UsageError};
use crate::stage::{create_card, set_up_till};
use crate::tap::tap;
use crate::till::{self, Till};
use crate::trouble::NoAnswer;
use crate::wallet_store::WalletStore;

/// From one node that does not answer to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// A payment that nobody answers for so long ends all of them.
const PATIENCE: Duration = Duration::from_secs(180);
/// On each card: more than is paid in a day of drills.
const MONEY: i64 = 100_000_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Example, against two nodes of one database, for a minute:
  sleep 60 | tapfer bench load \\
    --nodes https://127.0.0.1:8443,https://127.0.0.1:8444 --home /srv/tapfer

It makes an issuer, cards, phones and tills of its own, pays a cent at a time, and ends with its standard input. One JSON object
a line: `{\"ready\":N}` before the first payment; for each payment that was acknowledged, when it was asked and answered (seconds
of this machine's monotonic clock) and how often it was asked; in the end what was compared: every acknowledged payment is
there (lost), and nothing else is on the cards (double). Exit code 1 if not so.")]
pub(crate) struct LoadArguments {
    /// Nodes that are asked in turn; who does not answer is left for the next [default: the platform that --server says]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    nodes: Vec<String>,
    /// Phones that pay at the same time, each with a card and a till of its own
    #[arg(long, default_value_t = 4)]
    phones: usize,
    /// From one payment of a phone to its next, in milliseconds
    #[arg(long, default_value_t = 20)]
    pause: u64,
}

pub(crate) fn run(context: &Context, arguments: &LoadArguments) -> anyhow::Result<Ending> {
    if !(1..=64).contains(&arguments.phones) {
        bail!(UsageError("--phones is 1 to 64".to_owned()));
    }
    let nodes = match arguments.nodes.as_slice() {
        [] => vec![context.access.address(&context.home)?],
        given => given.to_vec(),
    };
    let pause = Duration::from_millis(arguments.pause);
    let mut customers = enrol_all(context, &nodes, arguments.phones)?;
    context.output.json_line(&json!({ "ready": customers.len() }))?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = customers
            .iter_mut()
            .map(|customer| {
                let ended = &ended;
                scope.spawn(move || -> anyhow::Result<()> {
                    let paid = customer.pay_until(context, ended, pause);
                    // One that cannot go on ends the others too.
                    ended.store(true, Ordering::SeqCst);
                    paid
                })
            })
            .collect();
        wait_for_the_end(&ended);
        for thread in threads {
            thread.join().ok().context("a phone's thread ended")??;
        }
        anyhow::Ok(())
    })?;
    let found = audit(&mut customers)?;
    context.output.json_line(&found.told())?;
    Ok(Ending::done_if(found.is_good()))
}

/// Until standard input ends, or a phone cannot go on.
fn wait_for_the_end(ended: &AtomicBool) {
    let is_over = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&is_over);
    // Waited for by nobody: it may never end.
    let reader = thread::spawn(move || {
        let _ended = io::copy(&mut io::stdin().lock(), &mut io::sink());
        tell.store(true, Ordering::SeqCst);
    });
    drop(reader);
    while !is_over.load(Ordering::SeqCst) && !ended.load(Ordering::SeqCst) {
        thread::park_timeout(PAUSE);
    }
    ended.store(true, Ordering::SeqCst);
}

/// A phone with a card of its own, at a till of its own: one terminal waits for one tap at a time.
struct Customer {
    card: String,
    operator: Client,
    till: Till,
    configuration: TerminalConfiguration,
    phone: PhoneInMemory,
    nodes: Nodes,
    answered: Vec<Answered>,
}

/// A payment that was acknowledged.
struct Answered {
    key: String,
    question: Value,
    id: String,
}

/// Where is asked next, and what came of asking.
struct Nodes {
    addresses: Vec<String>,
    turn: usize,
    counts: Counts,
}

/// Requests that no node had answered at once.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// Nobody listened, or a node said that it cannot.
    refused: usize,
    /// A node broke off.
    cut: usize,
}

impl Nodes {
    /// Asks one node after the other, until one answers. How often it was asked, and the answer.
    fn ask(
        &mut self,
        caller: &Client,
        path: &str,
        body: &Value,
        key: &str,
    ) -> anyhow::Result<(usize, Value)> {
        let begun = clock::instant();
        self.turn = self.turn.wrapping_add(1);
        for attempt in 1.. {
            let answer = caller.at(self.address()).post_patiently(path, body, key, Duration::ZERO);
            match answer {
                Ok(answer) => return Ok((attempt, answer)),
                Err(error) => self.go_on(error, begun)?,
            }
        }
        bail!("nobody answered")
    }

    /// What is there, from the first node that answers.
    fn get(&mut self, caller: &Client, path: &str) -> anyhow::Result<Value> {
        let begun = clock::instant();
        loop {
            match caller.at(self.address()).get(path) {
                Ok(answer) => return Ok(answer),
                Err(error) => self.go_on(error, begun)?,
            }
        }
    }

    fn address(&self) -> &str {
        let place = self.turn.checked_rem(self.addresses.len()).unwrap_or_default();
        self.addresses.get(place).map_or("", String::as_str)
    }

    /// To the next node, if that may help.
    fn go_on(&mut self, error: anyhow::Error, begun: Instant) -> anyhow::Result<()> {
        if !is_undecided(&error) || begun.elapsed() > PATIENCE {
            return Err(error);
        }
        let is_cut = error.downcast_ref::<NoAnswer>().is_some_and(NoAnswer::broke_off);
        let count = if is_cut { &mut self.counts.cut } else { &mut self.counts.refused };
        *count = count.saturating_add(1);
        self.turn = self.turn.wrapping_add(1);
        thread::park_timeout(PAUSE);
        Ok(())
    }
}

fn enrol_all(context: &Context, nodes: &[String], count: usize) -> anyhow::Result<Vec<Customer>> {
    let operator = context.client()?;
    // As many payments as a long drill makes.
    let policy = json!({
        "keys_per_replenishment": 20, "maximum_payments": 5_000,
        "maximum_total_minor": 1_000_000, "lifetime_seconds": 86_400,
    });
    // Ranges of numbers of its own, so that it can be run beside others and again.
    let range = || {
        let random = u32::from_str_radix(&clock::random_hex::<3>(), 16).unwrap_or_default();
        format!("98{:06}", random.checked_rem(1_000_000).unwrap_or_default())
    };
    let issuer = operator.post(
        "/v1/issuers",
        &json!({
            "name": "Issuer of a drill", "country": "276", "pan_prefix": range(),
            "token_prefix": range(), "currency": CENT.currency.code(), "key_policy": policy,
        }),
    )?;
    let issuer = text_of(&issuer, "id")?;
    let directory = tempfile::Builder::new().prefix("tapfer-").tempdir()?;
    let customers = (0..count).map(|number| {
        let card = create_card(&operator, &issuer)?;
        let mut top_up = money_json(tapfer_payment_types::Money::new(MONEY, CENT.currency));
        if let Some(fields) = top_up.as_object_mut() {
            fields.insert("reference".to_owned(), json!("for a drill"));
        }
        operator.post(&format!("/v1/cards/{}/top-ups", segment(&card)), &top_up)?;
        let wallet = directory.path().join(format!("wallet-{number}"));
        enrol(context, &Place::at(Some(wallet.clone())), &card, "a phone of a drill")?;
        let (_store, wallet) = WalletStore::open(context, &wallet)?;
        let (till, configuration) = set_up_till(context)?;
        let counts = Counts::default();
        Ok(Customer {
            card,
            operator: operator.clone(),
            till,
            configuration,
            phone: PhoneInMemory { card: Card::new(wallet), proven: false },
            nodes: Nodes { addresses: nodes.to_vec(), turn: number, counts },
            answered: Vec::new(),
        })
    });
    customers.collect()
}

impl Customer {
    fn pay_until(
        &mut self,
        context: &Context,
        ended: &AtomicBool,
        pause: Duration,
    ) -> anyhow::Result<()> {
        while !ended.load(Ordering::SeqCst) {
            let told = self.pay()?;
            context.output.json_line(&told)?;
            thread::park_timeout(pause);
        }
        Ok(())
    }

    /// One payment from intent to answer. Every step is asked until it is answered, under one key.
    fn pay(&mut self) -> anyhow::Result<Value> {
        let Self { till, configuration, phone, nodes, answered, .. } = self;
        let key = clock::random_hex::<16>();
        let mut body = money_json(CENT);
        if let Some(fields) = body.as_object_mut() {
            fields.insert("capture_method".to_owned(), json!("automatic"));
        }
        let (_, intent) = nodes.ask(&till.merchant, "/v1/payment-intents", &body, &key)?;
        let intent: PaymentIntentId = text_of(&intent, "id")?.parse()?;
        let path = format!("/v1/payment-intents/{}/arm", segment(&intent.to_string()));
        let arming = json!({ "terminal": till.terminal_id });
        nodes.ask(&till.merchant, &path, &arming, &format!("arm-{key}"))?;
        let tapped = tap(till::arm(configuration.clone(), intent, CENT)?, phone)?;
        let TapEnd::Online(payment) = tapped.end else {
            bail!("a tap did not lead to a question to the platform")
        };
        let question = till::question(intent, payment.request().chip_data());
        let asked = clock::uptime();
        let (attempts, answer) =
            nodes.ask(&till.terminal, "/v1/authorizations", &question, &key)?;
        if text_of(&answer, "outcome")? != "approved" {
            bail!("a payment was declined: {answer}");
        }
        let id = text_of(&answer, "id")?;
        let told = json!({
            "id": id, "asked": asked.as_secs_f64(), "answered": clock::uptime().as_secs_f64(),
            "attempts": attempts,
        });
        answered.push(Answered { key, question, id });
        Ok(told)
    }

    /// The approved payments that the platform has of this customer's till.
    fn kept(&mut self) -> anyhow::Result<BTreeSet<String>> {
        let mut kept = BTreeSet::new();
        let mut path = "/v1/authorizations?limit=100".to_owned();
        loop {
            let page = self.nodes.get(&self.till.terminal, &path)?;
            for one in page.get("data").and_then(Value::as_array).into_iter().flatten() {
                if text_of(one, "outcome")? == "approved" {
                    kept.insert(text_of(one, "id")?);
                }
            }
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(cursor) => path = format!("/v1/authorizations?limit=100&cursor={cursor}"),
                None => return Ok(kept),
            }
        }
    }

    /// What has gone from the card.
    fn spent(&mut self) -> anyhow::Result<i64> {
        let card = self.nodes.get(&self.operator, &format!("/v1/cards/{}", segment(&self.card)))?;
        let balance = card.get("balance").and_then(Value::as_i64).context("a balance")?;
        let opening = crate::stage::OPENING_BALANCE.minor.saturating_add(MONEY);
        Ok(opening.saturating_sub(balance))
    }
}

/// What the platform has, held against what it said.
#[derive(Debug, Default)]
struct Found {
    acknowledged: usize,
    counts: Counts,
    /// Acknowledged, and not there.
    lost: usize,
    /// There, and never acknowledged; each payment was asked until it was.
    double: usize,
    /// Cards from which another sum has gone than was acknowledged.
    wrong_cards: usize,
    /// Answers that were another when they were asked for once more.
    other_answers: usize,
}

/// So many of each phone's last payments are asked once more.
const ASKED_ONCE_MORE: usize = 20;

fn audit(customers: &mut [Customer]) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for customer in customers {
        let kept = customer.kept()?;
        let told: BTreeSet<String> = customer.answered.iter().map(|one| one.id.clone()).collect();
        let spent = customer.spent()?;
        let paid = i64::try_from(told.len()).unwrap_or(i64::MAX).saturating_mul(CENT.minor);
        found.acknowledged = found.acknowledged.saturating_add(customer.answered.len());
        found.lost = found.lost.saturating_add(told.difference(&kept).count());
        found.double = found.double.saturating_add(kept.difference(&told).count());
        // Two that were told the same id were one payment.
        let repeated = customer.answered.len().saturating_sub(told.len());
        found.lost = found.lost.saturating_add(repeated);
        found.wrong_cards = found.wrong_cards.saturating_add(usize::from(spent != paid));
        let Customer { nodes, till, answered, .. } = customer;
        let (refused, cut) = (nodes.counts.refused, nodes.counts.cut);
        found.counts.refused = found.counts.refused.saturating_add(refused);
        found.counts.cut = found.counts.cut.saturating_add(cut);
        for one in answered.iter().rev().take(ASKED_ONCE_MORE) {
            let (_, again) =
                nodes.ask(&till.terminal, "/v1/authorizations", &one.question, &one.key)?;
            let is_another = text_of(&again, "id")? != one.id;
            found.other_answers = found.other_answers.saturating_add(usize::from(is_another));
        }
    }
    Ok(found)
}

impl Found {
    const fn is_good(&self) -> bool {
        matches!(self, Self { lost: 0, double: 0, wrong_cards: 0, other_answers: 0, .. })
    }

    fn told(&self) -> Value {
        json!({
            "acknowledged": self.acknowledged, "refused": self.counts.refused, "cut": self.counts.cut,
            "lost": self.lost, "double": self.double, "wrong_cards": self.wrong_cards,
            "other_answers": self.other_answers,
        })
    }
}
