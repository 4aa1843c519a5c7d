//! Key block protection keys, and who has agreed to them.
//!
//! A protection key opens what is exported under it, and its holders know what is imported under it. Anybody can draw
//! one and invent the people who get its parts. So it counts here only once the custodians of the root keys have come
//! together over it, seen whose it is, and agreed ([`tapfer_hsm::protection_keys`]).

use std::fs;
use std::io;

use anyhow::{Context as _, ensure};
use clap::Args;
use data_encoding::HEXUPPER;
use tapfer_hsm::key_block::{ProtectionKey, Version};
use tapfer_hsm::protection_keys::{AcceptedProtectionKey, ProtectionKeys};
use tapfer_hsm::sharing::{CeremonyId, Scheme, SecretKind, check_value};
use tapfer_hsm::software::RootKeys;
use tapfer_payment_types::Secret;
use tapfer_payments::audit::AuditAction;

use super::ceremony::{draw as draw_roots, end};
use super::exchange::BothParts;
use super::held::{Ceremony, Occasion, Record, hold};
use crate::ceremony::{Agreement, Custodians, PartsFrom, PartsTo, Wanted, agree_again};
use crate::clock;
use crate::context::Context;
use crate::failure::Ending;
use crate::home::write_private;

/// Its name in transcripts and in the audit log.
const PROTECTION_KEY: &str = "key block protection key";

#[derive(Debug, Args)]
pub(crate) struct ProtectionArguments {
    #[command(flatten)]
    custodians: Custodians,
    #[command(flatten)]
    parts: PartsTo,
    #[command(flatten)]
    roots: PartsFrom,
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Args)]
pub(crate) struct AcceptArguments {
    #[command(flatten)]
    parts: BothParts,
    #[command(flatten)]
    record: Record,
}

fn occasion<'a>(purpose: &'a str, custodians: &'a [String]) -> Occasion<'a> {
    let (action, object) = (AuditAction::KeyCeremonyHeld, PROTECTION_KEY.to_owned());
    Occasion { purpose, custodians, action, object, order: None }
}

/// Draws one. In a realm's directory its custodians come, agree to the people who get parts, and see them get those.
pub(super) fn draw(context: &Context, arguments: &ProtectionArguments) -> anyhow::Result<Ending> {
    let ProtectionArguments { custodians, parts, roots, record } = arguments;
    let scheme = custodians.scheme()?;
    let has_realm = context.home.realm().catalogue().exists();
    ensure!(
        has_realm || roots.parts.is_empty(),
        "there is no realm in {} whose custodians could accept the key; leave out --part, or name its directory",
        context.home.path().display()
    );
    let occasion = occasion("a key block protection key", &custodians.names);
    let (_, told) = hold(context, record, occasion, |ceremony| {
        // Half of what is drawn for two root keys, by the same way.
        let drawn = draw_roots()?.to_shared();
        let key: [u8; 32] = *drawn.expose().first_chunk().context("a key has 32 bytes")?;
        let key = Secret::new(key.to_vec());
        let value = ceremony.protection_key_is(&key)?;
        let realm_roots = match has_realm {
            false => None,
            true => Some(agreed_roots(ceremony, roots, &custodians.names, scheme, &value)?),
        };
        let id = ceremony.divide(SecretKind::BlockProtection, &key, custodians, parts)?;
        match realm_roots {
            Some(roots) => {
                let held_by = custodians.names.clone();
                register(context, ceremony, record, (&key, id, scheme), held_by, roots)
            }
            None => {
                ceremony.transcript.step(
                    "no realm is here: a realm takes the key once its custodians have accepted it (tapfer keys \
                     ceremony accept-protection)",
                );
                Ok(())
            }
        }
    })?;
    end(context, &told)
}

fn agreed_roots(
    ceremony: &mut Ceremony,
    roots: &PartsFrom,
    names: &[String],
    scheme: Scheme,
    value: &str,
) -> anyhow::Result<RootKeys> {
    let agreement = Agreement {
        about: format!(
            "A key block protection key, check value {value}, is about to be given out. Any {} of these {} people will \
             read every key that is ever exported under it: {}. The custodians of the root keys agree only if they \
             know these people, and see them here.",
            scheme.threshold(),
            scheme.parts(),
            names.join(", ")
        ),
        word: "protection".to_owned(),
    };
    Ok(ceremony.roots_of(roots, &agreement)?.0)
}

/// Accepts one that was drawn elsewhere.
pub(super) fn accept(context: &Context, arguments: &AcceptArguments) -> anyhow::Result<Ending> {
    let AcceptArguments { parts, record } = arguments;
    let catalogue = context.home.realm().catalogue();
    ensure!(catalogue.exists(), "there is no realm in {}", context.home.path().display());
    let occasion = occasion("a key block protection key accepted", &[]);
    let (_, told) = hold(context, record, occasion, |ceremony| {
        let protection = ceremony.protection_key(parts)?;
        let ProtectionInHand { key, value, ceremony: id, scheme, .. } = &protection;
        let about = format!(
            "The key block protection key of ceremony {id}, check value {value}, was brought by people who gave the names {}. Any {} of the {} \
             people who have its parts will read every key that is ever exported under it. The custodians of the \
             root keys agree only if they know who these people are, and have their check value from them.",
            ceremony.transcript.bringers(SecretKind::BlockProtection).join(" and "),
            scheme.threshold(),
            scheme.parts(),
        );
        let agreement = Agreement { about, word: format!("accept {value}") };
        let (roots, _) = ceremony.roots_of(&parts.roots, &agreement)?;
        let held_by = ceremony.transcript.bringers(SecretKind::BlockProtection);
        register(context, ceremony, record, (key, *id, *scheme), held_by, roots)
    })?;
    end(context, &told)
}

