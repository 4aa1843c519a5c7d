//! `tapfer wallet`: the wallet of a phone, kept in a directory.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tapfer_payment_types::{Money, TokenId};
use tapfer_wallet::{ConfiguredBy, Token, Wallet};

use super::wallet_pin::{self, PinCommand};
use crate::client::{Client, text_of};
use crate::clock;
use crate::configuration_file;
use crate::context::{Context, segment};
use crate::failure::Ending;
use crate::provisioning;
use crate::wallet_store::{Registration, WalletStore};

#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Put a card on the phone: register the phone, tokenize, activate, fetch keys
    Enrol(Enrol),
    /// Fetch fresh keys and a fresh certificate
    #[command(after_help = "Example:\n  tapfer wallet replenish")]
    Replenish(Place),
    /// The person's PIN on the phone
    #[command(subcommand)]
    Pin(PinCommand),
    /// Show what the wallet holds and how far it goes
    #[command(after_help = "Example:\n  tapfer wallet show --wallet ./phone")]
    Show(Place),
    /// Fetch the platform's share that opens the wallet, for `tapfer card serve --share-from-stdin`
    #[command(
        after_help = "Example:\n  tapfer wallet share | tapfer card serve --share-from-stdin\n\nThe share is a secret: give it on by a pipe, and do not write it down."
    )]
    Share(Place),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer wallet enrol --card card_...\n\nOn a real phone the app does this; here a directory stands for the phone."
)]
pub(crate) struct Enrol {
    /// Card id; the latest if not given
    #[arg(long)]
    card: Option<String>,
    /// Name of the phone that its owner recognises
    #[arg(long, default_value = "phone on this machine")]
    label: String,
    #[command(flatten)]
    place: Place,
}

/// Where the wallet is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Directory of the wallet [default: wallet in the home directory]
    #[arg(long, value_name = "DIR")]
    wallet: Option<PathBuf>,
}

impl Place {
    /// The wallet in the home directory.
    pub(crate) const IN_HOME: Self = Self::at(None);

    /// The wallet in this directory, or in the home directory.
    pub(crate) const fn at(wallet: Option<PathBuf>) -> Self {
        Self { wallet }
    }

    /// The directory given, else the one in the home directory.
    pub(crate) fn directory(&self, context: &Context) -> PathBuf {
        self.wallet.clone().unwrap_or_else(|| context.home.wallet())
    }
}

pub(crate) fn run(context: &Context, command: &WalletCommand) -> anyhow::Result<Ending> {
    match command {
        WalletCommand::Enrol(arguments) => {
            let card = context.id_or_latest(&arguments.card, "card")?;
            let enrolled = {
                let _progress = context.output.progress("enrolling the card");
                enrol(context, &arguments.place, &card, &arguments.label)?
            };
            context.output.object(&enrolled)?;
        }
        WalletCommand::Replenish(place) => replenish(context, place)?,
        WalletCommand::Share(place) => {
            let share = WalletStore::share(context, &place.directory(context))?;
            context.output.json_line(&serde_json::to_value(share)?)?;
        }
        WalletCommand::Pin(command) => return wallet_pin::run(context, command),
        WalletCommand::Show(place) => {
            let (_store, wallet) = WalletStore::open(context, &place.directory(context))?;
            show(context, &wallet)?;
        }
    }
    Ok(Ending::Done)
}

/// Puts a card on the phone in a directory; from now on it is the one that pays. Tells the token, the
/// device and how far the keys go.
pub(crate) fn enrol(
    context: &Context,
    place: &Place,
    card: &str,
    label: &str,
) -> anyhow::Result<Value> {
    let directory = place.directory(context);
    let (mut store, mut wallet) = WalletStore::open_or_create(context, &directory)?;
    let platform = context.client()?;
    let shown = platform.get(&format!("/v1/cards/{}", segment(card)))?;
    let issuer = text_of(&shown, "issuer")?;
    let device = register_phone(context, &platform, &store, &wallet, &issuer, label)?;
    store.take_first_share(context, &mut wallet)?;
    if let Some((realm, key)) = configuration_file::pinned(&context.home)? {
        let by = ConfiguredBy { realm, issuer: issuer.parse().context("the card's issuer")? };
        // A phone that knows a key already follows from that one to the next by itself.
        if !wallet.knows_configuration_of(by) {
            wallet.pin_configuration_key(by, key)?;
        }
    }
    let token = token_of(&platform, &wallet, card, &device)?;
    let mut phone = store.phone()?;
    phone.issuers.insert(token.to_string(), issuer);
    store.save_phone(&phone)?;
    provisioning::replenish(context, &mut store, &mut wallet, token)?;
    wallet.set_default_token(token)?;
    store.save(&wallet.snapshot()?)?;
    if directory == context.home.wallet() {
        // Commands that name no token mean the phone at home.
        context.remember_created("device", &json!({ "id": device }))?;
        context.remember_created("token", &json!({ "id": token }))?;
    }
    let token = wallet.token(token).context("the token is not in the wallet")?;
    let mut report = describe(token);
    if let Some(fields) = report.as_object_mut() {
        fields.insert("device".to_owned(), json!(device));
        fields.insert("wallet".to_owned(), json!(directory.display().to_string()));
    }
    Ok(report)
}

