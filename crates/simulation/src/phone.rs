//! A phone in somebody's hand: the real wallet, and a memory that is lost when the phone dies.

use tapfer_emv::apdu::ResponseApdu;
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::{Timestamp, TokenId};
use tapfer_wallet::store::{Snapshot, StoreError};
use tapfer_wallet::{Card, DeviceState, Effect, Wallet};

use crate::chance::Chance;

/// A phone.
pub(crate) struct Phone {
    card: Card,
    /// What is durable.
    kept: Snapshot,
    device: DeviceState,
    chance: Chance,
    /// So many effects are survived.
    effects_left: Option<u32>,
}

impl Phone {
    /// A phone that starts with what it kept.
    ///
    /// # Errors
    /// What it kept is no wallet.
    pub(crate) fn starting(kept: &Snapshot, chance: Chance) -> Result<Self, StoreError> {
        let mut wallet = kept.restore()?;
        let kept = wallet.snapshot()?;
        let device = DeviceState { screen_on: true, unlocked: true, ..DeviceState::default() };
        Ok(Self { card: Card::new(wallet), kept, device, chance, effects_left: None })
    }

    /// Lets it die behind so many effects.
    pub(crate) const fn will_die(&mut self, effects_left: u32) {
        self.effects_left = Some(effects_left);
    }

    /// The battery is out, and in again.
    fn restart(&mut self) -> Result<(), StoreError> {
        self.effects_left = None;
        self.card = Card::new(self.kept.restore()?);
        Ok(())
    }

    /// Answers a command; nothing if it dies before the answer.
    ///
    /// # Errors
    /// What it kept is no wallet.
    pub(crate) fn answer(
        &mut self,
        command: &[u8],
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut reply = None;
        for effect in self.card.handle(command, now, &mut self.chance, &self.device) {
            match &mut self.effects_left {
                Some(0) => {
                    self.restart()?;
                    return Ok(reply);
                }
                Some(left) => *left = left.saturating_sub(1),
                None => {}
            }
            match effect {
                Effect::Persist(snapshot) => self.kept = snapshot,
                Effect::Reply(response) => reply = Some(ResponseApdu::encode(&response)),
                Effect::Notify(_) => {}
            }
        }
        Ok(reply)
    }

    /// The reader is gone.
    pub(crate) fn leave(&mut self) {
        self.card.deselect();
    }

    /// What it sends to be given keys, which it remembers.
    ///
    /// # Errors
    /// The wallet cannot be written down.
    pub(crate) fn wants_keys(&mut self, token: TokenId) -> Result<Option<String>, StoreError> {
        let request = self.card.wallet_mut().replenish_request(token, &mut self.chance);
        let request = serde_json::to_string(&request).ok();
        self.kept = self.card.wallet_mut().snapshot()?;
        Ok(request)
    }

    /// Takes keys, if it still wants them: whether it did.
    pub(crate) fn takes_keys(&mut self, token: TokenId, answer: &[u8], now: Timestamp) -> bool {
        let Ok(sealed) = serde_json::from_slice::<SealedPayload>(answer) else { return false };
        match self.card.wallet_mut().accept(token, &sealed, now) {
            Ok(snapshot) => {
                self.kept = snapshot;
                true
            }
            Err(_) => false,
        }
    }

    /// The wallet, while the phone is set up.
    pub(crate) fn wallet(&mut self) -> &mut Wallet {
        self.card.wallet_mut()
    }

    /// What it keeps.
    pub(crate) fn into_kept(self) -> Snapshot {
        self.kept
    }
}
