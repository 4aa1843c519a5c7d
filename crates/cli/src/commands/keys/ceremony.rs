//! `tapfer keys ceremony`: root keys and key block protection keys, and their parts.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use tapfer_hsm::sharing::{CeremonyId, Gathering, SecretKind, check_value, split};
use tapfer_hsm::software::RootKeys;
use tapfer_hsm::{HsmError, SoftwareHsm};
use tapfer_payment_types::{RealmId, Secret};
use tapfer_payments::audit::AuditAction;
use tapfer_server::{KeyAudit, RealmKind};

use super::keeper::Vault;
use super::place::Place;
use crate::ceremony::{
    Custodians, PartsFrom, PartsTo, People, Transcript, gather, hand_out, lock_memory,
};
use crate::clock;
use crate::context::Context;
use crate::failure::Ending;
use crate::home::create_private_directory;
use crate::unlock;

#[derive(Debug, Subcommand)]
pub(crate) enum CeremonyCommand {
    /// Draw the root keys of a new realm, give the parts out, and put the keys into its vault
    #[command(after_help = "\
Example:
  tapfer keys ceremony new --realm production --home /srv/tapfer --passphrase-file /run/secrets/tapfer \\
    --threshold 2 --custodian Ada --custodian Grace --custodian Edsger --officer Tony --witness Barbara \\
    --transcript ceremony.txt

How people go about it: docs/key-ceremony.md. Then: tapfer serve.")]
    New(NewArguments),
    /// Give out parts of the root keys that the realm's keystore holds
    #[command(after_help = "\
Example:
  tapfer keys ceremony share --threshold 2 --custodian Ada --custodian Grace --officer Tony --transcript shared.txt")]
    Share(ShareArguments),
    /// Put root keys that custodians rebuild into the vault of a realm that was restored
    #[command(after_help = "\
Example:
  tapfer keys ceremony install --home /srv/tapfer --passphrase-file /run/secrets/tapfer --officer Tony --transcript installed.txt")]
    Install(InstallArguments),
    /// Rebuild the root keys, compare them with the catalogue, and forget them again
    #[command(
        after_help = "Example:\n  tapfer keys ceremony verify --officer Tony --transcript verified.txt"
    )]
    Verify(VerifyArguments),
    /// New parts for old root keys; the old parts are worth nothing once they are destroyed
    #[command(after_help = "\
Example:
  tapfer keys ceremony reshare --threshold 3 --custodian Ada --custodian Grace --custodian Alan --officer Tony \\
    --transcript reshared.txt")]
    Reshare(ReshareArguments),
    /// Draw a key block protection key, in parts: for `tapfer keys export` and `import`
    #[command(after_help = "\
Example:
  tapfer keys ceremony protection --threshold 2 --custodian Ada --custodian Grace --officer Tony --transcript kbpk.txt")]
    Protection(ProtectionArguments),
}

/// What every ceremony has.
#[derive(Debug, Args)]
pub(crate) struct Record {
    #[command(flatten)]
    people: People,
    /// New file for the transcript; one for programs is written beside it, with .json behind
    #[arg(long, value_name = "FILE")]
    transcript: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// To try and to show
    Demo,
    /// Real cards
    Production,
}

#[derive(Debug, Args)]
pub(crate) struct NewArguments {
    /// Kind of realm
    #[arg(long, value_enum, default_value_t = Kind::Production)]
    realm: Kind,
    #[command(flatten)]
    custodians: Custodians,
    #[command(flatten)]
    parts: PartsTo,
    #[command(flatten)]
    record: Record,
    #[command(flatten)]
    vault: Vault,
}

#[derive(Debug, Args)]
pub(crate) struct ShareArguments {
    #[command(flatten)]
    custodians: Custodians,
    #[command(flatten)]
    parts: PartsTo,
    #[command(flatten)]
    record: Record,
    #[command(flatten)]
    vault: Vault,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArguments {
    #[command(flatten)]
    parts: PartsFrom,
    #[command(flatten)]
    record: Record,
    #[command(flatten)]
    vault: Vault,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    parts: PartsFrom,
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Args)]
pub(crate) struct ReshareArguments {
    #[command(flatten)]
    from: PartsFrom,
    #[command(flatten)]
    custodians: Custodians,
    #[command(flatten)]
    to: PartsTo,
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Args)]
pub(crate) struct ProtectionArguments {
    #[command(flatten)]
    custodians: Custodians,
    #[command(flatten)]
    parts: PartsTo,
    #[command(flatten)]
    record: Record,
}

pub(crate) fn run(context: &Context, command: &CeremonyCommand) -> anyhow::Result<Ending> {
    match command {
        CeremonyCommand::New(arguments) => new(context, arguments),
        CeremonyCommand::Share(arguments) => share(context, arguments),
        CeremonyCommand::Install(arguments) => install(context, arguments),
        CeremonyCommand::Verify(arguments) => verify(context, arguments),
        CeremonyCommand::Reshare(arguments) => reshare(context, arguments),
        CeremonyCommand::Protection(arguments) => protection(context, arguments),
    }
}

