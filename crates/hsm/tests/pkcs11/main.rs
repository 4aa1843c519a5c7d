//! The vault in a PKCS#11 module, with two real modules, poorer ones, and one that breaks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    unreachable_pub,
    missing_docs
)]

/// Makes a test of every clause for both modules.
macro_rules! both {
    ($($clause:ident)*) => {
        mod softhsm {
            use tapfer_test_tokens::{Kind, isolated};
            $(#[test] fn $clause() { isolated(Kind::SoftHsm, |place| super::$clause(place)); })*
        }
        mod kryoptic {
            use tapfer_test_tokens::{Kind, isolated};
            $(#[test] fn $clause() { isolated(Kind::Kryoptic, |place| super::$clause(place)); })*
        }
    };
}

mod cache;
mod capabilities;
mod drill;
mod faults;
mod keys;
mod roots;
mod thief;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex, LimitedUseKey};
use tapfer_hsm::pkcs11::{CacheLimits, Pkcs11Configuration, Pkcs11Key, Pkcs11Vault};
use tapfer_hsm::software::RootKeys;
use tapfer_hsm::vault::{CardKeyPath, Custody, KeyAlgorithm, Vault};
use tapfer_payment_types::{PanSequenceNumber, RealmId, Secret, Timestamp, TokenPan};
use tapfer_test_tokens::{Place, user_pin};

const TOKEN: &str = "member one";
const MASTER: [u8; 16] = [0x2D; 16];
const MESSAGE: [u8; 61] = [0x5A; 61];

fn realm(number: u8) -> RealmId {
    RealmId::new(Timestamp::from_unix_millis(1), [number; 10])
}

fn roots(sealing: u8, releasing: u8) -> RootKeys {
    RootKeys::new(Secret::new([sealing; 32]), Secret::new([releasing; 32]))
}

/// A clock that a test moves.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

struct Setup {
    module: PathBuf,
    token: String,
    limits: CacheLimits,
    clock: Clock,
}

impl Setup {
    fn at(place: &Place) -> Self {
        Self {
            module: place.kind.module(),
            token: TOKEN.to_owned(),
            limits: CacheLimits::default(),
            clock: Clock::default(),
        }
    }

    fn configuration(&self) -> Pkcs11Configuration {
        let clock = self.clock.clone();
        Pkcs11Configuration {
            module: self.module.clone(),
            token: self.token.clone(),
            pin: user_pin(),
            login_record: None,
            realm: realm(1),
            limits: self.limits,
            stopwatch: Box::new(move || Duration::from_secs(clock.0.load(Ordering::Relaxed))),
        }
    }

    fn install(&self) {
        Pkcs11Vault::install_roots(&self.configuration(), &roots(0x11, 0x22)).unwrap();
    }

    fn open(&self) -> Pkcs11Vault {
        Pkcs11Vault::open(self.configuration()).unwrap()
    }
}

/// A token with roots, opened.
fn vault(place: &Place) -> Pkcs11Vault {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    setup.install();
    setup.open()
}

fn token_pan() -> TokenPan {
    "9990770996775434".parse().unwrap()
}

fn sequence() -> PanSequenceNumber {
    PanSequenceNumber::new(1).unwrap()
}

fn index(counter: u8) -> KeyIndex {
    KeyIndex::at("2026-11-22T04:00:00Z".parse().unwrap(), counter).unwrap()
}

fn master(vault: &Pkcs11Vault) -> Pkcs11Key {
    let clear = Secret::new(MASTER.to_vec());
    let algorithm = KeyAlgorithm::CardKeyDerivation;
    let key = vault.import(algorithm, Custody::Sealed, &clear).unwrap();
    vault.load(algorithm, Custody::Sealed, &key.wrapped).unwrap()
}

fn cryptogram_with(
    vault: &Pkcs11Vault,
    master: &Pkcs11Key,
    index: KeyIndex,
    counter: u16,
) -> [u8; 8] {
    try_cryptogram(vault, master, index, counter).unwrap()
}

fn try_cryptogram(
    vault: &Pkcs11Vault,
    master: &Pkcs11Key,
    index: KeyIndex,
    counter: u16,
) -> Result<[u8; 8], tapfer_hsm::HsmError> {
    let token_pan = token_pan();
    let path = CardKeyPath {
        token_pan: &token_pan,
        sequence: sequence(),
        key_class: KeyClass::Unverified,
        key_index: index,
        application_transaction_counter: counter,
    };
    vault.application_cryptogram(master, &path, &MESSAGE)
}

fn limited_use_key(index: KeyIndex) -> LimitedUseKey {
    IssuerMasterKey::new(MASTER)
        .token_key(&token_pan(), sequence())
        .limited_use_key(KeyClass::Unverified, index)
}

/// What RustCrypto says.
fn expected(index: KeyIndex, counter: u16) -> [u8; 8] {
    let key = limited_use_key(index).session_key(counter);
    tapfer_emv::cryptogram::application_cryptogram(&key, &MESSAGE)
}
