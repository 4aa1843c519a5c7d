//! The platform's share in the key of the wallet's store: fetched when the wallet is opened, kept in memory
//! only.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tapfer_payment_types::store_share::{StoreReport, StoreShareMessage};
use tapfer_wallet::store::{StoreRefusal, StoreShare};

use crate::client::Client;
use crate::context::{Context, segment};
use crate::language::Language;
use crate::trouble::{NoAnswer, Problem};
use crate::wallet_store::Phone;

/// How long one question is asked again when no answer comes.
const PATIENCE: Duration = Duration::from_secs(2);

/// The platform, as the keeper of a share.
#[derive(Clone)]
pub(crate) struct StoreKeeper {
    client: Client,
    path: String,
    language: Language,
}

/// The platform is to be told that the store was moved, with which the old epoch ends.
pub(crate) struct Confirmation {
    keeper: StoreKeeper,
    report: StoreReport,
}

impl StoreKeeper {
    /// The keeper of this phone's share; `None` if it is not registered anywhere.
    pub(crate) fn of(context: &Context, phone: &Phone) -> anyhow::Result<Option<Self>> {
        let Some(registration) = phone.store_keeper() else { return Ok(None) };
        let client = phone.client_as(context, registration)?;
        let path = format!("/v1/devices/{}/store-share", segment(&registration.device));
        Ok(Some(Self { client, path, language: context.access.language }))
    }

    /// The share that opens a store.
    pub(crate) fn share(&self, report: StoreReport) -> anyhow::Result<StoreShare> {
        read_share(&self.message(report)?)
    }

    /// The share that opens a store, as the platform gives it.
    pub(crate) fn message(&self, report: StoreReport) -> anyhow::Result<StoreShareMessage> {
        self.ask(&self.path, report)
    }

    /// The share of the epoch after.
    pub(crate) fn next_share(&self, report: StoreReport) -> anyhow::Result<StoreShare> {
        read_share(&self.ask(&format!("{}/rotate", self.path), report)?)
    }

    /// To be told once a moved store is durable.
    pub(crate) fn confirmation(&self, report: StoreReport) -> Confirmation {
        Confirmation { keeper: self.clone(), report }
    }

    fn ask(&self, path: &str, report: StoreReport) -> anyhow::Result<StoreShareMessage> {
        let question = serde_json::to_value(report)?;
        // The platform keeps no answer of this kind, so the key says nothing to it.
        let answer = self.client.post_patiently(path, &question, "store-share", PATIENCE);
        let answer = answer.map_err(|error| self.in_words(error))?;
        // The cause is left out: it could repeat what was sent.
        let message = serde_json::from_value(answer);
        message.map_err(|_| anyhow!("the platform's answer holds no share of the store"))
    }

    /// What the app would show, above what the platform said.
    fn in_words(&self, error: anyhow::Error) -> anyhow::Error {
        let refusal = match (error.downcast_ref::<Problem>(), error.is::<NoAnswer>()) {
            (Some(problem), _) => StoreRefusal::of_problem(problem.text("type")),
            (None, true) => Some(StoreRefusal::NotReached),
            (None, false) => None,
        };
        match (refusal, self.language) {
            (Some(refusal), Language::English) => error.context(refusal.english()),
            (Some(refusal), Language::German) => error.context(refusal.german()),
            (None, _) => error,
        }
    }
}

/// Reads a share as the platform gives it.
pub(crate) fn read_share(message: &StoreShareMessage) -> anyhow::Result<StoreShare> {
    let epoch = NonZeroU32::new(message.epoch).context("a share is of epoch 1 or later")?;
    let share = message.share.expose().try_into().context("a share has 32 bytes")?;
    Ok(StoreShare::new(epoch, share))
}

impl Confirmation {
    /// Tells the platform. If it can't be reached, the next start of the wallet tells it: until then it
    /// has the shares of both epochs.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match self.keeper.share(self.report) {
            Err(error) if !error.is::<NoAnswer>() => Err(error),
            _ => Ok(()),
        }
    }
}
