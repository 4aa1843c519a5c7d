//! Issuers.

use tapfer_payment_types::IssuerId;
use tapfer_payments::audit::AuditAction;
use tapfer_payments::issuers::{
    ApplicationIdentifier, CountryCode, Issuer, KeyPolicy, NumberPrefix,
};

use super::rows::{Columns, Listing, all_readable, execute, first, found, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, policies};
use crate::{IssuerStore, Page, Refusal, Slice, Write, Written};

pub(crate) fn find(connection: &Connection, id: IssuerId) -> Result<Option<Issuer>> {
    first(connection, "SELECT * FROM issuers WHERE id = ?1", [id.to_string()], read)
}

pub(crate) fn get(connection: &Connection, id: IssuerId) -> Result<Issuer> {
    found(find(connection, id)?, "issuer", id)
}

pub(crate) fn read(row: &Row<'_>) -> Result<Issuer> {
    let columns = Columns::new(row, "issuers");
    let aid: Vec<u8> = columns.get("aid")?;
    Ok(Issuer {
        id: columns.parse("id")?,
        name: columns.get("name")?,
        country: columns.checked("country", CountryCode::new(columns.number("country")?))?,
        pan_prefix: columns.parse_optional("pan_prefix")?,
        token_prefix: columns.parse("token_prefix")?,
        currency: columns.parse("currency")?,
        aid: columns.checked("aid", ApplicationIdentifier::new(&aid))?,
        unverified_limit_minor: columns.get("unverified_limit")?,
        policy_version: columns.number("policy_version")?,
        key_policy: KeyPolicy {
            maximum_payments: columns.number("key_maximum_payments")?,
            maximum_total_minor: columns.get("key_maximum_total")?,
            lifetime_seconds: columns.get("key_lifetime_seconds")?,
            keys_per_replenishment: columns.number("keys_per_replenishment")?,
            single_use: columns.get("single_use")?,
            verified_payments: columns.number("verified_payments")?,
        },
        derivation_key_index: columns.number("derivation_key_index")?,
        certificate: columns.get("certificate")?,
        created_at: columns.time("created_at")?,
    })
}

fn insert(connection: &Connection, issuer: &Issuer) -> Result<()> {
    execute(
        connection,
        "INSERT INTO issuers (id, name, country, pan_prefix, token_prefix, currency, aid,
             unverified_limit, policy_version, key_maximum_payments, key_maximum_total,
             key_lifetime_seconds, keys_per_replenishment, derivation_key_index, certificate,
             created_at, single_use, verified_payments)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
             ?18)",
        params![
            issuer.id.to_string(),
            issuer.name,
            issuer.country.numeric(),
            issuer.pan_prefix.as_ref().map(NumberPrefix::as_str),
            issuer.token_prefix.as_str(),
            issuer.currency.code(),
            issuer.aid.as_bytes(),
            issuer.unverified_limit_minor,
            issuer.policy_version,
            issuer.key_policy.maximum_payments,
            issuer.key_policy.maximum_total_minor,
            issuer.key_policy.lifetime_seconds,
            issuer.key_policy.keys_per_replenishment,
            issuer.derivation_key_index,
            issuer.certificate,
            issuer.created_at.unix_millis(),
            issuer.key_policy.single_use,
            issuer.key_policy.verified_payments,
        ],
    )?;
    Ok(())
}

/// No number may belong to two ranges: not a card's and a token's of one issuer, nor of two issuers.
fn refuse_overlap(connection: &Connection, issuer: &Issuer) -> Result<()> {
    // Of these columns alone: a row that makes no sense otherwise has its ranges.
    let mut taken: Vec<NumberPrefix> = all_readable(
        connection,
        "SELECT id, pan_prefix, token_prefix FROM issuers",
        params![],
        |row| {
            let columns = Columns::new(row, "issuers");
            Ok((columns.parse_optional("pan_prefix")?, columns.parse("token_prefix")?))
        },
    )?
    .into_iter()
    .flat_map(|(pan, token): (Option<NumberPrefix>, _)| pan.into_iter().chain([token]))
    .collect();
    for prefix in issuer.pan_prefix.iter().chain([&issuer.token_prefix]) {
        if taken.iter().any(|other| other.overlaps(prefix)) {
            return Err(Refusal::Exists("number prefix").into());
        }
        taken.push(prefix.clone());
    }
    Ok(())
}

impl<E: Engine> IssuerStore for E {
    fn create_issuer(&self, issuer: Issuer, write: Write<Issuer>) -> Result<Written<Issuer>> {
        self.change(write, AuditAction::IssuerCreated, move |connection, now| {
            issuer.check()?;
            lock(connection, Guard::NumberRanges, "number ranges")?;
            refuse_overlap(connection, &issuer)?;
            insert(connection, &issuer)?;
            policies::insert(connection, issuer.id, &issuer.first_policy()?, now)?;
            let id = issuer.id;
            Ok(Changed::new(issuer, id))
        })
    }

    fn renew_issuer_keys(
        &self,
        id: IssuerId,
        derivation_key_index: u8,
        certificate: Vec<u8>,
        write: Write<()>,
    ) -> Result<Written<()>> {
        self.change(write, AuditAction::IssuerKeysRenewed, move |connection, _| {
            get(connection, id)?;
            execute(
                connection,
                "UPDATE issuers SET derivation_key_index = ?2, certificate = ?3 WHERE id = ?1",
                params![id.to_string(), derivation_key_index, certificate],
            )?;
            let detail = format!("derivation key index {derivation_key_index}");
            Ok(Changed::new((), id).because(detail))
        })
    }

    fn issuer(&self, id: IssuerId) -> Result<Option<Issuer>> {
        self.read_apart(|connection| find(connection, id))
    }

    fn list_issuers(&self, page: Page<IssuerId>) -> Result<Slice<Issuer, IssuerId>> {
        let list = Listing { select: "SELECT * FROM issuers", key: "id", filters: &[] };
        self.read_apart(|connection| list.slice(connection, page, read, |issuer| issuer.id))
    }
}
