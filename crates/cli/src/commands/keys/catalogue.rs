//! `tapfer keys ceremony accept-catalogue`: the way out where the database knows a catalogue that nobody has.

use std::fs;

use anyhow::{Context as _, ensure};
use clap::Args;
use tapfer_hsm::SoftwareHsm;
use tapfer_hsm::catalogue::{KeyState, UnverifiedCatalogue};
use tapfer_hsm::custody::KeyCustody as _;
use tapfer_hsm::software::SoftwareVault;

use super::ceremony::hold_for_roots;
use super::held::Record;
use crate::ceremony::{Agreement, PartsFrom};
use crate::clock;
use crate::context::Context;
use crate::failure::Ending;

#[derive(Debug, Args)]
pub(crate) struct AcceptCatalogueArguments {
    #[command(flatten)]
    parts: PartsFrom,
    #[command(flatten)]
    record: Record,
}

pub(crate) fn accept(
    context: &Context,
    arguments: &AcceptCatalogueArguments,
) -> anyhow::Result<Ending> {
    let path = context.home.realm().catalogue();
    let purpose = "the realm's catalogue of keys, in the place of the one that the database knows";
    hold_for_roots(context, &arguments.record, purpose, &[], |ceremony| {
        let audit =
            ceremony.audit.clone().context("there is no database here that knows a catalogue")?;
        let known = audit.newest_catalogue()?.context("this database knows no catalogue yet")?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = UnverifiedCatalogue::parse(&bytes)
            .map_err(|fault| anyhow::anyhow!("{}: {fault}", path.display()))?;
        let with = |state| shown.records().filter(|record| record.state == state).count();
        let (version, in_use) = (shown.version(), with(KeyState::Active));
        let (retired, destroyed) = (with(KeyState::Retired), with(KeyState::Destroyed));
        let about = format!(
            "Version {version} of the catalogue of keys is about to take the place of version {}, which the database knows. \
             It has {in_use} keys in use, {retired} retired and {destroyed} destroyed. Keys that were destroyed or retired \
             behind it come back, and those that were made behind it are lost. Agree only if there is no newer copy.",
            known.version
        );
        let agreement = Agreement { about, word: format!("accept catalogue {version}") };
        let (roots, _) = ceremony.roots_of(&arguments.parts, &agreement)?;
        let keys = SoftwareHsm::over_catalogue(SoftwareVault::new(roots), &path)?;
        let accepted = keys.follow(None)?;
        ceremony.transcript.realm(keys.realm_of_catalogue().1);
        ceremony.transcript.step("the root keys open the realm's catalogue");
        ensure!(
            accepted.version == version,
            "the catalogue became version {} meanwhile, and version {version} was agreed to",
            accepted.version
        );
        ensure!(
            keys.follow(Some(&known)).is_err(),
            "the catalogue comes from the one that the database knows: there is nothing to accept"
        );
        audit.accept_catalogue(known, accepted, clock::now())?;
        ceremony.transcript.step(format!(
            "version {version} of the catalogue accepted in the place of version {}: {in_use} keys in use, {retired} \
             retired, {destroyed} destroyed",
            known.version
        ));
        Ok(())
    })
}
