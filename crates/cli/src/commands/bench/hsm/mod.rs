//! `tapfer bench hsm`: what worker processes cost and gain, beside one thread that has the module to itself. All in
//! the same rounds.

mod payments;
mod rounds;
mod token;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::Value;
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_hsm::pool::HsmPool;
use tapfer_hsm::software::SoftwareVault;
use tapfer_hsm::{PaymentHsm, Realm, VaultedHsm};

use self::payments::{Cards, MASTER_KEY, issuer, now, realm};
use self::rounds::{Pooled, Rounds};
use self::token::{AloneProcess, Measured, Order};
use super::figure::{self, each};
use crate::clock;
use crate::context::Context;
use crate::failure::{Ending, UsageError};

/// Fewer rounds have no median worth the name.
const FEWEST_ROUNDS: usize = 7;
/// Counters are used once: 16 cards of 65,535 each.
const MOST_PAYMENTS: usize = 1_000_000;
/// In software, and of three kinds in two modules: alone, with one worker, with two.
const PARTS_OF_A_ROUND: usize = 19;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer bench hsm --json --kryoptic test-modules/target/release/libkryoptic_pkcs11.so\n\nOne JSON object a line: figure, value, unit, minimum, maximum, beside. Makes tokens in a temporary directory."
)]
pub(crate) struct HsmArguments {
    /// The library of SoftHSM2
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    softhsm: PathBuf,
    /// The library of Kryoptic, to be measured beside it
    #[arg(long)]
    kryoptic: Option<PathBuf>,
    /// Rounds
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Payments of each round
    #[arg(long, default_value_t = 2_048)]
    payments: usize,
    /// Payments that wait for each worker at once
    #[arg(long, default_value_t = 64)]
    waiting: usize,
    /// Payments that a thread brings at a time
    #[arg(long, default_value_t = 32)]
    together: usize,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tapfer bench hsm-part alone MODULE CATALOGUE")]
pub(crate) struct PartArguments {
    role: String,
    module: PathBuf,
    catalogue: PathBuf,
}

pub(crate) fn part(arguments: &PartArguments) -> anyhow::Result<Ending> {
    token::play(&arguments.role, &arguments.module, &arguments.catalogue)?;
    Ok(Ending::Done)
}

pub(crate) fn run(context: &Context, arguments: &HsmArguments) -> anyhow::Result<Ending> {
    let of_each = arguments.rounds.saturating_add(1).saturating_mul(arguments.payments);
    let most = MOST_PAYMENTS.div_euclid(PARTS_OF_A_ROUND);
    let is_whole =
        arguments.waiting.checked_rem(arguments.together) == Some(0) && arguments.waiting > 0;
    if arguments.rounds < FEWEST_ROUNDS || arguments.payments == 0 || of_each > most || !is_whole {
        bail!(UsageError(format!(
            "--rounds is {FEWEST_ROUNDS} or more, rounds times payments less than {most}, and --waiting a multiple of \
             --together"
        )));
    }
    let _progress = context.output.progress("paying");
    let home = tempfile::tempdir()?;
    let software = software(home.path())?;
    let mut benches = benches("softhsm2", &arguments.softhsm, home.path(), arguments)?;
    if let Some(module) = &arguments.kryoptic {
        benches.extend(self::benches("kryoptic", module, home.path(), arguments)?);
    }
    let mut numbers = Numbers { next: 0, count: arguments.payments };
    let mut in_software = Vec::new();
    for round in 0..=arguments.rounds {
        let order = numbers.order(Cards::Few, 1);
        let payments = order.payments()?;
        let begun = clock::instant();
        payments.verify(&software, order.together)?;
        let elapsed = each(begun.elapsed(), order.count);
        for bench in &mut benches {
            bench.measure(&mut numbers)?;
        }
        if round == 0 {
            // Keys are loaded and caches warm now.
            benches.iter_mut().for_each(|bench| bench.rounds = Rounds::default());
        } else {
            in_software.push(elapsed);
        }
    }
    drop(_progress);
    let figures: Vec<_> = benches.iter().flat_map(|bench| bench.figures(&in_software)).collect();
    figure::print(context.output, &figures)?;
    Ok(Ending::Done)
}

/// The catalogue, and the software module over it.
fn software(home: &Path) -> anyhow::Result<VaultedHsm<SoftwareVault>> {
    let vault = SoftwareVault::new(token::roots());
    let hsm = VaultedHsm::with_new_catalogue(vault, &token::catalogue(home), Realm::Demo, realm())?;
    hsm.import_demo_issuer(issuer(), IssuerMasterKey::new(MASTER_KEY), now())?;
    Ok(hsm)
}

/// No payment is made twice.
struct Numbers {
    next: usize,
    count: usize,
}

impl Numbers {
    fn order(&mut self, cards: Cards, together: usize) -> Order {
        let first = self.next;
        self.next = first.saturating_add(self.count);
        Order { cards, first, count: self.count, together }
    }
}

/// What is measured of each module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The whole authorization of a card that was not seen lately, which takes long enough to be judged. A thread
    /// brings several at a time.
    Judged,
    /// The same of cards whose limited-use keys are at hand.
    Cached,
    /// The whole authorization again, with a thread for each payment: what the server does today.
    Single,
}

