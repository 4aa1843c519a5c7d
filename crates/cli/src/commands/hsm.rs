//! `tapfer hsm`: how the security modules stand, and the process that serves one of them.

use std::io::Read as _;

use clap::Subcommand;
use serde_json::{Value, json};
use tapfer_hsm::pool::ServeError;
use tapfer_hsm::sharing::SecretKind;
use tapfer_hsm::software::RootKeys;
use tapfer_payment_types::{RealmId, Secret};
use tapfer_server::members::MemberError;

use crate::child::Answer;
use crate::context::Context;
use crate::failure::Ending;
use crate::hsm_state::Standing;
use crate::output::{Emphasis, Output};
use crate::pin_file;

#[derive(Debug, Subcommand)]
pub(crate) enum HsmCommand {
    /// Show the security modules: who serves, how fast, and why not
    #[command(
        after_help = "Example:\n  tapfer hsm status\n\nAsks the running platform. Exit code 1 if no security module serves."
    )]
    Status,
    /// Log in to a member once more whose PIN was refused; a running platform goes on with it then
    #[command(after_help = "\
Example:
  tapfer hsm login north

A PIN that a token refused is not tried again by itself: tokens count, and lock. A corrected PIN file is noticed within a
second. This is for the rest: the token was unlocked, or takes the PIN now that it refused before. One try.")]
    Login {
        /// Name of the member
        member: String,
    },
    /// Serve one member of hsm.toml over the socket that is the standard input; the platform runs this
    #[command(hide = true, after_help = "Example:\n  tapfer hsm worker north")]
    Worker {
        /// Name of the member
        member: String,
    },
    /// Say whether a member's library sees its token, without a login; `tapfer doctor` runs this
    #[command(hide = true, after_help = "Example:\n  tapfer hsm look-for-token north")]
    LookForToken {
        /// Name of the member
        member: String,
    },
    /// Log in to a member's token and say which root keys are there; `tapfer keys ceremony` runs this
    #[command(hide = true, after_help = "Example:\n  tapfer hsm look-for-roots north realm_01k...")]
    LookForRoots {
        /// Name of the member
        member: String,
        /// Of which realm
        realm: RealmId,
    },
    /// Put root keys from standard input on a member's token; `tapfer keys ceremony` runs this
    #[command(hide = true, after_help = "Example:\n  tapfer hsm install-roots north realm_01k...")]
    InstallRoots {
        /// Name of the member
        member: String,
        /// Of which realm
        realm: RealmId,
    },
    /// As install-roots, for `tapfer dr drill`; says how many keys its module opens
    #[command(hide = true, after_help = "Example:\n  tapfer hsm begin-drill north realm_01k...")]
    BeginDrill {
        /// Name of the member
        member: String,
        /// Of which realm
        realm: RealmId,
    },
    /// Take away what a drill put on a member's token; `tapfer dr drill` runs this
    #[command(hide = true, after_help = "Example:\n  tapfer hsm end-drill north realm_01k...")]
    EndDrill {
        /// Name of the member
        member: String,
        /// Of which realm
        realm: RealmId,
    },
}

pub(crate) fn run(context: &Context, command: &HsmCommand) -> anyhow::Result<Ending> {
    match command {
        HsmCommand::Status => status(context),
        HsmCommand::Login { member } => login(context, member),
        HsmCommand::Worker { member } => {
            match tapfer_server::members::serve(context.home.path(), member) {
                // The server was told, and says so with the member's name, once.
                Err(MemberError::Serve(ServeError::Module(_))) => Ok(Ending::Refused),
                served => Ok(served.map(|()| Ending::Done)?),
            }
        }
        HsmCommand::LookForToken { member } => {
            tapfer_server::members::look_for_token(&context.home.realm(), member)?;
            context.output.json_line(&Answer { answer: true })?;
            Ok(Ending::Done)
        }
        HsmCommand::LookForRoots { member, realm } => {
            let _is_locked = tapfer_hsm::pool::seclude_process()?;
            let paths = context.home.realm();
            let found = tapfer_server::members::look_for_roots(&paths, member, *realm)?;
            context.output.json_line(&Answer { answer: found })?;
            Ok(Ending::Done)
        }
        HsmCommand::InstallRoots { member, realm } => install_roots(context, member, *realm),
        HsmCommand::BeginDrill { member, realm } => begin_drill(context, member, *realm),
        HsmCommand::EndDrill { member, realm } => {
            let _is_locked = tapfer_hsm::pool::seclude_process()?;
            let paths = context.home.realm();
            let ended = tapfer_server::members::end_drill(&paths, member, *realm)?;
            context.output.json_line(&Answer { answer: ended })?;
            Ok(Ending::Done)
        }
    }
}

fn login(context: &Context, member: &str) -> anyhow::Result<Ending> {
    {
        let _progress = context.output.progress("logging in");
        tapfer_server::members::log_in(&context.home.realm(), member)?;
    }
    if context.output.is_json() {
        context.output.json_line(&json!({ "member": member, "logged_in": true }))?;
    } else {
        let done = context.output.paint(Emphasis::Good, "takes the PIN");
        context
            .output
            .line(format!("{member}  {done}; a running platform goes on with it by itself"));
    }
    Ok(Ending::Done)
}

