//! `tapfer bench hsm`: what worker processes cost and gain, beside one thread that has the module to itself. All in
//! the same rounds.

mod payments;
mod token;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_hsm::pool::HsmPool;
use tapfer_hsm::software::SoftwareVault;
use tapfer_hsm::{PaymentHsm, Realm, VaultedHsm};

use self::payments::{MASTER_KEY, Payments, issuer, now, realm};
use self::token::{AloneProcess, Measured};
use super::figure;
use crate::clock;
use crate::context::Context;
use crate::failure::{Ending, UsageError};

/// Threads that pay, for each worker: enough that it always has the next request.
const CALLERS: usize = 8;
/// Fewer rounds have no median worth the name.
const FEWEST_ROUNDS: usize = 7;
/// Counters are used once: 16 cards of 65,535 each.
const MOST_PAYMENTS: usize = 1_000_000;

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
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Payments of each round
    #[arg(long, default_value_t = 2_000)]
    payments: usize,
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
    let needed = arguments.rounds.saturating_mul(arguments.payments).saturating_mul(4);
    if arguments.rounds < FEWEST_ROUNDS || arguments.payments == 0 || needed > MOST_PAYMENTS {
        bail!(UsageError(format!(
            "--rounds is {FEWEST_ROUNDS} or more, and rounds times payments at most {}",
            MOST_PAYMENTS.div_euclid(4)
        )));
    }
    let _progress = context.output.progress("paying");
    let home = tempfile::tempdir()?;
    let software = software(home.path())?;
    let mut modules = vec![Bench::new("softhsm2", &arguments.softhsm, home.path())?];
    if let Some(module) = &arguments.kryoptic {
        modules.push(Bench::new("kryoptic", module, home.path())?);
    }
    let mut counters = Counters { next: 0, count: arguments.payments };
    let mut in_software = Vec::new();
    for round in 0..=arguments.rounds {
        let payments = counters.payments()?;
        let begun = clock::instant();
        payments.verify(&software)?;
        let elapsed = each(begun.elapsed(), payments.count());
        for module in &mut modules {
            module.measure(&mut counters)?;
        }
        if round == 0 {
            // Keys are loaded and caches warm now.
            modules.iter_mut().for_each(Bench::forget);
        } else {
            in_software.push(elapsed);
        }
    }
    drop(_progress);
    let figures: Vec<_> = modules.iter().flat_map(|module| module.figures(&in_software)).collect();
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

/// No counter is used twice with one card.
struct Counters {
    next: usize,
    count: usize,
}

impl Counters {
    fn first(&mut self) -> usize {
        let first = self.next;
        self.next = first.saturating_add(self.count);
        first
    }

    fn payments(&mut self) -> anyhow::Result<Payments> {
        let first = self.first();
        Payments::new(first, self.count)
    }
}

/// One module: alone, with one worker, with two.
struct Bench {
    module: Measured,
    alone: AloneProcess,
    one: HsmPool,
    two: HsmPool,
    rounds: Rounds,
}

/// Times of one authorization, by round.
#[derive(Default)]
struct Rounds {
    alone: Vec<Duration>,
    alone_cpu: Vec<Duration>,
    one: Vec<Duration>,
    one_cpu: Vec<Duration>,
    two: Vec<Duration>,
    calls: Vec<f64>,
    clearing: Vec<f64>,
}

impl Bench {
    fn new(name: &'static str, library: &Path, home: &Path) -> anyhow::Result<Self> {
        let module = Measured::new(name, library, home)?;
        let alone = module.alone(home)?;
        let (one, two) = (module.pool(home, 1)?, module.pool(home, 2)?);
        Ok(Self { module, alone, one, two, rounds: Rounds::default() })
    }

    fn measure(&mut self, counters: &mut Counters) -> anyhow::Result<()> {
        let count = counters.count;
        let alone = self.alone.run(counters.first(), count)?;
        let rounds = &mut self.rounds;
        rounds.alone.push(each(alone.elapsed, count));
        rounds.alone_cpu.push(each(alone.cpu, count));
        rounds.calls.push(ratio(alone.calls, u64::try_from(count)?));
        rounds.clearing.push(ratio(alone.clearing, u64::try_from(count)?));
        let (elapsed, cpu) = through(&self.one, CALLERS, &counters.payments()?)?;
        rounds.one.push(each(elapsed, count));
        rounds.one_cpu.push(each(cpu, count));
        let callers = CALLERS.saturating_mul(2);
        let (elapsed, _) = through(&self.two, callers, &counters.payments()?)?;
        rounds.two.push(each(elapsed, count));
        Ok(())
    }

