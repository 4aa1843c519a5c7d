//! What was done at a ceremony, for people to sign and for programs to read. Holds no secret.
//!
//! It is on the disk from the first moment, and again after every step, so that it is there whatever ends the
//! ceremony: a refusal, a power cut, or the last signature.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use aws_lc_rs::digest;
use serde::Serialize;
use tapfer_hsm::sharing::{Part, Scheme, SecretKind};
use tapfer_payment_types::Timestamp;

use super::table::now;
use crate::output::printable;

/// Somebody at the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Participant {
    /// `officer`, `witness`, `custodian`.
    pub(crate) role: &'static str,
    /// As given on the command line.
    pub(crate) name: String,
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Step {
    at: Timestamp,
    what: String,
}

/// What tells a key to people who may not see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct CheckValue {
    key: String,
    value: String,
}

/// A part that somebody brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Brought {
    #[serde(skip)]
    kind: SecretKind,
    of: String,
    ceremony: String,
    part: u8,
    by: Option<String>,
}

/// A ceremony's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Transcript {
    format: u8,
    purpose: String,
    software: &'static str,
    machine: String,
    memory_locked: bool,
    began_at: Timestamp,
    ended_at: Option<Timestamp>,
    realm: Option<String>,
    ceremony: Option<String>,
    threshold: Option<u8>,
    parts: Option<u8>,
    participants: Vec<Participant>,
    check_values: Vec<CheckValue>,
    brought: Vec<Brought>,
    steps: Vec<Step>,
    /// Why it was not done to its end.
    failure: Option<String>,
    /// Where it is kept while the ceremony goes on.
    #[serde(skip)]
    file: Option<PathBuf>,
}