fn install_roots(context: &Context, member: &str, realm: RealmId) -> anyhow::Result<Ending> {
    let roots = roots_handed_over(context)?;
    let paths = context.home.realm();
    let installed = tapfer_server::members::install_roots(&paths, member, realm, &roots)?;
    context.output.json_line(&Answer { answer: installed })?;
    Ok(Ending::Done)
}

fn begin_drill(context: &Context, member: &str, realm: RealmId) -> anyhow::Result<Ending> {
    let roots = roots_handed_over(context)?;
    let home = context.home.realm();
    let keys = tapfer_server::members::begin_drill(&home, member, realm, &roots)?;
    context.output.json_line(&Answer { answer: keys })?;
    Ok(Ending::Done)
}

/// Root keys from the ceremony or drill that started this process, which hands them over when it reads that it is ready:
/// from then on this process ends with that one, so that nothing is put on a token behind its back.
fn roots_handed_over(context: &Context) -> anyhow::Result<RootKeys> {
    let _is_locked = tapfer_hsm::pool::seclude_process()?;
    context.output.json_line(&"ready")?;
    let mut both = Secret::new(vec![0; SecretKind::RootKeys.length()]);
    pin_file::standard_input()?.read_exact(both.expose_mut())?;
    Ok(RootKeys::from_shared(&both)?)
}

fn status(context: &Context) -> anyhow::Result<Ending> {
    let state = context.client()?.get("/v1/hsm")?;
    let serves = state.get("serves").and_then(Value::as_bool).unwrap_or(false);
    if context.output.is_json() {
        context.output.json_line(&state)?;
    } else {
        print(context.output, &state, serves);
    }
    Ok(Ending::done_if(serves))
}

fn print(output: Output, state: &Value, serves: bool) {
    let out: Vec<String> = members(state)
        .filter(|member| Standing::of(member) != Standing::Serves)
        .map(|member| text(member, "name"))
        .collect();
    let (word, emphasis) = match serves {
        false => ("DOWN".to_owned(), Emphasis::Bad),
        true if out.is_empty() => ("serves".to_owned(), Emphasis::Good),
        true => (format!("serves, without {}", out.join(", ")), Emphasis::Bad),
    };
    output.line(format!("{}  {}", text(state, "backend"), output.paint(emphasis, &word)));
    if state.get("says_it_is_hardware").and_then(Value::as_bool) != Some(true) {
        output.line(output.paint(Emphasis::Bad, "NOT HARDWARE: not for production"));
    }
    output.line(text(state, "notice"));
    if let Some(cause) = state.get("cause").and_then(Value::as_str) {
        output.line(cause);
    }
    let Some(pool) = state.get("pool").filter(|pool| !pool.is_null()) else { return };
    output.line(format!(
        "waiting {}, asked elsewhere because slow {}, because failed {}, refused {}",
        text(pool, "waiting"),
        text(pool, "hedges"),
        text(pool, "retries"),
        text(pool, "refused"),
    ));
    for member in members(state) {
        let standing = Standing::below(serves, member);
        let emphasis = if standing == Standing::Serves { Emphasis::Good } else { Emphasis::Bad };
        output.line(format!(
            "{:<16} {}  breaker {}  answered {}  failed {}",
            text(member, "name"),
            output.paint(emphasis, standing.word()),
            text(member, "breaker"),
            text(member, "answered"),
            text(member, "failed"),
        ));
        for line in [text(member, "notice"), text(member, "cause")] {
            if !line.is_empty() {
                output.line(format!("  {line}"));
            }
        }
        if let Some(report) = member.get("report").filter(|report| !report.is_null()) {
            if standing != Standing::Serves {
                output.line("  when it served last:");
            }
            print_report(output, report);
        }
        for worker in list(member, "workers") {
            print_worker(output, worker, standing);
        }
    }
}

fn members(state: &Value) -> impl Iterator<Item = &Value> {
    state.get("pool").into_iter().flat_map(|pool| list(pool, "members"))
}

/// What the module is, and what it does where.
fn print_report(output: Output, report: &Value) {
    for field in ["module", "token", "roots"] {
        output.line(format!("  {}", text(report, field)));
    }
    for capability in list(report, "capabilities") {
        output.line(format!(
            "    {:<16} {}: {}",
            text(capability, "place"),
            text(capability, "operation"),
            text(capability, "how"),
        ));
    }
}

fn print_worker(output: Output, worker: &Value, standing: Standing) {
    // Of a worker that never served, neither is known.
    let is_locked = worker.get("is_memory_locked").and_then(Value::as_bool);
    let memory = if is_locked == Some(false) { "  memory not locked (ulimit -l)" } else { "" };
    let known = |field, otherwise: &str| match text(worker, field) {
        text if text.is_empty() => otherwise.to_owned(),
        text => text,
    };
    let state = match (standing, text(worker, "state")) {
        (Standing::Silent, state) if state == "serving" => "silent".to_owned(),
        (_, state) => state,
    };
    output.line(format!(
        "  {state:<9} process {:<8} {:>6} µs  waiting {}  restarts {}{memory}",
        known("process", "none"),
        known("latency_micros", "?"),
        text(worker, "waiting"),
        text(worker, "restarts"),
    ));
    let cause = text(worker, "cause");
    if !cause.is_empty() {
        output.line(format!("            {cause}"));
    }
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, field: &str) -> String {
    match value.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
