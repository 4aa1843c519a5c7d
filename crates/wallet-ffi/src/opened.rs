//! The card of an open wallet and where it is kept: carries out effects in their order.

use std::sync::Arc;

use tapfer_payment_types::store_share::StoreReport;
use tapfer_wallet::store::{ClosedStore, DeviceSecret, SealedStore, StoreMedium, StoreShare};
use tapfer_wallet::{Card, DeviceState, Effect, Snapshot, Wallet};

use crate::surroundings::{now, random};
use crate::{News, StorageError, TapReply, WalletError, WalletStorage};

/// An open wallet.
pub(crate) struct Opened {
    card: Card,
    store: SealedStore<Medium>,
}

/// The app's storage, as the store wants it.
pub(crate) struct Medium(pub(crate) Arc<dyn WalletStorage>);

impl StoreMedium for Medium {
    type Error = StorageError;

    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        self.0.load()
    }

    fn replace(&self, sealed: &[u8]) -> Result<(), StorageError> {
        self.0.replace(sealed.to_vec())
    }
}

impl Opened {
    /// Opens what is stored, or makes and stores a new wallet where nothing is.
    pub(crate) fn open(
        medium: Medium,
        device: DeviceSecret,
        share: Option<&StoreShare>,
    ) -> Result<Self, WalletError> {
        // Looking twice costs one read, and keeps the secret for whichever way it goes.
        if medium.load()?.is_none() {
            let mut wallet = Wallet::new(&mut random());
            let store = SealedStore::create(medium, device, &mut wallet, &mut random())?;
            return Ok(Self { card: Card::new(wallet), store });
        }
        let closed = ClosedStore::find(medium, device)?.ok_or(WalletError::Closed)?;
        let (store, wallet) = closed.open(share)?;
        Ok(Self { card: Card::new(wallet), store })
    }

    pub(crate) const fn wallet(&self) -> &Wallet {
        self.card.wallet()
    }

    /// The wallet, to change it; ends a dialogue that is under way.
    pub(crate) fn wallet_mut(&mut self) -> &mut Wallet {
        self.card.wallet_mut()
    }

    pub(crate) fn withdraw_from_question(&mut self) {
        self.card.withdraw_from_question(now());
    }

    pub(crate) fn deselect(&mut self) {
        self.card.deselect();
    }

    /// What to tell the platform about the store.
    pub(crate) const fn report(&self) -> StoreReport {
        self.store.report()
    }

    /// Stores a snapshot; durable when it returns.
    pub(crate) fn keep(&mut self, snapshot: &Snapshot) -> Result<(), WalletError> {
        Ok(self.store.keep(snapshot, &mut random())?)
    }

    /// Stores the wallet under the platform's share of the next epoch; durable when it returns.
    pub(crate) fn reseal(&mut self, share: &StoreShare) -> Result<(), WalletError> {
        let snapshot = self.card.wallet_mut().snapshot()?;
        Ok(self.store.reseal(share, &snapshot, &mut random())?)
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