impl Transcript {
    /// A ceremony begins.
    pub(crate) fn begin(
        purpose: &str,
        memory_locked: bool,
        participants: Vec<Participant>,
    ) -> Self {
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            format: 1,
            purpose: purpose.to_owned(),
            software: concat!("tapfer ", env!("CARGO_PKG_VERSION")),
            machine,
            memory_locked,
            began_at: now(),
            ended_at: None,
            realm: None,
            ceremony: None,
            threshold: None,
            parts: None,
            participants,
            check_values: Vec::new(),
            brought: Vec::new(),
            steps: Vec::new(),
            failure: None,
            file: None,
        }
    }

    /// Keeps the record in a new file from here on.
    ///
    /// # Errors
    /// A file is there already or can't be written.
    pub(crate) fn keep_in(&mut self, file: &Path) -> anyhow::Result<()> {
        create(file, self.unfinished().as_bytes())?;
        self.file = Some(file.to_owned());
        Ok(())
    }

    /// What the file holds in between. Whether it can be written is known at the beginning and at the end.
    fn keep(&self) {
        if let Some(file) = &self.file {
            let _told_at_the_end = replace(file, self.unfinished().as_bytes());
        }
    }

    fn unfinished(&self) -> String {
        format!("{}This ceremony has not ended: nobody signs.\n", self.text())
    }

    /// Makes sure that the record can be written before anything is done that it has to say.
    ///
    /// # Errors
    /// A file is there already, or its directory is not.
    pub(crate) fn demand_room(file: &Path) -> anyhow::Result<()> {
        for file in [file.to_owned(), json_file(file)] {
            if file.exists() {
                bail!("{} is there already; name a transcript that is not", file.display());
            }
            let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
            if !directory.is_none_or(Path::is_dir) {
                bail!("the directory of {} does not exist", file.display());
            }
        }
        Ok(())
    }

    /// Something was done.
    pub(crate) fn step(&mut self, what: impl Into<String>) {
        self.steps.push(Step { at: now(), what: printable(&what.into()) });
        self.keep();
    }

    /// Of which realm the keys are.
    pub(crate) fn realm(&mut self, realm: impl ToString) {
        self.realm = Some(realm.to_string());
    }

    /// Into how many parts a secret went.
    pub(crate) fn divided(&mut self, ceremony: impl ToString, scheme: Scheme) {
        self.ceremony = Some(ceremony.to_string());
        self.threshold = Some(scheme.threshold());
        self.parts = Some(scheme.parts());
    }

    /// A key that took part.
    pub(crate) fn check_value(&mut self, key: &str, value: [u8; 3]) {
        let value = data_encoding::HEXUPPER.encode(&value);
        self.check_values.push(CheckValue { key: key.to_owned(), value });
    }

    /// Somebody brought a part, and signs. `None`: the paper names nobody.
    pub(crate) fn came(&mut self, part: &Part, name: Option<&str>) {
        self.brought.push(Brought {
            kind: part.kind(),
            of: part.kind().to_string(),
            ceremony: part.ceremony().to_string(),
            part: part.number(),
            by: name.map(str::to_owned),
        });
        let Some(name) = name else { return };
        let is_named = |person: &Participant| person.role == "custodian" && person.name == name;
        if !self.participants.iter().any(is_named) {
            self.participants.push(Participant { role: "custodian", name: name.to_owned() });
        }
    }

    /// Who brought parts of this kind, in a few words; `None` if nobody did.
    pub(crate) fn brought(&self, kind: SecretKind) -> Option<String> {
        let of_kind: Vec<&Brought> = self.brought.iter().filter(|one| one.kind == kind).collect();
        let ceremony = &of_kind.first()?.ceremony;
        let one = |one: &&Brought| {
            let by = one.by.as_deref().unwrap_or("a paper without a name");
            format!("part {} of {by}", one.part)
        };
        let parts: Vec<String> = of_kind.iter().map(one).collect();
        Some(format!("{kind} from {}, ceremony {ceremony}", parts.join(" and ")))
    }

    /// Names of those who brought parts of this kind.
    pub(crate) fn bringers(&self, kind: SecretKind) -> Vec<String> {
        let of_kind = self.brought.iter().filter(|one| one.kind == kind);
        of_kind.filter_map(|one| one.by.clone()).collect()
    }

    /// The check values, each behind its key's name.
    pub(crate) fn check_values(&self) -> Vec<String> {
        self.check_values.iter().map(|check| format!("{} {}", check.key, check.value)).collect()
    }

    /// What the audit log is told: who brought parts of what, and which keys took part.
    pub(crate) fn outcome(&self) -> String {
        let kinds = [SecretKind::RootKeys, SecretKind::BlockProtection];
        let brought = kinds.into_iter().filter_map(|kind| self.brought(kind));
        let given = self.ceremony.as_ref().filter(|_| self.brought.is_empty());
        let given = given.map(|ceremony| {
            let custodians = self.participants.iter().filter(|person| person.role == "custodian");
            let names: Vec<&str> = custodians.map(|person| person.name.as_str()).collect();
            format!("ceremony {ceremony} of {}", names.join(", "))
        });
        let told: Vec<String> = brought.chain(given).chain(self.check_values()).collect();
        if told.is_empty() { "no part was brought".to_owned() } else { told.join("; ") }
    }

    /// What a program is told at the end.
    pub(crate) fn summary(&self) -> serde_json::Value {
        serde_json::json!({
            "purpose": self.purpose,
            "realm": self.realm,
            "ceremony": self.ceremony,
            "threshold": self.threshold,
            "parts": self.parts,
            "check_values": self.check_values(),
            "memory_locked": self.memory_locked,
        })
    }

    /// Ends the ceremony, well or with what stopped it, and writes the record a last time: for people where it was
    /// kept, for programs beside it with `.json` behind. Gives back the hash that stands at the end of the text.
    ///
    /// # Errors
    /// A file can't be written.
    pub(crate) fn end(mut self, failure: Option<String>) -> anyhow::Result<String> {
        let file = self.file.take().context("this transcript was kept nowhere")?;
        self.failure = failure.as_deref().map(printable);
        self.ended_at = Some(now());
        let text = self.text();
        let hash = sha256(text.as_bytes());
        replace(&file, format!("{text}SHA-256 of the lines above: {hash}\n").as_bytes())?;
        let mut value = serde_json::to_value(&self)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("text_sha256".to_owned(), hash.clone().into());
        }
        create(&json_file(&file), &serde_json::to_vec_pretty(&value)?)?;
        Ok(hash)
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("KEY CEREMONY: {}", self.purpose), String::new()];
        let mut fact = |name: &str, value: String| lines.push(format!("{name:<14}{value}"));
        fact("software", self.software.to_owned());
        fact("machine", self.machine.clone());
        fact(
            "memory",
            if self.memory_locked {
                "locked"
            } else {
                "NOT locked: keys may have reached the swap device"
            }
            .to_owned(),
        );
        fact("began", self.began_at.to_string());
        fact("ended", self.ended_at.map_or_else(|| "NOT YET".to_owned(), |at| at.to_string()));
        if let Some(failure) = &self.failure {
            fact("outcome", format!("STOPPED: {failure}"));
        }
        if let Some(realm) = &self.realm {
            fact("realm", realm.clone());
        }
        if let (Some(ceremony), Some(threshold), Some(parts)) =
            (&self.ceremony, self.threshold, self.parts)
        {
            fact(
                "ceremony",
                format!("{ceremony}: {parts} parts, any {threshold} of them rebuild the secret"),
            );
        }
        lines.extend([String::new(), "Check values".to_owned()]);
        lines.extend(
            self.check_values.iter().map(|check| format!("  {}  {}", check.value, check.key)),
        );
        lines.extend([String::new(), "What was done".to_owned()]);
        lines.extend(self.steps.iter().map(|step| format!("  {}  {}", step.at, step.what)));
        lines.extend([String::new(), "Signatures".to_owned()]);
        for Participant { role, name } in &self.participants {
            lines.push(String::new());
            lines.push(format!("  {role:<10}{name}"));
            lines.push("            ____________________________   date ______________".to_owned());
        }
        lines.push(String::new());
        lines.push(String::new());
        lines.join("\n")
    }
}

