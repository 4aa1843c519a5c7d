//! A key ceremony: people at a table, each with a part of a secret, and a paper that says what was done.
//!
//! No one person ever sees enough to rebuild the secret: each part is shown to its custodian alone, typed
//! back to prove that it was written down rightly, and gone from the screen before the next one sits down.

mod table;
mod transcript;

pub(crate) use table::{Agreement, PartsFrom, PartsTo, Wanted, agree_again, gather, hand_out};
pub(crate) use transcript::{Participant, Transcript};

use clap::Args;
use tapfer_hsm::seclusion::{self, NotLocked};
use tapfer_hsm::sharing::Scheme;

use crate::failure::UsageError;
use crate::output::Output;

/// Longest name of a person, in characters.
const LONGEST_NAME: usize = 60;

/// Who is at the table.
#[derive(Debug, Clone, Args)]
pub(crate) struct People {
    /// Who leads the ceremony and types the commands
    #[arg(long, value_name = "NAME")]
    pub(crate) officer: String,
    /// Who watches and signs; may be given several times
    #[arg(long = "witness", value_name = "NAME")]
    pub(crate) witnesses: Vec<String>,
}

/// Who gets a part, and how many of them it takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Custodians {
    /// How many custodians must come together to rebuild the secret, at least 2
    #[arg(long, value_name = "M")]
    pub(crate) threshold: u8,
    /// Who gets a part; once for each custodian, up to 16
    #[arg(long = "custodian", value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
}

impl People {
    /// Everyone who signs, custodians as well.
    ///
    /// # Errors
    /// A name that is none.
    pub(crate) fn participants(&self, custodians: &[String]) -> anyhow::Result<Vec<Participant>> {
        let officer = [("officer", &self.officer)].into_iter();
        let witnesses = self.witnesses.iter().map(|name| ("witness", name));
        let custodians = custodians.iter().map(|name| ("custodian", name));
        officer
            .chain(witnesses)
            .chain(custodians)
            .map(|(role, name)| Ok(Participant { role, name: checked(name)? }))
            .collect()
    }
}

impl Custodians {
    /// The scheme, if the custodians are as many people as there are parts.
    ///
    /// # Errors
    /// Too few or too many; two of the same name, which would make one person hold two parts.
    pub(crate) fn scheme(&self) -> anyhow::Result<Scheme> {
        let mut names: Vec<String> =
            self.names.iter().map(|name| name.trim().to_lowercase()).collect();
        names.sort();
        if names.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
            return Err(UsageError(
                "two custodians have the same name: one person must not hold two parts".to_owned(),
            )
            .into());
        }
        let parts = u8::try_from(self.names.len()).unwrap_or(u8::MAX);
        Ok(Scheme::new(self.threshold, parts)
            .map_err(|error| UsageError(format!("--threshold and --custodian: {error}")))?)
    }
}

fn checked(name: &str) -> anyhow::Result<String> {
    let name = name.trim();
    let is_plain = !name.chars().any(char::is_control);
    if name.is_empty() || name.chars().count() > LONGEST_NAME || !is_plain {
        return Err(UsageError(format!(
            "{name:?} is no name of a person, up to {LONGEST_NAME} characters"
        ))
        .into());
    }
    Ok(name.to_owned())
}

/// Keeps what is rebuilt here out of swap and core dumps, as far as the system allows. Says so if not.
pub(crate) fn lock_memory(output: Output) -> bool {
    let secluded = seclusion::forbid_looking().map_err(NotLocked::from);
    let locked = secluded.and_then(|()| seclusion::lock_memory());
    if let Err(error) = &locked {
        output.remark(format!(
            "caution: this process's memory is not locked, so what is rebuilt here may reach the swap device: {error}"
        ));
    }
    locked.is_ok()
}

/// Lets go of locked memory, before work that needs more than a limit may allow to be locked.
pub(crate) fn release_memory() {
    // What fails here was not locked before.
    let _not_locked = rustix::mm::munlockall();
}
