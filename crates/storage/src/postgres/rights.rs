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
const KEPT: &str = "'retention', 'own_partition', 'told', 'phones_in_use'";
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

/// Functions that make or fill large objects. Nobody here needs one, and whoever may connect could fill the disk with them, also with a
/// login that only reads. Only a superuser can take them away: they are PostgreSQL's own.
const TAKE_LARGE_OBJECTS: &str = "DO $$ DECLARE taking REGPROCEDURE; BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RETURN; END IF;
    FOR taking IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
            AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put', 'lowrite') LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', taking);
    END LOOP;
END $$";
const LARGE_OBJECTS: &str = "SELECT oid::regprocedure::text AS id FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
        AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put', 'lowrite')
        AND has_function_privilege('public', oid, 'EXECUTE')
    ORDER BY 1 LIMIT 1";
/// Logins of people, who may take all connections there are. Those of platforms need theirs, and a replica its own.
const UNLIMITED: &str = "SELECT r.rolname::text AS id FROM pg_roles AS r, pg_database AS d
    WHERE d.datname = current_database() AND r.rolcanlogin AND r.rolconnlimit < 0 AND NOT r.rolsuper AND NOT r.rolreplication
        AND NOT pg_has_role(r.oid, d.datdba, 'USAGE') AND NOT pg_has_role(r.oid, 'tapfer_server', 'MEMBER')
        AND has_database_privilege(r.oid, d.oid, 'CONNECT')
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
    let unlimited = logins_without_limit(connection)?;
    if !unlimited.is_empty() {
        tracing::warn!(
            target: "tapfer::security",
            event = "connections_unlimited",
            logins = unlimited.join(", "),
            "other logins may take all connections of the database, and platforms get none then: ALTER ROLE ... CONNECTION LIMIT 3 \
             (docs/postgresql.md)"
        );
    }
    if large_objects_are_open(connection)? {
        tracing::warn!(
            target: "tapfer::security",
            event = "large_objects_open",
            "anybody who may connect to this database may fill its disk with large objects: take the functions away as its superuser \
             (docs/postgresql.md)"
        );
    }
    Ok(())
}

/// Logins that may take all connections, besides platforms', the database's owner and superusers.
pub(super) fn logins_without_limit(connection: &Connection) -> Result<Vec<String>> {
    all(connection, UNLIMITED, params![], name)
}

/// Whether anybody who may connect may make large objects.
pub(super) fn large_objects_are_open(connection: &Connection) -> Result<bool> {
    Ok(first(connection, LARGE_OBJECTS, params![], name)?.is_some())
}

/// Takes that from everybody, if this login can.
pub(super) fn take_large_objects(session: &Session) -> Result<()> {
    session.execute_batch(TAKE_LARGE_OBJECTS)
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
