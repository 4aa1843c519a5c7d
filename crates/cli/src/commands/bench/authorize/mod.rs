//! `tapfer bench authorize`: durable authorizations through the whole platform beside the same server's hello, over the
//! same connections with client certificates, in the same rounds.

mod crowd;
mod embedded;
mod line;
mod postgres;
mod raw;
mod server;
mod threads;
mod tokens;
mod town;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use self::crowd::{Crowd, Round};
use super::figure::{self, each, micros, millis, quotient, quotients, summary};
use crate::context::Context;
use crate::failure::{Ending, UsageError};
use crate::stage::Stage;

/// So many hellos for each authorization: they are quicker.
const HELLOS: usize = 8;
/// The metric that counts what went to the disk.
const COMMITS: &str = "tapfer_storage_commits_total ";
/// Threads that take no more than this of an authorization have nothing to do with it.
const NOTHING: Duration = Duration::from_nanos(100);

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tapfer bench authorize --json

One JSON object a line: figure, value, unit, beside. Platform and clients are one process, so that processor time is that of both.
Each terminal has a certificate and a connection of its own; connections shake hands before anything is measured.

authorize.over_relational_sqlite_ratio: the embedded store alone, without network and security module. Lots of 64: facts looked up, decided, compared, in
the journal on the disk; beside the rows of the same authorizations in SQLite, one a statement (14 for each), 64 authorizations in a transaction, WAL,
synchronous FULL. A round is a burst of 1,024. The store writes its tables when nothing waits: authorize.embedded_tables_us is what that takes, and
authorize.sustained_over_relational_sqlite_ratio counts both, as a load without an end would.

authorize.beside_million_tokens_ratio: the embedded store with a million tokens beside the same with a thousand, to the end of its tables; memory is emptied
before each round, so everything is looked up.

authorize.over_postgres_unnest_ratio: a platform on PostgreSQL end to end over TLS, with twice as many connections, since two lots of 64 are at work at a time,
beside raw batched inserts into the same server: for each payment a row for
every row that a payment adds or changes and that stays, of the same size, into tables with the same indices; INSERT ... SELECT FROM unnest, prepared, one round trip,
64 payments in a transaction, one connection, synchronous. What the platform leaves for later (the links of the audit log) is done within its time. The server is the benchmark's own, in a temporary directory, and syncs to the disk; without PostgreSQL's
programs (Debian's package postgresql) the figure is left out.")]
pub(crate) struct AuthorizeArguments {
    /// Terminals that pay at the same time; twice as many on PostgreSQL
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// So many terminals in turn for each of them: the payments of one round
    #[arg(long, default_value_t = 16)]
    each: u32,
    /// Rounds that are measured
    #[arg(long, default_value_t = 7)]
    rounds: u32,
}

pub(crate) fn run(context: &Context, arguments: &AuthorizeArguments) -> anyhow::Result<Ending> {
    let AuthorizeArguments { connections, each, rounds } = *arguments;
    // A phone's keys are good for so many payments.
    if !(1..=96).contains(&connections) || !(1..=32).contains(&each) || !(1..=25).contains(&rounds)
    {
        bail!(UsageError("--connections is 1 to 96, --each 1 to 32, --rounds 1 to 25".to_owned()));
    }
    if cfg!(debug_assertions) {
        context
            .output
            .remark("a debug build: these figures say nothing; use cargo build --release");
    }
    let for_two_lots = connections.saturating_mul(2);
    demand_open_files(for_two_lots.saturating_mul(each))?;
    let progress = context.output.progress("paying");
    let stage = Stage::start(context.output)?;
    let mut crowd = Crowd::enrol(&stage, connections, each)?;
    let mut measured = Measured::default();
    // One round before the first that counts, for caches and connections.
    for round in 0..=rounds {
        crowd.tap()?;
        let hello = crowd.hello(HELLOS)?;
        let commits_before = commits(&stage)?;
        let paid = crowd.authorize()?;
        let commits = commits(&stage)?.saturating_sub(commits_before);
        crowd.tap()?;
        let at_half_load = figure::each(paid.elapsed, paid.count).saturating_mul(2);
        let waited = crowd.authorize_paced(at_half_load)?;
        if round > 0 {
            measured.push(&hello, &paid, commits);
            measured.push_waited(waited);
        }
    }
    drop(progress);
    figure::print(context.output, &measured.figures())?;
    // One platform at a time: the other one would have its share of the processor.
    drop(crowd);
    drop(stage);
    figure::print(context.output, &embedded::measure(rounds)?)?;
    let progress = context.output.progress("paying beside a million tokens");
    let figure = tokens::measure(rounds)?;
    drop(progress);
    figure::print(context.output, &[figure])?;
    let progress = context.output.progress("paying on PostgreSQL");
    let figures = postgres::measure(context, (for_two_lots, each), rounds)?;
    drop(progress);
    figure::print(context.output, &figures)?;
    Ok(Ending::Done)
}

/// Both ends of each connection are open files of this process.
fn demand_open_files(connections: u32) -> anyhow::Result<()> {
    let needed = u64::from(connections).saturating_mul(3).saturating_add(256);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let most = limit.maximum.unwrap_or(needed);
    ensure!(
        most >= needed,
        "{connections} connections need {needed} open files, and this process may have {most}: raise the limit (ulimit \
         -n), or take less with --connections or --each"
    );
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })?)
}

