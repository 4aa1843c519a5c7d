//! The wallet of a phone in a directory: what an app keeps in its sandbox and its key store.
//!
//! | file | what |
//! |---|---|
//! | `wallet.sealed` | the wallet, sealed by `tapfer_wallet::store` |
//! | `store.key` | the device's half of the key it is sealed with; on a phone this is in the key store |
//! | `phone.json` | who this phone is for the platform: a device with its API key for each issuer |
//! | `dev_....tls.json` | with which TLS key and certificate that device proves it |
//!
//! The other half is the platform's. It is fetched in the device's name each time the wallet is
//! opened, and never written down: see [`StoreKeeper`].
//!
//! The directory is locked while a process uses the wallet: two at once would use a counter twice.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rand_core::Rng as _;
use serde::{Deserialize, Serialize};
use tapfer_payment_types::store_share::{StoreReport, StoreShareMessage};
use tapfer_payment_types::{DeviceId, TokenId};
use tapfer_wallet::store::{ClosedStore, DeviceSecret, FileMedium, SealedStore, StoreShare};
use tapfer_wallet::{Snapshot, Wallet};
use tapfer_wallet_file::PrivateDirectory;
use zeroize::Zeroizing;

use crate::client::{Client, is_undecided};
use crate::clock;
use crate::context::Context;
use crate::home::{create_private_directory, write_private};
use crate::store_keeper::{Confirmation, StoreKeeper};
use crate::tls_identity;

/// Name of the sealed wallet.
const WALLET_FILE: &str = FileMedium::<PrivateDirectory>::NAME;
/// Name of the file that says who the phone is.
pub(crate) const PHONE_FILE: &str = "phone.json";

/// A wallet in its directory, in use by this process alone.
pub(crate) struct WalletStore {
    directory: PathBuf,
    sealed: SealedStore<FileMedium<PrivateDirectory>>,
    /// Released by the operating system when the process ends, however it ends.
    _lock: File,
}

/// Who the phone is for the platform.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Phone {
    /// A registration with each issuer whose cards it holds, by the issuer's id.
    pub(crate) registrations: BTreeMap<String, Registration>,
    /// The issuer of each token.
    pub(crate) issuers: BTreeMap<String, String>,
    /// The issuer under whose registration the platform keeps its share of the store: the first.
    pub(crate) store_keeper: Option<String>,
    /// Where all this lies.
    #[serde(skip)]
    directory: PathBuf,
}

/// What the platform gave the phone when it was registered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Registration {
    /// Device id.
    pub(crate) device: String,
    /// The device's API key.
    pub(crate) api_key: String,
}

