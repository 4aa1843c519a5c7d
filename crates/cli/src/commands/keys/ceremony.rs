//! `tapfer keys ceremony`: root keys and key block protection keys, and their parts.

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use tapfer_hsm::catalogue::UnverifiedCatalogue;
use tapfer_hsm::sharing::SecretKind;
use tapfer_hsm::software::RootKeys;
use tapfer_hsm::{HsmError, SoftwareHsm};
use tapfer_payment_types::RealmId;
use tapfer_payments::audit::AuditAction;
use tapfer_server::{RealmKind, RealmPaths};

use super::catalogue::{self, AcceptCatalogueArguments};
use super::held::{Ceremony, Occasion, Record, hold};
use super::keeper::Vault;
use super::place::Place;
use super::protection::{self, AcceptArguments, ProtectionArguments};
use crate::ceremony::{Agreement, Custodians, PartsFrom, PartsTo};
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
  tapfer keys ceremony new --realm production --home /srv/tapfer \\
    --passphrase-file /run/secrets/tapfer --threshold 2 --custodian Ada --custodian Grace \\
    --custodian Edsger --officer Tony --witness Barbara --transcript ceremony.txt

How people go about it: docs/key-ceremony.md. Then: tapfer serve.")]
    New(NewArguments),
    /// Give out parts of the root keys that the realm's keystore holds
    #[command(after_help = "\
Example:
  tapfer keys ceremony share --threshold 2 --custodian Ada --custodian Grace \\
    --officer Tony --transcript shared.txt")]
    Share(ShareArguments),
    /// Put root keys that custodians rebuild into the vault of a realm: restored, half installed, or with a new HSM
    #[command(after_help = "\
Example:
  tapfer keys ceremony install --home /srv/tapfer \\
    --passphrase-file /run/secrets/tapfer --officer Tony --transcript installed.txt
  tapfer keys ceremony install --home /srv/tapfer --member south \\
    --officer Tony --transcript south.txt

HSMs that have the root keys already stay as they are, and an installation that stopped half way is completed.")]
    Install(InstallArguments),
    /// Rebuild the root keys, compare them with the catalogue, and forget them again
    #[command(
        after_help = "Example:\n  tapfer keys ceremony verify --officer Tony --transcript verified.txt"
    )]
    Verify(VerifyArguments),
    /// New parts for old root keys; the old parts are worth nothing once they are destroyed
    #[command(after_help = "\
Example:
  tapfer keys ceremony reshare --threshold 3 --custodian Ada --custodian Grace \\
    --custodian Alan --officer Tony --transcript reshared.txt")]
    Reshare(ReshareArguments),
    /// Draw a key block protection key, in parts: for `tapfer keys export` and `import`
    #[command(after_help = "\
Example:
  tapfer keys ceremony protection --threshold 2 --custodian Ada --custodian Grace \\
    --officer Tony --transcript kbpk.txt

In the home directory of a realm the custodians of its root keys come with their parts and accept it, before it is given
out: they are the ones who know the people that get its parts. Elsewhere it is only drawn.")]
    Protection(ProtectionArguments),
    /// Accept a key block protection key that was drawn elsewhere: the custodians of the root keys agree to it
    #[command(after_help = "\
Example:
  tapfer keys ceremony accept-protection --officer Tony --transcript accepted.txt")]
    AcceptProtection(AcceptArguments),
    /// Accept an older catalogue of keys in the place of a newer one that is lost for good
    #[command(after_help = "\
Example:
  tapfer keys ceremony accept-catalogue --officer Tony --transcript catalogue.txt

For a realm whose keys.json is lost and whose newest copy is older than the database: docs/disaster-recovery.md.
What the custodians type, and --agreed says with --part, is \"accept catalogue\" and the version of the copy that lies
there, such as \"accept catalogue 5\".")]
    AcceptCatalogue(AcceptCatalogueArguments),
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
    /// Only this member of hsm.toml, such as an HSM that took the place of a broken one
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
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

pub(crate) fn run(context: &Context, command: &CeremonyCommand) -> anyhow::Result<Ending> {
    match command {
        CeremonyCommand::New(arguments) => new(context, arguments),
        CeremonyCommand::Share(arguments) => share(context, arguments),
        CeremonyCommand::Install(arguments) => install(context, arguments),
        CeremonyCommand::Verify(arguments) => verify(context, arguments),
        CeremonyCommand::Reshare(arguments) => reshare(context, arguments),
        CeremonyCommand::Protection(arguments) => protection::draw(context, arguments),
        CeremonyCommand::AcceptProtection(arguments) => protection::accept(context, arguments),
        CeremonyCommand::AcceptCatalogue(arguments) => catalogue::accept(context, arguments),
    }
}