/// How many transactions went to the disk so far.
fn commits(stage: &Stage) -> anyhow::Result<u64> {
    let metrics = stage.context.client()?.get_text("/metrics")?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(COMMITS));
    line.and_then(|count| count.trim().parse().ok()).context("the platform does not count commits")
}

/// Times of one request, by round.
#[derive(Default)]
struct Measured {
    hello: Vec<Duration>,
    hello_cpu: Vec<Duration>,
    paid: Vec<Duration>,
    paid_cpu: Vec<Duration>,
    commits: Vec<f64>,
    /// Of payments at half load: the middle one, and the one that a hundredth exceeds.
    middle: Vec<Duration>,
    slowest: Vec<Duration>,
    threads: BTreeMap<String, Vec<Duration>>,
}

impl Measured {
    fn push(&mut self, hello: &Round, paid: &Round, commits: u64) {
        self.hello.push(each(hello.elapsed, hello.count));
        self.hello_cpu.push(each(hello.cpu, hello.count));
        self.paid.push(each(paid.elapsed, paid.count));
        self.paid_cpu.push(each(paid.cpu, paid.count));
        self.commits.push(quotient(commits, paid.count));
        for (name, cpu) in &paid.threads {
            let cpu = each(*cpu, paid.count);
            if cpu > NOTHING {
                self.threads.entry(name.clone()).or_default().push(cpu);
            }
        }
    }

    fn push_waited(&mut self, mut waited: Vec<Duration>) {
        waited.sort_unstable();
        let at = |share: usize| {
            let place = waited.len().saturating_mul(share).div_euclid(100);
            waited.get(place).copied().unwrap_or_default()
        };
        self.middle.push(at(50));
        self.slowest.push(at(99));
    }

    fn by_thread(&self) -> impl Iterator<Item = Value> {
        let whole = micros(&self.paid_cpu);
        self.threads.iter().map(move |(name, cpu)| {
            let name = format!("authorize.cpu_us.{name}");
            let beside = ("processor time of one authorization, clients' included", "us");
            summary(&name, "us", &micros(cpu), beside, &whole)
        })
    }

    fn figures(&self) -> Vec<Value> {
        const HELLO: &str = "one hello of the same server over the same connections, mutual TLS";
        let ratios = quotients(&self.hello, &self.paid);
        let whole = vec![
            summary(
                "authorize.over_tls_hello_ratio",
                "ratio",
                &ratios,
                (HELLO, "us"),
                &micros(&self.hello),
            ),
            summary(
                "authorize.authorization_us",
                "us",
                &micros(&self.paid),
                (HELLO, "us"),
                &micros(&self.hello),
            ),
            summary(
                "authorize.authorization_cpu_us",
                "us",
                &micros(&self.paid_cpu),
                ("processor time of one hello", "us"),
                &micros(&self.hello_cpu),
            ),
            summary(
                "authorize.commits_per_authorization",
                "commits",
                &self.commits,
                ("one authorization", "us"),
                &micros(&self.paid),
            ),
            summary(
                "authorize.p99_ms_at_half_load",
                "ms",
                &millis(&self.slowest),
                (
                    "the median of the same payments; half as many a second as in the closed loop",
                    "ms",
                ),
                &millis(&self.middle),
            ),
        ];
        whole.into_iter().chain(self.by_thread()).collect()
    }
}