fn json_file(file: &Path) -> PathBuf {
    let mut json = file.as_os_str().to_owned();
    json.push(".json");
    PathBuf::from(json)
}

fn create(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    write(OpenOptions::new().write(true).create_new(true), file, content)
}

/// After a crash at any moment the file holds the old content or the new one.
fn replace(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    write(OpenOptions::new().write(true).create(true).truncate(true), &beside, content)?;
    fs::rename(&beside, file)
        .with_context(|| format!("cannot write the transcript {}", file.display()))
}

fn write(options: &mut OpenOptions, file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let written = options.mode(0o644).open(file).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write the transcript {}", file.display()))
}

fn sha256(content: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(digest::digest(&digest::SHA256, content).as_ref())
}

#[cfg(test)]
mod tests {
    use super::{Participant, Transcript, sha256};
    use std::fs;
    use tapfer_hsm::sharing::Scheme;

    #[test]
    fn the_hash_at_its_end_is_that_of_the_lines_above() {
        let ada = Participant { role: "custodian", name: "Ada".to_owned() };
        let mut transcript = Transcript::begin("new root keys", true, vec![ada]);
        transcript.divided("AAAA-BBBB", Scheme::new(2, 3).unwrap());
        transcript.check_value("sealing root", [1, 2, 0xAB]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("transcript.txt");
        transcript.keep_in(&file).unwrap();
        transcript.step("drawn");
        let kept = fs::read_to_string(&file).unwrap();
        for part in ["drawn", "ended         NOT YET", "nobody signs"] {
            assert!(kept.contains(part), "{part}: {kept}");
        }
        let hash = transcript.clone().end(None).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let (above, last) = text.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(last, format!("SHA-256 of the lines above: {hash}"));
        assert_eq!(sha256(format!("{above}\n").as_bytes()), hash);
        for part in ["AAAA-BBBB: 3 parts, any 2", "0102AB  sealing root", "custodian Ada", "drawn"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = fs::read(directory.path().join("transcript.txt.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["text_sha256"], hash);
        assert!(transcript.keep_in(&file).is_err(), "nothing is overwritten");
    }
}
