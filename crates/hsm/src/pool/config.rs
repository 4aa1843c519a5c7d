//! `hsm.toml`: which security modules a realm has, and how long what may take.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Most members of a pool.
const MAXIMUM_MEMBERS: usize = 16;
/// Most worker processes of a member.
const MAXIMUM_WORKERS: u8 = 32;

/// What `hsm.toml` says.
///
/// ```
/// let text = r#"
/// [pool]
/// deadline_ms = 1500
///
/// [[member]]
/// name = "north"
/// module = "/usr/lib/softhsm/libsofthsm2.so"
/// token = "tapfer-north"
/// pin = { env = "TAPFER_HSM_PIN_NORTH" }
/// environment = { SOFTHSM2_CONF = "/etc/tapfer/softhsm-north.conf" }
/// "#;
/// let config = tapfer_hsm::pool::PoolConfig::parse(text)?;
/// assert_eq!(config.members[0].workers, 2);
/// # Ok::<(), tapfer_hsm::pool::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// Deadlines and bounds.
    #[serde(default)]
    pub pool: Limits,
    /// The modules, each of them with all root keys of the realm.
    #[serde(rename = "member", default)]
    pub members: Vec<MemberConfig>,
}

/// Deadlines and bounds, in milliseconds where the name ends so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A call that only reads ends after this, with an answer or without.
    pub deadline_ms: u64,
    /// A call that makes keys: modules take their time.
    pub making_deadline_ms: u64,
    /// An unanswered call that only reads is asked of another member too, after this.
    pub hedge_after_ms: u64,
    /// A worker that owes an answer for this long is asked nothing more.
    pub silent_after_ms: u64,
    /// And after this it is ended and started anew.
    pub stalled_after_ms: u64,
    /// The same while it opens its module.
    pub start_ms: u64,
    /// So many calls wait for an answer at most; one more is refused at once.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: 2_000,
            making_deadline_ms: 15_000,
            hedge_after_ms: 50,
            silent_after_ms: 500,
            stalled_after_ms: 3_000,
            start_ms: 20_000,
            queue: 1_024,
        }
    }
}

impl Limits {
    pub(super) const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    pub(super) const fn making_deadline(&self) -> Duration {
        Duration::from_millis(self.making_deadline_ms)
    }

    pub(super) const fn hedge_after(&self) -> Duration {
        Duration::from_millis(self.hedge_after_ms)
    }

    pub(super) const fn silent_after(&self) -> Duration {
        Duration::from_millis(self.silent_after_ms)
    }

    pub(super) const fn stalled_after(&self) -> Duration {
        Duration::from_millis(self.stalled_after_ms)
    }

    pub(super) const fn start(&self) -> Duration {
        Duration::from_millis(self.start_ms)
    }
}

/// One security module, or one partition or token of one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberConfig {
    /// What people call it.
    pub name: String,
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Where the user PIN is.
    pub pin: PinSource,
    /// How many processes use it at once.
    #[serde(default = "two")]
    pub workers: u8,
    /// Environment variables of those processes, for the library.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

const fn two() -> u8 {
    2
}

/// Where a PIN comes from. Never from `hsm.toml` itself, which lies in backups.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum PinSource {
    /// An environment variable of the server.
    Env(String),
    /// A file whose first line it is.
    File(PathBuf),
}

/// What is wrong with `hsm.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No TOML, or fields that are not known.
    #[error("hsm.toml, line {line}: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What the parser says, without what stands there.
        what: String,
    },
    /// A value that makes no sense.
    #[error("hsm.toml: {0}")]
    Value(String),
    /// No such member.
    #[error("hsm.toml has no member {0:?}; name one that it has")]
    UnknownMember(String),
}

