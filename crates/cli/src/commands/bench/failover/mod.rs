//! `tapfer bench failover`: phones pay through the whole platform, over two tokens of SoftHSM2, while one of them
//! fails in every way, one after the other.

mod hsms;
mod load;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use tapfer_hsm::PaymentHsm;
use tapfer_hsm::pool::PoolStatus;

use self::hsms::{Fault, Hsms, MEMBERS, status};
use self::load::{Load, Paid, Payment};
use super::figure;
use crate::clock;
use crate::context::Context;
use crate::failure::{Ending, UsageError};
use crate::home::Home;
use crate::narrate::milliseconds;
use crate::platform::open_realm;
use crate::stage::Stage;

/// From one look at the pool to the next.
const LOOK: Duration = Duration::from_millis(2);
/// Answers over which the members' shares are compared.
const WINDOW: u64 = 64;
/// Nothing here takes longer, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer bench failover --json \\\n    --faulty-module test-modules/target/release/libtapfer_faulty_module.so\n\nOne JSON object a line: figure, value, unit, beside. Makes tokens in a temporary directory; needs softhsm2-util.\nExit code 1 if a payment was refused that the other HSM could have served."
)]
pub(crate) struct FailoverArguments {
    /// The library of SoftHSM2
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    softhsm: PathBuf,
    /// The module that fails on demand (test-modules/README.md): without it there are no faults of modules
    #[arg(long, value_name = "FILE")]
    faulty_module: Option<PathBuf>,
    /// Phones that pay at the same time
    #[arg(long, default_value_t = 8)]
    phones: usize,
    /// How long each fault lasts, in seconds
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

pub(crate) fn run(context: &Context, arguments: &FailoverArguments) -> anyhow::Result<Ending> {
    if !(1..=16).contains(&arguments.phones) || !(1..=10).contains(&arguments.seconds) {
        bail!(UsageError("--phones is 1 to 16, --seconds 1 to 10".to_owned()));
    }
    let progress = context.output.progress("paying");
    let directory = tempfile::Builder::new().prefix("tapfer-").tempdir()?;
    let home = Home::new(Some(directory.path().join("home")));
    // Members name libraries by their whole path.
    let faulty = arguments.faulty_module.as_ref().map(std::path::absolute).transpose()?;
    let faulty = faulty.as_deref();
    let hsms = Hsms::make(directory.path(), &home, &arguments.softhsm, faulty)?;
    let realm = open_realm(&home, None, None)?;
    let hsm = realm.hsm();
    let stage = Stage::serve(context.output, directory, home, realm)?;
    let policy = json!({
        "keys_per_replenishment": 20, "maximum_payments": 100,
        "maximum_total_minor": 25_000, "lifetime_seconds": 86_400,
    });
    let mut load = Load::enrol(&stage, &policy, arguments.phones)?;
    let of_modules = if faulty.is_some() { &Fault::OF_MODULES[..] } else { &[] };
    let mut figures = Vec::new();
    let mut errors = 0_usize;
    for fault in Fault::OF_PROCESSES.iter().chain(of_modules) {
        let lasts = Duration::from_secs(arguments.seconds);
        let (course, payments) =
            load.while_paying(|paid| Course::run(&hsms, *fault, lasts, &*hsm, paid))?;
        let found = Found::of(&course, &payments);
        errors = errors.saturating_add(found.errors);
        figures.extend(found.figures(fault.name(), payments.len()));
    }
    drop(progress);
    figure::print(context.output, &figures)?;
    Ok(Ending::done_if(errors == 0))
}

/// When what happened.
struct Course {
    struck: Instant,
    /// Questions that were at the HSMs at that moment.
    in_flight: usize,
    /// The most at once from then on.
    most_in_flight: usize,
    /// The last time that a question had to go to another worker than the first, if any had.
    disturbed: Option<Instant>,
    healed: Instant,
    balanced: Instant,
}

impl Course {
    /// Payments as usual, the fault, and payments until both members do their share again.
    fn run(
        hsms: &Hsms,
        fault: Fault,
        lasts: Duration,
        hsm: &dyn PaymentHsm,
        paid: &Paid,
    ) -> anyhow::Result<Self> {
        balanced(hsm)?;
        let usual = paid.count().saturating_add(usize::try_from(WINDOW)?);
        wait("payments go on", || Ok((paid.count() >= usual).then_some(())))?;
        // A fault that meets nobody is easily borne.
        let pool = wait("a payment is at the HSMs", || {
            Ok(Some(status(hsm)?).filter(|pool| pool.waiting > 0))
        })?;
        let (struck, in_flight) = (clock::instant(), pool.waiting);
        let (mut before, mut most_in_flight, mut disturbed) = (elsewhere(&pool), in_flight, None);
        hsms.strike(fault, hsm)?;
        while struck.elapsed() < lasts {
            thread::park_timeout(LOOK);
            let pool = status(hsm)?;
            most_in_flight = most_in_flight.max(pool.waiting);
            let now = elsewhere(&pool);
            if now != before {
                (before, disturbed) = (now, Some(clock::instant()));
            }
        }
        hsms.heal(fault)?;
        let healed = clock::instant();
        let balanced = balanced(hsm)?;
        Ok(Self { struck, in_flight, most_in_flight, disturbed, healed, balanced })
    }
}

/// Questions that went elsewhere because the first was slow or failed.
const fn elsewhere(status: &PoolStatus) -> u64 {
    status.hedges.saturating_add(status.retries)
}

/// Waits until, of the newest answers, each member has given a quarter or more.
fn balanced(hsm: &dyn PaymentHsm) -> anyhow::Result<Instant> {
    let mut marks: Vec<[u64; 2]> = Vec::new();
    wait("both members share the work", || {
        let now = answered(&status(hsm)?);
        marks.push(now);
        // The youngest mark that is a whole window back.
        let share = marks.iter().rev().find_map(|then| {
            let [north, south] = [0, 1].map(|member: usize| {
                let at = |of: &[u64; 2]| of.get(member).copied().unwrap_or_default();
                at(&now).saturating_sub(at(then))
            });
            let all = north.saturating_add(south);
            (all >= WINDOW).then(|| north.min(south).saturating_mul(4) >= all)
        });
        Ok((share == Some(true)).then(clock::instant))
    })
}

fn answered(status: &PoolStatus) -> [u64; 2] {
    MEMBERS.map(|name| {
        let member = status.members.iter().find(|member| member.name == name);
        member.map_or(0, |member| member.answered)
    })
}

fn wait<T>(
    what: &str,
    mut attempt: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = clock::instant();
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        ensure!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::park_timeout(LOOK);
    }
}