/// A ceremony around root keys.
pub(super) fn hold_for_roots(
    context: &Context,
    record: &Record,
    purpose: &str,
    custodians: &[String],
    body: impl FnOnce(&mut Ceremony) -> anyhow::Result<()>,
) -> anyhow::Result<Ending> {
    let occasion = Occasion {
        purpose,
        custodians,
        action: AuditAction::KeyCeremonyHeld,
        object: "root keys".to_owned(),
        order: None,
    };
    let ((), told) = hold(context, record, occasion, body)?;
    end(context, &told)
}

pub(super) fn end(context: &Context, told: &Value) -> anyhow::Result<Ending> {
    context.output.object(told)?;
    Ok(Ending::Done)
}

fn new(context: &Context, arguments: &NewArguments) -> anyhow::Result<Ending> {
    let custodians = &arguments.custodians;
    custodians.scheme()?;
    let paths = context.home.realm();
    anyhow::ensure!(
        paths.is_realm() || paths.catalogue().exists() || !paths.keystore().exists(),
        "there is a keystore in {} already. If a ceremony stopped there, its parts are those of this keystore, and `tapfer \
         serve` goes on with it; for another realm name an empty directory",
        context.home.path().display()
    );
    anyhow::ensure!(
        !paths.is_realm() && !paths.keystore().exists() && !paths.catalogue().exists(),
        "there are keys in {} already. If a ceremony stopped there, its custodians go on with `tapfer keys ceremony \
         install`; for another realm name an empty directory",
        context.home.path().display()
    );
    let kind = match arguments.realm {
        Kind::Demo => RealmKind::Demo,
        Kind::Production => RealmKind::Production,
    };
    create_private_directory(context.home.path())?;
    let place = Place::find(context, &arguments.vault, kind, None)?;
    let id = RealmId::new(clock::now(), random_bytes());
    let (record, purpose) = (&arguments.record, "root keys of a new realm");
    hold_for_roots(context, record, purpose, &custodians.names, |ceremony| {
        ceremony.transcript.realm(id);
        place.demand_ready(context, id, &mut ceremony.transcript)?;
        let roots = draw()?;
        ceremony.transcript.step(
            "root keys drawn from the cryptographic library's and the system's random sources, mixed",
        );
        ceremony.roots_are(&roots)?;
        ceremony.divide(SecretKind::RootKeys, &roots.to_shared(), custodians, &arguments.parts)?;
        place.begin_realm(context, (kind, id), roots, &mut ceremony.transcript)
    })
}

/// Two root keys, as good as the better of two random sources.
pub(super) fn draw() -> anyhow::Result<RootKeys> {
    Ok(RootKeys::mixed(&[&library, &system])?)
}

fn share(context: &Context, arguments: &ShareArguments) -> anyhow::Result<Ending> {
    let custodians = &arguments.custodians;
    custodians.scheme()?;
    let keystore = context.home.realm().keystore();
    anyhow::ensure!(
        keystore.exists(),
        "there is no keystore in {}: root keys in HSMs come out for nobody. New parts come from the custodians' old \
         ones: tapfer keys ceremony reshare",
        context.home.path().display()
    );
    let purpose = "parts of the root keys of a keystore";
    hold_for_roots(context, &arguments.record, purpose, &custodians.names, |ceremony| {
        let unlock = unlock::find(&context.home, arguments.vault.passphrase_file.as_deref())?;
        let (realm, roots) = SoftwareHsm::roots_of_keystore(&keystore, &unlock)?;
        ceremony.transcript.realm(realm);
        ceremony.roots_are(&roots)?;
        let secret = roots.to_shared();
        ceremony.divide(SecretKind::RootKeys, &secret, custodians, &arguments.parts)?;
        Ok(())
    })
}

