//! Memory beside the tables. Whatever is kept must be what the tables say, or a payment was decided on something that is
//! not so.

use std::fmt::Display;

use super::{Hot, HotToken, Tables};
use crate::{Inconsistency, StorageError};

type Result = std::result::Result<(), StorageError>;

fn same<T: PartialEq>(kept: &T, found: &T, id: impl Display, column: &'static str) -> Result {
    if kept == found {
        return Ok(());
    }
    Err(Inconsistency { table: "memory", id: id.to_string(), column }.into())
}

impl Hot {
    /// Compares everything that is kept. The tables must know all that the journal does.
    ///
    /// # Errors
    /// [`StorageError::Inconsistent`] names the first thing that differs: a defect.
    pub(crate) fn compare<T: Tables<Error = StorageError>>(&self, tables: &T) -> Result {
        for (hash, id) in self.numbers.iter() {
            same(&Some(*id), &tables.token_with_number(hash)?, id, "number_hash")?;
        }
        for (id, token) in self.tokens.iter() {
            token.compare(tables, tables.token(*id)?)?;
        }
        for (id, card) in self.cards.iter() {
            same(&Some(card), &tables.card(*id)?.as_ref(), id, "card, balance or PIN")?;
        }
        for (id, issuer) in self.issuers.iter() {
            let mut issuer = issuer.clone();
            for (version, policy) in issuer.policies.drain() {
                same(&Some(&*policy), &tables.policy(*id, version)?.as_ref(), id, "policy")?;
            }
            let found = tables.issuer(*id)?.map(|mut found| {
                found.policies.clear();
                found
            });
            same(&Some(issuer), &found, id, "issuer")?;
        }
        for (id, verdict) in self.verdicts.iter() {
            same(verdict, &tables.verdict(*id)?, id, "verdict")?;
        }
        for (id, terminal) in self.terminals.iter() {
            same(terminal, &tables.terminal(*id)?, id, "terminal or merchant")?;
        }
        for (id, intent) in self.intents.iter() {
            same(&**intent, &tables.intent(*id)?, id, "intent")?;
        }
        Ok(())
    }
}

impl HotToken {
    fn compare<T: Tables<Error = StorageError>>(&self, tables: &T, found: Option<Self>) -> Result {
        let id = self.token.id;
        let Some(found) = found else { return same(&true, &false, id, "token") };
        for (counter, by) in found.counters.iter() {
            same(&self.counters.get(counter), &Ok(Some(by)), id, "spent counter")?;
        }
        for (counter, by) in self.counters.iter() {
            same(&Some(by), &tables.spent(id, counter)?, id, "spent counter")?;
        }
        for ((class, index), key) in &self.keys {
            same(&Some(*key), &tables.key(id, *class, *index)?, id, "key")?;
        }
        let kept =
            Self { counters: found.counters.clone(), keys: found.keys.clone(), ..self.clone() };
        same(&kept, &found, id, "token, person or highest counter")
    }
}
