//! An open connection to a token: everything that ends with a login.

use std::time::Duration;

use tapfer_pkcs11::{Calls, KeyHandle, Mechanism, Module, Session, Token};

use super::at_hand::{AtHand, Bounds};
use super::capability::{self, Choices, Negotiated, Operation};
use super::card_keys::CardKeys;
use super::login::log_in;
use super::objects::{KeyId, Pkcs11Key};
use super::roots::{self, RootFingerprints, Roots, Whose};
use super::{Fault, ModuleReport, Pkcs11Configuration, guard};
use crate::HsmError;
use crate::vault::{Custody, KeyAlgorithm};

/// Sessions, handles, and what was found out about the module. Dropped as a whole.
pub(super) struct Link {
    /// Keys of cards, in sessions of their own.
    pub(super) cards: CardKeys,
    /// Keys of the catalogue that were used of late.
    loaded: AtHand<KeyId>,
    negotiated: Negotiated,
    fingerprints: RootFingerprints,
    /// What guards roots on this module, and not these.
    lacking: Vec<Operation>,
    whose: Whose,
    roots: Roots,
    /// The session that is logged in, and may write.
    pub(super) session: Session,
    token: Token,
    /// Behind the sessions, which have to be closed before it ends.
    module: Module,
}

impl Link {
    /// Logs in, finds the roots, and tries what the module can do, unless that is known from an earlier
    /// login. Gives the module back if that fails.
    pub(super) fn open(
        module: Module,
        (configuration, whose): (&Pkcs11Configuration, Whose),
        known: Option<&Negotiated>,
        calls: &Calls,
    ) -> Result<Self, (Module, Fault)> {
        let parts = || -> Result<_, Fault> {
            let token = module.token(&configuration.token)?;
            let record = configuration.login_record.as_ref();
            let session = log_in(&module, &token, &configuration.pin, record)?;
            let roots = roots::find(&session, whose)?;
            let negotiated = match known {
                Some(known) => known.clone(),
                None => capability::negotiate(&module, &token)?,
            };
            let fingerprints = roots::fingerprints(&session, roots)?;
            let at = (&module, &token);
            let lacking = guard::lacking(at, &session, (roots, whose), &negotiated.choices)?;
            let (limits, now) = (configuration.limits, (configuration.stopwatch)());
            let cards = CardKeys::open(&module, &token, limits, now, calls)?;
            let bounds = Bounds { number: limits.catalogue_keys, age: limits.age };
            let loaded = AtHand::open(&module, &token, bounds, now)?;
            Ok((token, session, (roots, fingerprints, lacking), negotiated, cards, loaded))
        };
        match parts() {
            Err(fault) => Err((module, fault)),
            Ok((token, session, (roots, fingerprints, lacking), negotiated, cards, loaded)) => {
                Ok(Self {
                    cards,
                    loaded,
                    negotiated,
                    fingerprints,
                    lacking,
                    whose,
                    roots,
                    session,
                    token,
                    module,
                })
            }
        }
    }

    /// Uses the roots: a session may outlive what is on the token, and they are what everything needs.
    ///
    /// # Errors
    /// They are gone, or others.
    pub(super) fn look_at_roots(&self) -> Result<(), Fault> {
        if roots::fingerprints(&self.session, self.roots)? == self.fingerprints {
            return Ok(());
        }
        let operation = "asking for its health".to_owned();
        let cause = "the root keys are not those of when it was opened".to_owned();
        Err(HsmError::ModuleFailed { operation, cause }.into())
    }

    /// To tell whether the roots are those of before.
    pub(super) const fn fingerprints(&self) -> RootFingerprints {
        self.fingerprints
    }

    /// Closes all sessions.
    pub(super) fn into_module(self) -> Module {
        self.module
    }

    pub(super) const fn is_hardware(&self) -> bool {
        self.token.description.is_hardware
    }

    pub(super) fn report(&self) -> Result<ModuleReport, Fault> {
        let module = self.module.describe()?;
        Ok(ModuleReport {
            module: format!(
                "{} {}, PKCS#11 {}",
                module.manufacturer, module.library, module.pkcs11
            ),
            token: self.token.description.to_string(),
            roots: self.fingerprints,
            capabilities: guard::tell(
                self.negotiated.capabilities.clone(),
                &self.lacking,
                self.whose,
            ),
        })
    }

    /// What was found out about the module.
    pub(super) const fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    pub(super) const fn choices(&self) -> Choices {
        self.negotiated.choices
    }

    pub(super) const fn root(&self, custody: Custody) -> KeyHandle {
        match custody {
            Custody::Sealed => self.roots.sealing,
            Custody::Releasable => self.roots.releasing,
        }
    }

    /// How keys of this algorithm are wrapped.
    pub(super) const fn wrapping(&self, algorithm: KeyAlgorithm) -> Mechanism {
        match algorithm {
            KeyAlgorithm::Signing | KeyAlgorithm::Agreement => self.choices().document_wrap,
            _ => Mechanism::AesKeyWrap,
        }
    }

    /// The handle of a key of the catalogue, unwrapped if it is not at hand. It holds until the next one is asked
    /// for.
    pub(super) fn key(&mut self, key: &Pkcs11Key, now: Duration) -> Result<KeyHandle, Fault> {
        self.loaded.tidy(&self.module, &self.token, now)?;
        if let Some(handle) = self.loaded.get(&key.id) {
            return Ok(handle);
        }
        let template = key.template(&self.choices());
        let mechanism = self.wrapping(key.algorithm);
        let root = self.root(key.custody);
        let handle = match self.loaded.session().unwrap(mechanism, root, &key.wrapped, &template) {
            Ok(handle) => handle,
            Err(error) if self.choices().says_spoiled(&error) => {
                // Some modules say the same when they are broken: one that opens what is right is not.
                capability::still_unwraps(&self.session)?;
                return Err(HsmError::NotUnderRoot.into());
            }
            Err(error) => return Err(error.into()),
        };
        self.loaded.keep(key.id, handle);
        Ok(handle)
    }

    /// Closes keys that are too old, also where nobody asks for any.
    pub(super) fn tidy(&mut self, now: Duration) -> Result<(), Fault> {
        self.loaded.tidy(&self.module, &self.token, now)?;
        self.cards.tidy(&self.module, &self.token, now)
    }

    /// Lets go of a key of the catalogue, and of what was derived from it.
    pub(super) fn forget(&mut self, key: &Pkcs11Key, now: Duration) -> Result<(), Fault> {
        self.loaded.destroy(&key.id)?;
        if key.algorithm == KeyAlgorithm::CardKeyDerivation {
            self.cards.clear(&self.module, &self.token, now)?;
        }
        Ok(())
    }

    /// How many keys of the catalogue are at hand.
    pub(super) fn loaded(&self) -> usize {
        self.loaded.count()
    }

    /// A session for objects that are needed for this call only, and the choices made for the module.
    pub(super) fn scratch(&mut self) -> Result<&Session, Fault> {
        self.cards.scratch(&self.module, &self.token)
    }

    /// What the derivations of cards need.
    pub(super) fn card_parts(&mut self) -> (&mut CardKeys, &Module, &Token, Choices) {
        (&mut self.cards, &self.module, &self.token, self.negotiated.choices)
    }
}
