//! Keys of cards inside a module: made on the way, kept for a while, cleared away in bulk.
//!
//! Limited-use keys are kept for a while ([`AtHand`]). What is used up at once lies in a session of its own,
//! which is closed and opened again when it holds a number of objects.

use std::time::Duration;

use aws_lc_rs::hmac;
use tapfer_emv::keys::{limited_use_key_data, session_key_data, token_key_data};
use tapfer_payment_types::Secret;
use tapfer_pkcs11::{Calls, KeyHandle, KeyType, Mechanism, Module, Session, Template, Token, Use};

use super::at_hand::{AtHand, Bounds};
use super::objects::KeyId;
use super::{CacheLimits, Fault};
use crate::HsmError;
use crate::vault::CardKeyPath;

/// Names a limited-use key without saying whose it is: a keyed hash, with a key of this login.
type Name = [u8; 16];

/// Keys of cards, and the sessions that they live in.
pub(super) struct CardKeys {
    limited_use_keys: AtHand<Name>,
    scratch: Session,
    /// Objects in the scratch session.
    used_up: usize,
    limits: CacheLimits,
    naming: hmac::Key,
    calls: Calls,
    housekeeping: u64,
}

impl CardKeys {
    pub(super) fn open(
        module: &Module,
        token: &Token,
        limits: CacheLimits,
        now: Duration,
        calls: &Calls,
    ) -> Result<Self, Fault> {
        let bounds = Bounds { number: limits.limited_use_keys, age: limits.age };
        let scratch = module.open_session(token, false)?;
        let mut naming = Secret::new([0; 32]);
        scratch.random(naming.expose_mut())?;
        Ok(Self {
            limited_use_keys: AtHand::open(module, token, bounds, now)?,
            scratch,
            used_up: 0,
            limits,
            naming: hmac::Key::new(hmac::HMAC_SHA256, naming.expose()),
            calls: calls.clone(),
            housekeeping: 0,
        })
    }

    pub(super) const fn housekeeping_calls(&self) -> u64 {
        self.housekeeping
    }

    pub(super) fn cached(&self) -> usize {
        self.limited_use_keys.count()
    }

    /// Closes all limited-use keys: whose they are cannot be told from their names.
    pub(super) fn clear(
        &mut self,
        module: &Module,
        token: &Token,
        now: Duration,
    ) -> Result<(), Fault> {
        Ok(self.limited_use_keys.clear(module, token, now)?)
    }

    /// A session for what is used up at once. Each call of this counts as one object more.
    pub(super) fn scratch(&mut self, module: &Module, token: &Token) -> Result<&Session, Fault> {
        if self.used_up >= self.limits.used_up {
            let before = self.calls.total();
            self.scratch = module.open_session(token, false)?;
            self.used_up = 0;
            self.housekeeping =
                self.housekeeping.saturating_add(self.calls.total().saturating_sub(before));
        }
        self.used_up = self.used_up.saturating_add(1);
        Ok(&self.scratch)
    }

    /// A cryptogram inside: derive, C_SignInit, C_Sign, and two derivations before them if the limited-use
    /// key is not at hand.
    pub(super) fn cryptogram(
        &mut self,
        place: (&Module, &Token, Duration),
        mechanism: Mechanism,
        master: (KeyId, KeyHandle),
        path: &CardKeyPath<'_>,
        message: &[u8],
    ) -> Result<[u8; 16], Fault> {
        let (module, token, _) = place;
        let limited_use_key = self.limited_use_key(place, mechanism, master, path)?;
        let session = self.scratch(module, token)?;
        let block = session_key_data(path.application_transaction_counter);
        let session_key =
            session.derive(mechanism, limited_use_key, &block, &inside(&[Use::Sign]))?;
        let mut out = [0; 16];
        let written = session.sign(Mechanism::AesCmac, session_key, message, &mut out)?;
        if written != out.len() {
            return Err(HsmError::Internal { operation: "reading a CMAC" }.into());
        }
        Ok(out)
    }

    fn limited_use_key(
        &mut self,
        (module, token, now): (&Module, &Token, Duration),
        mechanism: Mechanism,
        (master_id, master): (KeyId, KeyHandle),
        path: &CardKeyPath<'_>,
    ) -> Result<KeyHandle, Fault> {
        self.tidy(module, token, now)?;
        let name = self.name(&master_id, path);
        if let Some(handle) = self.limited_use_keys.get(&name) {
            return Ok(handle);
        }
        let token_data = token_key_data(path.token_pan, path.sequence);
        let derives = inside(&[Use::Derive]);
        let session = self.scratch(module, token)?;
        let token_key = session.derive(mechanism, master, token_data.expose(), &derives)?;
        let data = limited_use_key_data(path.key_class, path.key_index);
        let handle =
            self.limited_use_keys.session().derive(mechanism, token_key, &data, &derives)?;
        self.limited_use_keys.keep(name, handle);
        Ok(handle)
    }

    /// Closes what is too old or too much.
    pub(super) fn tidy(
        &mut self,
        module: &Module,
        token: &Token,
        now: Duration,
    ) -> Result<(), Fault> {
        let before = self.calls.total();
        self.limited_use_keys.tidy(module, token, now)?;
        self.housekeeping =
            self.housekeeping.saturating_add(self.calls.total().saturating_sub(before));
        Ok(())
    }

    fn name(&self, master: &KeyId, path: &CardKeyPath<'_>) -> Name {
        let mut context = hmac::Context::with_key(&self.naming);
        context.update(master);
        context.update(token_key_data(path.token_pan, path.sequence).expose());
        context.update(&limited_use_key_data(path.key_class, path.key_index));
        context.sign().as_ref().first_chunk().copied().unwrap_or_default()
    }
}

/// A derived AES-128 key that stays inside.
pub(super) fn inside(uses: &[Use]) -> Template {
    Template::key(KeyType::Aes).stays(false).extractable(false).length(16).only_for(uses)
}

/// A derived AES-128 key that is read out and destroyed.
pub(super) fn to_be_read() -> Template {
    Template::key(KeyType::Aes).stays(false).extractable(true).length(16).only_for(&[])
}
