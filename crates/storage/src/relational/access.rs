//! API keys.

use data_encoding::HEXLOWER;
use tapfer_payment_types::{ApiKeyId, TerminalId, Timestamp};
use tapfer_payments::access::{ApiKey, ClientCertificate, Principal, Role};
use tapfer_payments::audit::{AuditAction, AuditEvent};

use super::known_keys::WhichKey;
use super::rows::{Columns, Listing, all, execute, first, found, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, terminals};
use crate::{AccessStore, Inconsistency, Page, Refusal, Slice, StorageError, Write, Written};

pub(crate) fn insert(connection: &Connection, key: &ApiKey) -> Result<()> {
    let owner = key.principal.to_string();
    let of = |role: Role| (key.principal.role() == role).then_some(&owner);
    execute(
        connection,
        "INSERT INTO api_keys (id, role, issuer_id, merchant_id, terminal_id, device_id,
                               secret_hash, created_at, revoked_at, signature)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            key.id.to_string(),
            key.principal.role().as_str(),
            of(Role::Issuer),
            of(Role::Merchant),
            of(Role::Terminal),
            of(Role::Device),
            key.secret_hash.as_slice(),
            key.created_at.unix_millis(),
            key.revoked_at.map(|at| at.unix_millis()),
            key.signature,
        ],
    )?;
    Ok(())
}

/// The key of somebody who is made together with it.
pub(crate) fn insert_for(connection: &Connection, key: &ApiKey, owner: Principal) -> Result<()> {
    if key.principal != owner {
        return Err(Refusal::OwnersDiffer("the API key and what it was made for").into());
    }
    insert(connection, key)
}

/// Ends all keys of a terminal; returns how many there were.
pub(crate) fn revoke_all_of_terminal(
    connection: &Connection,
    terminal: TerminalId,
    now: Timestamp,
) -> Result<usize> {
    let sql = "UPDATE api_keys SET revoked_at = ?2, signature = NULL
               WHERE terminal_id = ?1 AND revoked_at IS NULL";
    execute(connection, sql, params![terminal.to_string(), now.unix_millis()])
}

/// Keys that nobody has taken back.
pub(crate) const IN_FORCE: &str = "SELECT * FROM api_keys WHERE revoked_at IS NULL ORDER BY id";

pub(crate) fn read(row: &Row<'_>) -> Result<ApiKey> {
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
        secret_hash: columns.get("secret_hash")?,
        created_at: columns.time("created_at")?,
        revoked_at: columns.time_optional("revoked_at")?,
        signature: columns.get("signature")?,
    })
}

/// A key, or what is wrong with its row: one that somebody spoiled does not keep those out who have the others.
pub(crate) fn read_or_name(row: &Row<'_>) -> Result<std::result::Result<ApiKey, Inconsistency>> {
    match read(row) {
        Ok(key) => Ok(Ok(key)),
        Err(StorageError::Inconsistent(spoiled)) => Ok(Err(spoiled)),
        Err(error) => Err(error),
    }
}

fn find(connection: &Connection, id: ApiKeyId) -> Result<Option<ApiKey>> {
    first(connection, "SELECT * FROM api_keys WHERE id = ?1", [id.to_string()], read)
}

/// A key as the table has it.
pub(crate) fn look_up(connection: &Connection, which: WhichKey) -> Result<Option<ApiKey>> {
    let by_secret = "SELECT * FROM api_keys WHERE secret_hash = ?1";
    match which {
        WhichKey::Id(id) => find(connection, id),
        WhichKey::Secret(hash) => first(connection, by_secret, [hash.as_slice()], read),
    }
}

fn known_or_looked_up(engine: &impl Engine, which: WhichKey) -> Result<Option<ApiKey>> {
    match engine.known_keys() {
        Some(known) => known.get_or_read(which, || engine.look_up_api_key(which)),
        None => engine.look_up_api_key(which),
    }
}

impl<E: Engine> AccessStore for E {
    fn create_api_key(&self, key: ApiKey, write: Write<ApiKey>) -> Result<Written<ApiKey>> {
        self.change(write, AuditAction::ApiKeyCreated, move |connection, _| {
            if let Principal::Terminal(terminal) = key.principal {
                terminals::in_service(connection, terminal)?;
            }
            insert(connection, &key)?;
            let (id, role) = (key.id, key.principal.role());
            Ok(Changed::new(key, id).because(role.as_str()))
        })
    }

