//! What every change of a key needs: a name, a reason, the audit log, and a vault.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use tapfer_hsm::SoftwareHsm;
use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyRecord, UnverifiedCatalogue};
use tapfer_hsm::custody::{KeyCustody, KeyPolicy};
use tapfer_server::{KeyAudit, RealmPaths, members};

use crate::ceremony::lock_memory;
use crate::context::Context;
use crate::home::Home;
use crate::output::Output;
use crate::{toml_file, unlock};

/// What these commands read of the environment themselves.
const OWN_VARIABLES: [&str; 7] =
    ["LOGNAME", "NO_COLOR", "SUDO_USER", "TAPFER_HOME", "TAPFER_LANGUAGE", "TERM", "USER"];

/// Who changes a key, and why: for the audit log.
#[derive(Debug, Clone, Args)]
pub(crate) struct Order {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Who orders it, for the audit log [default: the name at this machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

impl Order {
    /// The audit log, open.
    ///
    /// # Errors
    /// There is no realm, or its database does not open.
    pub(crate) fn audit(&self, context: &Context) -> anyhow::Result<KeyAudit> {
        Ok(KeyAudit::open(&context.home.realm(), &self.who(), &self.reason)?)
    }

    /// Who orders it.
    pub(crate) fn who(&self) -> String {
        let at_this_machine = || {
            let name = ["SUDO_USER", "USER", "LOGNAME"]
                .into_iter()
                .find_map(|name| std::env::var(name).ok());
            name.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
        };
        who(&self.by.clone().unwrap_or_else(at_this_machine))
    }
}

/// A name as it was given, and whom the system takes that person for.
pub(crate) fn who(name: &str) -> String {
    format!("{name} (user {} of this machine)", rustix::process::getuid().as_raw())
}

/// What opens the realm's vault.
#[derive(Debug, Clone, Args)]
pub(crate) struct Vault {
    /// File with the passphrase of the key store [env: TAPFER_PASSPHRASE, or TAPFER_UNLOCK_KEY: 64
    /// hexadecimal digits]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl Vault {
    /// Opens the realm's keys, beside a platform that may run.
    ///
    /// # Errors
    /// Nothing opens the vault, or the catalogue is not its own.
    pub(crate) fn open(&self, context: &Context) -> anyhow::Result<Box<dyn KeyCustody>> {
        let paths = context.home.realm();
        if paths.hsm_configuration().exists() {
            return open_in_hsm(context.output, &paths);
        }
        let _is_locked = lock_memory(context.output);
        let unlock = unlock::find(&context.home, self.passphrase_file.as_deref())?;
        Ok(Box::new(SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), &unlock)?))
    }
}

/// The first member of `hsm.toml`: every one has the same root keys. Its module reads its settings from the
/// environment, so this process goes on as another one, with those in it and without anything that is none of a
/// vendor's business.
fn open_in_hsm(output: Output, paths: &RealmPaths) -> anyhow::Result<Box<dyn KeyCustody>> {
    let config = members::configuration(paths)?;
    let member = config.members.first().context("hsm.toml names no member")?;
    if members::has_environment(member, &OWN_VARIABLES) {
        let _is_locked = lock_memory(output);
        return Ok(Box::new(members::open_beside(paths, &member.name)?));
    }
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1));
    members::give_environment(&mut again, member, &OWN_VARIABLES);
    Err(again.exec()).context("this program cannot start itself with the module's environment")
}

/// What the catalogue's file says, which nobody has verified.
///
/// # Errors
/// There is none, or it is none.
pub(crate) fn catalogue_as_it_says(context: &Context) -> anyhow::Result<Vec<KeyRecord>> {
    let file = context.home.realm().catalogue();
    let bytes =
        fs::read(&file).with_context(|| format!("the catalogue of keys {}", file.display()))?;
    let read = UnverifiedCatalogue::parse(&bytes).with_context(|| file.display().to_string())?;
    Ok(read.records().cloned().collect())
}

/// `keys.toml` of the realm, if there is one.
///
/// # Errors
/// It does not read.
pub(crate) fn policy(home: &Home) -> anyhow::Result<KeyPolicy> {
    let file = home.path().join("keys.toml");
    if !file.exists() {
        return Ok(KeyPolicy::default());
    }
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    toml_file::parse(&text).with_context(|| file.display().to_string())
}

/// The generation named, or the newest one that there is.
pub(crate) fn named(
    records: &[KeyRecord],
    owner: KeyOwner,
    purpose: KeyPurpose,
    generation: Option<u8>,
) -> anyhow::Result<KeyName> {
    let same = |record: &&KeyRecord| (record.name.owner, record.name.purpose) == (owner, purpose);
    let newest = records.iter().filter(same).map(|record| record.name.generation).max();
    let newest = newest
        .with_context(|| format!("{owner} has no key for {purpose}; see `tapfer keys list`"))?;
    Ok(KeyName { owner, purpose, generation: generation.unwrap_or(newest) })
}
