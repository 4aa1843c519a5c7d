//! Where the realm's keys are: HSMs and what they need, or software, which is said as such.

use std::fs;

use serde_json::Value;
use tapfer_hsm::pool::{Limits, MemberConfig};
use tapfer_server::RealmPaths;
use tapfer_server::members::{self, MemberError};

use super::Check;
use crate::child;
use crate::context::Context;
use crate::hsm_state::{Standing, any_worker};

const RUNNING: &str = "whether it serves, the running platform says (tapfer hsm status)";

/// What is on the disk; and where no platform answers that could say it, whether each HSM's token is there. Nobody logs in.
pub(super) fn checks(context: &Context, platform_answers: bool, serve: &str) -> Vec<Check> {
    let paths = context.home.realm();
    if !paths.hsm_configuration().exists() {
        return software(&paths, serve);
    }
    let file = paths.hsm_configuration().display().to_string();
    if paths.keystore().exists() {
        let found =
            format!("{} and {file}: root keys are in one place", paths.keystore().display());
        let cure = "move the one away that does not count; if the root keys are to go into HSMs: docs/key-ceremony.md";
        return vec![Check::missing("root keys", found, cure)];
    }
    match members::configuration(&paths) {
        Err(error) => vec![Check::missing("hsm.toml", error.to_string(), cure(&error, &file))],
        Ok(config) => {
            let found = format!("{file}: {} member(s)", config.members.len());
            let limits = (!platform_answers).then_some(&config.pool);
            let members = config.members.iter().map(|one| member(context, &paths, one, limits));
            std::iter::once(Check::good("hsm.toml", found)).chain(members).collect()
        }
    }
}

fn software(paths: &RealmPaths, serve: &str) -> Vec<Check> {
    let file = paths.keystore();
    let found = file.display().to_string();
    match fs::File::open(&file) {
        Err(error) => vec![Check::missing("key store", format!("{found}: {error}"), serve)],
        Ok(_) => vec![
            Check::good("key store", found),
            Check::optional(
                "software keys",
                "root keys are in a sealed file and in the platform's memory, not in an HSM: not for production",
                "an hsm.toml and `tapfer keys ceremony` (docs/hsm.md)",
            ),
        ],
    }
}

/// One member of `hsm.toml`. Its library is asked for its token where `limits` say how long.
fn member(
    context: &Context,
    paths: &RealmPaths,
    member: &MemberConfig,
    limits: Option<&Limits>,
) -> Check {
    let what = format!("HSM {}", member.name);
    let module = member.module.display().to_string();
    if !member.module.exists() {
        let cure = "install the vendor's library, or correct `module` in hsm.toml";
        return Check::missing(what, format!("there is no {module}"), cure);
    }
    let looked = members::check_module(member)
        .and_then(|()| members::check_pin(paths, member))
        .and_then(|()| members::refused_pin(paths, &member.name));
    match looked {
        Err(error) => Check::missing(what, error.to_string(), cure(&error, &module)),
        Ok(Some(cause)) => {
            let home = context.home.path().display();
            let cure =
                format!("correct the PIN, or tapfer hsm login {} --home {home}", member.name);
            Check::missing(
                what,
                format!("its PIN was refused and is not tried again: {cause}"),
                cure,
            )
        }
        Ok(None) => match limits {
            None => Check::good(
                what,
                format!("set up for token {:?} by {module}; {RUNNING}", member.token),
            ),
            Some(limits) => token(context, what, member, limits),
        },
    }
}

/// Of a platform that does not answer: whether the token is there that it would open.
fn token(context: &Context, what: String, member: &MemberConfig, limits: &Limits) -> Check {
    match child::look_for_token(&context.home, member, limits) {
        Ok(()) => {
            let found = format!("its token {:?} is there; nobody has logged in", member.token);
            Check::good(what, found)
        }
        Err(error) => {
            let cure = "bring the HSM back, or correct hsm.toml; `tapfer serve` waits for it and goes on by itself";
            Check::missing(what, format!("does not answer: {error:#}"), cure)
        }
    }
}

