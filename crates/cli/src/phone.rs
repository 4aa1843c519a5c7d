//! A phone in the field of a reader: carries out the wallet's effects in order.

use anyhow::Context as _;
use tapfer_payment_types::{Currency, Money};
use tapfer_wallet::{Card, DeviceState, Effect, Notification, ProvenMerchant, Readiness, Wallet};

use crate::clock;
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
}

impl Phone {
    /// A phone with its wallet.
    pub(crate) const fn new(store: WalletStore, wallet: Wallet, device: DeviceState) -> Self {
        Self { store, card: Card::new(wallet), device, news: Vec::new() }
    }

    /// A piece of news as the phone's screen would say it.
    pub(crate) fn in_words(&self, news: &Notification) -> String {
        let readiness = match news {
            Notification::NoKeysLeft { token } => self
                .card
                .wallet()
                .token(*token)
                .map(|token| (token.readiness(clock::now()), token.policy().currency)),
            _ => None,
        };
        in_words(news, readiness)
    }

    /// What the wallet has told the person since the last time.
    pub(crate) fn take_news(&mut self) -> Vec<Notification> {
        std::mem::take(&mut self.news)
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

/// Who is paid, if the terminal has proven that.
fn at(merchant: Option<&ProvenMerchant>) -> String {
    merchant.map(|merchant| format!(" at {}", merchant.name)).unwrap_or_default()
}

/// A piece of news as the phone's screen would say it.
fn in_words(news: &Notification, readiness: Option<(Readiness, Currency)>) -> String {
    match news {
        Notification::NoKeysLeft { .. } if readiness.is_some_and(|(now, _)| now.payments_left > 0) => {
            let largest = readiness.map(|(now, currency)| {
                Money::new(now.largest_payment_minor, currency).to_string()
            });
            format!("more than the {} that this phone can pay at once", largest.unwrap_or_default())
        }
        Notification::PaymentSent {
            amount, application_transaction_counter: counter, merchant, ..
        } => {
            let payee = at(merchant.as_ref());
            format!("{amount}{payee} sent to the issuer, transaction {counter}")
        }
        Notification::PaymentDeclined { amount, reason, merchant, .. } => {
            format!("{amount}{}: {reason}", at(merchant.as_ref()))
        }
        Notification::PersonNeeded { amount, ask, merchant, .. } => {
            format!("{amount}{}: {ask}", at(merchant.as_ref()))
        }
        Notification::MerchantRefused { name, fault, .. } => {
            format!("refused a terminal that says it is {name}: {fault}")
        }
        Notification::MerchantProofWrong { name, .. } => {
            let name = name.as_deref().unwrap_or("a merchant");
            format!("refused a terminal that says it is {name} and could not prove it")
        }
        Notification::DataRead { envelope, .. } => {
            format!("the terminal read data envelope {envelope}")
        }
        Notification::DataWritten { envelope, .. } => {
            format!("the terminal wrote data envelope {envelope}")
        }
        Notification::DiscouragedUnlock { .. } => {
            "your issuer advises against the way this phone is unlocked".to_owned()
        }
        Notification::ScreenOff { .. } => "turn the screen on and tap again".to_owned(),
        Notification::ReplenishSoon { .. } => "keys run low: fetch new ones soon (tapfer wallet replenish)".to_owned(),
        Notification::NoKeysLeft { .. } => {
            "no key is left for this payment: fetch new ones (tapfer wallet replenish), then tap again"
                .to_owned()
        }
        Notification::CertificateExpired { .. } => {
            "the card's certificate has expired: fetch a new one, then tap again".to_owned()
        }
        Notification::CounterExhausted { .. } => {
            "this token has used its last transaction: ask the issuer for a new one".to_owned()
        }
    }
}
