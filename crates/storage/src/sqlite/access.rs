//! API keys.

use rusqlite::{Connection, Row, params};
use tapfer_payments::access::{ApiKey, Principal, Role};
use tapfer_payments::audit::AuditAction;

use super::rows::{Columns, execute, first};
use super::{Changed, Result, SqliteStorage};
use crate::{AccessStore, Refusal, Write, Written};

pub(super) fn insert(connection: &Connection, key: &ApiKey) -> Result<()> {
    let (mut issuer, mut merchant, mut terminal, mut device) = (None, None, None, None);
    match key.principal {
        Principal::Operator => {}
        Principal::Issuer(id) => issuer = Some(id.to_string()),
        Principal::Merchant(id) => merchant = Some(id.to_string()),
        Principal::Terminal(id) => terminal = Some(id.to_string()),
        Principal::Device(id) => device = Some(id.to_string()),
    }
    execute(
        connection,
        "INSERT INTO api_keys (id, role, issuer_id, merchant_id, terminal_id, device_id,
                               secret_hash, created_at, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            key.id.to_string(),
            key.principal.role().as_str(),
            issuer,
            merchant,
            terminal,
            device,
            key.secret_hash.as_slice(),
            key.created_at.unix_millis(),
            key.revoked_at.map(|at| at.unix_millis()),
        ],
    )?;
    Ok(())
}

/// The key of somebody who is made together with it.
pub(super) fn insert_for(connection: &Connection, key: &ApiKey, owner: Principal) -> Result<()> {
    if key.principal != owner {
        return Err(Refusal::OwnersDiffer("the API key and what it was made for").into());
    }
    insert(connection, key)
}

fn read(row: &Row<'_>) -> Result<ApiKey> {
    let columns = Columns::new(row, "api_keys");
    let principal = match columns.parse("role")? {
        Role::Operator => Principal::Operator,
        Role::Issuer => Principal::Issuer(columns.parse("issuer_id")?),
        Role::Merchant => Principal::Merchant(columns.parse("merchant_id")?),
        Role::Terminal => Principal::Terminal(columns.parse("terminal_id")?),
        Role::Device => Principal::Device(columns.parse("device_id")?),
    };
    Ok(ApiKey {
        id: columns.parse("id")?,
        principal,
        secret_hash: columns.bytes("secret_hash")?,
        created_at: columns.time("created_at")?,
        revoked_at: columns.time_optional("revoked_at")?,
    })
}

impl AccessStore for SqliteStorage {
    fn create_api_key(&self, key: ApiKey, write: Write<ApiKey>) -> Result<Written<ApiKey>> {
        self.change(write, AuditAction::ApiKeyCreated, move |connection, _| {
            insert(connection, &key)?;
            let (id, role) = (key.id, key.principal.role());
            Ok(Changed::new(key, id).because(role.as_str()))
        })
    }

    fn api_key_by_hash(&self, secret_hash: [u8; 32]) -> Result<Option<ApiKey>> {
        let sql = "SELECT * FROM api_keys WHERE secret_hash = ?1";
        self.read(|connection| first(connection, sql, [secret_hash.as_slice()], read))
    }
}
