//! The PIN of a member: where `hsm.toml` says that it is, for nobody else to read; and what is remembered of a refused one.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tapfer_hsm::pkcs11;
use tapfer_hsm::pool::{MemberConfig, PinSource};
use tapfer_payment_types::Secret;
use zeroize::Zeroizing;

use super::MemberError;
use super::trust::{OTHERS_WRITE, refuse_foreign};
use crate::realm::RealmPaths;

/// Longer than any PIN with its line end.
const LONGEST_PIN: usize = 1024;

/// Why a member's PIN is not tried at present, if it was refused.
///
/// # Errors
/// The record cannot be read.
pub fn refused_pin(paths: &RealmPaths, name: &str) -> Result<Option<String>, MemberError> {
    let path = paths.login_record(name);
    pkcs11::refused_pin(&path).map_err(|source| MemberError::File { path, source })
}

/// Whether the PIN is where `hsm.toml` says that it is, for nobody else to read.
///
/// # Errors
/// [`MemberError`]: what is wrong with it.
pub fn check_pin(paths: &RealmPaths, member: &MemberConfig) -> Result<(), MemberError> {
    read(paths.home(), member).map(drop)
}

/// The PIN itself.
///
/// # Errors
/// [`MemberError`]: what is wrong with it.
pub(super) fn read(home: &Path, member: &MemberConfig) -> Result<Secret<String>, MemberError> {
    if let Some(path) = member.pin_file(home) {
        return pin_in_file(path);
    }
    let PinSource::Env(variable) = &member.pin else { return Ok(Secret::new(String::new())) };
    std::env::var(variable)
        .map(Secret::new)
        .map_err(|_| MemberError::NoPin { member: member.name.clone(), variable: variable.clone() })
}

fn pin_in_file(path: PathBuf) -> Result<Secret<String>, MemberError> {
    // One buffer, large enough: one that grows leaves copies behind that nobody wipes.
    let mut buffer = Zeroizing::new([0; LONGEST_PIN]);
    let mut read = || -> io::Result<(Metadata, usize)> {
        let mut file = File::open(&path)?;
        let metadata = file.metadata()?;
        let mut length = 0;
        loop {
            match file.read(buffer.get_mut(length..).unwrap_or_default())? {
                0 => return Ok((metadata, length)),
                more => length = length.saturating_add(more),
            }
        }
    };
    let (metadata, length) = match read() {
        Ok(found) => found,
        Err(source) => return Err(MemberError::File { path, source }),
    };
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(MemberError::PinPermissions { path, mode });
    }
    refuse_foreign(&path, &metadata, OTHERS_WRITE)?;
    let text = buffer.get(..length).filter(|_| length < LONGEST_PIN);
    match text.and_then(|text| std::str::from_utf8(text).ok()) {
        Some(text) => Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned())),
        None => Err(MemberError::NotAPin(path)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::check_pin;
    use crate::members::MemberError;
    use crate::members::house::{house, mode};

    #[test]
    fn a_pin_is_one_line_that_nobody_else_can_read() {
        let (directory, paths, member) = house();
        let file = directory.path().join("north.pin");
        assert!(matches!(check_pin(&paths, &member), Err(MemberError::File { .. })));
        for (content, access, expected) in [
            (&b"2468\n"[..], 0o600, true),
            (b"2468\r\nnot this\n", 0o400, true),
            (b"2468\n", 0o640, false),
            (b"\xFF\xFE", 0o600, false),
            (&[b'1'; 2000], 0o600, false),
        ] {
            let _old = fs::remove_file(&file);
            fs::write(&file, content).unwrap();
            mode(&file, access);
            assert_eq!(check_pin(&paths, &member).is_ok(), expected, "{content:?}");
        }
        let _old = fs::remove_file(&file);
        fs::write(&file, "2468\r\n").unwrap();
        mode(&file, 0o600);
        assert_eq!(super::read(directory.path(), &member).unwrap().expose(), "2468");
    }
}
