//! This program as a child process of itself, for one member of `hsm.toml`: its module reads its settings from the
//! environment, may hang, and may take its process with it.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tapfer_hsm::pool::{Limits, MemberConfig};
use tapfer_hsm::software::RootKeys;
use tapfer_payment_types::{RealmId, Secret};
use tapfer_server::members;

use crate::home::Home;

/// What a killed child's end may take. One whose driver keeps it in the kernel has none.
const A_MOMENT: Duration = Duration::from_secs(1);
/// How the line of an [`Answer`] begins.
const ANSWER: &str = "{\"answer\":";

/// What a child answers, in a line of its own: a vendor's library may say things on the standard output as well.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer<T> {
    pub(crate) answer: T,
}

/// How long somebody waits for a child that opens a module and does something there: what `hsm.toml` gives a worker
/// for both.
pub(crate) const fn patience(limits: &Limits) -> Duration {
    Duration::from_millis(limits.start_ms.saturating_add(limits.making_deadline_ms))
}

/// Has a child do `tapfer hsm VERB` at a member's module, and gives what it answers.
///
/// Root keys are handed to a child that has said that it is ready: from then on it ends with this process, so that
/// nothing is put on a token behind the back of whoever was killed. One that does not end in time is killed, so that it
/// keeps neither people nor the workers waiting that log in to the same token.
///
/// # Errors
/// What the child says, or how it ended, or that it did not.
pub(crate) fn ask_member<T: DeserializeOwned>(
    home: &Home,
    member: &MemberConfig,
    verb: &str,
    realm: RealmId,
    roots: Option<&RootKeys>,
) -> anyhow::Result<T> {
    let order = [verb, &member.name, &realm.to_string()];
    let patience = patience(&members::configuration(&home.realm())?.pool);
    ask(home, member, &order, roots.map(RootKeys::to_shared), patience)?.with_context(|| {
        format!(
            "did not answer within {} seconds (start_ms and making_deadline_ms of hsm.toml), and its process was killed",
            patience.as_secs()
        )
    })
}

/// Whether a member's library sees its token, as a child says that does not log in.
///
/// # Errors
/// What it sees in the token's place, or how the child ended, or that it did not while a worker may take to start.
pub(crate) fn look_for_token(
    home: &Home,
    member: &MemberConfig,
    limits: &Limits,
) -> anyhow::Result<()> {
    let patience = Duration::from_millis(limits.start_ms);
    let answer: Option<bool> =
        ask(home, member, &["look-for-token", &member.name], None, patience)?;
    answer.map(drop).with_context(|| {
        format!("did not answer within {} seconds (start_ms of hsm.toml)", patience.as_secs())
    })
}

/// What a child answers to `tapfer hsm` and this; `None`: nothing in time, and it was killed.
fn ask<T: DeserializeOwned>(
    home: &Home,
    member: &MemberConfig,
    order: &[&str],
    handed_over: Option<Secret<Vec<u8>>>,
    patience: Duration,
) -> anyhow::Result<Option<T>> {
    let mut command = this_program(member, &[])?;
    command.arg("--json").arg("--home").arg(home.path()).arg("hsm").args(order);
    let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let Some(ended) = in_time(process, handed_over, patience)? else { return Ok(None) };
    if ended.status.success() {
        return answer_in(&ended.stdout).context("its process ended without an answer").map(Some);
    }
    bail!("{}", why_it_failed(&ended));
}

/// The last answer in what was said.
fn answer_in<T: DeserializeOwned>(said: &[u8]) -> Option<T> {
    let said = String::from_utf8_lossy(said);
    said.lines().rev().find_map(|line| {
        // A library may have left its own line without an end.
        let answer = line.get(line.find(ANSWER)?..)?;
        let Answer { answer } = serde_json::from_str(answer).ok()?;
        Some(answer)
    })
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
    let Some(output) = in_time(command.stdin(Stdio::null()).spawn()?, None, patience)? else {
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
fn read_line(input: &mut ChildStdout) -> io::Result<()> {
    let mut byte = [0];
    while input.read(&mut byte)? == 1 && byte != *b"\n" {}
    Ok(())
}

/// How it ended; `None`: it did not, and was killed. What is handed over it gets when it says that it is ready.
fn in_time(
    process: Child,
    handed_over: Option<Secret<Vec<u8>>>,
    patience: Duration,
) -> anyhow::Result<Option<Output>> {
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    let (ended, answers) = mpsc::channel();
    thread::spawn(move || ended.send(see_through(process, handed_over)));
    if let Ok(output) = answers.recv_timeout(patience) {
        return Ok(Some(output?));
    }
    // It may have ended just now, which is as well.
    let _gone = id.map(|id| kill_process(id, Signal::KILL));
    let _ended = answers.recv_timeout(A_MOMENT);
    Ok(None)
}

fn see_through(mut process: Child, handed_over: Option<Secret<Vec<u8>>>) -> io::Result<Output> {
    if let Some(secret) = handed_over
        && let (Some(input), Some(output)) = (&mut process.stdin, &mut process.stdout)
    {
        // Whoever died before that, or before reading, says at the end why.
        let _handed = read_line(output).and_then(|()| input.write_all(secret.expose()));
    }
    process.wait_with_output()
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
    use std::process::{Command, ExitStatus, Output, Stdio};
    use std::time::Duration;

    use tapfer_payment_types::Secret;

    use super::{Answer, answer_in, in_time, why_it_failed};

    /// Whoever hands root keys over may be killed before, and the process does not end with him yet.
    #[test]
    fn a_process_that_has_not_said_that_it_is_ready_gets_nothing() {
        // It looks into its pipe at once.
        let script =
            "dd if=/proc/self/fd/0 iflag=nonblock bs=99 count=1 2>/dev/null; echo ready; cat";
        let mut process = Command::new("sh");
        process.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let roots = Secret::new(b"root keys".to_vec());
        let ended = in_time(process.spawn().unwrap(), Some(roots), Duration::from_secs(60));
        let said = ended.unwrap().unwrap().stdout;
        assert_eq!(String::from_utf8(said).unwrap(), "root keys", "behind the line, and whole");
    }

    /// Before it, behind it, in its line, and in figures, which are answers too.
    #[test]
    fn what_a_vendors_library_prints_is_no_answer() {
        let answer = serde_json::to_string(&Answer { answer: 7 }).unwrap();
        for said in [
            format!("{answer}\n"),
            format!("vendor's library 3.1\n5\n{answer}\n"),
            format!("no end of line{answer}\nfarewell\n6"),
            format!("{{\"answer\":\"no number\"}}\n{answer}\n{{\"answer\":\n"),
        ] {
            assert_eq!(answer_in::<usize>(said.as_bytes()), Some(7), "{said}");
        }
        assert_eq!(answer_in::<usize>(b"7\n"), None);
    }

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
