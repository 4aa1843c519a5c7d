//! `tapfer backup` and `tapfer restore`: a realm as files that can be put elsewhere.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tapfer_hsm::pool::{MemberConfig, PoolConfig};
use tapfer_server::backup::{self, Backup};
use tapfer_server::catalogue_refusal;

use crate::clock;
use crate::context::Context;
use crate::failure::{Ending, UsageError};
use crate::keyboard;
use crate::output::Emphasis;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  tapfer backup --to /mnt/backup/2026-11-22
  tapfer backup verify /mnt/backup/2026-11-22

Exit code 1, and a caution, if no platform would start with it because keys.json is an old copy: the backup is made all
the same. The platform may run meanwhile. Practise what follows a fire with `tapfer dr drill`; docs/disaster-recovery.md is the
page for the night itself."
)]
pub(crate) struct BackupArguments {
    /// New directory for the backup of the realm in the home directory
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<BackupCommand>,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Read a whole backup and say whether it is as it was made, and its keys.json not older than its database
    #[command(after_help = "\
Example:
  tapfer backup verify /mnt/backup/2026-11-22

Opens no key. That a backup can be worked with, `tapfer dr drill` shows.")]
    Verify {
        /// Directory of the backup
        #[arg(value_name = "DIR")]
        backup: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tapfer restore --from /mnt/backup/2026-11-22 --home /srv/tapfer

Be sure that the platform it was made of never runs again: two would both take payments, and neither would know of the
other's. What a restored platform no longer knows, and what to do about it, is in docs/disaster-recovery.md.")]
pub(crate) struct RestoreArguments {
    /// Directory of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Take over the hsm.toml of the backup, which says what code runs beside the keys; without it the keyboard is asked
    #[arg(long)]
    accept_modules: bool,
}

/// Of a realm to try and to show, with its keys in software.
const WITH_DEMO_UNLOCK_KEY: &str = "IN IT: demo-unlock.key, which opens all its keys. This realm is a demo: whoever has the backup \
                         has its keys and card numbers. A production realm's backup, or one of HSMs, never has such a file";

/// Of every other realm.
const OPENS_NOTHING: &str = "NOT in it: what opens the keys. Passphrase or unlock key, or the custodians' parts of the \
                             root keys, are in your hands; without them nobody opens this backup, and you do not either";

/// Of a realm that is kept in PostgreSQL.
const WITHOUT_THE_DATABASE: &str = "NOT in it: THE DATABASE, which is in PostgreSQL. Back it up with PostgreSQL's own tools, each time \
                                    BEFORE this: keys must not be older than the database (docs/disaster-recovery.md). Nor the password \
                                    file and the certificate authority that database.toml names";

/// What no backup has.
const NOT_IN_IT: &str = "NOT in it: the operator's API key (a new one is made), PINs of security modules, what phones and tills keep";

/// What every one has that the database is in.
const WITH_THE_DATABASE: &str = "In it, sealed under the keys: card numbers. In it, in clear: ids, amounts, names, and the private key \
                                 of the platform's TLS authority. Keep it where you would keep the platform's own directory";

/// What is in the others.
const WITH_KEYS_ALONE: &str = "In it, in clear: the private key of the platform's TLS authority. Keep it where you would keep the \
                               platform's own directory";

/// What to do behind a restore, in this order; `HOME` is where it went.
const AFTER_A_RESTORE: [&str; 9] = [
    "Make sure that the platform this was made of never runs again.",
    "Keys that were made, rotated or destroyed behind the backup: put the newest keys.json that you have (mode 0600) in \
     the place of the restored one, before the first start. Behind `keys rotate platform configuration` phones and \
     tills that have followed refuse this platform without it.",
    "Root keys in HSMs: put the hsm.toml of the HSMs that are here into the directory, then, if their tokens have no \
     root keys of this realm: tapfer keys ceremony install --home HOME --officer NAME --transcript FILE, with \
     the custodians. With a keystore and its \
     passphrase there is nothing to do.",
    "Start it for yourself only: tapfer serve --home HOME --listen 127.0.0.1:8443; then open it to others. A backup from before API \
     keys were signed: the first time with --accept-api-keys, or all of them are refused.",
    "REVOKED THINGS LIVE AGAIN: what was revoked, blocked, closed, suspended, deleted or locked behind the backup (API keys, \
     terminals, cards, tokens, phones) is active as it was before, and a card that was closed has the money again that was paid \
     out to its holder. Do it again, from your own records, before you open it to others: of a card whose money the holder has, \
     tapfer card close --pay-out books it out here, and is paid to nobody. Counts of wrong PINs are those of the backup.",
    "API keys that were made behind the backup are gone: make them again (tapfer api-key create --home HOME). The operator's \
     old key ends at the first start: a new one is in operator.key.",
    "Payments, refunds and top-ups behind the backup are unknown here. Compare with what merchants' tills and \
     receipts say, and book what is missing; tills that repeat an unanswered question are answered anew.",
    "Phones: keys that were given out behind the backup are worth nothing until the phone has fetched new ones, \
     which it does by itself when it is online. PINs that were changed since are the old ones here.",
    "Wait for the next full hour before phones set PINs: in the hour of the restoration they get no keys for them. \
     The whole list is in docs/disaster-recovery.md.",
];

pub(crate) fn run_backup(context: &Context, arguments: &BackupArguments) -> anyhow::Result<Ending> {
    match (&arguments.to, &arguments.command) {
        (_, Some(BackupCommand::Verify { backup })) => {
            let verified = {
                let _progress = context.output.progress("reading");
                backup::verify(backup)?
            };
            // Which database it will be restored with, nobody knows.
            let refusal = match verified.is_kept_in_postgres() {
                true => None,
                false => catalogue_refusal(backup),
            };
            show(context, &verified, refusal.as_deref())?;
            let (emphasis, said) = match refusal {
                None => (Emphasis::Good, "whole, and as it was made"),
                Some(_) => (Emphasis::Bad, "as it was made, and no platform starts with it"),
            };
            context.output.line(context.output.paint(emphasis, said));
            Ok(Ending::done_if(refusal.is_none()))
        }
        (Some(to), None) => {
            let made = {
                let _progress = context.output.progress("copying");
                backup::back_up(context.home.path(), to, clock::now())?
            };
            let kept_in_postgres = made.is_kept_in_postgres();
            let refusal = catalogue_refusal(if kept_in_postgres { context.home.path() } else { to });
            show(context, &made, refusal.as_deref())?;
            let opens = match made.files.iter().any(|file| file.name == "demo-unlock.key") {
                true => WITH_DEMO_UNLOCK_KEY,
                false => OPENS_NOTHING,
            };
            if kept_in_postgres {
                context.output.remark(WITHOUT_THE_DATABASE);
            }
            context.output.remark(opens);
            context.output.remark(NOT_IN_IT);
            context.output.remark(if kept_in_postgres { WITH_KEYS_ALONE } else { WITH_THE_DATABASE });
            Ok(Ending::done_if(refusal.is_none()))
        }
        (None, None) => anyhow::bail!(UsageError(
            "say where the backup goes: tapfer backup --to DIR, a directory that does not exist yet".to_owned()
        )),
    }
}

pub(crate) fn run_restore(
    context: &Context,
    arguments: &RestoreArguments,
) -> anyhow::Result<Ending> {
    accept_modules(context, arguments)?;
    let restored = {
        let _progress = context.output.progress("restoring");
        backup::restore(&arguments.from, context.home.path(), clock::now())?
    };
    let refusal = catalogue_refusal(context.home.path());
    let to_do = after_a_restore(context, restored.backup.is_kept_in_postgres());
    if context.output.is_json() {
        context.output.json_line(&json!({
            "backup": restored.backup, "restoration": restored.restoration, "home": context.home.path(),
            "caution": refusal, "to_do": to_do,
        }))?;
        return Ok(Ending::Done);
    }
    show(context, &restored.backup, refusal.as_deref())?;
    context.output.line(format!("restored in {}", context.home.path().display()));
    context.output.line(format!(
        "\nIt knows what was so at {}, and nothing behind it. Now, in this order:",
        restored.backup.made_at
    ));
    for (number, step) in (1_usize..).zip(to_do) {
        context.output.line(format!("{number}. {step}"));
    }
    Ok(Ending::Done)
}

/// First of all, where the database is in PostgreSQL.
const DATABASE_FIRST: &str = "THE DATABASE IS NOT RESTORED: bring it back with PostgreSQL's own tools, from a backup that is not younger than this \
     one, and let database.toml in HOME name it, with the password file (mode 0600) and the certificate authority that it names. \
     Then: tapfer audit verify --home HOME; tapfer doctor --home HOME. If anything that was acknowledged is lost with the old database: \
     behind the first start, tapfer audit restored --reason TEXT.";

/// The steps, with the directory as it is typed: another one holds another realm, or gets a new one.
fn after_a_restore(context: &Context, kept_in_postgres: bool) -> Vec<String> {
    let home = shell_word(&context.home.path().display().to_string());
    let first = kept_in_postgres.then_some(DATABASE_FIRST);
    let steps = AFTER_A_RESTORE.iter().take(1).copied().chain(first);
    let steps = steps.chain(AFTER_A_RESTORE.iter().skip(1).copied());
    steps.map(|step| step.replace("HOME", &home)).collect()
}

/// As a shell takes it for one word.
fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Shows what the backup's `hsm.toml` would run, and wants somebody's word for it.
fn accept_modules(context: &Context, arguments: &RestoreArguments) -> anyhow::Result<()> {
    let output = context.output;
    let text = match fs::read_to_string(arguments.from.join("hsm.toml")) {
        Ok(text) => text,
        // What is damaged is said when the backup is read as a whole.
        Err(_) => return Ok(()),
    };
    output.remark("The backup has an hsm.toml, which says what code is run beside the keys:");
    lines_about_modules(&text).iter().for_each(|line| output.remark(format!("  {line}")));
    if arguments.accept_modules {
        return Ok(());
    }
    if !keyboard::is_there() {
        return Err(UsageError("look at them, and give --accept-modules".to_owned()).into());
    }
    output.prompt("Type yes if these are yours");
    let typed = keyboard::visible_line()?;
    match typed.is_some_and(|line| line.trim() == "yes") {
        true => Ok(()),
        false => Err(UsageError("nothing was restored".to_owned()).into()),
    }
}

/// What an `hsm.toml` makes the platform run; one that cannot be read is shown as it is.
fn lines_about_modules(text: &str) -> Vec<String> {
    let config = match PoolConfig::parse(text) {
        Ok(config) => config,
        Err(error) => {
            let raw = text.lines().map(|line| line.escape_debug().to_string());
            return std::iter::once(error.to_string()).chain(raw).collect();
        }
    };
    lines_about(&config)
}

/// What members run, and with which variables.
pub(crate) fn lines_about(config: &PoolConfig) -> Vec<String> {
    let of_member = |member: &MemberConfig| {
        let MemberConfig { name, module, token, environment, .. } = member;
        let mut lines = vec![format!("{name}: {module:?} for the token {token:?}")];
        lines.extend(
            environment.iter().map(|(key, value)| format!("{name}: with {key:?} = {value:?}")),
        );
        lines
    };
    config.members.iter().flat_map(of_member).collect()
}

/// What a backup holds, and why no platform would start with it, if that is so.
fn show(context: &Context, backup: &Backup, refusal: Option<&str>) -> anyhow::Result<()> {
    if let Some(refusal) = refusal {
        let caution =
            context.output.paint(Emphasis::Bad, "CAUTION: NO PLATFORM STARTS WITH THIS BACKUP");
        context.output.remark(format!(
            "{caution} as it is: {refusal}. \"There\" is the realm's directory, or the restored one: a backup is left as it \
             was made"
        ));
    }
    if context.output.is_json() {
        return context.output.json_line(&Shown { backup, caution: refusal });
    }
    context.output.line(format!("realm    {}", backup.realm));
    context.output.line(format!("made at  {} by {}", backup.made_at, backup.software));
    for file in &backup.files {
        context.output.line(format!("{}  {:>10}  {}", file.sha256, file.length, file.name));
    }
    Ok(())
}

/// A backup, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    backup: &'a Backup,
    caution: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::{lines_about_modules, shell_word};

    #[test]
    fn a_directory_is_one_word_of_a_shell() {
        assert_eq!(shell_word("/srv/tapfer-2"), "/srv/tapfer-2");
        assert_eq!(shell_word("/srv/new realm"), "'/srv/new realm'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }

    #[test]
    fn what_an_hsm_toml_runs_is_shown_and_nothing_is_hidden_in_it() {
        let text = "[[member]]\nname = \"north\"\nmodule = \"/usr/lib/hsm.so\"\ntoken = \"t\"\n\
                    pin = { file = \"p\" }\nenvironment = { HSM_CONF = \"/etc/hsm\" }\n";
        let shown = lines_about_modules(text);
        let expected = [
            "north: \"/usr/lib/hsm.so\" for the token \"t\"",
            "north: with \"HSM_CONF\" = \"/etc/hsm\"",
        ];
        assert_eq!(shown, expected);
        // One that would be refused is shown as it is, without what moves the cursor.
        let shown = lines_about_modules(&text.replace("HSM_CONF", "LD_PRELOAD\" = \"\u{1b}[2K"));
        assert!(shown.iter().any(|line| line.contains("LD_PRELOAD")), "{shown:?}");
        assert!(shown.iter().all(|line| !line.contains('\u{1b}')), "{shown:?}");
    }
}