/// One kind of work in one module: alone, with one worker, with two.
struct Bench {
    module: Measured,
    kind: Kind,
    together: usize,
    /// Threads that pay, for each worker.
    callers: usize,
    alone: AloneProcess,
    /// Works beside the first, to show what two processes get of this machine without any pool.
    beside: AloneProcess,
    one: HsmPool,
    two: HsmPool,
    rounds: Rounds,
}

/// Each kind has processes of its own: none finds the caches of another.
fn benches(
    name: &'static str,
    library: &Path,
    home: &Path,
    arguments: &HsmArguments,
) -> anyhow::Result<Vec<Bench>> {
    let module = Measured::new(name, library, home)?;
    let bench = |kind| {
        let together = if kind == Kind::Single { 1 } else { arguments.together };
        anyhow::Ok(Bench {
            kind,
            together,
            callers: arguments.waiting.div_euclid(together),
            alone: module.alone(home)?,
            beside: module.alone(home)?,
            one: module.pool(home, 1)?,
            two: module.pool(home, 2)?,
            rounds: Rounds::default(),
            module: module.clone(),
        })
    };
    [Kind::Judged, Kind::Cached, Kind::Single].into_iter().map(bench).collect()
}

impl Bench {
    fn measure(&mut self, numbers: &mut Numbers) -> anyhow::Result<()> {
        let cards = if self.kind == Kind::Cached { Cards::Few } else { Cards::Many };
        let mut order = || numbers.order(cards, self.together);
        let alone = self.alone.run(order())?;
        let both = both(&mut self.alone, order(), &mut self.beside, order())?;
        let one = through(&self.one, self.callers, order())?;
        let two = through(&self.two, self.callers.saturating_mul(2), order())?;
        self.rounds.push(numbers.count, &alone, both, (&one, &two));
        Ok(())
    }

    fn figures(&self, software: &[Duration]) -> Vec<Value> {
        // SoftHSM2 is what the figures are judged on; others carry their name.
        let module = match self.module.name {
            "softhsm2" => String::new(),
            other => format!("{other}_"),
        };
        let kind = match self.kind {
            Kind::Judged => "",
            Kind::Cached => "cached_",
            Kind::Single => "single_",
        };
        let mut figures = self.rounds.throughput(&format!("hsm.{module}{kind}"));
        match self.kind {
            Kind::Judged => {
                figures.push(self.rounds.first_calls(&format!("hsm.{module}")));
                figures.push(self.rounds.two_processes(&format!("hsm.{module}")));
            }
            Kind::Cached => {
                figures.extend(self.rounds.calls(&format!("hsm.{module}")));
                figures.push(self.rounds.beside_software(&format!("hsm.{module}"), software));
            }
            Kind::Single => {}
        }
        figures
    }
}

/// A round in each of two processes at once: how long it takes until both are done.
fn both(
    one: &mut AloneProcess,
    first: Order,
    other: &mut AloneProcess,
    second: Order,
) -> anyhow::Result<Duration> {
    let begun = clock::instant();
    one.begin(first)?;
    other.begin(second)?;
    one.end()?;
    other.end()?;
    Ok(begun.elapsed())
}

/// Pays through a pool: time, and processor time of this process and of the workers. The threads that pay stand ready
/// before, as those of a server do.
fn through(pool: &HsmPool, callers: usize, order: Order) -> anyhow::Result<Pooled> {
    let payments = order.payments()?;
    let gate = Barrier::new(callers.saturating_add(1));
    thread::scope(|scope| {
        let pay = || {
            gate.wait();
            gate.wait();
            payments.verify(pool, order.together)
        };
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(pay)).collect();
        gate.wait();
        let before = workers_cpu(pool).map(|workers| (workers, clock::cpu(), clock::instant()));
        gate.wait();
        for caller in callers {
            caller.join().map_err(|_| anyhow!("a thread that pays has panicked"))??;
        }
        let (workers, own, begun) = before?;
        let (elapsed, own) = (begun.elapsed(), clock::cpu().saturating_sub(own));
        let workers = workers_cpu(pool)?.saturating_sub(workers);
        Ok(Pooled { elapsed, cpu: own.saturating_add(workers) })
    })
}

/// Processor time that the kernel has counted for the workers.
fn workers_cpu(pool: &HsmPool) -> anyhow::Result<Duration> {
    let status = pool.status();
    let workers = status.members.iter().flat_map(|member| &member.workers);
    workers.filter_map(|worker| worker.process).try_fold(Duration::ZERO, |sum, process| {
        let file = format!("/proc/{process}/schedstat");
        let text = std::fs::read_to_string(&file).context(file)?;
        let nanos = text.split(' ').next().unwrap_or_default().parse()?;
        Ok(sum.saturating_add(Duration::from_nanos(nanos)))
    })
}