    fn forget(&mut self) {
        self.rounds = Rounds::default();
    }

    fn figures(&self, software: &[Duration]) -> Vec<Value> {
        let Rounds { alone, alone_cpu, one, one_cpu, two, calls, clearing } = &self.rounds;
        // SoftHSM2 is what the figures are judged on; others carry their name.
        let named = |figure: &str| match self.module.name {
            "softhsm2" => format!("hsm.{figure}"),
            other => format!("hsm.{other}_{figure}"),
        };
        let thread =
            ("one authorization in one thread that has the module to itself, same rounds", "us");
        let in_process = ("one authorization in software in this process, same rounds", "us");
        let its_cpu = ("processor time of the one thread that has the module to itself", "us");
        let cleared = ("calls that clear away what was used up", "calls");
        let alone_us = micros(alone);
        let ratio = |name: &str, pooled| {
            summary(&named(name), "ratio", &quotients(alone, pooled), thread, &alone_us)
        };
        vec![
            ratio("pool_one_worker_ratio", one),
            ratio("pool_two_workers_ratio", two),
            summary(&named("calls_per_authorization"), "calls", calls, cleared, clearing),
            summary(&named("authorization_us"), "us", &alone_us, in_process, &micros(software)),
            summary(&named("pool_cpu_us"), "us", &micros(one_cpu), its_cpu, &micros(alone_cpu)),
        ]
    }
}

/// Pays through a pool: time, and processor time of this process and of the workers.
fn through(
    pool: &HsmPool,
    callers: usize,
    payments: &Payments,
) -> anyhow::Result<(Duration, Duration)> {
    let (worker_cpu, own_cpu, begun) = (workers_cpu(pool)?, clock::cpu(), clock::instant());
    thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(|| payments.verify(pool))).collect();
        callers.into_iter().try_for_each(|caller| match caller.join() {
            Ok(paid) => paid,
            Err(_) => bail!("a thread that pays has panicked"),
        })
    })?;
    let elapsed = begun.elapsed();
    let cpu = clock::cpu().saturating_sub(own_cpu);
    Ok((elapsed, cpu.saturating_add(workers_cpu(pool)?.saturating_sub(worker_cpu))))
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

fn each(whole: Duration, count: usize) -> Duration {
    whole.checked_div(u32::try_from(count).unwrap_or(u32::MAX)).unwrap_or_default()
}

fn ratio(dividend: u64, divisor: u64) -> f64 {
    let float = |number: u64| u32::try_from(number).map_or(f64::NAN, f64::from);
    float(dividend) / float(divisor)
}

fn quotients(alone: &[Duration], pooled: &[Duration]) -> Vec<f64> {
    let pairs = alone.iter().zip(pooled);
    pairs.map(|(alone, pooled)| alone.as_secs_f64() / pooled.as_secs_f64()).collect()
}

fn micros(durations: &[Duration]) -> Vec<f64> {
    durations.iter().map(|duration| duration.as_secs_f64() * 1e6).collect()
}

fn summary(
    figure: &str,
    unit: &str,
    values: &[f64],
    (what, unit_beside): (&str, &str),
    beside: &[f64],
) -> Value {
    let [median, minimum, maximum] = spread(values);
    let [beside_median, beside_minimum, beside_maximum] = spread(beside);
    json!({
        "figure": figure, "value": median, "unit": unit,
        "minimum": minimum, "maximum": maximum, "rounds": values.len(),
        "beside": {
            "what": what, "value": beside_median, "unit": unit_beside,
            "minimum": beside_minimum, "maximum": beside_maximum,
        },
    })
}

/// Median, least, most.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    [at(sorted.len().div_euclid(2)), at(0), at(sorted.len().saturating_sub(1))]
}
