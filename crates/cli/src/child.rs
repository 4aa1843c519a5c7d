//! This program as a child process of itself, for one member of `hsm.toml`: its module reads its settings from the
//! environment, may hang, and may take its process with it.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tapfer_hsm::pool::MemberConfig;
use tapfer_hsm::software::RootKeys;
use tapfer_payment_types::RealmId;
use tapfer_server::members;

use crate::home::Home;

/// Has a child do `tapfer hsm VERB` at a member's module, and gives what it answers.
///
/// Root keys are handed to a child that has said that it is ready: from then on it ends with this process, so that
/// nothing is put on a token behind the back of whoever was killed.
///
/// # Errors
/// What the child says, or how it ended.
pub(crate) fn ask_member<T: DeserializeOwned>(
    home: &Home,
    member: &MemberConfig,
    verb: &str,
    realm: RealmId,
    roots: Option<&RootKeys>,
) -> anyhow::Result<T> {
    let mut command = this_program(member, &[])?;
    command.arg("--json").arg("--home").arg(home.path());
    command.args(["hsm", verb, &member.name, &realm.to_string()]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = process.stdin.take().context("a pipe")?;
    if let Some(roots) = roots {
        read_line(process.stdout.as_mut().context("a pipe")?)?;
        // Whoever died before that, or before reading, says below why.
        let _read = input.write_all(roots.to_shared().expose());
    }
    drop(input);
    let ended = process.wait_with_output()?;
    if ended.status.success() {
        return Ok(serde_json::from_slice(&ended.stdout)?);
    }
    bail!("{}", why_it_failed(&ended));
}

/// Runs this very command once more, for a member. The variable `mark` tells the child which; those of `also` it reads
/// itself. Gives what it remarked beside what it did.
///
/// # Errors
/// It cannot be started. Inside, what kept it from what it is to do: it said so, died, or did not end in time.
pub(crate) fn run_again(
    member: &MemberConfig,
    mark: &str,
    also: &[&str],
    patience: Duration,
) -> anyhow::Result<Result<String, String>> {
    let mut command = this_program(member, also)?;
    command.args(std::env::args_os().skip(1)).env(mark, &member.name);
    let Some(output) = in_time(command.stdin(Stdio::null()).spawn()?, patience)? else {
        return Ok(Err(format!("did not answer within {} seconds", patience.as_secs())));
    };
    Ok(match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
        false => Err(why_it_failed(&output)),
    })
}

fn this_program(member: &MemberConfig, also: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    members::give_environment(&mut command, member, also);
    command.stderr(Stdio::piped());
    Ok(command)
}

/// Waits for a line, and takes nothing of what is behind it.
fn read_line(input: &mut ChildStdout) -> anyhow::Result<()> {
    let mut byte = [0];
    while input.read(&mut byte)? == 1 && byte != *b"\n" {}
    Ok(())
}

/// How it ended; `None`: it did not, and was killed.
fn in_time(process: Child, patience: Duration) -> anyhow::Result<Option<Output>> {
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    let (ended, answers) = mpsc::channel();
    thread::spawn(move || ended.send(process.wait_with_output()));
    if let Ok(output) = answers.recv_timeout(patience) {
        return Ok(Some(output?));
    }
    // It may have ended just now, which is as well.
    let _gone = id.map(|id| kill_process(id, Signal::KILL));
    let _ended = answers.recv();
    Ok(None)
}

/// Why a child with `--json` failed, in its own words; where it said nothing, how it ended.
fn why_it_failed(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let error = |line: &str| {
        let said: Value = serde_json::from_str(line).ok()?;
        said.get("error")?.as_str().map(str::to_owned)
    };
    let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let said = said.lines().rev().find_map(error).unwrap_or_else(|| last.to_owned());
    if said.is_empty() { format!("its process ended: {}", output.status) } else { said }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{ExitStatus, Output};

    use super::why_it_failed;

    #[test]
    fn the_reason_is_the_child_s_own() {
        let ended = |stderr: &str| {
            let status = ExitStatus::from_raw(9);
            why_it_failed(&Output { status, stdout: Vec::new(), stderr: stderr.into() })
        };
        assert_eq!(ended("a vendor's banner\n{\"error\":\"no token\"}\n"), "no token");
        assert_eq!(ended("{\"error\":\"no token\"}\na vendor's farewell\n"), "no token");
        assert_eq!(ended("error: no such option\n"), "no such option");
        assert_eq!(ended(""), "its process ended: signal: 9 (SIGKILL)");
    }
}
