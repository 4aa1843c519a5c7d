//! `tapfer doctor`: what is missing on this machine, and the command that mends it.

mod database;
mod keys;

use std::borrow::Cow;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tapfer_server::catalogue_refusal;

use crate::client::Client;
use crate::commands::serve::DEFAULT_LISTEN;
use crate::context::Context;
use crate::failure::Ending;
use crate::output::{Emphasis, Output};
use crate::{clock, pcsc_reader};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tapfer doctor --home ./realm\n\nExit code 1 if something is missing that payments need."
)]
pub(crate) struct DoctorArguments {
    /// Address on which the platform listens or is to listen [default: where it last listened, else
    /// 127.0.0.1:8443]
    #[arg(long, value_name = "IP:PORT", env = "TAPFER_LISTEN")]
    listen: Option<SocketAddr>,
}

impl DoctorArguments {
    fn listen(&self, context: &Context) -> anyhow::Result<SocketAddr> {
        let last = context.home.memory().ok().and_then(|memory| memory.server);
        let last = last.as_deref().and_then(|url| url.strip_prefix("https://")?.parse().ok());
        Ok(self.listen.or(last).map_or_else(|| DEFAULT_LISTEN.parse(), Ok)?)
    }
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Good,
    /// Missing, but only some commands need it.
    Optional,
    /// Missing, and nothing goes without.
    Missing,
}