/// What a fault did.
struct Found {
    in_flight: usize,
    most_in_flight: usize,
    errors: usize,
    last_error: Duration,
    disturbed: Duration,
    balanced: Duration,
    longest: Duration,
    /// The same before the fault.
    longest_before: Duration,
}

impl Found {
    fn of(course: &Course, payments: &[Payment]) -> Self {
        let (before, since): (Vec<&Payment>, Vec<&Payment>) =
            payments.iter().partition(|payment| payment.answered < course.struck);
        let longest = |of: &[&Payment]| of.iter().map(|one| one.took()).max().unwrap_or_default();
        let from_the_fault = |at: Option<Instant>| {
            at.map_or(Duration::ZERO, |at| at.saturating_duration_since(course.struck))
        };
        Self {
            in_flight: course.in_flight,
            most_in_flight: course.most_in_flight,
            errors: payments.iter().map(|payment| payment.refusals).sum(),
            last_error: from_the_fault(payments.iter().filter_map(|one| one.refused).max()),
            disturbed: from_the_fault(course.disturbed),
            balanced: course.balanced.saturating_duration_since(course.healed),
            longest: longest(&since),
            longest_before: longest(&before),
        }
    }

    fn figures(&self, fault: &str, payments: usize) -> Vec<Value> {
        let figure = |name: &str, value: Value, unit: &str, what: &str, beside: Value| {
            json!({
                "figure": format!("failover.{fault}.{name}"), "value": value, "unit": unit,
                "payments": payments, "beside": { "what": what, "value": beside, "unit": unit },
            })
        };
        let time = |duration| json!(milliseconds(duration));
        let longest = time(self.longest_before);
        let usual = "longest payment before the fault";
        let at_most = "the most at once while the fault lasted";
        vec![
            figure(
                "in_flight",
                json!(self.in_flight),
                "questions",
                at_most,
                json!(self.most_in_flight),
            ),
            figure("errors", json!(self.errors), "payments", "payments approved", json!(payments)),
            figure("last_error_ms", time(self.last_error), "ms", usual, longest.clone()),
            figure("settled_ms", time(self.disturbed), "ms", usual, longest.clone()),
            figure("balanced_ms", time(self.balanced), "ms", usual, longest.clone()),
            figure("longest_payment_ms", time(self.longest), "ms", usual, longest),
        ]
    }
}
