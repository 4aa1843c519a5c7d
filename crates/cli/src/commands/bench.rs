//! `tapfer bench`: figures, each beside something measured in the same rounds, because the absolute
//! ones belong to the machine.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tapfer_payment_types::{Currency, Money, PaymentIntentId};
use tapfer_terminal::{TapEnd, TerminalConfiguration};
use tapfer_wallet::{Card, DeviceState, Effect, Wallet};

use crate::clock;
use crate::context::Context;
use crate::failure::{Ending, UsageError};
use crate::narrate::milliseconds;
use crate::output::Output;
use crate::stage::{Players, Stage};
use crate::tap::{CardReader, Tapped, tap};
use crate::till;
use crate::wallet_store::WalletStore;

/// As many payments as one replenishment can be good for.
const MAXIMUM_ROUNDS: usize = 1_900;
/// Rounds before the first that counts, for caches and branch predictors.
const WARM_UP: usize = 20;
/// The amount of every payment: the sum must stay below the keys' limits.
const CENT: Money = Money::new(1, Currency::EUR);

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Computing time and number of commands of one tap, card and terminal together
    Tap(TapArguments),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer bench tap --json\n\nOne JSON object a line: figure, value, unit, beside."
)]
pub(crate) struct TapArguments {
    /// How many taps are measured
    #[arg(long, default_value_t = 301)]
    rounds: usize,
}

pub(crate) fn run(context: &Context, command: &BenchCommand) -> anyhow::Result<Ending> {
    let BenchCommand::Tap(arguments) = command;
    if !(1..=MAXIMUM_ROUNDS).contains(&arguments.rounds) {
        bail!(UsageError(format!("--rounds is 1 to {MAXIMUM_ROUNDS}")));
    }
    if cfg!(debug_assertions) {
        context
            .output
            .remark("a debug build: these figures say nothing; use cargo build --release");
    }
    let _progress = context.output.progress("tapping");
    let (mut phone, configuration) = phone_in_memory(context.output)?;
    let measured = measure(arguments.rounds, &mut phone, &configuration)?;
    drop(_progress);
    report(context.output, &measured)
}

/// A phone whose storage costs nothing: what is measured is computing, not the disk.
struct PhoneInMemory {
    card: Card,
}

impl CardReader for PhoneInMemory {
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        let in_hand = DeviceState { screen_on: true, unlocked: false, ..DeviceState::default() };
        let effects = self.card.handle(command, clock::now(), &mut clock::random(), &in_hand);
        let reply = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(response) => Some(response.encode()),
            Effect::Persist(_) | Effect::Notify(_) => None,
        });
        reply.context("the card gave no answer")
    }
}

/// Enrols a phone at a platform in this process and takes its wallet.
fn phone_in_memory(output: Output) -> anyhow::Result<(PhoneInMemory, TerminalConfiguration)> {
    let stage = Stage::start(output)?;
    let policy = json!({
        "keys_per_replenishment": 20, "maximum_payments": 100,
        "maximum_total_minor": 25_000, "lifetime_seconds": 86_400,
    });
    let Players { phone, configuration, .. } = stage.enrol(&policy)?;
    // Gives the wallet's directory free.
    drop(phone);
    let (_store, wallet): (_, Wallet) = WalletStore::open(&stage.context.home.wallet())?;
    Ok((PhoneInMemory { card: Card::new(wallet) }, configuration))
}

/// What the rounds gave.
struct Measured {
    taps: Vec<Duration>,
    agreements: Vec<Duration>,
    commands: usize,
    bytes: usize,
}

/// Taps and key agreements in turn, so that both see the same machine.
fn measure(
    rounds: usize,
    phone: &mut PhoneInMemory,
    configuration: &TerminalConfiguration,
) -> anyhow::Result<Measured> {
    let mut measured = Measured { taps: Vec::new(), agreements: Vec::new(), commands: 0, bytes: 0 };
    let agreement = Agreement::new()?;
    for round in 0..rounds.saturating_add(WARM_UP) {
        let tapped = one_tap(phone, configuration.clone())?;
        let agreed = agreement.measure()?;
        if round >= WARM_UP {
            measured.taps.push(tapped.elapsed);
            measured.agreements.push(agreed);
            measured.commands = measured.commands.max(tapped.exchanges.len());
            let bytes = tapped.exchanges.iter();
            let bytes = bytes.map(|one| one.command.len().saturating_add(one.response.len())).sum();
            measured.bytes = measured.bytes.max(bytes);
        }
    }
    Ok(measured)
}

