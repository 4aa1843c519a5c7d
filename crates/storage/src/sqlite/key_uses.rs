//! What in the database is worth nothing without a key.

use rusqlite::{Connection, Params};
use tapfer_payment_types::{IssuerId, Timestamp};

use super::{Result, SqliteStorage};

/// A generation of an issuer's keys, as far as rows of the database hang on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// Limited-use keys on phones are derived from it.
    IssuerMaster {
        /// The derivation key index, which is the generation.
        index: u8,
    },
    /// It wraps the keys of sealed records.
    CardRecords {
        /// What those records begin with.
        prefix: [u8; 2],
    },
    /// Values of cards' PINs are made with it. They do not say with which generation.
    CardPins,
}

impl SqliteStorage {
    /// Kinds of rows that are worth nothing without a key, and how many of each there are; kinds without rows are left
    /// out.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn rows_under(
        &self,
        issuer: IssuerId,
        key: KeyUse,
        now: Timestamp,
    ) -> Result<Vec<(&'static str, u64)>> {
        let issuer = issuer.to_string();
        let counted = self.read(|connection| match key {
            KeyUse::IssuerMaster { index } => Ok(vec![(
                "keys on phones that can still pay",
                count(
                    connection,
                    "SELECT count(*) FROM limited_use_keys AS key
                     JOIN tokens ON tokens.id = key.token_id
                     WHERE tokens.issuer_id = ?1 AND key.derivation_key_index = ?2
                         AND key.expires_at > ?3 AND tokens.status <> 'DEACTIVATED'",
                    (&issuer, index, now.unix_millis()),
                )?,
            )]),
            KeyUse::CardRecords { prefix } => {
                let of = |query| count(connection, query, (&issuer, prefix));
                Ok(vec![
                    (
                        "card numbers",
                        of("SELECT count(*) FROM cards
                            WHERE issuer_id = ?1 AND substr(number_sealed, 1, 2) = ?2")?,
                    ),
                    (
                        "token numbers",
                        of("SELECT count(*) FROM tokens
                            WHERE issuer_id = ?1 AND substr(number_sealed, 1, 2) = ?2")?,
                    ),
                    (
                        "PINs of phones",
                        of("SELECT count(*) FROM person_keys AS person
                            JOIN tokens ON tokens.id = person.token_id
                            WHERE tokens.issuer_id = ?1 AND substr(person.key_sealed, 1, 2) = ?2")?,
                    ),
                ])
            }
            KeyUse::CardPins => Ok(vec![(
                "PINs of cards, of this generation or another",
                count(
                    connection,
                    "SELECT count(*) FROM card_pins AS pin JOIN cards ON cards.id = pin.card_id
                     WHERE cards.issuer_id = ?1",
                    [&issuer],
                )?,
            )]),
        })?;
        Ok(counted.into_iter().filter(|(_, count)| *count > 0).collect())
    }
}

fn count(connection: &Connection, query: &str, parameters: impl Params) -> Result<u64> {
    let count: i64 = connection.query_row(query, parameters, |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