/// A ceremony that goes on: its transcript, and where that will be written.
struct Ceremony<'a> {
    context: &'a Context,
    record: &'a Record,
    transcript: Transcript,
}

impl<'a> Ceremony<'a> {
    /// Checks that everything that is needed at the end is there, before anything is done.
    fn begin(
        context: &'a Context,
        record: &'a Record,
        purpose: &str,
        custodians: &[String],
    ) -> anyhow::Result<Self> {
        Transcript::demand_room(&record.transcript)?;
        let participants = record.people.participants(custodians)?;
        let memory_locked = lock_memory(context.output);
        Ok(Self {
            context,
            record,
            transcript: Transcript::begin(purpose, memory_locked, participants),
        })
    }

    fn roots_are(&mut self, roots: &RootKeys) {
        for (name, value) in roots.check_values() {
            self.transcript.check_value(name, value);
        }
    }

    /// Divides a secret and gives its parts out.
    fn divide(
        &mut self,
        kind: SecretKind,
        secret: &Secret<Vec<u8>>,
        custodians: &Custodians,
        to: &PartsTo,
    ) -> anyhow::Result<()> {
        let scheme = custodians.scheme()?;
        let id = CeremonyId::random(&mut clock::random());
        let parts = split(kind, secret, scheme, id, &mut clock::random())?;
        self.transcript.divided(id, scheme);
        hand_out(self.context.output, to, &parts, &custodians.names, &mut self.transcript)
    }

    fn roots_of(&mut self, from: &PartsFrom) -> anyhow::Result<(RootKeys, Gathering)> {
        let gathering =
            gather(self.context.output, from, SecretKind::RootKeys, &mut self.transcript)?;
        let roots = RootKeys::from_shared(&gathering.secret()?)?;
        if let Some(part) = gathering.parts().first() {
            self.transcript.divided(part.ceremony(), part.scheme());
        }
        self.roots_are(&roots);
        Ok((roots, gathering))
    }

    /// Writes the transcript, and tells what came of the ceremony.
    fn end(self) -> anyhow::Result<Ending> {
        let file = &self.record.transcript;
        let mut told = self.transcript.summary();
        let hash = self.transcript.write(file)?;
        if let Some(fields) = told.as_object_mut() {
            fields.insert("transcript".to_owned(), json!(file));
            fields.insert("transcript_sha256".to_owned(), json!(hash));
        }
        self.context.output.object(&told)?;
        Ok(Ending::Done)
    }
}

fn new(context: &Context, arguments: &NewArguments) -> anyhow::Result<Ending> {
    let custodians = &arguments.custodians;
    custodians.scheme()?;
    let paths = context.home.realm();
    anyhow::ensure!(
        !paths.is_realm() && !paths.keystore().exists() && !paths.catalogue().exists(),
        "there are keys in {} already; name an empty directory",
        context.home.path().display()
    );
    let kind = match arguments.realm {
        Kind::Demo => RealmKind::Demo,
        Kind::Production => RealmKind::Production,
    };
    create_private_directory(context.home.path())?;
    let place = Place::find(context, &arguments.vault, kind)?;
    let mut ceremony =
        Ceremony::begin(context, &arguments.record, "root keys of a new realm", &custodians.names)?;
    let roots = RootKeys::mixed(&[&library, &system])?;
    ceremony.transcript.step(
        "root keys drawn from the cryptographic library's and the system's random sources, mixed",
    );
    ceremony.roots_are(&roots);
    ceremony.divide(SecretKind::RootKeys, &roots.to_shared(), custodians, &arguments.parts)?;
    let id = RealmId::new(clock::now(), random_bytes());
    ceremony.transcript.realm(id);
    let done = place.begin_realm(context, (kind, id), roots)?;
    ceremony.transcript.step(done);
    ceremony.end()
}

fn share(context: &Context, arguments: &ShareArguments) -> anyhow::Result<Ending> {
    arguments.custodians.scheme()?;
    let purpose = "parts of the root keys of a keystore";
    let mut ceremony =
        Ceremony::begin(context, &arguments.record, purpose, &arguments.custodians.names)?;
    let unlock = unlock::find(&context.home, arguments.vault.passphrase_file.as_deref())?;
    let (realm, roots) = SoftwareHsm::roots_of_keystore(&context.home.realm().keystore(), &unlock)?;
    ceremony.transcript.realm(realm);
    ceremony.roots_are(&roots);
    ceremony.divide(
        SecretKind::RootKeys,
        &roots.to_shared(),
        &arguments.custodians,
        &arguments.parts,
    )?;
    held(context, &arguments.record, purpose)?;
    ceremony.end()
}

