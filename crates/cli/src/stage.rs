//! Everything a payment needs, made from nothing in a temporary directory: a platform that serves over
//! TLS, an issuer, a card with money, a phone with the card on it, a merchant with a terminal. The
//! demo plays on it, and benchmarks measure on it.

use serde_json::{Value, json};
use tapfer_payment_types::{Currency, Money};
use tapfer_server::{Realm, RealmKind};
use tapfer_terminal::{TerminalConfiguration, WithoutProof};
use tapfer_wallet::DeviceState;
use tempfile::TempDir;

use crate::amount::money_json;
use crate::client::{Access, Client, text_of};
use crate::commands::card::default_expiry;
use crate::commands::wallet::{Place, enrol};
use crate::configuration_file::ConfigurationFile;
use crate::context::Context;
use crate::home::Home;
use crate::output::Output;
use crate::phone::Phone;
use crate::platform::{EmbeddedPlatform, open_realm};
use crate::terminal_identity::TerminalIdentity;
use crate::till::{self, Till, Trust};
use crate::wallet_store::WalletStore;

/// What is on the card in the beginning.
pub(crate) const OPENING_BALANCE: Money = Money::new(10_000, Currency::EUR);
/// Country of everyone here: Germany.
const COUNTRY: u16 = 276;
/// Above this the terminal wants the person verified.
const VERIFICATION_LIMIT: Money = Money::new(5_000, Currency::EUR);

/// A running platform with nobody on it yet.
pub(crate) struct Stage {
    /// Asks the platform in the operator's name.
    pub(crate) context: Context,
    // In this order: the platform stops before its directory goes.
    _platform: EmbeddedPlatform,
    _directory: TempDir,
}

/// Who plays.
pub(crate) struct Players {
    /// Card id.
    pub(crate) card: String,
    /// Token id.
    pub(crate) token: String,
    /// The phone, unlocked and in hand.
    pub(crate) phone: Phone,
    /// The merchant's till.
    pub(crate) till: Till,
    /// The terminal's set-up.
    pub(crate) configuration: TerminalConfiguration,
}

impl Stage {
    /// Starts a platform in a new temporary directory, on a free port of this machine.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub(crate) fn start(output: Output) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tapfer-").tempdir()?;
        let home = Home::new(Some(directory.path().join("home")));
        let realm = open_realm(&home, Some(RealmKind::Demo), None)?;
        Self::serve(output, directory, home, realm)
    }

    /// Serves a realm that lies in a temporary directory, on a free port of this machine.
    ///
    /// # Errors
    /// What keeps the platform from starting.
    pub(crate) fn serve(
        output: Output,
        directory: TempDir,
        home: Home,
        realm: Realm,
    ) -> anyhow::Result<Self> {
        let (platform, address) = EmbeddedPlatform::serve(realm)?;
        let access = Access { server: Some(address), ..Access::default() };
        let context = Context { output, home, access };
        Ok(Self { context, _platform: platform, _directory: directory })
    }

    /// Creates an issuer, a card with money and a merchant, and enrols the card on a phone.
    ///
    /// # Errors
    /// What the platform refuses, which it should not.
    pub(crate) fn enrol(&self, key_policy: &Value) -> anyhow::Result<Players> {
        let operator = self.context.client()?;
        let card = create_card(&operator, &create_issuer(&operator, key_policy)?)?;
        let report = enrol(&self.context, &Place::IN_HOME, &card, "demo phone")?;
        let token = text_of(&report, "token")?;
        let (store, wallet) = WalletStore::open(&self.context, &self.context.home.wallet())?;
        let in_hand = DeviceState { screen_on: true, unlocked: false, ..DeviceState::default() };
        let (till, configuration) = set_up_till(&self.context)?;
        let phone = Phone::new(store, wallet, in_hand, self.context.access.language.of_people());
        Ok(Players { card, token, phone, till, configuration })
    }
}

/// Makes a merchant with a terminal that proves itself, and sets the terminal up.
///
/// # Errors
/// What the platform refuses, which it should not.
pub(crate) fn set_up_till(context: &Context) -> anyhow::Result<(Till, TerminalConfiguration)> {
    let till = create_till(&context.client()?)?;
    let file = ConfigurationFile::of_terminal(&context.home, &till.terminal_id);
    let trust = Trust::fetch(context, &till.terminal, &file)?;
    let mut configuration =
        till::configuration(&trust.applications, trust.ca_keys, COUNTRY, VERIFICATION_LIMIT)?;
    let identity = TerminalIdentity::open(&context.home, &till.terminal_id)?;
    let credential = identity.into_credential(&till.terminal, WithoutProof::EndTap)?;
    configuration.merchant = Some(credential);
    Ok((till, configuration))
}

/// Makes an issuer whose phones get keys by this policy. Its id.
///
/// # Errors
/// What the platform refuses, which it should not.
pub(crate) fn create_issuer(operator: &Client, key_policy: &Value) -> anyhow::Result<String> {
    let issuer = operator.post(
        "/v1/issuers",
        &json!({
            "name": "Demo Issuer", "country": "276", "pan_prefix": "999900",
            "token_prefix": "999901", "currency": "EUR", "unverified_limit": 2500,
            "key_policy": key_policy,
        }),
    )?;
    text_of(&issuer, "id")
}

/// Makes a card of an issuer, with money on it. Its id.
///
/// # Errors
/// What the platform refuses, which it should not.
pub(crate) fn create_card(operator: &Client, issuer: &str) -> anyhow::Result<String> {
    let body = json!({ "issuer": issuer, "expiry": default_expiry() });
    let card = text_of(&operator.post("/v1/cards", &body)?, "id")?;
    let mut top_up = money_json(OPENING_BALANCE);
    if let Some(fields) = top_up.as_object_mut() {
        fields.insert("reference".to_owned(), json!("opening balance"));
    }
    operator.post(&format!("/v1/cards/{card}/top-ups"), &top_up)?;
    Ok(card)
}

fn create_till(operator: &Client) -> anyhow::Result<Till> {
    let body = json!({ "name": "Corner Cafe", "country": "276", "category_code": "5814" });
    let merchant = operator.post("/v1/merchants", &body)?;
    let body = json!({ "merchant": text_of(&merchant, "id")?, "label": "Counter 1" });
    let terminal = operator.post("/v1/terminals", &body)?;
    Ok(Till {
        merchant: operator.with_key(&text_of(&merchant, "api_key")?),
        terminal: operator.with_key(&text_of(&terminal, "api_key")?),
        terminal_id: text_of(&terminal, "id")?,
    })
}