/// Writes down that the custodians accepted a key.
fn register(
    context: &Context,
    ceremony: &mut Ceremony,
    record: &Record,
    (key, id, scheme): (&Secret<Vec<u8>>, CeremonyId, Scheme),
    held_by: Vec<String>,
    roots: RootKeys,
) -> anyhow::Result<()> {
    let realm = ceremony.keys_over(context, roots.for_another())?.realm_of_catalogue().1;
    let accepted = AcceptedProtectionKey {
        realm,
        ceremony: id.to_string(),
        check_value: check_value_of(key)?,
        threshold: scheme.threshold(),
        parts: scheme.parts(),
        held_by,
        accepted_by: ceremony.transcript.bringers(SecretKind::RootKeys),
        officer: record.officer().to_owned(),
        accepted_at: clock::now(),
    };
    let mut keys = read(context)?;
    keys.accept(&roots, key, accepted);
    write_private(&context.home.realm().protection_keys(), &keys.encode())?;
    ceremony.transcript.step(format!("protection key of ceremony {id} accepted in this realm"));
    Ok(())
}

fn read(context: &Context) -> anyhow::Result<ProtectionKeys> {
    let file = context.home.realm().protection_keys();
    match fs::read(&file) {
        Ok(bytes) => ProtectionKeys::parse(&bytes).with_context(|| file.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ProtectionKeys::default()),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

fn check_value_of(key: &Secret<Vec<u8>>) -> anyhow::Result<String> {
    let key = key.expose().as_slice().try_into().context("a protection key has 32 bytes")?;
    Ok(HEXUPPER.encode(&check_value(key)))
}

/// A protection key that its custodians rebuilt.
pub(super) struct ProtectionInHand {
    /// Ready to open and to seal blocks.
    pub(super) of_blocks: ProtectionKey,
    key: Secret<Vec<u8>>,
    value: String,
    ceremony: CeremonyId,
    scheme: Scheme,
}

impl Ceremony {
    fn protection_key_is(&mut self, key: &Secret<Vec<u8>>) -> anyhow::Result<String> {
        let bytes = key.expose().as_slice().try_into().context("a protection key has 32 bytes")?;
        self.transcript.check_value(PROTECTION_KEY, check_value(bytes));
        check_value_of(key)
    }

    fn protection_key(&mut self, parts: &BothParts) -> anyhow::Result<ProtectionInHand> {
        let from = PartsFrom { parts: parts.protection_parts.clone(), agreed: None };
        let (gathering, key) = self.gather(&from, Wanted::BlockProtection)?;
        let part = gathering.parts().first().context("parts give a key")?;
        let (ceremony, scheme) = (part.ceremony(), part.scheme());
        let value = self.protection_key_is(&key)?;
        let of_blocks = ProtectionKey::new(Version::D, Secret::new(key.expose().clone()))?;
        Ok(ProtectionInHand { of_blocks, key, value, ceremony, scheme })
    }

    /// Protection key and root keys for an exchange, if the realm's custodians have accepted the first, and agree to
    /// `what` is said of it with the protection key in hand. `verb` and its check value are what they type.
    pub(super) fn for_exchange(
        &mut self,
        context: &Context,
        parts: &BothParts,
        verb: &str,
        what: impl FnOnce(&ProtectionInHand) -> anyhow::Result<String>,
    ) -> anyhow::Result<(ProtectionInHand, RootKeys)> {
        let protection = self.protection_key(parts)?;
        let (id, value) = (protection.ceremony, &protection.value);
        let refused = || {
            format!(
                "the protection key of ceremony {id}, check value {value}, was not accepted by this realm's \
                 custodians, so nothing is exchanged under it. If it is the right one, they hold: tapfer keys \
                 ceremony accept-protection"
            )
        };
        let keys = read(context)?;
        ensure!(keys.mentions(&id.to_string(), value), refused());
        let what = format!(
            "{} under the key block protection key of ceremony {id}, check value {value}.",
            what(&protection)?
        );
        // Who has parts of it stands in a file that anybody may have written, until the root keys prove it.
        let mut agreement = Agreement {
            about: format!(
                "{what} Whose that key is, you are shown when your parts have proven it, and are asked again."
            ),
            word: format!("{verb} {value}"),
        };
        let (roots, _) = self.roots_of(&parts.roots, &agreement)?;
        let (_, realm) =
            super::ceremony::realm_here(&context.home.realm()).context("there is no realm here")?;
        let known = keys.accepted(&roots, &protection.key, realm).with_context(refused)?;
        let proven = in_words(known);
        self.transcript
            .step(format!("protection key {value} is one that the custodians accepted: {proven}"));
        if parts.roots.parts.is_empty() {
            agreement.about = format!("{what} PROVEN by your root keys: {proven}");
            let custodians = self.transcript.bringers(SecretKind::RootKeys);
            agree_again(self.output, &agreement, &custodians, &mut self.transcript)?;
        }
        Ok((protection, roots))
    }
}

/// What was agreed to about a protection key, and is proven.
fn in_words(known: &AcceptedProtectionKey) -> String {
    format!(
        "any {} of its {} parts rebuild it; {} of the people who have them were named: {}. It was accepted on {} by {}, \
         officer {}.",
        known.threshold,
        known.parts,
        known.held_by.len(),
        known.held_by.join(", "),
        known.accepted_at,
        known.accepted_by.join(" and "),
        known.officer
    )
}
