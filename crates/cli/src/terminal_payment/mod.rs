//! `tapfer terminal pay`: this machine as a point of sale.

mod at_platform;
mod not_decided;
mod presented;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::curve::PublicX;
use tapfer_payment_types::{Currency, Money, PaymentIntentId, TokenId};
use tapfer_terminal::kernel8::Status;
use tapfer_terminal::profile::TerminalProfile;
use tapfer_terminal::{
    AuthorizationRequest, Language, PaymentState, TapEnd, TerminalConfiguration,
};

use crate::amount::{currency, hexadecimal, hexadecimal_array, money, payable};
use crate::card_at;
use crate::card_service::{Screen, device_state};
use crate::client::{Client, text_of};
use crate::clock;
use crate::configuration_file::ConfigurationFile;
use crate::context::Context;
use crate::failure::{Ending, UsageError};
use crate::kernel_report;
use crate::narrate::{self, Step};
use crate::output::Output;
use crate::phone::Phone;
use crate::pin_file;
use crate::tap::Exchange;
use crate::terminal_profile;
use crate::till::{self, Trust};
use crate::wallet_store::WalletStore;
use not_decided::{for_cashiers, language, not_decided};
use presented::{tap_once, with_card};

/// Application of the demo scheme.
const DEMO_APPLICATION: [u8; 8] = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];

/// Above it the terminal wants the person verified, if neither profile nor option says otherwise.
const VERIFICATION_LIMIT_MINOR: i64 = 5_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tapfer terminal pay --wallet --amount 12.34                  the phone in the home directory
  tapfer terminal pay --reader ACR122 --amount 12.34           a card or phone at a reader
  tapfer terminal pay --card-at 127.0.0.1:4000 --amount 12.34  a card that a program plays
  tapfer terminal pay --reader 'Virtual PCD 00 00' --kernel-only --amount 1.00 \\
      --aid F00000000101 --ca-key F000000001:E0:70868BC7...    a card of others, no platform needed

Exit code 1 if the payment is declined, or not decided; with --kernel-only, if the outcome is neither
an approval nor a question to the issuer.")]
pub(crate) struct PayArguments {
    /// Amount with a decimal point, such as 12.34
    #[arg(
        long,
        value_name = "12.34",
        allow_hyphen_values = true,
        required_unless_present = "payment_intent"
    )]
    amount: Option<String>,
    /// Currency of the amount, ISO 4217
    #[arg(long, value_name = "CODE", default_value = "EUR", value_parser = currency)]
    currency: Currency,
    /// Name of the PC/SC reader, or a part of it
    #[arg(long, value_name = "NAME")]
    reader: Option<String>,
    /// A card that another program on this machine plays, instead of a reader: a test reader that
    /// speaks the frames of the virtual PC/SC reader. Given twice, two cards are in one field
    #[arg(
        long,
        value_name = "127.0.0.1:PORT",
        conflicts_with_all = ["reader", "wallet"],
        value_parser = card_at::loopback
    )]
    card_at: Vec<SocketAddr>,
    /// Tap the phone in this directory instead, without a reader [default: wallet in the home directory]
    #[arg(long, value_name = "DIR", num_args = 0..=1, conflicts_with = "reader")]
    wallet: Option<Option<PathBuf>>,
    /// With --wallet: pay with this token, now and later [default: the one enrolled last]
    #[arg(long, value_name = "TOKEN", requires = "wallet")]
    token: Option<TokenId>,
    /// With --wallet: whether the phone's screen is on
    #[arg(long, value_enum, default_value_t = Screen::On)]
    screen: Screen,
    /// With --wallet: the person has unlocked the phone
    #[arg(long)]
    unlocked: bool,
    /// With --wallet: the person enters this PIN on the phone before the tap; a file, or - for standard input
    #[arg(long, value_name = "FILE", requires = "wallet")]
    pin_file: Option<PathBuf>,
    /// If the card wants its PIN at the terminal: a file with it, or - for standard input, read before the tap;
    /// empty if nobody enters one. Asked for at the keyboard if not given
    #[arg(long, value_name = "FILE")]
    terminal_pin_file: Option<PathBuf>,
    /// End with the first tap, although the phone says to look at it and to tap again
    #[arg(long)]
    one_tap: bool,
    /// Application to take; all of the platform's issuers if not given
    #[arg(long, value_name = "HEX")]
    aid: Option<String>,
    /// A certification authority to trust, beside the platform's
    #[arg(long, value_name = "RID:INDEX:X")]
    ca_key: Vec<String>,
    /// Stop at the kernel's outcome and show it: no platform is asked, nothing is paid
    #[arg(long)]
    kernel_only: bool,
    /// Stop at the question to the platform and print its chip data in hexadecimal digits: nothing is
    /// asked or paid. The output is card data: keep it off command lines and out of logs
    #[arg(long, conflicts_with = "kernel_only")]
    request_only: bool,
    /// With --request-only: the payment, armed already; its amount is asked for
    #[arg(long, value_name = "ID", requires = "request_only", conflicts_with = "amount")]
    payment_intent: Option<PaymentIntentId>,
    /// Tell every command and answer in words
    #[arg(long)]
    explain: bool,
    /// Set the terminal up from this file, such as profiles/terminal/attended.toml
    #[arg(long, value_name = "FILE", conflicts_with_all = ["verification_limit", "country"])]
    profile: Option<PathBuf>,
    /// Above this amount the terminal wants the person verified [default: 5000 minor units, such as 50.00 EUR]
    #[arg(long, value_name = "50.00")]
    verification_limit: Option<String>,
    /// Country of the terminal, ISO 3166-1 numeric
    #[arg(long, default_value_t = 276)]
    country: u16,
    /// Merchant id; the latest if not given
    #[arg(long)]
    merchant: Option<String>,
    /// Terminal id; the latest if not given
    #[arg(long)]
    terminal: Option<String>,
    /// The till's own number for the payment
    #[arg(long)]
    reference: Option<String>,
    /// Only authorise; `tapfer payment capture` takes the money
    #[arg(long)]
    manual_capture: bool,
    /// Seconds to wait for a card, and for a platform that does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    patience: u64,
}

