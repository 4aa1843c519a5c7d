//! Which partition of a realm a database is, and at which of its places.
//!
//! A database knows it itself: whoever is led to a wrong one, or to one that the partition has left, is told so before anything
//! is asked. One that was closed takes no more changes from anybody, whatever he knows (migration V5).

use std::fmt;

use super::PostgresStorage;
use super::options::PostgresOptions;
use super::rights;
use super::session::{CHANGE, SNAPSHOT, Session};
use crate::StorageError;
use crate::relational::rows::{Columns, execute, first};
use crate::relational::sql::{Connection, Row, params};
use crate::relational::{Engine as _, Result};
use tapfer_payment_types::configuration::SignedDocument;
use tapfer_payment_types::messages::HexBytes;

/// What every partition has, and the home sends.
const EVERYWHERE: &str = "issuers, issuer_policies, integrity_policies, devices, device_integrity, merchants, terminals, told";
/// The publication's name, which subscriptions name.
pub const PUBLICATION: &str = "tapfer_everywhere";

/// Which partition, and at which of its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its number; 0 is the home.
    pub number: u8,
    /// How many there are, 2 to 256.
    pub partitions: u16,
    /// How often it was moved, and one.
    pub place: u32,
}

/// What a place calls itself: drawn by the database when the partition is opened there, so that no two copies are one place.
pub type PlaceName = [u8; 16];

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, partitions, place } = self;
        write!(f, "partition {number} of {partitions} at its place {place}")
    }
}

/// What a database says of itself: which partition it is, and whether it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub part: Part,
    /// The name of its place.
    pub name: PlaceName,
    /// It takes no more changes: the partition is being moved, or was.
    pub is_closed: bool,
}

fn read(row: &Row<'_>) -> Result<Found> {
    let columns = Columns::keyed(row, "own_partition", "one");
    let (number, partitions) = (columns.number("number")?, columns.number("partitions")?);
    let part = Part { number, partitions, place: columns.number("place")? };
    // A schema from before there were names is refused for its age, and by no name.
    let name = columns.get("name").unwrap_or_default();
    Ok(Found { part, name, is_closed: columns.get("closed")? })
}

/// What it says; `None` of a database that has a realm for itself.
pub(super) fn found(connection: &Connection) -> Result<Option<Found>> {
    first(connection, "SELECT * FROM own_partition", params![], read)
}

/// Whether there is a schema that knows of partitions. One that has none is refused for that.
pub(super) fn is_known(connection: &Connection) -> Result<bool> {
    let table =
        "SELECT 1 FROM pg_tables WHERE schemaname = 'tapfer' AND tablename = 'own_partition'";
    Ok(first(connection, table, params![], |_| Ok(()))?.is_some())
}

/// Refuses a database that is another one than the map says.
///
/// # Errors
/// [`StorageError::Moved`]
pub(super) fn check(
    wanted: Option<Part>,
    name: Option<PlaceName>,
    found: Option<Found>,
) -> Result<()> {
    let said = match (wanted, found) {
        (None, None) => return Ok(()),
        (None, Some(found)) => {
            format!("the database is partition {} of several", found.part.number)
        }
        (Some(_), None) => "the database is no partition; its owner makes it one".to_owned(),
        (Some(wanted), Some(found)) if found.part != wanted => {
            let Part { number, partitions, place } = found.part;
            format!(
                "the database is partition {number} of {partitions} at its place {place}, not {wanted}"
            )
        }
        (Some(_), Some(found)) if name.is_some_and(|name| found.name != name) => {
            "it is another copy of the partition than the map names: both were opened".to_owned()
        }
        (Some(_), Some(Found { is_closed: true, .. })) => {
            "it was closed here, to be moved".to_owned()
        }
        (Some(_), Some(_)) => return Ok(()),
    };
    Err(StorageError::Moved(said))
}

/// Reads what the database says of itself, as its owner or as a platform.
///
/// # Errors
/// It cannot be reached.
pub fn partition_of(options: &PostgresOptions) -> Result<Option<Found>> {
    let session = Session::open(options, &std::sync::Arc::default())?;
    session.begin(SNAPSHOT)?;
    let found = if is_known(&session)? { found(&session)? } else { None };
    session.end()?;
    Ok(found)
}

/// Makes a database a partition, for good; one that is it already is finished where that was broken off. The home begins to send
/// what everybody needs; the login is the owner's.
///
/// # Errors
/// It is another one already, or cannot be reached.
pub fn make_partition(options: &PostgresOptions, part: Part) -> Result<()> {
    let session = Session::open(options, &std::sync::Arc::default())?;
    session.begin(CHANGE)?;
    match found(&session)? {
        Some(before) if before.part == part => {}
        Some(before) => return check(Some(part), None, Some(before)),
        None => begin_partition(&session, part)?,
    }
    if part.number == 0 {
        let is_there = "SELECT 1 FROM pg_publication WHERE CAST(pubname AS TEXT) = ?1";
        if first(&session, is_there, [PUBLICATION], |_| Ok(()))?.is_none() {
            let publish = format!("CREATE PUBLICATION {PUBLICATION} FOR TABLE {EVERYWHERE}");
            session.execute_batch(&publish)?;
        }
    } else {
        session.execute_batch(&format!(
            "REVOKE INSERT, DELETE ON {EVERYWHERE} FROM tapfer_server;
             REVOKE UPDATE (number, heard) ON told FROM tapfer_server"
        ))?;
    }
    session.commit()
}

