//! What opens the software HSM's key store: a passphrase or a key, from a file or the environment.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tapfer_hsm::{Realm, Unlock};
use tapfer_server::read_private;
use zeroize::Zeroizing;

use crate::clock;
use crate::home::{Home, write_private};

/// Finds out what opens the key store: `--passphrase-file`, `TAPFER_PASSPHRASE`, `TAPFER_UNLOCK_KEY`,
/// and, in a demo realm, a key file beside the key store.
///
/// # Errors
/// Nothing to open it with; an unreadable file; a key that is no key.
pub(crate) fn find(home: &Home, passphrase_file: Option<&Path>) -> anyhow::Result<Unlock> {
    if let Some(file) = passphrase_file {
        let read = || -> anyhow::Result<Zeroizing<String>> {
            let bytes = Zeroizing::new(read_private(file)?);
            Ok(Zeroizing::new(str::from_utf8(&bytes)?.to_owned()))
        };
        let text = read().with_context(|| format!("--passphrase-file {}", file.display()))?;
        return Ok(Unlock::passphrase(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    if let Some(passphrase) = environment("TAPFER_PASSPHRASE") {
        return Ok(Unlock::passphrase(passphrase));
    }
    if let Some(digits) = environment("TAPFER_UNLOCK_KEY") {
        return Unlock::key_from_hex(&digits).context("TAPFER_UNLOCK_KEY");
    }
    let file = demo_key_file(home);
    let digits = fs::read_to_string(&file).with_context(|| {
        format!(
            "nothing to open the key store with: give --passphrase-file, or set TAPFER_PASSPHRASE or \
             TAPFER_UNLOCK_KEY (no demo key at {})",
            file.display()
        )
    })?;
    Unlock::key_from_hex(&digits).with_context(|| file.display().to_string())
}

/// As [`find`], and makes the key of a demo realm if there is none yet: a demo's keys protect nothing,
/// so they may lie beside what they open. A production realm never gets such a file.
pub(crate) fn find_or_make(
    home: &Home,
    passphrase_file: Option<&Path>,
    realm: Realm,
) -> anyhow::Result<Unlock> {
    let file = demo_key_file(home);
    let given = passphrase_file.is_some()
        || environment("TAPFER_PASSPHRASE").is_some()
        || environment("TAPFER_UNLOCK_KEY").is_some();
    match realm {
        Realm::Demo if !given && !home.realm().keystore().exists() => {
            let key = Zeroizing::new(clock::random_hex::<32>());
            write_private(&file, key.as_bytes())?;
        }
        Realm::Production if !given => bail!(
            "a production realm needs --passphrase-file, TAPFER_PASSPHRASE or TAPFER_UNLOCK_KEY: \
             whoever can read the home directory must not be able to open the keys"
        ),
        Realm::Demo | Realm::Production => {}
    }
    find(home, passphrase_file)
}

fn demo_key_file(home: &Home) -> PathBuf {
    home.path().join("demo-unlock.key")
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
