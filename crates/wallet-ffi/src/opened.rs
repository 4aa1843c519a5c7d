//! The card of an open wallet and where it is kept: carries out effects in their order.

use std::sync::Arc;

use tapfer_wallet::{Card, DeviceState, Effect, Snapshot, StoreKey, Wallet, store};

use crate::surroundings::{now, random};
use crate::{News, TapReply, WalletError, WalletStorage};

/// An open wallet.
pub(crate) struct Opened {
    card: Card,
    key: StoreKey,
    storage: Arc<dyn WalletStorage>,
}

impl Opened {
    /// Opens what is stored, or makes and stores a new wallet where nothing is.
    pub(crate) fn open(
        storage: Arc<dyn WalletStorage>,
        key: StoreKey,
    ) -> Result<Self, WalletError> {
        if let Some(sealed) = storage.load()? {
            let wallet = store::open(&key, &sealed)?;
            return Ok(Self { card: Card::new(wallet), key, storage });
        }
        let card = Card::new(Wallet::new(&mut random()));
        let mut opened = Self { card, key, storage };
        let snapshot = opened.card.wallet_mut().snapshot()?;
        opened.keep(&snapshot)?;
        Ok(opened)
    }

    pub(crate) const fn wallet(&self) -> &Wallet {
        self.card.wallet()
    }

    /// The wallet, to change it; ends a dialogue that is under way.
    pub(crate) fn wallet_mut(&mut self) -> &mut Wallet {
        self.card.wallet_mut()
    }

    pub(crate) fn deselect(&mut self) {
        self.card.deselect();
    }

    /// Changes the wallet, and stores what became of it.
    pub(crate) fn change<E: Into<WalletError>>(
        &mut self,
        change: impl FnOnce(&mut Wallet) -> Result<(), E>,
    ) -> Result<(), WalletError> {
        change(self.card.wallet_mut()).map_err(Into::into)?;
        let snapshot = self.card.wallet_mut().snapshot()?;
        self.keep(&snapshot)
    }

    /// Stores a snapshot; durable when it returns.
    pub(crate) fn keep(&self, snapshot: &Snapshot) -> Result<(), WalletError> {
        Ok(self.storage.replace(snapshot.seal(&self.key, &mut random())?)?)
    }

    /// Answers a command. What the answer depends on is durable before it leaves this function; if it
    /// could not be stored, there is no answer, and the dialogue is over.
    pub(crate) fn answer(
        &mut self,
        command: &[u8],
        device: &DeviceState,
    ) -> Result<TapReply, WalletError> {
        let mut reply = TapReply { response: Vec::new(), news: Vec::new() };
        for effect in self.card.handle(command, now(), &mut random(), device) {
            match effect {
                Effect::Persist(snapshot) => {
                    if let Err(error) = self.keep(&snapshot) {
                        self.card.deselect();
                        return Err(error);
                    }
                }
                Effect::Reply(response) => reply.response = response.encode(),
                Effect::Notify(notification) => reply.news.push(News::from(notification)),
            }
        }
        Ok(reply)
    }
}
