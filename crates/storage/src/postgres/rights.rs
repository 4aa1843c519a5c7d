//! What the platform's login may not do.

use crate::StorageError;
use crate::relational::Result;
use crate::relational::rows::{Columns, all};
use crate::relational::sql::{Connection, Row, params};

/// Tables whose rows are final. Whoever has the platform's login must not be able to change what was.
const FINAL: &str = "'audit_inbox', 'audit_events', 'audit_links', 'audit_heads', 'authorizations', 'ledger_transfers',
    'token_changes', 'refunds', 'reversals', 'revoked_issuer_certificates', 'idempotency_answers', 'answers_vouched',
    'booked_requests'";

/// Refuses a login with which history could be rewritten.
///
/// # Errors
/// [`StorageError::TooManyRights`]
pub(super) fn check(connection: &Connection) -> Result<()> {
    let sql = format!(
        "SELECT tablename::text AS id FROM pg_tables WHERE schemaname = 'tapfer' AND tablename IN ({FINAL})
             AND has_table_privilege(format('tapfer.%I', tablename), 'UPDATE, DELETE, TRUNCATE')
         ORDER BY tablename"
    );
    let name = |row: &Row<'_>| Columns::new(row, "pg_tables").get::<String>("id");
    let tables = all(connection, &sql, params![], name)?;
    if tables.is_empty() { Ok(()) } else { Err(StorageError::TooManyRights(tables.join(", "))) }
}
