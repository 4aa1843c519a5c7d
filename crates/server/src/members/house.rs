//! A realm's directory for tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tapfer_hsm::pool::{MemberConfig, PoolConfig};

use crate::realm::RealmPaths;

pub(super) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A realm's directory with a library, and a member that names it.
pub(super) fn house() -> (tempfile::TempDir, RealmPaths, MemberConfig) {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("module.so");
    fs::write(&library, "").unwrap();
    let paths = RealmPaths::new(directory.path());
    let text = format!(
        "[[member]]\nname = \"north\"\nmodule = {library:?}\ntoken = \"t\"\npin = {{ file = \"north.pin\" }}\n\
         environment = {{ FOR_THE_LIBRARY = \"1\" }}\n"
    );
    fs::write(paths.hsm_configuration(), &text).unwrap();
    for file in [&library, &paths.hsm_configuration()] {
        mode(file, 0o644);
    }
    let member = PoolConfig::parse(&text).unwrap().member("north").unwrap().clone();
    (directory, paths, member)
}
