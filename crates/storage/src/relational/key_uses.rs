//! What in the database is worth nothing without a key.

use tapfer_payment_types::{IssuerId, Timestamp};

use super::Result;
use super::rows::{Columns, first};
use super::sql::{Connection, Parameters, params};

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

/// Kinds of rows that are worth nothing without a key, and how many of each there are; kinds without rows are left
/// out.
pub(crate) fn rows_under(
    connection: &Connection,
    issuer: IssuerId,
    key: KeyUse,
    now: Timestamp,
) -> Result<Vec<(&'static str, u64)>> {
    let issuer = issuer.to_string();
    let counted = match key {
        KeyUse::IssuerMaster { index } => vec![(
            "keys on phones that can still pay",
            count(
                connection,
                "SELECT count(*) AS count FROM limited_use_keys AS key
                 JOIN tokens ON tokens.id = key.token_id
                 WHERE tokens.issuer_id = ?1 AND key.derivation_key_index = ?2
                     AND key.expires_at > ?3 AND tokens.status <> 'DEACTIVATED'",
                params![issuer, index, now.unix_millis()],
            )?,
        )],
        KeyUse::CardRecords { prefix } => {
            let of = |query| count(connection, query, params![issuer, prefix]);
            vec![
                (
                    "card numbers",
                    of("SELECT count(*) AS count FROM cards
                        WHERE issuer_id = ?1 AND substr(number_sealed, 1, 2) = ?2")?,
                ),
                (
                    "token numbers",
                    of("SELECT count(*) AS count FROM tokens
                        WHERE issuer_id = ?1 AND substr(number_sealed, 1, 2) = ?2")?,
                ),
                (
                    "PINs of phones",
                    of("SELECT count(*) AS count FROM person_keys AS person
                        JOIN tokens ON tokens.id = person.token_id
                        WHERE tokens.issuer_id = ?1 AND substr(person.key_sealed, 1, 2) = ?2")?,
                ),
            ]
        }
        KeyUse::CardPins => vec![(
            "PINs of cards, of this generation or another",
            count(
                connection,
                "SELECT count(*) AS count FROM card_pins AS pin
                 JOIN cards ON cards.id = pin.card_id WHERE cards.issuer_id = ?1",
                [issuer],
            )?,
        )],
    };
    Ok(counted.into_iter().filter(|(_, count)| *count > 0).collect())
}

fn count(connection: &Connection, query: &str, parameters: impl Parameters) -> Result<u64> {
    let counted = first(connection, query, parameters, |row| {
        Columns::keyed(row, "cards", "count").number("count")
    })?;
    Ok(counted.unwrap_or(0))
}