/// Of a database without cards, so that nothing waits for the index.
fn begin_partition(session: &Session, Part { number, partitions, place }: Part) -> Result<()> {
    if first(session, "SELECT 1 FROM cards LIMIT 1", params![], |_| Ok(()))?.is_some() {
        let said = "it holds cards of a realm without partitions, which stays one database";
        return Err(StorageError::Moved(said.to_owned()));
    }
    let own = "INSERT INTO own_partition (one, number, partitions, place) VALUES (1, ?1, ?2, ?3)";
    execute(session, own, params![number, partitions, i64::from(place)])?;
    if number == 0 {
        execute(session, "INSERT INTO told (one, number, heard) VALUES (1, 0, 0)", params![])?;
    }
    // A terminal waits for one payment in each partition; what was handed over waits for none.
    session.execute_batch(
        "DROP INDEX payment_intents_armed;
         CREATE UNIQUE INDEX payment_intents_armed ON payment_intents (armed_terminal_id)
             WHERE arming_state = 'armed' AND handed_to IS NULL",
    )
}

/// Has a partition take no more changes here: when this returns, all that was acknowledged is in what is copied from now on. The
/// login is the owner's.
///
/// # Errors
/// It cannot be reached, or those who write there do not come to an end.
pub fn close_partition(options: &PostgresOptions) -> Result<()> {
    let session = Session::open(options, &std::sync::Arc::default())?;
    session.begin(CHANGE)?;
    session.execute_batch("SELECT close_partition()")?;
    session.commit()
}

/// Opens a partition at its next place, where a copy of the closed one lies. The login is the owner's.
///
/// # Errors
/// [`StorageError::Moved`] if it is not a closed copy of the place before.
pub fn open_partition(options: &PostgresOptions, part: Part) -> Result<()> {
    let session = Session::open(options, &std::sync::Arc::default())?;
    session.begin(CHANGE)?;
    let before = Part { place: part.place.saturating_sub(1), ..part };
    let is_copy = |found: Found| found.part == before && found.is_closed;
    if !found(&session)?.is_some_and(is_copy) {
        session.end()?;
        let said = format!("the database is no closed copy of {before}");
        return Err(StorageError::Moved(said));
    }
    let open =
        "UPDATE own_partition SET place = ?1, closed = 0, name = uuid_send(gen_random_uuid())";
    execute(&session, open, params![i64::from(part.place)])?;
    // A database that was restored into has PostgreSQL's own rights.
    rights::take_temporary(&session)?;
    rights::take_large_objects(&session)?;
    session.commit()
}

impl PostgresStorage {
    /// What this database says of itself.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn partition(&self) -> Result<Option<Found>> {
        self.read(found)
    }

    /// The newest partition map in the home below a version, and its version. Only its signature says whether it is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn partition_map_below(&self, version: i64) -> Result<Option<(i64, SignedDocument)>> {
        self.read(move |home| {
            let newest =
                "SELECT * FROM partition_maps WHERE version < ?1 ORDER BY version DESC LIMIT 1";
            first(home, newest, [version], |row| {
                let columns = Columns::keyed(row, "partition_maps", "version");
                let map = SignedDocument {
                    document: columns.get("document")?,
                    key: HexBytes(columns.get("key")?),
                    signature: HexBytes(columns.get("signature")?),
                };
                Ok((columns.get("version")?, map))
            })
        })
    }

    /// Keeps the next map.
    ///
    /// # Errors
    /// The version is not the one behind the newest that is kept.
    pub fn put_partition_map(&self, version: u32, map: SignedDocument) -> Result<()> {
        self.write(move |home| {
            let keep = "INSERT INTO partition_maps (version, document, key, signature) VALUES (?1, ?2, ?3, ?4)";
            execute(home, keep, params![version, map.document, map.key.0, map.signature.0])?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Part};

    #[test]
    fn only_the_place_of_the_map_is_taken() {
        let part = Part { number: 1, partitions: 2, place: 2 };
        let name = [7; 16];
        let open = |part| Some(Found { part, name, is_closed: false });
        let check = |wanted, found| super::check(wanted, Some(name), found);
        check(Some(part), open(part)).unwrap();
        check(None, None).unwrap();
        super::check(Some(part), None, open(part)).unwrap();
        super::check(Some(part), Some([8; 16]), open(part)).unwrap_err();
        for other in [
            Part { number: 0, ..part },
            Part { partitions: 3, ..part },
            Part { place: 1, ..part },
            Part { place: 3, ..part },
        ] {
            check(Some(part), open(other)).unwrap_err();
        }
        check(Some(part), Some(Found { part, name, is_closed: true })).unwrap_err();
        check(Some(part), None).unwrap_err();
        check(None, open(part)).unwrap_err();
    }
}
