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
use tapfer_emv::audit_chain::{AuditHash, HeadError, KnownHead};
use tapfer_emv::configuration::{KnownConfiguration, Newest};
use tapfer_emv::document::DocumentKey;
use tapfer_payment_types::configuration::{Audience, Content, SignedConfiguration, TerminalTrust};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{Language, RealmId, Timestamp};

use crate::client::{Client, is_refused_alone};
use crate::clock;
use crate::context::Context;
use crate::home::{Home, write_private};

/// Hashes in one answer of the platform. A proof takes as many answers as it needs, and keeps none of them.
const LINKS_AT_ONCE: u64 = 1_000;

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    known: KnownConfiguration,
    signed: Option<SignedConfiguration>,
    /// Ends of the audit chain that were in force here, the oldest first: if the platform is restored from a
    /// backup, the last one that was in the backup is still part of the chain.
    #[serde(default)]
    witnessed: Vec<KnownHead>,
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
    pub(crate) fn newest(
        &self,
        context: &Context,
        client: &Client,
    ) -> anyhow::Result<TerminalTrust> {
        // Two tills of one terminal would each take what is newer than what they had read.
        let _lock = self.home.lock()?;
        let Went { known, signed, mut witnessed } = self.known()?;
        let answer = match client.get("/v1/configuration") {
            // It takes small payments and tells nothing; what it said last is signed, and good until it is over.
            Err(error) if is_refused_alone(&error) => {
                return kept(known.as_ref(), signed.as_ref()).unwrap_or(Err(error));
            }
            answer => answer?,
        };
        let signed: SignedConfiguration =
            serde_json::from_value(answer).context("the platform's answer is no configuration")?;
        let now = clock::now();
        let refused = || "the platform's configuration for terminals is refused";
        let (next, configuration) = match &known {
            Some(known) => known.accept(&signed, now).with_context(refused)?,
            None => KnownConfiguration::first(&signed, now).with_context(refused)?,
        };
        let trust = for_terminals(next.audience, configuration.content)?;
        let newest = known.and_then(|known| known.newest).zip(next.newest);
        let restored = known.and_then(|known| known.restored_in(&next));
        if let Some((before, after)) = newest {
            if !witnessed.contains(&before.head) {
                witnessed.push(before.head);
            }
            match restored {
                None => prove(client, &before.head, &after.head)?,
                Some(at) => {
                    keep_what_was_kept(client, &mut witnessed, &after.head)?;
                    let kept = witnessed.last().map_or(0, |head| head.sequence);
                    tell(context, at, &before, kept);
                }
            }
        }
        if let Some(newest) = next.newest {
            remember(&mut witnessed, newest.head);
        }
        let remembered = Remembered { known: next, signed: Some(signed), witnessed };
        write_private(&self.path, &serde_json::to_vec_pretty(&remembered)?)?;
        Ok(trust)
    }

    /// What the till goes by: what it took last, else what it was set up with.
    fn known(&self) -> anyhow::Result<Went> {
        match fs::read(&self.path) {
            Ok(bytes) => {
                let remembered: Remembered = serde_json::from_slice(&bytes).with_context(|| {
                    format!(
                        "{} is damaged: restore it, or remove it and see to it that the platform's \
                             own configuration.key lies in the home directory",
                        self.path.display()
                    )
                })?;
                let Remembered { known, signed, witnessed } = remembered;
                Ok(Went { known: Some(known), signed, witnessed })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pinned = pinned(&self.home)?.map(|(realm, key)| {
                    KnownConfiguration::pinned(realm, Audience::Terminals, key)
                });
                Ok(Went { known: pinned, signed: None, witnessed: Vec::new() })
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot read {}", self.path.display()))
            }
        }
    }
}

/// What a till went by until now, the document itself, and the ends of the audit chain that it has seen.
struct Went {
    known: Option<KnownConfiguration>,
    signed: Option<SignedConfiguration>,
    witnessed: Vec<KnownHead>,
}

/// What was taken before, if it is not over; nothing if nothing was.
fn kept(
    known: Option<&KnownConfiguration>,
    signed: Option<&SignedConfiguration>,
) -> Option<anyhow::Result<TerminalTrust>> {
    let taken = known?.accept(signed?, clock::now());
    let taken = taken
        .context("the platform has no database at the moment, and what it said last is refused");
    Some(
        taken.and_then(|(known, configuration)| {
            for_terminals(known.audience, configuration.content)
        }),
    )
}