/// The command or the edit that mends it.
fn cure(error: &MemberError, file: &str) -> String {
    match error {
        MemberError::Foreign { path, .. } => {
            format!("sudo chown $USER {0}; chmod go-w {0}", path.display())
        }
        MemberError::PinPermissions { path, .. } => format!("chmod 600 {}", path.display()),
        MemberError::File { path, .. } | MemberError::NotAPin(path) => {
            format!("write {}, for its owner only (chmod 600)", path.display())
        }
        MemberError::NoPin { variable, .. } => {
            format!("set {variable} where the platform is started, or name a file in hsm.toml")
        }
        _ => format!("correct {file}"),
    }
}

/// What a running platform says of its security modules. Nothing, where none runs or there is no operator's key here.
pub(super) fn running(context: &Context) -> Vec<Check> {
    let state = context.client().and_then(|client| client.get("/v1/hsm"));
    let Ok(state) = state else { return Vec::new() };
    let unguarded = unguarded(&state);
    let mut checks = vec![serving(context, &state)];
    if !unguarded.is_empty() {
        let cure = "docs/hsm.md, what a stolen PIN can do";
        checks.push(Check::optional("guard of the roots", unguarded.join("; "), cure));
    }
    checks
}

/// What guards roots and is missing, of every member: nothing else is missing in one that serves.
fn unguarded(state: &Value) -> Vec<String> {
    let list = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let text = |value: &Value, field: &str| {
        value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let of_member = |member: Value| {
        let name = text(&member, "name");
        let capabilities = list(&member, "/report/capabilities").into_iter();
        let missing = capabilities.filter(|one| text(one, "place") == "missing");
        let told = missing.map(move |one| format!("{name}: {}", text(&one, "how")));
        told.collect::<Vec<_>>()
    };
    list(state, "/pool/members").into_iter().flat_map(of_member).collect()
}

fn serving(context: &Context, state: &Value) -> Check {
    const WHAT: &str = "security modules";
    let says = |field: &str| state.get(field).and_then(Value::as_bool) == Some(true);
    let notice = state.get("notice").and_then(Value::as_str).unwrap_or_default();
    let halted = named(state, |member| any_worker(member, "halted"));
    let away = named(state, |member| Standing::of(member) != Standing::Serves);
    let unknown = unknown(context, &named(state, |_| true));
    if !says("serves") {
        let cause = state.get("cause").and_then(Value::as_str).unwrap_or("none serves");
        Check::missing(WHAT, cause, "tapfer hsm status")
    } else if !halted.is_empty() {
        let found = format!("waiting for a person: {}", halted.join(", "));
        Check::missing(WHAT, found, "tapfer hsm status, then tapfer hsm login NAME")
    } else if !away.is_empty() {
        Check::missing(WHAT, format!("not serving: {}", away.join(", ")), "tapfer hsm status")
    } else if !unknown.is_empty() {
        let found = format!("not known to the running platform: {}", unknown.join(", "));
        Check::missing(WHAT, found, "start the platform again: it reads hsm.toml when it starts")
    } else if !says("says_it_is_hardware") {
        Check::optional(WHAT, notice, "docs/hsm.md, for production")
    } else {
        Check::good(WHAT, notice)
    }
}

/// Names of the members of the running platform of which something is so.
fn named(state: &Value, is_so: impl Fn(&Value) -> bool) -> Vec<&str> {
    let members = state.pointer("/pool/members").and_then(Value::as_array);
    let found = members.into_iter().flatten().filter(|member| is_so(member));
    found.filter_map(|member| member.get("name").and_then(Value::as_str)).collect()
}

/// Members that stand in `hsm.toml` and not among these.
fn unknown(context: &Context, known: &[&str]) -> Vec<String> {
    let configured = members::configuration(&context.home.realm());
    let members = configured.map(|config| config.members).unwrap_or_default();
    let names = members.into_iter().map(|member| member.name);
    names.filter(|name| !known.contains(&name.as_str())).collect()
}