impl PoolConfig {
    /// Reads the text of an `hsm.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        config.check()?;
        Ok(config)
    }

    /// The member of a name.
    ///
    /// # Errors
    /// [`ConfigError::UnknownMember`]
    pub fn member(&self, name: &str) -> Result<&MemberConfig, ConfigError> {
        let found = self.members.iter().find(|member| member.name == name);
        found.ok_or_else(|| ConfigError::UnknownMember(name.to_owned()))
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.pool.check()?;
        if !(1..=MAXIMUM_MEMBERS).contains(&self.members.len()) {
            return refuse(format!(
                "there are {} members; write 1 to {MAXIMUM_MEMBERS} of them, each as [[member]]",
                self.members.len()
            ));
        }
        for (place, member) in self.members.iter().enumerate() {
            member.check()?;
            if self
                .members
                .iter()
                .skip(place.saturating_add(1))
                .any(|other| other.name == member.name)
            {
                return refuse(format!(
                    "two members are called {:?}; give each its own name",
                    member.name
                ));
            }
            let place_of = |member: &MemberConfig| {
                (member.module.clone(), member.token.clone(), member.environment.clone())
            };
            let before = self.members.iter().take(place);
            if let Some(other) =
                before.into_iter().find(|other| place_of(other) == place_of(member))
            {
                return refuse(format!(
                    "members {} and {} are one token, which would count a wrong PIN of each; write one member, with \
                     more workers",
                    other.name, member.name
                ));
            }
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let within = |name: &str, value: u64, least: u64, most: u64| match value {
            value if (least..=most).contains(&value) => Ok(()),
            _ => refuse(format!("{name} = {value} is not from {least} to {most}")),
        };
        within("deadline_ms", self.deadline_ms, 10, 60_000)?;
        within("making_deadline_ms", self.making_deadline_ms, 10, 600_000)?;
        within("hedge_after_ms", self.hedge_after_ms, 1, self.deadline_ms)?;
        within("silent_after_ms", self.silent_after_ms, 1, self.deadline_ms)?;
        within("stalled_after_ms", self.stalled_after_ms, self.silent_after_ms, 600_000)?;
        within("start_ms", self.start_ms, 100, 600_000)?;
        within("queue", u64::try_from(self.queue).unwrap_or(u64::MAX), 1, 65_536)
    }
}

impl MemberConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let name = &self.name;
        let is_plain =
            |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if name.is_empty() || name.len() > 32 || !name.chars().all(is_plain) {
            return refuse(format!(
                "member name {name:?}: write 1 to 32 letters, digits, - and _, which also stand in metrics"
            ));
        }
        if !self.module.is_absolute() {
            return refuse(format!(
                "member {name}: module {:?} is a relative path, which could lead to another library; write \
                 the whole path",
                self.module
            ));
        }
        if self.token.is_empty() || self.token.len() > 32 {
            return refuse(format!("member {name}: a token label has 1 to 32 bytes"));
        }
        if !(1..=MAXIMUM_WORKERS).contains(&self.workers) {
            return refuse(format!(
                "member {name}: workers = {} is not from 1 to {MAXIMUM_WORKERS}",
                self.workers
            ));
        }
        let is_variable = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        if let PinSource::Env(variable) = &self.pin
            && !is_variable(variable)
        {
            return refuse(format!(
                "member {name}: {variable:?} is no name of an environment variable"
            ));
        }
        if let Some((key, _)) =
            self.environment.iter().find(|(key, value)| !is_variable(key) || value.contains('\0'))
        {
            return refuse(format!(
                "member {name}: {key:?} is no environment variable that can be set"
            ));
        }
        match self.environment.keys().find(|key| brings_code(key)) {
            None => Ok(()),
            Some(key) => refuse(format!(
                "member {name}: {key} makes the loader or a library run other code, and is not taken from here; let \
                 the system's own configuration say where libraries are (ldconfig)"
            )),
        }
    }

    /// The file of the PIN, if it is one; a relative path starts at the realm's directory.
    #[must_use]
    pub fn pin_file(&self, home: &Path) -> Option<PathBuf> {
        match &self.pin {
            PinSource::Env(_) => None,
            PinSource::File(file) => Some(home.join(file)),
        }
    }
}

/// Whether a variable tells loader, C library, OpenSSL or the module that writes down all calls (`pkcs11-spy.so`) to
/// run code from elsewhere, or concerns this program.
fn brings_code(variable: &str) -> bool {
    const NAMES: [&str; 10] = [
        "GCONV_PATH",
        "GETCONF_DIR",
        "GLIBC_TUNABLES",
        "LOCPATH",
        "NLSPATH",
        "OPENSSL_CONF",
        "OPENSSL_ENGINES",
        "OPENSSL_MODULES",
        "PATH",
        "BASH_ENV",
    ];
    let variable = variable.to_ascii_uppercase();
    NAMES.contains(&&*variable)
        || ["LD_", "DYLD_", "PKCS11SPY", "TAPFER_"].iter().any(|begin| variable.starts_with(begin))
}

