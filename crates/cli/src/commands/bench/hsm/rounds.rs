//! What was measured, by round, and the figures that it gives.

use std::time::Duration;

use serde_json::Value;

use super::super::figure::{each, micros, quotient, quotients, summary};
use super::token::Alone;

/// What one round through a pool took; processor time of all its processes.
pub(super) struct Pooled {
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
}

/// Times of one verification, and the calls that it needed, by round.
#[derive(Default)]
pub(super) struct Rounds {
    alone: Vec<Duration>,
    alone_cpu: Vec<Duration>,
    both: Vec<Duration>,
    one: Vec<Duration>,
    one_cpu: Vec<Duration>,
    two: Vec<Duration>,
    two_cpu: Vec<Duration>,
    calls: Vec<f64>,
    clearing: Vec<f64>,
    look_up: Vec<f64>,
}

impl Rounds {
    /// `count` payments of each; twice as many by two processes without a pool.
    pub(super) fn push(
        &mut self,
        count: usize,
        alone: &Alone,
        both: Duration,
        (one, two): (&Pooled, &Pooled),
    ) {
        self.both.push(each(both, count.saturating_mul(2)));
        self.alone.push(each(alone.elapsed, count));
        self.alone_cpu.push(each(alone.cpu, count));
        self.one.push(each(one.elapsed, count));
        self.one_cpu.push(each(one.cpu, count));
        self.two.push(each(two.elapsed, count));
        self.two_cpu.push(each(two.cpu, count));
        self.calls.push(quotient(alone.calls, count));
        self.clearing.push(quotient(alone.clearing, count));
        self.look_up.push(quotient(alone.look_up, 1));
    }

    /// Throughput through a pool beside that of one thread, and the processor time of one verification.
    pub(super) fn throughput(&self, prefix: &str) -> Vec<Value> {
        const THREAD: &str = "one verification in one thread that has the module to itself";
        const ITS_CPU: &str = "processor time of the one thread that has the module to itself";
        let (alone, alone_cpu) = (micros(&self.alone), micros(&self.alone_cpu));
        let ratio = |name: &str, pooled| {
            let name = format!("{prefix}{name}");
            summary(&name, "ratio", &quotients(&self.alone, pooled), (THREAD, "us"), &alone)
        };
        let cpu = |name: &str, pooled| {
            summary(&format!("{prefix}{name}"), "us", &micros(pooled), (ITS_CPU, "us"), &alone_cpu)
        };
        vec![
            ratio("pool_one_worker_ratio", &self.one),
            ratio("pool_two_workers_ratio", &self.two),
            cpu("pool_one_worker_cpu_us", &self.one_cpu),
            cpu("pool_two_workers_cpu_us", &self.two_cpu),
        ]
    }

    /// What two processes without a pool do beside one: no pool of two workers does more on this machine.
    pub(super) fn two_processes(&self, prefix: &str) -> Value {
        let beside = ("one verification in one thread that has the module to itself", "us");
        let ratios = quotients(&self.alone, &self.both);
        let name = format!("{prefix}two_processes_ratio");
        summary(&name, "ratio", &ratios, beside, &micros(&self.alone))
    }

    /// Calls of the module for one verification and for the look-up before it, where keys are at hand.
    pub(super) fn calls(&self, prefix: &str) -> [Value; 2] {
        const VERIFICATION: &str = "calls for the verification that comes after the look-up";
        let beside = (VERIFICATION, "calls");
        let name = format!("{prefix}calls_per_look_up");
        [
            self.calls_as(&format!("{prefix}calls_per_authorization")),
            summary(&name, "calls", &self.look_up, beside, &self.calls),
        ]
    }

    /// Calls of the module for one verification with a card's limited-use key.
    pub(super) fn first_calls(&self, prefix: &str) -> Value {
        self.calls_as(&format!("{prefix}calls_per_first_authorization"))
    }

    fn calls_as(&self, name: &str) -> Value {
        const CLEARING: &str = "calls that clear away what was used up, besides";
        summary(name, "calls", &self.calls, (CLEARING, "calls"), &self.clearing)
    }

    /// One verification in the module, and one in software.
    pub(super) fn beside_software(&self, prefix: &str, software: &[Duration]) -> Value {
        let what = "one verification in software in this process, same rounds";
        let name = format!("{prefix}authorization_us");
        summary(&name, "us", &micros(&self.alone), (what, "us"), &micros(software))
    }
}
