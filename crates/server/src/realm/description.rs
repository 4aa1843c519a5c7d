//! `realm.json`: which realm lies in a directory, by its own words.

use std::{fs, io};

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{RealmId, Timestamp};

use super::{RealmError, RealmKind, RealmPaths};
use crate::private_file;

/// Version of the directory's layout.
const LAYOUT: u32 = 2;

/// What `realm.json` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    layout: u32,
    pub(super) id: RealmId,
    pub(super) kind: RealmKind,
    created_at: Timestamp,
}

impl Description {
    pub(super) const fn new(id: RealmId, kind: RealmKind, created_at: Timestamp) -> Self {
        Self { layout: LAYOUT, id, kind, created_at }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let found: Option<Self> = serde_json::from_slice(text).ok();
        found.filter(|found| found.layout == LAYOUT)
    }

    /// Reads that of a realm.
    ///
    /// # Errors
    /// [`RealmError::Missing`], [`RealmError::Unreadable`], [`RealmError::File`].
    pub(super) fn read(paths: &RealmPaths) -> Result<Self, RealmError> {
        let path = paths.description();
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RealmError::Missing(paths.home().to_owned()),
            _ => RealmError::File { action: "read", path: path.clone(), source },
        })?;
        Self::parse(&text).ok_or(RealmError::Unreadable(path))
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// [`RealmError::File`]
    pub(super) fn write(&self, paths: &RealmPaths) -> Result<(), RealmError> {
        let path = paths.description();
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        private_file::write(&path, &text).map_err(|source| RealmError::File {
            action: "write",
            path,
            source,
        })
    }
}

/// Which realm a directory says it holds, and of what kind. Nothing of it is proven.
#[must_use]
pub fn described(paths: &RealmPaths) -> Option<(RealmKind, RealmId)> {
    let found = Description::parse(&fs::read(paths.description()).ok()?)?;
    Some((found.kind, found.id))
}