/// The parser's own text shows what stands there, which may be a PIN in a wrong place.
fn syntax(text: &str, error: &toml::de::Error) -> ConfigError {
    let begin = error.span().map_or(0, |span| span.start);
    let before = text.get(..begin).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let there = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let what = if there.trim_start().starts_with("pin") {
        "write pin = { env = \"NAME OF A VARIABLE\" } or { file = \"path\" }, and never the PIN itself".to_owned()
    } else {
        error.message().to_owned()
    };
    ConfigError::Syntax { line, what }
}

fn refuse<T>(why: String) -> Result<T, ConfigError> {
    Err(ConfigError::Value(why))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PinSource, PoolConfig};

    const MEMBER: &str = r#"
        [[member]]
        name = "north"
        module = "/usr/lib/softhsm/libsofthsm2.so"
        token = "tapfer"
        pin = { file = "north.pin" }
    "#;

    fn said(text: &str) -> String {
        PoolConfig::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let config = PoolConfig::parse(MEMBER).unwrap();
        assert_eq!((config.pool.deadline_ms, config.pool.queue), (2_000, 1_024));
        let member = config.member("north").unwrap();
        assert_eq!((member.workers, &member.pin), (2, &PinSource::File("north.pin".into())));
        let home = std::path::Path::new("/realm");
        assert_eq!(member.pin_file(home), Some("/realm/north.pin".into()));
        assert!(config.member("south").is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (text, expected) in [
            (String::new(), "write 1 to 16"),
            (format!("{MEMBER}{MEMBER}"), "two members"),
            (format!("{MEMBER}{}", MEMBER.replace("north\"\n", "south\"\n")), "are one token"),
            (format!("{MEMBER}workers = 0"), "not from 1 to 32"),
            (format!("{MEMBER}worker = 3"), "unknown field `worker`"),
            (MEMBER.replace("/usr", "usr"), "write the whole path"),
            (MEMBER.replace("north\"\n", "n o\"\n"), "1 to 32 letters"),
            (MEMBER.replace("\"tapfer\"", "\"\""), "1 to 32 bytes"),
            (MEMBER.replace("{ file = \"north.pin\" }", "\"1234\""), "line 6: write pin = { env"),
            (MEMBER.replace("file = \"north.pin\"", "env = \"A=B\""), "no name of an environment"),
            (format!("{MEMBER}environment = {{ \"A=\" = \"B\" }}"), "that can be set"),
            (format!("[pool]\ndeadline_ms = 1\n{MEMBER}"), "not from 10 to 60000"),
            (format!("[pool]\nsilent_after_ms = 4000\n{MEMBER}"), "not from 1 to 2000"),
            (format!("[pool]\nqueue = 0\n{MEMBER}"), "not from 1 to 65536"),
        ] {
            assert!(said(&text).contains(expected), "{text}\n{}", said(&text));
        }
    }

    #[test]
    fn attack_code_brought_into_the_workers_by_a_variable() {
        let with = |name: &str| format!("{MEMBER}environment = {{ {name} = \"/tmp/evil.so\" }}");
        for name in [
            "LD_PRELOAD",
            "ld_audit",
            "LD_LIBRARY_PATH",
            "GCONV_PATH",
            "OPENSSL_CONF",
            "PATH",
            "PKCS11SPY",
            "PKCS11SPY_OUTPUT",
            "TAPFER_KEY",
        ] {
            assert!(said(&with(name)).contains("run other code"), "{name}");
        }
        for name in ["SOFTHSM2_CONF", "CKNFAST_LOADSHARING", "ChrystokiConfigurationPath"] {
            PoolConfig::parse(&with(name)).unwrap();
        }
    }

    #[test]
    fn a_pin_that_stands_in_the_file_is_not_repeated_in_the_error() {
        for wrong in ["\"123456\"", "123456", "{ value = \"123456\" }", "{ file = 123456 }"] {
            let error =
                PoolConfig::parse(&MEMBER.replace("{ file = \"north.pin\" }", wrong)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("123456"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _any = PoolConfig::parse(&text);
        }
    }
}
