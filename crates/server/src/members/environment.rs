//! What a process with a vendor's library in it gets of our environment: little.

use std::ffi::OsString;
use std::process::Command;

use tapfer_hsm::pool::{MemberConfig, PinSource};

/// All that is kept. What else stands there may be secrets of other services, or of other members.
const KEPT: [&str; 5] = ["HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"];

/// Takes everything else away from a process to be.
pub(super) fn take_away(command: &mut Command) {
    command.env_clear().envs(kept(&KEPT));
}

/// Prepares a process that opens a member itself: of our environment it gets little, and of the PINs the member's own.
/// `also`: what else it is to keep.
pub fn give_environment(command: &mut Command, member: &MemberConfig, also: &[&str]) {
    take_away(command);
    command.envs(kept(also));
    if let PinSource::Env(variable) = &member.pin {
        command.envs(kept(&[variable]));
    }
    command.envs(&member.environment);
}

fn kept<'a>(names: &'a [&'a str]) -> impl Iterator<Item = (&'a str, OsString)> {
    names.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)))
}
