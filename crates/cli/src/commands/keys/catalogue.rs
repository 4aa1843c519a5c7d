//! `tapfer keys ceremony accept-catalogue`: the way out where the database knows a catalogue that nobody has.

use std::fs;

use anyhow::{Context as _, ensure};
use clap::Args;
use tapfer_hsm::SoftwareHsm;
use tapfer_hsm::catalogue::{KeyState, UnverifiedCatalogue};
use tapfer_hsm::software::SoftwareVault;
use tapfer_server::KnownCatalogue;

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
        let known = audit.newest_catalogue()?;
        ensure!(known != KnownCatalogue::Nothing, "this database knows no catalogue yet");
        // These bytes are what the custodians agree to, whatever lies there when they have given their parts.
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let shown = UnverifiedCatalogue::parse(&bytes)
            .map_err(|fault| anyhow::anyhow!("{}: {fault}", path.display()))?;
        let with = |state| shown.records().filter(|record| record.state == state).count();
        let version = shown.version();
        let counts = format!(
            "{} keys in use, {} retired, {} destroyed",
            with(KeyState::Active),
            with(KeyState::Retired),
            with(KeyState::Destroyed)
        );
        let about = format!(
            "Version {version} of the catalogue of keys ({counts}, as the file says; your parts prove it, or nothing is \
             accepted) is about to take the place of {known}, which the database knows. Keys that were destroyed or \
             retired behind it come back, and those that were made behind it are lost. If a key of configurations was \
             rotated behind it, phones and tills that followed refuse this platform for good and are set up anew. Agree \
             only if there is no newer copy."
        );
        let agreement = Agreement { about, word: format!("accept catalogue {version}") };
        let (roots, _) = ceremony.roots_of(&arguments.parts, &agreement)?;
        let keys = SoftwareHsm::over_catalogue(SoftwareVault::new(roots), &path)?;
        ceremony.transcript.realm(keys.realm_of_catalogue().1);
        let accepted = keys.proven_mark(&shown).with_context(|| {
            format!(
                "{} is not the file any more that was shown and agreed to: nothing was accepted",
                path.display()
            )
        })?;
        ceremony
            .transcript
            .step(format!("the root keys open the realm's catalogue, as it was shown: {counts}"));
        if let KnownCatalogue::Version(known) = &known {
            ensure!(
                shown.demand_descent(known, &path).is_err(),
                "the catalogue comes from the one that the database knows: there is nothing to accept"
            );
        }
        // What cannot be found out is no reason to stop behind the acceptance.
        let may_run = tapfer_server::realm::is_open(context.home.path()).unwrap_or(true);
        audit.accept_catalogue(&known, accepted, clock::now())?;
        ceremony.transcript.step(format!(
            "version {version} of the catalogue accepted in the place of {known}: {counts}"
        ));
        if may_run {
            let running = "A platform runs over this directory meanwhile. It goes on by itself if its root keys are in HSMs \
                           and its workers have used nothing newer; else start it again";
            context.output.remark(running);
            ceremony.transcript.step(running);
        }
        Ok(())
    })
}