fn one_tap(
    phone: &mut PhoneInMemory,
    configuration: TerminalConfiguration,
) -> anyhow::Result<Tapped> {
    let mut random = [0; 10];
    rand_core::Rng::fill_bytes(&mut clock::random(), &mut random);
    let intent = PaymentIntentId::new(clock::now(), random);
    let tapped = tap(till::arm(configuration, intent, CENT)?, phone)?;
    match tapped.end {
        TapEnd::Online(_) => Ok(tapped),
        _ => bail!("a tap did not lead to a question to the platform: nothing was measured"),
    }
}

/// P-256 key agreement by a library that is not the tap's.
struct Agreement {
    own: PrivateKey,
    peer: Vec<u8>,
}

impl Agreement {
    fn new() -> anyhow::Result<Self> {
        let failed = |_| anyhow!("aws-lc-rs makes no key");
        let own = PrivateKey::generate(&ECDH_P256).map_err(failed)?;
        let peer = PrivateKey::generate(&ECDH_P256).map_err(failed)?;
        let peer = peer.compute_public_key().map_err(failed)?.as_ref().to_vec();
        Ok(Self { own, peer })
    }

    fn measure(&self) -> anyhow::Result<Duration> {
        let peer = UnparsedPublicKey::new(&ECDH_P256, &self.peer);
        let begin = clock::instant();
        agree(&self.own, peer, anyhow!("aws-lc-rs agrees on no key"), |_| Ok(()))?;
        Ok(begin.elapsed())
    }
}

fn report(output: Output, measured: &Measured) -> anyhow::Result<Ending> {
    let (taps, agreements) = (summary(&measured.taps), summary(&measured.agreements));
    let figures = [
        json!({
            "figure": "tap.compute_ms_p50", "value": taps.median, "unit": "ms",
            "minimum": taps.minimum, "maximum": taps.maximum, "rounds": measured.taps.len(),
            "beside": {
                "what": "P-256 key agreement of aws-lc-rs in the same rounds",
                "value": agreements.median, "unit": "ms",
                "minimum": agreements.minimum, "maximum": agreements.maximum,
            },
        }),
        json!({
            "figure": "tap.apdus", "value": measured.commands, "unit": "commands",
            "rounds": measured.taps.len(),
            "beside": {
                "what": "bytes in both directions of the same taps",
                "value": measured.bytes, "unit": "bytes",
            },
        }),
    ];
    for figure in &figures {
        if output.is_json() {
            output.json_line(figure)?;
        } else {
            output.line(in_words(figure));
        }
    }
    Ok(Ending::Done)
}

struct Summary {
    median: f64,
    minimum: f64,
    maximum: f64,
}

/// Milliseconds; of an even number of rounds the upper median.
fn summary(durations: &[Duration]) -> Summary {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let at = |position: usize| sorted.get(position).copied().map_or(0.0, milliseconds);
    Summary {
        median: at(sorted.len().div_euclid(2)),
        minimum: at(0),
        maximum: at(sorted.len().saturating_sub(1)),
    }
}

fn in_words(figure: &Value) -> String {
    let text = |value: &Value, field: &str| match value.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.3}", number.as_f64().unwrap_or_default())
        }
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let beside = figure.get("beside").cloned().unwrap_or_default();
    format!(
        "{:<20} {:>8} {:<9} beside {} {} ({})",
        text(figure, "figure"),
        text(figure, "value"),
        text(figure, "unit"),
        text(&beside, "value"),
        text(&beside, "unit"),
        text(&beside, "what"),
    )
}

#[cfg(test)]
mod tests {
    use super::summary;
    use std::time::Duration;

    #[test]
    fn the_median_is_the_middle() {
        let durations = [3, 1, 2].map(Duration::from_millis);
        let summary = summary(&durations);
        assert_eq!((summary.minimum, summary.median, summary.maximum), (1.0, 2.0, 3.0));
    }
}
