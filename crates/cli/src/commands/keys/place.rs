//! Where a realm's root keys go: the software keystore, or the HSMs of `hsm.toml`.

use anyhow::{Context as _, bail, ensure};
use tapfer_hsm::pkcs11::{InstalledRoots, RootsOnToken};
use tapfer_hsm::pool::MemberConfig;
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::{CatalogueError, HsmError, SoftwareHsm, Unlock};
use tapfer_payment_types::RealmId;
use tapfer_server::{RealmKind, members};

use super::keeper::Vault;
use crate::ceremony::Transcript;
use crate::child;
use crate::context::Context;
use crate::unlock;

/// A vault without root keys yet.
pub(super) enum Place {
    /// A file, and what will open it.
    Keystore(Unlock),
    /// Tokens.
    Hsms(Vec<MemberConfig>),
}

impl Place {
    /// What the home directory says: HSMs if there is an `hsm.toml`, all of them or the one that is named.
    pub(super) fn find(
        context: &Context,
        vault: &Vault,
        kind: RealmKind,
        member: Option<&str>,
    ) -> anyhow::Result<Self> {
        let paths = context.home.realm();
        if paths.hsm_configuration().exists() {
            let config = members::configuration(&paths)?;
            ensure!(!config.members.is_empty(), "hsm.toml names no member");
            return Ok(Self::Hsms(match member {
                Some(name) => vec![config.member(name)?.clone()],
                None => config.members,
            }));
        }
        if let Some(name) = member {
            bail!("there is no hsm.toml in {}, so no member {name}", context.home.path().display());
        }
        let file = vault.passphrase_file.as_deref();
        let unlock = unlock::find_or_make(&context.home, file, kind)?;
        // Before anybody has written down or typed a part in vain.
        unlock.demand_hard_to_guess(kind)?;
        Ok(Self::Keystore(unlock))
    }

    /// What it is, and who can use what is in it, for the custodians.
    pub(super) fn in_words(&self, context: &Context) -> String {
        match self {
            Self::Keystore(_) => format!(
                "the SOFTWARE KEYSTORE {}: whoever has that file and what opens it has them, and can copy them",
                context.home.realm().keystore().display()
            ),
            Self::Hsms(members) => {
                let token = |member: &MemberConfig| {
                    let MemberConfig { name, token, module, .. } = member;
                    format!("{name} (token \"{token}\", by {})", module.display())
                };
                let tokens: Vec<String> = members.iter().map(token).collect();
                format!(
                    "the tokens of {}: whoever has the PIN of one of them can work with them",
                    tokens.join(" and of ")
                )
            }
        }
    }

    /// That it is ready to take root keys, before anybody shows or types a part: every HSM is logged in to once.
    ///
    /// # Errors
    /// What is wrong with each member that is not ready.
    pub(super) fn demand_ready(
        &self,
        context: &Context,
        realm: RealmId,
        transcript: &mut Transcript,
    ) -> anyhow::Result<()> {
        let Self::Hsms(members) = self else { return Ok(()) };
        let mut wrong = Vec::new();
        for member in members {
            let found = child::ask_member::<RootsOnToken>(
                &context.home,
                member,
                "look-for-roots",
                realm,
                None,
            );
            match found {
                Ok(_) => transcript.step(format!("logged in to the token of {}", member.name)),
                Err(error) => wrong.push(format!("{}: {error:#}", member.name)),
            }
        }
        ensure!(
            wrong.is_empty(),
            "{} of {} members of hsm.toml are not ready, so nothing was begun: {}",
            wrong.len(),
            members.len(),
            wrong.join("; ")
        );
        Ok(())
    }

    /// Makes the catalogue of a new realm, and puts its root keys there.
    pub(super) fn begin_realm(
        &self,
        context: &Context,
        (kind, realm): (RealmKind, RealmId),
        roots: RootKeys,
        transcript: &mut Transcript,
    ) -> anyhow::Result<()> {
        let paths = context.home.realm();
        match self {
            Self::Keystore(unlock) => {
                let (keystore, catalogue) = (paths.keystore(), paths.catalogue());
                SoftwareHsm::create_with_roots(&keystore, &catalogue, unlock, kind, realm, roots)?;
                transcript.step("root keys put into the software keystore, sealed");
            }
            Self::Hsms(members) => {
                // First, because with it the custodians can go on wherever this stops.
                let vault = SoftwareVault::new(roots.for_another());
                SoftwareHsm::with_new_catalogue(vault, &paths.catalogue(), kind, realm)?;
                transcript.step("catalogue without keys made under the root keys");
                into_hsms(context, members, realm, &roots, transcript)?;
            }
        }
        Ok(())
    }

    /// Puts root keys that custodians rebuilt there, if they open the realm's catalogue. HSMs that have them already
    /// stay as they are.
    pub(super) fn install(
        &self,
        context: &Context,
        (kind, realm): (RealmKind, RealmId),
        roots: RootKeys,
        transcript: &mut Transcript,
    ) -> anyhow::Result<()> {
        let paths = context.home.realm();
        let catalogue = paths.catalogue();
        match self {
            Self::Keystore(unlock) => {
                let keystore = paths.keystore();
                SoftwareHsm::install_roots(&keystore, &catalogue, unlock, kind, realm, roots)?;
                transcript.step("the root keys open the realm's catalogue");
                transcript.step("root keys put into the software keystore, sealed");
            }
            Self::Hsms(members) => {
                let vault = SoftwareVault::new(roots.for_another());
                let keys = SoftwareHsm::over_catalogue(vault, &catalogue)?;
                if keys.realm_of_catalogue() != (kind, realm) {
                    return Err(HsmError::from(CatalogueError::OtherRealm(catalogue)).into());
                }
                transcript.step("the root keys open the realm's catalogue");
                into_hsms(context, members, realm, &roots, transcript)?;
            }
        }
        Ok(())
    }
}

/// Puts root keys on the tokens, and says of every HSM in the transcript what was done, and of its roots what they lack.
fn into_hsms(
    context: &Context,
    members: &[MemberConfig],
    realm: RealmId,
    roots: &RootKeys,
    transcript: &mut Transcript,
) -> anyhow::Result<()> {
    for member in members {
        let name = &member.name;
        let installed =
            child::ask_member(&context.home, member, "install-roots", realm, Some(roots));
        let InstalledRoots { before, lacks, beside } = installed.with_context(|| {
            format!(
                "member {name} did not take the root keys. Those before it have them; the custodians go on with \
                 `tapfer keys ceremony install` once it is mended"
            )
        })?;
        transcript.step(match before {
            RootsOnToken::Neither => format!("root keys put on the token of {name}"),
            RootsOnToken::One => format!("installation on the token of {name} completed"),
            RootsOnToken::Both => format!("the token of {name} has these root keys already"),
        });
        if let Some(beside) = beside {
            let caution = format!("on the token of {name}, beside its root keys: {beside}");
            context.output.remark(&caution);
            transcript.step(caution);
        }
        for lack in lacks {
            let caution = format!(
                "CAUTION: the roots on the token of {name} were put there without this: {lack}. Initialise that token \
                 anew and run `tapfer keys ceremony install --member {name}`; the other members serve meanwhile"
            );
            context.output.remark(&caution);
            transcript.step(caution);
        }
    }
    Ok(())
}