fn install(context: &Context, arguments: &InstallArguments) -> anyhow::Result<Ending> {
    let paths = context.home.realm();
    anyhow::ensure!(
        !paths.keystore().exists(),
        "there is a keystore in {} already; root keys are put where there are none",
        context.home.path().display()
    );
    let (kind, realm) = realm_here(&paths).with_context(|| {
        format!("no realm in {}; restore its backup first", context.home.path().display())
    })?;
    let place = Place::find(context, &arguments.vault, kind, arguments.member.as_deref())?;
    let purpose = "root keys put into a vault";
    hold_for_roots(context, &arguments.record, purpose, &[], |ceremony| {
        ceremony.transcript.realm(realm);
        place.demand_ready(context, realm, &mut ceremony.transcript)?;
        let agreement = Agreement {
            about: format!(
                "THE ROOT KEYS of realm {realm} are about to be put into {}. That is as much as all its keys. The \
                 custodians agree only if they know whose that is.",
                place.in_words(context)
            ),
            word: "install".to_owned(),
        };
        let (roots, _) = ceremony.roots_of(&arguments.parts, &agreement)?;
        place.install(context, (kind, realm), roots, &mut ceremony.transcript)
    })
}

/// Which realm is here: one that was begun and never started has a catalogue, and no description yet.
pub(super) fn realm_here(paths: &RealmPaths) -> Option<(RealmKind, RealmId)> {
    let of_catalogue = || {
        let bytes = std::fs::read(paths.catalogue()).ok()?;
        UnverifiedCatalogue::parse(&bytes).ok().map(|catalogue| catalogue.realm())
    };
    tapfer_server::realm::described(paths).or_else(of_catalogue)
}

fn verify(context: &Context, arguments: &VerifyArguments) -> anyhow::Result<Ending> {
    let compared = match realm_here(&context.home.realm()) {
        Some((_, realm)) => format!("compared with the catalogue of realm {realm}"),
        None => "compared with nothing, because NO REALM IS HERE".to_owned(),
    };
    let agreement = Agreement {
        about: format!(
            "The parts are put together in the memory of this machine, {compared}, and forgotten. Nothing is changed, \
             and nobody gets anything."
        ),
        word: "verify".to_owned(),
    };
    hold_for_roots(context, &arguments.record, "parts verified", &[], |ceremony| {
        let (roots, _) = ceremony.roots_of(&arguments.parts, &agreement)?;
        compare_with_catalogue(context, ceremony, roots)
    })
}

fn reshare(context: &Context, arguments: &ReshareArguments) -> anyhow::Result<Ending> {
    let custodians = &arguments.custodians;
    let scheme = custodians.scheme()?;
    let paths = context.home.realm();
    let described = realm_here(&paths).filter(|_| paths.catalogue().exists());
    let described = described.filter(|_| paths.is_realm() && paths.has_database());
    let (_, realm) = described.with_context(|| {
        format!(
            "in {} there is no realm with a catalogue of keys and an audit log. New parts of root keys are not given \
             out where nothing tells whose keys they are, or keeps that it was done: name the realm's directory; a new \
             realm is started once first (tapfer serve)",
            context.home.path().display()
        )
    })?;
    let agreement = Agreement {
        about: format!(
            "NEW PARTS of the root keys of realm {realm} are about to be given to: {}. Any {} of these {} people \
             together then have every key of the realm, and need nobody else for it. The custodians agree only if \
             they know these people, and see them here.",
            custodians.names.join(", "),
            scheme.threshold(),
            scheme.parts()
        ),
        word: "reshare".to_owned(),
    };
    let purpose = "new parts of root keys";
    hold_for_roots(context, &arguments.record, purpose, &custodians.names, |ceremony| {
        let (roots, old) = ceremony.roots_of(&arguments.from, &agreement)?;
        if let Some(part) = old.parts().first() {
            let before = part.ceremony();
            ceremony.transcript.step(format!("parts of ceremony {before} are to be destroyed"));
        }
        let secret = roots.to_shared();
        ceremony.keys_over(context, roots)?;
        ceremony.divide(SecretKind::RootKeys, &secret, custodians, &arguments.to)?;
        Ok(())
    })
}

/// That roots and catalogue are of one realm, if there is a catalogue here.
fn compare_with_catalogue(
    context: &Context,
    ceremony: &mut Ceremony,
    roots: RootKeys,
) -> anyhow::Result<()> {
    if context.home.realm().catalogue().exists() {
        ceremony.keys_over(context, roots).map(drop)
    } else {
        ceremony.transcript.step("THERE WAS NO CATALOGUE to compare the root keys with");
        Ok(())
    }
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
