//! What is run beside the keys, and who may write there: `hsm.toml`, libraries, and what their variables name.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tapfer_hsm::pool::{MemberConfig, PoolConfig};

use super::MemberError;
use crate::realm::RealmPaths;

/// Writable by others than the owner.
pub(super) const OTHERS_WRITE: u32 = 0o022;
/// Writable by everybody; and, on a directory, only for what is one's own.
const EVERYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// No such file, or no such directory above it.
const NOT_THERE: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];

/// Reads the realm's `hsm.toml`.
///
/// # Errors
/// As [`configuration_file`].
pub fn configuration(paths: &RealmPaths) -> Result<PoolConfig, MemberError> {
    configuration_file(&paths.hsm_configuration()).map(|(config, _)| config)
}

/// Reads an `hsm.toml`, which says what is run beside the keys: nobody else may write it. Its text comes along.
///
/// # Errors
/// [`MemberError::File`], [`MemberError::Foreign`], [`MemberError::Config`].
pub fn configuration_file(path: &Path) -> Result<(PoolConfig, String), MemberError> {
    let read = || {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok((metadata, text))
    };
    let (metadata, text) =
        read().map_err(|source| MemberError::File { path: path.to_owned(), source })?;
    refuse_foreign(path, &metadata, OTHERS_WRITE)?;
    Ok((PoolConfig::parse(&text)?, text))
}

/// Only this user and root decide what is there.
pub(super) fn refuse_foreign(
    path: &Path,
    metadata: &Metadata,
    others_write: u32,
) -> Result<(), MemberError> {
    let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    let mode = metadata.mode() & 0o7777;
    if is_ours && mode & others_write == 0 {
        return Ok(());
    }
    Err(MemberError::Foreign { path: path.to_owned(), mode })
}

/// Refuses a library that somebody else could have put there, and files and directories of which its variables tell
/// it: they name tokens, logs, and more code. A group that may write is trusted, as on machines where administrators
/// share one. What is not there, the loader reports.
///
/// # Errors
/// [`MemberError::Foreign`]
pub fn check_module(member: &MemberConfig) -> Result<(), MemberError> {
    check_place(&member.module)?;
    // Some hold several, or say before it what it is: `unix:path=/run/hsm`; and a name may have a blank in it.
    let named = member.environment.values().flat_map(|value| {
        let pieces = value.split([':', ';', ',', '=', ' ']);
        std::iter::once(value.as_str()).chain(pieces)
    });
    named.filter(|name| names_a_place(name)).map(Path::new).try_for_each(check_place)
}

/// Whether a value leads to a place from here. A word such as `tmp` is no name of a directory that happens to lie where
/// this process was started.
fn names_a_place(name: &str) -> bool {
    let path = Path::new(name);
    path.is_absolute() || if name.contains('/') { path.exists() } else { path.is_file() }
}

/// Refuses a place that others can change, or could before it is used.
fn check_place(path: &Path) -> Result<(), MemberError> {
    // A link can be replaced too, where it lies.
    for path in path.canonicalize().as_deref().into_iter().chain([path]) {
        // What is not there is made by whoever may write where it would be.
        let mut is_above = false;
        for place in path.ancestors() {
            let metadata = match fs::metadata(place) {
                Ok(metadata) => metadata,
                Err(error) if NOT_THERE.contains(&error.kind()) => continue,
                Err(source) => return Err(MemberError::File { path: place.to_owned(), source }),
            };
            // In a directory such as /tmp nobody moves what is there and another's.
            let is_sticky = is_above && metadata.mode() & STICKY != 0;
            // Whoever writes to a device or a socket talks to it, and changes nothing.
            let is_kept = metadata.is_file() || metadata.is_dir();
            let others_write = if is_sticky || !is_kept { 0 } else { EVERYBODY_WRITES };
            refuse_foreign(place, &metadata, others_write)?;
            is_above = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use tapfer_hsm::pool::MemberConfig;

    use super::{check_module, configuration};
    use crate::members::MemberError;
    use crate::members::house::{house, mode};

    #[test]
    fn attack_code_brought_into_the_workers_by_who_may_write_there() {
        let (directory, paths, mut member) = house();
        configuration(&paths).unwrap();
        check_module(&member).unwrap();
        for open in [0o664, 0o646, 0o666] {
            mode(&paths.hsm_configuration(), open);
            let refused = configuration(&paths).unwrap_err();
            assert!(
                matches!(refused, MemberError::Foreign { mode, .. } if mode == open),
                "{refused}"
            );
        }
        // The library itself, the directory it is in, and a link that leads to it.
        mode(&member.module, 0o646);
        assert!(matches!(check_module(&member), Err(MemberError::Foreign { .. })));
        mode(&member.module, 0o644);
        mode(directory.path(), 0o707);
        assert!(matches!(check_module(&member), Err(MemberError::Foreign { .. })));
        mode(directory.path(), 0o700);
        let open = directory.path().join("open");
        fs::create_dir(&open).unwrap();
        mode(&open, 0o777);
        let link = open.join("module.so");
        std::os::unix::fs::symlink(&member.module, &link).unwrap();
        let linked = MemberConfig { module: link, ..member.clone() };
        assert!(matches!(check_module(&linked), Err(MemberError::Foreign { .. })));
        check_module(&member).unwrap();

        // What its variables lead to: a file, one that somebody can still make, a directory, one of several.
        let settings = directory.path().join("settings");
        fs::write(&settings, "").unwrap();
        let mut with = |value: String| {
            member.environment = [("FOR_THE_LIBRARY".to_owned(), value)].into();
            check_module(&member)
        };
        let settings = settings.to_str().unwrap();
        mode(settings.as_ref(), 0o644);
        // Where the test runs there is a directory of that name, as `tmp` is in `/`.
        assert!(Path::new("src").is_dir());
        for fine in [settings, "1", "src", "tcp:localhost:9000", "/dev/null", "/nowhere/at/all"] {
            with(fine.to_owned()).unwrap();
        }
        mode(settings.as_ref(), 0o646);
        mode(&open, 0o1777);
        let with_blank = directory.path().join("has a blank");
        fs::write(&with_blank, "").unwrap();
        mode(&with_blank, 0o646);
        let open = open.to_str().unwrap();
        for foreign in [
            settings.to_owned(),
            with_blank.to_str().unwrap().to_owned(),
            open.to_owned(),
            format!("{open}/none"),
            format!("file:{settings}"),
            format!("/nowhere:{open}/none"),
            format!("--log {open}/none"),
        ] {
            let refused = with(foreign.clone());
            assert!(matches!(refused, Err(MemberError::Foreign { .. })), "{foreign}: {refused:?}");
        }
    }
}
