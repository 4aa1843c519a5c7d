//! The HSMs of a second site, as far as a drill uses them.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{self, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use tapfer_hsm::SoftwareHsm;
use tapfer_hsm::pkcs11::RootsOnToken;
use tapfer_hsm::pool::{PinSource, PoolConfig};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_payment_types::RealmId;
use tapfer_server::{RealmKind, members, realm};

use crate::child;
use crate::commands::backup::lines_about;
use crate::home::{Home, write_private};

/// Tokens that are empty before a drill and behind it.
pub(super) struct SecondSite {
    text: String,
    config: PoolConfig,
    /// Its `hsm.toml`, without the ending: refused PINs are remembered beside it, where the site's own platform does.
    begin: PathBuf,
    /// Of which realm root keys may be on the tokens of the first so many members.
    begun: Option<(RealmId, usize)>,
}

impl SecondSite {
    /// Reads the site's own `hsm.toml`.
    ///
    /// # Errors
    /// It does not read, others can write it or what it runs, it names no member, or a PIN's file by where a realm is.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let read = members::configuration_file(file);
        let (config, text) = read.with_context(|| format!("--hsm {}", file.display()))?;
        ensure!(!config.members.is_empty(), "{} names no member", file.display());
        for member in &config.members {
            members::check_module(member).with_context(|| format!("member {}", member.name))?;
            if let PinSource::File(pin) = &member.pin {
                ensure!(
                    pin.is_absolute(),
                    "member {}: a drill has a directory of its own; give the PIN's file as an absolute path",
                    member.name
                );
            }
        }
        let begin = path::absolute(file)?.with_extension("");
        Ok(Self { text, config, begin, begun: None })
    }

    /// Makes the restored realm one that has its root keys in this site's tokens.
    ///
    /// # Errors
    /// The file system.
    pub(super) fn take_over(&self, home: &Home) -> anyhow::Result<()> {
        let paths = home.realm();
        // What is not there cannot help.
        for file in [paths.keystore(), paths.hsm_configuration()] {
            if file.exists() {
                fs::remove_file(&file).with_context(|| file.display().to_string())?;
            }
        }
        write_private(&paths.hsm_configuration(), self.text.as_bytes())?;
        write_private(&paths.drill(), self.begin.as_os_str().as_bytes())
    }

    /// That every token lets itself be logged in to and has no root keys of the realm, before the custodians give theirs.
    ///
    /// # Errors
    /// What is wrong with the first that is not ready.
    pub(super) fn demand_ready(&self, home: &Home) -> anyhow::Result<()> {
        let (_, id) = described(home)?;
        for member in &self.config.members {
            let found = child::ask_member(home, member, "look-for-roots", id, None);
            let found: RootsOnToken = found.with_context(|| format!("member {}", member.name))?;
            ensure!(
                found == RootsOnToken::Neither,
                "member {}: its token has root keys of this realm, so a platform works with them; a drill wants tokens \
                 without",
                member.name
            );
        }
        Ok(())
    }

    /// Puts the root keys on every token, if they open the catalogue; how many keys every one of them opens.
    ///
    /// # Errors
    /// Other root keys; a token that a platform works with; what a module says.
    pub(super) fn begin(&mut self, home: &Home, roots: &RootKeys) -> anyhow::Result<usize> {
        let paths = home.realm();
        let described = described(home)?;
        let vault = SoftwareVault::new(RootKeys::from_shared(&roots.to_shared())?);
        let keys = SoftwareHsm::over_catalogue(vault, &paths.catalogue())?;
        ensure!(keys.realm_of_catalogue() == described, "the catalogue is another realm's");
        let (_, id) = described;
        let mut opened = None;
        for (member, number) in self.config.members.iter().zip(1..) {
            self.begun = Some((id, number));
            let count: usize = child::ask_member(home, member, "begin-drill", id, Some(roots))
                .with_context(|| format!("member {}", member.name))?;
            if opened.is_some_and(|others| others != count) {
                bail!("member {} opens {count} keys, and another one more or fewer", member.name);
            }
            opened = Some(count);
        }
        opened.filter(|count| *count > 0).context("the catalogue has no keys")
    }

    /// Whether anything may be on the tokens.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Its tokens and what leads to them, for the custodians: code of these modules gets the root keys.
    pub(super) fn in_words(&self) -> String {
        format!("these tokens ({})", lines_about(&self.config).join("; "))
    }

    /// Names of the members.
    pub(super) fn members(&self) -> String {
        let names: Vec<&str> = self.config.members.iter().map(|member| &*member.name).collect();
        names.join(", ")
    }

    /// Takes away what the drill put on the tokens, and looks that it is gone: all of them are tried.
    ///
    /// # Errors
    /// Which of them still have it, or may, and why.
    pub(super) fn end(&self, home: &Home) -> anyhow::Result<()> {
        let Some((realm, begun)) = self.begun else { return Ok(()) };
        let mut failed = Vec::new();
        for member in self.config.members.iter().take(begun) {
            if let Err(error) = child::ask_member::<bool>(home, member, "end-drill", realm, None) {
                failed.push(format!("{} ({error:#})", member.name));
            }
        }
        ensure!(
            failed.is_empty(),
            "root keys may be left on {}; the next drill wipes them, or the vendor's tool",
            failed.join(", ")
        );
        Ok(())
    }
}

fn described(home: &Home) -> anyhow::Result<(RealmKind, RealmId)> {
    let paths = home.realm();
    realm::described(&paths)
        .with_context(|| format!("{} does not describe a realm", paths.description().display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::SecondSite;

    /// Attack: the root keys go where the file of the second site says, and somebody else can write it.
    #[test]
    fn attack_root_keys_given_to_the_file_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("second-site.toml");
        let module = directory.path().join("module.so");
        fs::write(&module, "").unwrap();
        let text = format!(
            "[[member]]\nname = \"east\"\nmodule = {module:?}\ntoken = \"t\"\npin = {{ env = \"PIN\" }}\n"
        );
        fs::write(&file, text).unwrap();
        let mode = |path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&module, 0o644);
        for (access, is_taken) in [(0o600, true), (0o644, true), (0o620, false), (0o666, false)] {
            mode(&file, access);
            assert_eq!(SecondSite::read(&file).is_ok(), is_taken, "{access:o}");
        }
        mode(&file, 0o600);
        mode(&module, 0o646);
        assert!(SecondSite::read(&file).is_err(), "before the custodians give anything");
    }
}
