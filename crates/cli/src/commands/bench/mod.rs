//! `tapfer bench`: figures, each beside something measured in the same rounds, because the absolute
//! ones belong to the machine.

mod authorize;
mod failover;
mod figure;
mod hsm;
mod load;
mod primitives;

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use tapfer_payment_types::{Currency, Money, PaymentIntentId};
use tapfer_terminal::{TapEnd, TerminalConfiguration};
use tapfer_wallet::{Card, DeviceState, Effect, Notification, Wallet};

use crate::clock;
use crate::context::Context;
use crate::failure::{Ending, UsageError};
use crate::output::Output;
use crate::stage::{Players, Stage};
use crate::tap::{CardReader, Tapped, tap};
use crate::till;
use crate::wallet_store::WalletStore;
use figure::Summary;
use primitives::Primitives;

/// As many payments as one replenishment can be good for.
const MAXIMUM_ROUNDS: usize = 1_900;
/// Rounds before the first that counts, for caches and branch predictors.
const WARM_UP: usize = 20;
/// EXCHANGE RELAY RESISTANCE DATA.
const RELAY_CHECK: [u8; 2] = [0x80, 0xEA];
/// The amount of every payment: the sum must stay below the keys' limits.
const CENT: Money = Money::new(1, Currency::EUR);

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Computing time and number of commands of one tap with merchant proof and relay check, and of
    /// each primitive in it
    Tap(TapArguments),
    /// Worker processes of a PKCS#11 module beside one thread that has it to itself
    Hsm(hsm::HsmArguments),
    /// Durable authorizations over TLS beside the same server's hello
    Authorize(authorize::AuthorizeArguments),
    /// Payments of many phones while one of two HSMs fails: errors, and how long until all is as before
    Failover(failover::FailoverArguments),
    /// Payments at the nodes of a platform that runs, told one by one and compared in the end: for drills
    Load(load::LoadArguments),
    /// A process that `bench hsm` starts
    #[command(hide = true)]
    HsmPart(hsm::PartArguments),
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
    let arguments = match command {
        BenchCommand::Tap(arguments) => arguments,
        BenchCommand::Authorize(arguments) => return authorize::run(context, arguments),
        BenchCommand::Hsm(arguments) => return hsm::run(context, arguments),
        BenchCommand::Failover(arguments) => return failover::run(context, arguments),
        BenchCommand::Load(arguments) => return load::run(context, arguments),
        BenchCommand::HsmPart(arguments) => return hsm::part(arguments),
    };
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
    proven: bool,
}

impl CardReader for PhoneInMemory {
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        let in_hand = DeviceState { screen_on: true, unlocked: false, ..DeviceState::default() };
        let effects = self.card.handle(command, clock::now(), &mut clock::random(), &in_hand);
        let mut reply = None;
        for effect in effects {
            match effect {
                Effect::Reply(response) => reply = Some(response.encode()),
                Effect::Notify(Notification::PaymentSent { merchant, .. }) => {
                    self.proven = merchant.is_some();
                }
                Effect::Persist(_) | Effect::Notify(_) => {}
            }
        }
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
    let Players { phone, mut configuration, .. } = stage.enrol(&policy)?;
    for application in &mut configuration.applications {
        application.kernel = application.kernel.clone().with_relay_check();
    }
    // Gives the wallet's directory free.
    drop(phone);
    let (_store, wallet): (_, Wallet) =
        WalletStore::open(&stage.context, &stage.context.home.wallet())?;
    Ok((PhoneInMemory { card: Card::new(wallet), proven: false }, configuration))
}

/// What the rounds gave.
struct Measured {
    taps: Vec<Duration>,
    cards: Vec<Duration>,
    terminals: Vec<Duration>,
    primitives: Primitives,
    commands: usize,
    bytes: usize,
}

impl Measured {
    fn add(&mut self, tapped: &Tapped) {
        let card = tapped.exchanges.iter().map(|one| one.elapsed).sum();
        let bytes = tapped.exchanges.iter();
        let bytes = bytes.map(|one| one.command.len().saturating_add(one.response.len())).sum();
        self.taps.push(tapped.elapsed);
        self.cards.push(card);
        self.terminals.push(tapped.elapsed.saturating_sub(card));
        self.commands = self.commands.max(tapped.exchanges.len());
        self.bytes = self.bytes.max(bytes);
    }
}

