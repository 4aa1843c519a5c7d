//! A phone around the card: it carries out effects in order on a disk that can be trusted, and its
//! power can go at any of them.

use tapfer_emv::status::StatusWord;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::policy::UnlockMethod;
use tapfer_wallet::store::{self, DeviceSecret, StoreKey};
use tapfer_wallet::{Card, DeviceState, Effect, Notification, Wallet};

use crate::breaking_disk::replaced_until;
use crate::issuer::{Issuer, now};
use crate::random::TestRng;

pub const IN_HAND: DeviceState = DeviceState {
    screen_on: true,
    unlocked: false,
    unlock_method: UnlockMethod::Pin,
    integrity_verdict: 0,
};
pub const UNLOCKED: DeviceState = DeviceState {
    screen_on: true,
    unlocked: true,
    unlock_method: UnlockMethod::Pin,
    integrity_verdict: 0,
};
pub const DARK: DeviceState = DeviceState {
    screen_on: false,
    unlocked: false,
    unlock_method: UnlockMethod::Pin,
    integrity_verdict: 0,
};

pub struct Phone {
    pub card: Card,
    pub now: Timestamp,
    pub device: DeviceState,
    /// What survives: the sealed wallet.
    pub disk: Vec<u8>,
    pub notifications: Vec<Notification>,
    pub rng: TestRng,
    /// How many more effects are carried out before the power goes; `None`: for ever.
    pub power: Option<usize>,
    /// If the power goes at a write: at which step of it.
    pub cut: Option<usize>,
}

pub fn store_key() -> StoreKey {
    StoreKey::without_share(&DeviceSecret::new([0x33; 32])).unwrap()
}

impl Phone {
    /// A phone with one freshly enrolled token.
    pub fn enrolled(issuer: &Issuer) -> Self {
        let mut wallet = Wallet::new(&mut TestRng(1));
        issuer.provision(&mut wallet, now());
        Self::with(wallet)
    }

    pub fn with(mut wallet: Wallet) -> Self {
        let mut rng = TestRng(2);
        let disk = wallet.snapshot().unwrap().seal(&store_key(), &mut rng).unwrap();
        Self {
            card: Card::new(wallet),
            now: now(),
            device: IN_HAND,
            disk,
            notifications: Vec::new(),
            rng,
            power: None,
            cut: None,
        }
    }

    /// Sends a command; `None` if the power went before the reply was out.
    pub fn transmit(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        let mut reply = None;
        for effect in self.card.handle(command, self.now, &mut self.rng, &self.device) {
            match &mut self.power {
                Some(0) => {
                    if let (Effect::Persist(snapshot), Some(step)) = (effect, self.cut) {
                        let fresh = snapshot.seal(&store_key(), &mut self.rng).unwrap();
                        self.disk = replaced_until(step, &self.disk, &fresh);
                    }
                    return reply;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            match effect {
                Effect::Persist(snapshot) => {
                    assert!(reply.is_none(), "persisted behind the reply");
                    self.disk = snapshot.seal(&store_key(), &mut self.rng).unwrap();
                }
                Effect::Reply(response) => {
                    assert!(reply.is_none(), "two replies");
                    reply = Some(response.encode());
                }
                Effect::Notify(notification) => {
                    assert!(reply.is_some(), "the reader waited for a notification");
                    self.notifications.push(notification);
                }
            }
        }
        assert!(reply.is_some(), "no reply");
        reply
    }

    /// Sends a command that must be answered, and takes the answer apart.
    pub fn exchange(&mut self, command: &[u8]) -> (Vec<u8>, StatusWord) {
        let mut answer = self.transmit(command).expect("the power is on");
        let status = answer.split_off(answer.len() - 2);
        (answer, StatusWord::from_bytes(status[0], status[1]))
    }

    /// The power is back: what the disk holds is all there is.
    pub fn restart(&mut self) {
        self.card = Card::new(self.stored());
        (self.power, self.cut) = (None, None);
    }

    pub fn stored(&self) -> Wallet {
        store::open(&store_key(), &self.disk).unwrap()
    }

    pub fn counter(&self) -> u16 {
        counter(self.card.wallet())
    }
}

/// Transaction counter of the first token.
pub fn counter(wallet: &Wallet) -> u16 {
    wallet.tokens().next().unwrap().application_transaction_counter()
}
