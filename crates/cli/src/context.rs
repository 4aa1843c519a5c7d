//! What every command gets: where to print, where home is, who asks the platform.

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use crate::client::{Access, Client};
use crate::failure::UsageError;
use crate::home::Home;
use crate::output::Output;

/// The surroundings of one command.
pub(crate) struct Context {
    /// Where results go.
    pub(crate) output: Output,
    /// The home directory.
    pub(crate) home: Home,
    /// Who asks, and whom.
    pub(crate) access: Access,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PageArguments {
    /// How many at most
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Where the page before ended, as it said
    #[arg(long, value_name = "TEXT")]
    cursor: Option<String>,
}

impl PageArguments {
    /// The path with its query; `filters` are further parameters.
    pub(crate) fn path(&self, path: &str, filters: &[(&str, &Option<String>)]) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let own = [("limit", &limit), ("cursor", &self.cursor)];
        let pairs: Vec<String> = own
            .iter()
            .chain(filters)
            .filter_map(|(name, value)| {
                value.as_ref().map(|value| format!("{name}={}", escape(value)))
            })
            .collect();
        if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
    }
}

/// Percent-encodes what is not unreserved (RFC 3986, 2.3).
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

/// An id as a path segment: escaped, so that nothing typed changes which resource is meant.
pub(crate) fn segment(id: &str) -> String {
    escape(id)
}

impl Context {
    /// A client in the name given, else the operator's.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.access.client(&self.home)
    }

    /// A client in the name given, else in that of `owner`.
    pub(crate) fn client_of(&self, owner: &str) -> anyhow::Result<Client> {
        self.access.client_of(&self.home, owner)
    }

    /// The id given, else the latest of its kind.
    pub(crate) fn id_or_latest(
        &self,
        given: &Option<String>,
        kind: &str,
    ) -> anyhow::Result<String> {
        given.clone().map_or_else(|| self.home.latest(kind), Ok)
    }

    /// The id given, else that of the only one there is: for what changes somebody's phone, card or token. The
    /// latest would often be another one than the person at the keyboard thinks of.
    ///
    /// # Errors
    /// [`UsageError`] if there are several, with what there is to choose from.
    pub(crate) fn id_or_only(&self, given: &Option<String>, kind: &str) -> anyhow::Result<String> {
        if let Some(id) = given {
            return Ok(id.clone());
        }
        let page = self.client()?.get(&format!("/v1/{kind}s"))?;
        let listed = page.get("data").and_then(Value::as_array).into_iter().flatten();
        // A token that was deleted comes back to nobody.
        let living: Vec<&Value> =
            listed.filter(|one| text(one, "status") != "DEACTIVATED").collect();
        let is_all = page.get("next_cursor").is_none_or(Value::is_null);
        match living.as_slice() {
            [only] if is_all => Ok(text(only, "id").to_owned()),
            [] if is_all => self.home.latest(kind),
            several => bail!(UsageError(which(kind, several, is_all))),
        }
    }

    /// Shows one resource by its path.
    pub(crate) fn show(&self, path: &str) -> anyhow::Result<()> {
        self.output.object(&self.client()?.get(path)?)
    }

    /// Shows one page of a list.
    pub(crate) fn list(&self, path: &str, columns: &[&str]) -> anyhow::Result<()> {
        self.output.page(&self.client()?.get(path)?, columns)
    }

    /// Remembers what was created, and the API key that is shown only this once. What belongs to the
    /// one before it is no longer the latest: a new merchant has no terminal yet.
    pub(crate) fn remember_created(&self, kind: &str, created: &Value) -> anyhow::Result<()> {
        self.remember_key(created)?;
        let Some(id) = created.get("id").and_then(Value::as_str) else { return Ok(()) };
        self.home.remember(|memory| {
            memory.latest.insert(kind.to_owned(), id.to_owned());
            let below = match kind {
                "merchant" => "terminal",
                "issuer" => "card",
                _ => return,
            };
            memory.latest.remove(below);
        })
    }

    /// Remembers the API key that is shown only this once.
    pub(crate) fn remember_key(&self, created: &Value) -> anyhow::Result<()> {
        let text = |field: &str| created.get(field).and_then(Value::as_str).map(str::to_owned);
        let (Some(id), Some(key)) = (text("id"), text("api_key")) else { return Ok(()) };
        self.home.remember(|memory| drop(memory.keys.insert(id, key)))
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// What to choose from: ids, with what a person knows them by.
fn which(kind: &str, several: &[&Value], is_all: bool) -> String {
    let named = several.iter().map(|one| {
        let known_by: Vec<&str> = ["label", "last_four", "status"]
            .into_iter()
            .map(|field| text(one, field))
            .filter(|known_by| !known_by.is_empty())
            .collect();
        match known_by.as_slice() {
            [] => text(one, "id").to_owned(),
            known_by => format!("{} ({})", text(one, "id"), known_by.join(", ")),
        }
    });
    let mut named: Vec<String> = named.take(SHOWN_TO_CHOOSE_FROM).collect();
    if !is_all || several.len() > SHOWN_TO_CHOOSE_FROM {
        named.push(format!("and more: `tapfer {kind} list`"));
    }
    format!(
        "there is more than one {kind}, so give the ID of the one you mean: {}",
        named.join("; ")
    )
}

/// More than these are looked up in a list.
const SHOWN_TO_CHOOSE_FROM: usize = 5;

#[cfg(test)]
mod tests {
    use super::{PageArguments, segment};

    #[test]
    fn queries_are_escaped() {
        let page = PageArguments { limit: Some(5), cursor: Some("a&b=c".to_owned()) };
        assert_eq!(page.path("/v1/cards", &[]), "/v1/cards?limit=5&cursor=a%26b%3Dc");
        assert_eq!(PageArguments::default().path("/v1/cards", &[]), "/v1/cards");
        assert_eq!(segment("../x"), "..%2Fx");
    }
}
