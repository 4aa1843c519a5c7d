//! Where a realm's root keys go: the software keystore, or the HSMs of `hsm.toml`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use tapfer_hsm::pool::{MemberConfig, PoolConfig};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::{CatalogueError, HsmError, SoftwareHsm, Unlock};
use tapfer_payment_types::RealmId;
use tapfer_server::{RealmKind, members};

use super::keeper::Vault;
use crate::context::Context;
use crate::unlock;

/// A vault without root keys yet.
pub(super) enum Place {
    /// A file, and what will open it.
    Keystore(Unlock),
    /// Tokens.
    Hsms(PoolConfig),
}

impl Place {
    /// What the home directory says: HSMs if there is an `hsm.toml`.
    pub(super) fn find(context: &Context, vault: &Vault, kind: RealmKind) -> anyhow::Result<Self> {
        let paths = context.home.realm();
        if paths.hsm_configuration().exists() {
            return Ok(Self::Hsms(members::configuration(&paths)?));
        }
        let file = vault.passphrase_file.as_deref();
        Ok(Self::Keystore(unlock::find_or_make(&context.home, file, kind)?))
    }

    /// Puts the root keys of a new realm there, and makes its catalogue.
    pub(super) fn begin_realm(
        &self,
        context: &Context,
        (kind, realm): (RealmKind, RealmId),
        roots: RootKeys,
    ) -> anyhow::Result<String> {
        let paths = context.home.realm();
        match self {
            Self::Keystore(unlock) => {
                let (keystore, catalogue) = (paths.keystore(), paths.catalogue());
                SoftwareHsm::create_with_roots(&keystore, &catalogue, unlock, kind, realm, roots)?;
                Ok("root keys put into the software keystore, sealed".to_owned())
            }
            Self::Hsms(config) => {
                let told = into_hsms(context, config, realm, &roots)?;
                let vault = SoftwareVault::new(roots);
                SoftwareHsm::with_new_catalogue(vault, &paths.catalogue(), kind, realm)?;
                Ok(told)
            }
        }
    }

    /// Puts root keys that custodians rebuilt there, if they open the realm's catalogue.
    pub(super) fn install(
        &self,
        context: &Context,
        (kind, realm): (RealmKind, RealmId),
        roots: RootKeys,
    ) -> anyhow::Result<String> {
        let paths = context.home.realm();
        let catalogue = paths.catalogue();
        match self {
            Self::Keystore(unlock) => {
                SoftwareHsm::install_roots(
                    &paths.keystore(),
                    &catalogue,
                    unlock,
                    kind,
                    realm,
                    roots,
                )?;
                Ok("root keys open the catalogue, and were put into the software keystore, sealed"
                    .to_owned())
            }
            Self::Hsms(config) => {
                let vault = SoftwareVault::new(RootKeys::from_shared(&roots.to_shared())?);
                let keys = SoftwareHsm::over_catalogue(vault, &catalogue)?;
                if keys.realm_of_catalogue() != (kind, realm) {
                    return Err(HsmError::from(CatalogueError::OtherRealm(catalogue)).into());
                }
                Ok(format!(
                    "root keys open the catalogue; {}",
                    into_hsms(context, config, realm, &roots)?
                ))
            }
        }
    }
}

/// Puts root keys on the token of every member, each in a process of its own: the module reads its
/// settings from the environment, and may take its process with it.
fn into_hsms(
    context: &Context,
    config: &PoolConfig,
    realm: RealmId,
    roots: &RootKeys,
) -> anyhow::Result<String> {
    ensure!(!config.members.is_empty(), "hsm.toml names no member");
    let mut names = Vec::new();
    for member in &config.members {
        into_member(context, member, realm, roots).with_context(|| {
            format!("member {}; done before: [{}]", member.name, names.join(", "))
        })?;
        names.push(member.name.clone());
    }
    Ok(format!("root keys put on the tokens of {}", names.join(", ")))
}

fn into_member(
    context: &Context,
    member: &MemberConfig,
    realm: RealmId,
    roots: &RootKeys,
) -> anyhow::Result<()> {
    let mut process = Command::new(std::env::current_exe()?)
        .arg("--home")
        .arg(context.home.path())
        .args(["hsm", "install-roots", &member.name, &realm.to_string()])
        .envs(&member.environment)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = process.stdin.take().context("a pipe")?;
    input.write_all(roots.to_shared().expose())?;
    drop(input);
    ensure!(
        process.wait()?.success(),
        "its module did not take the root keys; what it said stands above"
    );
    Ok(())
}