fn install(context: &Context, arguments: &InstallArguments) -> anyhow::Result<Ending> {
    let paths = context.home.realm();
    anyhow::ensure!(
        !paths.keystore().exists(),
        "there is a keystore in {} already; root keys are put where there are none",
        context.home.path().display()
    );
    let purpose = "root keys put into a vault";
    let mut ceremony = Ceremony::begin(context, &arguments.record, purpose, &[])?;
    let (roots, _) = ceremony.roots_of(&arguments.parts)?;
    let (kind, realm) = tapfer_server::realm::described(&paths).with_context(|| {
        format!("no realm in {}; restore its backup first", context.home.path().display())
    })?;
    ceremony.transcript.realm(realm);
    let place = Place::find(context, &arguments.vault, kind)?;
    let done = place.install(context, (kind, realm), roots)?;
    ceremony.transcript.step(done);
    held(context, &arguments.record, purpose)?;
    ceremony.end()
}

fn verify(context: &Context, arguments: &VerifyArguments) -> anyhow::Result<Ending> {
    let purpose = "parts verified";
    let mut ceremony = Ceremony::begin(context, &arguments.record, purpose, &[])?;
    let (roots, _) = ceremony.roots_of(&arguments.parts)?;
    compare_with_catalogue(&mut ceremony, roots)?;
    held(context, &arguments.record, purpose)?;
    ceremony.end()
}

fn reshare(context: &Context, arguments: &ReshareArguments) -> anyhow::Result<Ending> {
    arguments.custodians.scheme()?;
    let purpose = "new parts of root keys";
    let mut ceremony =
        Ceremony::begin(context, &arguments.record, purpose, &arguments.custodians.names)?;
    let (roots, old) = ceremony.roots_of(&arguments.from)?;
    if let Some(part) = old.parts().first() {
        let ceremony_before = part.ceremony();
        ceremony
            .transcript
            .step(format!("parts of ceremony {ceremony_before} are to be destroyed"));
    }
    let secret = roots.to_shared();
    compare_with_catalogue(&mut ceremony, roots)?;
    ceremony.divide(SecretKind::RootKeys, &secret, &arguments.custodians, &arguments.to)?;
    held(context, &arguments.record, purpose)?;
    ceremony.end()
}

fn protection(context: &Context, arguments: &ProtectionArguments) -> anyhow::Result<Ending> {
    arguments.custodians.scheme()?;
    let names = &arguments.custodians.names;
    let mut ceremony =
        Ceremony::begin(context, &arguments.record, "key block protection key", names)?;
    // Half of what is drawn for two root keys, by the same way.
    let drawn = RootKeys::mixed(&[&library, &system])?.to_shared();
    let key: [u8; 32] = *drawn.expose().first_chunk().context("a key has 32 bytes")?;
    let key = Secret::new(key);
    ceremony.transcript.check_value("key block protection key", check_value(key.expose()));
    let secret = Secret::new(key.expose().to_vec());
    ceremony.divide(
        SecretKind::BlockProtection,
        &secret,
        &arguments.custodians,
        &arguments.parts,
    )?;
    ceremony.end()
}

/// That roots and catalogue are of one realm, if there is a catalogue here.
fn compare_with_catalogue(ceremony: &mut Ceremony<'_>, roots: RootKeys) -> anyhow::Result<()> {
    let paths = ceremony.context.home.realm();
    if !paths.catalogue().exists() {
        ceremony.transcript.step("there was no catalogue to compare the root keys with");
        return Ok(());
    }
    let vault = tapfer_hsm::software::SoftwareVault::new(roots);
    let keys = SoftwareHsm::over_catalogue(vault, &paths.catalogue())?;
    let (_, realm) = keys.realm_of_catalogue();
    ceremony.transcript.realm(realm);
    ceremony.transcript.step("the root keys open the realm's catalogue");
    Ok(())
}

/// The ceremony in the audit log, if there is a realm to have one.
fn held(context: &Context, record: &Record, purpose: &str) -> anyhow::Result<()> {
    let paths = context.home.realm();
    if !paths.is_realm() || !paths.database().exists() {
        return Ok(());
    }
    let audit = KeyAudit::open(&paths, &record.people.officer, purpose)?;
    let file = record.transcript.display().to_string();
    audit.around(
        AuditAction::KeyCeremonyHeld,
        "root keys",
        clock::now,
        || anyhow::Ok(file),
        |file| format!("transcript {file}"),
    )?;
    Ok(())
}

/// Random bytes of the cryptographic library, whose generator is seeded by the processor and the system.
fn library(out: &mut [u8]) -> Result<(), HsmError> {
    aws_lc_rs::rand::fill(out).map_err(|_| HsmError::Randomness)
}

/// Random bytes of the operating system.
fn system(out: &mut [u8]) -> Result<(), HsmError> {
    rand_core::Rng::fill_bytes(&mut clock::random(), out);
    Ok(())
}

fn random_bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    rand_core::Rng::fill_bytes(&mut clock::random(), &mut bytes);
    bytes
}