pub(crate) fn run(context: &Context, arguments: &PayArguments) -> anyhow::Result<Ending> {
    if arguments.reader.is_none() && arguments.wallet.is_none() && arguments.card_at.is_empty() {
        bail!(UsageError(
            "say which card pays: --wallet is the phone in the home directory, --reader NAME a card at \
             a reader (`tapfer terminal readers` lists them), --card-at one that a program plays"
                .to_owned()
        ));
    }
    arguments.check_standard_input()?;
    let ended = match (arguments.kernel_only, arguments.request_only) {
        (true, _) => kernel_only(context, arguments),
        (false, true) => request_only(context, arguments),
        (false, false) => at_platform::pay(context, arguments),
    };
    ended.map_err(|error| for_cashiers(error, language(context)))
}

impl PayArguments {
    fn amount(&self) -> anyhow::Result<Money> {
        payable("--amount", self.amount.as_deref().unwrap_or_default(), self.currency)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    fn applications(&self) -> anyhow::Result<Option<Vec<Vec<u8>>>> {
        let Some(aid) = &self.aid else { return Ok(None) };
        let aid = hexadecimal(aid)?;
        if !(5..=16).contains(&aid.len()) {
            bail!(UsageError("--aid: an application identifier has 5 to 16 bytes".to_owned()));
        }
        Ok(Some(vec![aid]))
    }

    /// Two PINs cannot both be all that standard input has.
    fn check_standard_input(&self) -> anyhow::Result<()> {
        let files = [&self.pin_file, &self.terminal_pin_file];
        if files.iter().all(|file| file.as_deref() == Some(Path::new("-"))) {
            bail!(UsageError(
                "--pin-file - and --terminal-pin-file - would both read standard input: give a file for one"
                    .to_owned()
            ));
        }
        Ok(())
    }

    /// The terminal profile, if one is given: read once, before anything is told or asked.
    fn profile(&self) -> anyhow::Result<Option<TerminalProfile>> {
        self.profile.as_deref().map(terminal_profile::load).transpose()
    }

    /// A terminal as these arguments set it up; `till` is what the cashier reads.
    fn configuration(
        &self,
        profile: Option<TerminalProfile>,
        applications: &[Vec<u8>],
        platform: Vec<CaPublicKey>,
        currency: Currency,
        till: Language,
    ) -> anyhow::Result<TerminalConfiguration> {
        let given = self.ca_key.iter().map(|text| ca_key(text));
        let mut keys = given.collect::<anyhow::Result<Vec<_>>>()?;
        keys.extend(platform);
        let configuration = if let Some(profile) = profile {
            self.set_up_by(profile, applications, keys, currency)?
        } else {
            let limit = self.verification_limit.as_deref();
            let limit = limit
                .map_or(Ok(Money::new(VERIFICATION_LIMIT_MINOR, currency)), |limit| {
                    money("--verification-limit", limit, currency)
                })?;
            till::configuration(applications, keys, self.country, limit)?
        };
        Ok(TerminalConfiguration { language: till, ..configuration })
    }

    /// The profile's own applications count, unless one was named on the command line.
    fn set_up_by(
        &self,
        mut profile: TerminalProfile,
        applications: &[Vec<u8>],
        keys: Vec<CaPublicKey>,
        currency: Currency,
    ) -> anyhow::Result<TerminalConfiguration> {
        if profile.currency != currency {
            let own = profile.currency.code();
            bail!(UsageError(format!("--profile: its limits are in {own}: pay in that currency")));
        }
        if self.aid.is_some() {
            profile.applications.clear();
        }
        Ok(profile.configuration(applications, keys)?)
    }

    fn phone(&self, context: &Context) -> anyhow::Result<Option<Phone>> {
        let Some(given) = &self.wallet else { return Ok(None) };
        let directory = given.clone().unwrap_or_else(|| context.home.wallet());
        let (store, mut wallet) = WalletStore::open(context, &directory)?;
        if let Some(token) = self.token {
            wallet.set_default_token(token)?;
        }
        if let Some(file) = &self.pin_file {
            let token = wallet.default_token().context("the wallet is empty")?;
            let entered = wallet.enter_pin(token, &pin_file::read(file)?, clock::now());
            entered.map_err(|error| context.access.language.refusal(&error))?;
        }
        let device = device_state(self.screen, self.unlocked);
        let language = context.access.language.of_people();
        Ok(Some(Phone::new(store, wallet, device, language)))
    }
}

/// `RID:INDEX:X`, all hexadecimal.
fn ca_key(text: &str) -> anyhow::Result<CaPublicKey> {
    let parts: Vec<&str> = text.split(':').collect();
    let [rid, index, x] = parts.as_slice() else {
        bail!(UsageError("--ca-key is RID:INDEX:X, as `tapfer trust show` prints it".to_owned()));
    };
    let [index] = hexadecimal_array(index).context("--ca-key: INDEX")?;
    let x = hexadecimal_array(x).context("--ca-key: X")?;
    let key = PublicX::from_bytes(&x).map_err(|error| UsageError(format!("--ca-key: {error}")))?;
    Ok(CaPublicKey { rid: hexadecimal_array(rid).context("--ca-key: RID")?, index, key })
}

fn kernel_only(context: &Context, arguments: &PayArguments) -> anyhow::Result<Ending> {
    let amount = arguments.amount()?;
    let applications = arguments.applications()?.unwrap_or_else(|| vec![DEMO_APPLICATION.to_vec()]);
    if arguments.ca_key.is_empty() {
        context.output.remark("no --ca-key is given, so the card's certificates cannot be checked (`tapfer trust show` prints the platform's)");
    }
    let (profile, till) = (arguments.profile()?, language(context));
    let configuration =
        arguments.configuration(profile, &applications, Vec::new(), amount.currency, till)?;
    let intent = nobodys_intent();
    let tapped = with_card(context, arguments, |card| {
        tap_once(arguments, till::arm(configuration, intent, amount)?, card)
    })?;
    explain(context.output, arguments, &tapped.exchanges);
    let outcome = match &tapped.end {
        TapEnd::Online(payment) => payment.outcome(),
        TapEnd::AskPin(entry) => entry.outcome(),
        TapEnd::Decided { outcome, .. } | TapEnd::Undecided { outcome: Some(outcome), .. } => {
            outcome
        }
        TapEnd::Undecided { message, error, .. } => {
            return Err(not_decided(
                language(context),
                *message,
                error.as_ref(),
                None,
                tapped.reader_error.as_ref(),
            ));
        }
    };
    if context.output.is_json() {
        let mut report = kernel_report::to_json(outcome);
        let steps = narrate::narrate(&tapped.exchanges);
        let steps: Vec<Value> = steps.iter().map(Step::to_json).collect();
        insert(&mut report, "steps", json!(steps));
        context.output.json_line(&report)?;
    } else {
        kernel_report::print(context.output, outcome);
    }
    let status = outcome.parameters.status;
    Ok(Ending::done_if(matches!(status, Status::Approved | Status::OnlineRequest)))
}

/// For a tap that no till asked for; the card does not see it.
fn nobodys_intent() -> PaymentIntentId {
    let mut random = [0; 10];
    rand_core::Rng::fill_bytes(&mut clock::random(), &mut random);
    PaymentIntentId::new(clock::now(), random)
}

/// What a payment that is armed at a terminal asks for.
fn armed_amount(client: &Client, intent: PaymentIntentId) -> anyhow::Result<Money> {
    let shown = client.get(&format!("/v1/payment-intents/{intent}"))?;
    if shown.pointer("/arming/state").and_then(Value::as_str) != Some("armed") {
        bail!("{intent} is armed at no terminal: `tapfer payment arm {intent}` does that");
    }
    let minor = shown.get("amount").and_then(Value::as_i64).context("the answer has no amount")?;
    Ok(Money::new(minor, text_of(&shown, "currency")?.parse()?))
}

/// The question to the platform, for a till that puts it itself.
fn request_only(context: &Context, arguments: &PayArguments) -> anyhow::Result<Ending> {
    let (profile, till) = (arguments.profile()?, language(context));
    let client = context.client()?;
    let (intent, amount) = match arguments.payment_intent {
        Some(intent) => (intent, armed_amount(&client, intent)?),
        None => (nobodys_intent(), arguments.amount()?),
    };
    let trust = Trust::fetch(context, &client, &ConfigurationFile::of_machine(&context.home))?;
    let applications = arguments.applications()?.unwrap_or(trust.applications);
    let mut configuration =
        arguments.configuration(profile, &applications, trust.ca_keys, amount.currency, till)?;
    till::revoke(&mut configuration, &trust.revoked);
    let tapped = with_card(context, arguments, |card| {
        tap_once(arguments, till::arm(configuration, intent, amount)?, card)
    })?;
    explain(context.output, arguments, &tapped.exchanges);
    match tapped.end {
        TapEnd::Online(payment) => print_question(context.output, payment.request()),
        TapEnd::AskPin(entry) => {
            context.output.remark("the card wants its PIN beside this (`online_pin`)");
            print_question(context.output, entry.without_pin().request())
        }
        TapEnd::Decided { receipt, .. } => match receipt.state {
            PaymentState::Declined { reason, .. } => {
                bail!("there is nothing to ask the platform: {reason}")
            }
            _ => bail!("there is nothing to ask the platform: the card decided alone"),
        },
        TapEnd::Undecided { message, error, outcome, .. } => {
            let reader_error = tapped.reader_error.as_ref();
            Err(not_decided(
                language(context),
                message,
                error.as_ref(),
                outcome.as_ref(),
                reader_error,
            ))
        }
    }
}

fn print_question(output: Output, request: &AuthorizationRequest) -> anyhow::Result<Ending> {
    let chip_data = HEXLOWER.encode(request.chip_data());
    if output.is_json() {
        output.json_line(&json!({ "chip_data": chip_data }))?;
    } else {
        output.line(chip_data);
    }
    Ok(Ending::Done)
}

fn explain(output: Output, arguments: &PayArguments, exchanges: &[Exchange]) {
    if !arguments.explain || output.is_json() {
        return;
    }
    for (number, step) in (1_usize..).zip(narrate::narrate(exchanges)) {
        narrate::print(output, number, &step);
    }
}

fn insert(report: &mut Value, name: &str, value: Value) {
    if let Some(fields) = report.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::ca_key;

    #[test]
    fn a_ca_key_is_read_as_it_is_printed() {
        let x = "70868BC787242203506001F70CA6E77552D0D6B9F711A29D6956E367AC919531";
        let key = ca_key(&format!("F000000001:E0:{x}")).unwrap();
        assert_eq!((key.rid, key.index), ([0xF0, 0, 0, 0, 1], 0xE0));
        for text in ["", "F000000001:E0", "F0:E0:00", &format!("F000000001:E0:{}", "FF".repeat(32))]
        {
            assert!(ca_key(text).is_err(), "{text}");
        }
    }
}
