//! What every change of a key needs: a name, a reason, the audit log, and a vault.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tapfer_hsm::SoftwareHsm;
use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyRecord, UnverifiedCatalogue};
use tapfer_hsm::custody::{KeyCustody, KeyPolicy};
use tapfer_server::{KeyAudit, RealmPaths, members};

use crate::ceremony::lock_memory;
use crate::child;
use crate::context::Context;
use crate::failure::Ending;
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
            return open_member(context.output, &paths);
        }
        let _is_locked = lock_memory(context.output);
        let unlock = unlock::find(&context.home, self.passphrase_file.as_deref())?;
        Ok(Box::new(SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), &unlock)?))
    }
}

/// Names, to this program started again, the member whose module it is to use.
const MEMBER: &str = "TAPFER_KEYS_MEMBER";

/// This process is the one that was started again for a member.
fn open_member(output: Output, paths: &RealmPaths) -> anyhow::Result<Box<dyn KeyCustody>> {
    let _is_locked = lock_memory(output);
    let member = std::env::var(MEMBER).context("which member of hsm.toml")?;
    Ok(Box::new(members::open_beside(paths, &member)?))
}

/// Runs this very command once more for one member of `hsm.toml` after the other, until one of them has done it: all
/// have the same root keys, so one that serves is enough. Each runs in a process of its own, because a module reads its
/// settings from the environment, may hang, and may take its process with it. `None`: there are no HSMs, or this is that
/// process.
///
/// # Errors
/// No member did it; or one may have done it and did not say so.
pub(crate) fn in_turn(context: &Context) -> anyhow::Result<Option<Ending>> {
    let paths = context.home.realm();
    if !paths.hsm_configuration().exists() || is_in_turn() {
        return Ok(None);
    }
    let config = members::configuration(&paths)?;
    let patience = child::patience(&config.pool);
    let before = catalogue_version(&paths);
    let mut wrong: Vec<(&str, String)> = Vec::new();
    for member in &config.members {
        let said = match child::run_again(member, MEMBER, &OWN_VARIABLES, patience)? {
            Ok(remarks) => {
                // Of those that could not, somebody may have to mend something.
                let wrong = wrong.iter().map(|(away, said)| done_without(&member.name, away, said));
                let remarks = Some(remarks).filter(|remarks| !remarks.is_empty());
                remarks.into_iter().chain(wrong).for_each(|remark| context.output.remark(remark));
                return Ok(Some(Ending::Done));
            }
            Err(said) => said,
        };
        // Whoever died with the change made must not have it made twice.
        ensure!(
            catalogue_version(&paths) == before,
            "member {}: {said}; the catalogue was changed meanwhile, by this command or another: look at `tapfer keys \
             list` before you try again",
            member.name
        );
        wrong.push((&member.name, said));
    }
    let wrong: Vec<_> = wrong.iter().map(|(member, said)| format!("{member}: {said}")).collect();
    bail!(
        "no member of hsm.toml did it, and nothing was changed: {}. Give the command again when one of them answers",
        wrong.join("; ")
    )
}

/// Of a member that was asked in vain, for who reads this last: it was done all the same. The member has nothing of it on
/// its token: what was changed is in the catalogue, which its processes read again.
fn done_without(done_by: &str, away: &str, said: &str) -> String {
    format!(
        "It is done, by {done_by}. {away} was asked before and could not do it: {said}. Nothing is to be repeated for {away}: \
         it goes by the changed keys.json as soon as it serves again. Why it does not: tapfer hsm status"
    )
}

/// Whether this process was started again for a member, by [`in_turn`].
pub(crate) fn is_in_turn() -> bool {
    std::env::var_os(MEMBER).is_some()
}

fn catalogue_version(paths: &RealmPaths) -> Option<u64> {
    let bytes = fs::read(paths.catalogue()).ok()?;
    UnverifiedCatalogue::parse(&bytes).ok().map(|catalogue| catalogue.version())
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