    fn replace_operator_keys(&self, key: ApiKey, write: Write<ApiKey>) -> Result<Written<ApiKey>> {
        self.change(write, AuditAction::ApiKeyCreated, move |connection, now| {
            let sql = "UPDATE api_keys SET revoked_at = ?1, signature = NULL
                       WHERE role = 'operator' AND revoked_at IS NULL";
            let replaced = execute(connection, sql, [now.unix_millis()])?;
            insert(connection, &key)?;
            let id = key.id;
            Ok(Changed::new(key, id).because(format!("operator, in the place of {replaced}")))
        })
    }

    fn revoke_api_key(
        &self,
        id: ApiKeyId,
        reason: String,
        write: Write<ApiKey>,
    ) -> Result<Written<ApiKey>> {
        self.change(write, AuditAction::ApiKeyRevoked, move |connection, now| {
            lock(connection, Guard::ApiKey, id)?;
            let key = found(find(connection, id)?, "API key", id)?.revoked(now);
            let sql = "UPDATE api_keys SET revoked_at = ?2, signature = NULL WHERE id = ?1";
            let revoked_at = key.revoked_at.map(|at| at.unix_millis());
            execute(connection, sql, params![id.to_string(), revoked_at])?;
            Ok(Changed::new(key, id).because(reason))
        })
    }

    fn certify_client(
        &self,
        certificate: ClientCertificate,
        write: Write<ClientCertificate>,
    ) -> Result<Written<ClientCertificate>> {
        self.change(write, AuditAction::ClientCertified, move |_, _| {
            let (owner, api_key) = (certificate.owner, certificate.api_key);
            let serial = HEXLOWER.encode(&certificate.serial);
            let detail = format!("{serial} until {} for {api_key}", certificate.expires_at);
            Ok(Changed::new(certificate, owner).because(detail))
        })
    }

    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>> {
        known_or_looked_up(self, WhichKey::Id(id))
    }

    fn api_keys(&self, ids: &[ApiKeyId]) -> Vec<Result<Option<ApiKey>>> {
        match self.known_keys() {
            Some(_) => ids.iter().map(|id| self.api_key(*id)).collect(),
            None => self.look_up_api_keys(ids),
        }
    }

    fn list_api_keys(
        &self,
        owner: Option<Principal>,
        page: Page<ApiKeyId>,
    ) -> Result<Slice<ApiKey, ApiKeyId>> {
        let filters = [owner.map_or(("role", None), |owner| {
            let column = match owner {
                Principal::Operator => "role",
                Principal::Issuer(_) => "issuer_id",
                Principal::Merchant(_) => "merchant_id",
                Principal::Terminal(_) => "terminal_id",
                Principal::Device(_) => "device_id",
            };
            (column, Some(owner.to_string()))
        })];
        let list = Listing { select: "SELECT * FROM api_keys", key: "id", filters: &filters };
        self.read_apart(|connection| list.slice(connection, page, read, |key| key.id))
    }

    fn api_key_by_hash(&self, secret_hash: [u8; 32]) -> Result<Option<ApiKey>> {
        known_or_looked_up(self, WhichKey::Secret(secret_hash))
    }

    fn known_api_key(&self, secret_hash: &[u8; 32]) -> Option<ApiKey> {
        self.known_keys()?.get(WhichKey::Secret(*secret_hash))
    }

    fn known_api_key_of_id(&self, id: ApiKeyId) -> Option<ApiKey> {
        self.known_keys()?.get(WhichKey::Id(id))
    }

    fn api_keys_in_force(&self) -> Result<Vec<std::result::Result<ApiKey, Inconsistency>>> {
        self.read_apart(|connection| all(connection, IN_FORCE, params![], read_or_name))
    }

    fn renew_api_keys(&self, renewed: Vec<([u8; 64], ApiKey)>) -> Result<()> {
        if renewed.is_empty() {
            return Ok(());
        }
        self.write(move |connection| {
            let sign = "UPDATE api_keys SET signature = ?3
                        WHERE id = ?1 AND signature = ?2 AND revoked_at IS NULL";
            for (before, key) in renewed {
                execute(connection, sign, params![key.id.to_string(), before, key.signature])?;
            }
            Ok(())
        })
    }

    fn accept_api_keys(&self, keys: Vec<ApiKey>, now: Timestamp) -> Result<()> {
        self.write(move |connection| {
            let sign = "UPDATE api_keys SET signature = ?2 WHERE id = ?1 AND revoked_at IS NULL";
            for key in keys {
                let id = key.id.to_string();
                if execute(connection, sign, params![id, key.signature])? == 0 {
                    continue;
                }
                let whose = Some(format!("of {}, made {}", key.principal, key.created_at));
                let action = AuditAction::ApiKeyAccepted;
                connection.record(&AuditEvent::of_platform(action, id, whose, now))?;
            }
            Ok(())
        })
    }
}