/// A token of the card on the phone, active: a new one, or one whose enrolment was not finished.
fn token_of(
    platform: &Client,
    wallet: &Wallet,
    card: &str,
    device: &str,
) -> anyhow::Result<TokenId> {
    let path = format!("/v1/tokens?card={}&device={}", segment(card), segment(device));
    let known = platform.get(&path)?;
    let known = known.get("data").and_then(Value::as_array).into_iter().flatten();
    let of_status =
        |token: &Value, status: &str| text_of(token, "status").is_ok_and(|is| is == status);
    let unfinished = known.into_iter().find(|token| !of_status(token, "DEACTIVATED")).cloned();
    let token = match unfinished {
        Some(token) => token,
        None => platform.post("/v1/tokens", &json!({ "card": card, "device": device }))?,
    };
    let id: TokenId = text_of(&token, "id")?.parse()?;
    if wallet.token(id).is_some() {
        bail!(
            "this card is on this phone already, as {id}: `tapfer wallet replenish` fetches keys"
        );
    }
    if of_status(&token, "INACTIVE") {
        let activation = json!({ "actor": "issuer", "reason": "enrolled on the command line" });
        platform.post(&format!("/v1/tokens/{id}/activate"), &activation)?;
    }
    Ok(id)
}

/// Registers the phone once for each issuer.
fn register_phone(
    context: &Context,
    platform: &Client,
    store: &WalletStore,
    wallet: &Wallet,
    issuer: &str,
    label: &str,
) -> anyhow::Result<String> {
    let mut phone = store.phone()?;
    if let Some(registration) = phone.registrations.get(issuer) {
        return Ok(registration.device.clone());
    }
    let public_key = HEXLOWER.encode(&wallet.device_public_key());
    let body = json!({ "issuer": issuer, "label": label, "public_key": public_key });
    let created = platform.post("/v1/devices", &body)?;
    context.remember_key(&created)?;
    let device = text_of(&created, "id")?;
    let registration =
        Registration { device: device.clone(), api_key: text_of(&created, "api_key")? };
    phone.register(issuer, registration);
    store.save_phone(&phone)?;
    Ok(device)
}

fn replenish(context: &Context, place: &Place) -> anyhow::Result<()> {
    let (mut store, mut wallet) = WalletStore::open(context, &place.directory(context))?;
    let forgotten = {
        let _progress = context.output.progress("fetching keys");
        provisioning::replenish_all(context, &mut store, &mut wallet)?
    };
    for token in forgotten {
        context.output.remark(format!("{token} was deleted at the platform and is forgotten here"));
    }
    show(context, &wallet)
}

fn show(context: &Context, wallet: &Wallet) -> anyhow::Result<()> {
    let tokens: Vec<Value> = wallet.tokens().map(describe).collect();
    if context.output.is_json() {
        return context.output.json_line(&json!({ "tokens": tokens }));
    }
    if tokens.is_empty() {
        context.output.line("the wallet is empty: run `tapfer wallet enrol`");
    }
    for (position, token) in tokens.iter().enumerate() {
        if position > 0 {
            context.output.line("");
        }
        context.output.object(token)?;
    }
    Ok(())
}

/// A token as the wallet sees it. No key, no number.
fn describe(token: &Token) -> Value {
    let now = clock::now();
    let readiness = token.readiness(now);
    let policy = token.policy();
    json!({
        "token": token.id(),
        "application": HEXLOWER.encode(&token.profile().aid),
        "label": String::from_utf8_lossy(&token.profile().label),
        "application_transaction_counter": token.application_transaction_counter(),
        "payments_left": readiness.payments_left,
        "payments_left_with_pin": readiness.verified_payments_left,
        "largest_payment": Money::new(readiness.largest_payment_minor, policy.currency).to_string(),
        "usable_until": readiness.usable_until,
        "wants_replenishment": readiness.wants_replenishment,
        "login_is_due": token.login_is_due(now),
        "policy": {
            "name": policy.name,
            "version": policy.version,
            "limit": Money::new(policy.limit, policy.currency).to_string(),
            "up_to_limit": policy.up_to_limit,
            "above_limit": policy.above_limit,
        },
        "pin": token.pin_status(),
    })
}