fn for_terminals(audience: Audience, content: Content) -> anyhow::Result<TerminalTrust> {
    match (audience, content) {
        (Audience::Terminals, Content::Terminals(trust)) => Ok(trust),
        _ => bail!(
            "the platform's configuration is not for terminals: ask with a terminal's API key"
        ),
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

/// Keeps an end that was in force: in the end one for each doubling of the way back, the oldest of it. So a till of
/// any age keeps some sixty, and one of them is never much older than the backup from which a platform comes back.
fn remember(witnessed: &mut Vec<KnownHead>, newest: KnownHead) {
    if witnessed.last() != Some(&newest) {
        witnessed.push(newest);
    }
    let doublings = |head: &KnownHead| {
        newest
            .sequence
            .saturating_sub(head.sequence)
            .checked_ilog2()
            .map_or(0, |log| log.saturating_add(1))
    };
    witnessed.dedup_by_key(|head| doublings(head));
    if witnessed.last() != Some(&newest) {
        witnessed.push(newest);
    }
}

/// Asks for what lies between two ends of the audit chain, and compares: the till is a witness. However much lies
/// between, one page of hashes is in memory.
fn prove(client: &Client, before: &KnownHead, after: &KnownHead) -> anyhow::Result<()> {
    let mut reached = *before;
    while reached.sequence < after.sequence {
        let from = reached.sequence;
        let limit = after.sequence.saturating_sub(from).min(LINKS_AT_ONCE);
        let answer = client.get(&format!("/v1/audit/links?after={from}&limit={limit}"))?;
        let page = event_hashes(&answer)?;
        if page.is_empty() || u64::try_from(page.len())? > limit {
            bail!(
                "the platform does not show how its audit chain came from record {from} to its end"
            );
        }
        page.iter().for_each(|event| reached.follow(event));
    }
    reached.is_at(after).context("the platform's configuration is refused")
}

/// A platform that was restored from a backup has lost what was behind it, and nothing before: of the ends that were
/// in force here, those stay that lead to its new one.
fn keep_what_was_kept(
    client: &Client,
    witnessed: &mut Vec<KnownHead>,
    after: &KnownHead,
) -> anyhow::Result<()> {
    while let Some(newest) = witnessed.last() {
        match prove(client, newest, after) {
            Ok(()) => return Ok(()),
            Err(error) if error.downcast_ref::<HeadError>().is_some() => drop(witnessed.pop()),
            Err(error) => return Err(error),
        }
    }
    bail!(
        "the platform's configuration is refused: it says that it was restored from a backup, and nothing is left in \
         its audit log of what this till has seen of it. If the backup is really older than this till, remove the \
         till's configuration.json and see to it that the platform's own configuration.key lies in the home directory"
    )
}

/// That the platform was restored is nothing to be passed over: with what is lost goes what was revoked meanwhile.
/// Of `kept` records is known that they are there, of what came behind the document that was in force `before` nothing:
/// payments that this till itself took since may be lost, and the cashier is told so.
fn tell(context: &Context, at: Timestamp, before: &Newest, kept: u64) {
    let (known, seen) = (before.head.sequence, before.issued_at);
    let language = context.access.language.of_people();
    let found = match (language, kept < known) {
        (Language::English, false) => format!(
            "Its records up to number {kept}, all that this till knew of at {seen}, are there; what is missing of the time \
             since, this till cannot tell."
        ),
        (Language::English, true) => format!(
            "Of the records that this till knew of, those up to number {kept} are there; of those behind them up to \
             {known} at least the last is lost, with all that came after it."
        ),
        (Language::German, false) => format!(
            "Ihre Aufzeichnungen bis Nummer {kept}, alle, von denen diese Kasse am {seen} wusste, sind da; was aus der \
             Zeit danach fehlt, kann die Kasse nicht sagen."
        ),
        (Language::German, true) => format!(
            "Von den Aufzeichnungen, von denen diese Kasse wusste, sind die bis Nummer {kept} da; von denen dahinter bis \
             {known} ist mindestens die letzte verloren, mit allem, was nach ihr kam."
        ),
    };
    context.output.remark(match language {
        Language::English => format!(
            "NOTE: the platform says that it was restored from a backup, at {at}: payments that it took after the backup was \
             made may be missing in it. {found} Compare your receipts since the backup with its payments; who runs the \
             platform knows when it was made. If nobody has told you of this, ask there."
        ),
        Language::German => format!(
            "HINWEIS: Die Plattform sagt, dass sie am {at} aus einer Sicherung wiederhergestellt wurde: Zahlungen, die sie \
             nach der Sicherung angenommen hat, fehlen ihr vielleicht. {found} Vergleichen Sie Ihre Belege seit der \
             Sicherung mit ihren Zahlungen; von wann sie ist, weiß der Betreiber der Plattform. Wenn Ihnen niemand etwas \
             davon gesagt hat, fragen Sie dort."
        ),
    });
}

fn event_hashes(answer: &Value) -> anyhow::Result<Vec<AuditHash>> {
    let hashes = answer.get("event_hashes").cloned().unwrap_or_default();
    let hashes: Vec<HexBytes> = serde_json::from_value(hashes)?;
    let array = |hash: &HexBytes| hash.0.as_slice().try_into().context("a hash has 32 bytes");
    hashes.iter().map(array).collect()
}
