//! `tapfer bench authorize`: durable authorizations through the whole platform beside the same server's hello, on the
//! same connections, in the same rounds.

mod crowd;
mod line;
mod threads;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use self::crowd::{Crowd, Round};
use self::threads::cpu_by_name;
use super::figure::{self, each, micros, quotient, quotients, summary};
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
#[command(
    after_help = "Example:\n  tapfer bench authorize --json\n\nOne JSON object a line: figure, value, unit, beside. Platform and clients are one process, so that processor \
                  time is that of both."
)]
pub(crate) struct AuthorizeArguments {
    /// Connections that pay at the same time
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Payments on each connection in one round
    #[arg(long, default_value_t = 16)]
    each: usize,
    /// Rounds that are measured
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

pub(crate) fn run(context: &Context, arguments: &AuthorizeArguments) -> anyhow::Result<Ending> {
    let AuthorizeArguments { connections, each, rounds } = *arguments;
    // A phone's keys are good for so many payments.
    if !(1..=128).contains(&connections) || !(1..=64).contains(&each) || !(1..=25).contains(&rounds)
    {
        bail!(UsageError("--connections is 1 to 128, --each 1 to 64, --rounds 1 to 25".to_owned()));
    }
    if cfg!(debug_assertions) {
        context
            .output
            .remark("a debug build: these figures say nothing; use cargo build --release");
    }
    let progress = context.output.progress("paying");
    let stage = Stage::start(context.output)?;
    let mut crowd = Crowd::enrol(&stage, connections, each)?;
    let mut measured = Measured::default();
    // One round before the first that counts, for caches and connections.
    for round in 0..=rounds {
        crowd.tap()?;
        let hello = crowd.hello(each.saturating_mul(HELLOS))?;
        let (commits_before, cpu_before) = (commits(&stage)?, cpu_by_name());
        let paid = crowd.authorize()?;
        let cpu = cpu_by_name();
        let commits = commits(&stage)?.saturating_sub(commits_before);
        if round > 0 {
            measured.push(hello, paid, commits);
            measured.push_threads(&cpu_before, cpu, paid.count);
        }
    }
    drop(progress);
    figure::print(context.output, &measured.figures())?;
    Ok(Ending::Done)
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
    threads: BTreeMap<String, Vec<Duration>>,
}

impl Measured {
    fn push(&mut self, hello: Round, paid: Round, commits: u64) {
        self.hello.push(each(hello.elapsed, hello.count));
        self.hello_cpu.push(each(hello.cpu, hello.count));
        self.paid.push(each(paid.elapsed, paid.count));
        self.paid_cpu.push(each(paid.cpu, paid.count));
        self.commits.push(quotient(commits, paid.count));
    }

    fn push_threads(
        &mut self,
        before: &BTreeMap<String, Duration>,
        after: BTreeMap<String, Duration>,
        count: usize,
    ) {
        for (name, cpu) in after {
            let before = before.get(&name).copied().unwrap_or_default();
            let cpu = each(cpu.saturating_sub(before), count);
            if cpu > NOTHING {
                self.threads.entry(name).or_default().push(cpu);
            }
        }
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
        const HELLO: &str = "one hello of the same server over the same connections";
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
        ];
        whole.into_iter().chain(self.by_thread()).collect()
    }
}
