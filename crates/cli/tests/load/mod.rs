//! Phones that pay at one or several nodes without a pause (`tapfer bench load`), while a test does something to these.

#![allow(dead_code)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::platform::{Platform, tapfer};

/// Nothing here takes longer, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Payments under way.
pub(crate) struct Load {
    process: Child,
    /// Dropped, the payments end.
    input: Option<ChildStdin>,
    told: Arc<Told>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Told {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    /// When each payment was asked, and answered, in seconds of the monotonic clock.
    payments: Vec<(f64, f64)>,
    summary: Option<Value>,
    is_over: bool,
}

impl Load {
    /// So many phones at these nodes; returns when the first has paid.
    pub(crate) fn start(nodes: &[&Platform], phones: usize) -> Self {
        let addresses: Vec<_> = nodes.iter().map(|node| node.address()).collect();
        let mut process = tapfer()
            .args(["bench", "load", "--json", "--nodes", &addresses.join(",")])
            .args(["--phones", &phones.to_string(), "--server", addresses[0], "--home"])
            .arg(nodes[0].home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().unwrap());
        let told = Arc::new(Told::default());
        let of_reader = Arc::clone(&told);
        let reader = std::thread::spawn(move || {
            for line in output.lines() {
                let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
                let mut lines = of_reader.lines.lock().unwrap();
                match (line["asked"].as_f64(), line["answered"].as_f64()) {
                    (Some(asked), Some(answered)) => lines.payments.push((asked, answered)),
                    _ if line["acknowledged"].is_u64() => lines.summary = Some(line),
                    _ => {}
                }
                of_reader.changed.notify_all();
            }
            of_reader.lines.lock().unwrap().is_over = true;
            of_reader.changed.notify_all();
        });
        let load = Self { process, input, told, reader: Some(reader) };
        load.seconds_to_a_payment_behind(0.0);
        load
    }

    /// Waits for the first answer to a payment that was asked for behind this moment, and gives when it came.
    pub(crate) fn seconds_to_a_payment_behind(&self, moment: f64) -> f64 {
        let end = Instant::now() + PATIENCE;
        let mut lines = self.told.lines.lock().unwrap();
        loop {
            let first = lines.payments.iter().rev().take(1_000);
            let first = first.filter(|(asked, _)| *asked > moment).map(|(_, answered)| *answered);
            if let Some(first) = first.min_by(f64::total_cmp) {
                return first - moment;
            }
            assert!(!lines.is_over, "a phone could not go on");
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nobody was answered any more");
            lines = self.told.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits for so many more answers.
    pub(crate) fn wait_for_more(&self, payments: usize) {
        let end = Instant::now() + PATIENCE;
        let mut lines = self.told.lines.lock().unwrap();
        let wanted = lines.payments.len() + payments;
        while lines.payments.len() < wanted {
            assert!(!lines.is_over, "a phone could not go on");
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nobody was answered any more");
            lines = self.told.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Ends the payments. What was compared with the platform, as `tapfer bench load` tells it.
    pub(crate) fn end(mut self) -> Value {
        drop(self.input.take());
        self.reader.take().unwrap().join().unwrap();
        let ended = self.process.wait().unwrap();
        let summary = self.told.lines.lock().unwrap().summary.take();
        let summary = summary.expect("what was compared");
        assert!(ended.success(), "{summary}");
        summary
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// The monotonic clock, in seconds.
pub(crate) fn uptime() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap().as_secs_f64()
}

/// Median and worst.
pub(crate) fn summary_of(seconds: &[f64]) -> (f64, f64) {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 2], sorted[sorted.len() - 1])
}

/// How often something is killed: `TAPFER_KILLS`, or a number for every day.
pub(crate) fn kills(every_day: usize) -> usize {
    std::env::var("TAPFER_KILLS").map_or(every_day, |number| number.parse().unwrap())
}

/// Not waiting for anything: a random moment, less than a quarter of a second from now.
pub(crate) fn random_moment() {
    let mut random = [0_u8; 1];
    getrandom::fill(&mut random).unwrap();
    let end = Instant::now() + Duration::from_millis(u64::from(random[0]));
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}
