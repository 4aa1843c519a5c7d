//! Keys that are kept inside a module for a while: bounded in number and age, and cleared away in bulk.
//!
//! To destroy a session object costs a call, to close the session that made it costs one for all of them. So
//! keys live in two generations, each in a session of its own: when the young one is full or old it becomes
//! the old one, and the session of the one before is closed.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tapfer_pkcs11::{Error, KeyHandle, Module, Session, Token};

/// Bounds of what is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// At most so many keys.
    pub(super) number: usize,
    /// None of them older than this.
    pub(super) age: Duration,
}

/// Keys that were made at about the same time.
struct Generation<N> {
    session: Session,
    keys: HashMap<N, KeyHandle>,
    began: Duration,
}

impl<N> Generation<N> {
    fn begin(module: &Module, token: &Token, now: Duration) -> Result<Self, Error> {
        let session = module.open_session(token, false)?;
        Ok(Self { session, keys: HashMap::new(), began: now })
    }
}

/// Keys at hand, by name.
pub(super) struct AtHand<N> {
    young: Generation<N>,
    old: Option<Generation<N>>,
    bounds: Bounds,
}

impl<N: Eq + Hash> AtHand<N> {
    pub(super) fn open(
        module: &Module,
        token: &Token,
        bounds: Bounds,
        now: Duration,
    ) -> Result<Self, Error> {
        Ok(Self { young: Generation::begin(module, token, now)?, old: None, bounds })
    }

    pub(super) fn count(&self) -> usize {
        let old = self.old.as_ref().map_or(0, |old| old.keys.len());
        self.young.keys.len().saturating_add(old)
    }

    pub(super) fn get(&self, name: &N) -> Option<KeyHandle> {
        let old = self.old.as_ref();
        let known = self.young.keys.get(name).or_else(|| old.and_then(|old| old.keys.get(name)));
        known.copied()
    }

    /// The session in which the next key is made, to be handed to [`Self::keep`].
    pub(super) const fn session(&self) -> &Session {
        &self.young.session
    }

    pub(super) fn keep(&mut self, name: N, key: KeyHandle) {
        self.young.keys.insert(name, key);
    }

    /// Destroys a key, if it is there.
    pub(super) fn destroy(&mut self, name: &N) -> Result<(), Error> {
        for generation in [Some(&mut self.young), self.old.as_mut()].into_iter().flatten() {
            if let Some(key) = generation.keys.remove(name) {
                generation.session.destroy(key)?;
            }
        }
        Ok(())
    }

    /// Closes what is too old or too much. Handles that were given out before may be gone.
    pub(super) fn tidy(
        &mut self,
        module: &Module,
        token: &Token,
        now: Duration,
    ) -> Result<(), Error> {
        let age = |generation: &Generation<N>| now.saturating_sub(generation.began);
        // Half of each bound, because there are two generations.
        let is_full = self.young.keys.len() >= self.bounds.number.div_ceil(2).max(1);
        let half_an_age = self.bounds.age.checked_div(2).unwrap_or_default();
        if is_full || age(&self.young) >= half_an_age {
            let fresh = Generation::begin(module, token, now)?;
            self.old = Some(std::mem::replace(&mut self.young, fresh));
        }
        if self.old.as_ref().is_some_and(|old| age(old) >= self.bounds.age) {
            self.old = None;
        }
        Ok(())
    }

    /// Closes everything.
    pub(super) fn clear(
        &mut self,
        module: &Module,
        token: &Token,
        now: Duration,
    ) -> Result<(), Error> {
        self.young = Generation::begin(module, token, now)?;
        self.old = None;
        Ok(())
    }
}
