//! The command line: nouns, then verbs; and which function each leads to.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::client::Access;
use crate::commands::{
    api_key, audit, authorization, backup, bench, card, db, demo, device, doctor, dr, hsm, init,
    issuer, keys, merchant, payment, policy, refund, retention, serve, simulate, terminal, tlv,
    token, trust, vectors, wallet,
};
use crate::context::Context;
use crate::failure::{self, Ending};
use crate::home::Home;
use crate::idempotency::IdempotencyKeys;
use crate::language::Language;
use crate::output::Output;

const EXAMPLES: &str = "\
First steps:
  tapfer demo                                   a phone pays at a terminal, step by step
  tapfer serve                                  start the platform (in another terminal)
  tapfer init                                   an issuer, a card with money, a phone, a merchant
  tapfer terminal pay --wallet --amount 12.34   tap and pay

Exit codes: 0 done, 1 refused or failed, 2 wrong usage.";

/// Tap to pay: the platform, the terminal and the phone in one program.
#[derive(Debug, Parser)]
#[command(name = "tapfer", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// Results as JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    /// Directory of the platform's keys, data and certificates [default: ~/.tapfer]
    #[arg(long, global = true, value_name = "DIR", env = "TAPFER_HOME")]
    home: Option<PathBuf>,
    /// Address of the platform [default: where `tapfer serve` last listened, else https://127.0.0.1:8443]
    #[arg(long, global = true, value_name = "URL", env = "TAPFER_SERVER")]
    server: Option<String>,
    /// Certificates of the CAs that the platform's may come from, PEM [default: tls/ca-certificate.pem in the home directory]
    #[arg(long, global = true, value_name = "FILE", env = "TAPFER_CA_CERTIFICATE")]
    ca_certificate: Option<PathBuf>,
    /// File with the API key to use; without it TAPFER_KEY, then the keys in the home directory
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Repeat a command whose end nobody saw: the key it named then; what was done is not done again
    #[arg(long, global = true, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Language of receipts and of the platform's reasons
    #[arg(long, global = true, value_enum, env = "TAPFER_LANGUAGE", default_value_t = Language::English)]
    language: Language,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a payment from tap to receipt, and what cannot be done
    Demo(demo::DemoArguments),
    /// Run the platform
    Serve(serve::ServeArguments),
    /// Set up an issuer, a card, a phone, a merchant and a terminal
    Init(init::InitArguments),
    /// Say what is missing on this machine, and the command that mends it
    Doctor(doctor::DoctorArguments),
    /// Issuers: who gives out cards
    #[command(subcommand)]
    Issuer(issuer::IssuerCommand),
    /// Cards, their accounts, and the wallet as a card in a reader
    #[command(subcommand)]
    Card(card::CardCommand),
    /// Phones
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Tokens: one card on one phone
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// The wallet of a phone, kept in a directory
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// Merchants: who is paid
    #[command(subcommand)]
    Merchant(merchant::MerchantCommand),
    /// Terminals, and taking a payment
    #[command(subcommand)]
    Terminal(terminal::TerminalCommand),
    /// Payments
    #[command(subcommand)]
    Payment(payment::PaymentCommand),
    /// Refunds
    #[command(subcommand)]
    Refund(refund::RefundCommand),
    /// For how long what has ended is kept
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// API keys: who may ask the platform
    #[command(subcommand)]
    ApiKey(api_key::ApiKeyCommand),
    /// Decisions of the platform
    #[command(subcommand)]
    Authorization(authorization::AuthorizationCommand),
    /// Whom a terminal has to trust
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Verification policies: when a phone asks its owner for what
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// The audit log: its chain, its signed ends
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Security modules: where the keys are
    #[command(subcommand)]
    Hsm(hsm::HsmCommand),
    /// Back the platform up while it runs, and verify backups
    Backup(backup::BackupArguments),
    /// Put a backup into an empty home directory
    Restore(backup::RestoreArguments),
    /// Keys of the realm: who keeps them, how old they are, what takes their place
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// The database of a realm: whether it is sound, what is past its limit; in PostgreSQL, its schema and partitions
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Disaster recovery
    #[command(subcommand)]
    Dr(dr::DrCommand),
    /// Files of golden values
    #[command(subcommand)]
    Vectors(vectors::VectorsCommand),
    /// Show card data as a readable tree
    Tlv(tlv::TlvArguments),
    /// Measure
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Let a whole world run on a clock of its own, with faults, and audit every step
    Simulate(simulate::SimulateArguments),
}

impl Arguments {
    /// Runs the command and says how it ended.
    pub(crate) fn run(self) -> ExitCode {
        let output = Output::new(self.global.json);
        let result = self.global.context(output).and_then(|context| self.command.run(&context));
        if let Err(error) = &result {
            output.failure(error);
        }
        failure::exit_code(&result)
    }
}