#[derive(Debug, Serialize)]
struct Check {
    /// What was looked at.
    what: Cow<'static, str>,
    state: State,
    /// What was found.
    found: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Check {
    fn found(state: State, what: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Self {
        Self { what: what.into(), state, found: found.into(), cure: None }
    }

    fn good(what: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Self {
        Self::found(State::Good, what, found)
    }

    fn optional(
        what: impl Into<Cow<'static, str>>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { cure: Some(cure.into()), ..Self::found(State::Optional, what, found) }
    }

    fn missing(
        what: impl Into<Cow<'static, str>>,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { cure: Some(cure.into()), ..Self::found(State::Missing, what, found) }
    }
}

pub(crate) fn run(context: &Context, arguments: &DoctorArguments) -> anyhow::Result<Ending> {
    let platform = platform(context, arguments.listen(context)?);
    let mut checks = vec![wall_clock()];
    checks.extend(realm(context, platform.state == State::Good));
    checks.push(platform);
    checks.extend(keys::running(context));
    checks.extend([card_library(), card_service(), readers(), virtual_reader()]);
    if context.output.is_json() {
        context.output.json_line(&json!({ "checks": checks }))?;
    } else {
        checks.iter().for_each(|check| print(context.output, check));
    }
    Ok(Ending::done_if(checks.iter().all(|check| check.state != State::Missing)))
}

fn print(output: Output, check: &Check) {
    let (word, emphasis) = match check.state {
        State::Good => ("ok      ", Emphasis::Good),
        State::Optional => ("optional", Emphasis::Faint),
        State::Missing => ("MISSING ", Emphasis::Bad),
    };
    output.line(format!("{}  {:<20} {}", output.paint(emphasis, word), check.what, check.found));
    if let Some(cure) = &check.cure {
        output.line(format!("{:<32}-> {cure}", ""));
    }
}

/// Certificates and keys are good to the minute: a clock that stands wrong breaks every payment.
fn wall_clock() -> Check {
    let now = clock::now();
    if now.calendar().year < 2026 {
        let found = format!("{now}, which is before this program was built");
        return Check::missing("clock", found, "sudo timedatectl set-ntp true");
    }
    Check::good("clock", now.to_string())
}

fn realm(context: &Context, platform_answers: bool) -> Vec<Check> {
    let home = context.home.path();
    let serve = format!("tapfer serve --home {}", home.display());
    // The first start decides for ever what kind of realm it is.
    let serve = match context.home.realm().is_realm() || context.home.realm().catalogue().exists() {
        true => serve,
        false => {
            format!("{serve}, for trying; for more: --realm production --passphrase-file FILE")
        }
    };
    if !home.exists() {
        let found = format!("{} does not exist yet", home.display());
        return vec![Check::missing("home directory", found, serve)];
    }
    let files = [
        ("catalogue of keys", context.home.realm().catalogue()),
        ("operator key", context.home.realm().operator_key()),
        ("CA certificate", context.home.ca_certificate()),
    ];
    // Before anything else looks into it, which would make a log where there is none.
    let database = database::checks(context);
    let mut checks = vec![directory_rights(home)];
    checks.extend(keys::checks(context, platform_answers, &serve));
    checks.extend(files.into_iter().map(|(what, file)| {
        let found = file.display().to_string();
        match fs::File::open(&file) {
            Ok(_) => Check::good(what, found),
            Err(error) => Check::missing(what, format!("{found}: {error}"), serve.clone()),
        }
    }));
    checks.extend(database);
    // Beside the line of the file, which is there: a platform that is stopped cannot say so itself.
    if let Some(refusal) = catalogue_refusal(home) {
        let cure = "docs/disaster-recovery.md, when only keys.json is lost, or the database was changed by hand";
        checks.push(Check::missing("keys and database", refusal, cure));
    }
    checks
}

fn directory_rights(home: &Path) -> Check {
    let found = home.display().to_string();
    match fs::metadata(home) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 == 0 => {
            Check::good("home directory", found)
        }
        Ok(metadata) => Check::missing(
            "home directory",
            format!(
                "{found}: others may enter it (mode {:o})",
                metadata.permissions().mode() & 0o777
            ),
            format!("chmod 700 {found}"),
        ),
        Err(error) => {
            let cure = format!("sudo chown -R $USER {found}");
            Check::missing("home directory", format!("{found}: {error}"), cure)
        }
    }
}

/// Either the platform answers, or its port is free for it.
fn platform(context: &Context, listen: SocketAddr) -> Check {
    if let Err(error) = context.home.memory() {
        let cure = "restore client.json from a backup, or remove it; tapfer api-key create makes keys anew";
        return Check::missing("platform", format!("{error:#}"), cure);
    }
    let address = context.access.address(&context.home);
    let answer =
        address.and_then(|address| Client::health(&context.home, &address).map(|()| address));
    let serve = format!("tapfer serve --home {}", context.home.path().display());
    match (answer, TcpListener::bind(listen)) {
        (Ok(address), _) => Check::good("platform", format!("answers at {address}")),
        (Err(_), Ok(_)) => {
            let serve = format!("{serve} --listen {listen}");
            Check::missing("platform", format!("not running; {listen} is free"), serve)
        }
        (Err(error), Err(taken)) => Check::missing(
            "platform",
            format!("{error:#}; and {listen} cannot be opened ({taken})"),
            format!("{serve} --listen 127.0.0.1:0"),
        ),
    }
}

/// The library is part of this process; where it is tells which package it came from.
fn card_library() -> Check {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let library = maps.lines().find(|line| line.contains("libpcsclite"));
    match library.and_then(|line| line.split_whitespace().last()) {
        Some(path) => Check::good("smart-card library", path),
        None => Check::optional(
            "smart-card library",
            "libpcsclite is not loaded",
            "sudo apt-get install libpcsclite1",
        ),
    }
}

fn card_service() -> Check {
    match pcsc_reader::reader_names() {
        Ok(_) => Check::good("smart-card service", "pcscd answers"),
        Err(_) if Path::new("/usr/sbin/pcscd").exists() => Check::optional(
            "smart-card service",
            "pcscd is installed but does not answer",
            "sudo systemctl start pcscd   (without systemd: sudo pcscd)",
        ),
        Err(_) => Check::optional(
            "smart-card service",
            "pcscd is not installed: needed for card readers only",
            "sudo apt-get install pcscd",
        ),
    }
}

fn readers() -> Check {
    match pcsc_reader::reader_names() {
        Ok(names) if !names.is_empty() => Check::good("card readers", names.join(", ")),
        _ => Check::optional(
            "card readers",
            "none: needed for `terminal pay --reader` only",
            "connect one, or pay without: tapfer terminal pay --wallet DIR --amount 12.34",
        ),
    }
}

fn virtual_reader() -> Check {
    let configuration = Path::new("/etc/reader.conf.d/vpcd");
    if configuration.exists() {
        return Check::good("virtual reader", configuration.display().to_string());
    }
    Check::optional(
        "virtual reader",
        "vpcd is not installed: needed for `card serve --vpcd` only",
        "sudo apt-get install vsmartcard-vpcd",
    )
}