impl Phone {
    /// Who the phone in a directory is; nobody yet if it was never enrolled.
    pub(crate) fn read(directory: &Path) -> anyhow::Result<Self> {
        let file = directory.join(PHONE_FILE);
        match fs::read(&file) {
            Ok(bytes) => {
                let read: Self = serde_json::from_slice(&bytes)
                    .with_context(|| format!("{} is damaged: enrol again", file.display()))?;
                Ok(Self { directory: directory.to_owned(), ..read })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { directory: directory.to_owned(), ..Self::default() })
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Writes down who the phone in a directory is.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        write_private(&directory.join(PHONE_FILE), &serde_json::to_vec_pretty(self)?)
    }

    /// The issuer of a token.
    pub(crate) fn issuer(&self, token: TokenId) -> anyhow::Result<&str> {
        let issuer = self.issuers.get(&token.to_string()).map(String::as_str);
        issuer.context("the wallet is not enrolled: run `tapfer wallet enrol`")
    }

    /// Puts a registration down. The first one keeps the share of the store.
    pub(crate) fn register(&mut self, issuer: &str, registration: Registration) {
        self.store_keeper.get_or_insert_with(|| issuer.to_owned());
        self.registrations.insert(issuer.to_owned(), registration);
    }

    /// The registration under which the platform keeps its share of the store.
    pub(crate) fn store_keeper(&self) -> Option<&Registration> {
        self.registrations.get(self.store_keeper.as_ref()?)
    }

    /// A client in whose name this token's keys are fetched.
    pub(crate) fn client(&self, context: &Context, token: TokenId) -> anyhow::Result<Client> {
        let registration = self.registrations.get(self.issuer(token)?);
        let missing = "the phone is not registered: run `tapfer wallet enrol`";
        self.client_as(context, registration.context(missing)?)
    }

    /// A client in the name of a registration, with the phone's certificate.
    pub(crate) fn client_as(
        &self,
        context: &Context,
        registration: &Registration,
    ) -> anyhow::Result<Client> {
        let device: DeviceId = registration.device.parse()?;
        let with_key = registration.api_key.clone();
        let with_key = context.access.client_with_key(&context.home, with_key)?;
        let file = self.directory.join(format!("{device}.tls.json"));
        tls_identity::connect(&context.home, &file, with_key)
    }
}

impl WalletStore {
    /// Opens the wallet in a directory, with the platform's share if the phone is registered, and moves it
    /// to the next epoch: a copy from before this start opens nothing from now on.
    ///
    /// # Errors
    /// No wallet there, in use by another process, or damaged; the platform can't be reached, or
    /// withholds its share.
    pub(crate) fn open(context: &Context, directory: &Path) -> anyhow::Result<(Self, Wallet)> {
        let share = |report| keeper(context, directory)?.share(report);
        let (mut store, mut wallet) = Self::open_by(directory, share)?;
        if store.sealed.epoch() > 0 {
            match store.move_on(context, &mut wallet) {
                // It is open: what a platform that is silent or broken cannot be asked now, it is asked at the
                // next start.
                Err(error) if !is_undecided(&error) => return Err(error),
                _ => {}
            }
        }
        Ok((store, wallet))
    }

    /// Opens the wallet in a directory with a share that was fetched before, where there is no network.
    pub(crate) fn open_with(share: StoreShare, directory: &Path) -> anyhow::Result<(Self, Wallet)> {
        Self::open_by(directory, |_| Ok(share))
    }

    /// The share that opens the wallet in a directory; `None` if it opens without one.
    pub(crate) fn share(
        context: &Context,
        directory: &Path,
    ) -> anyhow::Result<Option<StoreShareMessage>> {
        let (_lock, closed) = find(directory)?;
        let report = closed.report();
        report.map(|report| keeper(context, directory)?.message(report)).transpose()
    }

    fn open_by(
        directory: &Path,
        fetch: impl FnOnce(StoreReport) -> anyhow::Result<StoreShare>,
    ) -> anyhow::Result<(Self, Wallet)> {
        let (lock, closed) = find(directory)?;
        let share = closed.report().map(fetch).transpose()?;
        let opened = closed.open(share.as_ref());
        let (sealed, wallet) = opened.with_context(|| cannot_open(directory))?;
        Ok((Self { directory: directory.to_owned(), sealed, _lock: lock }, wallet))
    }

    /// Opens the wallet in a directory, or makes an empty one.
    pub(crate) fn open_or_create(
        context: &Context,
        directory: &Path,
    ) -> anyhow::Result<(Self, Wallet)> {
        if directory.join(WALLET_FILE).exists() {
            return Self::open(context, directory);
        }
        if Phone::read(directory)?.store_keeper().is_some() {
            bail!(
                "{} is gone, but phone.json says that this phone is registered: restore it, or remove \
                 the directory and enrol the cards again",
                directory.join(WALLET_FILE).display()
            );
        }
        create_private_directory(directory)?;
        let lock = lock(directory)?;
        let mut secret = Zeroizing::new([0_u8; 32]);
        clock::random().fill_bytes(secret.as_mut());
        write_private(&directory.join("store.key"), secret.as_ref())?;
        let mut wallet = Wallet::new(&mut clock::random());
        let secret = DeviceSecret::new(*secret);
        let sealed =
            SealedStore::create(medium(directory), secret, &mut wallet, &mut clock::random())?;
        Ok((Self { directory: directory.to_owned(), sealed, _lock: lock }, wallet))
    }