impl Global {
    fn context(&self, output: Output) -> anyhow::Result<Context> {
        let key = match &self.key_file {
            Some(file) => Some(
                fs::read_to_string(file)
                    .with_context(|| format!("--key-file {}", file.display()))?
                    .trim()
                    .to_owned(),
            ),
            None => std::env::var("TAPFER_KEY").ok().filter(|key| !key.is_empty()),
        };
        let idempotency =
            self.idempotency_key.clone().map(IdempotencyKeys::new).unwrap_or_default();
        let access =
            Access { server: self.server.clone(), key, idempotency, language: self.language };
        Ok(Context {
            output,
            home: Home::new(self.home.clone()).trusting(self.ca_certificate.clone()),
            access,
        })
    }
}

impl Arguments {
    /// As they were typed. What cannot be read ends the program, with words.
    pub(crate) fn typed() -> Self {
        let matches = flowing(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// Texts below a help are written in lines; what is prose in them is to flow, so that the terminal's width alone breaks it.
fn flowing(command: clap::Command) -> clap::Command {
    let command = match command.get_after_help().map(|text| in_paragraphs(&text.to_string())) {
        Some(text) => command.after_help(text),
        None => command,
    };
    command.mut_subcommands(flowing)
}

/// Joins lines of prose: not what is indented, nor what stands behind a colon.
fn in_paragraphs(text: &str) -> String {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let (mut flowing, mut before) = (String::with_capacity(text.len()), "");
    for line in text.lines() {
        let goes_on = is_prose(line) && is_prose(before) && !before.ends_with(':');
        if !flowing.is_empty() {
            flowing.push(if goes_on { ' ' } else { '\n' });
        }
        flowing.push_str(line);
        before = line;
    }
    flowing
}

impl Command {
    fn run(&self, context: &Context) -> anyhow::Result<Ending> {
        match self {
            Self::Demo(arguments) => demo::run(context, arguments),
            Self::Serve(arguments) => serve::run(context, arguments),
            Self::Init(arguments) => init::run(context, arguments),
            Self::Doctor(arguments) => doctor::run(context, arguments),
            Self::Issuer(command) => issuer::run(context, command),
            Self::Card(command) => card::run(context, command),
            Self::Device(command) => device::run(context, command),
            Self::Token(command) => token::run(context, command),
            Self::Wallet(command) => wallet::run(context, command),
            Self::Merchant(command) => merchant::run(context, command),
            Self::Terminal(command) => terminal::run(context, command),
            Self::Payment(command) => payment::run(context, command),
            Self::Refund(command) => refund::run(context, command),
            Self::Retention(command) => retention::run(context, command),
            Self::ApiKey(command) => api_key::run(context, command),
            Self::Authorization(command) => authorization::run(context, command),
            Self::Trust(command) => trust::run(context, command),
            Self::Policy(command) => policy::run(context, command),
            Self::Audit(command) => audit::run(context, command),
            Self::Hsm(command) => hsm::run(context, command),
            Self::Backup(arguments) => backup::run_backup(context, arguments),
            Self::Restore(arguments) => backup::run_restore(context, arguments),
            Self::Keys(command) => keys::run(context, command),
            Self::Db(command) => db::run(context, command),
            Self::Dr(command) => dr::run(context, command),
            Self::Vectors(command) => vectors::run(context, command),
            Self::Tlv(arguments) => tlv::run(context, arguments),
            Self::Bench(command) => bench::run(context, command),
            Self::Simulate(arguments) => simulate::run(context, arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, flowing, in_paragraphs};
    use clap::{Command, CommandFactory as _};

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn prose_flows_and_examples_stand() {
        let text =
            "Examples:\n  tapfer a\n  tapfer b\n\nOne line\nand its rest:\n  indented\nNext.";
        let flows =
            "Examples:\n  tapfer a\n  tapfer b\n\nOne line and its rest:\n  indented\nNext.";
        assert_eq!(in_paragraphs(text), flows);
    }

    /// What is to be copied fits into a hundred columns, where help breaks lines.
    fn too_long_to_copy(command: &Command, found: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = help.lines().filter(|line| line.starts_with(' '));
        found.extend(examples.filter(|line| line.chars().count() > 100).map(str::to_owned));
        command.get_subcommands().for_each(|below| too_long_to_copy(below, found));
    }

    #[test]
    fn examples_are_not_broken() {
        let mut found = Vec::new();
        too_long_to_copy(&flowing(Arguments::command()), &mut found);
        assert!(found.is_empty(), "longer than a line: {found:#?}");
    }

    /// Commands without any below them whose help shows none of them in use.
    fn without_example(command: &Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !command.has_subcommands() && !help.contains(path.trim()) {
            found.push(path.clone());
        }
        command.get_subcommands().for_each(|below| without_example(below, &path, found));
    }

    #[test]
    fn every_command_shows_an_example() {
        let mut found = Vec::new();
        without_example(&Arguments::command(), "", &mut found);
        assert!(found.is_empty(), "no example: {found:#?}");
    }
}
