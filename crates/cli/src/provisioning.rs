//! A phone's errands at the platform: fetching keys, and forgetting tokens that are no more.
//!
//! An errand has three parts, so that the middle one, which waits for the network, can be done by a
//! thread of its own while the phone goes on answering terminals.

use anyhow::Context as _;
use serde_json::Value;
use tapfer_payment_types::TokenId;
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::store_share::StoreReport;
use tapfer_wallet::store::StoreShare;
use tapfer_wallet::texts::PersonText as _;
use tapfer_wallet::{Token, Wallet};

use crate::client::{Client, text_of};
use crate::clock;
use crate::context::Context;
use crate::store_keeper::{Confirmation, StoreKeeper};
use crate::wallet_store::WalletStore;

/// Fresh keys that are wanted for one token.
pub(crate) struct Errand {
    client: Client,
    token: TokenId,
    question: Value,
    /// Who keeps the share of the store, and what to tell them of it.
    keeper: Option<(StoreKeeper, StoreReport)>,
}

/// What the platform said.
pub(crate) enum Answer {
    /// Keys, sealed to this phone, and the share of the epoch that the store then moves to.
    Keys(Box<SealedPayload>, Option<Box<(StoreKeeper, StoreShare)>>),
    /// The token is no more.
    Deactivated,
}

/// What became of the token on the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replenished {
    /// It has fresh keys.
    Fresh,
    /// It was deleted at the platform and is forgotten here.
    Forgotten,
}

impl Errand {
    /// Makes the question, in the name of the phone.
    pub(crate) fn prepare(
        context: &Context,
        store: &WalletStore,
        wallet: &mut Wallet,
        token: TokenId,
    ) -> anyhow::Result<Self> {
        let phone = store.phone()?;
        let client = phone.client(context, token)?;
        let request = wallet.replenish_request(token, &mut clock::random());
        let keeper = StoreKeeper::of(context, &phone)?.map(|keeper| (keeper, store.report()));
        Ok(Self { client, token, question: serde_json::to_value(&request)?, keeper })
    }

    /// Asks the platform.
    pub(crate) fn run(&self) -> anyhow::Result<Answer> {
        let path = format!("/v1/tokens/{}", self.token);
        if text_of(&self.client.get(&path)?, "status")? == "DEACTIVATED" {
            return Ok(Answer::Deactivated);
        }
        // The share first: keys that came and could not be stored would be lost.
        let next = match &self.keeper {
            None => None,
            Some((keeper, report)) => Some(Box::new((keeper.clone(), keeper.next_share(*report)?))),
        };
        let answer = self.client.post(&format!("{path}/replenish"), &self.question)?;
        let sealed = serde_json::from_value(answer);
        Ok(Answer::Keys(sealed.context("the platform's answer holds no sealed keys")?, next))
    }
}

/// Puts an answer into the wallet; durable when it returns. What to tell the platform then, if the store
/// was moved to the next epoch.
pub(crate) fn accept(
    store: &mut WalletStore,
    wallet: &mut Wallet,
    token: TokenId,
    answer: &Answer,
) -> anyhow::Result<(Replenished, Option<Confirmation>)> {
    match answer {
        Answer::Keys(sealed, next) => {
            let snapshot = wallet.accept(token, sealed, clock::now())?;
            let confirmation = match next {
                Some(next) => {
                    let (keeper, share) = next.as_ref();
                    Some(store.save_in_next_epoch(keeper, share, &snapshot)?)
                }
                None => {
                    store.save(&snapshot)?;
                    None
                }
            };
            Ok((Replenished::Fresh, confirmation))
        }
        Answer::Deactivated => {
            wallet.remove_token(token)?;
            store.save(&wallet.snapshot()?)?;
            Ok((Replenished::Forgotten, None))
        }
    }
}

/// What the phone has to tell its owner about the platform itself, once.
pub(crate) fn news(context: &Context, wallet: &mut Wallet) -> Option<String> {
    let restored = wallet.platform_restored()?;
    wallet.told_of_restoration();
    Some(restored.text(context.access.language.of_people()))
}

/// The errand for one token, of which nobody is told anything.
pub(crate) fn fetch(
    context: &Context,
    store: &mut WalletStore,
    wallet: &mut Wallet,
    token: TokenId,
) -> anyhow::Result<Replenished> {
    let answer = Errand::prepare(context, store, wallet, token)?.run()?;
    let (replenished, confirmation) = accept(store, wallet, token, &answer)?;
    confirmation.map_or(Ok(()), |confirmation| confirmation.run())?;
    Ok(replenished)
}

/// The whole errand for one token.
pub(crate) fn replenish(
    context: &Context,
    store: &mut WalletStore,
    wallet: &mut Wallet,
    token: TokenId,
) -> anyhow::Result<Replenished> {
    let replenished = fetch(context, store, wallet, token)?;
    if let Some(news) = news(context, wallet) {
        context.output.remark(news);
        store.save(&wallet.snapshot()?)?;
    }
    Ok(replenished)
}

/// The whole errand for every token; which of them are no more.
pub(crate) fn replenish_all(
    context: &Context,
    store: &mut WalletStore,
    wallet: &mut Wallet,
) -> anyhow::Result<Vec<TokenId>> {
    let tokens: Vec<TokenId> = wallet.tokens().map(Token::id).collect();
    let mut forgotten = Vec::new();
    for token in tokens {
        if replenish(context, store, wallet, token)? == Replenished::Forgotten {
            forgotten.push(token);
        }
    }
    Ok(forgotten)
}
