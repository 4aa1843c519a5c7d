//! Keys for a phone that is in use: fetched by a thread of its own, taken in between two taps.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tapfer_payment_types::TokenId;
use tapfer_wallet::{Token, Wallet};

use crate::clock;
use crate::context::Context;
use crate::provisioning::{self, Answer, Errand, Replenished};
use crate::wallet_store::WalletStore;

/// From one fruitless errand to the next.
const PAUSE: Duration = Duration::from_secs(60);

/// What is on its way to the phone.
#[derive(Default)]
pub(crate) struct KeySupply {
    errand: Option<Running>,
    failed: Option<Instant>,
}

/// An errand that a thread is out on: one at a time, so that what is told to the platform arrives in
/// order.
enum Running {
    /// Keys are fetched.
    Keys(TokenId, JoinHandle<anyhow::Result<Answer>>),
    /// The platform is told that the store was moved.
    Confirmation(JoinHandle<anyhow::Result<()>>),
}

impl KeySupply {
    /// Takes in what has come, and sends for more if a token's keys run low. Neither waits for the
    /// network. News for the person, if there are any.
    pub(crate) fn between_taps(
        &mut self,
        context: &Context,
        store: &mut WalletStore,
        wallet: &mut Wallet,
    ) -> Option<String> {
        let result = match self.errand.take() {
            Some(Running::Keys(token, thread)) if thread.is_finished() => {
                self.take_in(context, token, thread, store, wallet)
            }
            Some(Running::Confirmation(thread)) if thread.is_finished() => {
                joined(thread).map(|()| None)
            }
            Some(running) => {
                self.errand = Some(running);
                return None;
            }
            None => self.send(context, store, wallet).map(|()| None),
        };
        match result {
            Ok(news) => news,
            Err(error) => {
                self.failed = Some(clock::instant());
                Some(format!("no fresh keys: {error:#}"))
            }
        }
    }

    fn send(
        &mut self,
        context: &Context,
        store: &mut WalletStore,
        wallet: &mut Wallet,
    ) -> anyhow::Result<()> {
        let now = clock::now();
        let is_low = |token: &&Token| token.readiness(now).wants_replenishment;
        let rests = self.failed.is_some_and(|failed| failed.elapsed() < PAUSE);
        let Some(token) = wallet.tokens().find(is_low).map(Token::id).filter(|_| !rests) else {
            return Ok(());
        };
        let errand = Errand::prepare(context, store, wallet, token)?;
        self.errand = Some(Running::Keys(token, thread::spawn(move || errand.run())));
        Ok(())
    }

    fn take_in(
        &mut self,
        context: &Context,
        token: TokenId,
        thread: JoinHandle<anyhow::Result<Answer>>,
        store: &mut WalletStore,
        wallet: &mut Wallet,
    ) -> anyhow::Result<Option<String>> {
        let answer = joined(thread)?;
        let (replenished, confirmation) = provisioning::accept(store, wallet, token, &answer)?;
        self.errand = confirmation
            .map(|confirmation| Running::Confirmation(thread::spawn(move || confirmation.run())));
        let keys = match replenished {
            Replenished::Fresh => format!("fresh keys for {token} have come"),
            Replenished::Forgotten => {
                format!("{token} was deleted at the platform and is forgotten")
            }
        };
        let news = provisioning::news(context, wallet);
        Ok(Some(news.map_or(keys.clone(), |news| format!("{keys}\n{news}"))))
    }
}

fn joined<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().map_err(|_| anyhow!("the errand to the platform broke off"))?
}