/// Taps and primitives in turn, so that all see the same machine.
fn measure(
    rounds: usize,
    phone: &mut PhoneInMemory,
    configuration: &TerminalConfiguration,
) -> anyhow::Result<Measured> {
    let mut measured = Measured {
        taps: Vec::new(),
        cards: Vec::new(),
        terminals: Vec::new(),
        primitives: Primitives::new()?,
        commands: 0,
        bytes: 0,
    };
    for _ in 0..WARM_UP {
        one_tap(phone, configuration.clone())?;
    }
    for _ in 0..rounds {
        measured.add(&one_tap(phone, configuration.clone())?);
        measured.primitives.measure()?;
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
    phone.proven = false;
    let tapped = tap(till::arm(configuration, intent, CENT)?, phone)?;
    let relay_checked =
        tapped.exchanges.iter().any(|exchange| exchange.command.starts_with(&RELAY_CHECK));
    match tapped.end {
        TapEnd::Online(_) if phone.proven && relay_checked => Ok(tapped),
        TapEnd::Online(_) => bail!("a tap went without merchant proof or relay check"),
        _ => bail!("a tap did not lead to a question to the platform: nothing was measured"),
    }
}

fn report(output: Output, measured: &Measured) -> anyhow::Result<Ending> {
    let rounds = measured.taps.len();
    let taps = Summary::of(&measured.taps);
    let cards = Summary::of(&measured.cards);
    let terminals = Summary::of(&measured.terminals);
    let agreement = Summary::of(measured.primitives.agreements());
    let what = "P-256 key agreement of aws-lc-rs in the same rounds";
    let both = "the other side in the same taps";
    let mut figures = vec![
        figure::beside("tap.compute_ms_p50", "ms", &taps, what, &agreement, rounds),
        figure::beside("tap.card_ms_p50", "ms", &cards, both, &terminals, rounds),
        figure::beside("tap.terminal_ms_p50", "ms", &terminals, both, &cards, rounds),
        json!({
            "figure": "tap.apdus", "value": measured.commands, "unit": "commands",
            "rounds": rounds,
            "beside": {
                "what": "bytes in both directions of the same taps",
                "value": measured.bytes, "unit": "bytes",
            },
        }),
    ];
    figures.extend(measured.primitives.figures());
    figure::print(output, &figures)?;
    Ok(Ending::Done)
}

#[cfg(test)]
mod tests {
    use super::{CENT, CardReader as _, RELAY_CHECK, phone_in_memory};
    use crate::output::Output;
    use crate::{client, clock, till};
    use std::time::Duration;
    use tapfer_payment_types::PaymentIntentId;
    use tapfer_terminal::{TapAction, TapEnd};

    /// The real wallet and the real terminal, from the directory to the question to the platform. The relay check
    /// is told a time within its limits: how fast this machine is has no part in it.
    #[test]
    fn a_tap_with_merchant_proof_and_relay_check_takes_ten_commands_at_most() {
        client::install_tls_provider();
        let (mut phone, configuration) = phone_in_memory(Output::new(true)).unwrap();
        let intent = PaymentIntentId::new(clock::now(), [1; 10]);
        let mut tap = till::arm(configuration, intent, CENT).unwrap().tap(clock::now()).unwrap();
        let mut commands = Vec::new();
        while let TapAction::Transmit(command) = tap.poll() {
            let command = command.encode().unwrap();
            let answer = phone.transmit(&command).unwrap();
            tap = tap.handle_response(&answer, Duration::from_millis(5), &mut clock::random());
            commands.push(command);
        }
        assert!(matches!(tap.finish(), TapEnd::Online(_)));
        let checks = commands.iter().filter(|command| command.starts_with(&RELAY_CHECK)).count();
        assert!(phone.proven, "the merchant was not proven");
        assert_eq!(checks, 1, "within its limits one check is enough");
        assert!(commands.len() <= 10, "{} commands", commands.len());
    }
}
