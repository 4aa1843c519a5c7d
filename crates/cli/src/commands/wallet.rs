//! `tapfer wallet`: the wallet of a phone, kept in a directory.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::{Money, TokenId};
use tapfer_wallet::{Token, Wallet};

use crate::client::{Client, text_of};
use crate::clock;
use crate::context::{Context, segment};
use crate::failure::Ending;
use crate::wallet_store::{Registration, WalletStore};

#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Put a card on the phone: register the phone, tokenize, activate, fetch keys
    Enrol(Enrol),
    /// Fetch fresh keys and a fresh certificate
    Replenish(Place),
    /// Show what the wallet holds and how far it goes
    Show(Place),
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
    pub(crate) const IN_HOME: Self = Self { wallet: None };

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
        WalletCommand::Replenish(place) => replenish_all(context, place)?,
        WalletCommand::Show(place) => {
            let (_store, wallet) = WalletStore::open(&place.directory(context))?;
            show(context, &wallet)?;
        }
    }
    Ok(Ending::Done)
}

/// Puts a card on the phone in a directory. Tells the token, the device and how far the keys go.
pub(crate) fn enrol(
    context: &Context,
    place: &Place,
    card: &str,
    label: &str,
) -> anyhow::Result<Value> {
    let directory = place.directory(context);
    let (store, mut wallet) = WalletStore::open_or_create(&directory)?;
    let platform = context.client()?;
    let shown = platform.get(&format!("/v1/cards/{}", segment(card)))?;
    let issuer = text_of(&shown, "issuer")?;
    let device = register_phone(context, &platform, &store, &wallet, &issuer, label)?;
    let body = json!({ "card": card, "device": device });
    let created = platform.post("/v1/tokens", &body)?;
    context.remember_created("token", &created)?;
    let token = text_of(&created, "id")?;
    let mut phone = store.phone()?;
    phone.issuers.insert(token.clone(), issuer);
    store.save_phone(&phone)?;
    let activation = json!({ "actor": "issuer", "reason": "enrolled on the command line" });
    platform.post(&format!("/v1/tokens/{}/activate", segment(&token)), &activation)?;
    replenish(context, &store, &mut wallet, token.parse()?)?;
    let token = wallet.token(token.parse()?).context("the token is not in the wallet")?;
    let mut report = describe(token);
    if let Some(fields) = report.as_object_mut() {
        fields.insert("device".to_owned(), json!(device));
        fields.insert("wallet".to_owned(), json!(directory.display().to_string()));
    }
    Ok(report)
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
    context.remember_created("device", &created)?;
    let device = text_of(&created, "id")?;
    let registration =
        Registration { device: device.clone(), api_key: text_of(&created, "api_key")? };
    phone.registrations.insert(issuer.to_owned(), registration);
    store.save_phone(&phone)?;
    Ok(device)
}

/// Fetches fresh keys for one token in the name of the phone.
pub(crate) fn replenish(
    context: &Context,
    store: &WalletStore,
    wallet: &mut Wallet,
    token: TokenId,
) -> anyhow::Result<()> {
    let key = store.phone()?.api_key(token)?.to_owned();
    let client = context.access.client_with_key(&context.home, key)?;
    let request = wallet.replenish_request(token, &mut clock::random());
    let path = format!("/v1/tokens/{token}/replenish");
    let answer = client.post(&path, &serde_json::to_value(&request)?)?;
    let sealed: SealedPayload =
        serde_json::from_value(answer).context("the platform's answer holds no sealed keys")?;
    store.save(&wallet.accept(token, &sealed, clock::now())?)
}

fn replenish_all(context: &Context, place: &Place) -> anyhow::Result<()> {
    let (store, mut wallet) = WalletStore::open(&place.directory(context))?;
    let tokens: Vec<TokenId> = wallet.tokens().map(Token::id).collect();
    {
        let _progress = context.output.progress("fetching keys");
        for token in tokens {
            replenish(context, &store, &mut wallet, token)?;
        }
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
    tokens.iter().try_for_each(|token| context.output.object(token))
}

/// A token as the wallet sees it. No key, no number.
fn describe(token: &Token) -> Value {
    let readiness = token.readiness(clock::now());
    let policy = token.policy();
    json!({
        "token": token.id(),
        "application": HEXLOWER.encode(&token.profile().aid),
        "label": String::from_utf8_lossy(&token.profile().label),
        "application_transaction_counter": token.application_transaction_counter(),
        "payments_left": readiness.payments_left,
        "largest_payment": Money::new(readiness.largest_payment_minor, policy.currency).to_string(),
        "usable_until": readiness.usable_until,
        "unverified_limit": Money::new(policy.unverified_limit_minor, policy.currency).to_string(),
        "screen_must_be_on": policy.screen_must_be_on,
        "wants_replenishment": readiness.wants_replenishment,
    })
}
