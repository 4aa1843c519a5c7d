//! `tapfer wallet pin`: the person's PIN on the phone in a directory.
//!
//! The phone keeps a new key until the platform has answered, and the platform takes the same bytes
//! twice: a command that died in between is finished by the next one.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use serde_json::Value;
use tapfer_payment_types::messages::{PinStatus, SetPersonKeyRequest};
use tapfer_payment_types::{Pin, TokenId};
use tapfer_wallet::pin::{PinHardness, SetPinError};
use tapfer_wallet::{Wallet, texts};

use super::wallet::Place;
use crate::client::{Client, is_undecided};
use crate::clock;
use crate::context::Context;
use crate::failure::Ending;
use crate::language::Language;
use crate::pin_file::{self, PinFile};
use crate::provisioning;
use crate::wallet_store::WalletStore;

#[derive(Debug, Subcommand)]
pub(crate) enum PinCommand {
    /// Choose the first PIN, or a new one after the issuer granted a reset
    #[command(after_help = "Example:\n  tapfer wallet pin set --pin-file new.pin")]
    Set {
        #[command(flatten)]
        new: PinFile,
        #[command(flatten)]
        which: Which,
    },
    /// Change the PIN; a wrong old one counts as a wrong PIN
    #[command(
        after_help = "Example:\n  tapfer wallet pin change --old-pin-file old.pin --pin-file new.pin\n\nExit code 1 if the old PIN was wrong."
    )]
    Change {
        #[command(flatten)]
        new: PinFile,
        /// File with the old PIN
        #[arg(long, value_name = "FILE")]
        old_pin_file: PathBuf,
        #[command(flatten)]
        which: Which,
    },
    /// Ask the platform how many wrong PINs are left
    #[command(after_help = "Example:\n  tapfer wallet pin status")]
    Status(Which),
}

/// Whose PIN.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Token id; the one that pays if not given
    #[arg(long)]
    token: Option<TokenId>,
    #[command(flatten)]
    place: Place,
}

/// A phone that talks to the platform about one token's PIN.
struct Errand {
    store: WalletStore,
    wallet: Wallet,
    token: TokenId,
    client: Client,
}

pub(crate) fn run(context: &Context, command: &PinCommand) -> anyhow::Result<Ending> {
    match command {
        PinCommand::Set { new, which } => {
            let new = pin_file::read(&new.path)?;
            choose(context, which, &new, None)
        }
        PinCommand::Change { new, old_pin_file, which } => {
            let (new, old) = (pin_file::read(&new.path)?, pin_file::read(old_pin_file)?);
            choose(context, which, &new, Some(&old))
        }
        PinCommand::Status(which) => {
            let status = Errand::open(context, which)?.settle()?;
            context.output.object(&serde_json::to_value(status)?)?;
            Ok(Ending::Done)
        }
    }
}

/// What the app tells the person after a payment that ended for the PIN: how many tries are left.
pub(crate) fn tries_left(
    context: &Context,
    place: Place,
    token: Option<TokenId>,
) -> anyhow::Result<String> {
    let status = Errand::open(context, &Which { token, place })?.settle()?;
    Ok(texts::tries_left(&status, context.access.language.of_people()))
}

fn choose(
    context: &Context,
    which: &Which,
    new: &Pin,
    old: Option<&Pin>,
) -> anyhow::Result<Ending> {
    let mut errand = Errand::open(context, which)?;
    // What was left undone, and whether the issuer has granted a reset.
    errand.settle()?;
    let hardness = PinHardness::default();
    let language = context.access.language;
    let set = errand.wallet.set_pin(errand.token, new, old, hardness, &mut clock::random());
    let (request, snapshot) = set.map_err(|error| match error {
        SetPinError::OldPinNeeded => {
            let command = "tapfer wallet pin change --old-pin-file OLD --pin-file NEW";
            anyhow!("{}: `{command}`", language.refusal(&error))
        }
        _ => language.refusal(&error),
    })?;
    errand.store.save(&snapshot)?;
    let status = errand.send(&request)?;
    let is_taken = status.generation == request.generation;
    context.output.object(&serde_json::to_value(status)?)?;
    if is_taken {
        // Keys under the old PIN have ended.
        let Errand { store, wallet, token, .. } = &mut errand;
        let fetched = provisioning::replenish(context, store, wallet, *token);
        fetched.context(set_without_keys(language))?;
    } else {
        context.output.remark(old_pin_wrong(language));
    }
    Ok(Ending::done_if(is_taken))
}

const fn set_without_keys(language: Language) -> &'static str {
    match language {
        Language::English => {
            "the PIN is set, but there are no keys for it yet: until `tapfer wallet replenish` has \
             fetched them, no payment goes with it"
        }
        Language::German => {
            "Die PIN ist gesetzt, aber es fehlen noch Schlüssel dafür: bis `tapfer wallet replenish` sie \
             geholt hat, geht keine Zahlung damit"
        }
    }
}

const fn old_pin_wrong(language: Language) -> &'static str {
    match language {
        Language::English => "the old PIN was wrong: nothing is changed, and a try is gone",
        Language::German => "Die alte PIN war falsch: nichts ist geändert, und ein Versuch ist weg",
    }
}

impl Errand {
    fn open(context: &Context, which: &Which) -> anyhow::Result<Self> {
        let (store, wallet) = WalletStore::open(context, &which.place.directory(context))?;
        let token = which.token.or_else(|| wallet.default_token());
        let token = token.context("the wallet is empty: run `tapfer wallet enrol`")?;
        let client = store.phone()?.client(context, token)?;
        Ok(Self { store, wallet, token, client })
    }

    fn path(&self) -> String {
        format!("/v1/tokens/{}/pin", self.token)
    }

    fn ask(&self) -> anyhow::Result<PinStatus> {
        understood(self.client.get(&self.path())?)
    }

    /// Finishes what an earlier command began, and hears how it stands.
    fn settle(&mut self) -> anyhow::Result<PinStatus> {
        if let Some(request) = self.wallet.pin_request(self.token) {
            return self.send(&request);
        }
        let status = self.ask()?;
        self.store.save(&self.wallet.pin_answered(self.token, status)?)?;
        Ok(status)
    }

    /// Sends a new key, and takes the platform's word for what became of it.
    fn send(&mut self, request: &SetPersonKeyRequest) -> anyhow::Result<PinStatus> {
        let answer = self.client.post(&self.path(), &serde_json::to_value(request)?);
        let (status, refusal) = match answer {
            Ok(answer) => (understood(answer)?, None),
            Err(error) if is_undecided(&error) => return Err(error),
            Err(error) => (self.ask()?, Some(error)),
        };
        let snapshot = match status.generation == request.generation {
            true => self.wallet.pin_answered(self.token, status)?,
            false => self.wallet.pin_refused(self.token, status)?,
        };
        self.store.save(&snapshot)?;
        refusal.map_or(Ok(status), Err)
    }
}

fn understood(answer: Value) -> anyhow::Result<PinStatus> {
    serde_json::from_value(answer).context("the platform's answer is no PIN status")
}