    /// Replaces the stored wallet in one step; durable when it returns.
    pub(crate) fn save(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        Ok(self.sealed.keep(snapshot, &mut clock::random())?)
    }

    /// As [`Self::save`], but under the platform's share of the next epoch. What to tell the platform
    /// then.
    pub(crate) fn save_in_next_epoch(
        &mut self,
        keeper: &StoreKeeper,
        share: &StoreShare,
        snapshot: &Snapshot,
    ) -> anyhow::Result<Confirmation> {
        self.sealed.reseal(share, snapshot, &mut clock::random())?;
        Ok(keeper.confirmation(self.sealed.report()))
    }

    /// Moves the store of a phone that was just registered to its first epoch, before keys are put
    /// into it.
    pub(crate) fn take_first_share(
        &mut self,
        context: &Context,
        wallet: &mut Wallet,
    ) -> anyhow::Result<()> {
        if self.sealed.epoch() > 0 {
            return Ok(());
        }
        self.move_on(context, wallet)
    }

    /// Moves the store to the next epoch, and tells the platform.
    fn move_on(&mut self, context: &Context, wallet: &mut Wallet) -> anyhow::Result<()> {
        let keeper = keeper(context, &self.directory)?;
        let share = keeper.next_share(self.report())?;
        self.save_in_next_epoch(&keeper, &share, &wallet.snapshot()?)?.run()
    }

    /// The epoch and the snapshot that are durable.
    pub(crate) const fn report(&self) -> StoreReport {
        self.sealed.report()
    }

    /// Who the phone is for the platform.
    pub(crate) fn phone(&self) -> anyhow::Result<Phone> {
        Phone::read(&self.directory)
    }

    /// Remembers who the phone is for the platform.
    pub(crate) fn save_phone(&self, phone: &Phone) -> anyhow::Result<()> {
        phone.write(&self.directory)
    }
}

/// Looks for the wallet in a directory, and takes it for this process.
fn find(directory: &Path) -> anyhow::Result<(File, ClosedStore<FileMedium<PrivateDirectory>>)> {
    if !directory.join(WALLET_FILE).exists() {
        bail!(
            "no wallet in {}: make one with `tapfer wallet enrol` or `tapfer init`",
            directory.display()
        );
    }
    let lock = lock(directory)?;
    let describe = || cannot_open(directory);
    let found = ClosedStore::find(medium(directory), read_secret(directory)?);
    Ok((lock, found.with_context(describe)?.with_context(describe)?))
}

fn cannot_open(directory: &Path) -> String {
    format!("cannot open {}", directory.join(WALLET_FILE).display())
}

/// Who keeps the share of the wallet in a directory.
fn keeper(context: &Context, directory: &Path) -> anyhow::Result<StoreKeeper> {
    StoreKeeper::of(context, &Phone::read(directory)?)?.with_context(|| {
        format!(
            "{} does not say which device this phone is, and the wallet opens only with the platform's \
             share: restore it, or remove the directory and enrol the cards again",
            directory.join(PHONE_FILE).display()
        )
    })
}

/// Takes the wallet for this process. The directory itself is locked: a file in it could be removed,
/// and a second process would lock another.
fn lock(directory: &Path) -> anyhow::Result<File> {
    let lock =
        File::open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!(
            "the wallet in {} is in use by another process, such as `tapfer card serve`, which \
             fetches keys by itself: stop that one first",
            directory.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", directory.display()))
        }
    }
}

fn medium(directory: &Path) -> FileMedium<PrivateDirectory> {
    FileMedium::new(PrivateDirectory::at(directory))
}

fn read_secret(directory: &Path) -> anyhow::Result<DeviceSecret> {
    let file = directory.join("store.key");
    let bytes =
        Zeroizing::new(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    let secret = <[u8; 32]>::try_from(bytes.as_slice())
        .with_context(|| format!("{} is not a key of 32 bytes", file.display()))?;
    Ok(DeviceSecret::new(secret))
}
