//! What logins may not do.

use super::session::Session;
use crate::StorageError;
use crate::relational::Result;
use crate::relational::rows::{Columns, all, first};
use crate::relational::sql::{Connection, Row, params};

/// Tables whose rows are final. Whoever has the platform's login must not be able to change what was.
const FINAL: &str = "'audit_inbox', 'audit_events', 'audit_links', 'audit_heads', 'authorizations', 'ledger_transfers',
    'token_changes', 'refunds', 'reversals', 'revoked_issuer_certificates', 'idempotency_answers', 'answers_vouched',
    'booked_requests', 'partition_maps'";
/// Tables of which something changes, and no row goes.
const KEPT: &str = "'retention', 'own_partition', 'told'";
/// PostgreSQL lets everybody make temporary tables. Nobody here needs one, and under the name of one of the realm's it may be
/// taken for that. The database's owner takes the right back.
const TAKE_TEMPORARY: &str = "DO $$ BEGIN
    IF pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
END $$";
const MAY_MAKE_TEMPORARY: &str = "SELECT current_database()::text AS id
    WHERE has_database_privilege(current_database(), 'TEMPORARY')";
/// Of logins that are neither the owner nor superusers.
const MAKERS: &str = "SELECT r.rolname::text AS id FROM pg_roles AS r, pg_database AS d
    WHERE d.datname = current_database() AND r.rolcanlogin AND NOT r.rolsuper AND NOT pg_has_role(r.oid, d.datdba, 'USAGE')
        AND has_database_privilege(r.oid, d.oid, 'CONNECT') AND has_database_privilege(r.oid, d.oid, 'TEMPORARY')
    ORDER BY 1 LIMIT 8";

/// Refuses a login with which history could be rewritten.
///
/// # Errors
/// [`StorageError::TooManyRights`]
pub(super) fn check(connection: &Connection) -> Result<()> {
    let sql = format!(
        "SELECT tablename::text AS id FROM pg_tables WHERE schemaname = 'tapfer' AND (
             tablename IN ({FINAL}) AND has_any_column_privilege(format('tapfer.%I', tablename), 'UPDATE')
             OR tablename IN ({FINAL}, {KEPT}) AND has_table_privilege(format('tapfer.%I', tablename), 'DELETE, TRUNCATE'))
         ORDER BY tablename"
    );
    let tables = all(connection, &sql, params![], name)?;
    if !tables.is_empty() {
        return Err(StorageError::TooManyRights(format!(
            "change or delete rows of {}, which are final; give it no role but tapfer_server \
             (CREATE ROLE name LOGIN IN ROLE tapfer_server)",
            tables.join(", ")
        )));
    }
    if let Some(database) = first(connection, MAY_MAKE_TEMPORARY, params![], name)? {
        return Err(StorageError::TooManyRights(format!(
            "make temporary tables, which could be taken for the realm's; take the right away as the owner of the database: \
             REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC (`tapfer db migrate` does it where the owner of the tables \
             owns the database as well)"
        )));
    }
    Ok(())
}

/// Says which other logins have a right that nobody needs: a platform goes on, since its own has not.
pub(super) fn warn_of_others(connection: &Connection) -> Result<()> {
    let makers = makers_of_temporary_tables(connection)?;
    if !makers.is_empty() {
        tracing::warn!(
            target: "tapfer::security",
            event = "temporary_tables",
            logins = makers.join(", "),
            "other logins may make temporary tables in this database, which nobody needs: REVOKE TEMPORARY ON DATABASE, as its owner \
             (docs/postgresql.md)"
        );
    }
    Ok(())
}

/// Logins that may make temporary tables, besides the database's owner and superusers.
pub(super) fn makers_of_temporary_tables(connection: &Connection) -> Result<Vec<String>> {
    all(connection, MAKERS, params![], name)
}

/// Takes that right from everybody, if this login can.
pub(super) fn take_temporary(session: &Session) -> Result<()> {
    session.execute_batch(TAKE_TEMPORARY)
}

fn name(row: &Row<'_>) -> Result<String> {
    Columns::new(row, "pg_catalog").get("id")
}
