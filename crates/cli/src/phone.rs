//! A phone in the field of a reader: carries out the wallet's effects in order.

use anyhow::Context as _;
use tapfer_payment_types::Language;
use tapfer_wallet::{Card, DeviceState, Effect, Notification, Wallet};

use crate::clock;
use crate::phone_news;
use crate::tap::CardReader;
use crate::vpcd::VirtualCard;
use crate::wallet_store::WalletStore;

/// The wallet of a directory, played as a card.
pub(crate) struct Phone {
    store: WalletStore,
    card: Card,
    /// What the person has done with the phone.
    pub(crate) device: DeviceState,
    news: Vec<Notification>,
    language: Language,
}

impl Phone {
    /// A phone with its wallet, and the language of its owner.
    pub(crate) const fn new(
        store: WalletStore,
        wallet: Wallet,
        device: DeviceState,
        language: Language,
    ) -> Self {
        Self { store, card: Card::new(wallet), device, news: Vec::new(), language }
    }

    /// A piece of news as the phone's screen would say it.
    pub(crate) fn in_words(&self, news: &Notification) -> String {
        let reach = match news {
            Notification::NoKeysLeft { token } => self
                .card
                .wallet()
                .token(*token)
                .map(|token| (token.readiness(clock::now()), token.policy().currency)),
            _ => None,
        };
        phone_news::text(news, reach, self.language)
    }

    /// What the wallet has told the person since the last time. That a PIN waits for confirmation is for whoever
    /// fetches keys, and not for her.
    pub(crate) fn take_news(&mut self) -> Vec<Notification> {
        let mut news = std::mem::take(&mut self.news);
        news.retain(|news| !matches!(news, Notification::PinUnconfirmed { .. }));
        news
    }

    /// The wallet and where it is kept, between taps: a dialogue with a terminal is over.
    pub(crate) fn between_taps(&mut self) -> (&mut WalletStore, &mut Wallet) {
        self.card.deselect();
        (&mut self.store, self.card.wallet_mut())
    }

    /// Answers a command; the wallet is durable before the answer leaves this function.
    fn answer(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        let effects = self.card.handle(command, clock::now(), &mut clock::random(), &self.device);
        let mut reply = None;
        for effect in effects {
            match effect {
                Effect::Persist(snapshot) => {
                    if let Err(error) = self.store.save(&snapshot) {
                        self.card.deselect();
                        return Err(
                            error.context("the wallet could not be stored: nothing was sent")
                        );
                    }
                }
                Effect::Reply(response) => reply = Some(response.encode()),
                Effect::Notify(news) => self.news.push(news),
            }
        }
        reply.context("the card gave no answer")
    }
}

impl CardReader for Phone {
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.answer(command)
    }
}

impl VirtualCard for Phone {
    fn reset(&mut self) {
        self.card.deselect();
    }

    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.answer(command)
    }
}
