//! What a till remembers of the platform's signed configuration: `configuration.json` beside the key of its
//! terminal. It is written before anything in it is used, and never goes back.
//!
//! Who may answer first is said by `configuration.key` in the home directory, which the platform writes beside
//! its operator's key: copy it to where a till or phone is set up, as its CA certificate. Without it whoever
//! answers first is believed, and nobody else from then on.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tapfer_emv::audit_chain::{AuditHash, KnownHead};
use tapfer_emv::configuration::KnownConfiguration;
use tapfer_emv::document::DocumentKey;
use tapfer_payment_types::RealmId;
use tapfer_payment_types::configuration::{Audience, Content, SignedConfiguration, TerminalTrust};
use tapfer_payment_types::messages::HexBytes;

use crate::client::Client;
use crate::clock;
use crate::home::{Home, write_private};

/// A till that has not asked for longer than so many audit records takes the new end unproven.
const LONGEST_PROOF: u64 = 10_000;
/// Hashes in one answer of the platform.
const LINKS_AT_ONCE: u64 = 1_000;

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    known: KnownConfiguration,
    signed: Option<SignedConfiguration>,
}

/// The file of one terminal.
pub(crate) struct ConfigurationFile {
    home: Home,
    path: PathBuf,
}

impl ConfigurationFile {
    /// The file of a terminal of this machine.
    pub(crate) fn of_terminal(home: &Home, terminal: &str) -> Self {
        let path = home.path().join("terminals").join(terminal).join("configuration.json");
        Self { home: home.clone(), path }
    }

    /// The file of a till that does not say which terminal it is.
    pub(crate) fn of_machine(home: &Home) -> Self {
        let path = home.path().join("terminals").join("configuration.json");
        Self { home: home.clone(), path }
    }

    /// Asks the platform whom to trust, and takes the answer if it is signed, newer and not over.
    ///
    /// # Errors
    /// The platform gives none, or one that is refused; the one before stays.
    pub(crate) fn newest(&self, client: &Client) -> anyhow::Result<TerminalTrust> {
        // Two tills of one terminal would each take what is newer than what they had read.
        let _lock = self.home.lock()?;
        let known = self.known()?;
        let answer = client.get("/v1/configuration")?;
        let signed: SignedConfiguration =
            serde_json::from_value(answer).context("the platform's answer is no configuration")?;
        let now = clock::now();
        let refused = || "the platform's configuration for terminals is refused";
        let (next, configuration) = match &known {
            Some(known) => known.accept(&signed, now).with_context(refused)?,
            None => KnownConfiguration::first(&signed, now).with_context(refused)?,
        };
        let (Audience::Terminals, Content::Terminals(trust)) =
            (next.audience, configuration.content)
        else {
            bail!(
                "the platform's configuration is not for terminals: ask with a terminal's API key"
            );
        };
        let heads = known.and_then(|known| known.newest).zip(next.newest);
        if let Some((before, after)) = heads {
            prove(client, &before.head, &after.head)?;
        }
        let remembered = Remembered { known: next, signed: Some(signed) };
        write_private(&self.path, &serde_json::to_vec_pretty(&remembered)?)?;
        Ok(trust)
    }

    /// What the till goes by: what it took last, else what it was set up with.
    fn known(&self) -> anyhow::Result<Option<KnownConfiguration>> {
        match fs::read(&self.path) {
            Ok(bytes) => {
                let remembered: Remembered = serde_json::from_slice(&bytes).with_context(|| {
                    format!(
                        "{} is damaged: restore it, or remove it and see to it that the platform's \
                             own configuration.key lies in the home directory",
                        self.path.display()
                    )
                })?;
                Ok(Some(remembered.known))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pinned = pinned(&self.home)?;
                Ok(pinned.map(|(realm, key)| {
                    KnownConfiguration::pinned(realm, Audience::Terminals, key)
                }))
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", self.path.display()))
            }
        }
    }
}

/// The realm and the key of the platform, if `configuration.key` lies in the home directory.
pub(crate) fn pinned(home: &Home) -> anyhow::Result<Option<(RealmId, DocumentKey)>> {
    let file = home.path().join("configuration.key");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let damaged = || format!("{} is not what a platform writes: copy it again", file.display());
    let (realm, key) = text.trim().split_once(' ').with_context(damaged)?;
    let HexBytes(key) = key.to_owned().try_into().with_context(damaged)?;
    let key: &[u8; 64] = key.as_slice().try_into().with_context(damaged)?;
    let key = DocumentKey::from_bytes(key).with_context(damaged)?;
    Ok(Some((realm.parse().with_context(damaged)?, key)))
}

/// Asks for what lies between two ends of the audit chain, and compares: the till is a witness.
fn prove(client: &Client, before: &KnownHead, after: &KnownHead) -> anyhow::Result<()> {
    let gap = after.sequence.saturating_sub(before.sequence);
    if before.restoration != after.restoration || gap > LONGEST_PROOF {
        return Ok(());
    }
    let mut hashes: Vec<AuditHash> = Vec::new();
    loop {
        let left = gap.saturating_sub(u64::try_from(hashes.len())?);
        if left == 0 {
            break;
        }
        let from = after.sequence.saturating_sub(left);
        let limit = left.min(LINKS_AT_ONCE);
        let answer = client.get(&format!("/v1/audit/links?after={from}&limit={limit}"))?;
        let page = event_hashes(&answer)?;
        if page.is_empty() {
            bail!(
                "the platform does not show how its audit chain came from record {from} to its end"
            );
        }
        hashes.extend(page);
    }
    before.proves(&hashes, after).context("the platform's configuration is refused")
}

fn event_hashes(answer: &Value) -> anyhow::Result<Vec<AuditHash>> {
    let hashes = answer.get("event_hashes").cloned().unwrap_or_default();
    let hashes: Vec<HexBytes> = serde_json::from_value(hashes)?;
    let array = |hash: &HexBytes| hash.0.as_slice().try_into().context("a hash has 32 bytes");
    hashes.iter().map(array).collect()
}
